package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
)

func newCluster(g *globals) *cobra.Command {
	cmd := group("cluster", "Describe the cluster, say whether it is well, change its controllers, and kill or pause brokers of a local one",
		newClusterHealth(g), newClusterQuorum(g), newClusterAddVoter(g), newClusterRemoveVoter(g), &cobra.Command{
			Use: "describe", Short: "Show the cluster's brokers and data directories", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return g.admin(cmd, func(ctx context.Context, a *client.Admin) error { return describeCluster(ctx, cmd, g, a) })
			},
		})
	cmd.AddCommand(newClusterControl(g)...)
	return cmd
}

func describeCluster(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	c, err := a.DescribeCluster(ctx)
	if err != nil {
		return err
	}
	dirs, err := a.DescribeLogDirs(ctx)
	if err != nil {
		return err
	}
	brokers := &rows{columns: []string{"broker", "address", "rack", "controller"}}
	for _, b := range c.Brokers {
		brokers.add(b.ID, b.Addr(), b.Rack, b.ID == c.Controller)
	}
	logs := &rows{columns: []string{"broker", "directory", "partitions", "bytes", "free_bytes", "error"}}
	for _, d := range dirs {
		var bytes int64
		for _, x := range d.Partitions {
			bytes += x.Size
		}
		var failed any
		if d.Err != nil {
			failed = d.Err.Error()
		}
		logs.add(d.Broker, d.Path, len(d.Partitions), bytes, d.Usable, failed)
	}
	all := object{{"cluster_id", c.ID}, {"controller", c.Controller}, {"brokers", brokers.objects()}, {"log_dirs", logs.objects()}}
	switch g.format {
	case "json":
		return p.json(all)
	case "yaml":
		return p.yaml(all)
	case "table":
		fmt.Fprintf(p.w, "cluster %s\n\n", c.ID)
	}
	if err := p.print("", brokers); err != nil {
		return err
	}
	if g.format == "table" {
		fmt.Fprintln(p.w)
	}
	return p.print("", logs)
}
