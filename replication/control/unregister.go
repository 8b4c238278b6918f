package control

import (
	"slices"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// UnregisterBroker decides on taking a broker out of the cluster, out of the
// in-sync sets and out of office where it leads.
func UnregisterBroker(m *meta.Image, id int32) ([]meta.Record, error) {
	b := m.Broker(id)
	if b == nil {
		return nil, kerr.Refuse(kerr.BrokerIdNotRegistered, "Broker ID %d is not currently registered", id)
	}
	var out []meta.Record
	m.Topics("", func(t *meta.Topic) bool {
		for i, p := range t.Partitions {
			if r := withoutBroker(m, t, int32(i), p, id); r != nil {
				out = append(out, r)
			}
		}
		return true
	})
	return append(out, &msg.UnregisterBrokerRecord{BrokerId: id, BrokerEpoch: b.Epoch}), nil
}

// withoutBroker returns the record that takes a broker out of a partition's
// in-sync set and leadership, nil if it has neither. The last one in sync stays
// there, since only it is known to have every record.
func withoutBroker(m *meta.Image, t *meta.Topic, index int32, p *meta.Partition, id int32) *msg.PartitionChangeRecord {
	if p.Leader != id && !slices.Contains(p.InSync, id) {
		return nil
	}
	r := new(msg.PartitionChangeRecord)
	r.SetDefaults()
	r.TopicId, r.PartitionId = t.ID, index
	rest := slices.DeleteFunc(slices.Clone(p.InSync), func(other int32) bool { return other == id })
	if len(rest) > 0 {
		r.Isr = rest
	}
	if p.Leader == id {
		r.Leader = meta.NoLeader
		for _, other := range p.Replicas {
			if active(m, other) && slices.Contains(rest, other) {
				r.Leader = other
				break
			}
		}
	} else if len(rest) == 0 {
		return nil
	}
	return r
}
