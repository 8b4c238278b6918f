// Package cli is the command line of klamm. Data goes to stdout and everything
// else to stderr.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/config"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitTimeout     = 124
	exitInterrupted = 130
	exitReaderGone  = 141 // as of a process that SIGPIPE ends
)

// usageError is a mistake in the words of a command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef returns a usageError.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs a command until it ends, or until a signal, and returns its
// exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	defer signalled(cancel)()
	return run(ctx, args, stdin, stdout, stderr)
}

// run runs a command until it ends, or soon after ctx has ended.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if f, ok := stdout.(*os.File); ok {
		stdout = &outlet{ctx: ctx, f: f}
	}
	if _, ok := stderr.(*os.File); !ok {
		stderr = &syncWriter{w: stderr}
	}
	g := &globals{stop: cancel, reach: new(reach)}
	root := newRoot(g)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	type ending struct {
		cmd *cobra.Command
		err error
	}
	ended := make(chan ending, 1)
	go func() {
		cmd, err := root.ExecuteContextC(ctx)
		ended <- ending{cmd, err}
	}()
	var e ending
	select {
	case e = <-ended:
	case <-ctx.Done():
		expired := time.NewTimer(abandonAfter)
		defer expired.Stop()
		for e.cmd == nil {
			select {
			case e = <-ended:
			case <-expired.C:
				if !g.serving.Load() { // a broker may take its time to stop
					e = ending{root, said(context.Cause(ctx), "gave up waiting for the command to stop")}
				}
			}
		}
	}
	return report(ctx, g, e.cmd, e.err, stderr)
}

// report says how a command ended and returns its exit code.
func report(ctx context.Context, g *globals, cmd *cobra.Command, err error, stderr io.Writer) int {
	if err != nil && !g.began.Load() { // what is refused before a command begins are its words
		err = usageError{err}
	}
	code := exitCode(ctx, g, err)
	switch code {
	case exitOK:
	case exitInterrupted:
		tell(stderr, errInterrupted, err)
	case exitReaderGone:
		tell(stderr, errReaderGone, err)
	case exitTimeout:
		if err = g.waited(ctx, err, ""); err == nil {
			err = context.Cause(ctx)
		}
		fmt.Fprintf(stderr, "klamm: %v\n", err)
	default:
		text := plain(err)
		if text == "" {
			text = noAnswer
		}
		fmt.Fprintf(stderr, "klamm: %s\n", text)
	}
	if code == exitUsage {
		fmt.Fprintf(stderr, "see '%s --help'\n", cmd.CommandPath())
	}
	return code
}

// tell prints why a command stopped, if it has something to say of that.
func tell(stderr io.Writer, why, err error) {
	var own *saidError
	if errors.As(err, &own) {
		fmt.Fprintf(stderr, "klamm: %v: %v\n", why, own)
	}
}

func exitCode(ctx context.Context, g *globals, err error) int {
	var usage usageError
	var stop stopError
	var timeout *timeoutError
	switch {
	case err == nil && g.serving.Load() && errors.As(context.Cause(ctx), &timeout):
		return exitTimeout // a broker was to serve only so long
	case err == nil:
		return exitOK
	case errors.As(err, &usage), errors.Is(err, config.ErrInvalid):
		return exitUsage
	case errors.As(err, &stop):
		return exitFailed
	case readerGone(err) || errors.Is(context.Cause(ctx), errReaderGone):
		return exitReaderGone
	case errors.As(err, &timeout) || errors.As(context.Cause(ctx), &timeout):
		return exitTimeout
	case ctx.Err() != nil:
		return exitInterrupted
	}
	return exitFailed
}

func newRoot(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:           "klamm",
		Short:         "A Kafka-compatible broker, producer, consumer and admin tool",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return nil
		},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return g.begin(cmd) },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	g.register(root)
	start := newStart()
	start.RegisterFlagCompletionFunc("override", completeKeys(config.KindBroker, "="))
	root.AddCommand(start, newProduce(g), newConsume(g), newTopic(g), newGroup(g), newBroker(g), newCluster(g), newConfig(g), newTop(g), newLog(g), newStorage(g), newBench(g), newVersion(g))
	root.SetHelpCommand(newHelp(root))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	g.note(root)
	return root
}

// newHelp is cobra's help, but that it refuses what is no command.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND...]", Short: "Show the help of a command",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("there is no command %q", strings.Join(args, " "))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}
