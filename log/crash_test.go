package log

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// tail returns a log of whole batches and the boundaries between them.
func tail(t *testing.T, n int) (m *vfs.Mem, file string, bounds []int) {
	m = newMem(t)
	l := open(t, options(m))
	for i := range n {
		appendTo(t, l, idem(t, 5, 0, int32(2*i), 2))
		bounds = append(bounds, int(l.Size()))
	}
	check(t, l.Close())
	return m, segment.FileName(l.dir, 0, segment.LogSuffix), bounds
}

func put(t *testing.T, m *vfs.Mem, name string, b []byte) {
	t.Helper()
	check(t, vfs.WriteFileAtomic(m, name, b))
}

// Wherever a write is cut short, the log opens with the batches before it, takes
// the producer's next sequence, and opens again as it was.
func TestTornTailCutAtEveryByte(t *testing.T) {
	written, file, bounds := tail(t, 4)
	whole, err := vfs.ReadFile(written, file)
	check(t, err)
	for cut := range len(whole) {
		m := written.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
		put(t, m, file, whole[:cut])
		n := 0
		for n < len(bounds) && bounds[n] <= cut {
			n++
		}
		l := open(t, options(m))
		if l.EndOffset() != int64(2*n) || len(values(t, l, 0, 1000)) != 2*n {
			t.Fatalf("cut at byte %d: log end %d, want %d", cut, l.EndOffset(), 2*n)
		}
		again := m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
		if l2 := open(t, options(again)); l2.EndOffset() != l.EndOffset() || l2.Size() != l.Size() {
			t.Fatalf("cut at byte %d: opened again: log end %d, then %d", cut, l.EndOffset(), l2.EndOffset())
		}
		if n > 0 {
			if i := appendTo(t, l, idem(t, 5, 0, int32(2*n), 1)); i.BaseOffset != int64(2*n) {
				t.Fatalf("cut at byte %d: appended at %d", cut, i.BaseOffset)
			}
		}
		if _, err := l.Append(idem(t, 5, 0, int32(2*n+5), 1), AppendOptions{}); n > 0 && !errors.Is(err, ErrOutOfOrderSequence) {
			t.Fatalf("cut at byte %d: producer state is lost: %v", cut, err)
		}
		check(t, l.Close())
	}
}

// A flipped bit is never served as a record: in the last batch it counts as a
// torn tail, before it the log does not open.
func TestFlippedBits(t *testing.T) {
	m, file, bounds := tail(t, 3)
	whole, err := vfs.ReadFile(m, file)
	check(t, err)
	r := rand.New(rand.NewPCG(1, 2))
	for at := range whole {
		bad := bytes.Clone(whole)
		bad[at] ^= 1 << r.IntN(8)
		put(t, m, file, bad)
		l, err := Open(options(m))
		inBatch := at
		for _, b := range bounds {
			if at >= b {
				inBatch = at - b
			}
		}
		var damaged *segment.DamagedError
		switch {
		case inBatch >= 12 && inBatch < 16 || inBatch < 8: // outside the CRC
			if l != nil {
				l.Close()
			}
			continue
		case at >= bounds[1]:
			if err != nil || l.EndOffset() != 4 {
				t.Fatalf("byte %d of the last batch: %v", at, err)
			}
			check(t, l.Close())
		case !errors.As(err, &damaged):
			t.Fatalf("byte %d before the last batch: %v, want a DamagedError", at, err)
		case damaged.Valid != int64(bounds[0]) && damaged.Valid != int64(bounds[1]):
			t.Fatalf("byte %d: %v", at, err)
		default:
			if b, _ := vfs.ReadFile(m, file); !bytes.Equal(b, bad) {
				t.Fatalf("byte %d: a damaged file was changed", at)
			}
		}
	}
}

// Every file beside the data may be missing, cut, zeroed or garbage: the log
// serves the same and knows the same.
func TestDerivedFilesAreRebuilt(t *testing.T) {
	base := newMem(t)
	o := options(base)
	o.Config = Config{SegmentBytes: 1500, IndexIntervalBytes: 100}
	l := open(t, o)
	check(t, l.AssignEpoch(1, 0))
	for i := range 12 {
		if i == 6 {
			check(t, l.AssignEpoch(3, l.EndOffset()))
		}
		appendTo(t, l, idem(t, 5, 0, int32(20*i), 20))
	}
	describe := func(l *Log) string {
		var b strings.Builder
		found, _, _ := l.OffsetForTime(t0, l.EndOffset())
		fmt.Fprintln(&b, l.StartOffset(), l.EndOffset(), l.Producers(), l.epochs.entries(), values(t, l, 0, 700), found)
		for _, s := range l.list() {
			for o := s.Base(); o < s.Next(); o++ {
				p, err := s.Position(o)
				fmt.Fprint(&b, p, err, " ")
			}
		}
		return b.String()
	}
	want := describe(l)
	check(t, l.Close())
	names, err := base.List(o.Dir)
	check(t, err)
	tried := 0
	for _, name := range names {
		if path.Ext(name) == segment.LogSuffix || name == MetadataFile {
			continue
		}
		file := path.Join(o.Dir, name)
		content, err := vfs.ReadFile(base, file)
		check(t, err)
		for kind, bad := range map[string][]byte{
			"missing": nil, "empty": {}, "cut": content[:len(content)/2+1], "zeroed": make([]byte, len(content)),
			"garbage": bytes.Repeat([]byte{0xa7, 0x31}, len(content)/2+1), "grown": append(bytes.Clone(content), make([]byte, 48)...),
		} {
			for _, clean := range []bool{true, false} {
				m := base.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
				if kind == "missing" {
					check(t, m.Remove(file))
				} else {
					put(t, m, file, bad)
				}
				o := o
				o.FS, o.CleanShutdown = m, clean
				l := open(t, o)
				if got := describe(l); got != want {
					t.Errorf("%s %s, clean %t:\n got %s\nwant %s", name, kind, clean, got, want)
				}
				check(t, l.Close())
				tried++
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d cases", tried)
	}
}

// At every effect on the disk the power may fail. What was flushed stays, what
// is there is a prefix, and the log goes on from it.
func TestCrashAtEveryEffect(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := newMem(t)
	type clone struct {
		fs      *vfs.Mem
		op      string
		flushed int64
		max     int64
		start   int64
		torn    bool
	}
	var clones []clone
	var l *Log
	flushed, most, start := int64(0), int64(0), int64(0)
	armed := false
	n := uint64(0)
	fs := vfs.Inject(m, func(op vfs.Op, name string) error {
		if !armed || op == vfs.OpRead || op == vfs.OpStat || op == vfs.OpSize || op == vfs.OpList {
			return nil
		}
		n++
		for _, p := range []vfs.CrashPolicy{{}, {KeepEntries: true}, {KeepData: true}, {KeepEntries: true, Torn: rand.New(rand.NewPCG(seed, n))}} {
			clones = append(clones, clone{m.CrashClone(p), fmt.Sprintf("%s %s (%+v)", op, path.Base(name), p), flushed, most, start, p.Torn != nil})
		}
		return nil
	})
	o := options(fs)
	o.Config = Config{SegmentBytes: 1200, IndexIntervalBytes: 200}
	l = open(t, o)
	appendTo(t, l, idem(t, 5, 0, 0, 3))
	check(t, l.Flush())
	flushed, most, armed = 3, 3, true
	for i := range 12 {
		most = int64(3*i + 6)
		appendTo(t, l, idem(t, 5, 0, int32(3*i+3), 3))
		switch i {
		case 3, 9:
			check(t, l.Flush())
			flushed = l.RecoveryPoint()
		case 5:
			check(t, l.AssignEpoch(2, l.EndOffset()))
		case 7:
			flushed = min(flushed, 20)
			check(t, l.TruncateTo(21))
			flushed = l.EndOffset()
			most = l.EndOffset()
			appendTo(t, l, idem(t, 5, 0, int32(l.EndOffset()), int(27-l.EndOffset())))
		}
	}
	check(t, l.Close())
	if len(clones) < 100 {
		t.Fatalf("only %d crash points", len(clones))
	}
	for _, c := range clones {
		o := o
		o.FS, o.RecoveryPoint = c.fs, 0
		l, err := Open(o)
		var damaged *segment.DamagedError
		if c.torn && errors.As(err, &damaged) {
			continue // sectors that reached the disk out of order look like damage
		}
		if err != nil {
			t.Fatalf("before %s: %v", c.op, err)
		}
		if end := l.EndOffset(); end < c.flushed || end > 39 {
			t.Fatalf("before %s: log end %d, flushed %d", c.op, end, c.flushed)
		}
		got := values(t, l, 0, 300)
		if len(got) != int(l.EndOffset()) {
			t.Fatalf("before %s: %d records, log end %d", c.op, len(got), l.EndOffset())
		}
		end := l.EndOffset()
		i, err := l.Append(idem(t, 5, 0, int32(end), 1), AppendOptions{LeaderEpoch: 9})
		if err != nil || i.BaseOffset != end || i.Duplicate {
			t.Fatalf("before %s: next append: %+v, %v", c.op, i, err)
		}
		check(t, l.Close())
	}
}

// After an error of the disk nothing of the failed batch is readable, the log
// takes no more, and what was appended before is there after a restart.
func TestStorageErrorsLatch(t *testing.T) {
	for _, c := range []struct {
		name string
		op   vfs.Op
		ext  string
		err  error
	}{
		{"write", vfs.OpWrite, ".log", syscall.EIO},
		{"short write", vfs.OpWrite, ".log", &vfs.ShortWrite{N: 30, Err: syscall.ENOSPC}},
		{"sync", vfs.OpSync, ".log", syscall.EIO},
		{"index write", vfs.OpWrite, ".timeindex", syscall.EIO},
		{"snapshot", vfs.OpWrite, ".tmp", syscall.EIO},
		{"directory", vfs.OpSyncDir, "", syscall.EIO},
		{"new file", vfs.OpOpen, ".log", syscall.ENOSPC},
	} {
		m := newMem(t)
		broken, hits := false, 0
		o := options(vfs.Inject(m, func(op vfs.Op, name string) error {
			if broken && op == c.op && strings.HasSuffix(name, c.ext) {
				hits++
				return c.err
			}
			return nil
		}))
		l := open(t, o)
		appendTo(t, l, plain(t, "before"))
		broken = true
		_, err := l.Append(plain(t, "after"), AppendOptions{})
		acked := err == nil
		if acked {
			if err = l.Roll(); err == nil {
				err = l.Flush()
			}
			if err == nil {
				_, err = l.Append(plain(t, "later"), AppendOptions{})
			}
		}
		if hits == 0 || !errors.Is(err, ErrStorage) || l.Err() == nil {
			t.Errorf("%s: %v after %d faults", c.name, err, hits)
		}
		broken = false
		if _, err := l.Append(plain(t, "again"), AppendOptions{}); !errors.Is(err, ErrStorage) {
			t.Errorf("%s: append after the error: %v", c.name, err)
		}
		want := "[0:before]"
		if acked {
			want = "[0:before 1:after]"
		}
		if got := fmt.Sprint(values(t, l, 0, 1000)); got != want {
			t.Errorf("%s: readable %s, want %s", c.name, got, want)
		}
		if err := l.Close(); !errors.Is(err, ErrStorage) {
			t.Errorf("%s: close: %v", c.name, err)
		}
		l = open(t, options(m))
		if got := fmt.Sprint(values(t, l, 0, 1000)); got != want {
			t.Errorf("%s: after a restart %s, want %s", c.name, got, want)
		}
	}
}

func TestFullDisk(t *testing.T) {
	m := newMem(t)
	l := open(t, options(m))
	appendTo(t, l, plain(t, "kept"))
	m.SetCapacity(m.Used() + 100)
	_, err := l.Append(plain(t, strings.Repeat("x", 100_000)), AppendOptions{})
	if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, ErrStorage) {
		t.Errorf("append to a full disk: %v", err)
	}
	if got := fmt.Sprint(values(t, l, 0, 1000)); got != "[0:kept]" {
		t.Errorf("readable: %s", got)
	}
	l.Close()
	m.SetCapacity(0)
	l = open(t, options(m))
	appendTo(t, l, plain(t, "more"))
	if got := fmt.Sprint(values(t, l, 0, 1000)); got != "[0:kept 1:more]" {
		t.Errorf("after a restart: %s", got)
	}
}

func FuzzRecovery(f *testing.F) {
	one := record.Batch(bytes.Clone(plain(f, "a", "b")))
	f.Add([]byte(one))
	two := record.Batch(bytes.Clone(one))
	two.SetBaseOffset(2)
	f.Add(append(bytes.Clone(one), two...))
	f.Add(append(bytes.Clone(one), two[:30]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := vfs.NewMem()
		o := options(m)
		check(t, m.MkdirAll(o.Dir, 0o755))
		put(t, m, segment.FileName(o.Dir, 0, segment.LogSuffix), b)
		l, err := Open(o)
		if err != nil {
			return
		}
		first := fmt.Sprint(l.EndOffset(), l.Size())
		check(t, l.Close())
		l = open(t, o)
		if again := fmt.Sprint(l.EndOffset(), l.Size()); again != first {
			t.Fatalf("recovered to %s, then to %s", first, again)
		}
		c, err := l.Read(l.StartOffset(), l.EndOffset(), 1<<20, true)
		check(t, err)
		c.Release()
	})
}

func FuzzCheckpoints(f *testing.F) {
	f.Add([]byte("0\n2\n0 0\n3 250\n"))
	f.Add(encodeSnapshot(&producers{m: map[int64]*producer{1: {id: 1, n: 1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if list, err := parseEpochs(b); err == nil {
			again, err := parseEpochs(formatEpochs(list))
			if err != nil || fmt.Sprint(again) != fmt.Sprint(list) {
				t.Fatalf("epochs %v became %v, %v", list, again, err)
			}
		}
		if s, err := decodeSnapshot(b); err == nil {
			if _, err := decodeSnapshot(encodeSnapshot(s)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The power may fail during recovery, at any effect of it, and again: what comes
// of it in the end is what came of it at once (D7).
func TestCrashDuringRecovery(t *testing.T) {
	base := newMem(t)
	o := options(base)
	o.Config = Config{SegmentBytes: 1500, IndexIntervalBytes: 100}
	l := open(t, o)
	check(t, l.AssignEpoch(1, 0))
	for i := range 12 {
		appendTo(t, l, idem(t, 5, 0, int32(10*i), 10))
		switch i {
		case 4:
			check(t, l.AssignEpoch(2, l.EndOffset()))
		case 6:
			abortOne(t, l, 77)
		case 8:
			check(t, l.Flush())
		}
	}
	last := segment.FileName(o.Dir, l.active().Base(), segment.LogSuffix)
	o.RecoveryPoint = l.RecoveryCheckpoint()
	dead := base.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
	check(t, l.Close())
	describe := func(l *Log) string {
		aborted, err := l.AbortedTransactions(0, l.EndOffset())
		check(t, err)
		return fmt.Sprint(l.StartOffset(), l.EndOffset(), l.Producers(), l.epochs.entries(), aborted, values(t, l, 0, 700))
	}
	whole, err := vfs.ReadFile(dead, last)
	check(t, err)
	states := map[string]func(m *vfs.Mem){
		"killed":         func(*vfs.Mem) {},
		"torn":           func(m *vfs.Mem) { put(t, m, last, whole[:len(whole)-30]) },
		"tail of zeros":  func(m *vfs.Mem) { put(t, m, last, append(bytes.Clone(whole), make([]byte, 500)...)) },
		"without epochs": func(m *vfs.Mem) { check(t, m.Remove(path.Join(o.Dir, EpochFile))) },
		"without indexes and snapshots": func(m *vfs.Mem) {
			names, err := m.List(o.Dir)
			check(t, err)
			for _, n := range names {
				if e := path.Ext(n); e == segment.IndexSuffix || e == segment.TimeSuffix || e == segment.SnapshotSuffix {
					check(t, m.Remove(path.Join(o.Dir, n)))
				}
			}
		},
		"a swap": func(m *vfs.Mem) {
			b, err := vfs.ReadFile(m, segment.FileName(o.Dir, 0, segment.LogSuffix))
			check(t, err)
			put(t, m, segment.FileName(o.Dir, 0, segment.LogSuffix)+segment.SwapSuffix, b)
		},
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	points := 0
	for name, make := range states {
		state := dead.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
		make(state)
		straight := o
		straight.FS = state.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
		first, err := Open(straight)
		check(t, err)
		want := describe(first)
		var clones []*vfs.Mem
		var ops []string
		m := state.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
		twice := o
		twice.FS = vfs.Inject(m, func(op vfs.Op, file string) error {
			if op != vfs.OpRead && op != vfs.OpStat && op != vfs.OpSize && op != vfs.OpList {
				for _, p := range []vfs.CrashPolicy{{}, {KeepEntries: true}, {KeepData: true}, {KeepData: true, KeepEntries: true}, {KeepEntries: true, Torn: rand.New(rand.NewPCG(seed, uint64(len(clones))))}} {
					clones, ops = append(clones, m.CrashClone(p)), append(ops, fmt.Sprintf("%s %s %+v", op, path.Base(file), p))
				}
			}
			return nil
		})
		second, err := Open(twice)
		check(t, err)
		check(t, second.Close())
		points += len(clones)
		for i, c := range clones {
			again := o
			again.FS = c
			l, err := Open(again)
			if err != nil {
				t.Fatalf("%s, before %s: %v", name, ops[i], err)
			}
			if got := describe(l); got != want {
				t.Fatalf("%s, before %s:\n got %s\nwant %s", name, ops[i], got, want)
			}
			check(t, l.Close())
		}
	}
	if points < 300 {
		t.Errorf("only %d crash points", points)
	}
}
