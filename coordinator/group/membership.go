package group

import (
	"math"
	"time"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// Client is who sends a request.
type Client struct {
	ID   string
	Host string // as Kafka prints it, with a leading slash
}

// Join handles a JoinGroup of the given version. reply is called with the
// answer, at once or when the rebalance has come together.
func (m *Machine) Join(now time.Time, c Client, v int16, req *msg.JoinGroupRequest, reply func(*msg.JoinGroupResponse)) (d coordinator.Decision) {
	refuse := func(code kerr.Code) coordinator.Decision {
		reply(&msg.JoinGroupResponse{ErrorCode: int16(code), GenerationId: -1, MemberId: req.MemberId, ProtocolName: emptyBelow(v, 7)})
		return coordinator.Decision{}
	}
	session := millis(req.SessionTimeoutMs)
	if req.GroupId == "" {
		return refuse(kerr.InvalidGroupId)
	}
	if session < m.conf.MinSession || session > m.conf.MaxSession {
		return refuse(kerr.InvalidSessionTimeout)
	}
	g := m.groups[req.GroupId]
	created := g == nil
	if created {
		if req.MemberId != "" {
			return refuse(kerr.UnknownMemberId)
		}
		g = newGroup(req.GroupId, now)
	}
	if created {
		m.groups[g.id] = g
		defer func() {
			// As Kafka does it, a group is written down before it has members, and is
			// listed from then on.
			if len(d.Records) == 0 && d.Then == nil {
				d.Records = append(d.Records, g.empty(now))
			}
		}()
	}
	if !g.room(req.MemberId, m.conf.MaxSize) {
		g.drop(req.MemberId)
		// Without an id, as it is a member no more.
		reply(&msg.JoinGroupResponse{ErrorCode: int16(kerr.GroupMaxSizeReached), GenerationId: -1, ProtocolName: emptyBelow(v, 7)})
		return coordinator.Decision{}
	}
	if !g.supports(req.ProtocolType, req.Protocols) {
		return refuse(kerr.InconsistentGroupProtocol)
	}
	rebalance := millis(req.RebalanceTimeoutMs)
	if v == 0 {
		rebalance = session
	}
	x := &member{id: req.MemberId, instance: req.GroupInstanceId, clientID: c.ID, clientHost: c.Host, rebalance: rebalance, session: session,
		protocols: req.Protocols, join: reply}
	if req.MemberId == "" {
		if x.id = m.newID(x); len(x.id) > maxString {
			return refuse(kerr.UnknownServerError) // neither an answer nor a record can hold it
		}
		return m.joinNew(g, x, v, req, now)
	}
	_, pending := g.pending[req.MemberId]
	old := g.members[req.MemberId]
	switch {
	case req.GroupInstanceId != nil && g.static[*req.GroupInstanceId] == "":
		return refuse(kerr.UnknownMemberId)
	case req.GroupInstanceId != nil && g.static[*req.GroupInstanceId] != req.MemberId:
		return refuse(kerr.FencedInstanceId)
	case pending:
		return coordinator.Decision{Records: m.admit(g, x, req.ProtocolType, now)}
	case old == nil:
		return refuse(kerr.UnknownMemberId)
	}
	return m.rejoin(g, old, x, v, now)
}

// emptyBelow is the null protocol name of version v and later, and the empty one
// below.
func emptyBelow(v, nullable int16) *string {
	if v >= nullable {
		return nil
	}
	return new(string)
}

// room reports whether the group.max.size allows the member.
func (g *group) room(id string, most int) bool {
	x := g.members[id]
	switch g.state {
	case PreparingRebalance:
		return x != nil && x.join != nil || g.joining < most
	case CompletingRebalance, Stable:
		return x != nil || len(g.members) < most
	}
	return true
}

// maxString is the length in bytes of the longest string of the protocol.
const maxString = math.MaxInt16

// newID makes an id for a member that has none.
func (m *Machine) newID(x *member) string {
	prefix := x.clientID
	if x.instance != nil {
		prefix = *x.instance
	}
	return prefix + "-" + m.conf.NewID()
}

// joinNew lets a member in that has just got its id.
func (m *Machine) joinNew(g *group, x *member, v int16, req *msg.JoinGroupRequest, now time.Time) coordinator.Decision {
	if x.instance != nil {
		if was := g.static[*x.instance]; was != "" {
			return m.replaceStatic(g, g.members[was], x, v, now)
		}
		return coordinator.Decision{Records: m.admit(g, x, req.ProtocolType, now)}
	}
	if v >= 4 { // KIP-394: only a member that comes back with its id counts
		g.pending[x.id] = now.Add(x.session)
		m.by(g, g.pending[x.id])
		x.answerJoin(&msg.JoinGroupResponse{ErrorCode: int16(kerr.MemberIdRequired), GenerationId: -1, MemberId: x.id, ProtocolName: emptyBelow(v, 7)})
		return coordinator.Decision{}
	}
	return coordinator.Decision{Records: m.admit(g, x, req.ProtocolType, now)}
}

// admit adds a member and starts a rebalance, or adds it to the one under way.
func (m *Machine) admit(g *group, x *member, kind string, now time.Time) []coordinator.Record {
	if len(g.members) == 0 {
		g.kind = kind
	}
	x.isNew = true
	g.add(x)
	if g.state == PreparingRebalance && g.initial {
		g.newcomer = true
	}
	x.lapses = now.Add(newMemberTimeout)
	m.by(g, x.lapses)
	return m.rebalance(g, now)
}

// replaceStatic lets a static member in again under a new id (KIP-345). While
// the group would choose the same protocol, it need not rebalance.
func (m *Machine) replaceStatic(g *group, old, x *member, v int16, now time.Time) coordinator.Decision {
	g.succeed(old, x)
	if g.state != Stable || g.choose() != g.protocol {
		fenced := int16(kerr.FencedInstanceId)
		old.answerJoin(&msg.JoinGroupResponse{ErrorCode: fenced, GenerationId: -1, MemberId: old.id})
		old.answerSync(&msg.SyncGroupResponse{ErrorCode: fenced})
		m.alive(g, x, now)
		return coordinator.Decision{Records: m.rebalance(g, now)}
	}
	// The new id is written, so that it survives a failover. It counts once it is.
	assignments := make(map[string][]byte, len(g.members))
	for id, y := range g.members {
		assignments[id] = y.assignment
	}
	answer := m.joined(g, x)
	if g.leader == x.id {
		answer.SkipAssignment = v >= 9 // KIP-814: it leads, and the assignment stands
		if v >= 9 {
			answer.Members = g.subscriptions()
		} else {
			answer.Leader = old.id // an older one would compute an assignment that nobody wants
			answer.Members = nil
		}
	}
	d := coordinator.Decision{Records: []coordinator.Record{g.record(assignments, now)}, Then: func(err error) {
		g.returning = nil
		if err != nil {
			answer = &msg.JoinGroupResponse{ErrorCode: int16(coordinator.Code(err)), GenerationId: -1, MemberId: x.id}
		} else {
			m.alive(g, x, now)
		}
		if old.g == nil { // it may have waited for the records before these
			old.answerSync(&msg.SyncGroupResponse{ErrorCode: int16(kerr.FencedInstanceId)})
		}
		x.answerJoin(answer)
	}}
	g.succeed(x, old)
	g.returning = x
	return d
}

// rejoin handles the join of a member that the group has.
func (m *Machine) rejoin(g *group, old, x *member, v int16, now time.Time) coordinator.Decision {
	same := old.matches(x.protocols)
	switch {
	case g.state == CompletingRebalance && same,
		g.state == Stable && same && g.leader != old.id:
		// It did not get, or does not need, another answer than the last one.
		m.alive(g, old, now)
		x.answerJoin(m.joined(g, old))
		return coordinator.Decision{}
	case g.state == Empty || g.state == Dead:
		x.answerJoin(&msg.JoinGroupResponse{ErrorCode: int16(kerr.UnknownMemberId), GenerationId: -1, MemberId: x.id, ProtocolName: emptyBelow(v, 7)})
		return coordinator.Decision{}
	}
	old.answerJoin(&msg.JoinGroupResponse{ErrorCode: int16(kerr.RebalanceInProgress), GenerationId: -1, MemberId: x.id, ProtocolName: emptyBelow(v, 7)})
	g.support(old.protocols, -1)
	g.support(x.protocols, 1)
	old.protocols, old.rebalance, old.session, old.clientID, old.clientHost = x.protocols, x.rebalance, x.session, x.clientID, x.clientHost
	old.wait(x.join)
	m.alive(g, old, now)
	return coordinator.Decision{Records: m.rebalance(g, now)}
}

// joined is the answer to a member of the current generation. The leader gets
// the subscriptions of all.
func (m *Machine) joined(g *group, x *member) *msg.JoinGroupResponse {
	r := &msg.JoinGroupResponse{GenerationId: g.generation, ProtocolType: &g.kind, ProtocolName: &g.protocol, Leader: g.leader, MemberId: x.id}
	if g.leader == x.id {
		r.Members = g.subscriptions()
	}
	// The answer outlives the turn: it gets strings of its own.
	kind, protocol := g.kind, g.protocol
	r.ProtocolType, r.ProtocolName = &kind, &protocol
	return r
}

func (g *group) subscriptions() []msg.JoinGroupResponseMember {
	out := make([]msg.JoinGroupResponseMember, 0, len(g.members))
	for x := range g.inOrder {
		out = append(out, msg.JoinGroupResponseMember{MemberId: x.id, GroupInstanceId: x.instance, Metadata: x.metadata(g.protocol)})
	}
	return out
}

// rebalance starts a rebalance where none is under way, and completes it if it
// waits for nobody.
func (m *Machine) rebalance(g *group, now time.Time) []coordinator.Record {
	switch g.state {
	case Stable, CompletingRebalance, Empty:
		m.prepare(g, now)
	}
	if g.state == PreparingRebalance && !g.initial && g.allJoined() {
		return m.complete(g, now)
	}
	return nil
}

func (m *Machine) prepare(g *group, now time.Time) {
	g.began = now
	for x := range g.inOrder {
		if g.state == CompletingRebalance {
			x.assignment = nil
		}
		if x.sync != nil { // it sent no heartbeats while it waited
			x.answerSync(&msg.SyncGroupResponse{ErrorCode: int16(kerr.RebalanceInProgress)})
			m.alive(g, x, now)
		}
	}
	clear(g.unsynced)
	timeout := g.rebalanceTimeout()
	g.initial, g.newcomer = g.state == Empty, false
	if g.initial {
		delay := min(m.conf.InitialDelay, timeout)
		g.remaining = max(timeout-delay, 0)
		timeout = delay
	}
	g.to(PreparingRebalance, now)
	g.joinBy = now.Add(timeout)
	m.by(g, g.joinBy)
}

// look does what is due in a group: a rebalance that waited long enough, and
// members that were silent for too long.
func (m *Machine) look(g *group, now time.Time) (out []coordinator.Record) {
	for id, t := range g.pending {
		if !t.After(now) {
			delete(g.pending, id)
		}
	}
	for x := range g.inOrder {
		if x.lapses.After(now) || !x.isNew && (x.join != nil || x.sync != nil) {
			continue
		}
		out = append(out, m.leave(g, x, kerr.UnknownMemberId, now)...)
	}
	if len(g.unsynced) > 0 && !g.syncBy.After(now) && (g.state == CompletingRebalance || g.state == Stable) {
		for x := range g.inOrder {
			if g.unsynced[x.id] {
				g.drop(x.id)
			}
		}
		clear(g.unsynced)
		out = append(out, m.settle(g, now)...)
	}
	if g.state == PreparingRebalance && !g.joinBy.After(now) {
		if g.initial && g.newcomer && g.remaining > 0 {
			delay := min(m.conf.InitialDelay, g.remaining)
			g.remaining -= delay
			g.newcomer = false
			g.joinBy = now.Add(delay)
			return out
		}
		return append(out, m.complete(g, now)...)
	}
	if g.state == PreparingRebalance && !g.initial && g.allJoined() {
		return append(out, m.complete(g, now)...)
	}
	return out
}

// settle starts a rebalance after members were dropped.
func (m *Machine) settle(g *group, now time.Time) []coordinator.Record {
	switch g.state {
	case Stable, CompletingRebalance:
		return m.rebalance(g, now)
	case PreparingRebalance:
		if !g.initial && g.allJoined() {
			return m.complete(g, now)
		}
	}
	return nil
}

// minChance is how long static members get to come back at least, whatever they
// ask for: they are looked for again and again.
const minChance = 100 * time.Millisecond

// complete ends the joining phase: those that did not rejoin are out, and a new
// generation begins.
func (m *Machine) complete(g *group, now time.Time) []coordinator.Record {
	for x := range g.inOrder {
		if x.join == nil && x.instance == nil {
			g.drop(x.id)
		}
	}
	if len(g.members) > 0 && g.joining == 0 {
		// Only static members are left, and none came: they get another chance.
		g.joinBy = now.Add(max(g.rebalanceTimeout(), minChance))
		g.initial = false
		m.by(g, g.joinBy)
		return nil
	}
	if x := g.members[g.leader]; x != nil && x.join == nil {
		for y := range g.inOrder { // the leader must be there to assign
			if y.join != nil {
				g.leader = y.id
				break
			}
		}
	}
	g.initial = false
	if len(g.members) == 0 { // the group is Empty once that is written
		if g.emptying {
			return nil
		}
		g.emptying = true
		m.emptied = append(m.emptied, g)
		g.joinBy = now.Add(retryEmptied)
		return []coordinator.Record{g.emptied(now)}
	}
	g.generation = g.nextGeneration()
	m.report(g, now)
	g.protocol = g.choose()
	g.to(CompletingRebalance, now)
	clear(g.unsynced)
	g.syncBy = now.Add(g.rebalanceTimeout())
	m.by(g, g.syncBy)
	for x := range g.inOrder {
		x.isNew = false
		g.unsynced[x.id] = true
		x.answerJoin(m.joined(g, x))
		m.alive(g, x, now)
	}
	return nil
}

// report reports a rebalance that has come together.
func (m *Machine) report(g *group, now time.Time) {
	if m.conf.Rebalanced != nil {
		g.news.Group, g.news.Generation, g.news.Members, g.news.Took = g.id, g.generation, len(g.members), now.Sub(g.began)
		m.conf.Rebalanced(g.news)
	}
	g.news = Rebalance{}
}

// retryEmptied is when it is tried again to write that a group has no members.
const retryEmptied = time.Second

// decision returns records with what comes after them. A group that has lost its last
// member stays in its rebalance until that is written.
func (m *Machine) decision(records []coordinator.Record, now time.Time) coordinator.Decision {
	d := coordinator.Decision{Records: records, Divisible: true}
	emptied := m.emptied
	if m.emptied = nil; len(emptied) == 0 {
		return d
	}
	for _, g := range emptied {
		g.emptying = false
	}
	d.Then = func(err error) {
		for _, g := range emptied {
			switch {
			case m.groups[g.id] != g:
			case g.state == Empty && err == nil:
				m.report(g, now)
			case g.state == PreparingRebalance && len(g.members) == 0:
				m.by(g, g.joinBy)
			}
		}
	}
	return d
}

// leave takes a member out; its requests that wait are answered with code.
func (m *Machine) leave(g *group, x *member, code kerr.Code, now time.Time) []coordinator.Record {
	x.answerJoin(&msg.JoinGroupResponse{ErrorCode: int16(code), GenerationId: -1, MemberId: x.id})
	x.answerSync(&msg.SyncGroupResponse{ErrorCode: int16(code)})
	g.drop(x.id)
	return m.settle(g, now)
}

// find returns the member that a request of the current generation comes from.
func (m *Machine) find(groupID, memberID string, instance *string) (*group, *member, kerr.Code) {
	g := m.groups[groupID]
	if g == nil {
		return nil, nil, kerr.UnknownMemberId
	}
	if instance != nil {
		switch is, ok := g.static[*instance]; {
		case !ok:
			return g, nil, kerr.UnknownMemberId
		case is != memberID:
			return g, nil, kerr.FencedInstanceId
		}
	}
	x := g.members[memberID]
	if x == nil {
		return g, nil, kerr.UnknownMemberId
	}
	return g, x, kerr.None
}

// Sync handles a SyncGroup of the given version. reply is called with the
// answer, at once or when the leader has sent the assignments.
func (m *Machine) Sync(now time.Time, v int16, req *msg.SyncGroupRequest, reply func(*msg.SyncGroupResponse)) coordinator.Decision {
	refuse := func(code kerr.Code) coordinator.Decision {
		reply(&msg.SyncGroupResponse{ErrorCode: int16(code)})
		return coordinator.Decision{}
	}
	g, x, code := m.find(req.GroupId, req.MemberId, req.GroupInstanceId)
	switch {
	case code != kerr.None:
		return refuse(code)
	case req.GenerationId != g.generation:
		return refuse(kerr.IllegalGeneration)
	case v >= 5 && (req.ProtocolType == nil || *req.ProtocolType != g.kind || req.ProtocolName == nil || *req.ProtocolName != g.protocol):
		return refuse(kerr.InconsistentGroupProtocol)
	}
	switch g.state {
	case PreparingRebalance:
		return refuse(kerr.RebalanceInProgress)
	case Stable:
		delete(g.unsynced, x.id)
		m.alive(g, x, now)
		answer := g.synced(x)
		return coordinator.Decision{Then: func(err error) { // once the assignment is committed
			if err != nil {
				answer = &msg.SyncGroupResponse{ErrorCode: int16(coordinator.Code(err))}
			}
			reply(answer)
		}}
	case CompletingRebalance:
	default:
		return refuse(kerr.UnknownMemberId)
	}
	x.answerSync(&msg.SyncGroupResponse{ErrorCode: int16(kerr.RebalanceInProgress)})
	x.sync = reply
	delete(g.unsynced, x.id)
	if g.leader != x.id {
		return coordinator.Decision{}
	}
	assignments := make(map[string][]byte, len(g.members))
	for id := range g.members {
		assignments[id] = []byte{}
	}
	for _, a := range req.Assignments {
		if g.members[a.MemberId] != nil {
			assignments[a.MemberId] = a.Assignment
		}
	}
	generation := g.generation
	return coordinator.Decision{Records: []coordinator.Record{g.record(assignments, now)}, Then: func(err error) {
		switch {
		case g.generation != generation:
		case g.state == CompletingRebalance: // it is not written
			for y := range g.inOrder {
				y.assignment = nil
				if y.sync != nil {
					y.answerSync(&msg.SyncGroupResponse{ErrorCode: int16(coordinator.Code(err))})
					m.alive(g, y, now)
				}
			}
			m.prepare(g, now)
		case g.state == Stable:
			for y := range g.inOrder {
				if y.sync == nil {
					continue
				}
				m.alive(g, y, now)
				if err != nil { // it is written, and may be lost
					y.answerSync(&msg.SyncGroupResponse{ErrorCode: int16(coordinator.Code(err))})
				} else {
					y.answerSync(g.synced(y))
				}
			}
		}
		// Where another rebalance came first, it has answered the members that waited.
	}}
}

func (g *group) synced(x *member) *msg.SyncGroupResponse {
	kind, protocol := g.kind, g.protocol
	return &msg.SyncGroupResponse{ProtocolType: &kind, ProtocolName: &protocol, Assignment: x.assignment}
}

// Heartbeat handles a Heartbeat.
func (m *Machine) Heartbeat(now time.Time, req *msg.HeartbeatRequest) kerr.Code {
	g, x, code := m.find(req.GroupId, req.MemberId, req.GroupInstanceId)
	switch {
	case code != kerr.None:
		return code
	case req.GenerationId != g.generation:
		return kerr.IllegalGeneration
	case g.state == Empty || g.state == Dead:
		return kerr.UnknownMemberId
	}
	m.alive(g, x, now)
	if g.state == PreparingRebalance {
		return kerr.RebalanceInProgress
	}
	return kerr.None
}

// Leave handles a LeaveGroup: the codes are those of its members.
func (m *Machine) Leave(now time.Time, groupID string, members []msg.LeaveGroupRequestMemberIdentity) (coordinator.Decision, []kerr.Code, kerr.Code) {
	if groupID == "" {
		return coordinator.Decision{}, nil, kerr.InvalidGroupId
	}
	codes := make([]kerr.Code, len(members))
	g := m.groups[groupID]
	var out []coordinator.Record
	for i, who := range members {
		if g == nil {
			codes[i] = kerr.UnknownMemberId
			continue
		}
		id := who.MemberId
		if id == "" && who.GroupInstanceId != nil { // an operator takes a static member out
			id = g.static[*who.GroupInstanceId]
		}
		if _, ok := g.pending[id]; ok && who.GroupInstanceId == nil {
			delete(g.pending, id)
			out = append(out, m.settle(g, now)...)
			continue
		}
		_, x, code := m.find(groupID, id, who.GroupInstanceId)
		if codes[i] = code; code == kerr.None {
			out = append(out, m.leave(g, x, kerr.UnknownMemberId, now)...)
		}
	}
	return m.decision(out, now), codes, kerr.None
}
