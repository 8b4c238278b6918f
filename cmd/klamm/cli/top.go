package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/cmd/klamm/top"
)

// topFlags are the flags of klamm top.
type topFlags struct {
	once  bool
	every time.Duration
	view  string
	shown top.View
}

// leastInterval is how often a cluster is asked at most.
const leastInterval = 100 * time.Millisecond

func newTop(g *globals) *cobra.Command {
	var t topFlags
	cmd := &cobra.Command{
		Use: "top", Short: "Watch the cluster: brokers, topics, lag of groups, throughput and elections", Args: noArgs,
		Long: `Watch the cluster on a terminal: its brokers and what each leads, topics with replicas out of sync, groups and how far they are behind,
how much is written, and the elections that happen meanwhile. Brokers that die are shown as gone, and the others go on to be asked.

Keys: 1 to 4 or tab choose what is shown, s sorts, p pauses, ? shows all keys, q quits.

Where stdout is no terminal, a frame of plain text follows the other, without the keys. --once prints one, after it has watched for
--interval. With --format json a frame is an object; with tsv it is the rows of --view.`,
		Example: "  klamm top\n  klamm top --once --view groups\n  klamm top --once --format json | jq .elections",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var ok bool
			if t.shown, ok = top.ParseView(t.view); !ok {
				return usagef("--view %q: want %s", t.view, strings.Join(top.ViewNames(), ", "))
			}
			if t.every < leastInterval {
				return usagef("--interval %v: want %v or more", t.every, leastInterval)
			}
			out := file(cmd.OutOrStdout())
			if !t.once && g.format == "table" && terminal(out) {
				return t.watch(cmd, g, out)
			}
			return t.frames(cmd, g)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&t.once, "once", false, "print one frame and end")
	f.DurationVar(&t.every, "interval", time.Second, "how long to wait between two looks")
	f.StringVar(&t.view, "view", "brokers", "what to show first: "+strings.Join(top.ViewNames(), ", "))
	cmd.RegisterFlagCompletionFunc("view", cobra.FixedCompletions(top.ViewNames(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// client returns the client that asks. A broker that hangs is given up soon, so that another
// one is asked.
func (t *topFlags) client(cmd *cobra.Command, g *globals, quiet bool) (*client.Admin, error) {
	o, err := g.options(cmd)
	if err != nil {
		return nil, err
	}
	if quiet { // a line about a broker would stand in the middle of the screen
		o.Dial = nil
	}
	o.ConnectTimeout, o.RequestTimeout = time.Second, 2*time.Second
	return client.NewAdmin(client.AdminOptions{Options: o})
}

// watch runs the screen on a terminal until the user quits.
func (t *topFlags) watch(cmd *cobra.Command, g *globals, out *os.File) error {
	a, err := t.client(cmd, g, true)
	if err != nil {
		return err
	}
	defer a.Close()
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	o := newObserver(a, t.every)
	options := []tea.ProgramOption{tea.WithOutput(out), tea.WithoutSignalHandler()}
	if in := file(cmd.InOrStdin()); in != nil && terminal(in) {
		options = append(options, tea.WithInput(in))
	}
	p := tea.NewProgram(top.NewModel(t.shown, time.Now, o.pause), options...)
	defer context.AfterFunc(ctx, p.Quit)()
	o.start(ctx, func(fact any) { p.Send(fact) })
	_, err = p.Run()
	cancel()
	o.wait()
	if cmd.Context().Err() != nil {
		return context.Cause(cmd.Context())
	}
	if err != nil {
		return fmt.Errorf("the terminal: %w", err)
	}
	return nil
}

// frames prints frames as text, one or many.
func (t *topFlags) frames(cmd *cobra.Command, g *globals) error {
	a, err := t.client(cmd, g, false)
	if err != nil {
		return err
	}
	defer a.Close()
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
	if t.once && g.timeout == 0 {
		ctx, cancel = context.WithTimeoutCause(ctx, adminTimeout, &timeoutError{after: adminTimeout})
	}
	defer cancel()
	state := top.NewState()
	o := newObserver(a, t.every)
	what := "an answer from " + g.bootstrap
	for n := 0; ; n++ {
		for _, fact := range o.all(ctx) {
			state.Take(fact)
		}
		if ctx.Err() != nil {
			return g.waited(ctx, context.Cause(ctx), what)
		}
		// One look tells nothing of rates. Before there is an answer there is nothing to print.
		if state.Known() && (n > 0 || !t.once) {
			if err := t.print(p, state); err != nil {
				return err
			}
			if t.once {
				return nil
			}
		}
		select {
		case <-time.After(t.every):
		case <-ctx.Done():
		}
	}
}

// print prints a frame.
func (t *topFlags) print(p *printer, s *top.State) error {
	if p.format == "table" {
		return t.text(p.w, s, p.width)
	}
	if p.format == "tsv" {
		return p.print("", topRows(s.Table(t.shown)))
	}
	o := s.Facts()
	frame := object{{"time", o.At.UnixMilli()}, {"cluster_id", o.Cluster}, {"controller", o.Controller}, {"partitions", o.Partitions},
		{"under_replicated", o.UnderReplicated}, {"under_min_isr", o.UnderMinISR}, {"offline", o.Offline}}
	for v, name := range top.ViewNames() {
		frame = append(frame, field{name, topRows(s.Table(top.View(v))).objects()})
	}
	if p.format == "yaml" {
		return p.yaml(frame)
	}
	return p.json(frame)
}

// topRows are a view as rows.
func topRows(t top.Table) *rows {
	r := &rows{columns: t.Columns}
	for _, row := range t.Rows {
		values := make([]any, len(row.Values))
		for i, v := range row.Values {
			switch x := v.(type) {
			case top.Bytes:
				v = int64(x)
			case top.PerSecond:
				v = thousandths(float64(x))
			case top.BytesRate:
				v = thousandths(float64(x))
			case time.Time:
				v = x.UnixMilli()
			}
			values[i] = v
		}
		r.add(values...)
	}
	return r
}

// text prints a frame with every view, the chosen one first.
func (t *topFlags) text(w io.Writer, s *top.State, width int) error {
	var b strings.Builder
	add := func(lines []top.Line) {
		for _, l := range lines {
			b.WriteString(top.Cut(l.Text, width) + "\n")
		}
		b.WriteString("\n")
	}
	add(s.Summary(time.Now(), ""))
	order := []top.View{t.shown}
	for v := range top.ViewNames() {
		if top.View(v) != t.shown {
			order = append(order, top.View(v))
		}
	}
	for _, v := range order {
		table := s.Table(v)
		top.SortFirst(v, &table)
		if len(table.Rows) > 0 {
			add(table.Lines())
		}
	}
	_, err := io.WriteString(w, strings.TrimSuffix(b.String(), "\n"))
	return err
}
