package quorum_test

import (
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
