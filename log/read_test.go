package log

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// Readers run beside a writer that appends, rolls and truncates.
func TestConcurrentReaders(t *testing.T) {
	o := options(vfs.NewMem())
	o.Config = Config{SegmentBytes: 20_000, IndexIntervalBytes: 500}
	l := open(t, o)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for {
				select {
				case <-done:
					return
				default:
				}
				offset := r.Int64N(l.EndOffset() + 1)
				c, err := l.Read(offset, l.EndOffset(), 1+r.IntN(5000), true)
				var out *OutOfRangeError
				if errors.As(err, &out) {
					continue
				}
				if err != nil {
					t.Errorf("read at %d: %v", offset, err)
					return
				}
				if b, err := c.Bytes(); err == nil && len(b) > 0 {
					first, _, _ := record.Next(b)
					if first != nil && (first.Validate() != nil || first.LastOffset() < offset) {
						t.Errorf("read at %d: batch %d to %d, %v", offset, first.BaseOffset(), first.LastOffset(), first.Validate())
					}
				}
				c.Release()
				l.OffsetForTime(t0+1, l.EndOffset())
				l.EpochEndOffset(1)
				l.LastStableOffset()
			}
		})
	}
	for i := range 1500 {
		appendTo(t, l, plain(t, fmt.Sprint("value", i), "and another one"))
		l.SetHighWatermark(l.EndOffset())
		if i%400 == 399 {
			check(t, l.Roll())
			check(t, l.Flush())
		}
	}
	close(done)
	wg.Wait()
	check(t, l.Delete())
	if _, err := l.Read(0, 10, 100, true); err != ErrClosed {
		t.Errorf("read after delete: %v", err)
	}
}

func TestReaderKeepsWhatItHolds(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "os": vfs.OS()} {
		o := options(fs)
		o.Dir = t.TempDir() + "/p-0"
		if name == "memory" {
			o.Dir = "/p-0"
		}
		l := open(t, o)
		appendTo(t, l, plain(t, "kept"))
		c, err := l.Read(0, 1, 1<<20, true)
		check(t, err)
		check(t, l.Delete())
		if b, err := c.Bytes(); err != nil || record.Batch(b).Validate() != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		c.Release()
		if names, _ := fs.List(o.Dir); len(names) != 0 {
			t.Errorf("%s: left %v", name, names)
		}
	}
}

func TestReadLimits(t *testing.T) {
	l := open(t, options(vfs.NewMem()))
	one := plain(t, "a", "b")
	for range 40 {
		appendTo(t, l, bytes.Clone(one))
	}
	size := len(one)
	for _, c := range []struct {
		name          string
		offset, limit int64
		max           int
		minOne        bool
		want          int
	}{
		{"all", 0, 80, 1 << 20, false, 40 * size},
		{"from the middle of a batch", 3, 80, 1 << 20, false, 39 * size},
		{"below a limit", 0, 20, 1 << 20, false, 10 * size},
		{"below a limit near the end", 70, 78, 1 << 20, false, 4 * size},
		{"cut off", 0, 80, size + 5, false, size + 5},
		{"first does not fit", 0, 80, size - 1, false, 0},
		{"first does not fit, but must", 0, 80, 0, true, size},
		{"at the limit", 20, 20, 1 << 20, true, 0},
		{"at the end", 80, 80, 1 << 20, true, 0},
	} {
		r, err := l.Read(c.offset, c.limit, c.max, c.minOne)
		check(t, err)
		if r.Len() != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, r.Len(), c.want)
		}
		r.Release()
	}
	var e *OutOfRangeError
	if _, err := l.Read(81, 100, 100, true); !errors.As(err, &e) || e.End != 80 {
		t.Errorf("beyond the end: %v", err)
	}
}
