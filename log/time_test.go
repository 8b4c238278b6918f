package log

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

func TestRollByTime(t *testing.T) {
	o := options(vfs.NewMem())
	o.Config = Config{SegmentAge: time.Minute, TimestampAfterMax: 24 * time.Hour}
	l := open(t, o)
	appendTo(t, l, plainAt(t, t0))
	appendTo(t, l, plainAt(t, t0+60_000))
	if n := len(l.list()); n != 1 {
		t.Errorf("%d segments after exactly the age", n)
	}
	l = reopenClean(t, l)
	appendTo(t, l, plainAt(t, t0+60_001))
	if n := len(l.list()); n != 2 || l.active().Base() != 2 {
		t.Errorf("%d segments past the age", n)
	}
	found, ok, err := l.MaxTimestampOffset(100)
	if err != nil || !ok || found.Offset != 2 || found.Timestamp != t0+60_001 {
		t.Errorf("largest timestamp %+v, %t, %v", found, ok, err)
	}
}

// The record with the largest timestamp is looked for at and above the log start
// offset, wherever the largest of the log was; the first of several has it.
func TestMaxTimestampAboveTheStart(t *testing.T) {
	// Offsets 0 to 5 and 6 to 11 in two segments, batches of 2, 4, 3 and 3 records.
	segments := [][][]int64{{{5, 9}, {9, 2, 7, 3}}, {{6, 8, 1}, {8, 7, 6}}}
	for _, c := range []struct {
		name         string
		start, limit int64
		want         int64 // offset, -1 for none
	}{
		{"none is deleted", 0, 12, 1},
		{"the first of two stays", 1, 12, 1},
		{"the second is in the next batch", 2, 12, 2},
		{"the largest left is in the next segment", 3, 12, 7},
		{"the rest of the segment has less", 5, 12, 7},
		{"the segment is gone", 6, 12, 7},
		{"its first batch begins below the start", 8, 12, 9},
		{"the last batch begins below the start", 10, 12, 10},
		{"the last record", 11, 12, 11},
		{"no record", 12, 12, -1},
		{"it lies beyond the limit", 3, 7, -1},
		{"it is the last below the limit", 3, 8, 7},
	} {
		for _, codec := range []record.Codec{record.None, record.LZ4} {
			o := options(newMem(t))
			o.Config = Config{IndexIntervalBytes: 1}
			l := open(t, o)
			var stamps []int64
			for i, s := range segments {
				if i > 0 {
					check(t, l.Roll())
				}
				for _, b := range s {
					var recs []rec
					for _, at := range b {
						recs = append(recs, rec{t0 + at, "", "v"})
					}
					appendTo(t, l, batch(t, codec, record.NoProducer, recs...))
					stamps = append(stamps, b...)
				}
			}
			l.SetHighWatermark(l.EndOffset())
			check(t, l.AdvanceStart(c.start))
			for range 2 { // as it is, and opened again
				found, ok, err := l.MaxTimestampOffset(c.limit)
				check(t, err)
				if ok != (c.want >= 0) || ok && (found.Offset != c.want || found.Timestamp != t0+stamps[c.want]) {
					t.Errorf("%s, codec %v: %+v, %t; want %d", c.name, codec, found, ok, c.want)
				}
				l = reopenClean(t, l)
			}
		}
	}
}

// While no record with the largest timestamp is deleted, an index leads to it.
func TestMaxTimestampReadsLittle(t *testing.T) {
	m := newMem(t)
	var reads atomic.Int64
	o := options(vfs.Inject(m, func(op vfs.Op, _ string) error {
		if op == vfs.OpRead {
			reads.Add(1)
		}
		return nil
	}))
	o.Config = Config{IndexIntervalBytes: 1000, TimestampAfterMax: 1 << 60}
	l := open(t, o)
	big := strings.Repeat("x", 1000)
	for i := range int64(500) {
		appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0 + i%300, "", big}))
	}
	l.SetHighWatermark(l.EndOffset())
	check(t, l.AdvanceStart(200))
	before := reads.Load()
	if found, ok, err := l.MaxTimestampOffset(500); found.Offset != 299 || !ok || err != nil || reads.Load()-before > 20 {
		t.Errorf("%+v, %t, %v after %d reads", found, ok, err, reads.Load()-before)
	}
	check(t, l.AdvanceStart(350))
	if found, ok, err := l.MaxTimestampOffset(500); found.Offset != 499 || !ok || err != nil {
		t.Errorf("%+v, %t, %v once that is deleted", found, ok, err)
	}
}
