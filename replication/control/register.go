package control

import (
	"slices"

	"github.com/klamm-io/klamm/bugs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// EndPoint is a listener of a broker as it is advertised to clients.
type EndPoint struct {
	Name     string // of the listener
	Host     string
	Port     int32
	Protocol int16 // security protocol: 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL
}

// Registration is a broker that starts.
type Registration struct {
	Broker int32
	// Incarnation is the process; zero stands for one that nobody has seen before.
	Incarnation prim.UUID
	Rack        string // "" for none
	LogDirs     []prim.UUID
	EndPoints   []EndPoint
	// Features are those that the broker knows; nil means those of this version.
	Features []Feature
	// Unclean means that its logs may have lost their ends.
	Unclean bool
	// PreviousEpoch is the epoch that the broker shut down cleanly in, -1 if that is not
	// known. Any but its last one means that its logs may have lost their ends, too
	// (KIP-966).
	PreviousEpoch int64
	// Alone means that this broker is the only voter and no other one is registered. It
	// leads at once, for nobody else could tell whether it lives; PreviousEpoch does not
	// count.
	Alone bool
	// SessionAlive means that the controller has heard of the broker as it is registered
	// so far, not long ago: see Sessions.Alive.
	SessionAlive bool
}

// RegisterBroker puts a broker into the metadata, and with the first one the features of
// the cluster. The broker is fenced until it has caught up: see Sessions. Its epoch is the
// index of the entry, which is known only when it is applied. A process that registers
// again keeps its epoch and state (ClusterControlManager.registerBroker).
//
// A new process leaves the in-sync sets, and where it may have lost the end of a log the
// eligible leaders too, in the same entry: a broker that restarts within its session is
// never fenced, and nobody else would know.
func RegisterBroker(f Facts, b Registration) ([]meta.Record, error) {
	old := f.Image.Broker(b.Broker)
	same := old != nil && old.Incarnation == b.Incarnation && !b.Incarnation.IsZero()
	if old != nil && !same && b.SessionAlive && !b.Alone {
		return nil, kerr.Refuse(kerr.DuplicateBrokerRegistration, "Another broker is registered with that broker id.")
	}
	if err := checkDirs(f.Image, b); err != nil {
		return nil, err
	}
	if b.Features == nil {
		b.Features = Features
	}
	var out []meta.Record
	if f.Image.Feature(metadataVersion) == 0 {
		out = f.newCluster()
	} else if err := checkFeatures(f.Image, b.Features); err != nil {
		return nil, err
	}
	r := &msg.RegisterBrokerRecord{BrokerId: b.Broker, BrokerEpoch: meta.EpochOfEntry, IncarnationId: b.Incarnation, Fenced: !b.Alone, LogDirs: slices.Clone(b.LogDirs)}
	if same {
		r.BrokerEpoch, r.Fenced, r.InControlledShutdown = old.Epoch, old.Fenced && !b.Alone, old.ShuttingDown
	} else if b.Incarnation.IsZero() {
		r.IncarnationId = f.Chance.UUID()
	}
	for _, f := range b.Features {
		r.Features = append(r.Features, msg.RegisterBrokerRecordBrokerFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	if b.Rack != "" {
		r.Rack = &b.Rack
	}
	for _, e := range b.EndPoints {
		r.EndPoints = append(r.EndPoints, msg.RegisterBrokerRecordBrokerEndpoint{Name: e.Name, Host: e.Host, Port: uint16(e.Port), SecurityProtocol: e.Protocol})
	}
	out = append(out, r)
	if same {
		return out, nil
	}
	if bugs.Planted(bugs.UncleanStaysInSync) {
		return out, nil
	}
	return append(out, f.restarted(b, old)...), nil
}

// newCluster returns the features that a new cluster has, with what they ask for.
func (f Facts) newCluster() []meta.Record {
	return append([]meta.Record{&msg.FeatureLevelRecord{Name: metadataVersion, FeatureLevel: MetadataVersion},
		&msg.FeatureLevelRecord{Name: eligibleLeaders, FeatureLevel: 1}}, f.eligibility(true)...)
}

// checkDirs refuses log directories that are another broker's, or twice there: they are
// copies.
func checkDirs(m *meta.Image, b Registration) error {
	for i, dir := range b.LogDirs {
		if slices.Contains(b.LogDirs[:i], dir) {
			return kerr.Refuse(kerr.InvalidRegistration, "Duplicate directory ID in request")
		}
	}
	for _, other := range m.Brokers() {
		for _, dir := range other.LogDirs {
			if other.ID != b.Broker && slices.Contains(b.LogDirs, dir) {
				return kerr.Refuse(kerr.InvalidRegistration, "Broker %d is already registered with directory %s", other.ID, dir)
			}
		}
	}
	return nil
}

// checkFeatures refuses a broker that does not know a finalized level of its features.
func checkFeatures(m *meta.Image, features []Feature) error {
	for _, f := range features {
		if level := m.Feature(f.Name); level != 0 && (level < f.Min || level > f.Max) {
			return kerr.Refuse(kerr.UnsupportedVersion, "Unable to register because the broker does not support finalized version %d of %s. The broker wants a version between %d and %d, inclusive.", level, f.Name, f.Min, f.Max)
		}
	}
	return nil
}

// restarted returns the changes of the partitions of a broker of which a new process has
// registered (ReplicationControlManager.handleBrokerShutdown).
func (f Facts) restarted(b Registration, old *meta.Broker) []meta.Record {
	id := b.Broker
	unclean := b.Unclean || old == nil || !b.Alone && b.PreviousEpoch != old.Epoch
	someGone := old != nil && slices.ContainsFunc(old.LogDirs, func(dir prim.UUID) bool { return !slices.Contains(b.LogDirs, dir) })
	// gone reports whether the log directory of the replica is not there any more.
	gone := func(p *meta.Partition) bool {
		dir := directoryOf(p, id)
		return !dir.IsZero() && !slices.Contains(b.LogDirs, dir)
	}
	lost := func(p *meta.Partition) bool {
		return unclean || gone(p) || someGone && directoryOf(p, id).IsZero() // which may have been in any
	}
	touched := func(p *meta.Partition) bool {
		return slices.Contains(p.Replicas, id) && (gone(p) || p.Leader == id || slices.Contains(p.InSync, id) ||
			lost(p) && slices.Contains(p.EligibleLeader, id) || b.Alone && p.Leader == meta.NoLeader)
	}
	return f.sweep(touched, func(c *partitionChange) {
		// What an unclean broker writes next must not pass for what a consumer has read
		// already: the leader epochs that end here distinguish the two (KIP-101, KIP-320).
		last := b.Alone && slices.Equal(c.was.InSync, []int32{id}) // it is all there is
		switch l := lost(c.was); {
		case last:
			c.newEpoch = l && c.was.Leader == id
		case l:
			c.inSync, c.unclean = without(c.inSync, id), func(other int32) bool { return other == id }
		case !b.Alone:
			c.inSync = without(c.inSync, id)
		}
		acceptable := c.acceptable
		c.acceptable = func(other int32) bool { return other == id && b.Alone || other != id && acceptable(other) }
		if gone(c.was) {
			c.directories = slices.Clone(c.directories)
			at := slices.Index(c.replicas, id)
			if c.directories[at] = (prim.UUID{}); len(b.LogDirs) == 1 {
				c.directories[at] = b.LogDirs[0]
			}
		}
	})
}

// directoryOf returns the log directory of a replica, zero where it is not known.
func directoryOf(p *meta.Partition, id int32) prim.UUID {
	if at := slices.Index(p.Replicas, id); at >= 0 && at < len(p.Directories) {
		return p.Directories[at]
	}
	return prim.UUID{}
}
