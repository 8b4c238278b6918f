package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
)

// produceFlags are those of produce.
type produceFlags struct {
	key, file, format, acks, codec, at string
	headers, properties                []string
	partition                          int32
	tombstone, results                 bool
}

func newProduce(g *globals) *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use: "produce TOPIC [VALUE]", Aliases: []string{"p"}, Short: "Write records to a topic",
		Long: `Write one record with the given VALUE, or the records of --file or standard input, one a line or in a --read-format.

Of one record, where it was written goes to stdout as TOPIC/PARTITION@OFFSET; of many, a summary goes to stderr, and with --results a
line for each to stdout. If a record could not be written, the exit code is 1 and stderr says which were and which were not.

` + formatHelp,
		Example: `  klamm produce orders -k ORDER-1001 -H source=web-app '{"orderId":1001}'
  klamm produce orders --file orders.txt -f '%k %v\n' -z zstd
  klamm produce users -k 42 -Z`,
		Args: between(1, 2, "a TOPIC and at most one VALUE; quote a value with blanks"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return g.completeTopics(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, g, args) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.key, "key", "k", "", "key of every record")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "header of every record, as key=value; may be repeated")
	fl.Int32VarP(&f.partition, "partition", "p", -1, "partition to write to; default where the partitioner says")
	fl.StringVar(&f.at, "timestamp", "", "timestamp of every record: Unix seconds or milliseconds, or RFC 3339; default now")
	fl.StringVarP(&f.codec, "compression", "z", "", "none, gzip, snappy, lz4 or zstd")
	fl.StringVar(&f.acks, "acks", "", "0, 1 or all; default all")
	fl.StringVar(&f.file, "file", "", "file to read records from; - is standard input")
	fl.StringVarP(&f.format, "read-format", "f", "%v\\n", "how records stand in the input; see above")
	fl.BoolVarP(&f.tombstone, "tombstone", "Z", false, "write a null where a value is empty or missing")
	fl.StringArrayVarP(&f.properties, "property", "X", nil, "producer property by Kafka's name, as key=value; may be repeated")
	fl.BoolVar(&f.results, "results", false, "print a line for every record of the input")
	cmd.RegisterFlagCompletionFunc("compression", cobra.FixedCompletions([]string{"none", "gzip", "snappy", "lz4", "zstd"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("acks", cobra.FixedCompletions([]string{"0", "1", "all"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("property", completeKeys(config.KindProducer, "="))
	return cmd
}

// producerOptions makes the options of a producer from properties and the flags
// that stand for some.
func producerOptions(cmd *cobra.Command, g *globals, properties []string, acks, codec string) (client.ProducerOptions, error) {
	props, err := keyValues(properties)
	if err != nil {
		return client.ProducerOptions{}, err
	}
	if codec != "" {
		props["compression.type"] = codec
	}
	if acks != "" {
		props["acks"] = acks
	}
	if _, ok := props["bootstrap.servers"]; !ok {
		props["bootstrap.servers"] = g.bootstrap
	}
	o, unused, err := client.ConfigFromProperties(props)
	if err != nil {
		return o, usageError{err}
	}
	for _, k := range unused {
		g.say(cmd, "warning: klamm does not act on %s yet", k)
	}
	if o.ClientID == "" {
		o.ClientID = "klamm-cli"
	}
	return o, nil
}

func (f *produceFlags) run(cmd *cobra.Command, g *globals, args []string) error {
	if len(args) == 2 && f.file != "" {
		return usagef("give a VALUE or --file, not both")
	}
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	base, err := f.base(args[0])
	if err != nil {
		return err
	}
	o, err := producerOptions(cmd, g, f.properties, f.acks, f.codec)
	if err != nil {
		return err
	}
	ctx, cancel := g.context(cmd, 0)
	defer cancel()
	pr, err := client.NewProducer(o)
	if err != nil {
		return usageError{err}
	}
	run := &producing{f: f, g: g, cmd: cmd, p: pr, out: p, base: base}
	if len(args) == 2 || f.tombstone && f.file == "" && terminal(cmd.InOrStdin()) {
		if len(args) == 2 {
			run.base.Value = []byte(args[1])
		}
		err = run.one(ctx)
	} else {
		err = run.many(ctx)
	}
	closing, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	return errors.Join(err, pr.Close(closing))
}

// base is the record that all others start from.
func (f *produceFlags) base(topic string) (client.Record, error) {
	r := client.Record{Topic: topic}
	if f.key != "" {
		r.Key = []byte(f.key)
	}
	for _, h := range f.headers {
		k, v, ok := strings.Cut(h, "=")
		if !ok {
			return r, usagef("--header %q: want key=value", h)
		}
		r.Headers = append(r.Headers, client.Header{Key: k, Value: []byte(v)})
	}
	if f.partition >= 0 {
		r.Partition, r.Explicit = f.partition, true
	}
	var err error
	if r.Timestamp, err = timestamp(f.at); err != nil {
		return r, usagef("--timestamp: %w", err)
	}
	return r, nil
}

// producing is one run of produce.
type producing struct {
	f    *produceFlags
	g    *globals
	cmd  *cobra.Command
	p    *client.Producer
	out  *printer
	base client.Record

	mu       sync.Mutex
	written  int
	failed   int
	byPart   map[string]int
	failures []string // the first few
	results  rows
}

func (r *producing) finish(rec *client.Record) {
	if r.f.tombstone && len(rec.Value) == 0 {
		rec.Value = nil
	} else if rec.Value == nil {
		rec.Value = []byte{}
	}
}

var resultColumns = []string{"topic", "partition", "offset", "timestamp"}

func (r *producing) one(ctx context.Context) error {
	rec := r.base
	r.finish(&rec)
	m, err := r.p.Send(ctx, &rec).Get(ctx)
	if err != nil {
		return fmt.Errorf("not written to %s: %w", rec.Topic, err)
	}
	if r.g.quiet {
		return nil
	}
	if r.g.format == "table" {
		_, err := fmt.Fprintf(r.out.w, "%s/%d@%d\n", m.Topic, m.Partition, m.Offset)
		return err
	}
	res := &rows{columns: resultColumns}
	res.add(m.Topic, m.Partition, m.Offset, m.Timestamp.UnixMilli())
	return r.out.print("", res)
}

func (r *producing) many(ctx context.Context) error {
	source, size, err := r.source()
	if err != nil {
		return err
	}
	defer source.Close()
	in, err := newInput(source, r.f.format)
	if err != nil {
		return usagef("--read-format: %w", err)
	}
	r.byPart = make(map[string]int)
	r.results.columns = resultColumns
	bar := r.bar(size)
	var stopped error
	for stopped == nil {
		rec := r.base
		rec.Headers = append([]client.Header(nil), r.base.Headers...)
		if err := in.next(&rec); err == io.EOF {
			break
		} else if err != nil {
			stopped = err
			break
		}
		r.finish(&rec)
		n := in.n
		err := r.p.SendFunc(ctx, &rec, func(m client.RecordMetadata, err error) { r.done(n, m, err) })
		if err != nil && (ctx.Err() != nil || errors.Is(err, client.ErrClosed)) {
			stopped = err
		}
		if bar != nil {
			bar.Set64(in.bytes)
		}
	}
	if err := r.p.Flush(ctx); err != nil {
		stopped = errors.Join(stopped, err)
	}
	if bar != nil {
		bar.Finish()
	}
	return r.summary(in.n, stopped)
}

func (r *producing) source() (io.ReadCloser, int64, error) {
	if r.f.file == "" || r.f.file == "-" {
		if terminal(r.cmd.InOrStdin()) {
			r.g.say(r.cmd, "reading records from the terminal, one a line; end with Ctrl-D")
		}
		return io.NopCloser(r.cmd.InOrStdin()), -1, nil
	}
	f, err := os.Open(r.f.file)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// bar returns a progress bar if somebody is there to see it.
func (r *producing) bar(size int64) *progressbar.ProgressBar {
	if r.g.quiet || !terminal(r.cmd.ErrOrStderr()) || terminal(r.cmd.InOrStdin()) && size < 0 {
		return nil
	}
	return progressbar.NewOptions64(size, progressbar.OptionSetWriter(r.cmd.ErrOrStderr()), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("producing"))
}

// keepFailures is how many failures are told one by one.
const keepFailures = 10

func (r *producing) done(n int, m client.RecordMetadata, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.failed++; len(r.failures) < keepFailures {
			r.failures = append(r.failures, fmt.Sprintf("record %d: %v", n, err))
		}
		return
	}
	r.written++
	r.byPart[fmt.Sprintf("%s/%d", m.Topic, m.Partition)]++
	switch {
	case !r.f.results:
	case r.g.format == "table":
		fmt.Fprintf(r.out.w, "%s/%d@%d\n", m.Topic, m.Partition, m.Offset)
	default:
		r.results.add(m.Topic, m.Partition, m.Offset, m.Timestamp.UnixMilli())
	}
}

func (r *producing) summary(read int, stopped error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f.results && r.g.format != "table" {
		if err := r.out.print("", &r.results); err != nil {
			return err
		}
	}
	lost := read - r.written
	if lost == 0 && stopped == nil {
		r.g.say(r.cmd, "%d records written to %d partitions", r.written, len(r.byPart))
		return nil
	}
	for _, f := range r.failures {
		fmt.Fprintln(r.cmd.ErrOrStderr(), f)
	}
	if r.failed > len(r.failures) {
		fmt.Fprintf(r.cmd.ErrOrStderr(), "... and %d more\n", r.failed-len(r.failures))
	}
	err := fmt.Errorf("%d records written, %d not", r.written, lost)
	if stopped != nil {
		return fmt.Errorf("%w: %w", err, stopped)
	}
	return err
}
