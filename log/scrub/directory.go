package scrub

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
	"github.com/klamm-io/klamm/wire/prim"
)

// directory is a log directory: what it says of itself and of its partitions.
type directory struct {
	fs      vfs.FS
	path    string
	asked   bool   // it is to be checked itself, and is not only above what is
	only    string // the one file to check
	known   bool   // it has the files of a log directory
	running bool   // a broker has it open
	clean   bool   // the last stop was a clean one

	recovery, high, start, cleaner map[string]int64 // by partition directory; nil without a file
	partitions                     []*partition     // found in it
	findings                       []Finding
}

func openDirectory(fs vfs.FS, p string) *directory {
	d := &directory{fs: fs, path: p}
	if _, err := fs.Stat(d.file(log.PropertiesFile)); err == nil {
		d.known = true
	}
	if _, err := fs.Stat(d.file(log.CleanFile)); err == nil {
		d.clean, d.known = true, true
	}
	for name, into := range map[string]*map[string]int64{log.RecoveryPointFile: &d.recovery, log.HighWatermarkFile: &d.high, log.LogStartFile: &d.start, log.CleanerFile: &d.cleaner} {
		*into = d.checkpoint(name)
		d.known = d.known || *into != nil
	}
	return d
}

func (d *directory) file(name string) string { return path.Join(d.path, name) }

func (d *directory) finding(s Severity, file string, at, offset int64, what, advice string) {
	d.findings = append(d.findings, Finding{Severity: s, File: d.file(file), Byte: at, Offset: offset, What: what, Advice: advice})
}

// checkpoint reads an offset checkpoint, nil if there is none.
func (d *directory) checkpoint(name string) map[string]int64 {
	out := make(map[string]int64)
	at, err := readCheckpoint(d.fs, d.file(name), 3, func(words []string) error {
		n, err := strconv.ParseInt(words[1], 10, 32)
		offset, err2 := strconv.ParseInt(words[2], 10, 64)
		if err := errors.Join(err, err2); err != nil || n < 0 || offset < 0 {
			return fmt.Errorf("want TOPIC PARTITION OFFSET")
		}
		key := words[0] + "-" + words[1]
		if _, twice := out[key]; twice {
			return fmt.Errorf("%s stands twice", key)
		}
		out[key] = offset
		return nil
	})
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return nil
	case err == nil:
		return out
	}
	advice := "remove it: it is written anew from the logs"
	f := fixRemove
	if name == log.LogStartFile {
		advice, f = "restore it from a backup: without it, deleted records come back up to the start of their segment", fixNone
	}
	d.finding(Damage, name, at, -1, err.Error(), advice)
	d.findings[len(d.findings)-1].fix = f
	return nil
}

// compare checks the directory itself, once its partitions have been.
func (d *directory) compare() []Finding {
	if d.running {
		d.finding(Note, log.LockFile, -1, -1, "a broker has this directory open; the ends of its files may move while they are read", "stop the broker for a check that is sure")
	}
	d.properties()
	dirs := make(map[string]bool)
	ids := make(map[string]*partition)
	for _, p := range d.partitions {
		dirs[p.name] = true
		if p.id == (prim.UUID{}) {
			continue
		}
		if first := ids[p.topic]; first == nil {
			ids[p.topic] = p
		} else if first.id != p.id {
			d.findings = append(d.findings, Finding{Severity: Damage, Partition: p.name, File: p.file(log.MetadataFile), Byte: -1, Offset: -1,
				What:   fmt.Sprintf("topic id %s, but %s has %s", p.id, first.name, first.id),
				Advice: "one of the two belongs to another topic: klamm topic describe tells the id"})
		}
	}
	if d.only == "" {
		for _, name := range []string{log.RecoveryPointFile, log.HighWatermarkFile, log.LogStartFile, log.CleanerFile} {
			d.strangers(name, dirs)
		}
	}
	if d.only != "" {
		d.findings = slices.DeleteFunc(d.findings, func(f Finding) bool { return path.Base(f.File) != d.only })
	}
	return d.findings
}

// strangers notes checkpoint entries of partitions that are not here.
func (d *directory) strangers(name string, dirs map[string]bool) {
	var missing []string
	for key := range map[string]map[string]int64{log.RecoveryPointFile: d.recovery, log.HighWatermarkFile: d.high, log.LogStartFile: d.start, log.CleanerFile: d.cleaner}[name] {
		if !dirs[key] {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return
	}
	slices.Sort(missing)
	text := strings.Join(missing[:min(len(missing), 5)], ", ")
	if n := len(missing) - 5; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	d.finding(Note, name, -1, -1, "names partitions that are not here: "+text, "none if they were deleted or moved away")
}

// properties checks meta.properties.
func (d *directory) properties() {
	text, err := vfs.ReadFile(d.fs, d.file(log.PropertiesFile))
	if errors.Is(err, iofs.ErrNotExist) {
		d.finding(Warning, log.PropertiesFile, -1, -1, "missing, so that this directory belongs to no broker", "none if it is new; else restore the file, with the cluster.id and node.id of its broker")
		return
	}
	loader := properties.Loader{Encoding: properties.ISO_8859_1, DisableExpansion: true}
	var p *properties.Properties
	if err == nil {
		p, err = loader.LoadBytes(text)
	}
	if err == nil && p.GetString("cluster.id", "") == "" {
		err = errors.New("no cluster.id")
	}
	if err == nil {
		_, err = strconv.ParseInt(p.GetString("node.id", p.GetString("broker.id", "")), 10, 32)
	}
	if err == nil {
		if id := p.GetString("directory.id", ""); id != "" {
			_, err = prim.ParseUUID(id)
		}
	}
	if err != nil {
		d.finding(Damage, log.PropertiesFile, -1, -1, err.Error(), "restore it, with the cluster.id and node.id of its broker")
	}
}

// readCheckpoint reads a text file of version 0: a count, and so many lines of n
// words. It returns the byte of the line that is wrong. An offset checkpoint, of
// three words, may be empty.
func readCheckpoint(fs vfs.FS, name string, n int, line func(words []string) error) (at int64, err error) {
	b, err := vfs.ReadFile(fs, name)
	if err != nil {
		return -1, err
	}
	if len(b) == 0 && n == 3 { // as the JVM broker makes them
		return -1, nil
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	count := -1
	for i, text := range lines {
		words := strings.Fields(text)
		switch {
		case i == 0 && text != "0":
			return at, fmt.Errorf("version %.20q, want 0", text)
		case i == 1:
			if count, err = strconv.Atoi(text); err != nil {
				return at, fmt.Errorf("count %.20q", text)
			}
		case i > 1 && len(words) != n:
			return at, fmt.Errorf("line %.80q: want %d words", text, n)
		case i > 1:
			if err := line(words); err != nil {
				return at, fmt.Errorf("line %.80q: %w", text, err)
			}
		}
		at += int64(len(text)) + 1
	}
	if got := len(lines) - 2; got != count || count < 0 {
		return int64(len(b)), fmt.Errorf("%d lines, want %d", max(got, 0), max(count, 0))
	}
	return -1, nil
}
