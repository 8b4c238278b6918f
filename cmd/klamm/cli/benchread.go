package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
)

func newBenchConsume(g *globals) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use: "consume TOPIC", Short: "Measure how fast the records of a topic are read",
		Long:    "Read a topic from its start to where it ended when the command began, or up to --count records or --duration.\n\nMB are 10^6 bytes of keys and values.",
		Example: "  klamm bench consume load -X fetch.min.bytes=1048576 --format json",
		Args:    topics(between(1, 1, "one TOPIC"), 1), ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error { return f.consume(cmd, g, args[0]) },
	}
	fl := cmd.Flags()
	fl.Int64VarP(&f.count, "count", "n", 0, "records; 0 means all")
	fl.DurationVarP(&f.duration, "duration", "d", 0, "how long at most; 0 means to the end")
	fl.StringArrayVarP(&f.properties, "property", "X", nil, "consumer property by Kafka's name, as key=value; may be repeated")
	cmd.RegisterFlagCompletionFunc("property", completeKeys(config.KindConsumer, "="))
	return cmd
}

// consumerOptions makes the options of a consumer without a group.
func (f *benchFlags) consumerOptions(cmd *cobra.Command, g *globals, properties []string) (client.ConsumerOptions, error) {
	return (&consumeFlags{properties: properties}).options(cmd, g, span{})
}

// ends asks for the start and the end of every partition.
func (g *globals) ends(cmd *cobra.Command, topic string) (starts, ends map[client.TopicPartition]int64, err error) {
	err = g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
		tps, err := topicPartitions(ctx, a, topic, nil)
		if err != nil {
			return err
		}
		at := func(p client.Position) (map[client.TopicPartition]int64, error) {
			asked := make(map[client.TopicPartition]client.Position)
			for _, tp := range tps {
				asked[tp] = p
			}
			return a.ListOffsets(ctx, asked, false)
		}
		if starts, err = at(client.AtStart(0)); err != nil {
			return err
		}
		ends, err = at(client.AtEnd(0))
		return err
	})
	return starts, ends, err
}

func (f *benchFlags) consume(cmd *cobra.Command, g *globals, topic string) error {
	pr, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	o, err := f.consumerOptions(cmd, g, f.properties)
	if err != nil {
		return err
	}
	starts, ends, err := g.ends(cmd, topic)
	if err != nil {
		return err
	}
	total, from := int64(0), make(map[client.TopicPartition]client.Position)
	for tp, start := range starts {
		if start < ends[tp] {
			total += ends[tp] - start
			from[tp] = client.AtOffset(start)
		}
	}
	if f.count > 0 {
		total = min(total, f.count)
	}
	ctx := cmd.Context()
	c, err := client.NewConsumer(o)
	if err != nil {
		return usageError{err}
	}
	defer c.Close(context.WithoutCancel(ctx))
	reading := ctx
	if f.duration > 0 {
		var stop context.CancelFunc
		reading, stop = context.WithTimeout(ctx, f.duration)
		defer stop()
	}
	shown := benchFlags{count: total}
	bar := shown.bar(cmd, g, "consuming")
	read := newMeter(time.Now())
	c.Assign(from)
	err = f.readTo(reading, c, from, ends, read, func() { bar.at(read.n, total, 0, 0) })
	bar.finish()
	if ctx.Err() == nil && reading.Err() != nil {
		err = nil // the duration
	}
	out := &rows{columns: benchColumns}
	row := read.row("consume")
	for i := len(row) - 6; i < len(row); i++ {
		row[i] = nil // a record that was there before has no latency
	}
	out.add(row...)
	return g.waited(ctx, errors.Join(err, pr.print("", out)), "the records to be read")
}

// readTo reads until the end of every partition, or f's count.
func (f *benchFlags) readTo(ctx context.Context, c *client.Consumer, from map[client.TopicPartition]client.Position, ends map[client.TopicPartition]int64, read *meter, progress func()) error {
	left := len(from)
	passed := make(map[client.TopicPartition]bool, left)
	for left > 0 && (f.count == 0 || read.n < f.count) {
		records, err := c.Poll(ctx)
		if err != nil {
			return err
		}
		for i := range records {
			r := &records[i]
			if f.count > 0 && read.n == f.count {
				break
			}
			tp := client.TopicPartition{Topic: r.Topic, Partition: r.Partition}
			if r.Offset < ends[tp] {
				read.done(len(r.Key)+len(r.Value), 0, nil)
			}
			if r.Offset+1 >= ends[tp] && !passed[tp] {
				passed[tp] = true
				left--
			}
		}
		progress()
	}
	return nil
}

func newBenchLatency(g *globals) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use: "latency TOPIC", Short: "Measure how long a record takes to be acknowledged, and to arrive at a consumer",
		Long:    benchHelp + "\n\nUnless -X says otherwise, linger.ms is 0.",
		Example: "  klamm bench latency load --rate 1000 -d 60s --format json",
		Args:    topics(between(1, 1, "one TOPIC"), 1), ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(stampSize); err != nil {
				return err
			}
			f.properties = append([]string{"linger.ms=0"}, f.properties...)
			return f.run(cmd, g, args[0], func(ctx context.Context, p *client.Producer, out *rows) error {
				return f.latency(ctx, cmd, g, p, args[0], out)
			})
		},
	}
	f.register(cmd, 1000)
	return cmd
}

// stampSize is the size of what the values of bench latency begin with: the
// number of the run, and when the record was due, in ns since the run began.
const stampSize = 16

// arrivalGrace is how long the last records may take to arrive.
const arrivalGrace = 10 * time.Second

func (f *benchFlags) latency(ctx context.Context, cmd *cobra.Command, g *globals, p *client.Producer, topic string, out *rows) error {
	o, err := f.consumerOptions(cmd, g, nil)
	if err != nil {
		return err
	}
	_, ends, err := g.ends(cmd, topic)
	if err != nil {
		return err
	}
	from := make(map[client.TopicPartition]client.Position)
	for tp, end := range ends {
		from[tp] = client.AtOffset(end)
	}
	c, err := client.NewConsumer(o)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	c.Assign(from)

	run, began := rand.Uint64(), time.Now()
	acks, arrivals := newMeter(began), newMeter(began)
	receiving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	received := make(chan error, 1)
	enough := make(chan int64, 1) // how many records there are to receive
	go func() { received <- receive(receiving, c, run, began, arrivals, enough) }()

	payload := newPayload(f.size)
	stopped := f.load(ctx, f.bar(cmd, g, "measuring"), func(ctx context.Context, due time.Time, _ int64) error {
		value := append([]byte(nil), payload.next()...)
		binary.BigEndian.PutUint64(value, run)
		binary.BigEndian.PutUint64(value[8:], uint64(due.Sub(began)))
		return p.SendFunc(ctx, &client.Record{Topic: topic, Value: value}, func(_ client.RecordMetadata, err error) {
			acks.sent(f.size, due, err)
		})
	})
	err = errors.Join(stopped, f.settle(ctx, p))
	enough <- acks.count()
	grace := arrivalGrace
	if ctx.Err() != nil {
		grace = closingGrace / 2
	}
	expired := time.AfterFunc(grace, stop)
	defer expired.Stop()
	defer context.AfterFunc(ctx, func() { expired.Reset(min(grace, closingGrace/2)) })()
	if e := <-received; e != nil {
		err = errors.Join(err, said(e, "%d of %d records arrived", arrivals.count(), acks.count()))
	}
	out.add(acks.row("acknowledged")...)
	out.add(arrivals.row("end to end")...)
	return g.waited(ctx, errors.Join(acks.failure(), err), "the records to be written and read")
}

func (m *meter) count() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n
}

// receive notes the arrival of every record of the run, until there are as many
// as enough says.
func receive(ctx context.Context, c *client.Consumer, run uint64, began time.Time, arrivals *meter, enough <-chan int64) error {
	total := int64(-1)
	polling, cancel := context.WithCancel(ctx)
	defer cancel()
	known := make(chan struct{})
	go func() { // Poll is woken once, when the number is known
		select {
		case total = <-enough:
			close(known)
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-known:
			polling = ctx
			if arrivals.count() >= total {
				return nil
			}
		default:
		}
		records, err := c.Poll(polling)
		if err != nil && (polling == ctx || ctx.Err() != nil || !errors.Is(err, context.Canceled)) {
			return err
		}
		now := time.Now()
		for i := range records {
			if v := records[i].Value; len(v) >= stampSize && binary.BigEndian.Uint64(v) == run {
				arrivals.done(len(v), now.Sub(began.Add(time.Duration(binary.BigEndian.Uint64(v[8:])))), nil)
			}
		}
	}
}
