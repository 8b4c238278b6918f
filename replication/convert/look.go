// Package convert finds out whose a log directory is, and turns the directory of a
// JVM broker into one of klamm's and back.
//
// Partition directories are the same for both, and so are the records of the
// cluster's metadata. What differs is the state of the quorum that wrote them:
// its state file, its voters, and what snapshots say of it. So a conversion
// changes one directory, __cluster_metadata-0, and leaves every other file alone.
package convert

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/magiconair/properties"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/segment"
)

// Kind says whose a log directory is.
type Kind int8

const (
	// New is the kind of a directory that is missing, or has nothing of a broker but a
	// first start of klamm that was cut short.
	New Kind = iota
	// Klamm is the kind of a directory with klamm's metadata log.
	Klamm
	// Kafka is the kind of a directory with the metadata log of a JVM broker.
	Kafka
	// Formatted is the kind of a directory that kafka-storage.sh has formatted,
	// and in which no broker has run.
	Formatted
	// Data is the kind of a directory that belongs to a node, but has no metadata
	// log: one of several log directories.
	Data
	// ZooKeeper is the kind of a directory of a Kafka broker that used ZooKeeper.
	ZooKeeper
	// ToKlamm and ToKafka are the kinds of directories whose conversion was
	// interrupted. No broker starts on them.
	ToKlamm
	ToKafka
)

func (k Kind) String() string {
	return [...]string{"new", "klamm", "kafka", "kafka-formatted", "data", "zookeeper", "converting-to-klamm", "converting-to-kafka"}[k]
}

// Directory is what a log directory says of itself.
type Directory struct {
	Path        string
	Kind        Kind
	ClusterID   string // "" if it does not say
	NodeID      int32  // -1 if it does not say
	DirectoryID string // "" if it does not say
	Partitions  int    // directories of partitions, without that of the metadata
	Clean       bool   // the last stop was a clean one
}

// Names in a log directory. Each broker leaves partitions of the metadata topic
// alone, and so what ends in "-stray", which marks partitions that were set aside.
const (
	metadataDir = meta.MetadataTopic + "-0"
	freshDir    = metadataDir + ".converting-stray"
	backupStart = metadataDir + "."
	backupEnd   = "-stray"
	markStart   = log.PropertiesFile + ".to-"
)

// backupName returns the name under which the metadata directory of a form is
// kept after its conversion.
func backupName(form quorum.Form) string { return backupStart + form.String() + backupEnd }

// markName returns the name that meta.properties has while a directory is
// converted to a form. Without meta.properties the JVM broker does not start.
func markName(to quorum.Form) string { return markStart + to.String() }

// Look says whose a log directory is. It writes nothing, and takes no lock.
func Look(fs vfs.FS, dir string) (Directory, error) {
	d := Directory{Path: dir, NodeID: -1}
	names, err := fs.List(dir)
	if errors.Is(err, iofs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	has := func(name string) bool { return slices.Contains(names, name) }
	d.Clean = has(log.CleanFile)
	for _, name := range names {
		if isPartition(name) && hasLog(fs, path.Join(dir, name)) {
			d.Partitions++
		}
	}
	switch {
	case has(markName(quorum.Klamm)):
		d.Kind = ToKlamm
		return d, d.properties(fs, markName(quorum.Klamm))
	case has(markName(quorum.Kafka)):
		d.Kind = ToKafka
		return d, d.properties(fs, markName(quorum.Kafka))
	}
	if has(log.PropertiesFile) {
		d.Kind = Data
		if err := d.properties(fs, log.PropertiesFile); err != nil || d.Kind == ZooKeeper {
			return d, err
		}
	}
	form, err := quorum.FormOf(fs, path.Join(dir, metadataDir))
	// A broker's first start claims the directory last.
	unfinished := d.Kind == New && d.Partitions == 0
	if err != nil && !unfinished {
		return d, err
	}
	switch {
	case err != nil, form == quorum.Klamm && unfinished:
	case form == quorum.Klamm:
		d.Kind = Klamm
	case form == quorum.Kafka:
		d.Kind = Kafka
		if _, err := fs.Stat(path.Join(dir, metadataDir, log.QuorumStateFile)); errors.Is(err, iofs.ErrNotExist) && has(log.BootstrapFile) {
			d.Kind = Formatted
		}
	case d.Kind == Data && has(log.BootstrapFile) && d.Partitions == 0 && !has(log.RecoveryPointFile):
		d.Kind = Formatted // formatting makes the file in every log directory
	}
	return d, nil
}

// properties reads meta.properties, or the file that it was renamed to.
func (d *Directory) properties(fs vfs.FS, name string) error {
	name = path.Join(d.Path, name)
	text, err := vfs.ReadFile(fs, name)
	if err != nil {
		return err
	}
	loader := properties.Loader{Encoding: properties.ISO_8859_1, DisableExpansion: true}
	p, err := loader.LoadBytes(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d.ClusterID, d.DirectoryID = p.GetString("cluster.id", ""), p.GetString("directory.id", "")
	id := p.GetString("node.id", p.GetString("broker.id", ""))
	node, err := strconv.ParseInt(id, 10, 32)
	if err != nil {
		return fmt.Errorf("%s: node.id: %w", name, err)
	}
	d.NodeID = int32(node)
	if p.GetString("version", "") == "0" {
		d.Kind = ZooKeeper
	}
	return nil
}

// hasLog reports whether a directory has what a partition's has. Others may have a
// name like one, such as backup-2024.
func hasLog(fs vfs.FS, dir string) bool {
	names, err := fs.List(dir)
	return err != nil || slices.ContainsFunc(names, func(name string) bool {
		return name == log.MetadataFile || path.Ext(name) == segment.LogSuffix
	})
}

// isPartition reports whether a name is TOPIC-N of a topic that is not the
// metadata's.
func isPartition(name string) bool {
	at := strings.LastIndexByte(name, '-')
	if at <= 0 || name[:at] == meta.MetadataTopic {
		return false
	}
	n, err := strconv.ParseInt(name[at+1:], 10, 32)
	return err == nil && n >= 0
}

// What says in words whose the directory is.
func (d Directory) What() string {
	switch of := d.of(); d.Kind {
	case Klamm:
		return "a log directory of klamm" + of
	case Kafka:
		return "a log directory of a Kafka broker (KRaft)" + of
	case Formatted:
		return "a log directory that was formatted for a Kafka broker which never ran" + of
	case Data:
		return "a log directory without the metadata of its cluster" + of
	case ZooKeeper:
		return "a log directory of a Kafka broker that used ZooKeeper" + of
	case ToKlamm:
		return "a log directory whose conversion from Kafka to klamm was interrupted" + of
	case ToKafka:
		return "a log directory whose conversion from klamm to Kafka was interrupted" + of
	}
	return "no log directory of a broker yet"
}

func (d Directory) of() string {
	switch {
	case d.NodeID < 0:
		return ""
	case d.ClusterID == "":
		return fmt.Sprintf(", node %d", d.NodeID)
	}
	return fmt.Sprintf(", node %d of cluster %s", d.NodeID, d.ClusterID)
}

// Advice says what can be done with a directory that klamm does not start on,
// "" if there is nothing in the way.
func (d Directory) Advice() string {
	switch d.Kind {
	case Kafka, Formatted:
		return fmt.Sprintf("stop that broker, then run 'klamm storage convert --from-kafka %s'", d.Path)
	case ToKlamm:
		return fmt.Sprintf("run 'klamm storage convert --from-kafka %s' again, which finishes it", d.Path)
	case ToKafka:
		return fmt.Sprintf("run 'klamm storage convert --to-kafka %s' again, which finishes it", d.Path)
	case ZooKeeper:
		return "migrate it to KRaft with Kafka's own tools first"
	}
	return ""
}
