package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/wire/kerr"
)

func newTopic(g *globals) *cobra.Command {
	return group("topic", "Create, list, describe, alter, delete and trim topics, elect their leaders and move their replicas",
		newTopicCreate(g), newTopicList(g), newTopicDescribe(g), newTopicAlter(g), newTopicDelete(g), newTopicTrim(g), newTopicElect(g), newTopicReassign(g))
}

// keyValues parses key=value words.
func keyValues(words []string) (map[string]string, error) {
	out := make(map[string]string)
	for _, w := range words {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, usagef("%q: want key=value", w)
		}
		out[k] = v
	}
	return out, nil
}

// outcome prints what became of each name, did unless words says another, and
// fails if one failed.
func outcome(cmd *cobra.Command, g *globals, did string, words map[string]string, results map[string]error) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	r := &rows{columns: []string{"name", "result"}}
	failed := 0
	for _, name := range slices.Sorted(maps.Keys(results)) {
		text := did
		if other, ok := words[name]; ok {
			text = other
		}
		if e := results[name]; e != nil {
			failed++
			text = short(e)
		}
		r.add(name, text)
	}
	if !g.quiet || failed > 0 {
		if err := p.print("", r); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d failed", failed, len(results))
	}
	return nil
}

// checkConfigs refuses unknown keys and values that no broker takes.
func checkConfigs(kind config.Kind, kv map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(kv)) {
		if err := config.Validate(kind, k, kv[k]); err != nil {
			return usageError{err}
		}
	}
	return nil
}

// checkKeys refuses unknown keys.
func checkKeys(kind config.Kind, names []string) error {
	for _, name := range names {
		if _, known := config.Lookup(kind, name); !known {
			return missingKey(kind, []string{name}, nil)
		}
	}
	return nil
}

func newTopicCreate(g *globals) *cobra.Command {
	var (
		partitions  int32
		replication int16
		configs     []string
		dry, absent bool
	)
	cmd := &cobra.Command{
		Use: "create NAME...", Short: "Create topics", Args: topics(atLeast(1, "the NAME of a topic"), 0),
		Example: "  klamm topic create orders -p 6 -c retention.ms=86400000",
		RunE: func(cmd *cobra.Command, args []string) error {
			kv, err := keyValues(configs)
			if err != nil {
				return err
			}
			if err := checkConfigs(config.KindTopic, kv); err != nil {
				return err
			}
			var topics []client.NewTopic
			for _, name := range args {
				topics = append(topics, client.NewTopic{Name: name, Partitions: partitions, Replication: replication, Configs: kv})
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				results, err := a.CreateTopics(ctx, topics, dry)
				if err != nil {
					return err
				}
				words := make(map[string]string)
				var made []string
				for name, e := range results {
					switch {
					case absent && errors.Is(e, kerr.TopicAlreadyExists):
						results[name], words[name] = nil, "exists already"
					case e == nil && !dry:
						made = append(made, name)
					}
				}
				if err := checkCreated(ctx, a, made, results); err != nil {
					return err
				}
				did := "created"
				if dry {
					did = "can be created"
				}
				return outcome(cmd, g, did, words, results)
			})
		},
	}
	f := cmd.Flags()
	f.Int32VarP(&partitions, "partitions", "p", 0, "partitions; 0 means the broker's num.partitions")
	f.Int16VarP(&replication, "replicas", "r", 0, "replicas of each; 0 means default.replication.factor")
	f.StringArrayVarP(&configs, "config", "c", nil, "topic config, as key=value; may be repeated")
	f.BoolVar(&dry, "dry-run", false, "only check")
	f.BoolVar(&absent, "if-not-exists", false, "a topic that exists is no failure")
	cmd.RegisterFlagCompletionFunc("config", completeKeys(config.KindTopic, "="))
	return cmd
}

// checkCreated makes it an error of a topic that was created that no log
// directory takes its records.
func checkCreated(ctx context.Context, a *client.Admin, names []string, results map[string]error) error {
	if len(names) == 0 {
		return nil
	}
	found, err := a.DescribeTopics(ctx, names...)
	if err != nil {
		return fmt.Errorf("look at what was created: %w", err)
	}
	for _, t := range found {
		for _, p := range t.Partitions {
			if offline(p) {
				results[t.Name] = fmt.Errorf("created, but partition %d is offline on broker %d: %w: its log directories have failed", p.Partition, p.Leader, kerr.KafkaStorageError)
				break
			}
		}
	}
	return nil
}

// allOffline is the error of a topic that nothing can be done with until its
// brokers are restarted: a client that goes on to try would be silent for minutes.
func allOffline(topic string) error {
	return said(kerr.KafkaStorageError, "every partition of %s is offline, as its log directories have failed: %v", topic, kerr.KafkaStorageError)
}

// offline reports whether the log directory of a partition has failed at its
// leader.
func offline(p client.PartitionInfo) bool {
	return slices.Contains(p.Offline, p.Leader) || p.Leader < 0 && len(p.Offline) > 0 || errors.Is(p.Err, kerr.KafkaStorageError)
}

func newTopicList(g *globals) *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List topics", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				topics, err := a.ListTopics(ctx)
				if err != nil {
					return err
				}
				r := &rows{columns: []string{"name", "partitions", "replicas", "id"}}
				for _, t := range topics {
					if t.Internal && !internal {
						continue
					}
					replicas := 0
					if len(t.Partitions) > 0 {
						replicas = len(t.Partitions[0].Replicas)
					}
					r.add(t.Name, len(t.Partitions), replicas, t.ID.String())
				}
				p, err := newPrinter(cmd.OutOrStdout(), g.format)
				if err != nil {
					return err
				}
				return p.print("", r)
			})
		},
	}
	cmd.Flags().BoolVarP(&internal, "internal", "i", false, "also the cluster's own topics")
	return cmd
}

func newTopicDescribe(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "describe NAME...", Short: "Describe topics: partitions with their offsets, and configs", Args: topics(atLeast(1, "the NAME of a topic"), 0),
		ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error { return describeTopics(ctx, cmd, g, a, args) })
		},
	}
}

func describeTopics(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin, names []string) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	topics, err := a.DescribeTopics(ctx, names...)
	if err != nil {
		return err
	}
	var failed []error
	all := []object{} // JSON for none is []
	for i, t := range topics {
		if t.Err != nil {
			failed = append(failed, fmt.Errorf("topic %s: %w", t.Name, t.Err))
			continue
		}
		partitions, err := partitionRows(ctx, a, t)
		if err != nil {
			return err
		}
		res := client.Resource{Type: client.TopicResource, Name: t.Name}
		described, err := a.DescribeConfigs(ctx, []client.Resource{res}, nil, false)
		if err != nil {
			return err
		}
		configs := configRows(described[res], func(e client.ConfigEntry) bool { return e.Source == topicSource })
		if g.format == "json" || g.format == "yaml" {
			all = append(all, object{{"name", t.Name}, {"id", t.ID.String()}, {"internal", t.Internal}, {"partitions", partitions.objects()}, {"configs", configs.objects()}})
			continue
		}
		if g.format == "table" {
			if i > 0 {
				fmt.Fprintln(p.w)
			}
			fmt.Fprintf(p.w, "%s  id %s\n\n", t.Name, t.ID)
		}
		if err := p.print("", partitions); err != nil {
			return err
		}
		if len(configs.values) > 0 && g.format == "table" {
			fmt.Fprintln(p.w)
			if err := p.print("", configs); err != nil {
				return err
			}
		}
	}
	switch {
	case g.format == "json":
		failed = append(failed, p.json(all))
	case g.format == "yaml":
		failed = append(failed, p.yaml(all))
	}
	return errors.Join(failed...)
}

// topicSource is the source of a config that is the topic's own.
const topicSource = 1

func partitionRows(ctx context.Context, a *client.Admin, t client.TopicInfo) (*rows, error) {
	start, end := make(map[client.TopicPartition]client.Position), make(map[client.TopicPartition]client.Position)
	for _, p := range t.Partitions {
		if p.Leader >= 0 && !slices.Contains(p.Offline, p.Leader) {
			tp := client.TopicPartition{Topic: t.Name, Partition: p.Partition}
			start[tp], end[tp] = client.AtStart(0), client.AtEnd(0)
		}
	}
	low, err := a.ListOffsets(ctx, start, false)
	if err != nil {
		return nil, err
	}
	high, err := a.ListOffsets(ctx, end, false)
	if err != nil {
		return nil, err
	}
	r := &rows{columns: []string{"partition", "leader", "epoch", "replicas", "isr", "offline", "start_offset", "end_offset"}}
	for _, p := range t.Partitions {
		tp := client.TopicPartition{Topic: t.Name, Partition: p.Partition}
		var from, to any // nobody knows them of a partition that is offline
		if _, ok := start[tp]; ok {
			from, to = low[tp], high[tp]
		}
		r.add(p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, p.Offline, from, to)
	}
	return r, nil
}

func newTopicAlter(g *globals) *cobra.Command {
	var (
		partitions int32
		set, unset []string
		dry        bool
	)
	cmd := &cobra.Command{
		Use: "alter NAME...", Short: "Add partitions and change configs of topics", Args: topics(atLeast(1, "the NAME of a topic"), 0),
		Example:           "  klamm topic alter orders -p 12 -c retention.ms=3600000 --unset segment.ms",
		ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			kv, err := keyValues(set)
			if err != nil {
				return err
			}
			if partitions == 0 && len(kv) == 0 && len(unset) == 0 {
				return usagef("nothing to alter: give -p, -c or --unset")
			}
			if err := errors.Join(checkConfigs(config.KindTopic, kv), checkKeys(config.KindTopic, unset)); err != nil {
				return err
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				results := make(map[string]error)
				if partitions > 0 {
					counts := make(map[string]int32)
					for _, name := range args {
						counts[name] = partitions
					}
					if results, err = a.CreatePartitions(ctx, counts, dry); err != nil {
						return err
					}
				}
				for _, name := range args {
					if results[name] == nil && len(kv)+len(unset) > 0 {
						results[name] = a.AlterConfigs(ctx, map[client.Resource][]client.ConfigOp{{Type: client.TopicResource, Name: name}: configOps(kv, unset)}, dry)
						if err := results[name]; err != nil && ctx.Err() != nil {
							return err
						}
					}
					results[name] = errors.Join(results[name])
				}
				did := "altered"
				if dry {
					did = "can be altered"
				}
				return outcome(cmd, g, did, nil, results)
			})
		},
	}
	f := cmd.Flags()
	f.Int32VarP(&partitions, "partitions", "p", 0, "raise the number of partitions to this")
	f.StringArrayVarP(&set, "config", "c", nil, "set a config, as key=value; may be repeated")
	f.StringArrayVar(&unset, "unset", nil, "set a config back to its default; may be repeated")
	f.BoolVar(&dry, "dry-run", false, "only check")
	cmd.RegisterFlagCompletionFunc("config", completeKeys(config.KindTopic, "="))
	cmd.RegisterFlagCompletionFunc("unset", completeKeys(config.KindTopic, ""))
	return cmd
}

func configOps(set map[string]string, unset []string) []client.ConfigOp {
	var ops []client.ConfigOp
	for _, k := range slices.Sorted(maps.Keys(set)) {
		ops = append(ops, client.ConfigOp{Name: k, Op: client.SetConfig, Value: set[k]})
	}
	for _, k := range unset {
		ops = append(ops, client.ConfigOp{Name: k, Op: client.DeleteConfig})
	}
	return ops
}

func newTopicDelete(g *globals) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete NAME...", Aliases: []string{"rm"}, Short: "Delete topics with all their records", Args: topics(atLeast(1, "the NAME of a topic"), 0),
		ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := g.mayHarm(cmd, "delete", yes, args...); err != nil {
				return err
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				results, err := a.DeleteTopics(ctx, args...)
				if err != nil {
					return err
				}
				return outcome(cmd, g, "deleted", nil, results)
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before one of the cluster's own topics is deleted")
	return cmd
}

func newTopicTrim(g *globals) *cobra.Command {
	var (
		offset     string
		partitions []int32
		yes        bool
	)
	cmd := &cobra.Command{
		Use: "trim NAME", Short: "Delete the oldest records of a topic", Args: topics(between(1, 1, "one NAME"), 1),
		Long:              "Delete the records of a topic below an offset, a time, or the end.",
		Example:           "  klamm topic trim orders -o end\n  klamm topic trim orders -p 0 -o 1000\n  klamm topic trim orders -o @2026-01-31",
		ValidArgsFunction: g.completeTopics,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := parseBound(offset)
			if err != nil {
				return usagef("--offset %q: %w", offset, err)
			}
			if err := g.mayHarm(cmd, "trim", yes, args...); err != nil {
				return err
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				tps, err := topicPartitions(ctx, a, args[0], partitions)
				if err != nil {
					return err
				}
				at := make(map[client.TopicPartition]client.Position)
				for _, tp := range tps {
					at[tp] = to
				}
				before, err := a.ListOffsets(ctx, at, false)
				if err != nil {
					return err
				}
				low, err := a.DeleteRecords(ctx, before)
				r := &rows{columns: []string{"partition", "start_offset"}}
				for _, tp := range tps {
					if o, ok := low[tp]; ok {
						r.add(tp.Partition, o)
					}
				}
				p, e := newPrinter(cmd.OutOrStdout(), g.format)
				if e != nil {
					return e
				}
				return errors.Join(err, p.print("", r))
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&offset, "offset", "o", "", "delete below this: end, N, or @TIMESTAMP")
	f.Int32SliceVarP(&partitions, "partition", "p", nil, "only these partitions")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask before one of the cluster's own topics is trimmed")
	cmd.MarkFlagRequired("offset")
	return cmd
}

// topicPartitions returns the partitions of a topic, or those of them that are
// named. It fails if all of them are offline.
func topicPartitions(ctx context.Context, a *client.Admin, topic string, only []int32) ([]client.TopicPartition, error) {
	found, err := a.DescribeTopics(ctx, topic)
	if err != nil {
		return nil, err
	}
	if found[0].Err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, found[0].Err)
	}
	var out []client.TopicPartition
	lost := 0
	for _, p := range found[0].Partitions {
		if len(only) == 0 || slices.Contains(only, p.Partition) {
			out = append(out, client.TopicPartition{Topic: topic, Partition: p.Partition})
			if offline(p) {
				lost++
			}
		}
	}
	for _, p := range only {
		if int(p) >= len(found[0].Partitions) || p < 0 {
			return nil, fmt.Errorf("topic %s has no partition %s", topic, strconv.Itoa(int(p)))
		}
	}
	if lost == len(out) && lost > 0 {
		return nil, allOffline(topic)
	}
	return out, nil
}
