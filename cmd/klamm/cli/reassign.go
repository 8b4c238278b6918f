package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
)

// reassignFlags are the flags of klamm topic reassign.
type reassignFlags struct {
	replicas, file, save            string
	brokers                         []int32
	dry, wait, verify, list, cancel bool
	rate                            int64

	asked assignment // of --replicas or the file, nil for neither
}

func newTopicReassign(g *globals) *cobra.Command {
	var r reassignFlags
	cmd := &cobra.Command{
		Use: "reassign [NAME...]", Short: "Move the replicas of topics to other brokers", Args: topics(atLeast(0, "the NAME of a topic"), 0),
		Long: `Move the replicas of partitions to other brokers: to those that --replicas gives for one topic, those of a file that
kafka-reassign-partitions reads too, or evenly over --brokers, in as many racks as there are and with few moves. The first replica of a
partition is the one that leads if it can.

The moves begin at once and go on by themselves. --wait waits for them; --verify, with what was asked for, says how far they have come, and
removes their throttle once nothing moves any more. --list shows all moves that are under way, and --cancel ends them: those of the
partitions that are named, or of the topics. A move of a partition takes the place of one that is under way.

With --format json, --dry-run prints what --reassignment-json-file reads, and --save FILE writes what takes the replicas back.

Exit codes: 0 all moves have begun, or with --wait and --verify are complete; 1 a move was refused, or with --verify is not complete.`,
		Example: `  klamm topic reassign orders --brokers 1,2,3,4 --dry-run
  klamm topic reassign orders --brokers 1,2,3,4 --throttle 50000000 --wait
  klamm topic reassign orders --replicas "0:1,2,3;1:2,3,1"
  klamm topic reassign --reassignment-json-file moves.json && klamm topic reassign --reassignment-json-file moves.json --verify`,
		ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.check(cmd, args); err != nil {
				return err
			}
			bound := adminTimeout
			if r.wait {
				bound = 0
			}
			return g.adminFor(cmd, bound, func(ctx context.Context, a *client.Admin) error { return r.run(ctx, cmd, g, a, args) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.replicas, "replicas", "", "replicas of partitions of the topic, as PARTITION:BROKER,BROKER...;PARTITION:...")
	f.StringVar(&r.file, "reassignment-json-file", "", "replicas of partitions, in JSON as kafka-reassign-partitions has it")
	f.Int32SliceVar(&r.brokers, "brokers", nil, "spread the topics over these brokers")
	f.BoolVar(&r.dry, "dry-run", false, "only show what would be moved")
	f.BoolVar(&r.wait, "wait", false, "wait until all moves are complete, as long as --timeout allows")
	f.BoolVar(&r.verify, "verify", false, "show how far the moves have come")
	f.BoolVar(&r.list, "list", false, "show all moves that are under way")
	f.BoolVar(&r.cancel, "cancel", false, "end the moves that are under way")
	f.Int64Var(&r.rate, "throttle", 0, "copy at most so many bytes a second, from and to each broker; 0 means no limit")
	f.StringVar(&r.save, "save", "", "file to write the replicas to as they are now, as --reassignment-json-file reads them")
	cmd.MarkFlagsMutuallyExclusive("replicas", "reassignment-json-file", "brokers")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "wait", "verify", "list", "cancel")
	return cmd
}

// check refuses what makes no sense, and reads what is asked for.
func (r *reassignFlags) check(cmd *cobra.Command, names []string) (err error) {
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	looks := r.verify || r.list || r.cancel
	source := given("replicas") || given("reassignment-json-file") || given("brokers")
	switch {
	case given("replicas") && len(names) != 1:
		return usagef("--replicas: want the NAME of one topic")
	case given("reassignment-json-file") && len(names) > 0:
		return usagef("--reassignment-json-file names the topics: %s is too many", names[0])
	case given("brokers") && looks:
		return usagef("--brokers cannot be looked for: name the topics, or give the replicas")
	case given("brokers") && (len(r.brokers) == 0 || len(names) == 0):
		return usagef("--brokers: want the NAME of a topic, and a broker")
	case !source && !looks:
		return usagef("nothing to move: give --replicas, --reassignment-json-file or --brokers")
	case r.verify && !source:
		return usagef("--verify: give --replicas or --reassignment-json-file")
	case r.list && source:
		return usagef("--list shows the moves of topics, or all")
	case r.cancel && !source && len(names) == 0:
		return usagef("--cancel: want the NAME of a topic, --replicas or --reassignment-json-file")
	case given("save") && r.save == "":
		return usagef("--save: want the name of a file")
	case r.rate > 0 && (looks || r.dry), given("save") && looks:
		return usagef("--throttle and --save are for moves that begin")
	case given("replicas"):
		if r.asked, err = parseReplicas(names[0], r.replicas); err != nil {
			return usagef("--replicas %q: %w", r.replicas, err)
		}
	case given("reassignment-json-file"):
		if r.asked, err = readReassignment(r.file); err != nil {
			return usagef("--reassignment-json-file: %w", err)
		}
	}
	return nil
}

func (r *reassignFlags) run(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, names []string) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	l, err := layoutOf(ctx, a)
	if err != nil {
		return err
	}
	for _, name := range names {
		if l.topic(name) == nil {
			return fmt.Errorf("there is no topic %s", name)
		}
	}
	switch {
	case r.list:
		return listMoves(p, &l, names)
	case r.cancel:
		return r.end(ctx, cmd, g, a, &l, names)
	}
	moves, err := r.plan(&l, names)
	switch {
	case err != nil:
		return err
	case r.verify:
		if l, err = settled(ctx, a, moves); err != nil {
			return err
		}
		return verifyMoves(ctx, cmd, g, a, &l, p, moves)
	case r.dry && p.format == "json":
		err = p.json(fileOf(changing(moves), false))
	case r.dry:
		err = p.print("", planRows(changing(moves)))
	}
	if err != nil {
		return err
	}
	if r.save != "" {
		if err := r.saveTo(changing(moves)); err != nil {
			return err
		}
	}
	if r.dry {
		g.say(cmd, "klamm: %s to move", counted(len(changing(moves)), "partition"))
		return nil
	}
	return r.execute(ctx, cmd, g, a, &l, p, moves)
}

// plan returns the moves that are asked for, also those that have begun or are complete
// already, since they are waited for too.
func (r *reassignFlags) plan(l *layout, names []string) ([]move, error) {
	if r.asked != nil {
		return r.asked.moves(l)
	}
	var on []client.BrokerInfo
	for _, id := range r.brokers {
		if err := l.has("--brokers", id); err != nil {
			return nil, err
		}
		for _, b := range l.registered() {
			if b.ID == id && !slices.Contains(on, b) {
				on = append(on, b)
			}
		}
	}
	moves, err := generated(l, names, on)
	if err != nil {
		return nil, err
	}
	for tp, m := range l.moving {
		if slices.Contains(names, tp.Topic) && !slices.ContainsFunc(moves, func(m move) bool { return m.tp == tp }) {
			moves = append(moves, move{tp, m.Target(), m.Target()})
		}
	}
	slices.SortFunc(moves, func(x, y move) int { return comparePartitions(x.tp, y.tp) })
	return moves, nil
}

// changing returns those of moves that begin something.
func changing(moves []move) []move {
	return slices.DeleteFunc(slices.Clone(moves), func(m move) bool { return slices.Equal(m.from, m.to) })
}

func (r *reassignFlags) saveTo(moves []move) error {
	f, err := os.Create(r.save)
	if err != nil {
		return err
	}
	return errors.Join((&printer{w: f}).json(fileOf(moves, true)), f.Close())
}

func (r *reassignFlags) execute(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, l *layout, p *printer, moves []move) error {
	if r.rate > 0 {
		if err := throttle(ctx, a, l, changing(moves), topicsOf(moves), r.rate); err != nil {
			return err
		}
	}
	results, err := begin(ctx, a, changing(moves), r.asked == nil)
	if err != nil {
		return err
	}
	if err := refused(results, "moves were refused"); err != nil {
		return err
	}
	if r.wait {
		err := g.watch(ctx, cmd, "moving replicas", "run the command again to wait on, or with --cancel to end it", func(ctx context.Context) (int, int, error) {
			next, err := settled(ctx, a, moves)
			if err != nil {
				return 0, 0, err
			}
			*l = next
			_, n := l.states(moves)
			if n[stateInstead]+n[stateOther]+n[stateMissing] > 0 {
				return 0, 0, errNotAsAsked
			}
			return n[stateComplete], len(moves), nil
		})
		if err != nil && !errors.Is(err, errNotAsAsked) {
			return err
		}
	} else if *l, err = layoutOf(ctx, a); err != nil {
		return err
	}
	if r.wait {
		return verifyMoves(ctx, cmd, g, a, l, p, moves)
	}
	if r.rate > 0 {
		g.say(cmd, "klamm: the throttle of %d bytes a second stays until --verify or --wait finds that nothing moves any more", r.rate)
	}
	return printStates(p, l, moves)
}

// errNotAsAsked is the error of moves that are not complete.
var errNotAsAsked = errors.New("not all replicas are where they were asked to be")

// printStates prints how far moves have come.
func printStates(p *printer, l *layout, moves []move) error {
	r := &rows{columns: []string{"topic", "partition", "replicas", "state"}}
	all, _ := l.states(moves)
	for i, m := range moves {
		r.add(m.tp.Topic, m.tp.Partition, m.to, all[i])
	}
	return p.print("", r)
}

// verifyMoves prints how far moves have come, removes their throttle once nothing moves
// any more, and fails if one is not complete.
func verifyMoves(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, l *layout, p *printer, moves []move) error {
	if err := printStates(p, l, moves); err != nil {
		return err
	}
	removed, err := g.unthrottle(ctx, cmd, a, existing(l, topicsOf(moves)))
	if err != nil {
		return err
	}
	if removed {
		g.say(cmd, "klamm: the throttle is removed")
	}
	if _, n := l.states(moves); n[stateComplete] < len(moves) {
		return fmt.Errorf("%w: %d of %d are complete", errNotAsAsked, n[stateComplete], len(moves))
	}
	return nil
}

// listMoves prints the moves that are under way: of topics, or of all.
func listMoves(p *printer, l *layout, names []string) error {
	r := &rows{columns: []string{"topic", "partition", "replicas", "adding", "removing"}}
	var tps []client.TopicPartition
	for tp := range l.moving {
		if len(names) == 0 || slices.Contains(names, tp.Topic) {
			tps = append(tps, tp)
		}
	}
	slices.SortFunc(tps, comparePartitions)
	for _, tp := range tps {
		m := l.moving[tp]
		r.add(tp.Topic, tp.Partition, m.Replicas, m.Adding, m.Removing)
	}
	return p.print("", r)
}

// end ends moves that are under way.
func (r *reassignFlags) end(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, l *layout, names []string) error {
	var moves []move
	for tp, m := range l.moving {
		_, asked := r.asked[tp]
		if asked || r.asked == nil && slices.Contains(names, tp.Topic) {
			moves = append(moves, move{tp, m.Replicas, m.Target()})
		}
	}
	slices.SortFunc(moves, func(x, y move) int { return comparePartitions(x.tp, y.tp) })
	results, err := cancelMoves(ctx, a, moves)
	if err != nil {
		return err
	}
	named := make(map[string]error)
	for tp, err := range results {
		named[fmt.Sprintf("%s-%d", tp.Topic, tp.Partition)] = err
	}
	if len(named) == 0 {
		g.say(cmd, "klamm: nothing is under way")
	}
	err = outcome(cmd, g, "ended", nil, named)
	_, e := g.unthrottle(ctx, cmd, a, existing(l, topicsOf(moves)))
	return errors.Join(err, e)
}
