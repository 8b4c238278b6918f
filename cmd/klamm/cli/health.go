package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/wire/kerr"
)

// health counts what is well in a cluster, and what is not.
type health struct {
	brokers, topics, partitions   int
	leaderless, underReplicated   int
	controller                    int32 // -1 if there is none
	missing                       []int32
	firstLeaderless, firstLagging string
}

func healthOf(ctx context.Context, a *client.Admin) (h health, err error) {
	c, err := a.DescribeCluster(ctx)
	if err != nil {
		return h, err
	}
	q, err := a.DescribeQuorum(ctx)
	if err != nil {
		return h, err
	}
	topics, err := a.ListTopics(ctx)
	if err != nil {
		return h, err
	}
	h.brokers, h.controller = len(c.Brokers), q.Leader
	for _, t := range topics {
		h.topics++
		for _, p := range t.Partitions {
			h.partitions++
			name := fmt.Sprintf("%s-%d", t.Name, p.Partition)
			if p.Leader < 0 || p.Err != nil && !errors.Is(p.Err, kerr.ReplicaNotAvailable) {
				h.leaderless++
				if h.firstLeaderless == "" {
					h.firstLeaderless = name
				}
			}
			if len(p.ISR) < len(p.Replicas) {
				h.underReplicated++
				if h.firstLagging == "" {
					h.firstLagging = name
				}
			}
			for _, id := range p.Replicas {
				if !slices.ContainsFunc(c.Brokers, func(b client.BrokerInfo) bool { return b.ID == id }) && !slices.Contains(h.missing, id) {
					h.missing = append(h.missing, id)
				}
			}
		}
	}
	slices.Sort(h.missing)
	return h, nil
}

func (h health) well() bool {
	return h.controller >= 0 && h.leaderless == 0 && h.underReplicated == 0 && len(h.missing) == 0
}

// String says it in one line.
func (h health) String() string {
	of := fmt.Sprintf("%s, %s, %s", counted(h.brokers, "broker"), counted(h.topics, "topic"), counted(h.partitions, "partition"))
	if h.well() {
		return "healthy: " + of
	}
	var wrong []string
	if h.controller < 0 {
		wrong = append(wrong, "no active controller")
	}
	if len(h.missing) > 0 {
		wrong = append(wrong, strings.ReplaceAll(fmt.Sprintf("brokers %v are not there", h.missing), "[", ""))
		wrong[len(wrong)-1] = strings.ReplaceAll(wrong[len(wrong)-1], "]", "")
	}
	if h.leaderless > 0 {
		wrong = append(wrong, fmt.Sprintf("%s without a leader, the first is %s", counted(h.leaderless, "partition"), h.firstLeaderless))
	}
	if h.underReplicated > 0 {
		wrong = append(wrong, fmt.Sprintf("%s with replicas out of sync, the first is %s", counted(h.underReplicated, "partition"), h.firstLagging))
	}
	return "not healthy: " + strings.Join(wrong, "; ") + " (" + of + ")"
}

// counted returns a number and what it counts.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// lookAgain is how long health --wait waits between two looks.
const lookAgain = 200 * time.Millisecond

var errNotHealthy = errors.New("the cluster is not healthy")

func newClusterHealth(g *globals) *cobra.Command {
	var exitCode, wait bool
	cmd := &cobra.Command{
		Use: "health", Short: "Say in one line whether the cluster is well", Args: noArgs,
		Long: `Say in one line whether the cluster is well: there is an active controller, every broker that has replicas is there, and every
partition has a leader and all its replicas in sync. With --exit-code the exit code is 1 if it is not. With --wait the command waits
until it is, as long as --timeout allows.`,
		Example: "  klamm cluster health --wait --timeout 60s",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				h, err := healthOf(ctx, a)
				for wait && err == nil && !h.well() {
					select {
					case <-time.After(lookAgain):
						if next, e := healthOf(ctx, a); e == nil || ctx.Err() == nil {
							h, err = next, e
						}
					case <-ctx.Done():
						return fmt.Errorf("%w: %w", context.Cause(ctx), errors.New(h.String()))
					}
				}
				if err != nil {
					return err
				}
				if err := printHealth(cmd, g, h); err != nil {
					return err
				}
				if exitCode && !h.well() {
					return errNotHealthy
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 1 if the cluster is not well")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the cluster is well")
	return cmd
}

func printHealth(cmd *cobra.Command, g *globals, h health) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	all := object{{"healthy", h.well()}, {"controller", h.controller}, {"brokers", h.brokers}, {"missing_brokers", append([]int32{}, h.missing...)}, {"topics", h.topics},
		{"partitions", h.partitions}, {"leaderless", h.leaderless}, {"under_replicated", h.underReplicated}}
	switch g.format {
	case "json":
		return p.json(all)
	case "yaml":
		return p.yaml(all)
	case "tsv":
		r := &rows{columns: []string{"healthy", "controller", "brokers", "topics", "partitions", "leaderless", "under_replicated"}}
		r.add(h.well(), h.controller, h.brokers, h.topics, h.partitions, h.leaderless, h.underReplicated)
		return p.print("", r)
	}
	_, err = fmt.Fprintln(p.w, h)
	return err
}

func newTopicElect(g *globals) *cobra.Command {
	var (
		partitions []int32
		unclean    bool
		yes        bool
	)
	cmd := &cobra.Command{
		Use: "elect NAME", Short: "Have the first replica of partitions lead", Args: topics(between(1, 1, "one NAME"), 1),
		Long: `Have the first replica of each partition lead, where it is in sync. With --unclean any replica that lives leads where there is no
leader, and the records that only others have are lost.`,
		Example:           "  klamm topic elect orders\n  klamm topic elect orders -p 0 --unclean --yes",
		ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if unclean && !yes {
				return usagef("--unclean loses records that only other replicas have: say --yes too")
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				tps, err := topicPartitions(ctx, a, args[0], partitions)
				if err != nil {
					return err
				}
				elected, err := a.ElectLeaders(ctx, unclean, tps...)
				if err != nil {
					return err
				}
				results, words := make(map[string]error), make(map[string]string)
				for tp, err := range elected {
					name := fmt.Sprintf("%s-%d", tp.Topic, tp.Partition)
					if results[name] = err; errors.Is(err, kerr.ElectionNotNeeded) {
						results[name], words[name] = nil, "no election needed"
					}
				}
				return outcome(cmd, g, "elected", words, results)
			})
		},
	}
	f := cmd.Flags()
	f.Int32SliceVarP(&partitions, "partition", "p", nil, "partitions; default all")
	f.BoolVar(&unclean, "unclean", false, "where there is no leader, take any replica")
	f.BoolVarP(&yes, "yes", "y", false, "lose records if it must be")
	return cmd
}
