package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/record"
)

// appends measures a log, without a broker, beside writes of the same bytes.
func appends(partitions, records, size int) func(context.Context, options, string, *systems.Process, int) (map[string]float64, error) {
	return func(ctx context.Context, o options, name string, _ *systems.Process, round int) (map[string]float64, error) {
		dir := filepath.Join(o.storageDir(), name)
		j := job{What: name, Dir: dir, Partitions: partitions, Records: records, Size: size, Total: o.bytes}
		if round == 0 { // what it takes of memory may be cold
			if _, err := appendAnew(ctx, j); err != nil {
				return nil, err
			}
		}
		return appendAnew(ctx, j)
	}
}

// appendAnew removes what the last round wrote, whose memory is free now and
// warm, and appends. Files are not rewritten: that would spare the bare loop the
// making of pages.
func appendAnew(ctx context.Context, j job) (map[string]float64, error) {
	if err := errors.Join(os.RemoveAll(j.Dir), os.MkdirAll(j.Dir, 0o755)); err != nil {
		return nil, err
	}
	return child(ctx, "append", j)
}

// recordBatch makes a batch as a producer sends it.
func recordBatch(records, size int) (record.Batch, error) {
	b := record.NewBuilder(record.None, 0)
	value := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
	for range records {
		b.Append(time.Now().UnixMilli(), nil, value, nil)
	}
	out, err := b.Finish(record.NoProducer)
	return record.Batch(out), err
}

// directory is the log directory of all logs of a process.
var directory log.Fault

// openLog opens a log that was closed in order, or makes one.
func openLog(dir string, c log.Config) (*log.Log, error) {
	return log.Open(log.Options{Dir: dir, Topic: "t", Config: c, CleanShutdown: true, Fault: &directory})
}

// appendLoop appends one batch again and again, to one partition after the
// other.
func appendLoop(j job) (map[string]float64, error) {
	in, err := recordBatch(j.Records, j.Size)
	if err != nil {
		return nil, err
	}
	write := bareWrites
	if j.What == "log" {
		write = logAppends
	}
	next, err := write(j, in)
	if err != nil {
		return nil, err
	}
	for i := range j.Partitions { // makes the files
		if err := next(i); err != nil {
			return nil, err
		}
	}
	n := int(j.Total / int64(len(in)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	took, err := spend(func() error {
		for i := range n {
			if err := next(i % j.Partitions); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	runtime.ReadMemStats(&after)
	figures := took.per(int64(n) * int64(len(in)))
	figures["allocs/record"] = float64(after.Mallocs-before.Mallocs) / float64(n) / float64(j.Records)
	figures["bytes alloc/record"] = float64(after.TotalAlloc-before.TotalAlloc) / float64(n) / float64(j.Records)
	return figures, nil
}

// logAppends returns what appends in to partition i.
func logAppends(j job, in record.Batch) (func(i int) error, error) {
	logs := make([]*log.Log, j.Partitions)
	for i := range logs {
		var err error
		if logs[i], err = openLog(filepath.Join(j.Dir, fmt.Sprint("t-", i)), log.Config{}); err != nil {
			return nil, err
		}
	}
	return func(i int) error {
		in.SetBaseOffset(0)
		_, err := logs[i].Append(in, log.AppendOptions{})
		return err
	}, nil
}

// bareWrites returns what writes in to the end of file i.
func bareWrites(j job, in record.Batch) (func(i int) error, error) {
	files, ends := make([]*os.File, j.Partitions), make([]int64, j.Partitions)
	for i := range files {
		var err error
		if files[i], err = os.Create(filepath.Join(j.Dir, fmt.Sprint("f-", i))); err != nil {
			return nil, err
		}
	}
	return func(i int) error {
		_, err := files[i].WriteAt(in, ends[i])
		ends[i] += int64(len(in))
		return err
	}, nil
}
