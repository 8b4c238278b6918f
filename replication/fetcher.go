package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// fetcher copies partitions from one leader. It has two lanes, each with a connection of
// its own and one request under way. The main lane has a fetch session with all that
// goes well, and waits at the leader while there is nothing new. What is new here, or
// met an error, is fetched on the side lane while the main one waits, so that it waits
// for nobody; the next request of the main lane takes it over.
type fetcher struct {
	of *fetchers
	source
	lg     *zap.Logger
	ctx    context.Context
	cancel context.CancelFunc

	changed chan struct{} // holds one: there may be something to ask on the main lane
	aside   chan struct{} // the same for the side lane

	began movedStarts // of parts

	mu      sync.Mutex // guards the fields below, and those of followed
	parts   map[*Partition]*followed
	loose   map[*followed]struct{} // that are not in the session
	told    []*followed            // of the session: what the leader knows of them is not so any more
	forget  []partitionKey         // were in the session
	waiting bool                   // the main lane has a request under way
}

type partitionKey struct {
	topic prim.UUID
	index int32
}

// followed is a partition that is copied in one leader epoch.
type followed struct {
	p     *Partition
	epoch int32
	asked Fetch // last, on the lane that asks for it: no other does then

	gone      bool // it is not copied any more
	inSession bool
	stale     bool // it is in told
	busy      bool // the side lane asks for it
	fine      bool // its last answer had no error
	caughtUp  bool // its last answer left no committed record missing
	due       time.Time
	pause     time.Duration
	start     log.StartWatch // until the log start that was said is not so any more
	began     *movedStarts   // of its fetcher
}

func (x *followed) key() partitionKey { return partitionKey{x.p.TopicID, x.p.Index} }

// Pauses after an error grow from the first to replica.fetch.backoff.ms.
const (
	firstFetchPause = 2 * time.Millisecond
	// asideWait is how long a leader waits with what the main lane is about to take over.
	asideWait = 10 * time.Millisecond
	// answerGrace is how long an answer may take beyond what the leader waits.
	answerGrace = 10 * time.Second
)

func newFetcher(of *fetchers, from source) *fetcher {
	f := &fetcher{of: of, source: from, lg: of.r.lg.With(zap.Int32("leader", from.leader)),
		changed: make(chan struct{}, 1), aside: make(chan struct{}, 1), parts: make(map[*Partition]*followed), loose: make(map[*followed]struct{})}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add has a partition copied in a leader epoch.
func (f *fetcher) add(p *Partition, epoch int32) {
	f.mu.Lock()
	x := &followed{p: p, epoch: epoch, began: &f.began}
	f.parts[p] = x
	f.loose[x] = struct{}{}
	f.mu.Unlock()
	signal(f.changed)
	signal(f.aside)
}

// drop has a partition copied no more.
func (f *fetcher) drop(p *Partition) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x := f.parts[p]; x != nil {
		f.leave(x)
		signal(f.changed)
	}
}

// restrained reports whether a partition is throttled, and is to wait: not before it is due it
// may be asked for. One that has all is never throttled: it would fall out of sync. Whether a
// partition with a new leader has all is not known before that was asked once. mu is held.
func (f *fetcher) restrained(x *followed) bool {
	if x.caughtUp || !x.fine || !x.p.restrained() {
		return false
	}
	x.due = f.of.r.o.Clock.Now().Add(throttlePause)
	return true
}

// leave has a partition copied no more. mu is held.
func (f *fetcher) leave(x *followed) {
	delete(f.parts, x.p)
	x.gone = true
	x.start.End()
	f.unseat(x)
	delete(f.loose, x)
}

// unseat takes a partition out of the session. mu is held.
func (f *fetcher) unseat(x *followed) {
	if x.inSession {
		x.inSession = false
		f.forget = append(f.forget, x.key())
	}
	f.loose[x] = struct{}{}
}

// lane is a connection to the leader, and the fetch session on it.
type lane struct {
	f       *fetcher
	conn    *conn.Conn
	version int16
	session int32 // 0 for none
	epoch   int32 // of the next request of the session
	asked   map[partitionKey]*followed
	req     msg.FetchRequest
	resp    msg.FetchResponse
	outside []*followed // whose offset the leader does not have
	pause   time.Duration
	failing bool // that was logged
}

// run is the main lane.
func (f *fetcher) run() {
	l := &lane{f: f, asked: make(map[partitionKey]*followed)}
	defer l.close()
	for f.ctx.Err() == nil {
		until, ok := f.build(l)
		if !ok {
			f.idle(f.changed, until)
			continue
		}
		signal(f.aside)
		err := l.exchange(f.of.r.o.Fetching.Wait)
		f.mu.Lock()
		f.waiting = false
		f.mu.Unlock()
		l.meetRanges()
		l.after(err)
	}
}

// runAside is the side lane.
func (f *fetcher) runAside() {
	l := &lane{f: f}
	defer l.close()
	for f.ctx.Err() == nil {
		until, wait, ok := f.buildAside(l)
		if !ok {
			f.idle(f.aside, until)
			continue
		}
		err := l.exchange(wait)
		l.meetRanges()
		f.mu.Lock()
		for _, x := range l.asked {
			x.busy = false
		}
		f.mu.Unlock()
		signal(f.changed) // the main lane may have waited for what this one had
		l.after(err)
	}
}

// idle waits until there may be something to ask, at the latest at until, if that is set.
func (f *fetcher) idle(c chan struct{}, until time.Time) {
	if until.IsZero() {
		select {
		case <-c:
		case <-f.ctx.Done():
		}
		return
	}
	o := &f.of.r.o
	expired, timer := clock.After(o.Clock, max(until.Sub(o.Clock.Now()), 0))
	defer timer.Stop()
	select {
	case <-c:
	case <-expired:
	case <-f.ctx.Done():
	}
}

// begin makes a request without partitions.
func (l *lane) begin(wait time.Duration, minBytes int) {
	o := &l.f.of.r.o
	l.req.SetDefaults()
	l.req.ReplicaState.ReplicaId, l.req.ReplicaState.ReplicaEpoch = o.NodeID, o.Fetching.Epoch()
	l.req.MaxWaitMs, l.req.MinBytes, l.req.MaxBytes = int32(wait.Milliseconds()), int32(minBytes), int32(o.Fetching.ResponseMaxBytes)
}

// ask puts partitions into a request, those of a topic together.
func (l *lane) ask(all []*followed) {
	slices.SortFunc(all, func(a, b *followed) int {
		return cmp.Or(slices.Compare(a.p.TopicID[:], b.p.TopicID[:]), cmp.Compare(a.p.Index, b.p.Index))
	})
	var t *msg.FetchRequestFetchTopic
	for _, x := range all {
		if t == nil || t.TopicId != x.p.TopicID {
			l.req.Topics = append(l.req.Topics, msg.FetchRequestFetchTopic{TopicId: x.p.TopicID})
			t = &l.req.Topics[len(l.req.Topics)-1]
		}
		var out msg.FetchRequestFetchPartition
		out.SetDefaults()
		x.asked = x.p.next(x.epoch)
		next := &x.asked
		out.Partition, out.CurrentLeaderEpoch, out.PartitionMaxBytes = x.p.Index, next.LeaderEpoch, int32(l.f.of.r.o.Fetching.MaxBytes)
		out.FetchOffset, out.LastFetchedEpoch = next.Offset, next.LastEpoch
		x.p.log.WatchStart(&x.start, x) // before it is read: what comes after is said next time
		out.LogStartOffset, out.HighWatermark = x.p.log.StartOffset(), x.p.log.HighWatermark()
		out.ReplicaDirectoryId = x.p.Dir.ID
		t.Partitions = append(t.Partitions, out)
		l.asked[x.key()] = x
	}
}

// build makes the next request of the main lane. If there is nothing to ask, or the side
// lane has what is to be taken over, it returns when there may be, zero if only a signal
// tells.
func (f *fetcher) build(l *lane) (until time.Time, ok bool) {
	now := f.of.r.o.Clock.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	var ask []*followed
	for x := range f.loose {
		switch {
		case x.gone:
		case x.busy: // the side lane would have it again before this one comes back
			return time.Time{}, false
		case x.due.After(now), f.restrained(x):
			until = sooner(until, x.due)
		default:
			ask = append(ask, x)
		}
	}
	for _, x := range f.began.take() {
		f.tell(x)
	}
	again := make(map[partitionKey]bool, len(ask)) // those of ask that were not in the session
	for _, x := range ask {
		delete(f.loose, x)
		x.inSession = true
		again[x.key()] = true
	}
	if l.session == 0 { // all that is asked for begins a session
		ask, f.forget = ask[:0], nil
		clear(l.asked)
		for _, x := range f.parts {
			if x.inSession {
				ask = append(ask, x)
			}
		}
	} else {
		for _, x := range f.told {
			if x.inSession && !again[x.key()] {
				ask = append(ask, x)
			}
		}
	}
	for _, x := range f.told {
		x.stale = false
	}
	f.told = f.told[:0]
	l.begin(f.of.r.o.Fetching.Wait, f.of.r.o.Fetching.MinBytes)
	for _, k := range f.forget {
		// One that is asked for again stays in the session: the leader forgets after it has
		// taken in what is asked for.
		if x := l.asked[k]; again[k] || x == nil || x.inSession && !x.gone {
			continue
		}
		delete(l.asked, k)
		l.req.ForgottenTopicsData = append(l.req.ForgottenTopicsData, msg.FetchRequestForgottenTopic{TopicId: k.topic, Partitions: []int32{k.index}})
	}
	f.forget = f.forget[:0]
	l.ask(ask)
	if len(l.asked) == 0 && len(l.req.ForgottenTopicsData) == 0 {
		return until, false
	}
	l.req.SessionId, l.req.SessionEpoch = l.session, l.epoch
	f.waiting = true
	return until, true
}

// buildAside makes the next request of the side lane, if the main one waits.
func (f *fetcher) buildAside(l *lane) (until time.Time, wait time.Duration, ok bool) {
	now := f.of.r.o.Clock.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.waiting {
		return time.Time{}, 0, false
	}
	wait = asideWait
	var ask []*followed
	for x := range f.loose {
		switch {
		case x.gone:
		case x.due.After(now), f.restrained(x):
			until = sooner(until, x.due)
		default:
			x.busy = true
			ask = append(ask, x)
			if !x.fine {
				wait = 0
			}
		}
	}
	if len(ask) == 0 {
		return until, 0, false
	}
	const sessionless = -1
	l.begin(wait, f.of.r.o.Fetching.MinBytes)
	l.req.SessionEpoch = sessionless
	l.asked = make(map[partitionKey]*followed, len(ask))
	l.ask(ask)
	return until, wait, true
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// exchange sends the request, and takes over what the answer brings.
func (l *lane) exchange(wait time.Duration) error {
	if err := l.connect(); err != nil {
		return err
	}
	done := make(chan error, 1)
	call := &conn.Call{Req: &l.req, Resp: &l.resp, Version: l.version, Timeout: wait + answerGrace, Done: func(err error) {
		if err == nil {
			// The record bytes are those of the connection, which has nothing else to read.
			err = l.f.take(l)
		}
		done <- err
	}}
	if err := l.conn.Send(call); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-l.f.ctx.Done():
		l.conn.Abort(conn.ErrClosed)
		<-done
		return l.f.ctx.Err()
	}
}

func (l *lane) connect() error {
	if l.conn != nil && l.conn.Err() == nil {
		return nil
	}
	l.session, l.epoch = 0, 0
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
		if l.req.SessionId != 0 {
			return errSessionLost // the request is for a session that ended with the connection
		}
	}
	c, err := l.f.of.r.o.Fetching.Dial(l.f.ctx, l.leader())
	if err != nil {
		return err
	}
	if l.version, err = c.Version(wire.Fetch); err == nil && l.version < minFetchVersion {
		err = fmt.Errorf("%w: the leader has Fetch up to version %d, followers need %d", kerr.UnsupportedVersion, l.version, minFetchVersion)
	}
	if err != nil {
		c.Close()
		return err
	}
	l.conn = c
	return nil
}

// minFetchVersion is the first that says a follower's broker epoch (KIP-903).
const minFetchVersion = 15

var errSessionLost = errors.New("the fetch session is lost")

func (l *lane) leader() int32 { return l.f.source.leader }

func (l *lane) close() {
	if l.conn != nil {
		l.conn.Close()
	}
}

// after waits before the next request, if the last one failed.
func (l *lane) after(err error) {
	if err == nil {
		l.pause = 0
		if l.failing {
			l.failing = false
			l.f.lg.Info("fetches from the leader again")
		}
		return
	}
	l.session, l.epoch = 0, 0
	if l.f.ctx.Err() != nil || errors.Is(err, errSessionLost) {
		return
	}
	if l.pause > 4*firstFetchPause && !l.failing {
		l.failing = true
		l.f.lg.Warn("cannot fetch from the leader", zap.Error(err))
	}
	l.pause = min(max(2*l.pause, firstFetchPause), l.f.of.r.o.Fetching.Backoff)
	_ = clock.Sleep(l.f.ctx, l.f.of.r.o.Clock, l.pause) // the caller looks whether it is to end
}
