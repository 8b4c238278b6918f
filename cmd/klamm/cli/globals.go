package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/klamm-io/klamm/client"
)

// globals are the flags that every command has.
type globals struct {
	bootstrap string
	format    string
	quiet     bool
	timeout   time.Duration
}

// defaultBootstrap is where a broker is looked for if nothing else is said.
const defaultBootstrap = "127.0.0.1:9092"

func (g *globals) register(root *cobra.Command) {
	from := os.Getenv("KAFKA_BOOTSTRAP_SERVERS")
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

// options are what a client is made with.
func (g *globals) options() client.Options {
	return client.Options{BootstrapServers: strings.Split(g.bootstrap, ","), ClientID: "klamm-cli"}
}

// context bounds a command by --timeout, or by otherwise where that is not set;
// 0 means no bound.
func (g *globals) context(cmd *cobra.Command, otherwise time.Duration) (context.Context, context.CancelFunc) {
	d := g.timeout
	if d == 0 {
		d = otherwise
	}
	if d == 0 {
		return context.WithCancel(cmd.Context())
	}
	return context.WithTimeout(cmd.Context(), d)
}

// adminTimeout bounds a command that asks for or changes something.
const adminTimeout = 30 * time.Second

// admin runs f with an admin client.
func (g *globals) admin(cmd *cobra.Command, f func(ctx context.Context, a *client.Admin) error) error {
	if _, err := newPrinter(cmd.OutOrStdout(), g.format); err != nil {
		return err
	}
	ctx, cancel := g.context(cmd, adminTimeout)
	defer cancel()
	a, err := client.NewAdmin(client.AdminOptions{Options: g.options()})
	if err != nil {
		return err
	}
	defer a.Close()
	if err := f(ctx, a); err != nil {
		if ctx.Err() == context.DeadlineExceeded {
			return fmt.Errorf("%w (--bootstrap %s): %w", context.DeadlineExceeded, g.bootstrap, err)
		}
		return err
	}
	return nil
}

// say prints a line for people to stderr.
func (g *globals) say(cmd *cobra.Command, format string, args ...any) {
	if !g.quiet {
		fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
	}
}

// terminal reports whether w is a terminal.
func terminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// group returns a command that only has commands below it.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return usagef("%s needs one of its commands", cmd.CommandPath())
	}}
	c.AddCommand(subs...)
	return c
}

// atLeast refuses fewer than n arguments as a usage error.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("missing %s", what)
		}
		return nil
	}
}

// between refuses another number of arguments as a usage error.
func between(low, high int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return usagef("want %s", what)
		}
		return nil
	}
}
