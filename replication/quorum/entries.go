// Package quorum stores what hashicorp/raft needs to survive a restart, in
// Kafka's formats: its log as the partition __cluster_metadata-0, its snapshots
// as the checkpoint files beside it, and its term and vote as quorum-state. So
// Kafka's own tools read the metadata of a klamm cluster.
//
// One raft entry is one record batch:
//
//	LogCommand        a batch of framed metadata records
//	LogNoop           a LeaderChangeMessage, which KRaft too writes when a leader begins
//	LogConfiguration  a VotersRecord; the raft configuration itself stands in an unknown tagged field
//	LogBarrier        a batch of one NoOpRecord
//
// The batch's leader epoch is the raft term. A batch has as many offsets as
// records, so a raft index is no offset: the file raft-start holds the index and
// the offset of the first entry kept, and the rest follows by counting batches.
package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// configurationTag is the tagged field of VotersRecord that carries the raft
// configuration, in raft's own encoding.
const configurationTag = 10000

// maxEntry bounds what one entry may decompress to; entries are not compressed.
const maxEntry = 64 << 20

// AppendCommand appends the data of a raft command that holds records: for each
// an uint32 size and its framed form.
func AppendCommand(b []byte, records []meta.Record) ([]byte, error) {
	for _, r := range records {
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		var err error
		if b, err = meta.AppendRecord(b, r); err != nil {
			return b, err
		}
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b, nil
}

var errCommand = errors.New("malformed raft command")

// EachRecord calls f with the framed form of every record of a command.
func EachRecord(data []byte, f func(framed []byte) error) error {
	for len(data) > 0 {
		if len(data) < 4 {
			return errCommand
		}
		n := binary.BigEndian.Uint32(data)
		if uint64(n) > uint64(len(data)-4) {
			return errCommand
		}
		if err := f(data[4 : 4+n]); err != nil {
			return err
		}
		data = data[4+n:]
	}
	return nil
}

// ParseCommand parses what AppendCommand wrote.
func ParseCommand(data []byte) ([]meta.Record, error) {
	var out []meta.Record
	err := EachRecord(data, func(framed []byte) error {
		r, err := meta.ParseRecord(framed)
		out = append(out, r)
		return err
	})
	return out, err
}

// encodeEntry returns the batch of an entry, with base offset 0.
func encodeEntry(l *raft.Log) (record.Batch, error) {
	if err := checkTerm(l.Term); err != nil {
		return nil, fmt.Errorf("raft entry %d: %w", l.Index, err)
	}
	ms := l.AppendedAt.UnixMilli()
	if l.AppendedAt.IsZero() {
		ms = time.Now().UnixMilli()
	}
	var b record.Batch
	switch l.Type {
	case raft.LogNoop:
		value, err := new(msg.LeaderChangeMessage).AppendTo(nil, 0)
		if err != nil {
			return nil, err
		}
		b = record.BuildControl(nil, record.Control{Type: record.ControlLeaderChange, Value: value, Timestamp: ms, ProducerID: -1, Epoch: -1})
	case raft.LogConfiguration:
		value, err := voters(l.Data)
		if err != nil {
			return nil, err
		}
		b = record.BuildControl(nil, record.Control{Type: record.ControlVoters, Value: value, Timestamp: ms, ProducerID: -1, Epoch: -1})
	case raft.LogCommand, raft.LogBarrier:
		build := record.NewBuilder(record.None, 0)
		data := l.Data
		if l.Type == raft.LogBarrier || len(data) == 0 {
			var err error
			if data, err = AppendCommand(nil, []meta.Record{new(msg.NoOpRecord)}); err != nil {
				return nil, err
			}
		}
		if err := EachRecord(data, func(framed []byte) error {
			build.Append(ms, nil, framed, nil)
			return nil
		}); err != nil {
			return nil, err
		}
		whole, err := build.Finish(record.NoProducer)
		if err != nil {
			return nil, err
		}
		b = whole
	default:
		return nil, fmt.Errorf("raft entry %d: type %s is not stored", l.Index, l.Type)
	}
	b.SetLeaderEpoch(int32(l.Term))
	return b, nil
}

// voters returns the VotersRecord of an encoded raft configuration.
func voters(configuration []byte) ([]byte, error) {
	v := &msg.VotersRecord{Tags: &prim.Tags{{ID: configurationTag, Value: configuration}}}
	for _, s := range raft.DecodeConfiguration(configuration).Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		p, ok := peerOf(s)
		if !ok {
			return nil, fmt.Errorf("raft server id %q is no node id", s.ID)
		}
		v.Voters = append(v.Voters, msg.VotersRecordVoter{VoterId: p.ID, VoterDirectoryId: p.Directory})
	}
	return v.AppendTo(nil, 0)
}

// decodeEntry fills l from the batch of an entry.
func decodeEntry(b record.Batch, index uint64, l *raft.Log) error {
	*l = raft.Log{Index: index, Term: uint64(b.LeaderEpoch()), AppendedAt: time.UnixMilli(b.BaseTimestamp())}
	if b.Attributes().Control() {
		c, err := record.ParseControl(b)
		if err != nil {
			return err
		}
		switch c.Type {
		case record.ControlLeaderChange:
			l.Type = raft.LogNoop
		case record.ControlVoters:
			l.Type = raft.LogConfiguration
			var v msg.VotersRecord
			if err := v.Decode(c.Value, 0); err != nil {
				return err
			}
			if v.Tags == nil || len(*v.Tags) == 0 || (*v.Tags)[0].ID != configurationTag {
				return fmt.Errorf("metadata entry %d: a VotersRecord without raft's configuration", index)
			}
			l.Data = append([]byte(nil), (*v.Tags)[0].Value...)
		default:
			return fmt.Errorf("metadata entry %d: control type %d", index, c.Type)
		}
		return nil
	}
	l.Type = raft.LogCommand
	it := b.Iterate(maxEntry)
	defer it.Close()
	for it.Next() {
		value := it.Record().Value
		l.Data = binary.BigEndian.AppendUint32(l.Data, uint32(len(value)))
		l.Data = append(l.Data, value...)
	}
	return it.Err()
}
