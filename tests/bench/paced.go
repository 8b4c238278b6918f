package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/record"
)

const (
	pacedRate  = 500 // appends a second
	pacedCount = 1500
)

// interference measures appends at a fixed rate while the old segments of the
// same log are read again and again; name says how, or that they are not. The
// bare loops read the files past the log, which tells what comes of sharing the
// cores and the disk only.
func interference(ctx context.Context, o options, name string, _ *systems.Process, _ int) (map[string]float64, error) {
	return readerOf(ctx, o, "paced", job{What: name, Records: 16, Size: 1000, Segment: o.bytes / 8})
}

// pacedAppends appends beside a scan.
func pacedAppends(j job) (map[string]float64, error) {
	in, err := recordBatch(j.Records, j.Size)
	if err != nil {
		return nil, err
	}
	l, err := openLog(j.Dir, log.Config{SegmentBytes: j.Segment})
	if err != nil {
		return nil, err
	}
	var stopped atomic.Bool
	var scanned int64
	var scanErr error
	var wg sync.WaitGroup
	if j.What != "alone" {
		// What was appended by rounds before is not scanned: it is of no one size.
		to := min(l.EndOffset(), int64(readRecords)*(8*j.Segment/int64(len(in))))
		wg.Go(func() { scanned, scanErr = scanAgain(l, j, to, func() bool { return !stopped.Load() }) })
	}
	time.Sleep(200 * time.Millisecond)
	begin := time.Now()
	took, late, err := pace(l, in)
	wall := time.Since(begin)
	stopped.Store(true)
	wg.Wait()
	if err == nil {
		err = scanErr
	}
	if err != nil {
		return nil, err
	}
	figures := map[string]float64{"p50 us": quantile(took, 0.5), "p99 us": quantile(took, 0.99), "woken late p99 us": quantile(late, 0.99)}
	if j.What != "alone" {
		figures["scan MB/s"] = float64(scanned) / 1e6 / (wall + 200*time.Millisecond).Seconds()
	}
	return figures, l.Close()
}

// pace appends at the fixed rate, whether or not the append before was slow. An
// append is timed from when it was due. How late this thread was woken, which the
// log has no part in, is told apart: it moves what was due meanwhile, too.
func pace(l *log.Log, in record.Batch) (took, late []float64, err error) {
	begin := time.Now()
	var shift time.Duration
	for i := range pacedCount {
		due := begin.Add(time.Duration(i) * time.Second / pacedRate)
		from := due.Add(shift)
		if d := time.Until(due); d > 0 {
			nanosleep(d)
			from = time.Now()
			shift = from.Sub(due)
			late = append(late, us(shift))
		} else if now := time.Now(); from.After(now) {
			from = now
		}
		in.SetBaseOffset(0)
		if _, err := l.Append(in, log.AppendOptions{}); err != nil {
			return nil, nil, err
		}
		took = append(took, us(time.Since(from)))
	}
	return took, late, nil
}

// nanosleep has the kernel wake this thread. Go's timers fire up to 25 ms late
// while another goroutine calls sendfile without a pause.
func nanosleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&t, nil)
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// quantile returns the value below which the share q of v lies, 0 of none.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[int(q*float64(len(v)-1))]
}

var errStopped = errors.New("stopped")

// scanAgain reads the log up to offset to from its beginning, again and again
// while more is true, and returns the number of bytes.
func scanAgain(l *log.Log, j job, to int64, more func() bool) (bytes int64, err error) {
	c, err := dial(j.Addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	files, err := segmentFiles(j.Dir)
	if err != nil {
		return 0, err
	}
	files = files[:min(len(files), 7)]
	buf := make([]byte, bareChunk)
	count := func(n int64, err error) error {
		bytes += n
		return err
	}
	for err == nil && more() {
		switch j.What {
		case "Each":
			err = l.Each(l.StartOffset(), to, func(b record.Batch) error {
				bytes += int64(len(b))
				if !more() {
					return errStopped
				}
				return nil
			})
		case "sendfile":
			err = count(sendRange(c, l, l.StartOffset(), to, more))
		case "bare read":
			for i := 0; err == nil && i < len(files) && more(); i++ {
				err = count(checkFile(files[i], buf))
			}
		case "bare sendfile":
			for i := 0; err == nil && i < len(files) && more(); i++ {
				err = count(sendFile(c, files[i]))
			}
		}
	}
	if errors.Is(err, errStopped) {
		err = nil
	}
	return bytes, err
}
