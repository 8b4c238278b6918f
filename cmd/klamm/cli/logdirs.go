package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
)

func newLogDirs(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "dirs [TOPIC...]", Short: "Show how much each partition takes, by broker and data directory",
		Long: `Show how much each partition takes, by broker and data directory: of the topics, or of all.

A directory that has failed is one row without a partition, and the exit code is 1 then.`,
		Example:           "  klamm log dirs orders\n  klamm log dirs --format tsv | sort -t $'\\t' -k5 -n | tail",
		Args:              topics(atLeast(0, "a TOPIC"), 0),
		ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, topics []string) error {
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error { return describeLogDirs(ctx, cmd, g, a, topics) })
		},
	}
}

func describeLogDirs(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, topics []string) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	dirs, err := a.DescribeLogDirs(ctx)
	if err != nil {
		return err
	}
	var failed []error
	found := make(map[string]bool)
	out := &rows{columns: []string{"broker", "directory", "topic", "partition", "bytes", "lag", "moving_here", "error"}}
	for _, d := range dirs {
		if d.Err != nil {
			failed = append(failed, fmt.Errorf("broker %d: %s: %w", d.Broker, d.Path, d.Err))
			out.add(d.Broker, d.Path, nil, nil, nil, nil, nil, d.Err.Error())
		}
		slices.SortFunc(d.Partitions, func(a, b client.LogDirPartition) int {
			return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
		})
		for _, x := range d.Partitions {
			if len(topics) == 0 || slices.Contains(topics, x.Topic) {
				found[x.Topic] = true
				out.add(d.Broker, d.Path, x.Topic, x.Partition, x.Size, x.Lag, x.Future, nil)
			}
		}
	}
	if err := p.print("", out); err != nil {
		return err
	}
	for _, t := range topics {
		if !found[t] {
			failed = append(failed, fmt.Errorf("no broker has a partition of topic %s", t))
		}
	}
	return errors.Join(failed...)
}
