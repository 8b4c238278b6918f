package group

import (
	"bytes"
	"slices"
	"strings"
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
type group struct {
	id         string
	state      State
	since      time.Time // when it got into the state
	generation int32
	protocol   string // "" while none is chosen
	kind       string // protocol type; "" while it never had members
	leader     string
	members    map[string]*member
	order      []string             // member ids in the order they joined
	static     map[string]string    // group instance id -> member id
	pending    map[string]time.Time // ids given out and not yet joined with -> when they lapse

	// While PreparingRebalance: when the members that have rejoined go on
	// without the others. A group that was empty waits for more members instead:
	// while new ones come, up to remaining longer.
	joinBy    time.Time
	initial   bool
	remaining time.Duration
	newcomer  bool

	// While CompletingRebalance or Stable: members that have joined and not
	// asked for their assignment, and until when they may.
	unsynced map[string]bool
	syncBy   time.Time

	offsets map[string]map[int32]committed // topic -> partition

	// deadline is when the group must be looked at, at the latest; heapAt is its
	// place in the machine's heap, -1 if it is not there.
	deadline time.Time
	heapAt   int
}

// committed is one committed offset.
type committed struct {
	offset   int64
	epoch    int32 // leader epoch of the record before it; -1 unknown
	metadata string
	at       time.Time
	expire   time.Time // zero: when the group's retention has passed
	topicID  prim.UUID
}

// member is one member of a group.
type member struct {
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
		pending: make(map[string]time.Time), unsynced: make(map[string]bool), offsets: make(map[string]map[int32]committed), heapAt: -1}
}

func (g *group) to(s State, now time.Time) {
	g.state, g.since = s, now
}

func (g *group) add(m *member) {
	if len(g.members) == 0 {
		g.leader = m.id
	}
	g.members[m.id] = m
	g.order = append(g.order, m.id)
	if m.instance != nil {
		g.static[*m.instance] = m.id
	}
	delete(g.pending, m.id)
}

func (g *group) drop(id string) {
	m := g.members[id]
	if m == nil {
		return
	}
	delete(g.members, id)
	delete(g.unsynced, id)
	g.order = slices.DeleteFunc(g.order, func(x string) bool { return x == id })
	if m.instance != nil && g.static[*m.instance] == id {
		delete(g.static, *m.instance)
	}
	if g.leader == id {
		g.leader = ""
		if len(g.order) > 0 {
			g.leader = g.order[0]
		}
	}
}

// waiting returns the number of members that have rejoined in the rebalance
// under way.
func (g *group) waiting() int {
	n := 0
	for _, m := range g.members {
		if m.join != nil {
			n++
		}
	}
	return n
}

// allJoined reports whether the rebalance under way waits for nobody.
func (g *group) allJoined() bool { return g.waiting() >= len(g.members) && len(g.pending) == 0 }

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
func (g *group) common(name string) bool {
	for _, m := range g.members {
		if !m.has(name) {
			return false
		}
	}
	return true
}

func (m *member) has(name string) bool {
	return slices.ContainsFunc(m.protocols, func(p msg.JoinGroupRequestProtocol) bool { return p.Name == name })
}

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
	for _, id := range g.order {
		for _, p := range g.members[id].protocols {
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

// subscribed reports whether a topic is in a subscription of the group; known
// is false where the subscriptions cannot be read.
func (g *group) subscribed(topic string) (yes, known bool) {
	if g.kind != consumerProtocol || g.protocol == "" {
		return false, g.kind == consumerProtocol && len(g.members) == 0
	}
	for _, m := range g.members {
		topics, ok := subscription(m.metadata(g.protocol))
		if !ok {
			return false, false
		}
		if slices.Contains(topics, topic) {
			yes = true
		}
	}
	return yes, true
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
