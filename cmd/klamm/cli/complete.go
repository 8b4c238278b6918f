package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
)

// completeTimeout is how long the shell waits for names from a broker.
const completeTimeout = 2 * time.Second

// names completes with names from the cluster.
func (g *globals) names(cmd *cobra.Command, args []string, prefix string, list func(context.Context, *client.Admin) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	servers, err := g.servers(cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	a, err := client.NewAdmin(client.AdminOptions{Options: client.Options{BootstrapServers: servers, ClientID: "klamm-cli"}})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
	defer cancel()
	all, err := list(ctx, a)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	given := make(map[string]bool)
	for _, a := range args {
		given[a] = true
	}
	var out []string
	for _, name := range all {
		if strings.HasPrefix(name, prefix) && !given[name] {
			out = append(out, name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (g *globals) completeTopics(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return g.names(cmd, args, prefix, func(ctx context.Context, a *client.Admin) (out []string, err error) {
		topics, err := a.ListTopics(ctx)
		for _, t := range topics {
			out = append(out, t.Name)
		}
		return out, err
	})
}

func (g *globals) completeGroups(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return g.names(cmd, args, prefix, func(ctx context.Context, a *client.Admin) (out []string, err error) {
		groups, err := a.ListGroups(ctx)
		for _, x := range groups {
			out = append(out, x.ID)
		}
		return out, err
	})
}

// completeKeys completes with the config keys of a kind.
func completeKeys(kind config.Kind, suffix string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		var out []string
		for _, k := range config.Keys(kind) {
			if !k.Internal && strings.HasPrefix(k.Name, prefix) {
				out = append(out, k.Name+suffix)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}
