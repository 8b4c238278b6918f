package quorum

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"strconv"

	"github.com/hashicorp/raft"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// Lone is the raft address of a node that has no peers.
const Lone = "single"

// kraftFile is where a directory of klamm's keeps the KRaft quorum that it came
// from, as JSON. klamm itself does not use it.
const kraftFile = "kraft-quorum"

// Begin makes a metadata directory of the form c.Form, with node as its only
// voter, that goes on where c ends: a snapshot of the image, quorum-state, and
// no log before that. dir must not exist. All of it is durable but the entry of
// dir itself.
func Begin(fs vfs.FS, dir string, node int32, c *Contents) error {
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if c.Form == Kafka {
		return beginKafka(fs, dir, node, c)
	}
	return beginKlamm(fs, dir, node, c)
}

// beginKlamm numbers raft's entries so that the last one before the snapshot has
// the index c.End. No index is above its offset then, and so no broker epoch,
// which klamm takes from the one and a KRaft controller from the other, comes
// again.
func beginKlamm(fs vfs.FS, dir string, node int32, c *Contents) error {
	if c.End < 1 || c.Epoch < 1 {
		return fmt.Errorf("raft has no snapshot at index %d of term %d", c.End, c.Epoch)
	}
	if err := makeFile(fs, segmentPath(dir, c.End)); err != nil { // the log goes on there
		return err
	}
	s := newState(fs, dir)
	if err := s.save(func(st *state) { st.LeaderEpoch = int64(c.Term) }); err != nil {
		return err
	}
	if err := vfs.WriteFileAtomic(fs, dir+"/"+startFile, fmt.Appendf(nil, "%d %d\n", c.End+1, c.End)); err != nil {
		return err
	}
	if c.KRaft.Version > 0 {
		if err := writeKRaft(fs, dir, c.KRaft); err != nil {
			return err
		}
	}
	servers := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(strconv.Itoa(int(node))), Address: Lone}}}
	about, err := json.Marshal(raft.SnapshotMeta{Version: raft.SnapshotVersionMax, ID: snapshotID(c), Index: uint64(c.End), Term: uint64(c.Epoch),
		Configuration: servers, ConfigurationIndex: uint64(c.End)})
	if err != nil {
		return err
	}
	header := &msg.SnapshotHeaderRecord{LastContainedLogTimestamp: c.Timestamp, Tags: &prim.Tags{{ID: snapshotTag, Value: about}}}
	return writeSnapshot(fs, dir, c, header, nil)
}

// kafkaState is quorum-state in version 0 while kraft.version is 0, and else in
// version 1.
type kafkaState struct {
	ClusterID        *string      `json:"clusterId,omitempty"` // version 0
	LeaderID         int32        `json:"leaderId"`
	LeaderEpoch      int32        `json:"leaderEpoch"`
	VotedID          int32        `json:"votedId"`
	VotedDirectoryID string       `json:"votedDirectoryId,omitempty"` // version 1
	AppliedOffset    *int64       `json:"appliedOffset,omitempty"`    // version 0
	CurrentVoters    []kafkaVoter `json:"currentVoters,omitempty"`    // version 0
	DataVersion      int16        `json:"data_version"`
}

type kafkaVoter struct {
	VoterID int32 `json:"voterId"`
}

func beginKafka(fs vfs.FS, dir string, node int32, c *Contents) error {
	s := kafkaState{LeaderID: -1, LeaderEpoch: c.Term, VotedID: -1, DataVersion: c.KRaft.Version}
	var voters []record.Control
	if c.KRaft.Version == 0 {
		s.ClusterID, s.AppliedOffset, s.CurrentVoters = new(string), new(int64), []kafkaVoter{{node}}
	} else {
		s.VotedDirectoryID = noDirectory
		version, err := (&msg.KRaftVersionRecord{KRaftVersion: c.KRaft.Version}).AppendTo(nil, 0)
		if err != nil {
			return err
		}
		set, err := (&msg.VotersRecord{Voters: c.KRaft.Voters}).AppendTo(nil, 0)
		if err != nil {
			return err
		}
		voters = []record.Control{{Type: record.ControlKRaftVersion, Value: version}, {Type: record.ControlVoters, Value: set}}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := vfs.WriteFileAtomic(fs, dir+"/"+log.QuorumStateFile, text); err != nil {
		return err
	}
	return writeSnapshot(fs, dir, c, &msg.SnapshotHeaderRecord{LastContainedLogTimestamp: c.Timestamp}, voters)
}

func snapshotID(c *Contents) string { return fmt.Sprintf("%020d-%010d", c.End, c.Epoch) }

// writeSnapshot writes the one snapshot of a new directory.
func writeSnapshot(fs vfs.FS, dir string, c *Contents, header *msg.SnapshotHeaderRecord, more []record.Control) error {
	k, err := (&Snapshots{fs: fs, dir: dir}).create(snapshotID(c), c.Epoch, header)
	if err != nil {
		return err
	}
	for _, x := range more {
		if err := k.control(x.Type, x.Value); err != nil {
			return errors.Join(err, k.Cancel())
		}
	}
	if err := WriteImage(k, c.Image); err != nil {
		return errors.Join(err, k.Cancel())
	}
	return k.Close()
}

// makeFile makes an empty file, whose entry the caller makes durable.
func makeFile(fs vfs.FS, name string) error {
	f, err := fs.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// kraftQuorum is the content of kraftFile.
type kraftQuorum struct {
	Version int16        `json:"kraftVersion"`
	Voters  []kraftVoter `json:"voters"`
}

type kraftVoter struct {
	ID          int32           `json:"id"`
	DirectoryID string          `json:"directoryId"`
	Endpoints   []kraftEndpoint `json:"endpoints"`
	MinVersion  int16           `json:"minKraftVersion"`
	MaxVersion  int16           `json:"maxKraftVersion"`
}

type kraftEndpoint struct {
	Name string `json:"name"`
	Host string `json:"host"`
	Port uint16 `json:"port"`
}

func writeKRaft(fs vfs.FS, dir string, k KRaft) error {
	q := kraftQuorum{Version: k.Version}
	for _, v := range k.Voters {
		x := kraftVoter{ID: v.VoterId, DirectoryID: v.VoterDirectoryId.String(), MinVersion: v.KRaftVersionFeature.MinSupportedVersion, MaxVersion: v.KRaftVersionFeature.MaxSupportedVersion}
		for _, e := range v.Endpoints {
			x.Endpoints = append(x.Endpoints, kraftEndpoint{e.Name, e.Host, e.Port})
		}
		q.Voters = append(q.Voters, x)
	}
	text, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return vfs.WriteFileAtomic(fs, dir+"/"+kraftFile, text)
}

// readKRaft reads kraftFile. Without one, the quorum has kraft.version 0.
func readKRaft(fs vfs.FS, dir string) (k KRaft, err error) {
	text, err := vfs.ReadFile(fs, dir+"/"+kraftFile)
	if errors.Is(err, iofs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, err
	}
	var q kraftQuorum
	if err := json.Unmarshal(text, &q); err != nil {
		return k, fmt.Errorf("%s/%s: %w", dir, kraftFile, err)
	}
	k.Version = q.Version
	for _, v := range q.Voters {
		x := msg.VotersRecordVoter{VoterId: v.ID, KRaftVersionFeature: msg.VotersRecordKRaftVersionFeature{MinSupportedVersion: v.MinVersion, MaxSupportedVersion: v.MaxVersion}}
		if x.VoterDirectoryId, err = prim.ParseUUID(v.DirectoryID); err != nil {
			return k, fmt.Errorf("%s/%s: voter %d: %w", dir, kraftFile, v.ID, err)
		}
		for _, e := range v.Endpoints {
			x.Endpoints = append(x.Endpoints, msg.VotersRecordEndpoint{Name: e.Name, Host: e.Host, Port: e.Port})
		}
		k.Voters = append(k.Voters, x)
	}
	return k, nil
}
