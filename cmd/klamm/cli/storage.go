package cli

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/convert"
	"github.com/klamm-io/klamm/replication/quorum"
)

func newStorage(g *globals) *cobra.Command {
	return group("storage", "Log directories of klamm and of JVM brokers; no broker is needed", newStorageInfo(g), newStorageFormat(g), newStorageRandomUUID(g), newStorageConvert(g))
}

// convertFlags are those of storage convert.
type convertFlags struct {
	from, to   string
	unenforced []string
	dryRun     bool
}

func newStorageConvert(g *globals) *cobra.Command {
	var f convertFlags
	cmd := &cobra.Command{
		Use: "convert --from-kafka DIR | --to-kafka DIR", Short: "Turn the log directory of a JVM broker into klamm's, or back",
		Long: `Convert the log directory of a stopped broker, so that the other kind of broker goes on with it: with every record, offset, topic id,
configuration, group and producer. Only __cluster_metadata-0 is written anew; all other files, and other log directories of the
broker, stay as they are. DIR is the directory that has it: metadata.log.dir, or the first of log.dirs. Run this as the user that the
broker runs as.

The new metadata are written beside the original ones, read back and compared, and only then put in their place. The original is kept as
__cluster_metadata-0.kafka-stray or .klamm-stray, which both kinds of brokers leave alone: remove it once the other broker has served. A
conversion that was interrupted goes on when the same command is run again; until then no broker starts on the directory.

--from-kafka takes KRaft directories of a broker that is its own and only controller, with voters that are configured
(controller.quorum.voters) or in the log (formatted with --standalone), at metadata.version 30 (4.3). It refuses clusters of several
brokers, and those of ZooKeeper. What klamm does not enforce it keeps for the way back, but must be named with --unenforced: acls,
quotas, scram (credentials), tokens (delegation tokens).

--to-kafka gives the JVM broker the kind of quorum that it had, or one with configured voters, and prints what server.properties needs.

--dry-run checks all of it and prints the steps.

Exit codes: 0 it is converted, or was before, 1 it is not, or a broker runs, 2 wrong usage.`,
		Example: `  klamm storage convert --from-kafka /var/lib/kafka/data --dry-run
  klamm storage convert --from-kafka /var/lib/kafka/data && klamm start --config server.properties
  klamm storage convert --to-kafka /var/lib/kafka/data`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, g) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.from, "from-kafka", "", "directory of a JVM broker to convert for klamm")
	fl.StringVar(&f.to, "to-kafka", "", "directory of klamm to convert for a JVM broker")
	fl.StringSliceVar(&f.unenforced, "unenforced", nil, "what may be in the metadata though klamm does not enforce it: "+strings.Join(convert.Unenforced, ", "))
	fl.BoolVar(&f.dryRun, "dry-run", false, "only check, and print the steps")
	cmd.MarkFlagDirname("from-kafka")
	cmd.MarkFlagDirname("to-kafka")
	return cmd
}

func (f *convertFlags) run(cmd *cobra.Command, g *globals) (err error) {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	if (f.from == "") == (f.to == "") {
		return usagef("want one of --from-kafka DIR and --to-kafka DIR")
	}
	for _, name := range f.unenforced {
		if !slices.Contains(convert.Unenforced, name) {
			return usagef("--unenforced %s: want %s", name, strings.Join(convert.Unenforced, ", "))
		}
	}
	o := convert.Options{Dir: filepath.Clean(f.from), To: quorum.Klamm, Unenforced: f.unenforced, MetadataVersion: control.MetadataVersion}
	if f.to != "" {
		o.Dir, o.To = filepath.Clean(f.to), quorum.Kafka
	}
	fs := vfs.OS()
	if info, err := fs.Stat(o.Dir); err != nil || !info.IsDir() {
		return usagef("%s: not a directory", o.Dir)
	}
	if scrub.Held(fs, o.Dir) {
		return fmt.Errorf("a broker has %s open: stop it first", o.Dir)
	}
	// A directory that is refused stays as it is, so that it is looked at before it
	// is locked, which makes a file, and planned again under the lock.
	c, err := convert.Plan(cmd.Context(), fs, o)
	if err != nil {
		return err
	}
	if !f.dryRun && len(c.Steps) > 0 {
		lock, err := scrub.Lock(fs, o.Dir)
		if errors.Is(err, vfs.ErrLocked) {
			return fmt.Errorf("a broker has %s open: stop it first: %w", o.Dir, err)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
		if c, err = convert.Plan(cmd.Context(), fs, o); err != nil {
			return err
		}
	}
	g.say(cmd, "%s is %s", c.Path, c.What())
	r := &rows{columns: []string{"step", "state"}}
	var failed error
	for _, s := range c.Steps {
		state := "done"
		switch {
		case f.dryRun:
			state = "planned"
		case failed != nil:
			state = "not tried"
		default:
			if failed = s.Run(); failed != nil {
				state = "failed"
			}
		}
		r.add(s.Do, state)
	}
	if len(r.values) > 0 || g.format != "table" {
		if err := p.print("", r); err != nil {
			return errors.Join(failed, err)
		}
	}
	if failed != nil {
		return fmt.Errorf("%w; run the same command again to go on", failed)
	}
	f.tell(cmd, g, c, o.To)
	return nil
}

// tell says what there is to know after a conversion.
func (f *convertFlags) tell(cmd *cobra.Command, g *globals, c *convert.Conversion, to quorum.Form) {
	if len(c.Steps) == 0 {
		g.say(cmd, "there is nothing to convert")
	}
	if c.Backup != "" && f.dryRun {
		g.say(cmd, "the original metadata would be kept in %s", c.Backup)
	} else if c.Backup != "" {
		g.say(cmd, "the original metadata are kept in %s: remove it once the other broker has served", c.Backup)
	}
	if to == quorum.Klamm {
		g.say(cmd, "start klamm with node.id=%d, and with %s as the first of log.dirs", c.NodeID, c.Path)
		return
	}
	if c.Contents == nil {
		return
	}
	g.say(cmd, "server.properties of the JVM broker needs:\n  process.roles=broker,controller\n  node.id=%d\n  log.dirs=%s  (and the others that klamm had)\n  controller.listener.names=CONTROLLER", c.NodeID, c.Path)
	if c.Contents.KRaft.Version == 0 {
		g.say(cmd, "  controller.quorum.voters=%d@HOST:PORT  (HOST:PORT of a listener CONTROLLER in listeners)", c.NodeID)
		return
	}
	for _, v := range c.Contents.KRaft.Voters {
		for _, e := range v.Endpoints {
			g.say(cmd, "  controller.quorum.bootstrap.servers=%s  (a listener %s in listeners)", net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))), e.Name)
		}
	}
}
