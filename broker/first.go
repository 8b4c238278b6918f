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
	serve   *meeting // of the brokers, when all serve
	durable *meeting // of the brokers, when the files of all are
	brokers int
}

// newFirstStart is that of so many brokers.
func newFirstStart(brokers int) *firstStart {
	return &firstStart{serve: newMeeting(brokers), durable: newMeeting(brokers), brokers: brokers}
}

// finish is called by a broker that serves. It waits until all others do, makes what the broker
// has written durable, waits until all others have done so, and claims its directories.
func (f *firstStart) finish(ctx context.Context, b *Broker) error {
	// Whoever made its files durable before would sync each entry of the metadata that comes
	// of the others' start.
	if err := f.serve.wait(ctx); err != nil {
		return err
	}
	var later []string
	if f.brokers == 1 {
		later = b.conf.LogDirs // to claim them syncs them
	}
	// An unclean start finds the leader epochs in the batches.
	if err := b.disk.Settle(func(name string) bool { return path.Base(name) == log.EpochFile }, later...); err != nil {
		return err
	}
	if err := f.durable.wait(ctx); err != nil {
		return err
	}
	for _, d := range b.dirs {
		if err := d.Claim(); err != nil {
			return err
		}
	}
	return nil
}

// meeting is a point that brokers pass together.
type meeting struct {
	complete chan struct{} // closed when all have come

	mu      sync.Mutex // guards missing
	missing int
}

func newMeeting(brokers int) *meeting {
	return &meeting{complete: make(chan struct{}), missing: brokers}
}

// wait returns when all brokers wait, or ctx ends: another one has failed.
func (m *meeting) wait(ctx context.Context) error {
	m.mu.Lock()
	if m.missing--; m.missing == 0 {
		close(m.complete)
	}
	m.mu.Unlock()
	select {
	case <-m.complete:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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
