package control

import (
	"fmt"
	"slices"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// Feature is a range of levels of a feature that this version knows.
type Feature struct {
	Name     string
	Min, Max int16
}

// Features are the features that a cluster of this version can finalize. As in
// Kafka, one whose highest level is 0 is not known: a client that learns of
// group.version takes it that its protocol is served.
var Features = []Feature{{eligibleLeaders, 0, 1}, {metadataVersion, 7, MetadataVersion}}

const (
	metadataVersion = "metadata.version"
	eligibleLeaders = "eligible.leader.replicas.version" // KIP-966
)

// MetadataVersion is the level of metadata.version that a new cluster is
// finalized at: 4.3-IV0.
const MetadataVersion = 30

// metadataChanged are the levels of metadata.version that brought records or
// fields which a lower level would lose.
var metadataChanged = []int16{8, 11, 13, 14, 15, 17, 23, 30}

// FeatureUpdateType says what a change of a feature may do; the values are the
// protocol's.
type FeatureUpdateType int8

// The kinds of change.
const (
	UpgradeFeature         FeatureUpdateType = 1
	SafeDowngradeFeature   FeatureUpdateType = 2 // if nothing is lost
	UnsafeDowngradeFeature FeatureUpdateType = 3
)

// FeatureUpdate asks for a level of a feature.
type FeatureUpdate struct {
	Name  string
	Level int16
	Type  FeatureUpdateType
}

// UpdateFeatures decides on the finalized features: all of updates or none. Of a
// feature that stands there twice the last counts. node is the controller that
// decides, which the errors name, and voters are all of the quorum: each must know a
// level before it is finalized.
func UpdateFeatures(f Facts, updates []FeatureUpdate, node int32, voters []int32) ([]meta.Record, error) {
	m := f.Image
	last := make(map[string]int)
	for i, u := range updates {
		last[u.Name] = i
	}
	var out []meta.Record
	for i, u := range updates {
		if last[u.Name] != i {
			continue
		}
		if why := refuseFeature(m, u, node, voters); why != nil {
			return nil, kerr.Refuse(kerr.InvalidUpdateVersion, "The update failed for all features since the following feature had an error: %s", why)
		}
		if m.Feature(u.Name) != u.Level {
			out = append(out, &msg.FeatureLevelRecord{Name: u.Name, FeatureLevel: u.Level})
			if u.Name == eligibleLeaders {
				out = append(out, f.eligibility(u.Level > 0)...)
			}
		}
	}
	return out, nil
}

const minISRKey = "min.insync.replicas"

// eligibility returns what goes with eligible leaders, or with their end.
//
// A leader and the controller must agree on min.insync.replicas: a leader that commits
// with fewer in sync than the controller takes it to need would leave one eligible that
// lacks what is committed. So all brokers have it from the metadata, and none another one
// of its own (ConfigurationControlManager.maybeGenerateElrSafetyRecords).
func (f Facts) eligibility(on bool) (out []meta.Record) {
	if !on {
		// Without eligible leaders the last one in sync stays in sync.
		alone := func(p *meta.Partition) bool { return len(p.InSync) == 0 && len(p.EligibleLeader) > 0 }
		out = f.sweep(alone, func(c *partitionChange) {
			c.eligibility, c.inSync = false, c.eligible[:1]
			if len(c.lastKnown) == 1 && slices.Contains(c.eligible, c.lastKnown[0]) {
				c.inSync = c.lastKnown
			}
		})
		return append(out, new(msg.ClearElrRecord))
	}
	all := meta.Resource{Type: meta.BrokerResource}
	if _, ok := f.Image.Config(all)[minISRKey]; !ok {
		for _, d := range config.Describe(config.KindBroker, config.Layers{Static: f.Static}, []string{minISRKey}) {
			out = append(out, &msg.ConfigRecord{ResourceType: int8(all.Type), Name: minISRKey, Value: d.Value})
		}
	}
	for _, own := range f.Image.Resources(meta.BrokerResource) {
		if _, ok := f.Image.Config(own)[minISRKey]; ok && own != all {
			out = append(out, &msg.ConfigRecord{ResourceType: int8(own.Type), ResourceName: own.Name, Name: minISRKey})
		}
	}
	return out
}

// clearEligible returns the records that forget the eligible leaders of which
// min.insync.replicas changes with records: what was not committed under one may be under
// another (ConfigurationControlManager.createClearElrRecordsAsNeeded).
func clearEligible(m *meta.Image, records []meta.Record) (out []meta.Record) {
	if m.Feature(eligibleLeaders) == 0 {
		return nil
	}
	for _, r := range records {
		if c, ok := r.(*msg.ConfigRecord); ok && c.Name == minISRKey {
			clear := new(msg.ClearElrRecord)
			if c.ResourceType == int8(meta.TopicResource) {
				clear.TopicName = c.ResourceName
			}
			out = append(out, clear)
		}
	}
	return out
}

// checkMinISR refuses changes of min.insync.replicas with which the controller and the
// leaders might not agree on it.
func checkMinISR(m *meta.Image, r meta.Resource, now, next map[string]string) error {
	if r.Type != meta.BrokerResource || m.Feature(eligibleLeaders) == 0 {
		return nil
	}
	was, had := now[minISRKey]
	is, has := next[minISRKey]
	switch {
	case r.Name != "" && (had != has || was != is):
		return kerr.Refuse(kerr.InvalidConfig, "Broker-level min.insync.replicas cannot be altered while ELR is enabled.")
	case r.Name == "" && had && !has:
		return kerr.Refuse(kerr.InvalidConfig, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.")
	}
	return nil
}

// unsupported returns a broker that has said which features it knows, and does not know
// the level of an update.
func unsupported(m *meta.Image, u FeatureUpdate) *meta.Broker {
	for _, b := range m.Brokers() {
		if low, high := b.Supports(u.Name); b.Features != nil && u.Level > 0 && (u.Level < low || u.Level > high) {
			return b
		}
	}
	return nil
}

// ignorant says which controller other than the one that decides does not know the level of
// an update, "" if all do. Voters must have registered for that, where the cluster has such
// records (FeatureControlManager.reasonNotSupported).
func ignorant(m *meta.Image, u FeatureUpdate, node int32, voters []int32) string {
	if m.Feature(metadataVersion) < registersControllers {
		return ""
	}
	for _, c := range m.Controllers() {
		at := slices.IndexFunc(c.Features, func(f msg.RegisterControllerRecordControllerFeature) bool { return f.Name == u.Name })
		switch {
		case c.ControllerId == node || u.Level == 0:
		case at < 0:
			return fmt.Sprintf("Controller %d does not support this feature.", c.ControllerId)
		case u.Level < c.Features[at].MinSupportedVersion || u.Level > c.Features[at].MaxSupportedVersion:
			return fmt.Sprintf("Controller %d only supports versions %d-%d", c.ControllerId, c.Features[at].MinSupportedVersion, c.Features[at].MaxSupportedVersion)
		}
	}
	for _, id := range voters {
		if id != node && m.Controller(id) == nil {
			return fmt.Sprintf("controller %d has not registered, and may not support this feature", id)
		}
	}
	return ""
}

// refuseFeature returns why a level cannot be finalized.
func refuseFeature(m *meta.Image, u FeatureUpdate, node int32, voters []int32) error {
	invalid := func(format string, args ...any) error {
		return kerr.Refuse(kerr.InvalidUpdateVersion, "Invalid update version %d for feature %s. "+format, append([]any{u.Level, u.Name}, args...)...)
	}
	now := m.Feature(u.Name)
	at := slices.IndexFunc(Features, func(f Feature) bool { return f.Name == u.Name })
	switch {
	case u.Type < UpgradeFeature || u.Type > UnsafeDowngradeFeature:
		return invalid("The controller does not support the given upgrade type.")
	case u.Level < 0:
		return invalid("A feature version cannot be less than 0.")
	case at < 0 && u.Level == 0:
		return invalid("Feature %s not found.", u.Name)
	case at < 0:
		return invalid("Local controller %d does not support this feature.", node)
	case u.Level < Features[at].Min || u.Level > Features[at].Max:
		return invalid("Local controller %d only supports versions %d-%d", node, Features[at].Min, Features[at].Max)
	case unsupported(m, u) != nil:
		b := unsupported(m, u)
		low, high := b.Supports(u.Name)
		if high == 0 {
			return invalid("Broker %d does not support this feature.", b.ID)
		}
		return invalid("Broker %d only supports versions %d-%d", b.ID, low, high)
	case ignorant(m, u, node, voters) != "":
		return invalid("%s", ignorant(m, u, node, voters))
	case u.Level < now && u.Type == UpgradeFeature:
		return invalid("Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.")
	case u.Level > now && u.Type != UpgradeFeature:
		return invalid("Can't downgrade to a newer version.")
	case u.Name == metadataVersion && u.Level < now && slices.ContainsFunc(metadataChanged, func(l int16) bool { return u.Level < l && l <= now }):
		why := "Refusing to perform the requested downgrade because it might delete metadata information."
		if u.Type == UnsafeDowngradeFeature {
			why = "Unsafe metadata downgrade is not supported in this version."
		}
		return kerr.Refuse(kerr.InvalidUpdateVersion, "Unsupported metadata.version downgrade from %d to %d. %s", now, u.Level, why)
	}
	return nil
}
