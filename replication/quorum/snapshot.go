package quorum

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

const (
	partSuffix = log.QuorumSnapshotSuffix + ".part"
	// keepSnapshots is how many snapshots are kept: the newest, and one to fall
	// back on.
	keepSnapshots = 2
	// snapshotTag is the tagged field of SnapshotHeaderRecord that carries what
	// raft must know of a snapshot, as JSON.
	snapshotTag = 10000
	// snapshotBatch is how many bytes of records go into one batch.
	snapshotBatch = 64 << 10
)

// Snapshots is raft's snapshot store: files named
// <end offset>-<epoch>.checkpoint, each a SnapshotHeaderRecord, batches of
// metadata records, and a SnapshotFooterRecord.
type Snapshots struct {
	fs  vfs.FS
	dir string
	log *Log
}

// OpenSnapshots opens the snapshot store in dir of fs and removes snapshots that
// were not finished.
func OpenSnapshots(fs vfs.FS, dir string, log *Log) (*Snapshots, error) {
	s := &Snapshots{fs, dir, log}
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, partSuffix) {
			if err := fs.Remove(dir + "/" + name); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// Create starts a snapshot of the state at index.
func (s *Snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	id := fmt.Sprintf("%020d-%010d", s.log.endOffset(index), term)
	about, err := json.Marshal(raft.SnapshotMeta{Version: version, ID: id, Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex})
	if err != nil {
		return nil, err
	}
	return s.create(id, int32(term), &msg.SnapshotHeaderRecord{LastContainedLogTimestamp: time.Now().UnixMilli(), Tags: &prim.Tags{{ID: snapshotTag, Value: about}}})
}

// create starts the snapshot with that id, whose last record is of epoch.
func (s *Snapshots) create(id string, epoch int32, header *msg.SnapshotHeaderRecord) (*sink, error) {
	value, err := header.AppendTo(nil, 0)
	if err != nil {
		return nil, err
	}
	f, err := s.fs.Create(s.dir + "/" + id + partSuffix)
	if err != nil {
		return nil, err
	}
	return &sink{store: s, id: id, part: id, file: f, epoch: epoch, header: value}, nil
}

// sink writes one snapshot: the records of an image, with a header before and a
// footer behind them; or, if it is written to as an io.Writer, the bytes of a whole
// snapshot that another node has made, which keeps its id.
type sink struct {
	store  *Snapshots
	id     string
	part   string // the id that the unfinished file is named by
	file   vfs.File
	size   int64
	offset int64 // of the next record
	epoch  int32
	header []byte // not written yet, nil once it is
	copied bool
	ended  bool // closed or cancelled
	err    error
}

// ID returns the snapshot's id. That of a copied one is known once it is closed.
func (k *sink) ID() string { return k.id }

// Write adds bytes of another node's snapshot.
func (k *sink) Write(p []byte) (int, error) {
	k.copied = true
	return k.write(p)
}

func (k *sink) write(p []byte) (int, error) {
	if k.err != nil {
		return 0, k.err
	}
	n, err := k.file.WriteAt(p, k.size)
	k.size += int64(n)
	k.err = err
	return n, err
}

func (k *sink) batch(b record.Batch) error {
	if err := k.begin(); err != nil {
		return err
	}
	b.SetBaseOffset(k.offset)
	b.SetLeaderEpoch(k.epoch)
	k.offset = b.LastOffset() + 1
	_, err := k.write(b)
	return err
}

// begin writes the header, once.
func (k *sink) begin() error {
	if k.header == nil {
		return nil
	}
	header := k.header
	k.header = nil
	return k.control(record.ControlSnapshotHeader, header)
}

// finish writes the footer.
func (k *sink) finish() error {
	value, err := new(msg.SnapshotFooterRecord).AppendTo(nil, 0)
	if err == nil {
		err = k.control(record.ControlSnapshotFooter, value)
	}
	return err
}

// check reads what was copied, which must be a whole snapshot, and takes its id
// over.
func (k *sink) check() error {
	about, _, err := readSnapshot(io.NewSectionReader(k.file, 0, k.size))
	if err != nil {
		return fmt.Errorf("a snapshot from another node: %w", err)
	}
	k.id = about.ID
	var end, epoch int64
	if _, err := fmt.Sscanf(about.ID, "%d-%d", &end, &epoch); err != nil || strings.Contains(about.ID, "/") {
		return fmt.Errorf("a snapshot from another node: id %q", about.ID)
	}
	k.store.log.replacedBy(about.Index, end)
	return nil
}

func (k *sink) control(t record.ControlType, value []byte) error {
	return k.batch(record.BuildControl(nil, record.Control{Type: t, Value: value, Timestamp: time.Now().UnixMilli(), ProducerID: -1, Epoch: -1}))
}

// Close finishes the snapshot: it exists from then on. Closing it again does
// nothing: both who fills a sink and raft close it.
func (k *sink) Close() error {
	if k.ended {
		return nil
	}
	err := k.err
	switch {
	case err != nil:
	case k.copied:
		err = k.check()
	default:
		err = k.finish()
	}
	if err == nil {
		err = k.file.Sync()
	}
	if err != nil {
		return errors.Join(err, k.Cancel())
	}
	s := k.store
	k.ended = true
	if err := k.file.Close(); err != nil {
		return err
	}
	if err := s.fs.Rename(s.dir+"/"+k.part+partSuffix, s.dir+"/"+k.id+log.QuorumSnapshotSuffix); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	return s.reap()
}

// Cancel drops the snapshot, unless it is finished.
func (k *sink) Cancel() error {
	if k.ended {
		return nil
	}
	k.ended = true
	return errors.Join(k.file.Close(), k.store.fs.Remove(k.store.dir+"/"+k.part+partSuffix))
}

// ids returns the snapshots, newest first.
func (s *Snapshots) ids() ([]string, error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, log.QuorumSnapshotSuffix); ok {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

func (s *Snapshots) reap() error {
	ids, err := s.ids()
	if err != nil || len(ids) <= keepSnapshots {
		return err
	}
	for _, id := range ids[keepSnapshots:] {
		err = errors.Join(err, s.fs.Remove(s.dir+"/"+id+log.QuorumSnapshotSuffix))
	}
	return errors.Join(err, s.fs.SyncDir(s.dir))
}

// List returns the snapshots, newest first.
func (s *Snapshots) List() ([]*raft.SnapshotMeta, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var out []*raft.SnapshotMeta
	for _, id := range ids {
		about, r, err := s.Open(id)
		if err != nil {
			return nil, err
		}
		r.Close()
		out = append(out, about)
	}
	return out, nil
}

// Open opens a snapshot for reading.
func (s *Snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	f, err := s.fs.Open(s.dir + "/" + id + log.QuorumSnapshotSuffix)
	if err != nil {
		return nil, nil, err
	}
	about, err := describe(f)
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("snapshot %s: %w", id, err)
	}
	return about, struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, 0, about.Size), f}, nil
}

func describe(f vfs.File) (*raft.SnapshotMeta, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	head := make([]byte, min(size, snapshotBatch))
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	b, _, err := record.Next(head)
	if err != nil {
		return nil, err
	}
	if err := b.Validate(); err != nil {
		return nil, err
	}
	about, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	about.Size = size
	return about, nil
}

// parseHeader returns what raft must know of the snapshot that b, a valid batch,
// begins.
func parseHeader(b record.Batch) (*raft.SnapshotMeta, error) {
	if !b.Attributes().Control() {
		return nil, errors.New("no snapshot header, but records")
	}
	c, err := record.ParseControl(b)
	if err != nil {
		return nil, err
	}
	var header msg.SnapshotHeaderRecord
	if err := header.Decode(c.Value, 0); err != nil || c.Type != record.ControlSnapshotHeader {
		return nil, fmt.Errorf("no snapshot header, but control type %d: %w", c.Type, err)
	}
	if header.Tags == nil || len(*header.Tags) == 0 || (*header.Tags)[0].ID != snapshotTag {
		return nil, errors.New("the snapshot header lacks raft's description")
	}
	about := new(raft.SnapshotMeta)
	return about, json.Unmarshal((*header.Tags)[0].Value, about)
}

// WriteImage writes the records of an image to a snapshot.
func WriteImage(to raft.SnapshotSink, m *meta.Image) error {
	k, ok := to.(*sink)
	if !ok {
		return fmt.Errorf("snapshot sink of type %T", to)
	}
	build := record.NewBuilder(record.None, 0)
	flush := func() error {
		if build.Count() == 0 {
			return nil
		}
		b, err := build.Finish(record.NoProducer)
		if err != nil {
			return err
		}
		err = k.batch(b)
		build.Reset()
		return err
	}
	now := time.Now().UnixMilli()
	var framed []byte
	for _, r := range m.Records() {
		var err error
		if framed, err = meta.AppendRecord(framed[:0], r); err != nil {
			return err
		}
		build.Append(now, nil, framed, nil)
		if build.Size() >= snapshotBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// ReadImage reads the records of a snapshot.
func ReadImage(from io.Reader) ([]meta.Record, error) {
	_, records, err := readSnapshot(from)
	return records, err
}

// readSnapshot reads a whole snapshot: one header, batches of records, one footer.
func readSnapshot(from io.Reader) (about *raft.SnapshotMeta, out []meta.Record, err error) {
	data, err := io.ReadAll(from)
	if err != nil {
		return nil, nil, err
	}
	finished := false
	for len(data) > 0 {
		var b record.Batch
		if b, data, err = record.Next(data); err != nil {
			return nil, nil, err
		}
		if err := b.Validate(); err != nil {
			return nil, nil, err
		}
		switch {
		case about == nil:
			if about, err = parseHeader(b); err != nil {
				return nil, nil, err
			}
			continue
		case finished:
			return nil, nil, errors.New("the snapshot goes on behind its footer")
		case b.Attributes().Control():
			c, err := record.ParseControl(b)
			if err != nil {
				return nil, nil, err
			}
			if c.Type == record.ControlSnapshotHeader {
				return nil, nil, errors.New("the snapshot has two headers")
			}
			finished = c.Type == record.ControlSnapshotFooter
			continue
		}
		it := b.Iterate(maxEntry)
		for it.Next() {
			r, err := meta.ParseRecord(append([]byte(nil), it.Record().Value...))
			if err != nil {
				it.Close()
				return nil, nil, err
			}
			out = append(out, r)
		}
		err := it.Err()
		it.Close()
		if err != nil {
			return nil, nil, err
		}
	}
	if !finished {
		return nil, nil, errors.New("the snapshot has no footer")
	}
	return about, out, nil
}
