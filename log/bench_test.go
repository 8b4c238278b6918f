package log

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

func benchBatch(b testing.TB, records, size int) []byte {
	bld := record.NewBuilder(record.None, 0)
	v := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
	for range records {
		bld.Append(t0, nil, v, nil)
	}
	out, err := bld.Finish(record.NoProducer)
	check(b, err)
	return bytes.Clone(out)
}

var benchSizes = []struct {
	name          string
	records, size int
}{{"1MB-100B", 9000, 100}, {"1MB-1KB", 1000, 1000}, {"16KB-100B", 140, 100}, {"1record-1KB", 1, 1000}}

// fileLimit bounds the disk space of a benchmark.
const fileLimit = 256 << 20

// BenchmarkAppend appends batches to a log on disk; BenchmarkBareWrite writes as
// many bytes to a file.
func BenchmarkAppend(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			o := options(vfs.OS())
			o.Dir = b.TempDir() + "/p-0"
			l := open(b, o)
			in := benchBatch(b, s.records, s.size)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				record.Batch(in).SetBaseOffset(0)
				if _, err := l.Append(in, AppendOptions{}); err != nil {
					b.Fatal(err)
				}
				if l.Size() > fileLimit {
					b.StopTimer()
					check(b, l.TruncateFullyAndStartAt(l.EndOffset()))
					b.StartTimer()
				}
			}
			b.StopTimer()
			check(b, l.Delete())
		})
	}
}

func BenchmarkBareWrite(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			name := b.TempDir() + "/f"
			f, err := os.Create(name)
			check(b, err)
			in := benchBatch(b, s.records, s.size)
			b.SetBytes(int64(len(in)))
			at := int64(0)
			for b.Loop() {
				if _, err := f.WriteAt(in, at); err != nil {
					b.Fatal(err)
				}
				if at += int64(len(in)); at > fileLimit {
					b.StopTimer()
					f.Close()
					os.Remove(name)
					f, err = os.Create(name)
					check(b, err)
					at = 0
					b.StartTimer()
				}
			}
			f.Close()
		})
	}
}

func BenchmarkRead(b *testing.B) {
	o := options(vfs.OS())
	o.Dir = b.TempDir() + "/p-0"
	l := open(b, o)
	in := benchBatch(b, 140, 100)
	for range 4000 {
		record.Batch(in).SetBaseOffset(0)
		_, err := l.Append(in, AppendOptions{})
		check(b, err)
	}
	end := l.EndOffset()
	for _, c := range []struct {
		name   string
		offset int64
		max    int
	}{{"tail", end - 140, 1 << 20}, {"middle-1MB", end / 2, 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := l.Read(c.offset, end, c.max, true)
				if err != nil || r.Len() == 0 {
					b.Fatal(err)
				}
				r.Release()
			}
		})
	}
	check(b, l.Delete())
}

// An idle log costs little memory, and appending allocates per batch, not per
// record.
func TestCosts(t *testing.T) {
	m := vfs.NewMem()
	const n = 500
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	logs := make([]*Log, n)
	for i := range logs {
		o := options(m)
		o.Dir = fmt.Sprintf("/data/orders-%d", i)
		logs[i] = open(t, o)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := int64(after.HeapAlloc-before.HeapAlloc) / n; per > 4096 {
		t.Errorf("an idle log with its file in memory takes %d bytes of heap", per)
	} else {
		t.Logf("%d bytes of heap for an idle log", per)
	}
	in := plain(t, make([]string, 1000)...)
	l := logs[0]
	if allocs := testing.AllocsPerRun(50, func() {
		record.Batch(in).SetBaseOffset(0)
		appendTo(t, l, in)
	}); allocs > 0 {
		t.Errorf("%v allocations to append a batch of 1000 records", allocs)
	}
	runtime.KeepAlive(logs)
}

// Once its buffers have grown, a log appends without allocating at all, index
// entries and their blocks included.
func TestAppendAllocatesNothing(t *testing.T) {
	o := options(vfs.OS())
	o.Dir = t.TempDir() + "/p-0"
	l := open(t, o)
	in := benchBatch(t, 4, 1000) // an index entry for each
	appends := func(n int) (allocs uint64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range n {
			record.Batch(in).SetBaseOffset(0)
			_, err := l.Append(in, AppendOptions{})
			check(t, err)
		}
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	appends(1500)
	if n := appends(3000); n > 10 { // some may be the runtime's
		t.Errorf("%d allocations in 3000 appends", n)
	} else {
		t.Logf("%d allocations in 3000 appends", n)
	}
	check(t, l.Delete())
}

// BenchmarkAppendMany appends 4 KB batches to 1,000 logs in turn;
// BenchmarkBareWriteMany writes as many bytes to as many files.
func BenchmarkAppendMany(b *testing.B) {
	dir := b.TempDir()
	logs := make([]*Log, 1000)
	for i := range logs {
		o := options(vfs.OS())
		o.Dir = fmt.Sprintf("%s/p-%d", dir, i)
		logs[i] = open(b, o)
	}
	in := benchBatch(b, 4, 1000)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		record.Batch(in).SetBaseOffset(0)
		if _, err := logs[i%len(logs)].Append(in, AppendOptions{}); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkBareWriteMany(b *testing.B) {
	dir := b.TempDir()
	files := make([]*os.File, 1000)
	for i := range files {
		f, err := os.Create(fmt.Sprintf("%s/%d", dir, i))
		check(b, err)
		defer f.Close()
		files[i] = f
	}
	in := benchBatch(b, 4, 1000)
	b.SetBytes(int64(len(in)))
	i := 0
	for b.Loop() {
		if _, err := files[i%len(files)].WriteAt(in, int64(i/len(files)*len(in))); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
