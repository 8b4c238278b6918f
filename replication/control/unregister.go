package control

import (
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// UnregisterBroker decides on taking a broker out of the cluster, out of the
// in-sync sets and out of office where it leads.
func UnregisterBroker(f Facts, id int32) ([]meta.Record, error) {
	b := f.Image.Broker(id)
	if b == nil {
		return nil, kerr.Refuse(kerr.BrokerIdNotRegistered, "Broker ID %d is not currently registered", id)
	}
	return append(f.withdraw(id), &msg.UnregisterBrokerRecord{BrokerId: id, BrokerEpoch: b.Epoch}), nil
}
