package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
)

func newGroup(g *globals) *cobra.Command {
	return group("group", "List, describe, seek and delete consumer groups", newGroupList(g), newGroupDescribe(g), newGroupSeek(g), newGroupDelete(g))
}

func newGroupList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List groups", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				groups, err := a.ListGroups(ctx)
				if err != nil {
					return err
				}
				r := &rows{columns: []string{"group", "state", "type", "protocol_type", "coordinator"}}
				for _, x := range groups {
					r.add(x.ID, x.State, x.Type, x.ProtocolType, x.Coordinator)
				}
				p, err := newPrinter(cmd.OutOrStdout(), g.format)
				if err != nil {
					return err
				}
				return p.print("", r)
			})
		},
	}
}

func newGroupDescribe(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "describe GROUP...", Short: "Show members, committed offsets and lag of groups", Args: atLeast(1, "the name of a GROUP"),
		ValidArgsFunction: g.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				all := []object{} // JSON for none is []
				var failed []error
				for _, id := range args {
					o, err := describeGroup(ctx, cmd, g, a, id, len(all))
					if err != nil && ctx.Err() != nil {
						return err
					}
					if err != nil {
						failed = append(failed, fmt.Errorf("group %s: %w", id, err))
						continue
					}
					all = append(all, o)
				}
				p, err := newPrinter(cmd.OutOrStdout(), g.format)
				if err != nil {
					return err
				}
				switch g.format {
				case "json":
					failed = append(failed, p.json(all))
				case "yaml":
					failed = append(failed, p.yaml(all))
				}
				return errors.Join(failed...)
			})
		},
	}
}

func describeGroup(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, id string, index int) (object, error) {
	info, err := a.DescribeGroup(ctx, id)
	if err == nil && info.State == "Dead" { // an older broker's word for a group that there is not
		err = kerr.GroupIdNotFound
	}
	if err != nil {
		return nil, err
	}
	offsets, err := a.GroupOffsets(ctx, id)
	if err != nil {
		return nil, err
	}
	owner := make(map[client.TopicPartition]client.GroupMember)
	want := make(map[client.TopicPartition]bool)
	for tp := range offsets {
		want[tp] = true
	}
	for _, m := range info.Members {
		for _, tp := range m.Assigned {
			owner[tp] = m
			want[tp] = true
		}
	}
	tps := make([]client.TopicPartition, 0, len(want))
	at := make(map[client.TopicPartition]client.Position)
	for tp := range want {
		tps = append(tps, tp)
		at[tp] = client.AtEnd(0)
	}
	sorted(tps)
	ends, err := a.ListOffsets(ctx, at, false)
	if err != nil {
		return nil, err
	}
	lag := &rows{columns: []string{"topic", "partition", "committed", "end_offset", "lag", "member", "client_id", "host"}}
	for _, tp := range tps {
		var committed, behind any
		if o, ok := offsets[tp]; ok {
			committed, behind = o.At, max(ends[tp]-o.At, 0)
		}
		m, owned := owner[tp]
		var member, clientID, host any
		if owned {
			member, clientID, host = m.ID, m.ClientID, m.Host
		}
		lag.add(tp.Topic, tp.Partition, committed, ends[tp], behind, member, clientID, host)
	}
	if g.format == "table" || g.format == "tsv" {
		p, err := newPrinter(cmd.OutOrStdout(), g.format)
		if err != nil {
			return nil, err
		}
		if g.format == "table" {
			if index > 0 {
				fmt.Fprintln(p.w)
			}
			fmt.Fprintf(p.w, "%s  state %s, %d members, protocol %s, coordinator %d\n\n", id, info.State, len(info.Members), orDash(info.Protocol), info.Coordinator)
		}
		return nil, p.print("", lag)
	}
	members := &rows{columns: []string{"member", "instance", "client_id", "host", "partitions"}}
	for _, m := range info.Members {
		names := make([]string, 0, len(m.Assigned))
		for _, tp := range m.Assigned {
			names = append(names, tp.String())
		}
		members.add(m.ID, m.InstanceID, m.ClientID, m.Host, names)
	}
	return object{{"group", id}, {"state", info.State}, {"protocol_type", info.ProtocolType}, {"protocol", info.Protocol},
		{"coordinator", info.Coordinator}, {"members", members.objects()}, {"offsets", lag.objects()}}, nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newGroupSeek(g *globals) *cobra.Command {
	var (
		to         string
		topics     []string
		partitions []int32
		dry        bool
	)
	cmd := &cobra.Command{
		Use: "seek GROUP --to start|end|N|@TIMESTAMP", Short: "Move the committed offsets of a group that has no members", Args: between(1, 1, "one GROUP"),
		Example:           "  klamm group seek billing --to start\n  klamm group seek billing --to @2026-01-31T12:00 --topics orders",
		ValidArgsFunction: g.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			position, err := parseBound(to)
			if err != nil {
				return usagef("--to %q: %w", to, err)
			}
			for _, t := range topics {
				if err := control.CheckTopicName(t); err != nil {
					return usagef("--topics: %w", err)
				}
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				return seekGroup(ctx, cmd, g, a, args[0], position, topics, partitions, dry)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "where to: start, end, N, +N, -N or @TIMESTAMP; an offset that does not exist becomes the nearest")
	f.StringSliceVar(&topics, "topics", nil, "only these topics; default all that the group has committed for")
	f.Int32SliceVarP(&partitions, "partition", "p", nil, "only these partitions")
	f.BoolVar(&dry, "dry-run", false, "only show what would be committed")
	cmd.MarkFlagRequired("to")
	cmd.RegisterFlagCompletionFunc("topics", g.completeTopics)
	return cmd
}

func seekGroup(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, id string, to client.Position, topics []string, partitions []int32, dry bool) error {
	old, err := a.GroupOffsets(ctx, id)
	if err != nil {
		return err
	}
	var tps []client.TopicPartition
	if len(topics) == 0 {
		for tp := range old {
			if len(partitions) == 0 || slices.Contains(partitions, tp.Partition) {
				tps = append(tps, tp)
			}
		}
		if len(tps) == 0 {
			return fmt.Errorf("group %s has committed no offsets: name the --topics", id)
		}
	}
	for _, t := range topics {
		more, err := topicPartitions(ctx, a, t, partitions)
		if err != nil {
			return err
		}
		tps = append(tps, more...)
	}
	sorted(tps)
	at := make(map[client.TopicPartition]client.Position)
	for _, tp := range tps {
		at[tp] = to
	}
	offsets, err := a.ListOffsets(ctx, at, false)
	if err != nil {
		return err
	}
	low, high, err := bounds(ctx, a, tps, false)
	if err != nil {
		return err
	}
	next := make(map[client.TopicPartition]client.Offset)
	r := &rows{columns: []string{"topic", "partition", "before", "after"}}
	for _, tp := range tps {
		if there := min(max(offsets[tp], low[tp]), high[tp]); there != offsets[tp] {
			g.say(cmd, "%v has no offset %d: it goes from %d to %d, so %d is taken", tp, offsets[tp], low[tp], high[tp], there)
			offsets[tp] = there
		}
		next[tp] = client.Offset{At: offsets[tp], LeaderEpoch: -1}
		var before any
		if o, ok := old[tp]; ok {
			before = o.At
		}
		r.add(tp.Topic, tp.Partition, before, offsets[tp])
	}
	if !dry {
		if err := a.SetGroupOffsets(ctx, id, next); err != nil {
			return err
		}
	} else {
		g.say(cmd, "dry run: nothing is committed")
	}
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	return p.print("", r)
}

func newGroupDelete(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "delete GROUP...", Aliases: []string{"rm"}, Short: "Delete groups that have no members, with their offsets", Args: atLeast(1, "the name of a GROUP"),
		ValidArgsFunction: g.completeGroups,
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				results := make(map[string]error)
				for _, id := range args {
					err := a.DeleteGroup(ctx, id)
					if ctx.Err() != nil {
						return err
					}
					results[id] = err
				}
				return outcome(cmd, g, "deleted", nil, results)
			})
		},
	}
}
