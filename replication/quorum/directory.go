package quorum

import (
	"encoding/json"
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
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// Form says whose raft wrote a metadata directory. The records in it are the
// same; the quorum's own state is not.
type Form int8

const (
	// NoForm is that of a directory that is missing, or has nothing in it that
	// tells.
	NoForm Form = iota
	// Klamm is the form of this package.
	Klamm
	// Kafka is the form of a KRaft controller.
	Kafka
)

func (f Form) String() string { return [...]string{"none", "klamm", "kafka"}[f] }

// Contents is what a metadata directory holds.
type Contents struct {
	Form  Form
	Image *meta.Image
	End   int64 // offset one past the last record
	Epoch int32 // of the last record
	Term  int32 // newest epoch that the node has seen, at least Epoch
	KRaft KRaft // of the last KRaft controller that had the directory
	// VoterIDs are the voters as far as the directory tells: of a quorum that is
	// configured statically the state file does.
	VoterIDs []int32
	// Timestamp is that of the last record, in Unix milliseconds.
	Timestamp int64
}

// KRaft is the part of a KRaft quorum's state that klamm has no use for and that
// a KRaft controller must get back.
type KRaft struct {
	Version int16                   // kraft.version: 0 for voters that are configured, 1 for voters in the log
	Voters  []msg.VotersRecordVoter // with kraft.version 1
}

// FormOf finds out whose raft wrote the metadata directory dir. It reads a few small
// files and the beginning of others, and writes nothing. What the log says goes
// before quorum-state, which a broker of the other kind may have replaced.
func FormOf(fs vfs.FS, dir string) (Form, error) {
	names, err := fs.List(dir)
	if errors.Is(err, iofs.ErrNotExist) {
		return NoForm, nil
	}
	if err != nil {
		return NoForm, err
	}
	snapshots, segments := sortOut(names)
	for _, id := range snapshots { // the newest that can be read
		f, err := fs.Open(dir + "/" + id + log.QuorumSnapshotSuffix)
		if err != nil {
			return NoForm, err
		}
		header, err := snapshotHeader(f)
		f.Close()
		if err != nil {
			continue
		}
		if header.Tags != nil && (*header.Tags)[0].ID == snapshotTag {
			return Klamm, nil
		}
		return Kafka, nil
	}
	for _, base := range segments {
		b, err := firstBatch(fs, segmentPath(dir, base))
		if err != nil {
			return NoForm, err
		}
		if b == nil {
			continue
		}
		// A log of klamm begins with the raft configuration.
		var v msg.VotersRecord
		if c, err := record.ParseControl(b); err == nil && c.Type == record.ControlVoters && v.Decode(c.Value, 0) == nil &&
			v.Tags != nil && len(*v.Tags) > 0 && (*v.Tags)[0].ID == configurationTag {
			return Klamm, nil
		}
		return Kafka, nil
	}
	switch s, err := readQuorumState(fs, dir); {
	case errors.Is(err, iofs.ErrNotExist):
		return NoForm, nil
	case err != nil:
		return NoForm, err
	case s.VoteTerm != nil:
		return Klamm, nil
	}
	return Kafka, nil
}

// sortOut returns the ids of the snapshots among names, newest first, and the
// base offsets of the segments, oldest first.
func sortOut(names []string) (snapshots []string, segments []int64) {
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, log.QuorumSnapshotSuffix); ok {
			snapshots = append(snapshots, id)
		}
		if digits, ok := strings.CutSuffix(name, segment.LogSuffix); ok {
			if base, err := strconv.ParseInt(digits, 10, 64); err == nil {
				segments = append(segments, base)
			}
		}
	}
	slices.Sort(snapshots)
	slices.Reverse(snapshots)
	slices.Sort(segments)
	return snapshots, segments
}

func segmentPath(dir string, base int64) string {
	return fmt.Sprintf("%s/%020d%s", dir, base, segment.LogSuffix)
}

// firstBatch returns the first batch of a file, nil if the file does not begin
// with a whole one.
func firstBatch(fs vfs.FS, name string) (record.Batch, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := batchReader{file: f}
	b, err := r.next()
	if errors.Is(err, errTorn) || errors.Is(err, io.EOF) {
		return nil, nil
	}
	return b, err
}

// errTorn means that there is no valid batch where one should begin.
var errTorn = errors.New("no valid batch")

// batchReader reads the batches of a file one after the other.
type batchReader struct {
	file vfs.File
	at   int64
	buf  []byte
}

// next returns the next batch, which is valid until the next call. It returns
// io.EOF behind the last one and errTorn where there is none. Any other error is
// one of reading.
func (r *batchReader) next() (record.Batch, error) {
	size, err := r.file.Size()
	if err != nil {
		return nil, err
	}
	if r.at >= size {
		return nil, io.EOF
	}
	want := int64(record.HeaderSize)
	for {
		if size-r.at < want {
			return nil, errTorn
		}
		r.buf = slices.Grow(r.buf[:0], int(want))[:want]
		if n, err := r.file.ReadAt(r.buf, r.at); int64(n) < want {
			return nil, err
		}
		b, _, err := record.Next(r.buf)
		switch {
		case errors.Is(err, record.ErrShort) && want == record.HeaderSize && record.Batch(r.buf).Size() <= maxEntry:
			want = int64(record.Batch(r.buf).Size())
			continue
		case err == nil:
			err = b.Validate()
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errTorn, err)
		}
		r.at += want
		return b, nil
	}
}

// quorumState is what either form of quorum-state has.
type quorumState struct {
	LeaderEpoch   int32 `json:"leaderEpoch"`
	CurrentVoters []struct {
		VoterID int32 `json:"voterId"`
	} `json:"currentVoters"`
	VoteTerm *uint64 `json:"voteTerm"` // klamm's own
}

func readQuorumState(fs vfs.FS, dir string) (s quorumState, err error) {
	text, err := vfs.ReadFile(fs, dir+"/"+log.QuorumStateFile)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s/%s: %w", dir, log.QuorumStateFile, err)
	}
	return s, nil
}

// snapshotHeader reads the header of a snapshot.
func snapshotHeader(f vfs.File) (*msg.SnapshotHeaderRecord, error) {
	r := batchReader{file: f}
	b, err := r.next()
	if err != nil {
		return nil, err
	}
	c, err := record.ParseControl(b)
	if err != nil {
		return nil, err
	}
	header := new(msg.SnapshotHeaderRecord)
	if c.Type != record.ControlSnapshotHeader {
		return nil, fmt.Errorf("no snapshot header, but control type %d", c.Type)
	}
	return header, header.Decode(c.Value, 0)
}
