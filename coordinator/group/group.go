package group

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// State is the state of a classic group, named as Kafka names it.
type State string

// The states of a classic group.
const (
	Empty               State = "Empty"
	PreparingRebalance  State = "PreparingRebalance"
	CompletingRebalance State = "CompletingRebalance"
	Stable              State = "Stable"
	Dead                State = "Dead"
)

// consumerProtocol is the protocol type of consumers, whose subscriptions the
// coordinator can read.
const consumerProtocol = "consumer"

// group is one classic group: its members, and the offsets committed under its
// name. A group of consumers that assign partitions by themselves has offsets
// only.
//
// A record of a group is written when a generation has its assignments, when a static
// member comes back to one that stands, and when the last member has gone. What it says
// comes about by Replay alone, in a live group as in one that is loaded:
//
//   - Stable and Empty, since when, and the generation and protocol of an Empty group
//   - the members' assignments, and the id of a static member that has come back
//   - that there is no such group
//
// What happens in between is in memory only, as in Kafka, and lost with the shard: the
// members that come and go, their joins and syncs, their sessions, and the ids that were
// given out. Members of a group that was loaded notice nothing, since they were written.
type group struct {
	id         string
	state      State
	since      time.Time // when it got into the state
	generation int32
	protocol   string // "" while none is chosen
	kind       string // protocol type; "" while it never had members
	leader     string
	members    map[string]*member
	static     map[string]string    // group instance id -> member id
	pending    map[string]time.Time // ids given out and not yet joined with -> when they lapse

	// What is asked at every join is kept up to date, so that a join costs the same
	// however many members there are.
	order     []*member      // in the order they joined; nil where one has left
	front     int            // before it, order is nil
	joining   int            // members that have rejoined in the rebalance under way
	supported map[string]int // protocol -> members that have it

	// While PreparingRebalance: when the members that have rejoined go on
	// without the others. A group that was empty waits for more members instead:
	// while new ones come, up to remaining longer.
	joinBy    time.Time
	initial   bool
	remaining time.Duration
	newcomer  bool

	// Since the last rebalance came together: when the next one began, and who has
	// come and gone.
	began time.Time
	news  Rebalance

	// While CompletingRebalance or Stable: members that have joined and not
	// asked for their assignment, and until when they may.
	unsynced map[string]bool
	syncBy   time.Time

	// emptying: the decision that is being made has the record that it has no members.
	emptying bool
	// returning is a static member that has come back, while its new id is written.
	returning *member

	offsets map[string]map[int32]committed // topic -> partition

	// deadline is when the group must be looked at, at the latest; heapAt is its
	// place in the machine's heap, -1 if it is not there.
	deadline time.Time
	heapAt   int
	looked   time.Time // when that was done last
}

// committed is one committed offset.
type committed struct {
	offset   int64
	epoch    int32 // leader epoch of the record before it; -1 unknown
	metadata string
	at       time.Time
	expire   time.Time // zero: when the group's retention has passed
	topicID  prim.UUID
	record   int64 // offset of the record that says so
}

// member is one member of a group.
type member struct {
	g          *group // nil while it is in none
	at         int    // in g.order
	id         string
	instance   *string
	clientID   string
	clientHost string
	rebalance  time.Duration
	session    time.Duration
	protocols  []msg.JoinGroupRequestProtocol
	assignment []byte

	lapses time.Time // when its session ends
	isNew  bool      // it joined in the rebalance under way
	join   func(*msg.JoinGroupResponse)
	sync   func(*msg.SyncGroupResponse)
}

func newGroup(id string, now time.Time) *group {
	return &group{id: id, state: Empty, since: now, members: make(map[string]*member), static: make(map[string]string),
		pending: make(map[string]time.Time), unsynced: make(map[string]bool), offsets: make(map[string]map[int32]committed), supported: make(map[string]int), heapAt: -1}
}

func (g *group) to(s State, now time.Time) {
	g.state, g.since = s, now
}

// nextGeneration returns the number of the generation after this one.
func (g *group) nextGeneration() int32 {
	if g.generation == math.MaxInt32 {
		return 1
	}
	return g.generation + 1
}

func (g *group) add(m *member) {
	g.news.note(&g.news.Joined, m.id)
	if len(g.members) == 0 {
		g.leader = m.id
	}
	m.at = len(g.order)
	g.order = append(g.order, m)
	g.enter(m)
	delete(g.pending, m.id)
}

// enter makes m a member at its place in the order.
func (g *group) enter(m *member) {
	m.g = g
	g.members[m.id] = m
	if m.instance != nil {
		g.static[*m.instance] = m.id
	}
	if m.join != nil {
		g.joining++
	}
	g.support(m.protocols, 1)
}

// exit undoes enter. The place in the order stays.
func (g *group) exit(m *member) {
	m.g = nil
	delete(g.members, m.id)
	delete(g.unsynced, m.id)
	if m.join != nil {
		g.joining--
	}
	g.support(m.protocols, -1)
}

// support counts the protocols of a member in or out.
func (g *group) support(protocols []msg.JoinGroupRequestProtocol, n int) {
	seen := make(map[string]bool, len(protocols))
	for _, p := range protocols {
		if seen[p.Name] {
			continue
		}
		seen[p.Name] = true
		if g.supported[p.Name] += n; g.supported[p.Name] == 0 {
			delete(g.supported, p.Name)
		}
	}
}

func (g *group) drop(id string) {
	m := g.members[id]
	if m == nil {
		return
	}
	g.news.note(&g.news.Left, id)
	g.exit(m)
	g.order[m.at] = nil
	if m.instance != nil && g.static[*m.instance] == id {
		delete(g.static, *m.instance)
	}
	if g.leader == id {
		g.leader = ""
		if first := g.first(); first != nil {
			g.leader = first.id
		}
	}
	if len(g.order) > 2*len(g.members)+8 {
		g.closeUp()
	}
}

// succeed has x go on as old in all that old was to the group.
func (g *group) succeed(old, x *member) {
	leads, unsynced := g.leader == old.id, g.unsynced[old.id]
	g.exit(old)
	x.at = old.at
	g.order[x.at] = x
	g.enter(x)
	x.assignment, x.lapses = old.assignment, old.lapses
	if leads {
		g.leader = x.id
	}
	if unsynced {
		g.unsynced[x.id] = true
	}
}

// note adds a member to a list, if it is short.
func (r *Rebalance) note(list *[]string, id string) {
	if len(*list) < namesKept {
		*list = append(*list, id)
	} else {
		r.More++
	}
}

// first returns the member that joined before all others, nil if there is none.
func (g *group) first() *member {
	for g.front < len(g.order) && g.order[g.front] == nil {
		g.front++
	}
	if g.front == len(g.order) {
		return nil
	}
	return g.order[g.front]
}

// closeUp drops the places of members that have left. A loop that goes through the
// order meanwhile has the old one.
func (g *group) closeUp() {
	order := make([]*member, 0, len(g.members)+8)
	for _, m := range g.order {
		if m != nil {
			m.at = len(order)
			order = append(order, m)
		}
	}
	g.order, g.front = order, 0
}

// inOrder goes through the members in the order they joined. Members may be
// dropped meanwhile.
func (g *group) inOrder(yield func(m *member) bool) {
	for _, m := range g.order {
		if m != nil && m.g == g && !yield(m) {
			return
		}
	}
}

// wait has a member that joins again wait for the answer.
func (m *member) wait(join func(*msg.JoinGroupResponse)) {
	if m.join == nil && m.g != nil {
		m.g.joining++
	}
	m.join = join
}

// allJoined reports whether the rebalance under way waits for nobody.
func (g *group) allJoined() bool { return g.joining >= len(g.members) && len(g.pending) == 0 }

// rebalanceTimeout is how long a rebalance waits for its slowest member.
func (g *group) rebalanceTimeout() time.Duration {
	var most time.Duration
	for _, m := range g.members {
		most = max(most, m.rebalance)
	}
	return most
}

// supports reports whether a member with these protocols could join: it has the
// group's protocol type, and a protocol that all members have.
func (g *group) supports(kind string, protocols []msg.JoinGroupRequestProtocol) bool {
	if len(g.members) == 0 {
		return kind != "" && len(protocols) > 0
	}
	if kind != g.kind {
		return false
	}
	for _, p := range protocols {
		if g.common(p.Name) {
			return true
		}
	}
	return false
}

// common reports whether every member has the protocol.
func (g *group) common(name string) bool { return g.supported[name] == len(g.members) }

func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

// matches reports whether a join repeats what the member said before.
func (m *member) matches(protocols []msg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b msg.JoinGroupRequestProtocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
}

// choose returns the protocol that most members like best of those that all
// have.
func (g *group) choose() string {
	votes := make(map[string]int)
	for m := range g.inOrder {
		for _, p := range m.protocols {
			if g.common(p.Name) {
				votes[p.Name]++
				break
			}
		}
	}
	best := ""
	for name, n := range votes {
		if best == "" || n > votes[best] || n == votes[best] && name < best {
			best = name
		}
	}
	return best
}

// wanted returns a function that reports whether a topic is in a subscription of the
// group, or may be, as they cannot be read. It reads them once, when it is first called,
// and holds until the members change.
func (g *group) wanted() func(topic string) bool {
	read := sync.OnceValues(g.subscribed)
	return func(topic string) bool {
		topics, known := read()
		return !known || topics[topic]
	}
}

// subscribed returns the topics that the members have subscribed to; known is false
// where the subscriptions cannot be read.
func (g *group) subscribed() (topics map[string]bool, known bool) {
	if g.kind != consumerProtocol || g.protocol == "" {
		return nil, g.kind == consumerProtocol && len(g.members) == 0
	}
	topics = make(map[string]bool)
	for _, m := range g.members {
		of, ok := subscription(m.metadata(g.protocol))
		if !ok {
			return nil, false
		}
		for _, t := range of {
			topics[t] = true
		}
	}
	return topics, true
}

// subscription reads the topics of a consumer's subscription: int16 version, and
// the body of ConsumerProtocolSubscription. A version above the highest known is
// read as that.
func subscription(b []byte) ([]string, bool) {
	r := prim.NewReader(b)
	v := r.Int16()
	var s msg.ConsumerProtocolSubscription
	_, high := s.Versions()
	if r.Err() != nil || v < 0 {
		return nil, false
	}
	s.DecodeFrom(&r, min(v, high))
	return s.Topics, r.Err() == nil
}

// commit stores an offset.
func (g *group) commit(topic string, partition int32, c committed) {
	t := g.offsets[topic]
	if t == nil {
		t = make(map[int32]committed)
		g.offsets[strings.Clone(topic)] = t
	}
	t[partition] = c
}

// forget drops an offset.
func (g *group) forget(topic string, partition int32) {
	t := g.offsets[topic]
	delete(t, partition)
	if len(t) == 0 {
		delete(g.offsets, topic)
	}
}
