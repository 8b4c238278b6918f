package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/wire/kerr"
)

func newBroker(g *globals) *cobra.Command {
	return group("broker", "List brokers, move what they have to others, and take them out of the cluster", newBrokerList(g), newBrokerDrain(g), newBrokerUnregister(g))
}

// diskPatience is how long a broker may take to say how much it stores. One that hangs
// does not keep what is known of the others.
const diskPatience = 3 * time.Second

// The states of a broker.
const (
	brokerFenced   = "fenced"   // it is down, or starts
	brokerUnfenced = "unfenced" // it serves
	brokerDraining = "draining" // it serves, and all its replicas are on their way to others
)

// brokerState returns the state of a broker.
func brokerState(fenced bool, h held) string {
	switch {
	case fenced:
		return brokerFenced
	case h.replicas > 0 && h.leaving == h.replicas:
		return brokerDraining
	}
	return brokerUnfenced
}

func newBrokerList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the brokers and what each has", Args: noArgs,
		Long: `List the brokers that are registered, whether each serves, and what it has: the partitions that it leads, its replicas, how many of
those are out of sync, and the bytes that it stores. A broker is fenced while it is down or starts, and draining while all its replicas are on
their way to others.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error { return listBrokers(ctx, cmd, g, a) })
		},
	}
}

func listBrokers(ctx context.Context, cmd *cobra.Command, g *globals, a *client.Admin) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	l, err := layoutOf(ctx, a)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, diskPatience)
	defer cancel()
	dirs, dirErr := a.DescribeLogDirs(asking)
	if ctx.Err() != nil {
		return dirErr
	}
	if dirErr != nil {
		g.say(cmd, "klamm: not every broker said how much it stores: %s", plain(dirErr))
	}
	used := make(map[int32]int64)
	for _, d := range dirs {
		n := used[d.Broker]
		for _, x := range d.Partitions {
			n += x.Size
		}
		used[d.Broker] = n
	}
	has := l.held()
	r := &rows{columns: []string{"id", "address", "rack", "state", "leaders", "replicas", "out_of_sync", "disk_used"}}
	fenced := make(map[int32]bool)
	for _, b := range l.cluster.Fenced {
		fenced[b.ID] = true
	}
	for _, b := range l.registered() {
		h := has[b.ID]
		var bytes, rack any // nobody knows what one stores that does not answer
		if n, ok := used[b.ID]; ok {
			bytes = n
		}
		if b.Rack != "" {
			rack = b.Rack
		}
		r.add(b.ID, b.Addr(), rack, brokerState(fenced[b.ID], h), h.leaders, h.replicas, h.outOfSync, bytes)
	}
	return p.print("", r)
}

func newBrokerUnregister(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "unregister ID", Short: "Take a broker that has stopped for good out of the cluster", Args: between(1, 1, "the ID of a broker"),
		Long: `Take a broker that has stopped for good out of the cluster's metadata, as kafka-cluster unregister does. Move what it has to others
first, with klamm broker drain: its replicas are not moved by this.`,
		Example: "  klamm broker unregister 3", ValidArgsFunction: g.completeBrokers,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseBrokerID(args[0])
			if err != nil {
				return err
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				l, err := layoutOf(ctx, a)
				if err != nil {
					return err
				}
				if err := a.UnregisterBroker(ctx, id); err != nil {
					if errors.Is(err, kerr.BrokerIdNotRegistered) {
						return l.has("broker", id)
					}
					return err
				}
				if n := l.held()[id].replicas; n > 0 {
					g.say(cmd, "klamm: broker %d still has %s in the metadata; klamm topic reassign gives them to others", id, counted(n, "replica"))
				}
				return outcome(cmd, g, "unregistered", nil, map[string]error{fmt.Sprint(id): nil})
			})
		},
	}
}

// completeBrokers completes with the ids of brokers.
func (g *globals) completeBrokers(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return g.names(cmd, args, prefix, func(ctx context.Context, a *client.Admin) (out []string, err error) {
		c, err := a.DescribeCluster(ctx)
		l := layout{cluster: c}
		for _, b := range l.registered() {
			out = append(out, fmt.Sprint(b.ID))
		}
		return out, err
	})
}
