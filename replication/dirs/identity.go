package dirs

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"path"
	"slices"
	"strconv"

	"github.com/magiconair/properties"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/prim"
)

// Identity is what meta.properties says of a node.
type Identity struct {
	ClusterID string
	NodeID    int32
}

const (
	metadataDir = "__cluster_metadata-0"
	// unfinishedDir is where the metadata of a first start are that was cut short.
	unfinishedDir = metadataDir + ".unfinished-stray"
)

// Claimed reports whether a directory belongs to a node. One that was claimed together with
// others, in a first start that was cut short between them, does so if one of them does.
func Claimed(fs vfs.FS, dir string, others bool) (bool, error) {
	names := []string{log.PropertiesFile}
	if others {
		names = append(names, log.NewPropertiesFile)
	}
	for _, name := range names {
		if _, err := fs.Stat(path.Join(dir, name)); err == nil {
			return true, nil
		} else if !errors.Is(err, iofs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// claim reads whose the directory is, or makes it that of want.
func (d *Dir) claim(want Identity) (Identity, error) {
	text, err := vfs.ReadFile(d.fs, d.File(log.PropertiesFile))
	if err == nil {
		return d.read(log.PropertiesFile, text, want)
	}
	if !errors.Is(err, iofs.ErrNotExist) {
		return want, err
	}
	// A first start was cut short when it had claimed another directory, so that this
	// one's file is whole.
	if text, err := vfs.ReadFile(d.fs, d.File(log.NewPropertiesFile)); err == nil {
		if got, err := d.read(log.NewPropertiesFile, text, want); err == nil && got.ClusterID == want.ClusterID {
			return got, d.Claim()
		}
	}
	got, text := d.fresh(want)
	return got, vfs.WriteFileAtomic(d.fs, d.File(log.PropertiesFile), text)
}

// begin notes whose the directory will be.
func (d *Dir) begin(want Identity) (Identity, error) {
	names, err := d.fs.List(d.Path)
	if err != nil {
		return want, err
	}
	if slices.Contains(names, metadataDir) {
		if err := errors.Join(d.fs.RemoveAll(d.File(unfinishedDir)), d.fs.Rename(d.File(metadataDir), d.File(unfinishedDir))); err != nil {
			return want, err
		}
	}
	if err := d.fs.Remove(d.File(log.CleanFile)); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return want, err
	}
	got, text := d.fresh(want)
	return got, vfs.WriteFileAtomic(d.fs, d.File(log.NewPropertiesFile), text)
}

// Claim makes a directory of OpenNew that of its node, durably.
func (d *Dir) Claim() error {
	if err := d.fs.Rename(d.File(log.NewPropertiesFile), d.File(log.PropertiesFile)); err != nil {
		return err
	}
	return d.fs.SyncDir(d.Path)
}

// fresh makes an identity of what is wanted, and the file that says so.
func (d *Dir) fresh(want Identity) (got Identity, text []byte) {
	if want.ClusterID == "" {
		want.ClusterID = prim.RandomUUID().String()
	}
	d.ID = prim.RandomUUID()
	return want, fmt.Appendf(nil, "version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", want.ClusterID, want.NodeID, d.ID)
}

// read reads a file like meta.properties, which must say what is wanted.
func (d *Dir) read(name string, text []byte, want Identity) (Identity, error) {
	name = d.File(name)
	loader := properties.Loader{Encoding: properties.ISO_8859_1, DisableExpansion: true}
	p, err := loader.LoadBytes(text)
	if err != nil {
		return want, fmt.Errorf("%s: %w", name, err)
	}
	got := Identity{ClusterID: p.GetString("cluster.id", "")}
	node, err := strconv.ParseInt(p.GetString("node.id", p.GetString("broker.id", "")), 10, 32)
	if err != nil {
		return got, fmt.Errorf("%s: node.id: %w", name, err)
	}
	got.NodeID = int32(node)
	if d.ID, err = prim.ParseUUID(p.GetString("directory.id", "")); err != nil {
		return got, fmt.Errorf("%s: directory.id: %w", name, err)
	}
	if want.ClusterID != "" && want.ClusterID != got.ClusterID {
		return got, fmt.Errorf("%s belongs to cluster %s, not %s", d.Path, got.ClusterID, want.ClusterID)
	}
	if want.NodeID != got.NodeID {
		return got, fmt.Errorf("%s belongs to node %d, but node.id is %d", d.Path, got.NodeID, want.NodeID)
	}
	return got, nil
}
