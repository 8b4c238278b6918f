package replication_test

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// Many logs are synced together when the broker stops: a power cut after it takes
// nothing away, and the next start has nothing to check.
func TestManyLogsAreSyncedTogether(t *testing.T) {
	const n = 100
	m := vfs.NewMem()
	var closing atomic.Bool
	var together, alone atomic.Int64
	fs := vfs.Inject(m, func(op vfs.Op, name string) error {
		switch {
		case !closing.Load() || op != vfs.OpSync:
		case name == "/d":
			together.Add(1)
		case strings.HasPrefix(name, "/d/t-"):
			alone.Add(1)
		}
		return nil
	})
	s := openStore(t, fs, clock.System(), "/d")
	s.create("t", n)
	for i := range int32(n) {
		for k := range 1 + int(i)%12 {
			if k%5 == 4 {
				if err := s.r.Get("t", i).Log().Roll(); err != nil {
					t.Fatal(err)
				}
			}
			s.append(s.r.Get("t", i), fmt.Sprintf("%d-%d-", i, k))
		}
	}
	for i := range int32(n) { // what rolls left to the background has been done
		l := s.r.Get("t", i).Log()
		for rolled := int64(i%12) - int64(i%12+1)%5; l.RecoveryCheckpoint() < rolled; {
			time.Sleep(time.Millisecond)
		}
	}
	closing.Store(true)
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if together.Load() != 1 || alone.Load() > n/2 { // the last of it may be on its way out
		t.Errorf("%d syncs of all files, %d of single ones", together.Load(), alone.Load())
	}
	s = openStore(t, m.CrashClone(vfs.CrashPolicy{}), clock.System(), "/d")
	for i := range int32(n) {
		l := s.r.Get("t", i).Log()
		if want := int64(1 + i%12); l.EndOffset() != want || l.RecoveryPoint() != want {
			t.Errorf("partition %d ends at %d, recovery point %d, want %d", i, l.EndOffset(), l.RecoveryPoint(), want)
		}
		if l.Unsynced() {
			t.Errorf("partition %d has something to sync", i)
		}
		err := l.Each(0, l.EndOffset(), func(b record.Batch) error {
			it := b.Iterate(0)
			defer it.Close()
			for it.Next() {
				if want := fmt.Sprintf("%d-%d-", i, it.Offset()); !strings.HasPrefix(string(it.Record().Value), want) {
					t.Errorf("partition %d, offset %d: %.20q", i, it.Offset(), it.Record().Value)
				}
			}
			return it.Err()
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

// Where syncing all files fails, the directory is not marked as cleanly shut down,
// and only one error is told.
func TestSyncingManyLogsFails(t *testing.T) {
	m := vfs.NewMem()
	s := openStore(t, vfs.Inject(m, func(op vfs.Op, name string) error {
		if op == vfs.OpSync && name == "/d" {
			return syscall.EIO
		}
		return nil
	}), clock.System(), "/d")
	s.create("t", 100)
	for i := range int32(100) {
		s.append(s.r.Get("t", i), "x")
	}
	err := s.close()
	if !errors.Is(err, log.ErrStorage) || !errors.Is(err, syscall.EIO) || strings.Contains(err.Error(), "\n") {
		t.Errorf("close: %v", err)
	}
	if _, err := m.Stat(path.Join("/d", ".kafka_cleanshutdown")); err == nil {
		t.Error("marked as cleanly shut down")
	}
	s = openStore(t, m, clock.System(), "/d")
	for i := range int32(100) {
		if end := s.r.Get("t", i).Log().EndOffset(); end != 1 {
			t.Errorf("partition %d ends at %d", i, end)
		}
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}
