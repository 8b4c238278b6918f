package quorum

import (
	"encoding/binary"
	"math"

	"github.com/hashicorp/raft"

	"github.com/klamm-io/klamm/replication/meta"
)

// draftMark begins a command that has not been stored yet. As the size of a
// record it would be too large.
const draftMark = math.MaxUint32

// draftSize is the size of what stands before the records of a draft:
//
//	uint32 draftMark
//	uint64 term that the command was decided in
const draftSize = 12

// appendDraft appends a command as raft is given it.
func appendDraft(b []byte, term uint64, records []meta.Record) ([]byte, error) {
	b = binary.BigEndian.AppendUint32(b, draftMark)
	b = binary.BigEndian.AppendUint64(b, term)
	return AppendCommand(b, records)
}

// seal makes of a draft the command that is stored, applied and sent to other
// nodes, now that index and term of its entry are known. One that was decided in
// an earlier term becomes empty, and that is a NoOpRecord on disk. A broker that
// the command registers gets its epoch. Any other entry stays as it is.
func seal(l *raft.Log) error {
	if l.Type != raft.LogCommand || len(l.Data) < draftSize || binary.BigEndian.Uint32(l.Data) != draftMark {
		return nil
	}
	term, draft := binary.BigEndian.Uint64(l.Data[4:]), l.Data[draftSize:]
	if l.Data = nil; term != l.Term {
		return nil
	}
	return EachRecord(draft, func(framed []byte) error {
		framed, err := meta.WithEpoch(framed, l.Index)
		l.Data = binary.BigEndian.AppendUint32(l.Data, uint32(len(framed)))
		l.Data = append(l.Data, framed...)
		return err
	})
}
