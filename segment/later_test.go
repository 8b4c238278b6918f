package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// holding returns a batch whose one value is the bytes of other batches, as those
// of backups and dead letters are.
func holding(t testing.TB, base int64, values ...[]byte) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None, 0)
	b.Append(1, nil, bytes.Join(values, nil), []record.Header{{Key: "source", Value: []byte("orders")}})
	out, err := b.Finish(record.NoProducer)
	must(t, err)
	record.Batch(out).SetBaseOffset(base)
	return out
}

// file makes a segment of raw bytes and recovers it.
func recoverBytes(t testing.TB, content []byte, from int64) (s *Segment, cut int64, err error) {
	t.Helper()
	m := vfs.NewMem()
	_, o := create(t, m, 100, 4096)
	f, err := m.Create(FileName("/p", 100, LogSuffix))
	must(t, err)
	_, err = f.WriteAt(content, 0)
	must(t, err)
	must(t, f.Close())
	if s, err = OpenToRecover(o); err != nil {
		t.Fatal(err)
	}
	cut, err = s.Recover(from, nil)
	return s, cut, err
}

// A write that was cut short is cut off, wherever it ends and whatever was in it:
// the batch may hold batches, also with the offsets that are due next, and there
// may be space behind it that was never written to.
func TestTornBatchOfBatchesIsCut(t *testing.T) {
	first := batch(t, 100, 20, 1, 2)
	for _, c := range []struct {
		name   string
		values [][]byte
	}{
		{"a batch", [][]byte{batch(t, 0, 30, 1)}},
		{"a batch with a larger offset", [][]byte{batch(t, 5000, 30, 1)}},
		{"a batch with the offset of the one that holds it", [][]byte{batch(t, 102, 30, 1)}},
		{"batches that follow each other", [][]byte{batch(t, 5000, 30, 1), batch(t, 5001, 30, 1), batch(t, 5002, 30, 1)}},
	} {
		torn := holding(t, 102, append(c.values, make([]byte, 50))...)
		for _, tail := range []int{0, 1, 200} {
			for n := 1; n < len(torn); n++ {
				if tail == 0 && n < record.HeaderSize {
					continue // of the header alone nothing is left that could hold a batch
				}
				content := append(append(bytes.Clone(first), torn[:n]...), make([]byte, tail)...)
				s, cut, err := recoverBytes(t, content, 0)
				if err != nil || cut != int64(n+tail) || s.Next() != 102 {
					t.Fatalf("%s, cut at %d of %d, %d zeros behind: cut %d, log end %d, %v", c.name, n, len(torn), tail, cut, s.Next(), err)
				}
			}
		}
	}
}

// What is damaged is not cut off: batches that follow show it, also behind damage
// to what a header says of its own length, and up to a torn end.
func TestDamageBeforeBatchesIsFound(t *testing.T) {
	a, b, c := batch(t, 100, 20, 1, 2), batch(t, 102, 20, 3, 4), batch(t, 104, 20, 5, 6)
	whole := bytes.Join([][]byte{a, b, c}, nil)
	for _, tail := range [][]byte{nil, make([]byte, 5), make([]byte, 300), batch(t, 106, 50, 7)[:40], batch(t, 106, 50, 7)[:90]} {
		for at := range len(a) {
			if at < 8 || at >= 12 && at < 16 {
				continue // base offset and leader epoch are in no CRC
			}
			content := append(bytes.Clone(whole), tail...)
			content[at] ^= 0x40
			var d *DamagedError
			if _, cut, err := recoverBytes(t, content, 0); !errors.As(err, &d) {
				t.Errorf("byte %d flipped, %d bytes behind the last batch: cut %d, %v", at, len(tail), cut, err)
			}
		}
	}
	// What is known to have been on disk was no write that was cut short: one batch
	// is enough, whatever its offset.
	content := append(bytes.Clone(whole), batch(t, 500, 20, 9)...)
	content = append(content, 1, 2, 3)
	content[len(a)+len(b)+16] ^= 1 // its magic
	var d *DamagedError
	if _, cut, err := recoverBytes(t, content, 106); !errors.As(err, &d) {
		t.Errorf("damage below the recovery point: cut %d, %v", cut, err)
	}
}

// Values can be made of what looks like headers of batches, thousands of them,
// each of which claims all that follows. Recovery does not go through the rest of
// the file for each.
func TestMadeUpHeadersCostLittle(t *testing.T) {
	measure := func(n int) (read int64) {
		value := make([]byte, n)
		const step = 64
		for at := 0; at+record.HeaderSize <= n; at += step {
			h := value[at:]
			binary.BigEndian.PutUint64(h, 200)
			binary.BigEndian.PutUint32(h[8:], uint32(min(n-at-record.LogOverhead, 1<<30)))
			h[16] = record.Magic
		}
		torn := holding(t, 102, value)
		m := vfs.NewMem()
		_, o := create(t, m, 100, 4096)
		f, err := m.Create(FileName("/p", 100, LogSuffix))
		must(t, err)
		_, err = f.WriteAt(append(bytes.Clone(batch(t, 100, 20, 1, 2)), torn[:len(torn)-10]...), 0)
		must(t, err)
		o.FS = reading{m, &read}
		s, err := OpenToRecover(o)
		must(t, err)
		if _, err := s.Recover(0, nil); err != nil {
			var d *DamagedError
			if !errors.As(err, &d) { // either is right, what counts is the work
				t.Fatal(err)
			}
		}
		return read
	}
	small, large := measure(256<<10), measure(1<<20)
	if large > 6*small || large > 40<<20 {
		t.Errorf("%s read for 256 KiB, %s for 1 MiB", fmt.Sprint(small), fmt.Sprint(large))
	}
}

// reading counts the bytes that are read from files.
type reading struct {
	vfs.FS
	n *int64
}

type readingFile struct {
	vfs.File
	n *int64
}

func (r reading) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := r.FS.OpenFile(name, flag, perm)
	return readingFile{f, r.n}, err
}

func (f readingFile) ReadAt(b []byte, at int64) (int, error) {
	*f.n += int64(len(b))
	return f.File.ReadAt(b, at)
}
