package api

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// everyone is a reader whose sessions visit every partition each time.
func everyone(r *reader) {
	for _, s := range r.h.sessions.all {
		for _, p := range s.parts {
			s.news.mark(p.in)
		}
	}
}

// place is a partition as a request names it, and where its reader is.
type place struct {
	topic  string
	id     prim.UUID
	index  int32
	offset int64
}

func (p *place) name(v int16) string {
	if v >= 13 {
		return fmt.Sprintf("%s-%d", p.id, p.index)
	}
	return fmt.Sprintf("%s-%d", p.topic, p.index)
}

// sessionModel drives a session, and one that visits every partition, through the same
// random life.
type sessionModel struct {
	*fetchRig
	rnd      *rand.Rand
	replicas []int32
	follower int32
	version  int16
	ours     *reader
	oracle   *reader

	size   map[string]int32     // partitions of topics that are there
	ids    map[string]prim.UUID // of topics that are there, or were
	opened map[*replication.Partition]int32
	writes int
	places []*place // of the session, in the order of its answers
}

var topicNames = []string{"a", "b", "c"}

func (m *sessionModel) topic() string { return topicNames[m.rnd.IntN(len(topicNames))] }

// change does something to the topics.
func (m *sessionModel) change() {
	topic := m.topic()
	n := m.size[topic]
	if n == 0 {
		if m.rnd.IntN(3) == 0 {
			m.size[topic] = 1 + m.rnd.Int32N(4)
			m.ids[topic] = m.create(topic, m.size[topic], m.replicas...)
		}
		return
	}
	index := m.rnd.Int32N(n)
	p := m.Replicas.Get(topic, index)
	switch x := m.rnd.IntN(40); {
	case x == 0:
		m.remove(topic)
		m.size[topic] = 0
	case x == 1:
		m.grow(m.ids[topic], n, n+1, m.replicas...)
		m.size[topic]++
	case x < 5:
		leader, replicas := 1+m.rnd.Int32N(2), []int32{1, 2}
		if leader == 1 && m.replicas == nil {
			replicas = replicas[:1]
		}
		m.write(m.partition(m.ids[topic], index, leader, replicas))
	case !p.Leads():
	case x < 8:
		if _, err := p.DeleteRecords(m.rnd.Int64N(p.HighWatermark() + 1)); err != nil {
			m.Error(err)
		}
	case x < 12:
		m.transact(p)
	case x < 30:
		var values []string
		for range 1 + m.rnd.IntN(3) {
			m.writes++
			values = append(values, fmt.Sprint(m.writes))
		}
		m.fetchRig.append(p, values...)
	}
}

// transact begins a transaction, goes on with it, or ends it.
func (m *sessionModel) transact(p *replication.Partition) {
	id := int64(1000 + p.Index)
	sequence := m.opened[p]
	if sequence%4 == 3 {
		end := record.BuildEndTxn(nil, m.rnd.IntN(2) == 0, id, int16(sequence/4), 1, written)
		if _, _, err := p.Append(end, replication.AcksLeader, log.AppendOptions{Origin: log.Coordinator}); err != nil {
			m.Fatal(err)
		}
	} else {
		b := valuesBatch(m, record.Producer{ID: id, Epoch: int16(sequence / 4), Sequence: sequence % 4, Transactional: true}, fmt.Sprintf("%d of a transaction", sequence))
		if _, _, err := p.Append(b, replication.AcksLeader, log.AppendOptions{}); err != nil {
			m.Fatal(err)
		}
	}
	m.opened[p]++
}

// ask makes the next request: some partitions are added, some have moved on, some are
// forgotten.
func (m *sessionModel) ask() *msg.FetchRequest {
	req := m.ours.request(0)
	req.MaxBytes = []int32{1, 100, 300, 1 << 20}[m.rnd.IntN(4)]
	if req.IsolationLevel = 0; m.rnd.IntN(10) > 0 && m.follower < 0 {
		req.IsolationLevel = 1
	}
	req.ReplicaId = m.follower
	named := make(map[string]bool)
	name := func(p *place) {
		ask := askedAt(p.index, p.offset)
		ask.PartitionMaxBytes = []int32{1, 150, 1 << 20, 1 << 20}[m.rnd.IntN(4)]
		if m.rnd.IntN(5) == 0 {
			ask.LastFetchedEpoch = m.rnd.Int32N(m.epochs + 1)
		}
		req.Topics = append(req.Topics, msg.FetchRequestFetchTopic{Topic: p.topic, TopicId: p.id, Partitions: []msg.FetchRequestFetchPartition{ask}})
		named[p.name(m.version)] = true
	}
	fresh := m.ours.id == 0
	if fresh {
		m.places = nil
	}
	for _, p := range m.places {
		if m.rnd.IntN(4) == 0 {
			name(p)
		}
	}
	for range m.rnd.IntN(3) {
		topic := m.topic()
		p := &place{topic: topic, id: m.ids[topic], index: m.rnd.Int32N(5)}
		if same := func(o *place) bool { return o.name(m.version) == p.name(m.version) }; !slices.ContainsFunc(m.places, same) {
			m.places = append(m.places, p)
			name(p)
		}
	}
	if fresh {
		return req
	}
	kept := m.places[:0]
	for _, p := range m.places {
		if m.rnd.IntN(12) == 0 && !named[p.name(m.version)] {
			req.ForgottenTopicsData = append(req.ForgottenTopicsData, msg.FetchRequestForgottenTopic{Topic: p.topic, TopicId: p.id, Partitions: []int32{p.index}})
			continue
		}
		kept = append(kept, p)
	}
	m.places = kept
	return req
}

// check holds an answer to the order of the session's partitions, and moves those with
// records to the end.
func (m *sessionModel) check(answer []found) {
	at := 0
	var sent []*place
	for _, got := range answer {
		for at < len(m.places) && m.places[at].name(m.version) != fmt.Sprintf("%s-%d", got.topic, got.index) {
			at++
		}
		if at == len(m.places) {
			m.Errorf("%s-%d is out of order", got.topic, got.index)
			return
		}
		p := m.places[at]
		if got.bytes > 0 {
			sent = append(sent, p)
		}
		if got.next >= 0 && m.rnd.IntN(4) > 0 {
			p.offset = got.next
		}
		if got.code != 0 {
			p.offset = 0
		}
		if got.start > p.offset {
			p.offset = got.start
		}
	}
	m.places = slices.DeleteFunc(m.places, func(p *place) bool { return slices.Contains(sent, p) })
	m.places = append(m.places, sent...)
}

// TestFetchSessionAgainstAll: a session that visits what may have news gives the same
// answers as one that visits every partition, whatever happens between its fetches.
func TestFetchSessionAgainstAll(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := &sessionModel{fetchRig: newFetchRig(t), rnd: rand.New(rand.NewPCG(seed, 1)), follower: -1, version: 12 + int16(seed%2),
				size: make(map[string]int32), ids: make(map[string]prim.UUID), opened: make(map[*replication.Partition]int32)}
			if seed%3 == 2 {
				m.replicas, m.follower = []int32{1, 2}, 2
			}
			for _, topic := range topicNames {
				m.ids[topic] = prim.UUID{15: 99} // until there is one
			}
			m.ours, m.oracle = m.reader(m.version), m.reader(m.version)
			m.oracle.h = m.another()
			for step := range 200 {
				for range m.rnd.IntN(4) {
					m.change()
				}
				req := m.ask()
				everyone(m.oracle)
				code, want := m.oracle.fetch(req)
				all := shown(code, want)
				code, got := m.ours.fetch(req)
				if shown(code, got) != all || (m.ours.id == 0) != (m.oracle.id == 0) {
					t.Fatalf("step %d:\n got %s\nwant %s", step, shown(code, got), all)
				}
				m.check(got)
				if t.Failed() {
					t.FailNow()
				}
			}
			if saved := m.oracle.h.fetchReads.Load() - m.fetchReads.Load(); saved <= 0 {
				t.Errorf("%d partitions were read, and %d where all are", m.fetchReads.Load(), m.oracle.h.fetchReads.Load())
			}
		})
	}
}
