package replication

import (
	"fmt"
	"sync"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/dirs"
)

// Partitions that are opened at once go to all log directories evenly.
func TestPartitionsOpenedAtOnceAreSpread(t *testing.T) {
	const each, n = 500, 4
	fs := vfs.NewMem()
	r := new(Replicas)
	for i := range n {
		d, _, err := dirs.Open(fs, fmt.Sprint("/d", i), dirs.Identity{NodeID: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		r.o.Dirs = append(r.o.Dirs, d)
	}
	var all sync.WaitGroup
	for range each * n {
		all.Go(func() {
			if _, err := r.emptiest(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, d := range r.o.Dirs {
		if d.Count() != each {
			t.Errorf("%s has %d partitions, want %d", d.Path, d.Count(), each)
		}
	}
}
