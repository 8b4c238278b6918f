package scrub

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// repair checks, plans and takes every step.
func repair(t testing.TB, fs vfs.FS, o PlanOptions) ([]Step, error) {
	t.Helper()
	r, err := Check(context.Background(), Options{FS: fs, Threads: 1}, "/data")
	if err != nil {
		return nil, err
	}
	steps := Plan(fs, r, o)
	for i := range steps {
		if err := steps[i].Run(); err != nil {
			return steps, err
		}
	}
	return steps, nil
}

// opened opens the partition as a broker does and returns its records and
// aborted transactions, a line each.
func opened(t testing.TB, fs vfs.FS) (out []string) {
	t.Helper()
	o := options(fs)
	if _, err := fs.Stat("/data/" + log.CleanFile); err == nil {
		o.CleanShutdown = true
	}
	d := openDirectory(fs, "/data")
	o.RecoveryPoint, o.StartOffset = d.recovery["orders-0"], d.start["orders-0"]
	l, err := log.Open(o)
	must(t, err)
	must(t, l.Each(l.StartOffset(), l.EndOffset(), func(b record.Batch) error {
		it := b.Iterate(0)
		defer it.Close()
		for it.Next() {
			out = append(out, fmt.Sprintf("%d %d %s", it.Offset(), it.Timestamp(), it.Record().Value))
		}
		return it.Err()
	}))
	l.SetHighWatermark(l.EndOffset())
	aborted, err := l.AbortedTransactions(0, l.EndOffset())
	must(t, err)
	for _, p := range l.Producers() {
		out = append(out, fmt.Sprintf("producer %+v", p))
	}
	out = append(out, fmt.Sprint("aborted ", aborted), fmt.Sprint("stable ", l.LastStableOffset()), fmt.Sprint("epochs ", l.LatestEpoch(), l.EpochAt(0)))
	must(t, l.Close())
	return out
}

func clone(m *vfs.Mem) *vfs.Mem {
	return m.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
}

// repairCase is a damage, and what of the log is left after its repair.
type repairCase struct {
	name   string
	damage func(t testing.TB, m *vfs.Mem)
	o      PlanOptions
	steps  []string // how they begin
	end    int64    // offset at which records are lost; -1 for none
}

func repairCases(t testing.TB, clean *vfs.Mem) []repairCase {
	all := batches(t, clean)
	last := all[len(all)-1]
	mid := all[len(all)/2]
	for mid.at == 0 {
		t.Fatal("the batch in the middle is the first of its segment")
	}
	lastSize := int64(len(read(t, clean, last.file)))
	names, err := clean.List(dir)
	must(t, err)
	var snapshots, txns []string
	for _, n := range names {
		switch _, suffix, _ := parseFileName(n); suffix {
		case segment.SnapshotSuffix:
			snapshots = append(snapshots, dir+"/"+n)
		case segment.TxnSuffix:
			txns = append(txns, dir+"/"+n)
		}
	}
	with := func(name string, f func([]byte) []byte) func(testing.TB, *vfs.Mem) {
		return func(t testing.TB, m *vfs.Mem) { t.Helper(); edit(t, m, name, f) }
	}
	flipped := with(mid.file, flip(mid.at+70))
	return []repairCase{
		{"nothing", func(testing.TB, *vfs.Mem) {}, PlanOptions{}, nil, -1},
		{"a torn tail", with(last.file, func(b []byte) []byte { return append(b, 1, 2, 3) }), PlanOptions{},
			[]string{fmt.Sprintf("cut the file at byte %d", lastSize)}, -1},
		{"a last batch that is cut short", with(last.file, func(b []byte) []byte { return b[:lastSize-3] }), PlanOptions{},
			[]string{fmt.Sprintf("cut the file at byte %d", last.at), "remove it", "nothing", "nothing"}, last.base},
		{"an index", with(mid.in(segment.IndexSuffix), func(b []byte) []byte { b[7]++; return b }), PlanOptions{}, []string{"remove it"}, -1},
		{"a time index", with(mid.in(segment.TimeSuffix), func(b []byte) []byte { b[7]++; return b }), PlanOptions{}, []string{"remove it"}, -1},
		{"the first transaction index", with(txns[0], func(b []byte) []byte { b[17]--; return b }), PlanOptions{}, []string{"remove it and the producer snapshots"}, -1},
		{"the last transaction index", with(txns[len(txns)-1], func(b []byte) []byte { return b[:3] }), PlanOptions{}, []string{"remove it and the producer snapshots"}, -1},
		{"the newest snapshot", with(snapshots[len(snapshots)-1], flip(20)), PlanOptions{}, []string{"remove it"}, -1},
		{"every snapshot", func(t testing.TB, m *vfs.Mem) {
			for _, s := range snapshots {
				edit(t, m, s, flip(20))
			}
		}, PlanOptions{}, slices.Repeat([]string{"remove it"}, len(snapshots)), -1},
		{"leader epochs", with(dir+"/"+log.EpochFile, func([]byte) []byte { return []byte("0\n1\n7 3\n") }), PlanOptions{}, []string{"remove it"}, -1},
		{"a recovery point of nonsense", with("/data/"+log.RecoveryPointFile, func([]byte) []byte { return []byte("0\n7\n") }), PlanOptions{}, []string{"remove it"}, -1},
		{"leftovers", func(t testing.TB, m *vfs.Mem) {
			for _, n := range []string{"00000000000000000000.log.deleted", "00000000000000000005.index.cleaned", "leader-epoch-checkpoint.tmp", "00000000000000000077.index.swap"} {
				write(t, m, dir+"/"+n, "")
			}
		}, PlanOptions{}, slices.Repeat([]string{"remove it"}, 4), -1},
		{"a compaction that was not put in place", func(t testing.TB, m *vfs.Mem) {
			write(t, m, mid.file+".swap", string(read(t, m, mid.file)))
			for _, suffix := range []string{segment.IndexSuffix, segment.TimeSuffix, segment.TxnSuffix} {
				write(t, m, mid.in(suffix)+".swap", string(read(t, m, mid.in(suffix))))
			}
			must(t, m.Remove(mid.file))
		}, PlanOptions{}, []string{"put it in the place of the segments"}, -1},
		{"a compaction of which one result was not finished", func(t testing.TB, m *vfs.Mem) {
			write(t, m, mid.file+".swap", string(read(t, m, mid.file)[:mid.at]))
			write(t, m, mid.file+".cleaned", "")
		}, PlanOptions{}, []string{"remove it", "remove it"}, -1},
		{"damage in the middle is left alone", flipped, PlanOptions{}, []string{fmt.Sprintf("cut at byte %d, or set the partition aside", mid.at)}, -2},
		{"damage in the middle", flipped, PlanOptions{CutAtDamage: true}, []string{fmt.Sprintf("cut at byte %d, and keep", mid.at)}, mid.base},
		{"damage in two places", func(t testing.TB, m *vfs.Mem) {
			flipped(t, m)
			edit(t, m, last.file, flip(70))
		}, PlanOptions{CutAtDamage: true}, []string{fmt.Sprintf("cut at byte %d, and keep", mid.at)}, mid.base},
		{"damage in the first batch", with(all[0].file, flip(70)), PlanOptions{CutAtDamage: true}, []string{"cut at byte 0, and keep"}, 0},
		{"a partition set aside", flipped, PlanOptions{SetAside: true}, []string{"set the partition aside as orders-0."}, 0},
	}
}

// TestRepair damages a log directory, repairs it, and opens what is left: every
// valid record is there but for those that a flag gave up, and so is all that is
// derived from them.
func TestRepair(t *testing.T) {
	clean := fixture(t, "k")
	want := opened(t, clone(clean))
	for _, c := range repairCases(t, clean) {
		t.Run(c.name, func(t *testing.T) {
			m := clone(clean)
			c.damage(t, m)
			before := listed(t, m)
			steps, err := repair(t, m, c.o)
			must(t, err)
			ok := len(steps) == len(c.steps)
			for i := range min(len(steps), len(c.steps)) {
				ok = ok && strings.HasPrefix(steps[i].Do, c.steps[i])
			}
			if !ok {
				t.Errorf("steps\n  %+v\nwant\n  %q", steps, c.steps)
			}
			if c.end == -2 {
				if after := listed(t, m); !slices.Equal(after, before) {
					t.Errorf("files were %q and are %q", before, after)
				}
				return
			}
			if r, got := check(t, m, "/data"); r.Damages > 0 {
				t.Errorf("after the repair:\n%s", strings.Join(got, "\n"))
			}
			sameLog(t, opened(t, m), want, c.end)
		})
	}
}

// sameLog compares the records below end, and all else if none was lost.
func sameLog(t testing.TB, got, want []string, end int64) {
	t.Helper()
	if end >= 0 {
		below := func(s string) bool {
			var o int64
			n, err := fmt.Sscan(s, &o)
			return n == 0 || err != nil || o >= end
		}
		got, want = slices.DeleteFunc(slices.Clone(got), below), slices.DeleteFunc(slices.Clone(want), below)
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Errorf("the log holds, of %d lines,\n%q\nwant, of %d,\n%q", len(got), got[min(i, len(got)):min(i+1, len(got))], len(want), want[min(i, len(want)):min(i+1, len(want))])
			return
		}
	}
}

func listed(t testing.TB, m *vfs.Mem) (out []string) {
	names, err := m.List(dir)
	must(t, err)
	for _, n := range names {
		out = append(out, fmt.Sprintf("%s %x", n, read(t, m, dir+"/"+n)))
	}
	return out
}

// TestRepairIsCrashSafe lets a repair fail at every change that it makes, and
// takes what a dead process and a power cut then leave: repaired again, it is as
// if nothing had happened.
func TestRepairIsCrashSafe(t *testing.T) {
	clean := fixture(t, "k")
	want := opened(t, clone(clean))
	stopped := errors.New("stopped")
	for _, c := range repairCases(t, clean) {
		if c.end == -2 {
			continue
		}
		for at := 0; ; at++ {
			m := clone(clean)
			c.damage(t, m)
			m = clone(m)
			n, stop := 0, false
			fs := vfs.Inject(m, func(op vfs.Op, _ string) error {
				switch op {
				case vfs.OpRemove, vfs.OpRename, vfs.OpTruncate, vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir:
					n++
				}
				if stop = stop || n > at; stop {
					return stopped
				}
				return nil
			})
			_, err := repair(t, fs, c.o)
			for _, policy := range []vfs.CrashPolicy{{KeepData: true, KeepEntries: true}, {}, {KeepData: true}, {KeepEntries: true}} {
				after := m.CrashClone(policy)
				// One that was set aside before the crash is not set aside again.
				if _, err := repair(t, after, c.o); err != nil {
					t.Fatalf("%s, stopped at change %d, %+v: %v", c.name, at, policy, err)
				}
				if r, got := check(t, after, "/data"); r.Damages > 0 {
					t.Fatalf("%s, stopped at change %d, %+v:\n%s", c.name, at, policy, strings.Join(got, "\n"))
				}
				sameLog(t, opened(t, after), want, c.end)
				if t.Failed() {
					t.Fatalf("%s, stopped at change %d, %+v", c.name, at, policy)
				}
			}
			if err == nil {
				break
			}
		}
	}
}

// TestRepairKeepsWhatItCuts finds every byte of a log that was cut.
func TestRepairKeepsWhatItCuts(t *testing.T) {
	m := fixture(t, "k")
	all := batches(t, m)
	mid := all[len(all)/2]
	edit(t, m, mid.file, flip(mid.at+70))
	whole := make(map[string][]byte)
	for _, b := range all {
		whole[b.file] = read(t, m, b.file)
	}
	steps, err := repair(t, m, PlanOptions{CutAtDamage: true})
	must(t, err)
	var batches, records int64
	for _, b := range all[len(all)/2+1:] {
		batches++
		records += b.last - b.base + 1
	}
	if steps[0].LostBatches != batches || steps[0].LostRecords != records {
		t.Errorf("said to lose %d batches with %d records, want %d with %d", steps[0].LostBatches, steps[0].LostRecords, batches, records)
	}
	for file, b := range whole {
		switch base, _, _ := parseFileName(path.Base(file)); {
		case file == mid.file:
			if got := append(read(t, m, file), read(t, m, fmt.Sprintf("%s.%d.damaged", file, mid.at))...); string(got) != string(b) {
				t.Errorf("%s and what was cut off it are not what it was", file)
			}
		case base > mid.base:
			if got := read(t, m, file+".0.damaged"); string(got) != string(b) {
				t.Errorf("%s is not kept", file)
			}
		}
	}
	text := string(read(t, m, "/data/"+log.HighWatermarkFile))
	if want := fmt.Sprintf("0\n1\norders 0 %d\n", mid.base); text != want {
		t.Errorf("high watermarks %q, want %q", text, want)
	}
}

// TestSwapReplacesSegments finishes a compaction of two segments into one.
func TestSwapReplacesSegments(t *testing.T) {
	m := fixture(t, "k")
	all := batches(t, m)
	var bases []int64
	var data []byte
	for _, b := range all {
		if b.at == 0 {
			bases = append(bases, baseOf(b))
		}
	}
	for _, base := range bases[:2] {
		data = append(data, read(t, m, segment.FileName(dir, base, segment.LogSuffix))...)
	}
	write(t, m, segment.FileName(dir, bases[0], segment.LogSuffix)+segment.SwapSuffix, string(data))
	want := opened(t, clone(fixture(t, "k")))
	steps, err := repair(t, m, PlanOptions{})
	must(t, err)
	if len(steps) != 1 || steps[0].Needs != "" {
		t.Errorf("steps %+v", steps)
	}
	if names, _ := m.List(dir); slices.Contains(names, path.Base(segment.FileName(dir, bases[1], segment.LogSuffix))) {
		t.Errorf("the second segment is still among %q", names)
	}
	sameLog(t, opened(t, m), want, -1)
	// One that is damaged is left for a person to judge.
	m = fixture(t, "k")
	binary.BigEndian.PutUint64(data[60:], 1)
	write(t, m, segment.FileName(dir, bases[0], segment.LogSuffix)+segment.SwapSuffix, string(data))
	if steps, err := repair(t, m, PlanOptions{}); err != nil || len(steps) != 1 || steps[0].Needs == "" {
		t.Errorf("a damaged result: %+v, %v", steps, err)
	}
}

func TestRepairLock(t *testing.T) {
	m := fixture(t, "k")
	l, err := Lock(m, "/data")
	must(t, err)
	if _, err := Lock(m, "/data"); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	must(t, l.Close())
}
