package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/wire/kerr"
)

// movesAtOnce is how many partitions one request gives other replicas. The controller
// writes the moves of a request as one batch, which has a limit.
const movesAtOnce = 1000

// begin begins moves and returns the error of each partition. Moves that were planned keep
// the number of replicas: a plan that was made from metadata which lag behind would change it.
func begin(ctx context.Context, a *client.Admin, moves []move, planned bool) (map[client.TopicPartition]error, error) {
	results := make(map[client.TopicPartition]error)
	for some := range slices.Chunk(moves, movesAtOnce) {
		to := make(map[client.TopicPartition][]int32)
		for _, m := range some {
			to[m.tp] = m.to
		}
		errs, err := a.AlterPartitionReassignments(ctx, to, planned)
		if err != nil {
			return results, err
		}
		maps.Copy(results, errs)
	}
	return results, nil
}

// cancelMoves ends moves that are under way and returns the error of each partition; it is
// none that one is complete.
func cancelMoves(ctx context.Context, a *client.Admin, moves []move) (map[client.TopicPartition]error, error) {
	results := make(map[client.TopicPartition]error)
	for some := range slices.Chunk(moves, movesAtOnce) {
		to := make(map[client.TopicPartition][]int32)
		for _, m := range some {
			to[m.tp] = nil
		}
		errs, err := a.AlterPartitionReassignments(ctx, to, false)
		if err != nil {
			return results, err
		}
		for tp, err := range errs {
			if errors.Is(err, kerr.NoReassignmentInProgress) {
				err = nil
			}
			results[tp] = err
		}
	}
	return results, nil
}

// refused returns an error that counts what was refused and has the words of the first
// one, nil if nothing was.
func refused(results map[client.TopicPartition]error, what string) error {
	var first error
	failed := 0
	for _, tp := range slices.SortedFunc(maps.Keys(results), comparePartitions) {
		if err := results[tp]; err != nil {
			if failed++; first == nil {
				first = fmt.Errorf("%s-%d: %w", tp.Topic, tp.Partition, err)
			}
		}
	}
	if failed > 1 {
		return fmt.Errorf("%d of %d %s; the first is %w", failed, len(results), what, first)
	}
	return first
}

func comparePartitions(a, b client.TopicPartition) int {
	if c := strings.Compare(a.Topic, b.Topic); c != 0 {
		return c
	}
	return int(a.Partition - b.Partition)
}

// The states of a move.
const (
	stateComplete = "complete"
	stateMoving   = "in progress"
	stateOther    = "not as asked" // it has other replicas, and nothing is under way
	stateInstead  = "superseded"   // another move is under way
	stateMissing  = "no such partition"
)

// state returns how far a move has come.
func (l *layout) state(m move) string {
	t := l.topic(m.tp.Topic)
	if t == nil || int(m.tp.Partition) >= len(t.Partitions) {
		return stateMissing
	}
	if now, ok := l.moving[m.tp]; ok {
		if slices.Equal(now.Target(), m.to) {
			return stateMoving
		}
		return stateInstead
	}
	if slices.Equal(t.Partitions[m.tp.Partition].Replicas, m.to) {
		return stateComplete
	}
	return stateOther
}

// states returns how far each move has come, and how many are in each state.
func (l *layout) states(moves []move) (all []string, n map[string]int) {
	n = make(map[string]int)
	for _, m := range moves {
		s := l.state(m)
		all = append(all, s)
		n[s]++
	}
	return all, n
}

// settleLooks is how many looks are taken before a move that looks as if nobody had asked
// for it counts as that: the broker that is asked for the replicas may be behind the
// controller, which says that nothing is under way.
const settleLooks = 10

// settled returns the layout once each of the moves is in a state that lasts.
func settled(ctx context.Context, a *client.Admin, moves []move) (l layout, err error) {
	for range settleLooks {
		if l, err = layoutOf(ctx, a); err != nil {
			return l, err
		}
		if _, n := l.states(moves); n[stateOther] == 0 {
			break
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			return l, context.Cause(ctx)
		}
	}
	return l, nil
}

// planRows are moves as a table. A caller that has states adds them.
func planRows(moves []move) *rows {
	r := &rows{columns: []string{"topic", "partition", "from", "to"}}
	for _, m := range moves {
		r.add(m.tp.Topic, m.tp.Partition, m.from, m.to)
	}
	return r
}

// moveBar shows on a terminal how far moves have come. Without one it shows nothing.
type moveBar struct {
	cmd  *cobra.Command
	bar  *progressbar.ProgressBar
	what string
}

func (g *globals) moveBar(cmd *cobra.Command, what string) *moveBar {
	b := &moveBar{cmd: cmd, what: what}
	if !g.quiet && terminal(cmd.ErrOrStderr()) {
		b.bar = progressbar.NewOptions(1, progressbar.OptionSetWriter(cmd.ErrOrStderr()), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(20),
			progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(false), progressbar.OptionSetDescription(what))
	}
	return b
}

func (b *moveBar) at(done, of int) {
	if b.bar != nil {
		b.bar.ChangeMax(max(of, 1))
		b.bar.Set(min(done, of))
	}
}

func (b *moveBar) finish() {
	if b.bar != nil {
		b.bar.Finish()
	}
}

// look is one look at what is waited for: how much is done of how much, and how that is
// said. done and of are equal once all is.
type look func(ctx context.Context) (done, of int, err error)

// watch looks again and again until all is done. A look that fails is repeated while the
// client thinks that it may succeed, since brokers come and go while replicas move. If ctx
// ends before that, the error says how far it had come, and how to go on.
func (g *globals) watch(ctx context.Context, cmd *cobra.Command, what, goOn string, at look) error {
	bar := g.moveBar(cmd, what)
	defer bar.finish()
	done, of := 0, 0
	for {
		d, n, err := at(ctx)
		switch {
		case err == nil:
			if done, of = d, n; done == of {
				return nil
			}
			bar.at(done, of)
		case ctx.Err() == nil && !passing(err):
			return err
		}
		select {
		case <-time.After(lookAgain):
		case <-ctx.Done():
			bar.finish()
			how := fmt.Sprintf("%d of %d done; the rest goes on by itself: %s", done, of, goOn)
			var t *timeoutError
			if errors.As(context.Cause(ctx), &t) {
				return &timeoutError{after: t.after, what: what, last: errors.New(how)}
			}
			return said(context.Cause(ctx), "%s", how)
		}
	}
}

// passing reports whether an error may pass while brokers come and go.
func passing(err error) bool {
	var code kerr.Code
	if errors.As(err, &code) {
		return code.Retriable() || code == kerr.InvalidReplicationFactor // planned from metadata that lag behind
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrNoBroker)
}
