package quorum

import (
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"strconv"
	"sync"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
)

// dataVersion is that of quorum-state as klamm writes it. It is not one of
// Kafka's, 0 and 1, so that the JVM broker refuses to start on a directory of
// klamm's ("data_version (10000) is not within the min (0) and max (1) supported
// version") instead of leading a quorum that it cannot connect to.
const dataVersion = 10000

// state is the content of quorum-state: Kafka's QuorumStateData version 1, and
// behind it the term of the vote, which raft keeps apart from the current one.
type state struct {
	LeaderID         int32  `json:"leaderId"`
	LeaderEpoch      int64  `json:"leaderEpoch"`
	VotedID          int32  `json:"votedId"`
	VotedDirectoryID string `json:"votedDirectoryId"`
	DataVersion      int    `json:"data_version"`
	VoteTerm         uint64 `json:"voteTerm"`
	VotedAddress     string `json:"votedAddress"`
}

// noDirectory is the zero uuid.
const noDirectory = "AAAAAAAAAAAAAAAAAAAAAA"

// State is raft's stable store: its term and its vote.
type State struct {
	fs   vfs.FS
	path string
	disk *disk

	writing sync.Mutex // held while the file is written; taken before mu

	mu       sync.Mutex // guards the fields below. It is not held over I/O
	state    state
	voteTerm uint64 // of the vote that Set stores next
}

// Poisons has f called once with the error after which no term and no vote is
// stored any more. f must not block, nor use the State.
func (s *State) Poisons(f func(error)) { s.disk.failing(f) }

// Keys that raft uses.
const (
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVote     = "LastVoteCand"
)

func newState(fs vfs.FS, dir string) *State {
	return &State{fs: fs, path: dir + "/" + log.QuorumStateFile, disk: newDisk(nil),
		state: state{LeaderID: -1, VotedID: -1, VotedDirectoryID: noDirectory, DataVersion: dataVersion}}
}

// OpenState opens the stable store in dir of fs.
func OpenState(fs vfs.FS, dir string) (*State, error) {
	s := newState(fs, dir)
	text, err := vfs.ReadFile(fs, s.path)
	if err != nil {
		if errors.Is(err, iofs.ErrNotExist) {
			return s, nil
		}
		return nil, err
	}
	if err := json.Unmarshal(text, &s.state); err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	s.state.DataVersion = dataVersion // earlier versions of klamm wrote Kafka's 1
	s.voteTerm = s.state.VoteTerm
	return s, nil
}

// save changes the state, and writes it durably. A failure poisons the store: a vote that
// was given and forgotten could be given twice.
func (s *State) save(change func(*state)) error {
	if err := s.disk.err(); err != nil {
		return err
	}
	s.mu.Lock()
	change(&s.state)
	s.mu.Unlock()
	err := s.disk.write(func() error {
		s.writing.Lock() // raft takes in a heartbeat beside all else
		defer s.writing.Unlock()
		s.mu.Lock()
		text, err := json.Marshal(s.state)
		s.mu.Unlock()
		if err != nil {
			return err
		}
		defer s.disk.dog.Begin("write", s.path)()
		return vfs.WriteFileAtomic(s.fs, s.path, text)
	})
	if err != nil {
		return s.fail(err)
	}
	return nil
}

// fail poisons the store.
func (s *State) fail(err error) error {
	return s.disk.fail(fmt.Errorf("quorum state is offline: %w", err))
}

// Set stores the candidate that got this voter's vote.
func (s *State) Set(key, value []byte) error {
	if string(key) != keyVote {
		return fmt.Errorf("unknown key %q of raft's stable store", key)
	}
	return s.save(func(st *state) { st.VoteTerm, st.VotedAddress = s.voteTerm, string(value) })
}

// Get returns what Set stored, empty if nothing. After a failure it returns that: raft gives
// a vote again that it finds here, and this one may not be on the disk.
func (s *State) Get(key []byte) ([]byte, error) {
	if err := s.disk.err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(key) != keyVote {
		return nil, fmt.Errorf("unknown key %q of raft's stable store", key)
	}
	return []byte(s.state.VotedAddress), nil
}

// SetUint64 stores a term. Raft sets the term of a vote right before the
// candidate, and answers for neither in between, so the former is written with
// the latter, and with nothing else: another term may be stored in between.
func (s *State) SetUint64(key []byte, v uint64) error {
	switch string(key) {
	case keyTerm:
		if err := checkTerm(v); err != nil {
			_ = s.fail(err)
			return nil // for the reason below
		}
		// Raft panics where a term cannot be stored, and would take other brokers of
		// this process with it. From here on no vote is given, since none can be
		// stored, and so a term that is forgotten at a restart does no harm.
		_ = s.save(func(st *state) { st.LeaderEpoch = int64(v) })
		return nil
	case keyVoteTerm:
		s.mu.Lock()
		s.voteTerm = v
		s.mu.Unlock()
		return s.disk.err()
	}
	return fmt.Errorf("unknown key %q of raft's stable store", key)
}

// GetUint64 returns what SetUint64 stored, 0 if nothing. After a failure it returns that, as
// Get does.
func (s *State) GetUint64(key []byte) (uint64, error) {
	if err := s.disk.err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch string(key) {
	case keyTerm:
		return uint64(s.state.LeaderEpoch), nil
	case keyVoteTerm:
		if s.state.VotedAddress == "" {
			return 0, nil
		}
		return s.state.VoteTerm, nil
	}
	return 0, fmt.Errorf("unknown key %s of raft's stable store", strconv.Quote(string(key)))
}
