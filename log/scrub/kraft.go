package scrub

import (
	"encoding/json"
	"fmt"
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
			if err := p.metadataSnapshot(p.file(name)); err != nil {
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

// metadataSnapshot checks a snapshot of the cluster's metadata: batches between
// a SnapshotHeaderRecord and a SnapshotFooterRecord.
func (p *partition) metadataSnapshot(name string) error {
	const advice = "move it away: the one before it, with the log after that, or another voter has the same"
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
		if err == nil && b.Magic() == record.Magic && b.Attributes().Control() {
			c, e := record.ParseControl(b)
			if err = e; err == nil && r.at == 0 && c.Type != record.ControlSnapshotHeader {
				err = fmt.Errorf("begins with control record %d and not with a header", c.Type)
			}
			footer = c.Type == record.ControlSnapshotFooter
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
