package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
@TIMESTAMP:@TIMESTAMP for what lies between two times. An offset beyond the end is waited for, and for one that was deleted the first
that is there is taken; both are said.

` + formatHelp,
		Example: `  klamm consume orders -o start -e -f '%t/%p@%o %k %h{%k=%v } %v\n'
  klamm consume orders -o -10 -e --format json
  klamm consume orders -o @2026-01-31T09:00:@2026-01-31T10:00
  klamm consume orders -g billing`,
		Args: topics(atLeast(1, "a TOPIC"), 0), ValidArgsFunction: g.completeTopics,
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
	if f.group != "" && at.to != nil {
		return usagef("a range of times and --group exclude each other")
	}
	ctx := cmd.Context()
	if f := file(cmd.OutOrStdout()); f != nil {
		watchReader(ctx, f, g.stop)
	}
	c, err := client.NewConsumer(o)
	if err != nil {
		return usageError{err}
	}
	run := &consuming{f: f, g: g, cmd: cmd, c: c, show: show, out: bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10), printed: make(map[client.TopicPartition]client.Offset)}
	if f.group != "" {
		err = c.Subscribe(topics...)
	} else {
		err = run.assign(topics, at, o.ReadCommitted)
	}
	if err == nil {
		err = run.loop(ctx)
	}
	if e := run.out.Flush(); e != nil && !errors.Is(err, e) { // before what was printed is committed
		err = errors.Join(unwritten(e), err)
	}
	if err == nil && o.NoAutoCommit && f.count > 0 && len(run.printed) > 0 {
		err = c.CommitOffsets(ctx, run.printed)
	}
	err = g.waited(ctx, err, "records; "+plural(int(run.n), "record")+" printed")
	last, stop := closing(ctx)
	defer stop()
	if e := c.Close(last); e != nil && ctx.Err() == nil {
		err = errors.Join(err, said(e, "the last offsets may not be committed: %s", short(e)))
	}
	return err
}

// show returns how a record is printed.
func (f *consumeFlags) show(g *globals) (func([]byte, *client.Record) []byte, error) {
	format := f.format
	if format == "" {
		switch g.format {
		case "table":
			format = `%v\n`
		case "tsv":
			format = `%t\t%p\t%o\t%d\t%k{tsv}\t%v{tsv}\n`
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
	if err := g.withServers(cmd, props); err != nil {
		return client.ConsumerOptions{}, err
	}
	o, unused, err := client.ConsumerConfigFromProperties(props)
	if err != nil {
		return o, usageError{err}
	}
	if err := g.warnUnused(cmd, config.KindConsumer, unused); err != nil {
		return o, err
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
	o.Dial = g.reach.dial
	return o, nil
}

// consuming is one run of consume.
type consuming struct {
	f    *consumeFlags
	g    *globals
	cmd  *cobra.Command
	c    *client.Consumer
	show func([]byte, *client.Record) []byte
	out  *bufio.Writer

	first   map[client.TopicPartition]int64 // where a partition begins; records below are not printed
	ends    map[client.TopicPartition]int64 // where to stop; nil: nowhere
	printed map[client.TopicPartition]client.Offset
	n       int64
}

// assign has the consumer read the partitions, from and up to where it should.
func (r *consuming) assign(topics []string, at span, committed bool) error {
	from := make(map[client.TopicPartition]client.Position)
	err := r.g.admin(r.cmd, func(ctx context.Context, a *client.Admin) error {
		to := make(map[client.TopicPartition]client.Position)
		for _, t := range topics {
			tps, err := topicPartitions(ctx, a, t, r.f.partitions)
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
		if at.kind != named {
			if err := r.within(ctx, a, from, at.kind, committed); err != nil {
				return err
			}
		}
		if !r.f.exit && at.to == nil {
			return nil
		}
		// Where it begins is looked up first, so that what comes in between is read.
		starts, err := a.ListOffsets(ctx, from, committed)
		if err != nil {
			return err
		}
		if r.ends, err = a.ListOffsets(ctx, to, committed); err != nil {
			return err
		}
		for tp, start := range starts {
			from[tp] = client.AtOffset(start)
			if start >= r.ends[tp] {
				delete(r.ends, tp)
				delete(from, tp)
			}
		}
		return nil
	})
	if err == nil && len(from) > 0 {
		r.c.Assign(from)
	}
	return err
}

// within moves the offsets to begin at to where there are records, and says so,
// unless they count from the end.
func (r *consuming) within(ctx context.Context, a *client.Admin, from map[client.TopicPartition]client.Position, kind boundKind, committed bool) error {
	tps := sorted(slices.Collect(maps.Keys(from)))
	wanted, err := a.ListOffsets(ctx, from, committed)
	if err != nil {
		return err
	}
	low, high, err := bounds(ctx, a, tps, committed)
	if err != nil {
		return err
	}
	r.first = wanted
	for _, tp := range tps {
		switch offset, start, end := wanted[tp], low[tp], high[tp]; {
		case offset < start && kind == before:
			offset = start
			fallthrough
		case offset >= start && offset <= end:
			from[tp] = client.AtOffset(offset)
		case offset < start:
			r.g.say(r.cmd, "%v begins at offset %d: offset %d was deleted", tp, start, offset)
			from[tp] = client.AtOffset(start)
		default:
			what := "waiting for"
			if r.f.exit {
				what = "there is no"
			}
			r.g.say(r.cmd, "%v ends at offset %d: %s offset %d", tp, end, what, offset)
			from[tp] = client.AtOffset(end)
		}
	}
	return nil
}

// bounds returns the first offset of each partition, and the one behind the last
// that may be read.
func bounds(ctx context.Context, a *client.Admin, tps []client.TopicPartition, committed bool) (low, high map[client.TopicPartition]int64, err error) {
	start, end := make(map[client.TopicPartition]client.Position), make(map[client.TopicPartition]client.Position)
	for _, tp := range tps {
		start[tp], end[tp] = client.AtStart(0), client.AtEnd(0)
	}
	if low, err = a.ListOffsets(ctx, start, committed); err == nil {
		high, err = a.ListOffsets(ctx, end, committed)
	}
	return low, high, err
}

// sorted sorts partitions by topic and number.
func sorted(tps []client.TopicPartition) []client.TopicPartition {
	slices.SortFunc(tps, func(x, y client.TopicPartition) int {
		return cmp.Or(cmp.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
	})
	return tps
}

// unwritten returns the error of a write to standard output. One whose time is
// over says what it waited for.
func unwritten(err error) error {
	var t *timeoutError
	if errors.As(err, &t) {
		return said(err, "the reader of standard output takes no more")
	}
	return fmt.Errorf("write: %w", err)
}

func (r *consuming) loop(ctx context.Context) error {
	var line []byte
	for {
		if r.ends != nil && len(r.ends) == 0 {
			return nil
		}
		if r.out.Buffered() > 0 {
			if err := r.out.Flush(); err != nil {
				return unwritten(err)
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
			if rec.Offset < r.first[tp] {
				continue
			}
			line = r.show(line[:0], rec)
			if _, err := r.out.Write(line); err != nil {
				return unwritten(err)
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
