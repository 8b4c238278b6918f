package cli

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/convert"
)

func newStorageInfo(g *globals) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "info DIR... | --config FILE", Short: "Say whose log directories are",
		Long: `Say whose log directories are, without changing them. The kinds:

  new              missing, or nothing of a broker is in it
  klamm            klamm's, with the metadata of the cluster
  kafka            a JVM broker's (KRaft), with the metadata of the cluster
  kafka-formatted  formatted for a JVM broker which never ran
  data             belongs to a node, but its metadata are in another one of its directories
  zookeeper        of a Kafka broker that used ZooKeeper
  converting-to-klamm, converting-to-kafka  a conversion was interrupted

klamm starts on new, klamm and data; the advice says what can be done with the others.

With --config it is the directories of that node, and whether they are formatted is said as kafka-storage.sh does; other formats than
table print the same as for directories.

Exit codes: 0, 1 a directory cannot be read, or one of --config has a problem, such as that it is not formatted, 2 wrong usage.`,
		Example: `  klamm storage info data
  klamm storage info /var/lib/kafka/data --format json
  klamm storage info --config server.properties`,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := newPrinter(cmd.OutOrStdout(), g.format)
			if err != nil {
				return err
			}
			fs := vfs.OS()
			if (file == "") == (len(args) == 0) {
				return usagef("want one of DIR... and --config FILE")
			}
			var found *logDirs
			if file != "" {
				static, b, err := nodeConfig(cmd, g, file)
				if err != nil {
					return err
				}
				args = b.LogDirs
				if metadata := static.Str("metadata.log.dir"); metadata != "" {
					args = append(args, filepath.Clean(metadata))
				}
				slices.Sort(args)
				args = slices.Compact(args)
				found = findLogDirs(fs, args)
				if p.format == "table" {
					return errors.Join(found.print(p.w), found.err())
				}
			} else if err := atLeast(1, "DIR")(cmd, args); err != nil {
				return err
			}
			r := &rows{columns: []string{"directory", "kind", "cluster", "node", "directory_id", "partitions", "running", "clean", "advice"}}
			for _, dir := range args {
				d, err := convert.Look(fs, filepath.Clean(dir))
				if err != nil {
					return err
				}
				r.add(d.Path, d.Kind.String(), textOrNil(d.ClusterID), known(int64(d.NodeID)), textOrNil(d.DirectoryID), d.Partitions, scrub.Held(fs, d.Path), d.Clean, textOrNil(d.Advice()))
			}
			return errors.Join(p.print("", r), found.err())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "server.properties of a node")
	cmd.MarkFlagFilename("config", "properties")
	return cmd
}

// logDirs is what kafka-storage.sh info finds in the log directories of a node.
type logDirs struct {
	found    []string
	metadata string // what the first meta.properties says
	problems []string
}

func findLogDirs(fs vfs.FS, names []string) *logDirs {
	l := new(logDirs)
	var first convert.Directory
	for _, dir := range names {
		if info, err := fs.Stat(dir); err != nil || !info.IsDir() {
			what := "is not a directory"
			if errors.Is(err, iofs.ErrNotExist) {
				what = "does not exist"
			}
			l.problems = append(l.problems, dir+" "+what)
			continue
		}
		l.found = append(l.found, dir)
		d, err := convert.Look(fs, dir)
		switch {
		case err != nil:
			l.problems = append(l.problems, fmt.Sprintf("Error loading %s: %v", filepath.Join(dir, log.PropertiesFile), err))
		case d.NodeID < 0:
			l.problems = append(l.problems, dir+" is not formatted.")
		case l.metadata == "":
			first, l.metadata = d, properties(d)
		case d.ClusterID != first.ClusterID:
			l.problems = append(l.problems, "Mismatched cluster IDs between storage directories.")
		case d.NodeID != first.NodeID:
			l.problems = append(l.problems, "Mismatched node IDs between storage directories.")
		}
	}
	return l
}

// properties prints what meta.properties says as Kafka's MetaProperties does.
func properties(d convert.Directory) string {
	version := 1
	if d.Kind == convert.ZooKeeper {
		version = 0
	}
	text := fmt.Sprintf("MetaProperties(version=%d, clusterId=%s, nodeId=%d", version, d.ClusterID, d.NodeID)
	if d.DirectoryID != "" {
		text += ", directoryId=" + d.DirectoryID
	}
	return text + ")"
}

// print prints what was found in Kafka's words.
func (l *logDirs) print(w io.Writer) error {
	var b strings.Builder
	list := func(one, many string, lines []string) {
		switch len(lines) {
		case 0:
			return
		case 1:
			many = one
		}
		b.WriteString(many + "\n")
		for _, line := range lines {
			b.WriteString("  " + line + "\n")
		}
		b.WriteString("\n")
	}
	list("Found log directory:", "Found log directories:", l.found)
	if l.metadata != "" {
		b.WriteString("Found metadata: " + l.metadata + "\n\n")
	}
	list("Found problem:", "Found problems:", l.problems)
	_, err := io.WriteString(w, b.String())
	return err
}

// err returns an error if there are problems. l may be nil.
func (l *logDirs) err() error {
	if l == nil || len(l.problems) == 0 {
		return nil
	}
	return fmt.Errorf("the log directories have problems: %s", strings.Join(l.problems, "; "))
}
