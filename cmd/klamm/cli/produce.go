package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
)

// produceFlags are those of produce.
type produceFlags struct {
	key, file, valueFile, format, acks, codec, at string
	headers, properties                           []string
	partition                                     int32
	tombstone, results                            bool
	keyed                                         bool // --key was given; it may be empty
}

func newProduce(g *globals) *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use: "produce TOPIC [VALUE]", Aliases: []string{"p"}, Short: "Write records to a topic",
		Long: `Write one record, or the records of an input, one a line or in a --read-format.

One record is written with a VALUE, with --value-file, or with -k KEY -Z, which deletes the key; standard input is not read then, but by
--value-file -. Otherwise the input is --file, or standard input, also for -k KEY alone: each record gets that key. A --read-format that
ends with a verb has one record a line.

Of one record, where it was written goes to stdout as TOPIC/PARTITION@OFFSET; of many, a summary goes to stderr, and with --results a
line for each to stdout. If a record could not be written, the exit code is 1 and stderr says which were and which were not. After a
signal or --timeout, what was read is still sent, for a second at most.

` + formatHelp,
		Example: `  klamm produce orders -k ORDER-1001 -H source=web-app '{"orderId":1001}'
  klamm produce orders --file orders.txt -f '%k %v\n' -z zstd
  klamm produce pictures -k cat --value-file cat.jpg
  klamm produce users -k 42 -Z`,
		Args: topics(between(1, 2, "a TOPIC and at most one VALUE; quote a value with blanks"), 1),
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
	fl.StringVar(&f.valueFile, "value-file", "", "file that is the value of one record, as it is; - is standard input")
	fl.StringVarP(&f.format, "read-format", "f", "%v\\n", "how records stand in the input; see above")
	fl.BoolVarP(&f.tombstone, "tombstone", "Z", false, "write a null, a tombstone, where a value is empty or missing")
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
	if err := g.withServers(cmd, props); err != nil {
		return client.ProducerOptions{}, err
	}
	o, unused, err := client.ConfigFromProperties(props)
	if err != nil {
		return o, usageError{err}
	}
	if err := g.warnUnused(cmd, config.KindProducer, unused); err != nil {
		return o, err
	}
	if o.ClientID == "" {
		o.ClientID = "klamm-cli"
	}
	o.Dial = g.reach.dial
	return o, nil
}

func (f *produceFlags) run(cmd *cobra.Command, g *globals, args []string) error {
	given := 0
	for _, is := range []bool{len(args) == 2, f.file != "", f.valueFile != ""} {
		if is {
			given++
		}
	}
	framed := cmd.Flags().Changed("read-format")
	f.keyed = cmd.Flags().Changed("key")
	switch {
	case given > 1:
		return usagef("give one of a VALUE, --file and --value-file")
	case framed && (len(args) == 2 || f.valueFile != ""):
		return usagef("--read-format says how records stand in an input; a VALUE or --value-file is one record as it is")
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
	pr, err := client.NewProducer(o)
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	run := &producing{f: f, g: g, cmd: cmd, p: pr, servers: o.BootstrapServers, out: p, base: base}
	defer run.watch(ctx, cancel)()
	deletes := f.tombstone && f.keyed && given == 0 && !framed
	switch {
	case len(args) == 2:
		run.base.Value = []byte(args[1])
		err = run.one(ctx)
	case f.valueFile != "":
		if run.base.Value, err = run.whole(ctx); err == nil {
			err = run.one(ctx)
		}
	case deletes:
		err = run.one(ctx)
	default:
		err = run.many(ctx)
	}
	return errors.Join(err, run.close(ctx))
}

// base is the record that all others start from.
func (f *produceFlags) base(topic string) (client.Record, error) {
	r := client.Record{Topic: topic}
	if f.keyed {
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
