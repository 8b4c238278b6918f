package record

import (
	"encoding/binary"
	"fmt"
)

// ControlType is the kind of a control record.
type ControlType int16

const (
	ControlAbort ControlType = iota
	ControlCommit
	ControlLeaderChange
	ControlSnapshotHeader
	ControlSnapshotFooter
	ControlKRaftVersion
	ControlVoters
)

// Control describes a control batch: one record whose key is int16 version,
// int16 type, and whose value depends on the type.
type Control struct {
	Type       ControlType
	Version    int16 // of the key, 0
	Value      []byte
	Timestamp  int64 // ms
	ProducerID int64 // of a transaction marker; -1 none
	Epoch      int16 // of that producer; -1 none
}

// Transactional reports whether the batch is a transaction marker.
func (c Control) Transactional() bool { return c.Type == ControlAbort || c.Type == ControlCommit }

// BuildControl appends a control batch with base offset 0 and leader epoch -1.
func BuildControl(dst []byte, c Control) []byte {
	var key [4]byte
	binary.BigEndian.PutUint16(key[:], uint16(c.Version))
	binary.BigEndian.PutUint16(key[2:], uint16(c.Type))
	b := Builder{}
	b.Reset()
	b.Append(c.Timestamp, key[:], c.Value, nil)
	attrs := attrControl
	p := NoProducer
	if c.Transactional() {
		attrs |= attrTransactional
		p.ID, p.Epoch = c.ProducerID, c.Epoch
	}
	putHeader(b.buf, attrs, 0, 1, c.Timestamp, c.Timestamp, p)
	return append(dst, b.buf...)
}

// BuildEndTxn appends the marker that ends a transaction. Its value is int16
// version 0 and int32 coordinator epoch.
func BuildEndTxn(dst []byte, commit bool, producerID int64, epoch int16, coordinatorEpoch int32, timestamp int64) []byte {
	var value [6]byte
	binary.BigEndian.PutUint32(value[2:], uint32(coordinatorEpoch))
	c := Control{Type: ControlAbort, Value: value[:], Timestamp: timestamp, ProducerID: producerID, Epoch: epoch}
	if commit {
		c.Type = ControlCommit
	}
	return BuildControl(dst, c)
}

// ParseControl returns the control record that a control batch holds. Its Value
// aliases b.
func ParseControl(b Batch) (Control, error) {
	if !b.Attributes().Control() {
		return Control{}, fmt.Errorf("%w: no control batch", ErrCorrupt)
	}
	it := b.Iterate(0)
	defer it.Close()
	if !it.Next() {
		return Control{}, fmt.Errorf("%w: control batch at offset %d without a record (%v)", ErrCorrupt, b.BaseOffset(), it.Err())
	}
	key := it.Record().Key
	if len(key) < 4 {
		return Control{}, fmt.Errorf("%w: control record key of %d bytes", ErrCorrupt, len(key))
	}
	value := it.Record().Value
	if b.Attributes().Codec() != None { // it aliases memory that Close gives back
		value = append([]byte(nil), value...)
	}
	return Control{
		Version:    int16(binary.BigEndian.Uint16(key)),
		Type:       ControlType(binary.BigEndian.Uint16(key[2:])),
		Value:      value,
		Timestamp:  it.Timestamp(),
		ProducerID: b.ProducerID(),
		Epoch:      b.ProducerEpoch(),
	}, nil
}

// CoordinatorEpoch returns the epoch in the value of a transaction marker.
func (c Control) CoordinatorEpoch() (int32, error) {
	if !c.Transactional() || len(c.Value) < 6 {
		return 0, fmt.Errorf("%w: control type %d with a value of %d bytes is no transaction marker", ErrCorrupt, c.Type, len(c.Value))
	}
	return int32(binary.BigEndian.Uint32(c.Value[2:])), nil
}
