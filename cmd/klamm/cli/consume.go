package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
)

// consumeFlags are those of consume.
type consumeFlags struct {
	offset, group, format, isolation string
	partitions                       []int32
	count                            int64
	exit                             bool
	properties                       []string
}

func newConsume(g *globals) *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use: "consume TOPIC...", Aliases: []string{"c"}, Short: "Read records of topics",
		Long: `Read records and print them until interrupted, after --num records, or at the end (--exit).

Where to begin (--offset): start, end, N (an offset), +N (behind the start), -N (before the end), @TIMESTAMP, or
@TIMESTAMP:@TIMESTAMP for what lies between two times.

` + formatHelp,
		Example: `  klamm consume orders -o start -e -f '%t/%p@%o %k %h{%k=%v } %v\n'
  klamm consume orders -o -10 -e --format json
  klamm consume orders -o @2026-01-31T09:00:@2026-01-31T10:00
  klamm consume orders -g billing`,
		Args: atLeast(1, "a TOPIC"), ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, g, args) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.offset, "offset", "o", "", "where to begin; default end, or in a group where it has committed")
	fl.Int32SliceVarP(&f.partitions, "partition", "p", nil, "only these partitions")
	fl.Int64VarP(&f.count, "num", "n", 0, "exit after this many records")
	fl.BoolVarP(&f.exit, "exit", "e", false, "exit at what is the end now")
	fl.StringVarP(&f.group, "group", "g", "", "read as a member of this group, and commit")
	fl.StringVarP(&f.format, "print-format", "f", "", "how to print a record; default its value and a newline")
	fl.StringVar(&f.isolation, "isolation", "", "read_uncommitted or read_committed")
	fl.StringArrayVarP(&f.properties, "property", "X", nil, "consumer property by Kafka's name, as key=value; may be repeated")
	cmd.RegisterFlagCompletionFunc("group", g.completeGroups)
	cmd.RegisterFlagCompletionFunc("property", completeKeys(config.KindConsumer, "="))
	cmd.RegisterFlagCompletionFunc("isolation", cobra.FixedCompletions([]string{"read_uncommitted", "read_committed"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (f *consumeFlags) run(cmd *cobra.Command, g *globals, topics []string) error {
	show, err := f.show(g)
	if err != nil {
		return err
	}
	if f.group != "" && len(f.partitions) > 0 {
		return usagef("--group and --partition exclude each other: a group shares the partitions out")
	}
	where := f.offset
	if where == "" {
		where = "end"
	}
	at, err := parseSpan(where)
	if err != nil {
		return usagef("--offset %q: %w", f.offset, err)
	}
	o, err := f.options(cmd, g, at)
	if err != nil {
		return err
	}
	ctx, cancel := g.context(cmd, 0)
	defer cancel()
	c, err := client.NewConsumer(o)
	if err != nil {
		return usageError{err}
	}
	run := &consuming{f: f, c: c, show: show, out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), printed: make(map[client.TopicPartition]client.Offset)}
	if f.group != "" {
		if at.to != nil {
			return usagef("a range of times and --group exclude each other")
		}
		err = c.Subscribe(topics...)
	} else {
		err = run.assign(ctx, g, topics, at, o.ReadCommitted)
	}
	if err == nil {
		err = run.loop(ctx)
	}
	if err == nil && o.NoAutoCommit && f.count > 0 && len(run.printed) > 0 {
		err = c.CommitOffsets(ctx, run.printed)
	}
	closing, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	return errors.Join(err, run.out.Flush(), c.Close(closing))
}

// show returns how a record is printed.
func (f *consumeFlags) show(g *globals) (func([]byte, *client.Record) []byte, error) {
	format := f.format
	if format == "" {
		switch g.format {
		case "table":
			format = `%v\n`
		case "tsv":
			format = `%t\t%p\t%o\t%d\t%k\t%v\n`
		case "json":
			return recordJSON, nil
		default:
			return nil, usagef("--format %q: records are printed as table, tsv or json, or with -f", g.format)
		}
	}
	verbs, err := parseFormat(format)
	if err != nil {
		return nil, usagef("--print-format: %w", err)
	}
	return func(b []byte, r *client.Record) []byte { return appendRecord(b, verbs, r) }, nil
}

func (f *consumeFlags) options(cmd *cobra.Command, g *globals, at span) (client.ConsumerOptions, error) {
	props, err := keyValues(f.properties)
	if err != nil {
		return client.ConsumerOptions{}, err
	}
	if f.isolation != "" {
		props["isolation.level"] = f.isolation
	}
	if f.group != "" {
		props["group.id"] = f.group
	}
	if _, ok := props["bootstrap.servers"]; !ok {
		props["bootstrap.servers"] = g.bootstrap
	}
	o, unused, err := client.ConsumerConfigFromProperties(props)
	if err != nil {
		return o, usageError{err}
	}
	for _, k := range unused {
		g.say(cmd, "warning: klamm does not act on %s yet", k)
	}
	if f.group != "" && f.offset != "" {
		o.ResetTo = &at.from
	}
	if f.group != "" && f.count > 0 {
		// Only what was printed is to be committed, which a poll may go beyond.
		o.NoAutoCommit = true
	}
	if o.ClientID == "" {
		o.ClientID = "klamm-cli"
	}
	return o, nil
}

// consuming is one run of consume.
type consuming struct {
	f    *consumeFlags
	c    *client.Consumer
	show func([]byte, *client.Record) []byte
	out  *bufio.Writer

	ends    map[client.TopicPartition]int64 // where to stop; nil: nowhere
	printed map[client.TopicPartition]client.Offset
	n       int64
}

// assign has the consumer read the partitions, from and up to where it should.
func (r *consuming) assign(ctx context.Context, g *globals, topics []string, at span, committed bool) error {
	a, err := client.NewAdmin(client.AdminOptions{Options: g.options()})
	if err != nil {
		return err
	}
	defer a.Close()
	asking, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	from := make(map[client.TopicPartition]client.Position)
	to := make(map[client.TopicPartition]client.Position)
	for _, t := range topics {
		tps, err := topicPartitions(asking, a, t, r.f.partitions)
		if err != nil {
			return err
		}
		for _, tp := range tps {
			from[tp], to[tp] = at.from, client.AtEnd(0)
			if at.to != nil {
				to[tp] = *at.to
			}
		}
	}
	if r.f.exit || at.to != nil {
		// Where it begins is looked up first, so that what comes in between is read.
		starts, err := a.ListOffsets(asking, from, committed)
		if err != nil {
			return err
		}
		if r.ends, err = a.ListOffsets(asking, to, committed); err != nil {
			return err
		}
		for tp, start := range starts {
			from[tp] = client.AtOffset(start)
			if start >= r.ends[tp] {
				delete(r.ends, tp)
				delete(from, tp)
			}
		}
		if len(from) == 0 {
			return nil
		}
	}
	r.c.Assign(from)
	return nil
}

func (r *consuming) loop(ctx context.Context) error {
	var line []byte
	for {
		if r.ends != nil && len(r.ends) == 0 {
			return nil
		}
		if r.out.Buffered() > 0 {
			if err := r.out.Flush(); err != nil {
				return err
			}
		}
		polling, cancel := ctx, context.CancelFunc(func() {})
		if r.f.exit {
			// At the end nothing comes: the positions have to be looked at.
			polling, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
		}
		records, err := r.c.Poll(polling)
		cancel()
		if err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
			return err
		}
		for i := range records {
			rec := &records[i]
			tp := client.TopicPartition{Topic: rec.Topic, Partition: rec.Partition}
			if end, bounded := r.ends[tp]; r.ends != nil && (!bounded || rec.Offset >= end) {
				continue
			}
			line = r.show(line[:0], rec)
			if _, err := r.out.Write(line); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			r.printed[tp] = client.Offset{At: rec.Offset + 1, LeaderEpoch: rec.LeaderEpoch}
			if r.n++; r.n == r.f.count {
				return nil
			}
		}
		if r.atEnd() {
			return nil
		}
	}
}

// atEnd drops the partitions that have been read to their ends and reports
// whether none is left.
func (r *consuming) atEnd() bool {
	for tp, end := range r.ends {
		if next, _, ok := r.c.Position(tp); ok && next >= end {
			delete(r.ends, tp)
		}
	}
	if r.ends != nil {
		return len(r.ends) == 0
	}
	if !r.f.exit {
		return false
	}
	assigned := r.c.Assignment()
	for _, tp := range assigned {
		if next, end, ok := r.c.Position(tp); !ok || next < end {
			return false
		}
	}
	return len(assigned) > 0
}
