package cli

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/convert"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/wire/prim"
)

// release is the release version that new clusters are of, as metadata.version has it.
const release = "4.3-IV0"

func newStorageRandomUUID(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "random-uuid", Short: "Print an id for a new cluster or directory",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newPrinter(cmd.OutOrStdout(), g.format)
			if err != nil {
				return err
			}
			if id := prim.RandomUUID().String(); p.format == "table" {
				_, err = fmt.Fprintln(p.w, id)
			} else {
				r := &rows{columns: []string{"id"}}
				r.add(id)
				err = p.print("", r)
			}
			return err
		},
	}
}

// formatFlags are those of storage format.
type formatFlags struct {
	clusterID, config, controllers string
	ignore, standalone, none       bool
}

func newStorageFormat(g *globals) *cobra.Command {
	var f formatFlags
	cmd := &cobra.Command{
		Use: "format --cluster-id ID --config FILE", Short: "Make the log directories of a node belong to a cluster",
		Long: `Make the log directories of a node belong to a cluster, as kafka-storage.sh does: each gets a meta.properties with the ids of the cluster,
the node and the directory. A node that is alone needs no formatting: what is missing is written when it starts. In a cluster, format
every node with the same id before its first start.

The first of log.dirs holds the metadata. Where the quorum is not named by controller.quorum.voters, it also gets a file
initial-controllers with the voters that the quorum begins with, one a line as ID@HOST:PORT:DIRECTORY-ID, which the first start of the
quorum reads. They are:

  --standalone              this node alone; others may join later
  --initial-controllers     those of the list. The same list goes to every node, and a node in it gets the directory id of its entry
  --no-initial-controllers  none: this node joins a quorum that is there, and the file is not made

A node that has a controller's role and controller.quorum.bootstrap.servers needs one of the three.

Exit codes: 0 every directory is formatted, 1 one is formatted already or cannot be, 2 wrong usage.`,
		Example: `  klamm storage format -t "$(klamm storage random-uuid)" -c server.properties --standalone
  klamm storage format -t 5L6g3nShT-eMCtK--X86sw -c server.properties -I 1@a:9093:JEXY6aqzQY-32P5TStzaFg,2@b:9093:MvDxzVmcRsaTz33bUuRU6A`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, g) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.clusterID, "cluster-id", "t", "", "id of the cluster, as random-uuid prints one")
	fl.StringVarP(&f.config, "config", "c", "", "server.properties of the node")
	fl.BoolVarP(&f.ignore, "ignore-formatted", "g", false, "skip directories that are formatted already")
	fl.BoolVarP(&f.standalone, "standalone", "s", false, "the quorum begins with this node alone")
	fl.BoolVarP(&f.none, "no-initial-controllers", "N", false, "this node joins a quorum that is there")
	fl.StringVarP(&f.controllers, "initial-controllers", "I", "", "the quorum begins with these, as ID@HOST:PORT:DIRECTORY-ID[,...]")
	cmd.MarkFlagFilename("config", "properties")
	return cmd
}

// nodeConfig reads the configuration of a node as klamm start does, but for the
// command's own flags.
func nodeConfig(cmd *cobra.Command, g *globals, file string) (*config.Static, *config.Broker, error) {
	static, warnings, err := config.Load(config.Sources{File: file, Environ: os.Environ()})
	if err != nil {
		return nil, nil, usageError{err}
	}
	for _, w := range warnings {
		g.say(cmd, "config: %s", w)
	}
	b, err := static.Broker()
	if err != nil {
		return nil, nil, usageError{err}
	}
	for i, dir := range b.LogDirs {
		b.LogDirs[i] = filepath.Clean(dir)
	}
	return static, b, nil
}

func (f *formatFlags) run(cmd *cobra.Command, g *globals) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	if f.clusterID == "" || f.config == "" {
		return usagef("want --cluster-id ID and --config FILE")
	}
	if _, err := prim.ParseUUID(f.clusterID); err != nil {
		return usagef("Cluster ID string %s does not appear to be a valid UUID: %w; 'klamm storage random-uuid' prints one", f.clusterID, err)
	}
	var listed []dirs.InitialController
	if f.controllers != "" {
		if listed, err = dirs.ParseInitialControllers(f.controllers); err != nil {
			return usagef("--initial-controllers: %w", err)
		}
	}
	static, b, err := nodeConfig(cmd, g, f.config)
	if err != nil {
		return err
	}
	if metadata := static.Str("metadata.log.dir"); metadata != "" && filepath.Clean(metadata) != b.LogDirs[0] {
		return usagef("metadata.log.dir is %s, but klamm keeps the metadata in the first of log.dirs, %s", metadata, b.LogDirs[0])
	}
	controllers, err := f.initial(b, listed)
	if err != nil {
		return err
	}
	return format(p, vfs.OS(), b, f.clusterID, controllers, f.ignore)
}

// initial returns the voters that the quorum begins with, nil where the
// configuration says who they are, or nobody does. listed are those of the command.
func (f *formatFlags) initial(b *config.Broker, listed []dirs.InitialController) ([]dirs.InitialController, error) {
	switch chosen := f.standalone || listed != nil; {
	case f.standalone && listed != nil, f.none && chosen:
		return nil, usagef("--standalone, --initial-controllers and --no-initial-controllers exclude each other")
	case chosen && len(b.QuorumVoters) > 0:
		return nil, usagef("controller.quorum.voters names the voters already: remove it, and set controller.quorum.bootstrap.servers, to begin with those of --standalone or --initial-controllers")
	case !chosen && !f.none && b.IsController() && len(b.QuorumVoters) == 0 && !b.Lone():
		return nil, usagef("Because controller.quorum.voters is not set on this controller, you must specify one of the following: --standalone, --initial-controllers, or --no-initial-controllers.")
	case !f.standalone:
		return listed, nil
	case !b.IsController():
		return nil, usagef("You can only use --standalone on a controller.")
	case len(b.ControllerListeners) == 0:
		return nil, usagef("--standalone: No controller listeners found.")
	}
	at := b.ControllerListeners[0]
	if i := slices.IndexFunc(b.Advertised, func(l config.Listener) bool { return l.Name == at.Name }); i >= 0 {
		at = b.Advertised[i]
	}
	if at.Host == "" || at.Host == "0.0.0.0" || at.Host == "::" {
		at.Host = "localhost"
	}
	self := dirs.InitialController{Voter: config.Voter{ID: b.NodeID, Host: at.Host, Port: at.Port}, Directory: prim.RandomUUID()}
	if at.Port == 0 {
		return nil, usagef("--standalone: listener %s picks its port when it starts, so that other controllers could not find it", at)
	}
	return []dirs.InitialController{self}, nil
}

// format formats the log directories of a node that are not. They are all looked at
// first, so that nothing is written if one is refused.
func format(p *printer, fs vfs.FS, b *config.Broker, clusterID string, controllers []dirs.InitialController, ignore bool) error {
	var fresh []string
	for _, dir := range b.LogDirs {
		is, err := formatted(fs, dir, clusterID, b.NodeID)
		if err != nil {
			return err
		}
		if is && !ignore {
			return fmt.Errorf("log directory %s is already formatted. Use --ignore-formatted to ignore this directory and format the others", dir)
		}
		if !is && !slices.Contains(fresh, dir) {
			fresh = append(fresh, dir)
		}
	}
	r := &rows{columns: []string{"directory", "kind", "cluster", "node", "directory_id"}}
	for _, dir := range fresh {
		kind, id := "data directory", prim.RandomUUID()
		metadata := dir == b.LogDirs[0]
		if metadata {
			kind = "metadata directory"
			if len(controllers) > 0 {
				kind = "dynamic metadata directory"
			}
			for _, c := range controllers {
				if c.ID == b.NodeID {
					kind, id = "dynamic metadata voter directory", c.Directory
				}
			}
		}
		if p.format == "table" {
			if _, err := fmt.Fprintf(p.w, "Formatting %s %s with metadata.version %s.\n", kind, dir, release); err != nil {
				return err
			}
		}
		if err := formatDir(fs, dir, clusterID, b.NodeID, id, metadata, controllers); err != nil {
			return fmt.Errorf("format %s: %w", dir, err)
		}
		r.add(dir, kind, clusterID, b.NodeID, id.String())
	}
	if p.format != "table" {
		return p.print("", r)
	}
	if len(fresh) == 0 {
		_, err := fmt.Fprintln(p.w, "All of the log directories are already formatted.")
		return err
	}
	return nil
}

// formatted reports whether a log directory belongs to this node already. It is an
// error if it belongs to another, or is no directory that can be formatted.
func formatted(fs vfs.FS, dir, clusterID string, node int32) (bool, error) {
	if info, err := fs.Stat(dir); err == nil && !info.IsDir() {
		return false, fmt.Errorf("%s is not a directory", dir)
	}
	d, err := convert.Look(fs, dir)
	if err != nil {
		return false, err
	}
	switch {
	case d.Kind == convert.New:
		return false, nil
	case d.Kind == convert.ZooKeeper, d.Kind == convert.ToKlamm, d.Kind == convert.ToKafka:
		return false, fmt.Errorf("%s is %s: %s", dir, d.What(), d.Advice())
	case d.NodeID < 0:
		return false, fmt.Errorf("%s is %s, but has no %s", dir, d.What(), log.PropertiesFile)
	case d.ClusterID != clusterID:
		return false, fmt.Errorf("%s belongs to cluster %s, not %s", dir, d.ClusterID, clusterID)
	case d.NodeID != node:
		return false, fmt.Errorf("%s belongs to node %d, but node.id is %d", dir, d.NodeID, node)
	}
	return true, nil
}

// formatDir formats one directory. meta.properties comes last: a directory that has
// it is formatted.
func formatDir(fs vfs.FS, dir, clusterID string, node int32, id prim.UUID, metadata bool, controllers []dirs.InitialController) (err error) {
	if err := dirs.Make(fs, dir); err != nil {
		return err
	}
	lock, err := scrub.Lock(fs, dir)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := lock.Close(); err == nil {
			err = closeErr
		}
	}()
	// A broker may have started on it since it was looked at.
	switch is, err := formatted(fs, dir, clusterID, node); {
	case err != nil:
		return err
	case is:
		return errors.New("somebody else has formatted it meanwhile")
	}
	if metadata {
		if err := writeInitial(fs, path.Join(dir, dirs.InitialControllersFile), controllers); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", clusterID, node, id)
	return vfs.WriteFileAtomic(fs, path.Join(dir, log.PropertiesFile), []byte(text))
}

// writeInitial writes the file of the first voters, or removes what a run that
// was interrupted has left of it.
func writeInitial(fs vfs.FS, name string, controllers []dirs.InitialController) error {
	if len(controllers) == 0 {
		return fs.RemoveAll(name)
	}
	var text strings.Builder
	for _, c := range controllers {
		text.WriteString(c.String() + "\n")
	}
	return vfs.WriteFileAtomic(fs, name, []byte(text.String()))
}
