package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/compact"
	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/record"
)

const (
	dedupeBuffer    = 128 << 20 // log.cleaner.dedupe.buffer.size
	compactValue    = 170       // bytes, which makes records of about 200
	compactKey      = 20
	compactOften    = 5 // records of a key
	compactBatch    = 64 << 10
	compactSegments = 10
)

// compaction compacts one log with either: the same batches in as many segments,
// of which the last is appended to and not compacted. klamm is measured without
// a broker, whose part is only to call log.Compact.
func compaction(ctx context.Context, o options, name string, _ *systems.Process, _ int) (map[string]float64, error) {
	dir := filepath.Join(o.storageDir(), name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	switch name {
	case "klamm":
		j := job{Dir: filepath.Join(dir, "t-0"), Total: o.compact, Segment: o.compact / compactSegments}
		if _, err := child(ctx, "dirty", j); err != nil {
			return nil, err
		}
		return child(ctx, "compact", j)
	case "jvm":
		return compactJVM(ctx, o, dir)
	}
	return nil, nil // kfake keeps what it gets
}

// dirtyBatches calls f with batches of about total bytes: every key comes
// compactOften times, in random order, which is the same each time.
func dirtyBatches(total int64, f func(record.Batch) error) error {
	r := rand.New(rand.NewPCG(7, 7))
	keys := make([]uint32, total/(compactValue+compactKey+10))
	for i := range keys {
		keys[i] = uint32(i / compactOften)
	}
	r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	b := record.NewBuilder(record.None, 0)
	value, now := make([]byte, compactValue), time.Now().UnixMilli()
	for i, key := range keys {
		binary.LittleEndian.PutUint64(value[r.IntN(len(value)-8):], r.Uint64())
		b.Append(now, fmt.Appendf(nil, "key-%0*d", compactKey-4, key), value, nil)
		if b.Size() < compactBatch && i+1 < len(keys) {
			continue
		}
		batch, err := b.Finish(record.NoProducer)
		if err == nil {
			err = f(batch)
		}
		if err != nil {
			return err
		}
		b.Reset()
	}
	return nil
}

// dirtyLog writes the log that compactRound compacts.
func dirtyLog(j job) (map[string]float64, error) {
	l, err := openLog(j.Dir, log.Config{SegmentBytes: j.Segment, Compact: true})
	if err != nil {
		return nil, err
	}
	err = dirtyBatches(j.Total, func(b record.Batch) error {
		_, err := l.Append(b, log.AppendOptions{})
		return err
	})
	return nil, errors.Join(err, l.Close())
}

// compactRound compacts a log.
func compactRound(j job) (map[string]float64, error) {
	l, err := log.Open(log.Options{Dir: j.Dir, Topic: "t", Config: log.Config{SegmentBytes: j.Segment, Compact: true}, CleanShutdown: true,
		Discard: func([]string, time.Duration) {}}) // a broker removes what was replaced a minute later
	if err != nil {
		return nil, err
	}
	l.SetHighWatermark(l.EndOffset())
	dirty, err := closedBytes(j.Dir)
	if err != nil {
		return nil, err
	}
	base, err := systems.Status(os.Getpid(), "VmRSS")
	if err != nil {
		return nil, err
	}
	m := compact.NewMap(dedupeBuffer)
	var result log.CompactResult
	took, err := spend(func() (err error) {
		result, err = l.Compact(log.CompactOptions{Map: m, FirstDirty: -1, Now: time.Now()})
		return err
	})
	if err != nil {
		return nil, err
	}
	peak, err := systems.Status(os.Getpid(), "VmHWM")
	if err != nil {
		return nil, err
	}
	kept, err := closedBytes(j.Dir)
	figures := took.per(dirty)
	figures["kept %"] = float64(kept) / float64(dirty) * 100
	figures["million keys"] = float64(m.Len()) / 1e6
	figures["peak RSS above base MB"] = float64((peak-base)<<10) / 1e6
	figures["map MB"] = float64(m.Bytes()) / 1e6
	if result.Next == 0 {
		err = errors.Join(err, errors.New("nothing was compacted"))
	}
	return figures, errors.Join(err, l.Close())
}

// closedBytes returns the bytes in the segments of a partition that are no longer
// appended to.
func closedBytes(dir string) (n int64, err error) {
	names, err := segmentFiles(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range names[:len(names)-1] {
		info, err := os.Stat(name)
		if err != nil {
			return 0, err
		}
		n += info.Size()
	}
	return n, nil
}

// compactJVM starts a JVM broker that compacts at once what it may, warms its
// cleaner up, and measures it.
func compactJVM(ctx context.Context, o options, dir string) (map[string]float64, error) {
	p, err := systems.JVM(dir, "log.cleaner.threads=1", fmt.Sprint("log.cleaner.dedupe.buffer.size=", dedupeBuffer), "log.cleaner.backoff.ms=10")
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	if _, err := cleanTopic(ctx, p, dir, "warm", o.compact/4); err != nil { // compiles the cleaner
		return nil, fmt.Errorf("warm: %w", err)
	}
	return cleanTopic(ctx, p, dir, "t", o.compact)
}

// cleanTopic produces into a compacted topic that its min.compaction.lag.ms holds
// back, and lets the cleaner loose on it. The time is that from the change of the
// configuration until cleaner-offset-checkpoint names the topic, which is how a
// round ends.
func cleanTopic(ctx context.Context, p *systems.Process, dir, topic string, total int64) (map[string]float64, error) {
	if err := makeTopic(ctx, p, topic, 1, map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.001",
		"segment.bytes": fmt.Sprint(total / compactSegments), "min.compaction.lag.ms": "86400000"}); err != nil {
		return nil, err
	}
	if err := produceDirty(ctx, p, topic, total); err != nil {
		return nil, err
	}
	logs := filepath.Join(dir, "logs")
	dirty, err := closedBytes(filepath.Join(logs, topic+"-0"))
	if err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var took time.Duration
	user, system, err := used(p, func() error {
		now := "0"
		begin := time.Now()
		r, err := kadm.NewClient(cl).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "min.compaction.lag.ms", Value: &now}}, topic)
		if err == nil && r[0].Err != nil {
			err = r[0].Err
		}
		if err == nil {
			err = awaitCleaned(ctx, filepath.Join(logs, "cleaner-offset-checkpoint"), topic)
		}
		took = time.Since(begin)
		return err
	})
	if err != nil {
		return nil, err
	}
	kept, err := closedBytes(filepath.Join(logs, topic+"-0"))
	figures := spent{took, user, system}.per(dirty)
	figures["kept %"] = float64(kept) / float64(dirty) * 100
	return figures, err
}

// produceDirty sends the batches one after the other, so that they are appended
// as they are.
func produceDirty(ctx context.Context, p *systems.Process, topic string, total int64) error {
	c, err := rawDial(p.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return dirtyBatches(total, func(b record.Batch) error {
		frame, err := rawProduce(topic, 0, b)
		if err != nil {
			return err
		}
		return retry(ctx, func() error { return c.exchange(frame) })
	})
}

func awaitCleaned(ctx context.Context, name, topic string) error {
	limit := time.After(2 * time.Minute)
	for {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if strings.Contains(string(text), "\n"+topic+" 0 ") {
			return nil
		}
		select {
		case <-limit:
			return fmt.Errorf("%s was not compacted within 2 minutes", topic)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond): // a file does not tell when it changes
		}
	}
}
