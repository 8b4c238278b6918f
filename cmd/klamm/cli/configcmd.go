package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/control"
)

func newConfig(g *globals) *cobra.Command {
	return group("config", "Describe, set and delete configs", newConfigDescribe(g), newConfigSet(g), newConfigDelete(g))
}

// resource is what a config command is about.
type resource struct {
	topic, group string
	broker       int32
	brokers      bool
}

func (r *resource) register(cmd *cobra.Command, g *globals) {
	f := cmd.Flags()
	f.StringVar(&r.topic, "topic", "", "configs of this topic")
	f.StringVar(&r.group, "group", "", "configs of this group")
	f.Int32Var(&r.broker, "broker", -1, "configs of this broker")
	f.BoolVar(&r.brokers, "all-brokers", false, "defaults of all brokers")
	cmd.MarkFlagsMutuallyExclusive("topic", "group", "broker", "all-brokers")
	cmd.RegisterFlagCompletionFunc("topic", g.completeTopics)
	cmd.RegisterFlagCompletionFunc("group", g.completeGroups)
}

// check refuses a name that is empty or no name.
func (r *resource) check(cmd *cobra.Command) error {
	f := cmd.Flags()
	if f.Changed("topic") {
		if err := control.CheckTopicName(r.topic); err != nil {
			return usageError{err}
		}
	}
	if f.Changed("group") && r.group == "" {
		return usagef("--group is empty")
	}
	return nil
}

// complete completes with the keys of the resource that is named.
func (r *resource) complete(suffix string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		kind := config.KindBroker
		if res, ok := r.chosen(); ok {
			kind = kindOf(res)
		}
		return completeKeys(kind, suffix)(cmd, args, prefix)
	}
}

// there refuses a broker that the cluster does not have.
func there(ctx context.Context, a *client.Admin, res client.Resource) error {
	if res.Type != client.BrokerResource || res.Name == "" {
		return nil
	}
	c, err := a.DescribeCluster(ctx)
	if err != nil {
		return err
	}
	var ids []string
	for _, b := range c.Brokers {
		ids = append(ids, strconv.Itoa(int(b.ID)))
	}
	if !slices.Contains(ids, res.Name) {
		return usagef("--broker %s: there is no such broker; the cluster has %s", res.Name, strings.Join(ids, ", "))
	}
	return nil
}

// chosen returns the resource; ok is false if none was named.
func (r *resource) chosen() (res client.Resource, ok bool) {
	switch {
	case r.topic != "":
		return client.Resource{Type: client.TopicResource, Name: r.topic}, true
	case r.group != "":
		return client.Resource{Type: client.GroupResource, Name: r.group}, true
	case r.broker >= 0:
		return client.Resource{Type: client.BrokerResource, Name: fmt.Sprint(r.broker)}, true
	case r.brokers:
		return client.Resource{Type: client.BrokerResource}, true
	}
	return res, false
}

func newConfigDescribe(g *globals) *cobra.Command {
	var (
		r    resource
		file string
		docs bool
	)
	cmd := &cobra.Command{
		Use: "describe [KEY...]", Short: "Show keys: value, source, default, unit, and whether klamm acts on them",
		Long: `Show config keys. Without --topic, --group, --broker or --all-brokers, no broker is asked: the keys are those that
'klamm start' would read here, from --config, the environment and the defaults.`,
		Example:           "  klamm config describe retention.ms --topic orders\n  klamm config describe num.io.threads log.dirs",
		ValidArgsFunction: r.complete(""),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.check(cmd); err != nil {
				return err
			}
			res, ok := r.chosen()
			if !ok {
				return describeStatic(cmd, g, file, args, docs)
			}
			if file != "" {
				return usagef("--config is a file that 'klamm start' would read; a broker is asked for --topic, --group, --broker and --all-brokers")
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				var names []string
				if len(args) > 0 {
					names = args
				}
				if err := there(ctx, a, res); err != nil {
					return err
				}
				found, err := a.DescribeConfigs(ctx, []client.Resource{res}, names, docs)
				if err != nil {
					return err
				}
				if len(args) > len(found[res]) {
					return missingKey(kindOf(res), args, found[res])
				}
				p, err := newPrinter(cmd.OutOrStdout(), g.format)
				if err != nil {
					return err
				}
				return p.print("", describeRows(kindOf(res), found[res], docs))
			})
		},
	}
	r.register(cmd, g)
	cmd.Flags().StringVar(&file, "config", "", "server.properties to read")
	cmd.Flags().BoolVar(&docs, "docs", false, "also say what each key does")
	return cmd
}

func kindOf(r client.Resource) config.Kind {
	switch r.Type {
	case client.TopicResource:
		return config.KindTopic
	case client.GroupResource:
		return config.KindGroup
	}
	return config.KindBroker
}

func missingKey(kind config.Kind, asked []string, found []client.ConfigEntry) error {
	have := make(map[string]bool)
	for _, e := range found {
		have[e.Name] = true
	}
	for _, name := range asked {
		if have[name] {
			continue
		}
		if _, known := config.Lookup(kind, name); known {
			return fmt.Errorf("%s is not set here", name)
		}
		if near := config.Nearest(kind, name); near != "" {
			return usagef("unknown %s key %q, did you mean %q?", kind, name, near)
		}
		return usagef("unknown %s key %q", kind, name)
	}
	return nil
}

func describeRows(kind config.Kind, entries []client.ConfigEntry, docs bool) *rows {
	r := &rows{columns: []string{"key", "value", "source", "default", "unit", "acted_on"}}
	if docs {
		r.columns = append(r.columns, "doc")
	}
	for _, e := range entries {
		var fallback, unit, acted any
		if k, ok := config.Lookup(kind, e.Name); ok {
			fallback, unit, acted = k.Default, k.Unit, k.Acted.String()
		}
		var value any = e.Value
		if e.Sensitive {
			value = "[hidden]"
		}
		row := []any{e.Name, value, config.ConfigSource(e.Source).String(), fallback, unit, acted}
		if docs {
			row = append(row, e.Doc)
		}
		r.values = append(r.values, row)
	}
	return r
}

func configRows(entries []client.ConfigEntry, keep func(client.ConfigEntry) bool) *rows {
	r := &rows{columns: []string{"key", "value", "source"}}
	for _, e := range entries {
		if keep(e) {
			r.add(e.Name, e.Value, config.ConfigSource(e.Source).String())
		}
	}
	return r
}

// describeStatic shows what 'klamm start' would read.
func describeStatic(cmd *cobra.Command, g *globals, file string, names []string, docs bool) error {
	static, warnings, err := config.Load(config.Sources{File: file, Environ: os.Environ()})
	if err != nil {
		return usageError{err}
	}
	for _, w := range warnings {
		g.say(cmd, "warning: %s", w)
	}
	var keys []config.Key
	for _, name := range names {
		k, ok := config.Lookup(config.KindBroker, name)
		if !ok {
			return missingKey(config.KindBroker, []string{name}, nil)
		}
		keys = append(keys, *k)
	}
	if len(names) == 0 {
		for _, k := range config.Keys(config.KindBroker) {
			if !k.Internal {
				keys = append(keys, k)
			}
		}
	}
	r := &rows{columns: []string{"key", "value", "source", "default", "unit", "acted_on"}}
	if docs {
		r.columns = append(r.columns, "doc")
	}
	for _, k := range keys {
		var value any
		v, source, ok := static.Get(k.Name)
		switch {
		case ok && k.Sensitive():
			value = "[hidden]"
		case ok:
			value = v
		}
		row := []any{k.Name, value, source.String(), k.Default, k.Unit, k.Acted.String()}
		if docs {
			row = append(row, k.Doc)
		}
		r.values = append(r.values, row)
	}
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	return p.print("", r)
}

func newConfigSet(g *globals) *cobra.Command {
	var (
		r   resource
		dry bool
	)
	cmd := &cobra.Command{
		Use: "set KEY=VALUE...", ValidArgsFunction: r.complete("="), Short: "Set configs of a topic, a group or brokers", Args: atLeast(1, "KEY=VALUE"),
		Long: "Set configs. KEY+=VALUE appends to a list and KEY-=VALUE takes away from it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.check(cmd); err != nil {
				return err
			}
			res, ok := r.chosen()
			if !ok {
				return usagef("of what? give --topic, --group, --broker or --all-brokers")
			}
			var ops []client.ConfigOp
			for _, a := range args {
				k, v, ok := strings.Cut(a, "=")
				if !ok || k == "" {
					return usagef("%q: want KEY=VALUE", a)
				}
				op := client.ConfigOp{Name: k, Op: client.SetConfig, Value: v}
				if name, ok := strings.CutSuffix(k, "+"); ok {
					op.Name, op.Op = name, client.AppendConfig
				} else if name, ok := strings.CutSuffix(k, "-"); ok {
					op.Name, op.Op = name, client.SubtractConfig
				}
				ops = append(ops, op)
				if op.Op == client.SetConfig {
					if err := checkConfigs(kindOf(res), map[string]string{k: v}); err != nil {
						return err
					}
				}
			}
			return alterConfigs(cmd, g, res, ops, dry)
		},
	}
	r.register(cmd, g)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only check")
	return cmd
}

func newConfigDelete(g *globals) *cobra.Command {
	var (
		r   resource
		dry bool
	)
	cmd := &cobra.Command{
		Use: "delete KEY...", ValidArgsFunction: r.complete(""), Aliases: []string{"rm"}, Short: "Set configs back to their defaults", Args: atLeast(1, "a KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.check(cmd); err != nil {
				return err
			}
			res, ok := r.chosen()
			if !ok {
				return usagef("of what? give --topic, --group, --broker or --all-brokers")
			}
			return alterConfigs(cmd, g, res, configOps(nil, args), dry)
		},
	}
	r.register(cmd, g)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only check")
	return cmd
}

func alterConfigs(cmd *cobra.Command, g *globals, res client.Resource, ops []client.ConfigOp, dry bool) error {
	for _, op := range ops {
		if err := checkKeys(kindOf(res), []string{op.Name}); err != nil {
			return err
		}
	}
	return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
		if err := there(ctx, a, res); err != nil {
			return err
		}
		if err := a.AlterConfigs(ctx, map[client.Resource][]client.ConfigOp{res: ops}, dry); err != nil {
			return err
		}
		if dry {
			g.say(cmd, "dry run: %s can be changed", plural(len(ops), "config"))
			return nil
		}
		g.say(cmd, "%s changed", plural(len(ops), "config"))
		return nil
	})
}
