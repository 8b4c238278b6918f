package meta

import (
	"fmt"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// Record is a record of the metadata log.
type Record = msg.Message

// frameVersion is the first varint of a framed metadata record.
const frameVersion = 1

// AppendRecord appends the framed form of a metadata record: uvarint frame
// version (1), uvarint type, uvarint version, body. The version written is the
// highest that metadata.version 4.3 allows, which is the schema's latest.
func AppendRecord(b []byte, r Record) ([]byte, error) {
	t, ok := r.(interface{ RecordType() int16 })
	if !ok {
		return b, fmt.Errorf("%s is no metadata record", r.MessageName())
	}
	_, version := r.Versions()
	b = prim.AppendUvarint(b, frameVersion)
	b = prim.AppendUvarint(b, uint32(t.RecordType()))
	b = prim.AppendUvarint(b, uint32(version))
	return r.AppendTo(b, version)
}

// ParseRecord parses what AppendRecord wrote, or what a controller of an
// earlier version wrote.
func ParseRecord(b []byte) (Record, error) {
	r := prim.NewReader(b)
	if v := r.Uvarint(); r.Err() == nil && v != frameVersion {
		return nil, fmt.Errorf("metadata record: frame version %d, want %d", v, frameVersion)
	}
	id, version := r.Uvarint(), r.Uvarint()
	if r.Err() != nil {
		return nil, fmt.Errorf("metadata record: %w", r.Err())
	}
	m := msg.NewMetadataRecord(id)
	if m == nil {
		return nil, fmt.Errorf("metadata record: unknown type %d: %w", id, ErrUnknownRecord)
	}
	m.DecodeFrom(&r, int16(version))
	r.Done()
	if r.Err() != nil {
		return nil, fmt.Errorf("%s: %w", m.MessageName(), r.Err())
	}
	return m, nil
}

// WithEpoch returns the framed form of a record as it is stored in the entry at
// index: the epoch of a broker that it registers is that index.
func WithEpoch(framed []byte, index uint64) ([]byte, error) {
	r := prim.NewReader(framed)
	r.Uvarint()
	if id := r.Uvarint(); r.Err() != nil || id != uint32(new(msg.RegisterBrokerRecord).RecordType()) {
		return framed, nil // an unreadable one is refused when it is applied
	}
	m, err := ParseRecord(framed)
	if err != nil {
		return framed, nil
	}
	b := m.(*msg.RegisterBrokerRecord)
	if b.BrokerEpoch != EpochOfEntry {
		return framed, nil
	}
	b.BrokerEpoch = int64(index)
	return AppendRecord(nil, b)
}
