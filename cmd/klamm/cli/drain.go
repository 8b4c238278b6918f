package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
)

// drainFlags are the flags of klamm broker drain.
type drainFlags struct {
	dry, wait, cancel bool
	rate              int64
}

func newBrokerDrain(g *globals) *cobra.Command {
	var d drainFlags
	cmd := &cobra.Command{
		Use: "drain ID", Short: "Move all replicas of a broker, and what it leads, to others", Args: between(1, 1, "the ID of a broker"),
		Long: `Move all replicas of a broker to the others, in as many racks as there are and evenly, and with them what it leads. Every topic
keeps its number of replicas; if a partition cannot, nothing is moved, and the exit code is 1.

The moves go on by themselves once they have begun. Run the command again to begin what is missing, such as topics that were created
meanwhile, and with --wait to wait until the broker has nothing left. --cancel ends the moves, and the broker keeps what it has.`,
		Example:           "  klamm broker drain 3 --dry-run\n  klamm broker drain 3 --wait && klamm broker unregister 3\n  klamm broker drain 3 --throttle 50000000 --wait",
		ValidArgsFunction: g.completeBrokers,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseBrokerID(args[0])
			if err != nil {
				return err
			}
			bound := adminTimeout
			if d.wait {
				bound = 0
			}
			return g.adminFor(cmd, bound, func(ctx context.Context, a *client.Admin) error {
				l, err := layoutOf(ctx, a)
				if err == nil {
					err = l.has("broker", id)
				}
				switch {
				case err != nil:
					return err
				case d.cancel:
					return d.end(ctx, cmd, g, a, &l, id)
				}
				return d.run(ctx, cmd, g, a, &l, id)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&d.dry, "dry-run", false, "only show what would be moved")
	f.BoolVar(&d.wait, "wait", false, "wait until the broker has no replica left, as long as --timeout allows")
	f.BoolVar(&d.cancel, "cancel", false, "end the moves off the broker that are under way")
	f.Int64Var(&d.rate, "throttle", 0, "copy at most so many bytes a second, from and to each broker; 0 means no limit")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "wait", "cancel")
	return cmd
}

func (d *drainFlags) run(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, l *layout, id int32) error {
	moves, err := drained(l, id)
	if err != nil {
		return fmt.Errorf("broker %d cannot be drained: %w", id, err)
	}
	if d.dry {
		p, err := newPrinter(cmd.OutOrStdout(), g.format)
		if err != nil {
			return err
		}
		g.say(cmd, "klamm: %s to move off broker %d", counted(len(moves), "replica"), id)
		return p.print("", planRows(moves))
	}
	if err := d.begin(ctx, a, l, moves, id); err != nil {
		return err
	}
	if !d.wait {
		next, err := layoutOf(ctx, a)
		if err != nil {
			return err
		}
		return d.report(cmd, g, &next, id)
	}
	before := make(map[client.TopicPartition]bool)
	total := l.held()[id].replicas
	topics := topicsOf(off(l, id))
	goOn := fmt.Sprintf("run klamm broker drain %d --wait again, or with --cancel to end it", id)
	err = g.watch(ctx, cmd, fmt.Sprintf("moving replicas off broker %d", id), goOn, func(ctx context.Context) (int, int, error) {
		next, err := layoutOf(ctx, a)
		if err != nil {
			return 0, 0, err
		}
		*l = next
		topics = append(topics, topicsOf(off(l, id))...)
		left := l.held()[id].replicas
		total = max(total, left)
		more, err := drained(l, id) // of topics that were created, or of moves that somebody ended
		seen := make(map[client.TopicPartition]bool)
		for _, m := range more {
			seen[m.tp] = true
		}
		// Of one that is seen for the first time, the broker that was asked may be behind the controller.
		more = slices.DeleteFunc(more, func(m move) bool { return !before[m.tp] })
		if before = seen; err == nil && len(more) > 0 {
			err = d.begin(ctx, a, l, more, id)
		}
		return total - left, total, err
	})
	if err != nil {
		return err
	}
	if _, err := g.unthrottle(ctx, cmd, a, existing(l, topics)); err != nil {
		return err
	}
	return d.report(cmd, g, l, id)
}

// begin begins moves off a broker.
func (d *drainFlags) begin(ctx context.Context, a *client.Admin, l *layout, moves []move, id int32) error {
	if d.rate > 0 {
		if err := throttle(ctx, a, l, moves, topicsOf(append(slices.Clone(moves), off(l, id)...)), d.rate); err != nil {
			return err
		}
	}
	results, err := begin(ctx, a, moves, true)
	if err != nil {
		return err
	}
	return refused(results, "moves were refused")
}

// off returns the moves under way that take a replica off a broker.
func off(l *layout, id int32) (out []move) {
	for tp, m := range l.moving {
		if slices.Contains(m.Removing, id) {
			out = append(out, move{tp, m.Replicas, m.Target()})
		}
	}
	slices.SortFunc(out, func(a, b move) int { return comparePartitions(a.tp, b.tp) })
	return out
}

// existing returns those of topics that there are, each once.
func existing(l *layout, topics []string) (out []string) {
	slices.Sort(topics)
	for _, t := range slices.Compact(topics) {
		if l.topic(t) != nil {
			out = append(out, t)
		}
	}
	return out
}

// end ends the moves off a broker.
func (d *drainFlags) end(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, l *layout, id int32) error {
	moves := off(l, id)
	results, err := cancelMoves(ctx, a, moves)
	if err != nil {
		return err
	}
	if err := refused(results, "moves could not be ended"); err != nil {
		return err
	}
	next, err := layoutOf(ctx, a)
	if err != nil {
		return err
	}
	if _, err := g.unthrottle(ctx, cmd, a, existing(&next, topicsOf(moves))); err != nil {
		return err
	}
	g.say(cmd, "klamm: %s ended", counted(len(moves), "move"))
	return d.report(cmd, g, &next, id)
}

// report prints what a broker still has.
func (d *drainFlags) report(cmd *cobra.Command, g *globals, l *layout, id int32) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	h := l.held()[id]
	state := brokerState(slices.ContainsFunc(l.cluster.Fenced, func(b client.BrokerInfo) bool { return b.ID == id }), h)
	if h.replicas == 0 {
		state = "drained"
	}
	r := &rows{columns: []string{"broker", "state", "replicas", "moving", "leaders"}}
	r.add(id, state, h.replicas, h.leaving, h.leaders)
	return p.print("", r)
}
