package cli

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/convert"
	"github.com/klamm-io/klamm/wire/prim"
)

func newClusterQuorum(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "quorum", Short: "Show who holds the metadata, and how far each has come", Args: noArgs,
		Long: `Show the nodes that hold the metadata: the voters, which are controllers, one of them active, and the observers, which are brokers that
are no controllers, and controllers that do not vote. BEHIND counts offsets of the metadata log. DIRECTORY is the directory.id that
add-voter and remove-voter take.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				q, err := a.DescribeQuorum(ctx)
				if err != nil {
					return err
				}
				p, err := newPrinter(cmd.OutOrStdout(), g.format)
				if err != nil {
					return err
				}
				r := &rows{columns: []string{"node", "role", "active", "end_offset", "behind", "directory"}}
				for i, n := range slices.Concat(q.Voters, q.Observers) {
					role := "voter"
					if i >= len(q.Voters) {
						role = "observer"
					}
					var end, behind, directory any // of one that was not heard of nothing is known
					if n.EndOffset >= 0 {
						end, behind = n.EndOffset, max(q.HighWatermark-n.EndOffset, 0)
					}
					if n.Directory != "" {
						directory = n.Directory
					}
					r.add(n.ID, role, n.ID == q.Leader, end, behind, directory)
				}
				return p.print("", r)
			})
		},
	}
}

// voterFlags say which controller is meant by cluster add-voter and remove-voter.
type voterFlags struct {
	config, directory string
	listeners         []string
}

func newClusterAddVoter(g *globals) *cobra.Command {
	var f voterFlags
	cmd := &cobra.Command{
		Use: "add-voter ID --listener NAME://HOST:PORT | --config FILE", Short: "Have a controller that runs vote on the metadata",
		Long: `Have a controller vote on the metadata, as kafka-metadata-quorum add-controller does. It runs already, as an observer: its storage was
formatted with --no-initial-controllers, and its controller.quorum.bootstrap.servers name controllers. It votes once it has all metadata
that are committed; that is waited for.

The ID is that of the node, and --listener says where other controllers reach it. With --config they are read from the configuration of
the node and from its storage, and the command is run where the node is. --directory is needed for a node that the cluster has not
heard of yet; klamm cluster quorum shows those of the others.

Voters that controller.quorum.voters names cannot be changed.`,
		Example: `  klamm cluster add-voter 4 --listener CONTROLLER://node-4:9093
  klamm cluster add-voter --config controller.properties`,
		Args: voterArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, at, err := f.node(cmd, g, args)
			if err != nil {
				return err
			}
			if len(at) == 0 {
				return usagef("want --listener NAME://HOST:PORT, where other controllers reach node %d", id)
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				directory, err := f.directoryOf(ctx, a, id, func(q client.Quorum) []client.QuorumReplica { return q.Observers }, "an observer")
				if err != nil {
					return err
				}
				// The cluster is to say what it waits for before the command gives up.
				if err := a.AddRaftVoter(ctx, id, directory, at, 3*g.adminBound()/4); err != nil {
					return err
				}
				return outcome(cmd, g, "votes", nil, map[string]error{fmt.Sprint(id): nil})
			})
		},
	}
	f.define(cmd)
	cmd.Flags().StringArrayVar(&f.listeners, "listener", nil, "where other controllers reach it, as NAME://HOST:PORT; may be repeated")
	return cmd
}

func newClusterRemoveVoter(g *globals) *cobra.Command {
	var f voterFlags
	cmd := &cobra.Command{
		Use: "remove-voter ID | --config FILE", Short: "Have a controller not vote on the metadata any more",
		Long: `Have a controller not vote on the metadata any more, as kafka-metadata-quorum remove-controller does. If it runs it goes on as an
observer. If it is the active controller another one takes over first. The last voter stays.

Voters that controller.quorum.voters names cannot be changed.`,
		Example: "  klamm cluster remove-voter 4", Args: voterArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, _, err := f.node(cmd, g, args)
			if err != nil {
				return err
			}
			return g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
				directory, err := f.directoryOf(ctx, a, id, func(q client.Quorum) []client.QuorumReplica { return q.Voters }, "a voter")
				if err != nil {
					return err
				}
				if err := a.RemoveRaftVoter(ctx, id, directory); err != nil {
					return err
				}
				return outcome(cmd, g, "does not vote", nil, map[string]error{fmt.Sprint(id): nil})
			})
		},
	}
	f.define(cmd)
	return cmd
}

func (f *voterFlags) define(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration of the node")
	cmd.Flags().StringVar(&f.directory, "directory", "", "directory.id of the node's metadata")
	cmd.MarkFlagFilename("config", "properties")
}

func voterArgs(cmd *cobra.Command, args []string) error {
	if file, _ := cmd.Flags().GetString("config"); (file != "") == (len(args) > 0) || len(args) > 1 {
		return usagef("want one of ID and --config FILE")
	}
	return nil
}

// node returns which node is meant, and where it listens as far as that was said. With
// --config the directory is read from the node's storage too.
func (f *voterFlags) node(cmd *cobra.Command, g *globals, args []string) (id int32, at []client.RaftListener, err error) {
	if _, err := prim.ParseUUID(f.directory); f.directory != "" && err != nil {
		return 0, nil, usagef("--directory %q: %w", f.directory, err)
	}
	for _, text := range f.listeners {
		l, err := parseRaftListener(text)
		if err != nil {
			return 0, nil, err
		}
		at = append(at, l)
	}
	if f.config == "" {
		n, err := strconv.ParseInt(args[0], 10, 32)
		if err != nil || n < 0 {
			return 0, nil, usagef("node %q: want the id of a controller, as klamm cluster quorum shows it", args[0])
		}
		return int32(n), at, nil
	}
	_, b, err := nodeConfig(cmd, g, f.config)
	if err != nil {
		return 0, nil, err
	}
	if !b.IsController() {
		return 0, nil, usagef("%s: process.roles has no controller", f.config)
	}
	if f.directory == "" {
		d, err := convert.Look(vfs.OS(), b.LogDirs[0])
		if err != nil {
			return 0, nil, err
		}
		if d.DirectoryID == "" {
			return 0, nil, fmt.Errorf("%s is not formatted", b.LogDirs[0])
		}
		f.directory = d.DirectoryID
	}
	if len(at) > 0 {
		return b.NodeID, at, nil
	}
	for _, l := range b.ControllerListeners {
		for _, told := range b.Advertised {
			if told.Name == l.Name {
				l = told
			}
		}
		if l.Host == "" || l.Host == "0.0.0.0" || l.Host == "::" || l.Port == 0 {
			return 0, nil, usagef("%s: listener %s: nobody can connect to it: set advertised.listeners, or give --listener", f.config, l)
		}
		at = append(at, client.RaftListener{Name: l.Name, Host: l.Host, Port: uint16(l.Port)})
	}
	return b.NodeID, at, nil
}

// parseRaftListener reads NAME://HOST:PORT.
func parseRaftListener(text string) (client.RaftListener, error) {
	name, address, ok := strings.Cut(text, "://")
	host, port, err := net.SplitHostPort(address)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if !ok || name == "" || err != nil || err2 != nil || host == "" || n == 0 {
		return client.RaftListener{}, usagef("--listener %q: want NAME://HOST:PORT", text)
	}
	return client.RaftListener{Name: strings.ToUpper(name), Host: host, Port: uint16(n)}, nil
}

// directoryOf returns the directory.id of a node: what was given, or what the cluster has
// heard.
func (f *voterFlags) directoryOf(ctx context.Context, a *client.Admin, id int32, among func(client.Quorum) []client.QuorumReplica, what string) (string, error) {
	if f.directory != "" {
		return f.directory, nil
	}
	q, err := a.DescribeQuorum(ctx)
	if err != nil {
		return "", err
	}
	var known []int32
	for _, n := range among(q) {
		if n.ID == id && n.Directory != "" {
			return n.Directory, nil
		}
		known = append(known, n.ID)
	}
	if slices.Contains(known, id) {
		return "", usagef("node %d has not said which directory its metadata are in: give --directory, as its meta.properties has it", id)
	}
	if len(known) == 0 {
		return "", fmt.Errorf("node %d is not %s: there is none", id, what)
	}
	return "", fmt.Errorf("node %d is not %s: they are %s", id, what, idList(known))
}
