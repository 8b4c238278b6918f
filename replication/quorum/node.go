package quorum

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
)

// NodeOptions say how a node joins the metadata quorum.
type NodeOptions struct {
	NodeID int32
	FS     vfs.FS
	Dir    string // of the metadata log; it exists
	Clock  clock.Clock
	Logger *zap.Logger
	// Streams join this node to the others, whose addresses are those of [Address]. The
	// node closes them. Nil means that this node is the only one, unless there is a
	// Transport.
	Streams *Streams
	// Transport joins the nodes in another way; for tests.
	Transport raft.Transport
	// Voters are the first ones of a new quorum, which every one of them is given;
	// nil stands for this node alone, or with Observer for nobody.
	Voters []raft.Server
	// Observer says that a new node begins no quorum: it waits for a leader to take it in.
	Observer bool
	// Timeouts are how long it waits; zero ones are raft's defaults.
	Timeouts Timeouts
	// Paused reports that the process of this node is stopped, so that a disk that does not
	// answer is no news. It must not block, and may be nil.
	Paused func() bool
	// Timing changes more of what raft goes by; for tests. It may be nil.
	Timing func(*raft.Config)
	// Subscribers are notified of every update, each after the one before it.
	Subscribers []Subscriber
	// Elected is notified when this node begins and ceases to lead, in order. It must
	// not block. It may be nil.
	Elected func(leads bool)
	// Lost is notified when another node has ended a connection, and Led when another
	// leader is known, -1 for none. They must not block, and may be nil.
	Lost func(node int32)
	Led  func(leader int32)
	// Configured is notified when another configuration of the quorum is committed, as
	// far as this node knows. It must not block, and may be nil.
	Configured func()
	// Fatal is called once, from a goroutine of its own, when this node can no
	// longer be part of the quorum: its log, its term or its vote cannot be
	// written, its disk does not answer, or it does not know what an entry says. The process must end:
	// nothing that depends on metadata is safe from then on. It may be nil.
	Fatal func(error)
}

// Timeouts are how long a node waits for others before it does something about it.
type Timeouts struct {
	// Election is how long votes are waited for, and Fetch how long a leader may be
	// silent (controller.quorum.election.timeout.ms, controller.quorum.fetch.timeout.ms).
	// Either may take up to twice as long.
	Election, Fetch time.Duration
}

// Node is the metadata log on raft, and the files of this node.
type Node struct {
	o         NodeOptions
	lg        *zap.Logger
	raft      *raft.Raft
	transport raft.Transport
	watched   *watched // transport, on a node that has others; nil on one without
	store     *Log
	log       *log.Log
	image     atomic.Pointer[meta.Image]
	notices   *notices // nil without other nodes
	hurrying  atomic.Bool

	voting       chan struct{} // held by who changes the voters, also while a node catches up
	changing     chan struct{} // held by who makes one change of the configuration; taken after voting
	look         chan struct{} // holds one: the leader is to look after observers
	unregistered sync.Map      // ids of nodes that were brokers and are none, as keys

	shutdown func() error // ends raft, once, and waits for it

	disk    *disk
	joined  atomic.Bool // raft is there
	broken  atomic.Bool // it has failed, and Fatal is called; no entry is applied any more
	leading chan bool
	stop    chan struct{}
	closed  sync.Once
	done    sync.WaitGroup

	gate   sync.RWMutex   // held shared by who begins to ask raft, exclusively when nobody is to any more
	shut   bool           // guarded by gate
	asking sync.WaitGroup // who waits for raft to answer
}

// StartNode opens the metadata log and joins the quorum. On a new directory a node
// without a Transport makes a quorum of its own; it leads soon.
func StartNode(o NodeOptions) (*Node, error) {
	n := &Node{o: o, lg: o.Logger, leading: make(chan bool, 16), stop: make(chan struct{}), voting: make(chan struct{}, 1), changing: make(chan struct{}, 1), look: make(chan struct{}, 1)}
	n.watchDisk()
	n.image.Store(meta.Empty())
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open() (err error) {
	o := &n.o
	n.log, err = log.Open(log.Options{FS: o.FS, Dir: o.Dir, Topic: meta.MetadataTopic,
		Config: log.Config{SegmentBytes: 64 << 20}, Now: o.Clock.Now, Logger: n.lg})
	if err != nil {
		return fmt.Errorf("metadata log: %w", err)
	}
	if n.store, err = OpenLog(n.log, o.FS, o.Dir); err != nil {
		return err
	}
	n.store.disk = n.disk
	state, err := OpenState(o.FS, o.Dir)
	if err != nil {
		return err
	}
	state.disk = n.disk
	snapshots, err := OpenSnapshots(diskFS{o.FS, n.disk}, o.Dir, n.store)
	if err != nil {
		return err
	}
	conf := raft.DefaultConfig()
	conf.LocalID = serverID(o.NodeID)
	conf.ShutdownOnRemove = false // it goes on as an observer
	conf.NotifyCh = n.leading
	conf.Logger = hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Warn, Output: &lines{n: n}, DisableTime: true})
	if o.Timeouts.Election > 0 {
		conf.ElectionTimeout = o.Timeouts.Election
	}
	if o.Timeouts.Fetch > 0 {
		conf.HeartbeatTimeout = o.Timeouts.Fetch
		conf.LeaderLeaseTimeout = o.Timeouts.Fetch / 2
	}
	conf.HeartbeatTimeout += spare
	conf.ElectionTimeout = max(conf.ElectionTimeout, conf.HeartbeatTimeout) // raft wants it so
	// A commit is told by notices, so that raft's own way of telling is a last resort.
	conf.CommitTimeout = lastAgain
	if o.Timing != nil {
		o.Timing(conf)
	}
	lone := n.lone()
	transport := o.Transport
	switch {
	case o.Streams != nil:
		// One request to a peer is under way at a time. Raft's pipeline can wait for ever for the
		// end of its own decoder, or that for the pipeline, when a peer has a newer term or an
		// entry cannot be read; then the node does not close.
		transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: o.Streams, MaxPool: streamsKept, Timeout: streamTimeout,
			Logger: conf.Logger, MaxRPCsInFlight: 1})
	case lone:
		_, inmem := raft.NewInmemTransport(Lone)
		inmem.Connect(Lone, inmem)
		transport = inmem
	}
	if !lone {
		n.watched = newWatched(transport, o.Clock.Now, func() uint64 {
			last, _ := n.store.LastIndex()
			return last
		}, n.stop)
		transport = n.watched
		n.done.Go(n.watched.run)
	}
	n.transport = transport
	known, err := raft.HasExistingState(n.store, state, snapshots)
	if err != nil {
		return err
	}
	if !known && !o.Observer {
		servers := raft.Configuration{Servers: o.Voters}
		if o.Voters == nil {
			servers.Servers = []raft.Server{{ID: conf.LocalID, Address: transport.LocalAddr()}}
		}
		if err := raft.BootstrapCluster(conf, n.store, state, snapshots, transport, servers); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	n.done.Go(n.watch)
	if !lone {
		n.notices = newNotices(n)
	}
	n.raft, err = raft.NewRaft(conf, (*machine)(n), n.store, state, snapshots, transport)
	if err != nil {
		return err
	}
	n.shutdown = sync.OnceValue(func() error { return n.raft.Shutdown().Error() })
	n.joined.Store(true)
	n.done.Go(n.passLeaders)
	switch {
	case lone:
		return n.campaign() // nobody else can lead
	case o.Streams != nil:
		n.done.Go(n.notices.run)
		o.Streams.watch(n.lost, n.lookSoon, n.has)
		n.done.Go(n.first)
		n.done.Go(n.keepObservers)
	}
	return nil
}

// passLeaders passes on who leads.
func (n *Node) passLeaders() {
	if n.o.Led == nil {
		return
	}
	leaders := make(chan raft.Observation, 16)
	o := raft.NewObserver(leaders, false, func(x *raft.Observation) bool {
		_, ok := x.Data.(raft.LeaderObservation)
		return ok
	})
	n.raft.RegisterObserver(o)
	defer n.raft.DeregisterObserver(o)
	for {
		select {
		case <-leaders:
			n.o.Led(n.Standing().Leader) // some may have been dropped: what counts is who leads now
		case <-n.stop:
			return
		}
	}
}

// watch passes elections on. Raft waits for it.
func (n *Node) watch() {
	for {
		select {
		case led := <-n.leading:
			n.lg.Info("leadership changed", zap.Bool("leading", led))
			if n.o.Streams != nil {
				if !led {
					n.o.Streams.endWaits() // another leader waits for those nodes
				}
				n.lookSoon()
			}
			if n.o.Elected != nil {
				n.o.Elected(led)
			}
		case <-n.stop:
			return
		}
	}
}

// fail reports, once, that this node cannot go on. It may be called with locks held.
func (n *Node) fail(err error) {
	if n.broken.Swap(true) {
		return
	}
	n.lg.Error("the metadata log has failed", zap.Error(err))
	sick := n.disk.err() != nil
	leads := n.leads()
	go func() {
		if sick && leads {
			n.passOn()
		}
		if sick && n.joined.Load() {
			go n.shutdown() // it must not answer for what it cannot read any more
		}
		if n.o.Fatal != nil {
			n.o.Fatal(err)
		}
	}()
}

// Image implements MetadataLog.
func (n *Node) Image() *meta.Image { return n.image.Load() }

// Append implements MetadataLog.
func (n *Node) Append(term uint64, records []meta.Record) (uint64, error) {
	data, err := appendDraft(nil, term, records)
	if err != nil {
		return 0, err
	}
	if poison := n.disk.err(); poison != nil {
		return 0, fmt.Errorf("%w: %w", kerr.KafkaStorageError, poison)
	}
	// Raft may take it, and a future may be done, never: it waits for the disk.
	done := make(chan raft.ApplyFuture, 1)
	if !n.ask(func() {
		f := n.raft.Apply(data, 0)
		_ = f.Error() // it is asked again
		done <- f
	}) {
		return 0, fmt.Errorf("%w: %w", kerr.NotController, raft.ErrRaftShutdown)
	}
	var f raft.ApplyFuture
	select {
	case f = <-done:
		err = f.Error()
	case <-n.disk.failed:
		err = ErrFailed
	}
	if err != nil {
		if poison := n.disk.err(); poison != nil {
			return 0, fmt.Errorf("%w: %w", kerr.KafkaStorageError, poison)
		}
		return 0, notLeader(err)
	}
	if err, ok := f.Response().(error); ok && err != nil {
		return 0, err
	}
	return f.Index(), nil
}

// notLeader makes kerr.NotController of errors which say that nothing was written
// because another node leads.
func notLeader(err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrEnqueueTimeout) {
		return fmt.Errorf("%w: %w", kerr.NotController, err)
	}
	return err
}

// Barrier implements MetadataLog.
func (n *Node) Barrier(ctx context.Context) (uint64, error) {
	term := n.raft.CurrentTerm()
	// By itself it may wait for ever, like Append.
	done := make(chan error, 1)
	if !n.ask(func() { done <- n.raft.Barrier(0).Error() }) {
		return 0, fmt.Errorf("%w: %w", kerr.NotController, raft.ErrRaftShutdown)
	}
	select {
	case err := <-done:
		if err != nil {
			return 0, fmt.Errorf("%w: %w", kerr.NotController, err)
		}
	case <-n.disk.failed:
		return 0, fmt.Errorf("%w: %w", kerr.NotController, ErrFailed)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if n.raft.CurrentTerm() != term {
		return 0, kerr.NotController
	}
	return term, nil
}

// Confirm returns nil once most voters have answered that this node still leads. A process that
// was stopped for a while takes itself for the leader until it hears of another one. The error
// is kerr.NotController, or ctx's.
func (n *Node) Confirm(ctx context.Context) error {
	// By itself it may wait for ever, like Append.
	done := make(chan error, 1)
	n.done.Go(func() { done <- n.raft.VerifyLeader().Error() })
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%w: %w", kerr.NotController, err)
		}
		return nil
	case <-n.disk.failed:
		return fmt.Errorf("%w: %w", kerr.NotController, ErrFailed)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Standing implements MetadataLog.
func (n *Node) Standing() Standing {
	s := Standing{Leader: -1, Epoch: int32(n.raft.CurrentTerm()), HighWatermark: n.store.endOffset(n.raft.CommitIndex()), EndOffset: n.store.lastOffset()}
	if _, id := n.raft.LeaderWithID(); id != "" {
		if leader, err := strconv.ParseInt(string(id), 10, 32); err == nil {
			s.Leader = int32(leader)
		}
	}
	s.Voters = n.voters()
	s.Votes = slices.Contains(s.Voters, n.o.NodeID)
	return s
}

// EndOf implements MetadataLog.
func (n *Node) EndOf(index uint64) int64 { return n.store.endOffset(index) }

// Close implements MetadataLog.
func (n *Node) Close() error {
	var err error
	n.closed.Do(func() {
		if n.raft != nil {
			n.handOver()
		}
		close(n.stop)
		if n.o.Streams != nil {
			n.o.Streams.leave()
		}
		if n.raft != nil {
			n.awaitAnswers()
			err = n.shutdown()
		}
		if n.o.Streams != nil {
			n.o.Streams.Close()
		}
		n.done.Wait()
		if n.log != nil {
			err = errors.Join(err, n.disk.read(n.log.Close))
		}
	})
	return err
}

// ask has f ask raft and wait for its answer, on another goroutine, unless the node is closed.
func (n *Node) ask(f func()) bool {
	n.gate.RLock()
	defer n.gate.RUnlock()
	if n.shut {
		return false
	}
	n.asking.Go(f)
	return true
}

// awaitAnswers waits until raft has answered all that it was asked, and has it asked nothing
// more. When it is shut down it leaves unanswered what it has committed and not applied yet:
// who waits for that waits for ever.
func (n *Node) awaitAnswers() {
	n.gate.Lock()
	n.shut = true
	n.gate.Unlock()
	answered := make(chan struct{})
	go func() {
		n.asking.Wait()
		close(answered)
	}()
	late := time.NewTimer(answersTimeout)
	defer late.Stop()
	select {
	case <-answered:
	case <-late.C:
	case <-n.disk.failed:
	}
}

// answersTimeout bounds how long raft is waited for before it is shut down. A leader that has
// lost the others steps down, and answers, before that.
const answersTimeout = 5 * time.Second

// machine is the node as raft's state machine sees it.
type machine Node

// Apply applies one entry. The answer is an error if the entry contradicts the
// image, which then stays as it is, on every node alike.
func (m *machine) Apply(l *raft.Log) any {
	n := (*Node)(m)
	if n.broken.Load() {
		return ErrUnknownEntry // a later entry must not be applied without an earlier one
	}
	if len(l.Data) == 0 {
		return ErrStale
	}
	records, err := ParseCommand(l.Data)
	if err != nil {
		err = fmt.Errorf("%w: entry %d: %w", ErrUnknownEntry, l.Index, err)
		n.fail(err)
		return err
	}
	old := n.image.Load()
	next, delta, err := old.Apply(l.Index, int32(l.Term), records)
	switch {
	case errors.Is(err, meta.ErrUnknownRecord):
		err = fmt.Errorf("%w: %w", ErrUnknownEntry, err)
		n.fail(err)
		return err
	case err != nil:
		n.lg.Error("metadata entry refused", zap.Error(err))
		return err
	}
	n.replace(Update{Old: old, New: next, Delta: delta, Index: l.Index})
	if n.notices != nil {
		n.notices.committed(l.Index, l.Term)
	}
	return nil
}

func (n *Node) replace(u Update) {
	n.image.Store(u.New)
	n.noteUnregistered(u)
	for _, told := range n.o.Subscribers {
		told(u)
	}
}

// Snapshot returns the image, which never changes.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	return snapshot{(*Node)(m).Image()}, nil
}

// Restore replaces the image by that of a snapshot.
func (m *machine) Restore(from io.ReadCloser) error {
	defer from.Close()
	n := (*Node)(m)
	if n.broken.Load() {
		return ErrUnknownEntry // as for an entry
	}
	about, records, err := readSnapshot(from)
	if err == nil {
		var next *meta.Image
		if next, _, err = meta.Empty().Apply(about.Index, int32(about.Term), records); err == nil {
			old := n.Image()
			n.replace(Update{Old: old, New: next, Delta: meta.Diff(old, next), Index: about.Index})
			return nil
		}
	}
	n.fail(fmt.Errorf("snapshot of the metadata: %w", err))
	return err
}

type snapshot struct{ image *meta.Image }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := WriteImage(sink, s.image); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s snapshot) Release() {}

// lines turns raft's log lines into log entries. What raft warns of, such as an election, is
// how a quorum works. It says of a node that cannot be reached that it cannot each time
// that it tries: of what sounds alike one line a while is passed on. After the node is
// closed, that others have gone is no news.
type lines struct {
	n *Node

	mu   sync.Mutex // guards said
	said map[string]time.Time
}

const (
	// sayAgain is after how long a line is passed on that sounds like one before.
	sayAgain = 30 * time.Second
	// alike is how much of two lines must be the same for them to sound alike.
	alike = 32
)

// Write implements io.Writer.
func (w *lines) Write(b []byte) (int, error) {
	level, text, _ := strings.Cut(strings.TrimRight(string(b), "\n"), " ")
	text = strings.TrimPrefix(strings.TrimSpace(text), "raft: ")
	lg := w.n.lg.Info
	switch {
	case w.n.isClosed(), strings.HasPrefix(text, "failed to get previous log"): // a notice came before its entry
		lg = w.n.lg.Debug
	case level == "[ERROR]" && w.again(text):
		lg = w.n.lg.Debug
	case level == "[ERROR]":
		lg = w.n.lg.Warn
	}
	lg("raft", zap.String("line", text))
	return len(b), nil
}

func (w *lines) again(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key, now := text[:min(len(text), alike)], time.Now()
	if last, ok := w.said[key]; ok && now.Sub(last) < sayAgain {
		return true
	}
	if w.said == nil {
		w.said = make(map[string]time.Time)
	}
	w.said[key] = now
	return false
}

func (n *Node) isClosed() bool {
	select {
	case <-n.stop:
		return true
	default:
		return false
	}
}
