package control

import (
	"slices"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// EndPoint is a listener of a broker as it is advertised to clients.
type EndPoint struct {
	Name string // of the listener
	Host string
	Port int32
}

// Registration is a broker that starts.
type Registration struct {
	Broker    int32
	Rack      string // "" for none
	LogDirs   []prim.UUID
	EndPoints []EndPoint
	// Unclean means that its logs may have lost their ends.
	Unclean bool
}

// RegisterBroker puts a broker, alive, into the metadata, and with the first one
// the features of the cluster. The broker's epoch is the index of the entry, which
// is known only when it is applied.
//
// What an unclean broker writes next must not pass for what a consumer has read
// already: the leader epochs that end here distinguish the two (KIP-101, KIP-320).
func RegisterBroker(f Facts, b Registration) []meta.Record {
	var out []meta.Record
	if f.Image.Feature(metadataVersion) == 0 {
		out = append(out, &msg.FeatureLevelRecord{Name: metadataVersion, FeatureLevel: MetadataVersion})
	}
	r := &msg.RegisterBrokerRecord{BrokerId: b.Broker, BrokerEpoch: meta.EpochOfEntry, IncarnationId: f.Chance.UUID(), LogDirs: slices.Clone(b.LogDirs)}
	for _, f := range Features {
		r.Features = append(r.Features, msg.RegisterBrokerRecordBrokerFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	if b.Rack != "" {
		r.Rack = &b.Rack
	}
	for _, e := range b.EndPoints {
		r.EndPoints = append(r.EndPoints, msg.RegisterBrokerRecordBrokerEndpoint{Name: e.Name, Host: e.Host, Port: uint16(e.Port)})
	}
	out = append(out, r)
	if b.Unclean {
		out = append(out, afterUncleanShutdown(f.Image, b.Broker)...)
	}
	return out
}
