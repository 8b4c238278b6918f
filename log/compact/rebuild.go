package compact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// Where fields of a batch header are; see package record.
const (
	lengthAt        = 8
	flagsAt         = 21
	lastDeltaAt     = 23
	baseTimestampAt = 27
	maxTimestampAt  = 35
	countAt         = 57

	codecMask     record.Attributes = 7
	appendTime    record.Attributes = 1 << 3
	deleteHorizon record.Attributes = 1 << 6
)

// empty returns the header of b as a batch without records, if keep: what is
// left to tell the last offset and the state of the producer. Like Kafka's
// writeEmptyHeader it has no codec, no base timestamp and no delete horizon.
func (f *Filter) empty(b record.Batch, keep bool) ([]byte, Verdict) {
	if !keep {
		return nil, Dropped
	}
	f.out = append(f.out[:0], b[:record.HeaderSize]...)
	seal(f.out, header{
		attributes:    b.Attributes() &^ (codecMask | deleteHorizon),
		baseTimestamp: record.NoTimestamp,
		maxTimestamp:  b.MaxTimestamp(),
	})
	if bytes.Equal(f.out, b) {
		return b, Same
	}
	return f.out, Emptied
}

// rebuild returns b with the records in f.spans, of plain, only. If horizon is
// set, the time from which its tombstones, or the marker, may go becomes the
// base timestamp (KIP-534); else timestamps stay as they are, relative to the
// base timestamp of b, and the records are copied in runs.
func (f *Filter) rebuild(b record.Batch, plain []byte, sum chosen, horizon bool) ([]byte, error) {
	h := header{
		attributes:    b.Attributes(),
		baseTimestamp: b.BaseTimestamp(),
		maxTimestamp:  sum.maxTimestamp,
		count:         sum.count,
	}
	if cap(f.out) > maxScratch {
		f.out, f.plain = nil, nil
	}
	f.out = append(f.out[:0], b[:record.HeaderSize]...)
	dst := f.out
	codec := h.attributes.Codec()
	if codec != record.None {
		dst = f.plain[:0]
	}
	if horizon {
		h.attributes |= deleteHorizon
		h.baseTimestamp = f.horizon()
		dst = f.rebase(dst, b, plain, h.baseTimestamp)
	} else {
		for _, s := range f.spans {
			dst = append(dst, plain[s.from:s.to]...)
		}
	}
	return f.finish(dst, codec, h)
}

// finish returns the batch whose header is in f.out and whose plain records are
// dst, behind the header if there is no codec.
func (f *Filter) finish(dst []byte, codec record.Codec, h header) ([]byte, error) {
	if codec == record.None {
		f.out = dst
	} else {
		f.plain = dst
		out, err := record.Compress(f.out, codec, codec.DefaultLevel(), dst)
		if err != nil {
			return nil, err
		}
		f.out = out
	}
	if len(f.out) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: batch of %d bytes", record.ErrTooLarge, len(f.out))
	}
	seal(f.out, h)
	return f.out, nil
}

// horizon returns the time from which what is first compacted now may go.
func (f *Filter) horizon() int64 {
	if h := f.Now + f.DeleteRetention; h >= f.Now {
		return h
	}
	return math.MaxInt64 // never
}

// rebase appends the records in f.spans with timestamps relative to base.
func (f *Filter) rebase(dst []byte, b record.Batch, plain []byte, base int64) []byte {
	oldBase, logAppendTime := b.BaseTimestamp(), b.Attributes().LogAppendTime()
	s := &f.scan
	for _, run := range f.spans {
		plain := plain[run.from:run.to]
		for s.Reset(plain, run.count); s.Next(); {
			timestamp := oldBase + s.TimestampDelta
			if logAppendTime {
				timestamp = b.MaxTimestamp()
			}
			delta, rest := timestamp-base, plain[s.Rest:s.End]
			dst = prim.AppendVarint(dst, int32(1+prim.VarlongLen(delta)+len(rest)))
			dst = append(dst, 0)
			dst = prim.AppendVarlong(dst, delta)
			dst = append(dst, rest...)
		}
	}
	return dst
}

// header is what changes in the header of a batch.
type header struct {
	attributes    record.Attributes
	baseTimestamp int64 // ms; the delete horizon if attributes say so
	maxTimestamp  int64 // ms
	count         int32
}

// seal writes h, the length and the CRC into the batch b.
func seal(b []byte, h header) {
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-record.LogOverhead))
	binary.BigEndian.PutUint16(b[flagsAt:], uint16(h.attributes))
	binary.BigEndian.PutUint64(b[baseTimestampAt:], uint64(h.baseTimestamp))
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(h.maxTimestamp))
	binary.BigEndian.PutUint32(b[countAt:], uint32(h.count))
	record.Batch(b).UpdateCRC()
}
