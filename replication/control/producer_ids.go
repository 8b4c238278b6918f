package control

import (
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
)

// producerIDBlock is how many producer ids a broker gets at a time.
const producerIDBlock = 1000

// ProducerIDs gives a broker a block of producer ids that nobody else gets: n of
// them from first on. A broker that has registered anew since it asked gets none.
func ProducerIDs(m *meta.Image, broker int32, brokerEpoch int64) (out []meta.Record, first int64, n int32, err error) {
	if err := checkEpoch(m, broker, brokerEpoch); err != nil {
		return nil, 0, 0, err
	}
	first = m.NextProducerID()
	return []meta.Record{&msg.ProducerIdsRecord{BrokerId: broker, BrokerEpoch: brokerEpoch, NextProducerId: first + producerIDBlock}}, first, producerIDBlock, nil
}
