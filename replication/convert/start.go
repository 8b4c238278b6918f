package convert

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/klamm-io/klamm/log/vfs"
)

// ErrNotOurs means that klamm must not start on a log directory.
var ErrNotOurs = errors.New("nothing was changed")

// Start is what a broker is about to start on.
type Start struct {
	Dirs      []string // log.dirs; the first one has, or gets, the metadata
	Metadata  string   // metadata.log.dir, "" if it is not set
	NodeID    int32
	ClusterID string // "" if any will do
}

// Check refuses directories that klamm must not open: those of a JVM broker,
// half-converted ones, those of another node or cluster, and those whose
// metadata are elsewhere, since their partitions would belong to no topic. It
// looks at all of them and writes nothing, so that a broker which calls it first
// has changed nothing when it refuses to start.
func (s Start) Check(fs vfs.FS) error {
	refuse := func(d Directory, format string, args ...any) error {
		return fmt.Errorf("%s is %s: %s; %w", d.Path, d.What(), fmt.Sprintf(format, args...), ErrNotOurs)
	}
	cluster := s.ClusterID
	partitions, metadata := -1, false // the first directory that has partitions
	var all []Directory
	for i, dir := range s.Dirs {
		d, err := Look(fs, dir)
		if err != nil {
			return err
		}
		if d.Kind == Formatted && metadata { // a further directory, which has no partitions yet
			d.Kind = Data
		}
		all = append(all, d)
		if advice := d.Advice(); advice != "" {
			return refuse(d, "%s", advice)
		}
		if d.NodeID >= 0 && d.NodeID != s.NodeID {
			return refuse(d, "%s belongs to node %d, but node.id is %d", d.Path, d.NodeID, s.NodeID)
		}
		if d.ClusterID != "" && cluster != "" && d.ClusterID != cluster {
			return refuse(d, "%s belongs to cluster %s, not %s", d.Path, d.ClusterID, cluster)
		}
		if d.ClusterID != "" {
			cluster = d.ClusterID
		}
		if d.Kind == Klamm && i > 0 {
			return refuse(d, "it has the metadata, so that it must be the first of log.dirs")
		}
		metadata = metadata || d.Kind == Klamm
		if d.Kind == Data && d.Partitions > 0 && partitions < 0 {
			partitions = i
		}
	}
	if s.Metadata != "" && !same(s.Metadata, s.Dirs[0]) {
		d, err := Look(fs, s.Metadata)
		if err != nil {
			return err
		}
		if d.Kind != New {
			return refuse(d, "it is metadata.log.dir, but klamm keeps the metadata in the first of log.dirs, so that it must stand there")
		}
	}
	if !metadata && partitions >= 0 {
		d := all[partitions]
		return refuse(d, "it has partitions (%d), and what is known of them is in another directory, the one with %s, which must be the first of log.dirs", d.Partitions, metadataDir)
	}
	return nil
}

// same reports whether two names are those of one directory.
func same(a, b string) bool {
	if full, err := filepath.Abs(a); err == nil {
		a = full
	}
	if full, err := filepath.Abs(b); err == nil {
		b = full
	}
	return filepath.Clean(a) == filepath.Clean(b)
}
