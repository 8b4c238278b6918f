package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/replication/control"
)

// globals are the flags that every command has, and how far the command has
// come.
type globals struct {
	bootstrap string
	format    string
	quiet     bool
	timeout   time.Duration

	reach   *reach                  // dials for every client
	stop    context.CancelCauseFunc // ends the command's context
	began   atomic.Bool             // the words of the command are found right
	serving atomic.Bool             // it is a broker: it takes its time to stop
}

// defaultBootstrap is where a broker is looked for if nothing else is said.
const defaultBootstrap = "127.0.0.1:9092"

// bootstrapEnv names the variable that stands for --bootstrap.
const bootstrapEnv = "KAFKA_BOOTSTRAP_SERVERS"

func (g *globals) register(root *cobra.Command) {
	from := os.Getenv(bootstrapEnv)
	if from == "" {
		from = defaultBootstrap
	}
	f := root.PersistentFlags()
	f.StringVarP(&g.bootstrap, "bootstrap", "b", from, "brokers to ask first, as HOST:PORT[,HOST:PORT...] (env KAFKA_BOOTSTRAP_SERVERS)")
	f.StringVar(&g.format, "format", "table", "how to print results: table, json, yaml or tsv")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "print data and errors only")
	f.DurationVar(&g.timeout, "timeout", 0, "give up after this long, such as 30s; 0 means 30s for admin commands and never for the others")
	root.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "json", "yaml", "tsv"}, cobra.ShellCompDirectiveNoFileComp))
}

// note has every command below cmd note that it begins.
func (g *globals) note(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		g.note(c)
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			g.began.Store(true)
			return run(cmd, args)
		}
	}
	if cmd.HasSubCommands() && cmd.HasParent() && !cmd.Runnable() { // cobra's own
		cmd.Args, cmd.RunE = subcommand, noSubcommand
	}
}

// begin refuses what is wrong with the flags of any command, and starts to count
// its time.
func (g *globals) begin(cmd *cobra.Command) (err error) {
	if _, err := newPrinter(cmd.OutOrStdout(), g.format); err != nil {
		return err
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err == nil {
			err = checkNumber(f)
		}
		if f.Name == "bootstrap" && err == nil {
			_, err = g.servers(cmd)
		}
	})
	if err != nil {
		return err
	}
	g.reach.w = cmd.ErrOrStderr()
	g.serving.Store(cmd.Name() == "start")
	if g.timeout > 0 {
		time.AfterFunc(g.timeout, func() { g.stop(&timeoutError{after: g.timeout}) })
	}
	return nil
}

// checkNumber refuses negative counts, sizes, times and ids: none has a meaning,
// unless it is the flag's default.
func checkNumber(f *pflag.Flag) error {
	s := f.Value.String()
	switch f.Value.Type() {
	case "int", "int16", "int32", "int64", "float64", "duration", "int32Slice":
	default:
		return nil
	}
	if s == f.DefValue {
		return nil
	}
	for part := range strings.SplitSeq(strings.Trim(s, "[]"), ",") {
		if strings.HasPrefix(part, "-") {
			return usagef("--%s %s: must not be negative", f.Name, part)
		}
		if part == "NaN" || part == "+Inf" {
			return usagef("--%s %s: want a number", f.Name, part)
		}
	}
	return nil
}

// servers returns the brokers to ask first.
func (g *globals) servers(cmd *cobra.Command) ([]string, error) {
	what := "--bootstrap"
	if f := cmd.Flags().Lookup("bootstrap"); f != nil && !f.Changed && os.Getenv(bootstrapEnv) != "" {
		what = bootstrapEnv
	}
	return parseServers(what, g.bootstrap)
}

// options are what a client is made with, one that says which brokers it cannot
// reach.
func (g *globals) options(cmd *cobra.Command) (client.Options, error) {
	servers, err := g.servers(cmd)
	return client.Options{BootstrapServers: servers, ClientID: "klamm-cli", Dial: g.reach.dial}, err
}

// withServers sets where producers and consumers find brokers: among their
// properties, where no property says it.
func (g *globals) withServers(cmd *cobra.Command, props map[string]string) error {
	servers, err := g.servers(cmd)
	if own, ok := props["bootstrap.servers"]; ok {
		servers, err = parseServers("bootstrap.servers", own)
	}
	props["bootstrap.servers"] = strings.Join(servers, ",")
	return err
}

// adminTimeout bounds a command that asks for or changes something.
const adminTimeout = 30 * time.Second

// patience is how long a command waits for a broker before it reports that.
const patience = 900 * time.Millisecond

// admin runs f with an admin client, for adminTimeout at most unless --timeout says
// otherwise.
func (g *globals) admin(cmd *cobra.Command, f func(ctx context.Context, a *client.Admin) error) error {
	return g.adminFor(cmd, adminTimeout, f)
}

// adminBound is how long admin runs at most.
func (g *globals) adminBound() time.Duration {
	if g.timeout > 0 {
		return g.timeout
	}
	return adminTimeout
}

// adminFor is admin for at most so long; 0 sets no limit, for a command that waits for
// what takes its time. A single call of it does not try for longer than a minute.
func (g *globals) adminFor(cmd *cobra.Command, bound time.Duration, f func(ctx context.Context, a *client.Admin) error) error {
	o, err := g.options(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
	switch {
	case g.timeout > 0:
		bound = g.timeout
	case bound > 0:
		ctx, cancel = context.WithTimeoutCause(ctx, bound, &timeoutError{after: bound})
	}
	defer cancel()
	a, err := client.NewAdmin(client.AdminOptions{Options: o, APITimeout: bound + time.Minute}) // ctx ends first
	if err != nil {
		return err
	}
	defer a.Close()
	what := "an answer from " + strings.Join(o.BootstrapServers, ", ")
	defer g.patient(cmd, what)()
	return g.waited(ctx, f(ctx, a), what)
}

// patient reports what is waited for if that takes longer than patience, until
// stop is called.
func (g *globals) patient(cmd *cobra.Command, what string) (stop func()) {
	t := time.AfterFunc(patience, func() {
		if !g.reach.unreached() {
			g.say(cmd, "klamm: waiting for %s", what)
		}
	})
	return func() { t.Stop() }
}

// say prints a line for people to stderr.
func (g *globals) say(cmd *cobra.Command, format string, args ...any) {
	if !g.quiet {
		fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
	}
}

// terminal reports whether a standard stream is a terminal.
func terminal(w any) bool {
	f := file(w)
	return f != nil && term.IsTerminal(int(f.Fd()))
}

// group returns a command that only has commands below it.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: subcommand, RunE: noSubcommand}
	c.AddCommand(subs...)
	return c
}

// subcommand refuses the words behind a command that only has commands below it.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command %q of %s", args[0], cmd.CommandPath())
	}
	return nil
}

func noSubcommand(cmd *cobra.Command, _ []string) error {
	return usagef("%s needs one of its commands", cmd.CommandPath())
}

// noArgs refuses arguments as a usage error.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// atLeast refuses fewer than n arguments, and empty ones, as a usage error.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("missing %s", what)
		}
		for i, a := range args {
			if a == "" {
				return usagef("argument %d is empty: want %s", i+1, what)
			}
		}
		return nil
	}
}

// between refuses another number of arguments, and an empty first one, as a
// usage error.
func between(low, high int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return usagef("want %s", what)
		}
		if args[0] == "" {
			return usagef("the first argument is empty: want %s", what)
		}
		return nil
	}
}

// topics is args for arguments that name topics: n of them, all if n is 0.
func topics(args cobra.PositionalArgs, n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, words []string) error {
		if err := args(cmd, words); err != nil {
			return err
		}
		for i, w := range words {
			if err := control.CheckTopicName(w); err != nil && (n == 0 || i < n) {
				return usageError{err}
			}
		}
		return nil
	}
}
