package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/wire/kerr"
)

// benchFlags are those of the benchmarks.
type benchFlags struct {
	size        int
	count       int64
	duration    time.Duration
	rate        float64
	partitions  int32
	replicas    int16
	acks, codec string
	properties  []string
}

func newBench(g *globals) *cobra.Command {
	return group("bench", "Measure a cluster", newBenchProduce(g), newBenchConsume(g), newBenchLatency(g))
}

// benchHelp describes what all benchmarks share.
const benchHelp = `Latencies are in milliseconds, MB are 10^6 bytes of values. With --rate the load is an open loop: each record is due at a time that does
not depend on how the cluster keeps up, and its latency counts from then (no coordinated omission). Without, records are sent as fast
as the producer takes them, and a latency counts from the call. The topic is created if it does not exist.`

func (f *benchFlags) register(cmd *cobra.Command, rate float64) {
	fl := cmd.Flags()
	fl.IntVarP(&f.size, "size", "s", 1024, "bytes of each value, random")
	fl.Int64VarP(&f.count, "count", "n", 0, "records; 0 means as many as fit --duration")
	fl.DurationVarP(&f.duration, "duration", "d", 0, "how long; default 10s unless there is a --count")
	fl.Float64Var(&f.rate, "rate", rate, "records per second; 0 means as many as can be")
	fl.Int32VarP(&f.partitions, "partitions", "p", 6, "partitions of the topic if it is created")
	fl.Int16VarP(&f.replicas, "replicas", "r", 0, "replicas of each; 0 means the broker's default")
	fl.StringVarP(&f.codec, "compression", "z", "", "none, gzip, snappy, lz4 or zstd")
	fl.StringVar(&f.acks, "acks", "", "0, 1 or all; default all")
	fl.StringArrayVarP(&f.properties, "property", "X", nil, "producer property by Kafka's name, as key=value; may be repeated")
	cmd.RegisterFlagCompletionFunc("compression", cobra.FixedCompletions([]string{"none", "gzip", "snappy", "lz4", "zstd"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("acks", cobra.FixedCompletions([]string{"0", "1", "all"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("property", completeKeys(config.KindProducer, "="))
}

// check refuses what makes no sense and sets what was left out.
func (f *benchFlags) check(least int) error {
	switch {
	case f.size < least:
		return usagef("--size %d: want at least %d", f.size, least)
	case f.count < 0 || f.duration < 0 || f.rate < 0:
		return usagef("--count, --duration and --rate must not be negative")
	case f.partitions < 1:
		return usagef("--partitions %d: want at least 1", f.partitions)
	}
	if f.count == 0 && f.duration == 0 {
		f.duration = 10 * time.Second
	}
	return nil
}

func newBenchProduce(g *globals) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use: "produce TOPIC", Short: "Measure how fast records are written and acknowledged", Long: benchHelp,
		Example: `  klamm bench produce load -s 1024 -d 30s -z lz4
  klamm bench produce load --rate 10000 -X linger.ms=0 --format json`,
		Args: topics(between(1, 1, "one TOPIC"), 1), ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(0); err != nil {
				return err
			}
			return f.run(cmd, g, args[0], func(ctx context.Context, p *client.Producer, out *rows) error {
				return f.produce(ctx, cmd, g, p, args[0], out)
			})
		},
	}
	f.register(cmd, 0)
	return cmd
}

// run does what all benchmarks that write have in common.
func (f *benchFlags) run(cmd *cobra.Command, g *globals, topic string, measure func(context.Context, *client.Producer, *rows) error) error {
	pr, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	o, err := producerOptions(cmd, g, f.properties, f.acks, f.codec)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	err = g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
		results, err := a.CreateTopics(ctx, []client.NewTopic{{Name: topic, Partitions: f.partitions, Replication: f.replicas}}, false)
		if e := results[topic]; err == nil && e != nil && !errors.Is(e, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create %s: %w", topic, e)
		}
		return err
	})
	if err != nil {
		return err
	}
	p, err := client.NewProducer(o)
	if err != nil {
		return usageError{err}
	}
	defer func() {
		last, stop := closing(ctx)
		defer stop()
		p.Close(last)
	}()
	if _, err := p.Partitions(ctx, topic); err != nil { // that the first record does not wait for it
		return g.waited(ctx, err, "topic "+topic)
	}
	out := &rows{columns: benchColumns}
	err = measure(ctx, p, out)
	if len(out.values) > 0 {
		err = errors.Join(err, pr.print("", out))
	}
	return err
}

// flushGrace is how long a benchmark whose time is over waits for what it has
// sent: a broker that has died does not make it longer.
const flushGrace = 5 * time.Second

func (f *benchFlags) produce(ctx context.Context, cmd *cobra.Command, g *globals, p *client.Producer, topic string, out *rows) error {
	began := time.Now()
	acks := newMeter(began)
	payload := newPayload(f.size)
	stopped := f.load(ctx, f.bar(cmd, g, "producing"), func(ctx context.Context, due time.Time, _ int64) error {
		return p.SendFunc(ctx, &client.Record{Topic: topic, Value: payload.next()}, func(_ client.RecordMetadata, err error) {
			acks.sent(f.size, due, err)
		})
	})
	err := errors.Join(stopped, f.settle(ctx, p))
	out.add(acks.row("produce")...)
	return g.waited(ctx, errors.Join(acks.failure(), err), "the records to be written")
}

// settle waits for what was sent. If the time is over, or ctx has ended, it gives
// up soon, and what is not acknowledged then has failed.
func (f *benchFlags) settle(ctx context.Context, p *client.Producer) error {
	waiting, stop := ctx, context.CancelFunc(func() {})
	switch {
	case ctx.Err() != nil:
		waiting, stop = closing(ctx)
	case f.duration > 0:
		waiting, stop = context.WithTimeout(ctx, flushGrace)
	}
	defer stop()
	err := p.Flush(waiting)
	if err == nil {
		return nil
	}
	p.Close(waiting) // it has ended: what is left fails
	if ctx.Err() == nil && waiting.Err() != nil {
		return nil // the failures say it
	}
	return err
}

// load calls send for every record, at the time that it is due. It ends with the
// count, the duration, ctx, or send's first error. The context of send ends with
// the duration, so that a broker which does not answer does not make it longer.
func (f *benchFlags) load(ctx context.Context, bar *bar, send func(ctx context.Context, due time.Time, i int64) error) error {
	defer bar.finish()
	began := time.Now()
	sending := ctx
	if f.duration > 0 {
		var stop context.CancelFunc
		sending, stop = context.WithDeadline(ctx, began.Add(f.duration))
		defer stop()
	}
	for i := int64(0); f.count == 0 || i < f.count; i++ {
		due := time.Now()
		if f.rate > 0 {
			due = began.Add(time.Duration(float64(i) / f.rate * float64(time.Second)))
		}
		if f.duration > 0 && due.Sub(began) >= f.duration {
			return nil
		}
		if wait := time.Until(due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := send(sending, due, i); err != nil {
			if ctx.Err() == nil && sending.Err() != nil {
				return nil
			}
			return err
		}
		bar.at(i+1, f.count, due.Sub(began), f.duration)
	}
	return nil
}

// payload makes values that do not compress.
type payload struct {
	random []byte
	size   int
	r      *rand.Rand
}

func newPayload(size int) *payload {
	p := &payload{size: size, r: rand.New(rand.NewPCG(1, 2)), random: make([]byte, size+1<<20)}
	source := rand.NewChaCha8([32]byte{})
	source.Read(p.random)
	return p
}

// next returns the next value, which must not be changed.
func (p *payload) next() []byte {
	at := p.r.IntN(len(p.random) - p.size + 1)
	return p.random[at : at+p.size]
}

// meter counts records and their latencies. It is safe for concurrent use.
type meter struct {
	mu     sync.Mutex
	h      *hdrhistogram.Histogram // microseconds
	n      int64
	bytes  int64
	failed int64
	first  error // of those that failed
	began  time.Time
	last   time.Time // when the last one was done, began if none was
}

// slowest is the longest latency that is told apart from longer ones.
const slowest = time.Hour

func newMeter(began time.Time) *meter {
	return &meter{h: hdrhistogram.New(1, slowest.Microseconds(), 3), began: began, last: began}
}

// sent notes the outcome of a record that was due then. One that was not taken
// because the time was over was not sent.
func (m *meter) sent(bytes int, due time.Time, err error) {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return
	}
	m.done(bytes, time.Since(due), err)
}

// done notes the outcome of a record of so many bytes.
func (m *meter) done(bytes int, latency time.Duration, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		if m.failed++; m.first == nil {
			m.first = err
		}
		return
	}
	m.n++
	m.bytes += int64(bytes)
	m.last = time.Now()
	m.h.RecordValue(min(max(latency.Microseconds(), 1), slowest.Microseconds()))
}

func (m *meter) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == 0 {
		return nil
	}
	return said(m.first, "%s failed, the first with: %s", plural(int(m.failed), "record"), short(m.first))
}

var benchColumns = []string{"measure", "records", "failed", "seconds", "records_per_s", "mb_per_s", "mean_ms", "p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms"}

// row returns the columns of what was measured, up to the last record that was
// done: the wait for a broker that has died is not part of it.
func (m *meter) row(measure string) []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.last.Sub(m.began).Seconds()
	out := []any{measure, m.n, m.failed, thousandths(s), thousandths(per(float64(m.n), s)), thousandths(per(float64(m.bytes)/1e6, s))}
	if m.h.TotalCount() == 0 {
		return append(out, nil, nil, nil, nil, nil, nil)
	}
	ms := func(us int64) float64 { return float64(us) / 1000 }
	out = append(out, thousandths(m.h.Mean()/1000))
	for _, q := range []float64{50, 90, 99, 99.9} {
		out = append(out, ms(m.h.ValueAtQuantile(q)))
	}
	return append(out, ms(m.h.Max()))
}

// per returns how much there was in a second, 0 of nothing.
func per(amount, seconds float64) float64 {
	if amount == 0 {
		return 0
	}
	return amount / max(seconds, 1e-6)
}

// thousandths rounds what is printed.
func thousandths(x float64) float64 { return math.Round(x*1000) / 1000 }

// bar is a progress bar, nil if there is nobody to see it.
type bar struct {
	b    *progressbar.ProgressBar
	last time.Time
}

func (f *benchFlags) bar(cmd *cobra.Command, g *globals, what string) *bar {
	if g.quiet || !terminal(cmd.ErrOrStderr()) {
		return nil
	}
	total := f.count
	if total == 0 {
		total = f.duration.Milliseconds()
	}
	return &bar{b: progressbar.NewOptions64(total, progressbar.OptionSetWriter(cmd.ErrOrStderr()), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetDescription(what))}
}

// at moves the bar, now and then, to record n of count, or to a time of duration.
func (b *bar) at(n, count int64, t, duration time.Duration) {
	if b == nil || time.Since(b.last) < 100*time.Millisecond {
		return
	}
	b.last = time.Now()
	if count == 0 {
		n, count = t.Milliseconds(), duration.Milliseconds()
	}
	b.b.Set64(min(n, count))
}

func (b *bar) finish() {
	if b != nil {
		b.b.Finish()
	}
}
