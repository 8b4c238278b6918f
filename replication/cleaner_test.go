package replication_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/wire/record"
)

// The cleaner compacts what is due, remembers how far it came, also over a
// restart, and takes no more bytes a second than it may.
func TestCleaner(t *testing.T) {
	m := vfs.NewMem()
	clk := clock.NewVirtual(time.Now())
	m.SetNow(clk.Now)
	s := openStore(t, m, clk, "/d", "log.cleaner.threads=2", "log.cleaner.dedupe.buffer.size=4194304")
	s.create("compacted", 3, "cleanup.policy=compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=0.1")
	s.create("kept", 1)
	s.create("never", 1, "cleanup.policy=compact,compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=NaN")
	value := strings.Repeat("x", 50_000)
	for _, p := range []*replication.Partition{s.r.Get("compacted", 0), s.r.Get("compacted", 1), s.r.Get("compacted", 2), s.r.Get("never", 0)} {
		for range 50 {
			b := record.NewBuilder(record.None, 0)
			b.Append(clk.Now().UnixMilli(), []byte("key"), []byte(value), nil)
			out, err := b.Finish(record.NoProducer)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := p.Append(out, replication.AcksAll, log.AppendOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := s.r.Get("compacted", 0).Log().Size()
	if err := s.r.Clean(s.c.Image()); err != nil {
		t.Fatal(err)
	}
	for i := range int32(3) {
		p := s.r.Get("compacted", i)
		if size := p.Log().Size(); size > before/2 || p.Log().EndOffset() != 50 {
			t.Errorf("partition %d: %d bytes of %d are left, log end %d", i, size, before, p.Log().EndOffset())
		}
	}
	if l := s.r.Get("never", 0).Log(); !l.Config().Compact || l.Size() != before {
		t.Errorf("compacted though no log is dirty enough: %d bytes of %d are left", l.Size(), before)
	}
	text, err := vfs.ReadFile(m, "/d/cleaner-offset-checkpoint")
	if err != nil || !strings.HasPrefix(string(text), "0\n3\ncompacted ") {
		t.Errorf("checkpoint %q, %v", text, err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, m, clk, "/d")
	reads := func() int64 { return s.r.Get("compacted", 0).Log().Size() }
	size := reads()
	if err := s.r.Clean(s.c.Image()); err != nil || reads() != size {
		t.Errorf("compacted again from the start after a restart: %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

// What is written after a truncation was never compacted, though records at those
// offsets were: also where the truncation came while a round was under way, which
// notes how far it came.
func TestTruncationLowersTheCleanersCheckpoint(t *testing.T) {
	const keys, size, full = 10, 30_000, 100
	for _, c := range []struct {
		name   string
		cut    func(*replication.Partition) error
		during bool
	}{
		{"to an offset inside of what is compacted", func(p *replication.Partition) error { return p.TruncateTo(60) }, false},
		{"to an offset in the active segment", func(p *replication.Partition) error { return p.TruncateTo(90) }, false},
		{"of all", func(p *replication.Partition) error { return p.TruncateFullyAndStartAt(20) }, false},
		{"during a round", func(p *replication.Partition) error { return p.TruncateTo(60) }, true},
	} {
		m := vfs.NewMem()
		var s *store
		cut := func() {
			if err := c.cut(s.r.Get("t", 0)); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		lg := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.InfoLevel), zap.Hooks(func(e zapcore.Entry) error {
			if e.Message == "compacted log" && c.during { // what came of it is noted next
				c.during = false
				cut()
			}
			return nil
		}))
		s = openStoreLogging(t, m, clock.System(), lg, "/d", "log.cleaner.threads=1", "log.cleaner.dedupe.buffer.size=4194304")
		s.create("t", 1, "cleanup.policy=compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=0.01")
		l := s.r.Get("t", 0).Log()
		fill := func() {
			for o := l.EndOffset(); o < full; o++ {
				b := record.NewBuilder(record.None, 0)
				b.Append(time.Now().UnixMilli(), fmt.Append(nil, "key", o%keys), make([]byte, size), nil)
				out, err := b.Finish(record.NoProducer)
				if err != nil {
					t.Fatal(err)
				}
				record.Batch(out).SetBaseOffset(o)
				if _, err := l.AppendAsFollower(out); err != nil {
					t.Fatal(err)
				}
			}
			l.SetHighWatermark(full)
		}
		checkpoint := func() (offset int64) {
			text, err := vfs.ReadFile(m, "/d/cleaner-offset-checkpoint")
			if errors.Is(err, os.ErrNotExist) {
				return -1
			}
			if _, e := fmt.Sscanf(string(text), "0\n1\nt 0 %d\n", &offset); err != nil || e != nil {
				t.Fatalf("%s: checkpoint %q, %v", c.name, text, err)
			}
			return offset
		}
		fill()
		during := c.during
		if err := s.r.Clean(s.c.Image()); err != nil {
			t.Fatal(err)
		}
		if !during {
			before := checkpoint()
			cut()
			if got, want := checkpoint(), min(before, l.EndOffset()); got != want {
				t.Errorf("%s: checkpoint %d, %d before, want %d", c.name, got, before, want)
			}
		} else if got := checkpoint(); got > l.EndOffset() {
			t.Errorf("%s: checkpoint %d, log end %d", c.name, got, l.EndOffset())
		}
		fill()
		if err := s.r.Clean(s.c.Image()); err != nil {
			t.Fatal(err)
		}
		records := make(map[string]int)
		err := l.Each(l.StartOffset(), checkpoint(), func(b record.Batch) error {
			it := b.Iterate(0)
			defer it.Close()
			for it.Next() {
				records[string(it.Record().Key)]++
			}
			return it.Err()
		})
		if err != nil || len(records) == 0 {
			t.Fatalf("%s: %d keys, %v", c.name, len(records), err)
		}
		for key, n := range records {
			if n > 1 {
				t.Errorf("%s: %d records of %s are left below %d", c.name, n, key, checkpoint())
			}
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}
}

// A round of the cleaner that ends when the topic was deleted says nothing of the
// one that is made again under its name.
func TestTopicDeletedDuringARoundOfTheCleaner(t *testing.T) {
	m := vfs.NewMem()
	var s *store
	var remade atomic.Bool
	lg := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.InfoLevel), zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "compacted log" && remade.CompareAndSwap(false, true) { // what came of it is noted next
			s.remake("t")
		}
		return nil
	}))
	s = openStoreLogging(t, m, clock.System(), lg, "/d", "log.cleaner.threads=1", "log.cleaner.dedupe.buffer.size=4194304")
	s.create("t", 1, "cleanup.policy=compact", "min.cleanable.dirty.ratio=0.01")
	l := s.r.Get("t", 0).Log()
	for range 2 {
		b := record.NewBuilder(record.None, 0)
		b.Append(time.Now().UnixMilli(), []byte("key"), []byte("value"), nil)
		out, err := b.Finish(record.NoProducer)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.r.Get("t", 0).Append(out, replication.AcksAll, log.AppendOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.r.Clean(s.c.Image()); err != nil {
		t.Fatal(err)
	}
	if text, err := vfs.ReadFile(m, "/d/cleaner-offset-checkpoint"); !remade.Load() || err == nil && strings.Contains(string(text), "t 0") {
		t.Errorf("made again %t, checkpoint %q", remade.Load(), text)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// A throttled round takes its time, and ends at once when the broker does.
func TestCleanerIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		s := openStore(t, m, clock.System(), "/d", "log.cleaner.io.max.bytes.per.second=100000")
		s.create("compacted", 1, "cleanup.policy=compact", "segment.bytes=1048576", "min.cleanable.dirty.ratio=0.1")
		p := s.r.Get("compacted", 0)
		fill := func() {
			for range 50 {
				b := record.NewBuilder(record.None, 0)
				b.Append(time.Now().UnixMilli(), []byte("key"), make([]byte, 50_000), nil)
				out, err := b.Finish(record.NoProducer)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := p.Append(out, replication.AcksAll, log.AppendOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		fill()
		began, size := time.Now(), p.Log().Size()
		if err := s.r.Clean(s.c.Image()); err != nil {
			t.Fatal(err)
		}
		// Two passes over two of three segments, at 100 KB a second.
		if took := time.Since(began); took < 35*time.Second || took > 60*time.Second {
			t.Errorf("%d bytes took %v", size, took)
		}
		fill()
		done := make(chan error)
		go func() { done <- s.r.Clean(s.c.Image()) }()
		time.Sleep(3 * time.Second)
		began = time.Now()
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil || time.Since(began) > 0 {
			t.Errorf("closing took %v, %v", time.Since(began), err)
		}
	})
}
