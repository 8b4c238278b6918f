package replication_test

import (
	"fmt"
	"slices"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// follow has a partition take records that another replica does not get, follow that
// one, whose log is another one from the high watermark on, and lead again.
func (m *model) follow() {
	t, mp, p := m.pick()
	if p == nil {
		return
	}
	l := p.Log()
	m.settle(l)
	m.lead(p, 1, []int32{1, 2})
	high := l.HighWatermark()
	for range m.r.IntN(4) {
		m.extend(mp, func(batch []byte) error {
			_, commit, err := p.Append(batch, replication.AcksLeader, log.AppendOptions{})
			if err == nil && commit != nil {
				<-commit.Done()
				err = commit.Err()
			}
			return err
		})
	}
	if l.HighWatermark() != high {
		m.Fatalf("%s: %s-%d: high watermark %d, and another replica in sync has what is below %d", m, t.name, p.Index, l.HighWatermark(), high)
	}
	if m.r.IntN(2) == 0 { // checkpoints tell of what is cut
		m.must(l.Flush())
		m.must(m.s.r.Checkpoint())
	}
	m.lead(p, 2, []int32{1, 2})
	if p.Role() != replication.Follower {
		m.Fatalf("%s: %s-%d: %s while another broker leads", m, t.name, p.Index, p.Role())
	}
	cut := high + m.r.Int64N(l.EndOffset()-high+1)
	m.op += fmt.Sprintf(", %s-%d from %d to %d", t.name, p.Index, l.EndOffset(), cut)
	if !m.must(p.TruncateTo(cut)) {
		return
	}
	end := l.EndOffset() // below cut, if a batch holds it
	if end > cut || end < high {
		m.Fatalf("%s: %s-%d: log end %d after a truncation to %d, high watermark %d", m, t.name, p.Index, end, cut, high)
	}
	m.truncated(mp, end)
	for range m.r.IntN(5) {
		m.extend(mp, func(batch []byte) error {
			record.Batch(batch).SetBaseOffset(mp.end)
			record.Batch(batch).SetLeaderEpoch(p.LeaderEpoch())
			_, err := p.AppendAsFollower(p.LeaderEpoch(), batch, mp.end, 0)
			return err
		})
	}
	m.lead(p, 1, []int32{1})
	if *modelFault && m.r.IntN(4) == 0 {
		m.op += ", and the power fails"
		m.crash(m.powerCut())
	}
}

// lead makes another broker the leader.
func (m *model) lead(p *replication.Partition, leader int32, replicas []int32) {
	r := new(msg.PartitionChangeRecord)
	r.SetDefaults()
	r.TopicId, r.PartitionId, r.Leader, r.Replicas, r.Isr = p.TopicID, p.Index, leader, replicas, replicas
	if err := m.s.c.Change(m.Context(), func(*meta.Image) ([]meta.Record, error) { return []meta.Record{r}, nil }); err != nil {
		m.Fatalf("%s: %v", m, err)
	}
}

// truncated takes what was cut out of the model.
func (m *model) truncated(mp *modelPartition, end int64) {
	mp.records = slices.DeleteFunc(mp.records, func(x modelRecord) bool { return x.offset >= end })
	mp.end, mp.durable, mp.maybe = end, min(mp.durable, end), nil
	for id := range mp.producers {
		known := &mp.producers[id]
		if n := len(known.batches); n > 0 { // a snapshot has the last one
			known.batches = known.batches[n-1:]
		}
	}
}

// extend makes a batch without a producer and has it appended.
func (m *model) extend(mp *modelPartition, appends func(batch []byte) error) {
	var records []modelRecord
	b := record.NewBuilder(record.None, 0)
	for i := range 1 + m.r.Int64N(4) {
		m.made++
		x := modelRecord{mp.end + i, fmt.Sprint("key", m.r.IntN(30)), fmt.Sprintf("f%d-%0*d", m.made, m.r.IntN(300), 0)}
		records = append(records, x)
		b.Append(m.clk.Now().UnixMilli(), []byte(x.key), []byte(x.value), nil)
	}
	out, err := b.Finish(record.NoProducer)
	if err != nil {
		m.Fatal(err)
	}
	if !m.must(appends(out)) {
		return
	}
	mp.records = append(mp.records, records...)
	mp.end += int64(len(records))
}
