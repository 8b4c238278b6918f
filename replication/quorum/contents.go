package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// Read reads a metadata directory of either form, from its newest snapshot to
// the end of its log, and writes nothing. A torn tail is not part of the log.
// No broker may have the directory open.
func Read(fs vfs.FS, dir string) (*Contents, error) {
	form, err := FormOf(fs, dir)
	if err != nil {
		return nil, err
	}
	r := &reading{Contents: Contents{Form: form, Image: meta.Empty()}}
	if form == NoForm {
		return &r.Contents, nil
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	snapshots, segments := sortOut(names)
	if len(snapshots) > 0 {
		if err := r.snapshot(fs, dir, snapshots[0]); err != nil {
			return nil, err
		}
	}
	if err := r.log(fs, dir, segments); err != nil {
		return nil, err
	}
	if err := r.state(fs, dir); err != nil {
		return nil, err
	}
	return &r.Contents, nil
}

// reading is a metadata directory that is being read.
type reading struct {
	Contents
	pending []meta.Record // of the metadata transaction under way
	inTxn   bool
}

func (r *reading) snapshot(fs vfs.FS, dir, id string) error {
	end, epoch, _ := strings.Cut(id, "-")
	var err1, err2 error
	r.End, err1 = strconv.ParseInt(end, 10, 64)
	e, err2 := strconv.ParseInt(epoch, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("snapshot %s: %w", id, err)
	}
	r.Epoch = int32(e)
	if err := r.records(fs, dir+"/"+id+log.QuorumSnapshotSuffix); err != nil {
		return fmt.Errorf("snapshot %s: %w", id, err)
	}
	return nil
}

// ReadSnapshot reads a file of metadata records between a SnapshotHeaderRecord
// and a SnapshotFooterRecord, such as bootstrap.checkpoint.
func ReadSnapshot(fs vfs.FS, name string) (*Contents, error) {
	r := &reading{Contents: Contents{Form: Kafka, Image: meta.Empty()}}
	if err := r.records(fs, name); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &r.Contents, nil
}

func (r *reading) records(fs vfs.FS, name string) error {
	f, err := fs.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	batches := batchReader{file: f}
	var all []meta.Record
	finished := false
	for {
		b, err := batches.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if b.Attributes().Control() {
			if finished, err = r.control(b); err != nil {
				return err
			}
			continue
		}
		records, err := parseBatch(b)
		if err != nil {
			return err
		}
		all = append(all, records...)
	}
	if !finished {
		return errors.New("it has no footer")
	}
	inOrder(all)
	r.Image, _, err = r.Image.Apply(0, r.Epoch, all)
	return err
}

// log reads the batches behind the snapshot.
func (r *reading) log(fs vfs.FS, dir string, segments []int64) error {
	for i, base := range segments {
		if i+1 < len(segments) && segments[i+1] <= r.End {
			continue
		}
		last := i+1 == len(segments)
		if err := r.segment(fs, segmentPath(dir, base), last); err != nil {
			return err
		}
	}
	return nil
}

func (r *reading) segment(fs vfs.FS, name string, last bool) error {
	f, err := fs.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	batches := batchReader{file: f}
	for {
		b, err := batches.next()
		switch {
		case errors.Is(err, io.EOF), last && errors.Is(err, errTorn):
			return nil
		case err != nil:
			return fmt.Errorf("%s at byte %d: %w", name, batches.at, err)
		case b.LastOffset() < r.End:
			continue
		case b.BaseOffset() != r.End:
			return fmt.Errorf("%s at byte %d: offset %d follows %d", name, batches.at-int64(len(b)), b.BaseOffset(), r.End-1)
		}
		if err := r.batch(b); err != nil {
			return fmt.Errorf("%s at offset %d: %w", name, b.BaseOffset(), err)
		}
		r.End, r.Epoch, r.Timestamp = b.LastOffset()+1, b.LeaderEpoch(), max(r.Timestamp, b.MaxTimestamp())
	}
}

func (r *reading) batch(b record.Batch) error {
	if b.Attributes().Control() {
		_, err := r.control(b)
		return err
	}
	records, err := parseBatch(b)
	if err != nil {
		return err
	}
	inOrder(records)
	if r.Form == Klamm {
		// An entry that contradicts the image changes nothing, on every node alike.
		if next, _, err := r.Image.Apply(0, b.LeaderEpoch(), records); err == nil {
			r.Image = next
		}
		return nil
	}
	return r.transactions(records, b.LeaderEpoch())
}

// transactions applies the records of a batch of KRaft's log: what stands in a
// metadata transaction only once that ends. One that is aborted, or is still
// open at the end of the log, is as if it had never begun (KIP-868).
func (r *reading) transactions(records []meta.Record, epoch int32) (err error) {
	for _, x := range records {
		switch x.(type) {
		case *msg.BeginTransactionRecord, *msg.EndTransactionRecord, *msg.AbortTransactionRecord:
			_, aborted := x.(*msg.AbortTransactionRecord)
			if !aborted {
				if r.Image, _, err = r.Image.Apply(0, epoch, r.pending); err != nil {
					return err
				}
			}
			r.pending = nil
			_, r.inTxn = x.(*msg.BeginTransactionRecord)
		default:
			r.pending = append(r.pending, x)
		}
	}
	if r.inTxn {
		return nil
	}
	r.Image, _, err = r.Image.Apply(0, epoch, r.pending)
	r.pending = nil
	return err
}

// inOrder puts the partitions of a topic in order where they follow each other:
// the JVM broker keeps them in a map without one.
func inOrder(records []meta.Record) {
	for i := 0; i < len(records); {
		first, ok := records[i].(*msg.PartitionRecord)
		n := i + 1
		for ; ok && n < len(records); n++ {
			if p, is := records[n].(*msg.PartitionRecord); !is || p.TopicId != first.TopicId {
				break
			}
		}
		slices.SortStableFunc(records[i:n], func(a, b meta.Record) int {
			if x, ok := a.(*msg.PartitionRecord); ok {
				return int(x.PartitionId) - int(b.(*msg.PartitionRecord).PartitionId)
			}
			return 0
		})
		i = n
	}
}

// control takes what the control records of a batch say of the quorum. It
// reports whether the last one ends a snapshot.
func (r *reading) control(b record.Batch) (footer bool, err error) {
	it := b.Iterate(maxEntry)
	defer it.Close()
	for it.Next() {
		key, value := it.Record().Key, it.Record().Value
		if len(key) < 4 {
			return false, fmt.Errorf("a control record with a key of %d bytes", len(key))
		}
		t := record.ControlType(binary.BigEndian.Uint16(key[2:]))
		footer = t == record.ControlSnapshotFooter
		switch t {
		case record.ControlSnapshotHeader:
			var h msg.SnapshotHeaderRecord
			if err := h.Decode(value, 0); err != nil {
				return false, err
			}
			r.Timestamp = h.LastContainedLogTimestamp
		case record.ControlKRaftVersion:
			var v msg.KRaftVersionRecord
			if err := v.Decode(value, 0); err != nil {
				return false, err
			}
			r.KRaft.Version = v.KRaftVersion
		case record.ControlVoters:
			var v msg.VotersRecord
			if err := v.Decode(value, 0); err != nil {
				return false, err
			}
			r.VoterIDs = nil
			for _, x := range v.Voters {
				r.VoterIDs = append(r.VoterIDs, x.VoterId)
			}
			if r.Form == Kafka {
				r.KRaft.Voters = v.Voters
			}
		}
	}
	return footer, it.Err()
}

// state reads quorum-state, and what a directory of klamm's keeps of KRaft's.
func (r *reading) state(fs vfs.FS, dir string) error {
	s, err := readQuorumState(fs, dir)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	r.Term = max(r.Epoch, s.LeaderEpoch)
	if r.Form == Klamm {
		r.KRaft, err = readKRaft(fs, dir)
		return err
	}
	if r.KRaft.Version == 0 {
		r.VoterIDs = nil
		for _, v := range s.CurrentVoters {
			r.VoterIDs = append(r.VoterIDs, v.VoterID)
		}
	}
	return nil
}

// parseBatch returns the records of a batch, which alias nothing.
func parseBatch(b record.Batch) (out []meta.Record, err error) {
	it := b.Iterate(maxEntry)
	defer it.Close()
	for it.Next() {
		r, err := meta.ParseRecord(append([]byte(nil), it.Record().Value...))
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, it.Err()
}
