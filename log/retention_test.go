package log

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// retained is a log of five segments of one record each, a minute apart, and an
// active one with a sixth.
func retained(t *testing.T, c Config) (*Log, *vfs.Mem) {
	m := newMem(t)
	m.SetNow(func() time.Time { return time.UnixMilli(t0) })
	o := options(m)
	c.TimestampAfterMax = 1 << 60
	o.Config = c
	l := open(t, o)
	for i := range int64(6) {
		if i > 0 {
			check(t, l.Roll())
		}
		appendTo(t, l, plainAt(t, t0+i*60_000))
	}
	l.SetHighWatermark(l.EndOffset())
	return l, m
}

func TestRetention(t *testing.T) {
	size := func() int64 {
		l, _ := retained(t, Config{})
		return l.Size() / 6
	}()
	for _, c := range []struct {
		name  string
		c     Config
		high  int64 // high watermark
		start int64 // log start offset
		now   int64 // minutes
		want  int64 // log start offset then
	}{
		{"all kept", Config{Delete: true}, 6, 0, 1_000_000, 0},
		{"two too old", Config{Delete: true, Retention: 3 * time.Minute}, 6, 0, 5, 2},
		{"exactly as old as allowed", Config{Delete: true, Retention: 3 * time.Minute}, 6, 0, 3, 0},
		{"all too old, the active segment too", Config{Delete: true, Retention: time.Minute}, 6, 0, 60, 6},
		{"old, but not below the high watermark", Config{Delete: true, Retention: time.Minute}, 3, 0, 60, 3},
		{"old, but only compacted", Config{Compact: true, Retention: time.Minute}, 6, 0, 60, 0},
		{"too many bytes", Config{Delete: true, RetentionBytes: 3 * size}, 6, 0, 0, 3},
		{"not quite too many bytes", Config{Delete: true, RetentionBytes: 3*size + 1}, 6, 0, 0, 2},
		{"bytes and age together", Config{Delete: true, RetentionBytes: 5 * size, Retention: 3 * time.Minute}, 6, 0, 5, 2},
		{"below the log start offset", Config{}, 6, 3, 0, 3},
		{"the start inside the active segment", Config{}, 6, 6, 0, 6},
	} {
		l, m := retained(t, c.c)
		l.highWatermark.Store(c.high)
		check(t, l.AdvanceStart(c.start))
		n, err := l.Retain(time.UnixMilli(t0 + c.now*60_000))
		check(t, err)
		if got := l.StartOffset(); got != c.want {
			t.Errorf("%s: log start offset %d, want %d; %d segments removed", c.name, got, c.want, n)
		}
		if again, err := l.Retain(time.UnixMilli(t0 + c.now*60_000)); again != 0 || err != nil {
			t.Errorf("%s: removed %d more the second time, %v", c.name, again, err)
		}
		names, err := m.List(l.dir)
		check(t, err)
		for _, name := range names {
			var base int64
			if _, err := fmt.Sscanf(name, "%020d.", &base); err == nil && base < l.FirstSegmentOffset() {
				t.Errorf("%s: left %s", c.name, name)
			}
		}
		want := fmt.Sprint(l.StartOffset(), l.EndOffset())
		if l = reopenClean(t, l); fmt.Sprint(l.StartOffset(), l.EndOffset()) != want {
			t.Errorf("%s: %d %d after a restart, want %s", c.name, l.StartOffset(), l.EndOffset(), want)
		}
		if i := appendTo(t, l, plainAt(t, t0)); i.BaseOffset != 6 {
			t.Errorf("%s: goes on at %d", c.name, i.BaseOffset)
		}
	}
}

// Records from the future do not keep their segment for ever: it is as old as
// its file.
func TestRetentionOfRecordsFromTheFuture(t *testing.T) {
	m := newMem(t)
	m.SetNow(func() time.Time { return time.UnixMilli(t0) })
	o := options(m)
	o.Config = Config{Delete: true, Retention: time.Hour, TimestampAfterMax: 1 << 60}
	l := open(t, o)
	appendTo(t, l, plainAt(t, t0+1_000_000_000_000))
	l.SetHighWatermark(1)
	if n, err := l.Retain(time.UnixMilli(t0 + 3_600_000)); n != 0 || err != nil {
		t.Errorf("removed %d after an hour, %v", n, err)
	}
	if n, err := l.Retain(time.UnixMilli(t0 + 3_600_001)); n != 1 || err != nil {
		t.Errorf("removed %d after more than an hour, %v", n, err)
	}
}

// What retention takes out keeps its files for a while under other names, and
// its readers for as long as they like.
func TestRetiredFilesWait(t *testing.T) {
	l, m := retained(t, Config{Delete: true, Retention: time.Minute, FileDeleteDelay: 7 * time.Second})
	var names []string
	var delay time.Duration
	l.o.Discard = func(n []string, d time.Duration) { names, delay = append(names, n...), d }
	c, err := l.Read(0, 6, 1<<20, true)
	check(t, err)
	if _, err := l.Retain(time.UnixMilli(t0 + 180_000)); err != nil {
		t.Fatal(err)
	}
	if l.StartOffset() != 2 || delay != 7*time.Second || len(names) == 0 {
		t.Fatalf("start %d, %v for %v", l.StartOffset(), delay, names)
	}
	for _, base := range []int64{0, 1} {
		name := segment.FileName(l.dir, base, segment.LogSuffix)
		if _, err := m.Stat(name + segment.DeletedSuffix); err != nil {
			t.Errorf("segment %d: %v", base, err)
		}
		if _, err := m.Stat(name); err == nil {
			t.Errorf("segment %d still has its name", base)
		}
	}
	if b, err := c.Bytes(); err != nil || len(b) == 0 {
		t.Errorf("what a reader holds: %d bytes, %v", len(b), err)
	}
	c.Release()
	check(t, l.Close())
	l = open(t, *l.o)
	left, err := m.List(l.dir)
	check(t, err)
	if strings.Contains(fmt.Sprint(left), segment.DeletedSuffix) {
		t.Errorf("after a restart: %v", left)
	}
}

// A segment of which compaction has left nothing does not keep those behind it.
func TestRetentionBehindAnEmptySegment(t *testing.T) {
	for name, conf := range map[string]Config{
		"time":  {Compact: true, Delete: true, Retention: time.Hour},
		"size":  {Compact: true, Delete: true, RetentionBytes: 1},
		"start": {Compact: true},
	} {
		o := options(newMem(t))
		conf.SegmentBytes = 100 // no two together
		o.Config, o.Sparse = conf, true
		l := open(t, o)
		for i := range 3 { // the first segment has nothing that stays
			appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0, "a", fmt.Sprint(i)}, rec{t0, fmt.Sprint("b", max(i, 1)), "v"}))
			check(t, l.Roll())
		}
		appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0 + 1, "c", "v"}))
		l.SetHighWatermark(l.EndOffset())
		compactOnce(t, l, -1, t0)
		if l.list()[0].Size() > 0 || len(l.list()) < 3 {
			t.Fatalf("%s: the first of %d segments has %d bytes", name, len(l.list()), l.list()[0].Size())
		}
		if name == "start" {
			check(t, l.AdvanceStart(l.EndOffset()-1))
		}
		_, err := l.Retain(time.UnixMilli(t0).Add(2 * time.Hour))
		check(t, err)
		if got := l.list()[0].Base(); got != l.EndOffset()-1 && got != l.EndOffset() {
			t.Errorf("%s: the log begins with segment %d, its end is %d", name, got, l.EndOffset())
		}
		l = reopenClean(t, l)
		check(t, l.Close())
	}
}
