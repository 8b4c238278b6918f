package scrub

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"math"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// kraft checks what only the metadata log has: snapshots and quorum-state. Its
// error is that of the context.
func (p *partition) kraft() error {
	for _, name := range p.names {
		if _, suffix, ok := parseFileName(name); ok && suffix == log.QuorumSnapshotSuffix {
			const advice = "move it away: the one before it, with the log after that, or another voter has the same"
			if err := p.metadataSnapshot(p.file(name), advice); err != nil {
				return err
			}
		}
		if name != log.QuorumStateFile {
			continue
		}
		b, err := vfs.ReadFile(p.c.fs, p.file(name))
		var state struct {
			LeaderEpoch *int32 `json:"leaderEpoch"`
		}
		if err == nil {
			err = json.Unmarshal(b, &state)
		}
		if err == nil && state.LeaderEpoch == nil {
			err = fmt.Errorf("no leaderEpoch")
		}
		if err != nil {
			p.find(Damage, p.file(name), -1, -1, err.Error(), "restore it from a backup: a voter that forgets its vote may vote twice")
		}
	}
	return nil
}

// bootstrap checks bootstrap.checkpoint, if the directory has one. Its error is
// that of the context.
func (d *directory) bootstrap(c *checker) error {
	if _, err := d.fs.Stat(d.file(log.BootstrapFile)); d.only != "" && d.only != log.BootstrapFile || errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	p := &partition{c: c, d: d}
	err := p.metadataSnapshot(d.file(log.BootstrapFile), "none, where there is a metadata log: only the JVM broker reads it, when that is empty")
	d.findings = append(d.findings, p.findings...)
	return err
}

// metadataSnapshot checks a snapshot of the cluster's metadata: batches between
// a SnapshotHeaderRecord and a SnapshotFooterRecord. Its error is that of the
// context.
func (p *partition) metadataSnapshot(name, advice string) error {
	w, err := openWindow(p.c.fs, name, dataWindow)
	if err != nil {
		p.find(Damage, name, -1, -1, err.Error(), advice)
		return nil
	}
	defer w.close()
	r := &reading{p: &partition{c: p.c, d: p.d, segments: []int64{0}, single: true}, limit: math.MaxInt64, file: name, w: w}
	footer := false
	for r.at < w.size {
		b, err := r.batch(r.at)
		if err == nil && b.Magic() == record.Magic {
			if err = r.outOfPlace(b); err == nil {
				err = r.contents(b)
			}
		}
		header := false
		footer = false
		if err == nil && b.Magic() == record.Magic && b.Attributes().Control() {
			var c record.Control
			if c, err = record.ParseControl(b); err == nil {
				header, footer = c.Type == record.ControlSnapshotHeader, c.Type == record.ControlSnapshotFooter
			}
		}
		if err == nil && r.at == 0 && !header {
			err = errors.New("begins without a header")
		}
		if err != nil {
			p.find(Damage, name, r.at, -1, err.Error(), advice)
			return nil
		}
		r.p.next = b.LastOffset() + 1
		r.at += int64(len(b))
		if err := p.c.ctx.Err(); err != nil {
			return err
		}
	}
	if !footer {
		p.find(Damage, name, w.size, -1, "ends without a footer", advice)
	}
	return nil
}
