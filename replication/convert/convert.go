package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"path"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
)

// Options say what to convert.
type Options struct {
	Dir string      // the log directory that has the metadata
	To  quorum.Form // Klamm or Kafka
	// Unenforced names what may be in the metadata though klamm does not enforce
	// it.
	Unenforced []string
	// MetadataVersion is the level of metadata.version whose records klamm writes.
	MetadataVersion int16

	started bool // a broker has run in the directory
}

// Conversion is a plan to convert a log directory. Its steps are taken in order;
// each is durable when it is done, and a plan that is made again after one that
// was interrupted goes on where that ended.
type Conversion struct {
	Directory // as it was found
	Steps     []Step
	Backup    string           // where the original metadata are in the end, "" if there were none
	Contents  *quorum.Contents // what the new metadata begin with, or the ones that are there; nil where no broker has run

	fs vfs.FS
	o  Options
}

// Step is one step of a conversion.
type Step struct {
	Do  string
	Run func() error
}

// Plan looks at a directory and returns what is to be done to convert it:
// nothing if it is of the form wanted. It writes nothing. The caller has locked
// the directory, or knows that no broker runs.
func Plan(ctx context.Context, fs vfs.FS, o Options) (*Conversion, error) {
	d, err := Look(fs, o.Dir)
	if err != nil {
		return nil, err
	}
	c := &Conversion{Directory: d, fs: fs, o: o}
	refuse := func(err error) (*Conversion, error) {
		return nil, fmt.Errorf("%s is %s: %w; %w", o.Dir, d.What(), err, ErrNotOurs)
	}
	toKafka := o.To == quorum.Kafka
	switch {
	case d.Kind == Klamm && !toKafka, d.Kind == Kafka && toKafka:
		c.Contents, err = quorum.Read(fs, c.file(metadataDir))
		return c, err
	case d.Kind == Formatted && toKafka:
		return c, nil
	case d.Kind == ToKlamm && !toKafka, d.Kind == ToKafka && toKafka:
		return c, c.resume()
	case d.Kind == Klamm, d.Kind == Kafka, d.Kind == Formatted:
	case d.Kind == New, d.Kind == Data:
		return refuse(fmt.Errorf("want the one of its node's log directories that has %s: metadata.log.dir, or the first of log.dirs", metadataDir))
	default:
		return refuse(errors.New(d.Advice()))
	}
	if d.NodeID < 0 || d.ClusterID == "" {
		return refuse(fmt.Errorf("%s does not say whose it is", log.PropertiesFile))
	}
	if err := c.undamaged(ctx); err != nil {
		return refuse(err)
	}
	source, err := c.read()
	if err != nil {
		return refuse(err)
	}
	if o.To == quorum.Klamm {
		if err := unsuited(source, d.NodeID, c.o); err != nil {
			return refuse(err)
		}
	}
	if err := c.target(source); err != nil {
		return refuse(err)
	}
	_, err = fs.Stat(c.file(metadataDir))
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, err
	}
	c.plan(err == nil)
	return c, nil
}

func (c *Conversion) file(name string) string { return path.Join(c.Path, name) }

// undamaged checks the metadata directory from end to end. A torn tail is no
// damage: what it was the beginning of was never acknowledged.
func (c *Conversion) undamaged(ctx context.Context) error {
	dir := c.file(metadataDir)
	if _, err := c.fs.Stat(dir); errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	report, err := scrub.Check(ctx, scrub.Options{FS: c.fs, Locked: true}, dir)
	if errors.Is(err, scrub.ErrNoLog) { // empty
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range report.Findings {
		// klamm does not read quorum-state of Kafka's but for its epoch, which the
		// log has too.
		if f.Severity == scrub.Damage && path.Base(f.File) != log.QuorumStateFile {
			return fmt.Errorf("%s is damaged: %s ('klamm log verify %s' says more)", f.File, f.What, dir)
		}
	}
	return nil
}

// read reads the metadata. Those of a node that never ran are in the file that
// formatting has made.
func (c *Conversion) read() (*quorum.Contents, error) {
	source, err := quorum.Read(c.fs, c.file(metadataDir))
	if err != nil {
		return nil, err
	}
	c.o.started = c.Kind != Formatted
	if c.o.To == quorum.Kafka || len(source.Image.Features()) > 0 {
		return source, nil
	}
	first, err := quorum.ReadSnapshot(c.fs, c.file(log.BootstrapFile))
	if errors.Is(err, iofs.ErrNotExist) {
		return source, nil
	}
	if err != nil {
		return nil, err
	}
	source.Image = first.Image
	return source, nil
}

// target works out what the new metadata directory begins with.
func (c *Conversion) target(source *quorum.Contents) error {
	next := *source
	next.Form = c.o.To
	// raft's snapshots are of an entry, and the first one is 1.
	next.End, next.Epoch = max(source.End, 1), max(source.Epoch, 1)
	next.Term = max(source.Term, next.Epoch)
	var err error
	next.Image, err = handOver(source.Image, c.NodeID, c.o.To)
	c.Contents = &next
	return err
}

// plan makes the steps. Between the second and the last one no broker starts:
// the JVM broker misses meta.properties, and klamm knows the name that it has.
func (c *Conversion) plan(original bool) {
	c.step(fmt.Sprintf("write the metadata in %s's form to %s, and compare them", c.o.To, freshDir), c.write)
	c.step(fmt.Sprintf("rename %s to %s, so that no broker starts", log.PropertiesFile, markName(c.o.To)), func() error {
		return c.rename(log.PropertiesFile, markName(c.o.To))
	})
	c.swap(original)
}

// resume makes the steps that are left of a conversion that was interrupted.
func (c *Conversion) resume() error {
	there := make(map[string]bool)
	for _, name := range []string{metadataDir, freshDir} {
		switch _, err := c.fs.Stat(c.file(name)); {
		case err == nil:
			there[name] = true
		case !errors.Is(err, iofs.ErrNotExist):
			return err
		}
	}
	at := freshDir
	if !there[freshDir] {
		at = metadataDir
	}
	contents, err := quorum.Read(c.fs, c.file(at))
	if err == nil && contents.Form != c.o.To {
		err = fmt.Errorf("%s is of the form %s: what was converted is gone; restore %s from a backup", c.file(at), contents.Form, c.Path)
	}
	if err != nil {
		return err
	}
	c.Contents = contents
	if there[freshDir] {
		c.swap(there[metadataDir])
	} else {
		c.unmark()
	}
	backup := backupName(c.other())
	if _, err := c.fs.Stat(c.file(backup)); err == nil {
		c.Backup = c.file(backup)
	}
	return nil
}

// other returns the form that the directory has before.
func (c *Conversion) other() quorum.Form {
	if c.o.To == quorum.Kafka {
		return quorum.Klamm
	}
	return quorum.Kafka
}

// swap plans to put the new metadata in the place of the original.
func (c *Conversion) swap(original bool) {
	if original {
		backup := backupName(c.other())
		c.Backup = c.file(backup)
		c.step("keep the original metadata as "+backup, func() error {
			if err := c.fs.RemoveAll(c.file(backup)); err != nil { // of a conversion before
				return err
			}
			return c.rename(metadataDir, backup)
		})
	}
	c.step(fmt.Sprintf("rename %s to %s", freshDir, metadataDir), func() error { return c.rename(freshDir, metadataDir) })
	c.unmark()
}

func (c *Conversion) unmark() {
	c.step(fmt.Sprintf("rename %s to %s", markName(c.o.To), log.PropertiesFile), func() error {
		return c.rename(markName(c.o.To), log.PropertiesFile)
	})
}

func (c *Conversion) step(do string, run func() error) { c.Steps = append(c.Steps, Step{do, run}) }

// rename renames a file or directory durably.
func (c *Conversion) rename(from, to string) error {
	if err := c.fs.Rename(c.file(from), c.file(to)); err != nil {
		return err
	}
	return c.fs.SyncDir(c.Path)
}

// write writes the new metadata directory and reads it back.
func (c *Conversion) write() error {
	fresh := c.file(freshDir)
	if err := c.fs.RemoveAll(fresh); err != nil { // of a conversion that was interrupted
		return err
	}
	if err := quorum.Begin(c.fs, fresh, c.NodeID, c.Contents); err != nil {
		return err
	}
	if err := c.fs.SyncDir(c.Path); err != nil {
		return err
	}
	got, err := quorum.Read(c.fs, fresh)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	have, err := dump(got.Image)
	if err != nil {
		return err
	}
	want, err := dump(c.Contents.Image)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, want) || got.End != c.Contents.End || got.Form != c.o.To {
		return fmt.Errorf("%s reads other than it was written: %d bytes of records up to offset %d, want %d up to %d", fresh, len(have), got.End, len(want), c.Contents.End)
	}
	return nil
}

// dump returns the byte form of an image, which is equal for equal images.
func dump(m *meta.Image) (b []byte, err error) {
	for _, r := range m.Records() {
		if b, err = meta.AppendRecord(b, r); err != nil {
			return nil, err
		}
	}
	return b, nil
}
