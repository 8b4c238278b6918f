package scrub

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

const t0 = 1700000000000

const dir = "/data/orders-0"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func now() time.Time { return time.UnixMilli(t0) }

func options(fs vfs.FS) log.Options {
	return log.Options{FS: fs, Dir: dir, Topic: "orders", TopicID: prim.UUID{1, 2, 3}, Now: now,
		Config: log.Config{SegmentBytes: 1300, IndexIntervalBytes: 200}}
}

// batch returns records of one key each, which is null with key "".
func batch(t testing.TB, codec record.Codec, p record.Producer, ts int64, key string, n int) []byte {
	t.Helper()
	b := record.NewBuilder(codec, codec.DefaultLevel())
	for i := range n {
		var k []byte
		if key != "" {
			k = []byte(key)
		}
		b.Append(ts+int64(i), k, bytes.Repeat([]byte{byte('a' + i)}, 60), []record.Header{{Key: "h", Value: []byte("x")}})
	}
	out, err := b.Finish(p)
	must(t, err)
	return bytes.Clone(out)
}

// fixture is a log directory with one partition of several segments: records in
// every codec, an idempotent producer, transactions that were committed,
// aborted and left open, two leader epochs, closed in order.
func fixture(t testing.TB, key string) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	must(t, m.MkdirAll("/data", 0o755))
	l, err := log.Open(options(m))
	must(t, err)
	add := func(b []byte, o log.Origin, epoch int32) {
		t.Helper()
		_, err := l.Append(b, log.AppendOptions{Origin: o, LeaderEpoch: epoch})
		must(t, err)
	}
	seq := int32(0)
	for i := range 30 {
		epoch, ts := int32(i/15), int64(t0-100_000+i*100)
		codec := record.Codec(i % 5)
		switch {
		case i%3 == 0:
			add(batch(t, codec, record.NoProducer, ts, key, 2), log.Client, epoch)
		case i%3 == 1:
			add(batch(t, codec, record.Producer{ID: 7, Sequence: seq}, ts, key, 3), log.Client, epoch)
			seq += 3
		default:
			n := int32(i / 3)
			add(batch(t, codec, record.Producer{ID: 8 + int64(n%2), Sequence: n / 2 * 2, Transactional: true}, ts, key, 2), log.Client, epoch)
			if i != 29 {
				add(record.BuildEndTxn(nil, i%2 == 0, 8+int64(n%2), 0, 1, ts), log.Coordinator, epoch)
			}
		}
	}
	end := l.EndOffset()
	must(t, l.Close())
	write(t, m, "/data/meta.properties", "version=1\ncluster.id=4L6g3nShT-eMCtK--X86sw\nnode.id=1\n")
	write(t, m, "/data/.kafka_cleanshutdown", `{"version":0,"brokerEpoch":5}`)
	for _, name := range []string{log.RecoveryPointFile, log.HighWatermarkFile} {
		write(t, m, "/data/"+name, fmt.Sprintf("0\n1\norders 0 %d\n", end))
	}
	return m
}

func write(t testing.TB, fs vfs.FS, name, text string) {
	t.Helper()
	f, err := fs.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte(text), 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	must(t, fs.SyncDir(path.Dir(name)))
}

func read(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(fs, name)
	must(t, err)
	return b
}

// check returns the findings, a line each.
func check(t testing.TB, fs vfs.FS, paths ...string) (*Report, []string) {
	t.Helper()
	r, err := Check(context.Background(), Options{FS: fs}, paths...)
	must(t, err)
	var out []string
	for _, f := range r.Findings {
		out = append(out, fmt.Sprintf("%s %s %d %d %s", f.Severity, path.Base(f.File), f.Byte, f.Offset, f.What))
	}
	return r, out
}

// place is where a batch is.
type place struct {
	file       string
	at         int64
	base, last int64
}

// batches lists all batches of the partition.
func batches(t testing.TB, fs vfs.FS) (out []place) {
	t.Helper()
	names, err := fs.List(dir)
	must(t, err)
	for _, n := range names {
		if !strings.HasSuffix(n, segment.LogSuffix) {
			continue
		}
		b := read(t, fs, dir+"/"+n)
		for at := int64(0); at < int64(len(b)); {
			next, _, err := record.Next(b[at:])
			must(t, err)
			out = append(out, place{dir + "/" + n, at, next.BaseOffset(), next.LastOffset()})
			at += int64(len(next))
		}
	}
	return out
}

// edit changes the bytes of a file.
func edit(t testing.TB, fs vfs.FS, name string, f func(b []byte) []byte) {
	t.Helper()
	write(t, fs, name, string(f(read(t, fs, name))))
}

// in returns the name of the file of a batch's segment with another suffix.
func (p place) in(suffix string) string {
	return strings.TrimSuffix(p.file, segment.LogSuffix) + suffix
}

func flip(at int64) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 0x10; return b }
}

// put writes a big-endian number.
func put(at int64, n uint64) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint64(b[at:], n); return b }
}

func TestHealthy(t *testing.T) {
	for _, key := range []string{"", "k"} {
		m := fixture(t, key)
		if _, got := check(t, m, "/data"); len(got) > 0 {
			t.Errorf("key %q: found\n%s", key, strings.Join(got, "\n"))
		}
		r, got := check(t, m, dir)
		if len(got) > 0 || r.Segments != 4 || r.Records != 79 || r.Partitions != 1 {
			t.Errorf("%+v", r)
		}
		for _, b := range batches(t, m) {
			if b.at > 0 {
				continue
			}
			if _, got := check(t, m, b.file); len(got) > 0 {
				t.Errorf("%s alone: found\n%s", b.file, strings.Join(got, "\n"))
			}
		}
		names, err := m.List(dir)
		must(t, err)
		for _, n := range names {
			if _, got := check(t, m, dir+"/"+n); len(got) > 0 {
				t.Errorf("%s alone: found\n%s", n, strings.Join(got, "\n"))
			}
		}
	}
	m := fixture(t, "k")
	lock, err := m.Lock("/data/.lock")
	must(t, err)
	r, got := check(t, m, "/data")
	if want := "note .lock -1 -1 a broker has this directory open"; !r.Running || len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("with a broker: %q", got)
	}
	must(t, lock.Close())
	must(t, m.MkdirAll("/other", 0o755))
	for _, p := range []string{"/other", "/data/orders-0/readme"} {
		write(t, m, "/data/orders-0/readme", "")
		if _, err := Check(context.Background(), Options{FS: m}, p); !errors.Is(err, ErrNoLog) {
			t.Errorf("%s: %v", p, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Check(ctx, Options{FS: m}, "/data"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestFindings damages each kind of file in each way, and expects one finding,
// which says where. "%d" stands for the byte that was damaged.
func TestFindings(t *testing.T) {
	clean := fixture(t, "k")
	all := batches(t, clean)
	last, first := all[len(all)-1], all[0]
	n := 1 // of a batch in the middle of a segment in the middle
	for n+1 < len(all) && (all[n].at == 0 || all[n+1].at == 0 || all[n].base < 20) {
		n++
	}
	mid, after := all[n], all[n+1]
	end := last.last + 1
	lastSize := int64(len(read(t, clean, last.file)))
	snapshots := func() (out []string) {
		names, err := clean.List(dir)
		must(t, err)
		for _, n := range names {
			if strings.HasSuffix(n, segment.SnapshotSuffix) {
				out = append(out, dir+"/"+n)
			}
		}
		return out
	}()
	newest := snapshots[len(snapshots)-1]
	txns := ""
	for _, b := range all {
		if f, err := clean.Open(b.in(segment.TxnSuffix)); err == nil && txns == "" {
			txns = b.in(segment.TxnSuffix)
			f.Close()
		}
	}
	resum := func(f func([]byte) []byte) func([]byte) []byte { // a snapshot's CRC is right after all
		return func(b []byte) []byte {
			b = f(b)
			putCRC(b[2:], b[6:])
			return b
		}
	}
	rebatch := func(p place, f func(b record.Batch)) func([]byte) []byte {
		return func(b []byte) []byte {
			next, _, err := record.Next(b[p.at:])
			must(t, err)
			f(next)
			next.UpdateCRC()
			return b
		}
	}
	unclean := func(t testing.TB, m *vfs.Mem) {
		must(t, m.Remove("/data/.kafka_cleanshutdown"))
		write(t, m, "/data/"+log.RecoveryPointFile, "0\n0\n")
		write(t, m, "/data/"+log.HighWatermarkFile, "0\n0\n")
	}
	for _, c := range []struct {
		name   string
		file   string
		damage func([]byte) []byte
		more   func(testing.TB, *vfs.Mem)
		want   []string // how findings begin, and no others
	}{
		{"a flipped bit in a record", mid.file, flip(mid.at + 70), nil,
			[]string{fmt.Sprintf("damage %s %d %d batch of offset %d: crc", path.Base(mid.file), mid.at, mid.base, mid.base)}},
		{"a flipped bit in a length", mid.file, flip(mid.at + 11), nil,
			[]string{fmt.Sprintf("damage %s %d %d ", path.Base(mid.file), mid.at, mid.base)}},
		{"a version", mid.file, flip(mid.at + 16), nil,
			[]string{fmt.Sprintf("damage %s %d %d version 18 of a batch; the next valid batch is at byte %d", path.Base(mid.file), mid.at, mid.base, after.at)}},
		{"an offset that falls", mid.file, put(mid.at, 0), nil,
			[]string{fmt.Sprintf("damage %s %d %d offsets 0 to ", path.Base(mid.file), mid.at, mid.base)}},
		{"an offset that jumps", last.file, put(0, uint64(last.base)), nil,
			[]string{fmt.Sprintf("damage %s 0 ", path.Base(last.file))}},
		{"an offset beyond the segment", mid.file, put(mid.at, uint64(mid.base+1<<20)), nil,
			[]string{fmt.Sprintf("damage %s %d %d offsets %d to ", path.Base(mid.file), mid.at, mid.base, mid.base+1<<20)}},
		{"records that do not walk", first.file, rebatch(first, func(b record.Batch) { b[61] = 1 }), nil,
			[]string{fmt.Sprintf("damage %s 0 0 records of the batch of offset 0: corrupt", path.Base(first.file))}},
		{"records that do not decompress", all[1].file, rebatch(all[1], func(b record.Batch) { b[66] ^= 0xff; b[61] ^= 0xff }), nil,
			[]string{fmt.Sprintf("damage %s %d %d records of the batch of offset %d: ", path.Base(all[1].file), all[1].at, all[1].base, all[1].base)}},
		{"a torn tail after an unclean stop", last.file, func(b []byte) []byte { return b[:lastSize-3] }, unclean,
			[]string{fmt.Sprintf("warning %s %d %d torn tail: the last ", path.Base(last.file), last.at, last.base), fmt.Sprintf("warning %s -1 %d the log ends at", path.Base(newest), end)}},
		{"garbage after the last batch after an unclean stop", last.file, func(b []byte) []byte { return append(b, bytes.Repeat([]byte{7}, 100)...) }, unclean,
			[]string{fmt.Sprintf("warning %s %d %d torn tail: the last 100 bytes", path.Base(last.file), lastSize, end)}},
		{"zeros after the last batch after an unclean stop", last.file, func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, unclean,
			[]string{fmt.Sprintf("warning %s %d %d torn tail: 5000 zero bytes", path.Base(last.file), lastSize, end)}},
		{"a torn tail after a clean stop", last.file, func(b []byte) []byte { return append(b, 1, 2, 3) }, nil,
			[]string{fmt.Sprintf("damage %s %d %d the last 3 bytes are no valid batch: 3 bytes are no batch, though the last stop was a clean one", path.Base(last.file), lastSize, end)}},
		{"a torn tail of what was acknowledged", last.file, func(b []byte) []byte { return b[:lastSize-3] }, func(t testing.TB, m *vfs.Mem) { must(t, m.Remove("/data/.kafka_cleanshutdown")) },
			[]string{fmt.Sprintf("damage %s %d %d the last ", path.Base(last.file), last.at, last.base), fmt.Sprintf("warning %s -1 %d the log ends at", path.Base(newest), end),
				fmt.Sprintf("damage %s -1 %d offsets below %d were on disk, the log ends at %d", log.RecoveryPointFile, last.base, end, last.base),
				fmt.Sprintf("damage %s -1 %d offsets below %d were acknowledged, the log ends at %d", log.HighWatermarkFile, last.base, end, last.base)}},
		{"the end of a segment in the middle", mid.file, func(b []byte) []byte { return b[:len(b)-1] }, nil,
			[]string{fmt.Sprintf("damage %s ", path.Base(mid.file))}},
		{"a segment that is missing", mid.file, nil, func(t testing.TB, m *vfs.Mem) { must(t, m.Remove(mid.file)) },
			[]string{"note ", "note ", "note ", fmt.Sprintf("warning %s 0 %d offsets %d to ", path.Base(baseFile(mid, all)), baseOf(mid), baseOf(mid))}},
		{"half an index entry", mid.in(segment.IndexSuffix), func(b []byte) []byte { return append(b, 1, 2) }, nil,
			[]string{fmt.Sprintf("damage %s %d -1 2 bytes of an entry of 8", path.Base(mid.in(segment.IndexSuffix)), len(read(t, clean, mid.in(segment.IndexSuffix))))}},
		{"an index position between batches", mid.in(segment.IndexSuffix), func(b []byte) []byte { b[7]++; return b }, nil,
			[]string{fmt.Sprintf("damage %s 0 ", path.Base(mid.in(segment.IndexSuffix)))}},
		{"an index offset that is not there", mid.in(segment.IndexSuffix), func(b []byte) []byte { b[3] = 0; return b }, nil,
			[]string{fmt.Sprintf("damage %s 0 %d offset %d at byte ", path.Base(mid.in(segment.IndexSuffix)), baseOf(mid), baseOf(mid))}},
		{"an index entry beyond the data", mid.in(segment.IndexSuffix), func(b []byte) []byte { return append(b, 0, 0, 0, 100, 0, 1, 0, 0) }, nil,
			[]string{fmt.Sprintf("damage %s %d %d offset %d at byte 65536, the data has", path.Base(mid.in(segment.IndexSuffix)), len(read(t, clean, mid.in(segment.IndexSuffix))), baseOf(mid)+100, baseOf(mid)+100)}},
		{"an index entry that falls", mid.in(segment.IndexSuffix), func(b []byte) []byte { return append(b, b[:8]...) }, nil,
			[]string{fmt.Sprintf("damage %s ", path.Base(mid.in(segment.IndexSuffix)))}},
		{"zeros after an index", mid.in(segment.IndexSuffix), func(b []byte) []byte { return append(b, make([]byte, 800)...) }, nil, nil},
		{"a missing index", mid.in(segment.IndexSuffix), nil, func(t testing.TB, m *vfs.Mem) { must(t, m.Remove(mid.in(segment.IndexSuffix))) },
			[]string{fmt.Sprintf("warning %s -1 %d missing", path.Base(mid.in(segment.IndexSuffix)), baseOf(mid))}},
		{"a wrong time", mid.in(segment.TimeSuffix), func(b []byte) []byte { b[7]++; return b }, nil,
			[]string{fmt.Sprintf("damage %s 0 ", path.Base(mid.in(segment.TimeSuffix)))}},
		{"a time index without its end", mid.in(segment.TimeSuffix), func(b []byte) []byte { return b[:len(b)-12] }, nil,
			[]string{fmt.Sprintf("damage %s %d -1 ends with timestamp ", path.Base(mid.in(segment.TimeSuffix)), len(read(t, clean, mid.in(segment.TimeSuffix)))-12)}},
		{"a time index after an unclean stop", last.in(segment.TimeSuffix), func(b []byte) []byte { b[7]++; return b }, unclean,
			[]string{fmt.Sprintf("warning %s 0 ", path.Base(last.in(segment.TimeSuffix)))}},
		{"a transaction index without an entry", txns, func(b []byte) []byte { return b[:len(b)-index.TxnEntrySize] }, nil,
			[]string{fmt.Sprintf("damage %s -1 ", path.Base(txns))}},
		{"an aborted transaction that begins elsewhere", txns, func(b []byte) []byte { b[17]--; return b }, nil,
			[]string{fmt.Sprintf("damage %s 0 ", path.Base(txns))}},
		{"an aborted transaction that ends elsewhere", txns, func(b []byte) []byte { b[25]++; return b }, nil,
			[]string{fmt.Sprintf("damage %s -1 ", path.Base(txns))}},
		{"an aborted transaction of nobody", txns, func(b []byte) []byte { b[9] = 77; return b }, nil,
			[]string{fmt.Sprintf("damage %s 0 ", path.Base(txns))}},
		{"a version of a transaction index", txns, func(b []byte) []byte { b[1] = 9; return b }, nil,
			[]string{fmt.Sprintf("damage %s 0 -1 ", path.Base(txns))}},
		{"a snapshot's CRC", newest, flip(20), nil,
			[]string{fmt.Sprintf("damage %s 2 %d crc", path.Base(newest), end)}},
		{"a snapshot with another sequence", newest, resum(func(b []byte) []byte { b[23]++; return b }), nil,
			[]string{fmt.Sprintf("damage %s -1 %d producer 7 has last sequence ", path.Base(newest), end)}},
		{"a snapshot with another offset", newest, resum(func(b []byte) []byte { b[31]--; return b }), nil,
			[]string{fmt.Sprintf("damage %s -1 %d producer 7 has last offset ", path.Base(newest), end)}},
		{"a snapshot with another epoch", newest, resum(func(b []byte) []byte { b[19]++; return b }), nil,
			[]string{fmt.Sprintf("damage %s -1 %d producer 7 has epoch 1, the log says 0", path.Base(newest), end)}},
		{"a snapshot without an open transaction", newest, resum(func(b []byte) []byte { return put(10+46*3-8, 1<<64-1)(b) }), nil,
			[]string{fmt.Sprintf("damage %s -1 %d producer 9 has an open transaction from -1, the log says ", path.Base(newest), end)}},
		{"a snapshot from beyond", dir + "/00000000000000009999.snapshot", nil, func(t testing.TB, m *vfs.Mem) {
			write(t, m, dir+"/00000000000000009999.snapshot", string(read(t, m, newest)))
		}, []string{"warning 00000000000000009999.snapshot -1 9999 the log ends at"}},
		{"a leader epoch that falls", last.file, func(b []byte) []byte { b[15] = 0; return b }, nil,
			[]string{fmt.Sprintf("damage %s 0 %d leader epoch 0 after epoch 1", path.Base(last.file), baseOf(last)), fmt.Sprintf("damage %s -1 %d leader epoch 1 from", log.EpochFile, baseOf(last))}},
		{"a leader epoch from elsewhere", dir + "/" + log.EpochFile, func(b []byte) []byte { return []byte("0\n2\n0 0\n1 3\n") }, nil,
			[]string{fmt.Sprintf("damage %s -1 %d leader epoch 1 from offset 3 on, but the batch of offset %d has epoch 0", log.EpochFile, all[2].base, all[2].base)}},
		{"leader epochs that fall", dir + "/" + log.EpochFile, func(b []byte) []byte { return []byte("0\n2\n1 0\n0 3\n") }, nil,
			[]string{fmt.Sprintf(`damage %s 8 -1 line "0 3": after epoch 1 from offset 0`, log.EpochFile)}},
		{"a leader epoch that has no batch yet", dir + "/" + log.EpochFile, func(b []byte) []byte {
			return []byte(strings.Replace(string(b), "\n2\n", "\n3\n", 1) + fmt.Sprintf("5 %d\n", end))
		}, nil, nil},
		{"a leader epoch beyond the end", dir + "/" + log.EpochFile, func(b []byte) []byte {
			return []byte(strings.Replace(string(b), "\n2\n", "\n3\n", 1) + "5 9999\n")
		}, nil, []string{fmt.Sprintf("warning %s -1 9999 epoch 5 begins at offset 9999", log.EpochFile)}},
		{"partition.metadata", dir + "/" + log.MetadataFile, func(b []byte) []byte { return []byte("version: 0\ntopic_id: !") }, nil,
			[]string{"damage partition.metadata 0 -1 corrupt"}},
		{"no partition.metadata", dir + "/" + log.MetadataFile, nil, func(t testing.TB, m *vfs.Mem) { must(t, m.Remove(dir+"/"+log.MetadataFile)) },
			[]string{"warning partition.metadata -1 -1 missing"}},
		{"a recovery point beyond the end", "/data/" + log.RecoveryPointFile, func([]byte) []byte { return []byte("0\n1\norders 0 9999\n") }, nil,
			[]string{fmt.Sprintf("damage %s -1 %d offsets below 9999 were on disk", log.RecoveryPointFile, end)}},
		{"a high watermark beyond the end", "/data/" + log.HighWatermarkFile, func([]byte) []byte { return []byte("0\n1\norders 0 9999\n") }, nil,
			[]string{fmt.Sprintf("damage %s -1 %d offsets below 9999 were acknowledged", log.HighWatermarkFile, end)}},
		{"a log start beyond the end", "/data/" + log.LogStartFile, nil, func(t testing.TB, m *vfs.Mem) { write(t, m, "/data/"+log.LogStartFile, "0\n1\norders 0 9999\n") },
			[]string{fmt.Sprintf("damage %s -1 %d the log starts at 9999 and ends at", log.LogStartFile, end)}},
		{"a cleaner checkpoint beyond the end", "/data/" + log.CleanerFile, nil, func(t testing.TB, m *vfs.Mem) { write(t, m, "/data/"+log.CleanerFile, "0\n1\norders 0 9999\n") },
			[]string{fmt.Sprintf("warning %s -1 9999 compacted up to 9999", log.CleanerFile)}},
		{"a checkpoint of nonsense", "/data/" + log.RecoveryPointFile, func([]byte) []byte { return []byte("0\n1\norders 0\n") }, nil,
			[]string{fmt.Sprintf(`damage %s 4 -1 line "orders 0": want 3 words`, log.RecoveryPointFile)}},
		{"a checkpoint that was cut", "/data/" + log.RecoveryPointFile, func(b []byte) []byte { return b[:2] }, nil,
			[]string{fmt.Sprintf(`damage %s 2 -1 0 lines, want 0`, log.RecoveryPointFile)}},
		{"a checkpoint of strangers", "/data/" + log.RecoveryPointFile, func(b []byte) []byte { return []byte("0\n1\ninvoices 3 17\n") }, nil,
			[]string{fmt.Sprintf("note %s -1 -1 names partitions that are not here: invoices-3", log.RecoveryPointFile)}},
		{"meta.properties", "/data/meta.properties", func([]byte) []byte { return []byte("version=1\nnode.id=x\n") }, nil,
			[]string{"damage meta.properties -1 -1 no cluster.id"}},
		{"leftovers", "", nil, func(t testing.TB, m *vfs.Mem) {
			for _, n := range []string{"00000000000000000000.log.deleted", "00000000000000000005.index.cleaned", "leader-epoch-checkpoint.tmp", "00000000000000000000.log.swap", "00000000000000000000.log.9.damaged"} {
				write(t, m, dir+"/"+n, "")
			}
		}, []string{"note 00000000000000000000.log.9.damaged", "note 00000000000000000000.log.deleted", "warning 00000000000000000000.log.swap -1 -1 compaction was interrupted", "note 00000000000000000005.index.cleaned", "note leader-epoch-checkpoint.tmp"}},
		{"a name that is no offset", "", nil, func(t testing.TB, m *vfs.Mem) { write(t, m, dir+"/7.log", "") }, []string{"damage 7.log -1 -1 not the name of a segment"}},
		{"two topics", "", nil, func(t testing.TB, m *vfs.Mem) {
			must(t, m.MkdirAll("/data/orders-1", 0o755))
			write(t, m, "/data/orders-1/partition.metadata", "version: 0\ntopic_id: AQIDBAUGBwgREhMUFRYXGA")
		}, []string{"damage partition.metadata -1 -1 topic id "}},
		{"deleted and stray partitions", "", nil, func(t testing.TB, m *vfs.Mem) {
			must(t, m.MkdirAll("/data/gone-1.0123456789abcdef0123456789abcdef-delete", 0o755))
			must(t, m.MkdirAll("/data/lost-1.0123456789abcdef0123456789abcdef-stray", 0o755))
			must(t, m.MkdirAll("/data/__cluster_metadata-0.kafka-stray", 0o755))
		}, []string{"note __cluster_metadata-0.kafka-stray -1 -1 the cluster's metadata as they were before a conversion", "note gone-1.", "note lost-1."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := clean.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
			if c.damage != nil {
				edit(t, m, c.file, c.damage)
			}
			if c.more != nil {
				c.more(t, m)
			}
			r, got := check(t, m, "/data")
			ok := len(got) == len(c.want)
			for i := range min(len(got), len(c.want)) {
				ok = ok && strings.HasPrefix(got[i], c.want[i])
			}
			if !ok {
				t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
			for _, f := range r.Findings {
				if f.Advice == "" {
					t.Errorf("no advice about %s", f.What)
				}
			}
		})
	}
}

// baseFile returns the data file after that of a batch.
func baseFile(p place, all []place) string {
	for _, b := range all {
		if b.base > p.base && b.file != p.file {
			return b.file
		}
	}
	return ""
}

func baseOf(p place) int64 {
	base, _, _ := parseFileName(path.Base(p.file))
	return base
}

// TestMetadataSnapshots checks a snapshot that the JVM broker wrote, both where it
// formats a directory with it and among the snapshots of the metadata log.
func TestMetadataSnapshots(t *testing.T) {
	whole, err := os.ReadFile("testdata/bootstrap.checkpoint") // by kafka-storage format of 4.3.1
	must(t, err)
	const second, footer = 83, 336 // where batches begin
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"whole", whole, ""},
		{"empty", nil, " 0 -1 ends without a footer"},
		{"a flipped bit", flip(second + 70)(bytes.Clone(whole)), " 83 -1 batch of offset 1: crc "},
		{"cut between batches", whole[:footer], " 336 -1 ends without a footer"},
		{"cut inside of one", whole[:footer+20], " 336 -1 "},
		{"without its beginning", whole[second:], " 0 -1 begins without a header"},
		{"another batch behind", slices.Concat(whole, whole[second:footer]), " "},
		{"something else", []byte("version=1\n"), " 0 -1 "},
	} {
		for _, file := range []string{"/data/bootstrap.checkpoint", "/data/__cluster_metadata-0/00000000000000000008-0000000001.checkpoint"} {
			m := fixture(t, "k")
			if part := path.Dir(file); part != "/data" {
				l, err := log.Open(log.Options{FS: m, Dir: part, Topic: metadataTopic, Now: now})
				must(t, err)
				must(t, l.Close())
			}
			write(t, m, file, string(c.content))
			for _, asked := range []string{"/data", file} {
				_, got := check(t, m, asked)
				if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], "damage "+path.Base(file)+c.want)) {
					t.Errorf("%s, %s, of %s: found %q, want %q", c.name, file, asked, got, c.want)
				}
			}
		}
	}
}

// TestHoles tells holes that compaction may have left from others.
func TestHoles(t *testing.T) {
	for _, c := range []struct {
		name, key string
		cleaned   bool
		want      string
	}{
		{"below records without keys it is damage", "", false, "damage"},
		{"with keys it may be compaction", "k", false, "warning"},
		{"where the cleaner was it is none of anybody's business", "k", true, "note"},
	} {
		m := fixture(t, c.key)
		if c.cleaned {
			write(t, m, "/data/"+log.CleanerFile, "0\n1\norders 0 10\n")
		}
		all := batches(t, m)
		gone := baseOf(all[len(all)/2])
		must(t, segment.RemoveFiles(m, dir, gone, ""))
		r, got := check(t, m, "/data")
		var holes []Finding
		for _, f := range r.Findings {
			if strings.Contains(f.What, "are missing") {
				holes = append(holes, f)
			}
		}
		if len(holes) != 1 || holes[0].Severity.String() != c.want || holes[0].Offset != gone {
			t.Errorf("%s: %s", c.name, strings.Join(got, "\n"))
		}
	}
}

// TestUncleanStops writes at random, and takes the file system as a dead process
// and as a power cut leave it: nothing in it is damaged.
func TestUncleanStops(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	m := vfs.NewMem()
	must(t, m.MkdirAll("/data", 0o755))
	must(t, m.SyncDir("/"))
	o := options(m)
	l, err := log.Open(o)
	must(t, err)
	must(t, m.SyncDir("/data"))
	write(t, m, "/data/meta.properties", "version=1\ncluster.id=x\nnode.id=1\n")
	seqs := make(map[int64]int32)
	open := make(map[int64]bool)
	clock := int64(t0 - 1_000_000)
	epoch := int32(0)
	for step := range 400 {
		id := int64(r.IntN(4))
		clock += r.Int64N(50) - 10
		o := log.AppendOptions{LeaderEpoch: epoch}
		n := 1 + r.IntN(4)
		p := record.NoProducer
		switch op := r.IntN(10); {
		case op < 4:
		case op < 7:
			p = record.Producer{ID: id, Sequence: seqs[id], Transactional: id%2 == 1}
			seqs[id] += int32(n)
			open[id] = open[id] || id%2 == 1
		case op < 9:
			if open[id] {
				o.Origin = log.Coordinator
				_, err := l.Append(record.BuildEndTxn(nil, op == 7, id, 0, 1, clock), o)
				must(t, err)
				open[id] = false
			}
			continue
		default:
			epoch++
			must(t, l.AssignEpoch(epoch, l.EndOffset()))
			continue
		}
		_, err := l.Append(batch(t, record.Codec(r.IntN(5)), p, clock, "", n), o)
		must(t, err)
		if r.IntN(20) == 0 {
			l.SetHighWatermark(l.EndOffset())
			must(t, l.AdvanceStart(l.StartOffset()+r.Int64N(l.EndOffset()-l.StartOffset()+1)/8))
			write(t, m, "/data/"+log.LogStartFile, fmt.Sprintf("0\n1\norders 0 %d\n", l.StartOffset()))
		}
		for _, policy := range []vfs.CrashPolicy{{KeepData: true, KeepEntries: true}, {}} {
			if step%9 != 0 {
				continue
			}
			crashed := m.CrashClone(policy)
			write(t, crashed, "/data/"+log.RecoveryPointFile, fmt.Sprintf("0\n1\norders 0 %d\n", l.RecoveryCheckpoint()))
			rep, got := check(t, crashed, "/data")
			if rep.Damages > 0 {
				t.Fatalf("step %d, %+v:\n%s", step, policy, strings.Join(got, "\n"))
			}
		}
	}
	must(t, l.Close())
	if rep, got := check(t, m, "/data"); rep.Damages+rep.Warnings > 0 {
		t.Fatalf("after closing:\n%s", strings.Join(got, "\n"))
	}
}

// failing makes reads of data files fail.
type failing struct {
	vfs.FS
	vfs.File
}

func (f failing) Open(name string) (vfs.File, error) {
	file, err := f.FS.Open(name)
	if strings.HasSuffix(name, segment.LogSuffix) {
		return failing{f.FS, file}, err
	}
	return file, err
}

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

func TestUnreadable(t *testing.T) {
	m := fixture(t, "k")
	r, got := check(t, failing{FS: m}, "/data")
	if r.Damages < 1 || !strings.Contains(got[0], "input/output error") {
		t.Errorf("found %q", got)
	}
}

func putCRC(at, over []byte) { binary.BigEndian.PutUint32(at, crc32.Checksum(over, castagnoli)) }
