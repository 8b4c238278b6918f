package quorum_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/quorum"
)

// Raft takes in heartbeats beside all else: terms and votes are stored by several goroutines, and
// the last of each is what is on the disk.
func TestStateIsStoredByMany(t *testing.T) {
	dir := t.TempDir()
	s, err := quorum.OpenState(vfs.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	const times = 30
	var all sync.WaitGroup
	for _, store := range []func(i uint64) error{
		func(i uint64) error { return s.SetUint64([]byte("CurrentTerm"), i) },
		func(uint64) error { return s.Set([]byte("LastVoteCand"), []byte("2")) },
	} {
		all.Go(func() {
			for i := range uint64(times) {
				if err := store(i + 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	again, err := quorum.OpenState(vfs.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	term, err := again.GetUint64([]byte("CurrentTerm"))
	vote, err2 := again.Get([]byte("LastVoteCand"))
	if err != nil || err2 != nil || term != times || string(vote) != "2" {
		t.Errorf("term %d (%v), vote %q (%v)", term, err, vote, err2)
	}
}

// A vote that could not be stored is not found either: raft would give it again, to whoever
// asks twice, and a node that has forgotten it votes for another.
func TestAVoteThatIsNotStoredIsNotFound(t *testing.T) {
	full := errors.New("the disk is full")
	fails := false
	fs := vfs.Inject(vfs.NewMem(), func(op vfs.Op, name string) error {
		if fails && op == vfs.OpRename && strings.HasSuffix(name, "quorum-state") {
			return full
		}
		return nil
	})
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := quorum.OpenState(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	fails = true
	if err := s.SetUint64([]byte("LastVoteTerm"), 7); err != nil {
		t.Fatal(err)
	}
	if err := s.Set([]byte("LastVoteCand"), []byte("2")); !errors.Is(err, full) {
		t.Fatalf("the vote is stored: %v", err)
	}
	if term, err := s.GetUint64([]byte("LastVoteTerm")); !errors.Is(err, full) {
		t.Errorf("a vote of term %d is found, error %v", term, err)
	}
	if vote, err := s.Get([]byte("LastVoteCand")); !errors.Is(err, full) {
		t.Errorf("a vote for %q is found, error %v", vote, err)
	}
}

// A heartbeat of a newer term may come between the term of a vote and its candidate. What is on
// the disk then is the vote before: the candidate of that one did not get the newer term's.
func TestTheTermOfAVoteIsStoredWithItsCandidate(t *testing.T) {
	fs := disk(t)
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := quorum.OpenState(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []error{
		s.SetUint64([]byte("LastVoteTerm"), 6), s.Set([]byte("LastVoteCand"), []byte("2")),
		s.SetUint64([]byte("LastVoteTerm"), 7), s.SetUint64([]byte("CurrentTerm"), 8),
	} {
		if set != nil {
			t.Fatal(set)
		}
	}
	again, err := quorum.OpenState(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	term, err := again.GetUint64([]byte("LastVoteTerm"))
	vote, err2 := again.Get([]byte("LastVoteCand"))
	if err != nil || err2 != nil || term != 6 || string(vote) != "2" {
		t.Errorf("the vote of term %d (%v) is for %q (%v), want that of term 6 for 2", term, err, vote, err2)
	}
}
