package scrub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	iofs "io/fs"
	"slices"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// producer is what the batches say of an idempotent producer (KIP-98).
type producer struct {
	epoch      int16
	lastSeq    int32 // -1 none
	lastOffset int64 // -1 none
	delta      int32
	txnFirst   int64 // first offset of the open transaction, -1 none
	seen       bool  // a batch of it was read, and not only a snapshot
}

// producers are all producers of a partition, by id.
type producers map[int64]*producer

func (s *producers) make(id int64, epoch int16) *producer {
	p := (*s)[id]
	if p == nil {
		p = &producer{epoch: epoch, lastSeq: -1, lastOffset: -1, txnFirst: -1}
		if *s == nil {
			*s = make(producers)
		}
		(*s)[id] = p
	}
	p.seen = true
	if p.epoch != epoch {
		p.epoch, p.lastSeq, p.lastOffset, p.delta = epoch, -1, -1, 0
	}
	return p
}

// firstOpen returns the first offset of the oldest open transaction, -1 if none.
func (s producers) firstOpen() int64 {
	first := int64(-1)
	for _, p := range s {
		if p.txnFirst >= 0 && (first < 0 || p.txnFirst < first) {
			first = p.txnFirst
		}
	}
	return first
}

// replay enters a batch into the state of its producer.
func (r *reading) replay(b record.Batch) {
	id, a, p := b.ProducerID(), b.Attributes(), r.p
	if id < 0 {
		return
	}
	if !a.Control() {
		s := p.producers.make(id, b.ProducerEpoch())
		s.lastSeq, s.lastOffset, s.delta = b.LastSequence(), b.LastOffset(), b.LastOffsetDelta()
		if a.Transactional() && s.txnFirst < 0 {
			s.txnFirst = b.BaseOffset()
		}
		return
	}
	c, err := record.ParseControl(b)
	if err != nil || !c.Transactional() {
		return
	}
	epoch := c.Epoch
	if s := p.producers[id]; s != nil {
		epoch = max(epoch, s.epoch)
	}
	s := p.producers.make(id, epoch)
	first := s.txnFirst
	s.txnFirst = -1
	if c.Type == record.ControlAbort {
		r.aborted(id, first, b.BaseOffset())
	}
}

// snapshotFile is a producer snapshot: the state up to an offset.
type snapshotFile struct {
	at   int64
	name string
}

// openSnapshots lists the snapshots. The one that the log begins with is what
// its first batches are read with.
func (p *partition) openSnapshots() {
	for _, name := range p.names {
		if base, suffix, ok := parseFileName(name); ok && suffix == segment.SnapshotSuffix {
			p.snapshots = append(p.snapshots, snapshotFile{base, p.file(name)})
		}
	}
	slices.SortFunc(p.snapshots, func(a, b snapshotFile) int { return int(min(max(a.at-b.at, -1), 1)) })
	for len(p.snapshots) > 0 && (len(p.segments) == 0 || p.snapshots[0].at <= p.segments[0]) {
		s := p.snapshots[0]
		p.snapshots = p.snapshots[1:]
		entries := p.readSnapshot(s)
		if len(p.segments) == 0 || s.at < p.segments[0] {
			continue
		}
		for _, e := range entries {
			q := p.producers.make(e.ProducerId, e.Epoch)
			*q = producer{e.Epoch, e.LastSequence, e.LastOffset, e.OffsetDelta, e.CurrentTxnFirstOffset, false}
		}
	}
}

// snapshotAfter reports whether there is a snapshot above an offset.
func (p *partition) snapshotAfter(offset int64) bool {
	for _, name := range p.names {
		if at, suffix, ok := parseFileName(name); ok && suffix == segment.SnapshotSuffix && at > offset {
			return true
		}
	}
	return false
}

// snapshotAdvice is what to do about a snapshot that is wrong.
const snapshotAdvice = "klamm log repair removes it, so that the next start makes it anew"

// readSnapshot decodes a snapshot; it returns nil if there is something wrong
// with the file itself.
func (p *partition) readSnapshot(s snapshotFile) []msg.ProducerSnapshotProducerEntry {
	b, err := vfs.ReadFile(p.c.fs, s.name)
	if errors.Is(err, iofs.ErrNotExist) && p.d.running {
		return nil // removed meanwhile
	}
	var m msg.ProducerSnapshot
	at := int64(0)
	switch {
	case err != nil:
	case len(b) < 10 || binary.BigEndian.Uint16(b) != 1:
		err = fmt.Errorf("%d bytes are no producer snapshot of version 1", len(b))
	default:
		at = 2
		if got, want := crc32.Checksum(b[6:], castagnoli), binary.BigEndian.Uint32(b[2:]); got != want {
			err = fmt.Errorf("crc %08x, want %08x", got, want)
		} else {
			err = m.Decode(b[2:], 1)
		}
	}
	if err != nil {
		severity, advice := Damage, snapshotAdvice
		if !p.d.clean && p.d.known && !p.single { // a broker does not sync it right away
			severity, advice = Warning, "none: the next start makes it anew"
		}
		p.find(severity, s.name, at, s.at, err.Error(), advice).fix = fixRemove
		return nil
	}
	for _, e := range m.ProducerEntries {
		if e.LastOffset >= s.at || e.CurrentTxnFirstOffset >= s.at || e.ProducerId < 0 {
			p.find(Damage, s.name, -1, s.at, fmt.Sprintf("producer %d: last offset %d and open transaction from %d are not below the snapshot's offset %d", e.ProducerId, e.LastOffset, e.CurrentTxnFirstOffset, s.at), snapshotAdvice).fix = fixRemove
			return nil
		}
	}
	return m.ProducerEntries
}

// compareSnapshots compares the snapshots up to offset with what the batches
// below it say.
func (p *partition) compareSnapshots(offset int64) {
	for len(p.snapshots) > 0 && p.snapshots[0].at <= offset {
		s := p.snapshots[0]
		p.snapshots = p.snapshots[1:]
		entries := p.readSnapshot(s)
		if entries == nil || p.partial || p.single || s.at < p.next {
			continue // s.at < p.next: inside of a batch, where nothing was taken
		}
		if what := p.disagrees(entries, s.at); what != "" {
			p.find(Damage, s.name, -1, s.at, what, snapshotAdvice).fix = fixRemove
		}
	}
}

// disagrees says what a snapshot has otherwise than the batches below its
// offset. Either may know producers that the other does not: those that were
// silent for long are dropped from snapshots, and batches are deleted.
func (p *partition) disagrees(entries []msg.ProducerSnapshotProducerEntry, at int64) string {
	start := max(p.segments[0], p.logStart)
	in := make(map[int64]bool, len(entries))
	for _, e := range entries {
		in[e.ProducerId] = true
		s := p.producers[e.ProducerId]
		if s == nil || !s.seen {
			if e.LastOffset >= p.segments[0] && p.compacted == "" && s == nil {
				return fmt.Sprintf("producer %d has last offset %d, but no batch of it is there", e.ProducerId, e.LastOffset)
			}
			continue
		}
		switch {
		case e.Epoch > s.epoch && p.compacted != "": // the markers that raised it are compacted away
			continue
		case e.Epoch != s.epoch:
			return fmt.Sprintf("producer %d has epoch %d, the log says %d", e.ProducerId, e.Epoch, s.epoch)
		case e.LastOffset != s.lastOffset && !(s.lastOffset < 0 && e.LastOffset < p.segments[0]) && !(p.compacted != "" && e.LastOffset > s.lastOffset):
			return fmt.Sprintf("producer %d has last offset %d, the log says %d", e.ProducerId, e.LastOffset, s.lastOffset)
		case e.LastOffset == s.lastOffset && e.LastSequence != s.lastSeq:
			return fmt.Sprintf("producer %d has last sequence %d, the log says %d", e.ProducerId, e.LastSequence, s.lastSeq)
		case e.CurrentTxnFirstOffset != s.txnFirst && max(e.CurrentTxnFirstOffset, s.txnFirst) >= start && p.compacted == "":
			return fmt.Sprintf("producer %d has an open transaction from %d, the log says %d", e.ProducerId, e.CurrentTxnFirstOffset, s.txnFirst)
		}
	}
	for id, s := range p.producers {
		if s.txnFirst >= start && !in[id] {
			return fmt.Sprintf("producer %d is missing, which has an open transaction from %d", id, s.txnFirst)
		}
	}
	return ""
}

// endSnapshots compares what is left: a snapshot at the log's end, or beyond.
func (p *partition) endSnapshots() {
	if p.single && len(p.segments) == 0 || p.damaged {
		for _, s := range p.snapshots {
			p.readSnapshot(s)
		}
		return
	}
	p.compareSnapshots(p.next)
	for _, s := range p.snapshots {
		if p.readSnapshot(s) == nil || p.d.running || p.single {
			continue
		}
		p.find(Warning, s.name, -1, s.at, fmt.Sprintf("the log ends at %d", p.next), "none: the next start removes it").fix = fixRemove
	}
}
