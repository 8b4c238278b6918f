package log

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"path"
	"strings"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// Each calls f with every batch from the one that holds offset up to limit, in
// order. A batch is valid during the call. The error is f's, or that of the
// storage.
func (l *Log) Each(offset, limit int64, f func(record.Batch) error) error {
	var buf []byte
	for offset < limit {
		region, err := l.Read(offset, limit, 1<<20, true)
		if err != nil {
			return err
		}
		n := region.Len()
		if n == 0 { // compaction has left nothing from there on
			region.Release()
			return nil
		}
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		err = region.ReadInto(buf, 0)
		region.Release()
		if err != nil {
			return err
		}
		for rest := buf; len(rest) > 0; {
			var b record.Batch
			b, rest, err = record.Next(rest)
			if errors.Is(err, record.ErrShort) {
				break // cut off by maxBytes: it comes whole next time
			}
			if err == nil {
				err = b.Validate()
			}
			if err != nil {
				return fmt.Errorf("at offset %d: %w", offset, err)
			}
			if b.LastOffset() < offset {
				continue
			}
			if err := f(b); err != nil {
				return err
			}
			offset = b.LastOffset() + 1
		}
	}
	return nil
}

// EpochAt returns the leader epoch that the record at offset was written in, -1
// if it is not known.
func (l *Log) EpochAt(offset int64) int32 {
	epoch := int32(-1)
	for _, e := range l.epochs.entries() {
		if e.start > offset {
			break
		}
		epoch = e.epoch
	}
	return epoch
}

// FirstSegmentOffset returns the base offset of the oldest segment. The log
// start offset is above it where records were deleted that share a segment with
// others.
func (l *Log) FirstSegmentOffset() int64 {
	if list := l.list(); len(list) > 0 {
		return list[0].Base()
	}
	return l.StartOffset()
}

// ReadTopicID returns the topic id that partition.metadata in dir names, the
// zero id if there is no such file.
func ReadTopicID(fs vfs.FS, dir string) (prim.UUID, error) {
	b, err := vfs.ReadFile(fs, path.Join(dir, MetadataFile))
	if errors.Is(err, iofs.ErrNotExist) || err == nil && len(b) == 0 {
		return prim.UUID{}, nil
	}
	if err != nil {
		return prim.UUID{}, err
	}
	_, text, found := strings.Cut(string(b), "\ntopic_id: ")
	id, err := prim.ParseUUID(strings.TrimSpace(text))
	if !found || err != nil {
		return id, fmt.Errorf("%w: %s in %s: %q", ErrCorrupt, MetadataFile, dir, b)
	}
	return id, nil
}
