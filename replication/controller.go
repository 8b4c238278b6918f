package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/kerr"
)

// ControllerOptions says how a controller is started.
type ControllerOptions struct {
	NodeID int32
	FS     vfs.FS
	Dir    string // of the metadata log; made if it is missing
	Clock  clock.Clock
	Logger *zap.Logger
	// Transport joins the voters; nil means that this node is the only one.
	Transport raft.Transport
	// Applied is called with every image after it is in place, in order. Change
	// returns after it.
	Applied func(old, new *meta.Image, delta meta.Delta)
	// Full returns why a broker can hold no other partition, nil if it can. It may
	// be nil, and must not block.
	Full func(broker int32) error
	// Fatal is called once if the metadata log can no longer be written. The
	// process must end: nothing that depends on metadata is safe from then on.
	Fatal func(error)
}

// Controller owns the cluster's metadata: a raft state machine whose state is
// an immutable [meta.Image]. It is safe for concurrent use.
type Controller struct {
	o     ControllerOptions
	image atomic.Pointer[meta.Image]
	raft  *raft.Raft
	store *quorum.Log
	log   *log.Log
	lg    *zap.Logger

	// turn is held by the change under way: decisions are made one at a time,
	// against the image that the one before left. A channel, since a change
	// waits for the disk and the network.
	turn chan struct{}

	leading chan bool
	stop    chan struct{}
	done    sync.WaitGroup
	fatal   sync.Once
}

// StartController opens the metadata log and joins the quorum. A lone voter
// leads when it returns.
func StartController(ctx context.Context, o ControllerOptions) (*Controller, error) {
	c := &Controller{o: o, lg: o.Logger.Named("controller"), turn: make(chan struct{}, 1), leading: make(chan bool, 16), stop: make(chan struct{})}
	c.image.Store(meta.Empty())
	if err := c.open(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.lead(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("metadata quorum: %w", err), c.Close())
	}
	return c, nil
}

func (c *Controller) open() (err error) {
	if err := makeDir(c.o.FS, c.o.Dir); err != nil {
		return err
	}
	c.log, err = log.Open(log.Options{FS: c.o.FS, Dir: c.o.Dir, Topic: meta.MetadataTopic,
		Config: log.Config{SegmentBytes: 64 << 20}, Now: c.o.Clock.Now, Logger: c.lg})
	if err != nil {
		return fmt.Errorf("metadata log: %w", err)
	}
	if c.store, err = quorum.OpenLog(c.log, c.o.FS, c.o.Dir); err != nil {
		return err
	}
	state, err := quorum.OpenState(c.o.FS, c.o.Dir)
	if err != nil {
		return err
	}
	snapshots, err := quorum.OpenSnapshots(c.o.FS, c.o.Dir, c.store)
	if err != nil {
		return err
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(strconv.Itoa(int(c.o.NodeID)))
	conf.NotifyCh = c.leading
	conf.Logger = hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Warn, Output: lines{c.lg}, DisableTime: true})
	transport := c.o.Transport
	if transport == nil {
		_, lone := raft.NewInmemTransport(quorum.Lone)
		lone.Connect(quorum.Lone, lone)
		transport = lone
	}
	known, err := raft.HasExistingState(c.store, state, snapshots)
	if err != nil {
		return err
	}
	if !known {
		servers := raft.Configuration{Servers: []raft.Server{{ID: conf.LocalID, Address: transport.LocalAddr()}}}
		if err := raft.BootstrapCluster(conf, c.store, state, snapshots, transport, servers); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	c.raft, err = raft.NewRaft(conf, (*machine)(c), c.store, state, snapshots, transport)
	if err != nil {
		return err
	}
	if c.o.Transport == nil {
		// A lone voter need not wait out an election timeout to learn that
		// nobody else leads.
		if lone, ok := transport.(*raft.InmemTransport); ok {
			err = lone.TimeoutNow(conf.LocalID, quorum.Lone, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, new(raft.TimeoutNowResponse))
		}
	}
	return err
}

// lead waits until this node leads and has applied all that earlier terms
// committed.
func (c *Controller) lead(ctx context.Context) error {
	for {
		select {
		case led := <-c.leading:
			if !led {
				continue
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		break
	}
	c.done.Go(c.watch)
	return c.await(ctx, c.raft.Barrier(0))
}

// watch follows leadership and the health of the metadata log.
func (c *Controller) watch() {
	for {
		select {
		case led := <-c.leading:
			c.lg.Info("leadership changed", zap.Bool("leading", led))
			if err := c.store.Poisoned(); err != nil {
				c.fail(err)
			}
		case <-c.stop:
			return
		}
	}
}

func (c *Controller) fail(err error) {
	c.fatal.Do(func() {
		c.lg.Error("metadata log failed", zap.Error(err))
		if c.o.Fatal != nil {
			c.o.Fatal(err)
		}
	})
}

// await waits for a future of raft, which by itself may wait for ever.
func (c *Controller) await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	c.done.Go(func() { done <- f.Error() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Image returns the metadata as last applied.
func (c *Controller) Image() *meta.Image { return c.image.Load() }

// Change decides on a change of the metadata and commits it. decide sees the
// newest image and returns the records to write, none for no change; its error
// is returned as it is. No other decision is made meanwhile.
//
// An error from the quorum leaves open whether the change happened, unless it
// is kerr.NotController.
func (c *Controller) Change(ctx context.Context, decide func(*meta.Image) ([]meta.Record, error)) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	records, err := decide(c.Image())
	if err != nil || len(records) == 0 {
		<-c.turn
		return err
	}
	// The turn is kept until the entry is applied even if the caller gives up:
	// the next decision must see it. Raft itself may wait for ever, for a disk
	// that hangs.
	done := make(chan error, 1)
	c.done.Go(func() {
		err := c.commit(records)
		<-c.turn
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commit has records written by raft and applied.
func (c *Controller) commit(records []meta.Record) error {
	data, err := quorum.AppendCommand(nil, records)
	if err != nil {
		return err
	}
	f := c.raft.Apply(data, 0)
	if err := f.Error(); err != nil {
		switch {
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
			return fmt.Errorf("%w: %w", kerr.NotController, err)
		}
		if poison := c.store.Poisoned(); poison != nil {
			c.fail(poison)
			return fmt.Errorf("%w: %w", kerr.KafkaStorageError, poison)
		}
		return err
	}
	if err, ok := f.Response().(error); ok && err != nil {
		return err
	}
	return nil
}

// Term returns the current controller epoch.
func (c *Controller) Term() int32 { return int32(c.raft.CurrentTerm()) }

// Quorum is how the voters on the metadata stand.
type Quorum struct {
	Leader                   int32
	Epoch                    int32
	HighWatermark, EndOffset int64
}

// Quorum returns how the quorum stands: of a lone voter all that is written is
// committed.
func (c *Controller) Quorum() Quorum {
	end := c.log.EndOffset()
	return Quorum{Leader: c.o.NodeID, Epoch: c.Term(), HighWatermark: end, EndOffset: end}
}

// Close leaves the quorum and closes the metadata log.
func (c *Controller) Close() error {
	var err error
	close(c.stop)
	if c.raft != nil {
		err = c.raft.Shutdown().Error()
	}
	c.done.Wait()
	if c.log != nil {
		err = errors.Join(err, c.log.Close())
	}
	return err
}

// machine is the controller as raft's state machine sees it.
type machine Controller

// Apply applies one entry. The answer is an error if the entry contradicts the
// image, which then stays as it is, on every node alike.
func (m *machine) Apply(l *raft.Log) any {
	c := (*Controller)(m)
	records, err := quorum.ParseCommand(l.Data)
	if err != nil {
		c.lg.Error("unreadable metadata entry", zap.Uint64("index", l.Index), zap.Error(err))
		return err
	}
	old := c.image.Load()
	next, delta, err := old.Apply(l.Index, int32(l.Term), records)
	if err != nil {
		c.lg.Error("metadata entry refused", zap.Error(err))
		return err
	}
	c.image.Store(next)
	if c.o.Applied != nil {
		c.o.Applied(old, next, delta)
	}
	return nil
}

// Snapshot returns the image, which never changes.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	return snapshot{(*Controller)(m).Image()}, nil
}

// Restore replaces the image by that of a snapshot.
func (m *machine) Restore(from io.ReadCloser) error {
	defer from.Close()
	records, err := quorum.ReadImage(from)
	if err != nil {
		return err
	}
	c := (*Controller)(m)
	next, delta, err := meta.Empty().Apply(0, 0, records)
	if err != nil {
		return err
	}
	old := c.image.Swap(next)
	if c.o.Applied != nil {
		c.o.Applied(old, next, delta)
	}
	return nil
}

type snapshot struct{ image *meta.Image }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := quorum.WriteImage(sink, s.image); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s snapshot) Release() {}

// lines turns raft's log lines into log entries.
type lines struct{ lg *zap.Logger }

func (w lines) Write(b []byte) (int, error) {
	n := len(b)
	for n > 0 && b[n-1] == '\n' {
		n--
	}
	w.lg.Warn("raft", zap.ByteString("line", b[:n]))
	return len(b), nil
}
