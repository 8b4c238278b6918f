package broker

import (
	"context"
	"path"
	"sync"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/convert"
)

// firstStart is the start of brokers that are new, and have nobody but each other. Nothing is
// synced meanwhile, and the directories belong to nobody. When all brokers serve, what they
// have written is made durable; when it is that of all, the directories are claimed; and then
// clients are let in. So either every directory that somebody has claimed, and those beside
// it, are whole, or none is claimed and the next start is the first one again: nobody
// was told anything that could be forgotten.
type firstStart struct {
	brokers int
	durable chan struct{} // closed when the files of all are

	mu      sync.Mutex // guards waiting
	waiting int        // brokers whose files are not durable yet
}

// newFirstStart is that of so many brokers.
func newFirstStart(brokers int) *firstStart {
	return &firstStart{brokers: brokers, durable: make(chan struct{}), waiting: brokers}
}

// finish makes what a broker has written durable, waits until all others have done so, and
// claims its directories.
func (f *firstStart) finish(ctx context.Context, b *Broker) error {
	var later []string
	if f.brokers == 1 {
		later = b.conf.LogDirs // to claim them syncs them
	}
	// An unclean start finds the leader epochs in the batches.
	if err := b.disk.Settle(func(name string) bool { return path.Base(name) == log.EpochFile }, later...); err != nil {
		return err
	}
	f.mu.Lock()
	if f.waiting--; f.waiting == 0 {
		close(f.durable)
	}
	f.mu.Unlock()
	select {
	case <-f.durable:
	case <-ctx.Done(): // another one has failed
		return ctx.Err()
	}
	for _, d := range b.dirs {
		if err := d.Claim(); err != nil {
			return err
		}
	}
	return nil
}

// begun reports whether one of a broker's log directories belongs to a node, or has
// partitions.
func begun(fs vfs.FS, logDirs []string) (bool, error) {
	for _, dir := range logDirs {
		d, err := convert.Look(fs, dir)
		if err != nil || d.NodeID >= 0 || d.Partitions > 0 {
			return true, err
		}
	}
	return false, nil
}
