package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// group is a consumer's membership in its group (the classic protocol, eager).
//
// Rebalances happen in Poll: what Poll has returned counts as processed, so the
// offsets are committed and the partitions given up only when the application
// comes back for more. Joining itself runs on a goroutine, so that a Poll that
// is short of time can return and a later one wait on. Heartbeats run on
// another, which also leaves the group when Poll does not come for
// max.poll.interval.ms.
type group struct {
	c    *Consumer
	id   string
	wake chan struct{} // buffered: Poll is to look again

	mu          sync.Mutex // guards the fields below; taken before Consumer.mu
	topics      []string
	member      string
	generation  int32
	protocol    string
	coordinator int32         // -1 if not known
	stable      bool          // a member with an assignment
	joining     chan struct{} // closed when the join under way ends
	joinErr     error
	joinTry     int   // joins that failed, in a row
	lastErr     error // of the last one, or what ended the generation; nil while stable
	owned       []TopicPartition
	lastPoll    time.Time
	lastCommit  time.Time
	beating     context.CancelFunc // ends the heartbeats of this generation
	leads       map[string]int32   // partition counts that the leader assigned by; nil for others
}

func newGroup(c *Consumer) *group {
	return &group{c: c, id: c.o.Group, wake: make(chan struct{}, 1), generation: -1, coordinator: -1}
}

func (g *group) wakeUp() <-chan struct{} { return g.wake }

func (g *group) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *group) subscribe(topics []string) {
	g.mu.Lock()
	g.topics = slices.Clone(topics)
	slices.Sort(g.topics)
	g.topics = slices.Compact(g.topics)
	g.stable = false
	g.mu.Unlock()
	g.poke()
}

// poll makes the consumer a member with an assignment, within ctx, and commits
// when it is time.
func (g *group) poll(ctx context.Context) error {
	g.mu.Lock()
	now := time.Now()
	g.lastPoll = now
	if len(g.topics) == 0 { // assigned by hand; the group only keeps offsets
		due := g.commitDue(now)
		g.mu.Unlock()
		if due {
			g.autoCommit(ctx)
		}
		return nil
	}
	if g.stable && g.repartitioned() {
		g.c.lg.Info("partitions of subscribed topics changed, rejoin")
		g.stable = false
	}
	if g.stable {
		due := g.commitDue(now)
		g.mu.Unlock()
		if due {
			g.autoCommit(ctx)
		}
		return nil
	}
	joining := g.joining
	g.mu.Unlock()
	if joining == nil {
		g.giveUp(ctx)
		joining = g.startJoin()
	}
	select {
	case <-joining:
	case <-ctx.Done():
		return g.c.nothing(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.joinErr
	g.joinErr = nil
	return err
}

// outside says what Poll waits for while the consumer is no member with an
// assignment, and why, as far as is known. It says nothing of a member.
func (g *group) outside() (what string, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case len(g.topics) == 0 || g.stable && len(g.owned) > 0:
		return "", nil
	case g.stable:
		return fmt.Sprintf("a partition from group %s", g.id), g.lastErr
	case g.coordinator < 0:
		return fmt.Sprintf("coordinator of group %s from %s", g.id, g.c.cl.asked()), g.lastErr
	}
	return fmt.Sprintf("joining group %s at %s", g.id, g.c.cl.name(g.coordinator)), g.lastErr
}

// subscribed returns the topics of the subscription, and those that the member
// assigns to others.
func (g *group) subscribed() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := slices.Clone(g.topics)
	for t := range g.leads {
		names = append(names, t)
	}
	return names
}

// metadataChanged wakes Poll if it has to join again.
func (g *group) metadataChanged() {
	g.mu.Lock()
	again := g.stable && g.repartitioned()
	g.mu.Unlock()
	if again {
		g.poke()
	}
}

// commitDue reports whether it is time for an auto-commit. The caller holds mu.
func (g *group) commitDue(now time.Time) bool {
	if g.c.o.NoAutoCommit || now.Sub(g.lastCommit) < g.c.o.AutoCommitEvery {
		return false
	}
	g.lastCommit = now
	return true
}

// repartitioned reports whether the leader's topics have other partitions than
// it assigned. The caller holds mu.
func (g *group) repartitioned() bool {
	if g.leads == nil {
		return false
	}
	m := g.c.cl.now()
	for topic, n := range g.leads {
		if t := m.topics[topic]; t != nil && t.err == kerr.None && int32(len(t.partitions)) != n {
			return true
		}
	}
	return false
}

// giveUp commits and drops the assignment before a rebalance.
func (g *group) giveUp(ctx context.Context) {
	g.mu.Lock()
	if g.beating != nil {
		g.beating()
		g.beating = nil
	}
	member := g.member != ""
	g.mu.Unlock()
	if member && !g.c.o.NoAutoCommit {
		ctx, cancel := context.WithTimeout(ctx, g.c.o.RequestTimeout)
		if err := g.commit(ctx, g.c.positions()); err != nil {
			g.c.lg.Warn("offsets not committed before a rebalance", zap.String("group", g.id), zap.Error(err))
		}
		cancel()
	}
	g.c.mu.Lock()
	g.c.replace(nil)
	g.c.mu.Unlock()
}

// startJoin joins on a goroutine and returns what is closed at its end.
func (g *group) startJoin() chan struct{} {
	done := make(chan struct{})
	g.mu.Lock()
	g.joining = done
	topics := g.topics
	g.mu.Unlock()
	g.c.work.Go(func() {
		err := g.join(g.c.ctx, topics)
		g.mu.Lock()
		switch {
		case err == nil:
			g.joinTry = 0
		case g.c.ctx.Err() != nil:
			g.joinErr = ErrClosed
		case !g.forgive(err):
			g.joinErr = fmt.Errorf("join group %s: %w", g.id, err)
		}
		pause := time.Duration(0)
		if g.lastErr = err; err != nil {
			g.joinTry++
			pause = backoff(g.c.o.RetryBackoff, g.c.o.RetryBackoffMax, g.joinTry)
		}
		g.mu.Unlock()
		if err != nil {
			g.c.lg.Warn("group not joined", zap.String("group", g.id), zap.Duration("pause", pause), zap.Error(err))
			if sleep(g.c.ctx, pause) != nil {
				g.c.lg.Debug("join given up: consumer closed", zap.String("group", g.id))
			}
		}
		g.mu.Lock()
		g.joining = nil // only now: another Poll would not wait out the pause
		g.mu.Unlock()
		close(done)
		g.poke()
	})
	return done
}

// forgive reports whether a failed step is mended by joining again, and forgets
// what the error says is no longer true. The caller holds mu.
func (g *group) forgive(err error) bool {
	var code kerr.Code
	errors.As(err, &code)
	switch code {
	case kerr.UnknownMemberId, kerr.IllegalGeneration:
		g.member, g.generation = "", -1
		return true
	case kerr.RebalanceInProgress, kerr.MemberIdRequired:
		return true
	case kerr.NotCoordinator, kerr.CoordinatorNotAvailable:
		g.coordinator = -1
		return true
	}
	if isLost(err) {
		g.coordinator = -1
	}
	return retriable(err)
}

// join goes once through find, join, sync and the fetch of committed offsets.
func (g *group) join(ctx context.Context, topics []string) error {
	g.mu.Lock()
	coordinator, member, generation, owned := g.coordinator, g.member, g.generation, g.owned
	g.mu.Unlock()
	var err error
	if coordinator < 0 {
		if coordinator, err = g.c.cl.findCoordinator(ctx, g.id); err != nil {
			return err
		}
		g.mu.Lock()
		g.coordinator = coordinator
		g.mu.Unlock()
	}
	resp, err := g.sendJoin(ctx, coordinator, topics, member, owned, generation)
	if err == nil && kerr.Code(resp.ErrorCode) == kerr.MemberIdRequired { // KIP-394: once more, with the id
		g.mu.Lock()
		g.member = resp.MemberId
		g.mu.Unlock()
		resp, err = g.sendJoin(ctx, coordinator, topics, resp.MemberId, owned, generation)
	}
	if err != nil {
		return err
	}
	if err := codeOf(resp.ErrorCode); err != nil {
		return fmt.Errorf("JoinGroup: %w", err)
	}
	g.mu.Lock()
	g.member, g.generation, g.protocol = resp.MemberId, resp.GenerationId, text(resp.ProtocolName)
	g.mu.Unlock()
	return g.sync(ctx, coordinator, resp)
}

func (g *group) sendJoin(ctx context.Context, coordinator int32, topics []string, member string, owned []TopicPartition, generation int32) (*msg.JoinGroupResponse, error) {
	req, err := g.joinRequest(topics, member, owned, generation)
	if err != nil {
		return nil, err
	}
	cn, err := g.c.cl.broker(ctx, coordinator, forGroup)
	if err != nil {
		return nil, err
	}
	v, err := cn.Version(wire.JoinGroup)
	if err != nil {
		return nil, err
	}
	resp := new(msg.JoinGroupResponse)
	err = lost(cn.DoVersion(ctx, req, resp, v, g.c.o.MaxPollInterval+g.c.o.RequestTimeout), cn)
	return resp, err
}

func (g *group) joinRequest(topics []string, member string, owned []TopicPartition, generation int32) (*msg.JoinGroupRequest, error) {
	o := &g.c.o
	req := &msg.JoinGroupRequest{
		GroupId: g.id, MemberId: member, ProtocolType: "consumer",
		SessionTimeoutMs: int32(o.SessionTimeout.Milliseconds()), RebalanceTimeoutMs: int32(o.MaxPollInterval.Milliseconds()),
		GroupInstanceId: g.instance(),
	}
	for _, a := range o.Assignors {
		var data []byte
		if a == Sticky && generation >= 0 {
			data = stickyUserData(owned, generation)
		}
		meta, err := encodeSubscription(topics, data, -1, o.Rack)
		if err != nil {
			return nil, err
		}
		req.Protocols = append(req.Protocols, msg.JoinGroupRequestProtocol{Name: string(a), Metadata: meta})
	}
	return req, nil
}

func (g *group) instance() *string {
	if g.c.o.InstanceID == "" {
		return nil
	}
	return &g.c.o.InstanceID
}

// sync hands in the assignments if this member leads, and takes its own.
func (g *group) sync(ctx context.Context, coordinator int32, joined *msg.JoinGroupResponse) error {
	protocolType := "consumer"
	req := &msg.SyncGroupRequest{GroupId: g.id, GenerationId: joined.GenerationId, MemberId: joined.MemberId,
		GroupInstanceId: g.instance(), ProtocolType: &protocolType, ProtocolName: joined.ProtocolName}
	var counts map[string]int32
	if joined.Leader == joined.MemberId && !joined.SkipAssignment {
		var err error
		if req.Assignments, counts, err = g.assign(ctx, joined); err != nil {
			return err
		}
	}
	resp := new(msg.SyncGroupResponse)
	if err := g.c.cl.do(ctx, coordinator, forGroup, req, resp); err != nil {
		return err
	}
	if err := codeOf(resp.ErrorCode); err != nil {
		return fmt.Errorf("SyncGroup: %w", err)
	}
	mine, err := parseAssignment(resp.Assignment)
	if err != nil {
		return fmt.Errorf("assignment: %w", err)
	}
	at, committed, err := g.start(ctx, coordinator, mine)
	if err != nil {
		return err
	}
	g.enter(joined.GenerationId, mine, counts)
	g.c.mu.Lock()
	g.c.replace(at)
	for tp, offset := range committed {
		g.c.assigned[tp].committed = offset
	}
	g.c.mu.Unlock()
	return nil
}

// enter makes the member stable and starts its heartbeats.
func (g *group) enter(generation int32, mine []TopicPartition, counts map[string]int32) {
	beat, cancel := context.WithCancel(g.c.ctx)
	g.mu.Lock()
	g.stable, g.owned, g.leads = true, mine, counts
	now := time.Now()
	g.lastCommit = now
	g.beating = cancel
	member, coordinator := g.member, g.coordinator
	g.mu.Unlock()
	g.c.lg.Info("joined group", zap.String("group", g.id), zap.Int32("generation", generation), zap.Int("partitions", len(mine)))
	g.c.work.Go(func() { g.beat(beat, coordinator, member, generation) })
}

// assign shares out the partitions among all members.
func (g *group) assign(ctx context.Context, joined *msg.JoinGroupResponse) (out []msg.SyncGroupRequestAssignment, counts map[string]int32, err error) {
	var members []*groupMember
	counts = make(map[string]int32)
	for _, m := range joined.Members {
		var s msg.ConsumerProtocolSubscription
		if err := parseVersioned(m.Metadata, &s); err != nil {
			return nil, nil, fmt.Errorf("subscription of member %s: %w", m.MemberId, err)
		}
		gm := &groupMember{id: m.MemberId, instance: text(m.GroupInstanceId), topics: s.Topics, generation: -1}
		if text(joined.ProtocolName) == string(Sticky) && len(s.UserData) > 0 {
			gm.owned, gm.generation = parseStickyUserData(s.UserData)
		}
		members = append(members, gm)
		for _, t := range s.Topics {
			counts[t] = 0
		}
	}
	if err := g.countPartitions(ctx, counts); err != nil {
		return nil, nil, err
	}
	var shares map[string][]TopicPartition
	switch Assignor(text(joined.ProtocolName)) {
	case Range:
		shares = assignRange(members, counts)
	case Sticky:
		shares = assignSticky(members, counts)
	default:
		return nil, nil, fmt.Errorf("group chose assignor %q: %w", text(joined.ProtocolName), kerr.InconsistentGroupProtocol)
	}
	for _, m := range members {
		b, err := encodeAssignment(shares[m.id])
		if err != nil {
			return nil, nil, err
		}
		out = append(out, msg.SyncGroupRequestAssignment{MemberId: m.id, Assignment: b})
	}
	return out, counts, nil
}

// countPartitions fills in how many partitions each topic has; topics that do
// not exist have none.
func (g *group) countPartitions(ctx context.Context, counts map[string]int32) error {
	for t := range counts {
		g.c.cl.want(t)
	}
	if err := g.c.cl.fresh(ctx); err != nil {
		return err
	}
	m := g.c.cl.now()
	for t := range counts {
		if info := m.topics[t]; info != nil {
			counts[t] = int32(len(info.partitions))
		}
	}
	return nil
}

// beat sends heartbeats for one generation, until ctx ends or the group moves
// on.
func (g *group) beat(ctx context.Context, coordinator int32, member string, generation int32) {
	last := time.Now()
	for sleep(ctx, g.c.o.HeartbeatInterval) == nil {
		g.mu.Lock()
		idle := time.Since(g.lastPoll)
		g.mu.Unlock()
		if idle > g.c.o.MaxPollInterval {
			g.c.lg.Warn("leaving group: no Poll within max.poll.interval.ms", zap.String("group", g.id), zap.Duration("dur", idle))
			g.sendLeave(ctx, "poll interval exceeded")
			g.end(generation, kerr.UnknownMemberId)
			return
		}
		resp := new(msg.HeartbeatResponse)
		err := g.c.cl.do(ctx, coordinator, forGroup, &msg.HeartbeatRequest{GroupId: g.id, GenerationId: generation, MemberId: member, GroupInstanceId: g.instance()}, resp)
		if code := codeOf(resp.ErrorCode); err == nil && code != nil {
			err = fmt.Errorf("heartbeat: %w", code)
		}
		switch {
		case err == nil:
			last = time.Now()
		case ctx.Err() != nil:
			return
		case isLost(err) && time.Since(last) < g.c.o.SessionTimeout, errors.Is(err, kerr.CoordinatorLoadInProgress):
			g.c.lg.Warn("heartbeat failed, try again", zap.String("group", g.id), zap.Error(err))
		default:
			g.end(generation, err)
			return
		}
	}
}

// end notes that a generation is over, so that the next Poll joins again.
func (g *group) end(generation int32, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.generation != generation {
		return
	}
	g.stable = false
	g.lastErr = err
	g.c.lg.Info("generation ended", zap.String("group", g.id), zap.Int32("generation", generation), zap.Error(err))
	if !g.forgive(err) {
		g.c.fail(fmt.Errorf("group %s: %w", g.id, err))
	}
	g.poke()
}

// leave commits and tells the coordinator goodbye. A static member stays: it is
// expected back within its session.
func (g *group) leave(ctx context.Context) error {
	g.mu.Lock()
	if g.beating != nil {
		g.beating()
		g.beating = nil
	}
	member := g.member
	g.mu.Unlock()
	var err error
	if !g.c.o.NoAutoCommit {
		err = g.commit(ctx, g.c.positions())
	}
	if member != "" && g.c.o.InstanceID == "" {
		g.sendLeave(ctx, "consumer closed")
	}
	return err
}

func (g *group) sendLeave(ctx context.Context, reason string) {
	g.mu.Lock()
	coordinator, member := g.coordinator, g.member
	g.mu.Unlock()
	if coordinator < 0 || member == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, g.c.o.RequestTimeout)
	defer cancel()
	cn, err := g.c.cl.broker(ctx, coordinator, forGroup)
	if err == nil {
		var v int16
		if v, err = cn.Version(wire.LeaveGroup); err == nil {
			req := &msg.LeaveGroupRequest{GroupId: g.id}
			if v >= 3 {
				req.Members = []msg.LeaveGroupRequestMemberIdentity{{MemberId: member, GroupInstanceId: g.instance(), Reason: &reason}}
			} else {
				req.MemberId = member
			}
			resp := new(msg.LeaveGroupResponse)
			if err = cn.DoVersion(ctx, req, resp, v, 0); err == nil {
				err = codeOf(resp.ErrorCode)
				for _, m := range resp.Members {
					err = errors.Join(err, codeOf(m.ErrorCode))
				}
			}
		}
	}
	if err != nil { // the session will expire
		g.c.lg.Info("group not told of leaving", zap.String("group", g.id), zap.Error(err))
	}
}
