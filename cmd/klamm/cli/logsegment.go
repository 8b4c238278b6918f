package cli

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/record"
)

// segmentReader reads the batches of a data file in order.
type segmentReader struct {
	file *os.File
	size int64
	at   int64 // of the next batch
	buf  []byte
}

// legacyHead is how much of an entry tells its size and version: int64 offset,
// int32 size, int32 leader epoch or CRC, int8 magic.
const legacyHead = 17

// next returns the bytes of the next batch and where it begins; io.EOF at the
// end.
func (s *segmentReader) next() ([]byte, int64, error) {
	at := s.at
	if at == s.size {
		return nil, at, io.EOF
	}
	if s.size-at < legacyHead {
		return nil, at, corrupt(at, "%d bytes are left, a batch has at least %d", s.size-at, record.HeaderSize)
	}
	var head [legacyHead]byte
	if _, err := s.file.ReadAt(head[:], at); err != nil {
		return nil, at, err
	}
	n := int64(int32(binary.BigEndian.Uint32(head[8:]))) + record.LogOverhead
	if head == [legacyHead]byte{} {
		if s.zeroFrom(at) {
			return nil, at, io.EOF // the rest is preallocated
		}
	}
	if n < legacyHead || head[16] > 2 || head[16] == 2 && n < record.HeaderSize {
		return nil, at, corrupt(at, "a batch of %d bytes and version %d", n, int8(head[16]))
	}
	if n > s.size-at {
		return nil, at, corrupt(at, "a batch of %d bytes, %d are left", n, s.size-at)
	}
	if int64(cap(s.buf)) < n {
		s.buf = make([]byte, n)
	}
	s.buf = s.buf[:n]
	if _, err := s.file.ReadAt(s.buf, at); err != nil {
		return nil, at, err
	}
	s.at += n
	return s.buf, at, nil
}

// zeroFrom reports whether the file holds nothing but zeros from there on.
func (s *segmentReader) zeroFrom(at int64) bool {
	b := make([]byte, 64<<10)
	for at < s.size {
		n, err := s.file.ReadAt(b, at)
		for _, c := range b[:n] {
			if c != 0 {
				return false
			}
		}
		if at += int64(n); err != nil && err != io.EOF {
			return false
		}
	}
	return true
}

func dumpLog(f *dumpFlags, path string, flat bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	s := &segmentReader{file: file, size: info.Size()}
	d := segmentDump{f: f, topic: topicOf(path), flat: flat, last: -1}
	if f.records {
		d.rows = f.rows("offset", "timestamp", "type", "key", "value", "headers", "position")
	} else {
		d.rows = f.rows("base_offset", "last_offset", "count", "leader_epoch", "producer_id", "producer_epoch", "base_sequence",
			"codec", "transactional", "control", "max_timestamp", "size", "position", "crc_ok")
	}
	for (f.count <= 0 || d.rows.n < f.count) && d.rows.err == nil {
		b, at, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errors.Join(d.failed, err)
		}
		d.batch(b, at)
	}
	return d.failed
}

// topicOf returns the topic that a file belongs to, by its directory: TOPIC-N, or
// TOPIC-N.HEX with -delete, -future or -stray behind it.
func topicOf(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return ""
	}
	if name, _ := splitLeftover(filepath.Base(abs)); strings.HasSuffix(name, ".checkpoint") {
		return meta.MetadataTopic // bootstrap.checkpoint is in no partition's directory
	}
	dir := filepath.Base(filepath.Dir(abs))
	for _, suffix := range []string{"-delete", "-future", "-stray"} {
		dir = strings.TrimSuffix(dir, suffix)
	}
	if i := strings.LastIndexByte(dir, '-'); i > 0 {
		return dir[:i]
	}
	return dir
}

// segmentDump makes the rows of a data file.
type segmentDump struct {
	f      *dumpFlags
	topic  string
	flat   bool
	last   int64 // offset of the batch before
	rows   *rows
	failed error // what is wrong with batches that can be passed over
}

func (d *segmentDump) batch(b []byte, at int64) {
	if b[16] < 2 {
		d.legacy(b, at)
		return
	}
	batch := record.Batch(b)
	crc := crc32.Checksum(b[21:], castagnoli)
	valid := crc == batch.CRC()
	if !valid {
		d.failed = errors.Join(d.failed, corrupt(at, "batch of offset %d: crc %08x, want %08x", batch.BaseOffset(), crc, batch.CRC()))
	}
	if batch.BaseOffset() <= d.last {
		d.failed = errors.Join(d.failed, corrupt(at, "offset %d after offset %d", batch.BaseOffset(), d.last))
	}
	d.last = batch.LastOffset()
	if d.last < d.f.from {
		return
	}
	if d.f.records {
		if valid {
			d.records(batch, at)
		}
		return
	}
	a := batch.Attributes()
	d.rows.add(batch.BaseOffset(), batch.LastOffset(), batch.Count(), batch.LeaderEpoch(), batch.ProducerID(), batch.ProducerEpoch(), batch.BaseSequence(),
		a.Codec().String(), a.Transactional(), a.Control(), batch.MaxTimestamp(), len(b), at, valid)
}

// legacy shows what is known of an entry of version 0 or 1, which Kafka 4 no
// longer writes.
func (d *segmentDump) legacy(b []byte, at int64) {
	offset := int64(binary.BigEndian.Uint64(b))
	crc := crc32.ChecksumIEEE(b[16:])
	valid := crc == binary.BigEndian.Uint32(b[12:])
	if !valid {
		d.failed = errors.Join(d.failed, corrupt(at, "message of offset %d: crc %08x, want %08x", offset, crc, binary.BigEndian.Uint32(b[12:])))
	}
	if offset < d.f.from {
		return
	}
	if d.f.records {
		d.rows.add(offset, nil, fmt.Sprintf("version %d", b[16]), nil, nil, nil, at)
		return
	}
	d.rows.add(offset, offset, nil, nil, nil, nil, nil, fmt.Sprintf("version %d", b[16]), false, false, nil, len(b), at, valid)
}

func (d *segmentDump) records(b record.Batch, at int64) {
	it := b.Iterate(0)
	defer it.Close()
	for it.Next() {
		if it.Offset() < d.f.from {
			continue
		}
		if d.f.count > 0 && d.rows.n == d.f.count {
			return
		}
		r := it.Record()
		decoded := decodeRecord(d.topic, b.Attributes().Control(), r)
		headers := object{}
		for _, h := range r.Headers {
			headers = append(headers, field{h.Key, bytesText(h.Value)})
		}
		d.rows.add(it.Offset(), it.Timestamp(), decoded.kind, d.value(decoded.key), d.value(decoded.value), d.value(headers), at)
	}
	if err := it.Err(); err != nil {
		d.failed = errors.Join(d.failed, corrupt(at, "records of the batch of offset %d: %v", b.BaseOffset(), err))
	}
}

// value is v as a cell or as an object.
func (d *segmentDump) value(v any) any {
	o, ok := v.(object)
	if !ok || !d.flat {
		return v
	}
	if len(o) == 0 {
		return nil
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
