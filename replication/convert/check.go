package convert

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/msg"
)

// Unenforced are the names of what the JVM broker enforces and klamm only keeps.
var Unenforced = []string{"acls", "quotas", "scram", "tokens"}

// unenforcedName returns which of Unenforced a kept record is, "" for none.
func unenforcedName(r meta.Record) string {
	switch r.(type) {
	case *msg.AccessControlEntryRecord:
		return "acls"
	case *msg.ClientQuotaRecord:
		return "quotas"
	case *msg.UserScramCredentialRecord:
		return "scram"
	case *msg.DelegationTokenRecord:
		return "tokens"
	}
	return ""
}

// UnenforcedIn counts what of Unenforced the metadata hold.
func UnenforcedIn(m *meta.Image) map[string]int {
	counts := make(map[string]int)
	for _, r := range m.Kept() {
		if name := unenforcedName(r); name != "" {
			counts[name]++
		}
	}
	return counts
}

// unsuited returns why klamm cannot serve what a metadata directory of Kafka's
// holds, nil if it can. All reasons are given at once.
func unsuited(c *quorum.Contents, node int32, o Options) error {
	var why []string
	no := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	m := c.Image
	if len(c.VoterIDs) > 0 && !slices.Contains(c.VoterIDs, node) {
		no("node %d is no voter but a broker only: its metadata are at the controllers %v", node, c.VoterIDs)
	} else if len(c.VoterIDs) > 1 {
		no("the quorum has the voters %v: klamm is a quorum of one", c.VoterIDs)
	}
	brokers := m.Brokers()
	if ran := c.End > 0 && len(m.Features()) > 0 && o.started; ran && m.Broker(node) == nil {
		no("node %d is a controller only: no broker of that id is registered", node)
	}
	for _, b := range brokers {
		if b.ID != node {
			no("broker %d is registered too: klamm serves a cluster of one broker; move its partitions away and unregister it", b.ID)
		}
	}
	switch level := m.Feature("metadata.version"); {
	case level < o.MetadataVersion:
		no("metadata.version is %d, and klamm writes the records of %d: raise it with 'kafka-features.sh upgrade --release-version 4.3'", level, o.MetadataVersion)
	case level > o.MetadataVersion:
		no("metadata.version is %d, and klamm knows it up to %d", level, o.MetadataVersion)
	}
	counts := UnenforcedIn(m)
	for _, name := range Unenforced {
		if counts[name] > 0 && !slices.Contains(o.Unenforced, name) {
			no("it has %d %s, which klamm keeps but does not enforce: say '--unenforced %s' if that is all right", counts[name], name, name)
		}
	}
	m.Topics("", func(t *meta.Topic) bool {
		for i, p := range t.Partitions {
			if !slices.Equal(p.Replicas, []int32{node}) {
				no("partition %s-%d has the replicas %v: klamm has one broker, %d", t.Name, i, p.Replicas, node)
				break
			}
		}
		if conf, err := topicConfig(m, node, t.Name); err != nil {
			no("the configuration of topic %s: %v", t.Name, err)
		} else if conf.RemoteStorage {
			no("topic %s has remote.storage.enable, and klamm has no remote storage", t.Name)
		}
		return len(why) < 20
	})
	if len(why) == 0 {
		return nil
	}
	return errors.New(strings.Join(why, "; "))
}

func topicConfig(m *meta.Image, node int32, topic string) (config.Topic, error) {
	return config.TopicFrom(m.Config(meta.Resource{Type: meta.TopicResource, Name: topic}),
		m.Config(meta.Resource{Type: meta.BrokerResource, Name: strconv.Itoa(int(node))}),
		m.Config(meta.Resource{Type: meta.BrokerResource}), nil)
}

// handOver returns the image that the broker of the form to begins with. klamm
// leads every partition in a new leader epoch. A JVM broker finds what its own
// controlled shutdown leaves: it is fenced, and no partition has a leader but
// knows who may lead, by the ELR if that feature is on, so that the controller
// elects it even if the stop was not a clean one (KIP-966).
func handOver(m *meta.Image, node int32, to quorum.Form) (*meta.Image, error) {
	var out []meta.Record
	if b := m.Broker(node); b != nil {
		out = append(out, &msg.BrokerRegistrationChangeRecord{BrokerId: node, BrokerEpoch: b.Epoch, Fenced: 1, InControlledShutdown: 1})
	}
	leader, isr, eligible := node, []int32{node}, []int32{}
	if to == quorum.Kafka {
		leader = meta.NoLeader
		if m.Feature("eligible.leader.replicas.version") > 0 {
			isr, eligible = eligible, isr
		}
	}
	m.Topics("", func(t *meta.Topic) bool {
		for i := range t.Partitions {
			r := new(msg.PartitionChangeRecord)
			r.SetDefaults()
			r.TopicId, r.PartitionId, r.Leader, r.Isr = t.ID, int32(i), leader, isr
			r.EligibleLeaderReplicas, r.LastKnownElr = eligible, eligible
			out = append(out, r)
		}
		return true
	})
	next, _, err := m.Apply(m.Index, m.Epoch, out)
	return next, err
}
