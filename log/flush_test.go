package log

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
)

// Flushes that come while one syncs share the next sync, and each returns only
// once its own records are on disk.
func TestFlushesShareSyncs(t *testing.T) {
	m := newMem(t)
	var syncs atomic.Int64
	gate := make(chan struct{})
	entered := make(chan struct{}, 100)
	o := options(vfs.Inject(m, func(op vfs.Op, name string) error {
		if op == vfs.OpSync && strings.HasSuffix(name, ".log") {
			syncs.Add(1)
			entered <- struct{}{}
			<-gate
		}
		return nil
	}))
	l := open(t, o)
	const n = 20
	var wg sync.WaitGroup
	flush := func() {
		wg.Go(func() {
			i := appendTo(t, l, plain(t, "x"))
			if err := l.Flush(); err != nil || l.RecoveryPoint() <= i.LastOffset {
				t.Errorf("record %d: recovery point %d, %v", i.LastOffset, l.RecoveryPoint(), err)
			}
		})
	}
	flush()
	<-entered
	for range n {
		flush()
	}
	for l.EndOffset() < n+1 { // the others have appended beside the sync
	}
	close(gate)
	wg.Wait()
	if got := syncs.Load(); got > 3 {
		t.Errorf("%d syncs for %d flushes", got, n+1)
	}
}

// flush.messages asks for a sync when so many records are not on disk, and until
// then those that must be there do not count, nor those behind them.
func TestFlushDue(t *testing.T) {
	o := options(newMem(t))
	o.Config = Config{FlushMessages: 3}
	l := open(t, o)
	var got []string
	note := func() { got = append(got, fmt.Sprint(l.FlushDue(), l.AcknowledgeableEnd())) }
	for i := range 9 {
		_, err := l.Append(idem(t, 5, 0, int32(i), 1), AppendOptions{})
		check(t, err)
		note()
		if i == 6 {
			check(t, l.Flush())
			note()
		}
	}
	want := "[false 1 false 2 true 2 true 2 true 2 true 2 true 2 false 7 false 8 false 9]"
	if fmt.Sprint(got) != want {
		t.Errorf("due and acknowledgeable end: %v, want %s", got, want)
	}
	// A sync that takes in only some of them moves it that far.
	check(t, l.Flush())
	for i := range 6 {
		_, err := l.Append(idem(t, 5, 0, int32(9+i), 1), AppendOptions{})
		check(t, err)
	}
	l.mu.Lock()
	l.raiseRecoveryPoint(13)
	l.mu.Unlock()
	if l.FlushDue() != true || l.AcknowledgeableEnd() != 13 {
		t.Errorf("after a sync up to 13: due %v, acknowledgeable end %d", l.FlushDue(), l.AcknowledgeableEnd())
	}
	check(t, l.TruncateTo(10))
	if l.FlushDue() || l.AcknowledgeableEnd() != 10 {
		t.Errorf("after a truncation to 10: due %v, acknowledgeable end %d", l.FlushDue(), l.AcknowledgeableEnd())
	}
}

// After one failed sync nothing counts as durable any more, though later syncs
// succeed (fsync reports an error once); the other logs of the directory stop too.
func TestFailedSyncIsForEver(t *testing.T) {
	m := newMem(t)
	broken := false
	fs := vfs.Inject(m, func(op vfs.Op, name string) error {
		if op == vfs.OpSync && broken {
			broken = false
			return syscall.EIO
		}
		return nil
	})
	fault := new(Fault)
	told := 0
	fault.Watch(func(error) { told++ })
	var logs []*Log
	for p := range 2 {
		o := options(fs)
		o.Dir, o.Partition, o.Fault = fmt.Sprintf("/data/orders-%d", p), int32(p), fault
		l := open(t, o)
		appendTo(t, l, plain(t, "a"))
		logs = append(logs, l)
	}
	broken = true
	if err := logs[0].Flush(); !errors.Is(err, ErrStorage) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("flush: %v", err)
	}
	if rp := logs[0].RecoveryPoint(); rp != 0 {
		t.Errorf("recovery point %d", rp)
	}
	for i, l := range logs {
		if err := l.Flush(); !errors.Is(err, syscall.EIO) {
			t.Errorf("log %d: flush after the error: %v", i, err)
		}
		if _, err := l.Append(plain(t, "b"), AppendOptions{}); !errors.Is(err, ErrStorage) {
			t.Errorf("log %d: append after the error: %v", i, err)
		}
		if err := l.Close(); !errors.Is(err, ErrStorage) {
			t.Errorf("log %d: close after the error: %v", i, err)
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// A roll leaves syncing to the background, and the recovery point follows.
func TestRollIsSyncedInTheBackground(t *testing.T) {
	o := options(newMem(t))
	var later []func()
	o.Background = func(f func()) { later = append(later, f) }
	l := open(t, o)
	appendTo(t, l, idem(t, 5, 0, 0, 1))
	check(t, l.Roll())
	appendTo(t, l, idem(t, 5, 0, 1, 1))
	if l.RecoveryPoint() != 0 || len(later) != 1 {
		t.Fatalf("recovery point %d, %d in the background", l.RecoveryPoint(), len(later))
	}
	later[0]()
	if l.RecoveryPoint() < 1 {
		t.Errorf("recovery point %d", l.RecoveryPoint())
	}
	o2 := *l.o
	o2.FS, o2.RecoveryPoint = l.fs.(*vfs.Mem).CrashClone(vfs.CrashPolicy{}), l.RecoveryPoint()
	again := open(t, o2)
	if again.EndOffset() < 1 {
		t.Errorf("log end %d after a power cut", again.EndOffset())
	}
	if _, err := again.Append(idem(t, 5, 0, int32(again.EndOffset()), 1), AppendOptions{}); err != nil {
		t.Errorf("producer state after a power cut: %v", err)
	}
}
