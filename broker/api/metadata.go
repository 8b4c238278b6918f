package api

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// What the versions of Metadata add to version 0:
//
//	v1   response: Brokers.Rack, ControllerId, Topics.IsInternal
//	v2   response: ClusterId
//	v3   response: ThrottleTimeMs
//	v4   request: AllowAutoTopicCreation
//	v5   response: Topics.Partitions.OfflineReplicas
//	v6   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v7   response: Topics.Partitions.LeaderEpoch
//	v8   request: IncludeClusterAuthorizedOperations, IncludeTopicAuthorizedOperations; response:
//	     Topics.TopicAuthorizedOperations, ClusterAuthorizedOperations
//	v9   compact and tagged fields
//	v10  request: Topics.TopicId; response: Topics.TopicId
//	v11  request: without IncludeClusterAuthorizedOperations; response: without ClusterAuthorizedOperations
//	v12  topics may be named by id alone (KIP-516)
//	v13  response: ErrorCode

// metadata answers Metadata (key 3, v0-v13): the brokers, and where the
// partitions of topics are led. Topics that do not exist are made on the way
// where both the broker (auto.create.topics.enable) and the client allow it.
func (h *Handlers) metadata(c *Call, req *msg.MetadataRequest) (*msg.MetadataResponse, error) {
	resp := new(msg.MetadataResponse)
	resp.SetDefaults()
	all := req.Topics == nil || c.Version() == 0 && len(req.Topics) == 0
	if code := misnamed(req, c.Version()); code != kerr.None {
		refuseMetadata(req, resp, code)
		return resp, nil
	}
	create := h.Broker.AutoCreateTopics && (c.Version() < 4 || req.AllowAutoTopicCreation)
	var failed map[string]error
	if create && !all {
		failed = h.autoCreate(c, req.Topics)
	}
	image := h.Controller.Image()
	for _, b := range image.Brokers() {
		if b.Fenced {
			continue
		}
		if host, port, ok := h.endpoint(c.Session, b); ok {
			resp.Brokers = append(resp.Brokers, msg.MetadataResponseBroker{NodeId: b.ID, Host: host, Port: port, Rack: b.Rack})
		}
	}
	resp.ClusterId = &h.ClusterID
	resp.ControllerId = h.controllerID()
	resp.ClusterAuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations && c.Version() <= 10, clusterOperations)
	describe := func(t *meta.Topic) {
		resp.Topics = append(resp.Topics, h.topicMetadata(c, image, t, req.IncludeTopicAuthorizedOperations))
	}
	if all {
		image.Topics("", func(t *meta.Topic) bool {
			describe(t)
			return true
		})
		return resp, nil
	}
	type asked struct {
		name string
		id   prim.UUID
	}
	answered := make(map[asked]bool)
	byID := slices.ContainsFunc(req.Topics, func(t msg.MetadataRequestTopic) bool { return !t.TopicId.IsZero() })
	for _, want := range req.Topics {
		if byID { // then names say nothing
			if want.TopicId.IsZero() {
				continue
			}
			want.Name = nil
		}
		// A topic that stands twice is answered once.
		this := asked{name(want.Name), want.TopicId}
		if answered[this] {
			continue
		}
		answered[this] = true
		t, err := findTopic(image, want.Name, want.TopicId)
		if err != nil {
			if e := failed[name(want.Name)]; e != nil {
				err = e
			}
			missing := msg.MetadataResponseTopic{ErrorCode: int16(h.code(err)), Name: want.Name, TopicId: want.TopicId, TopicAuthorizedOperations: noOperations}
			if want.TopicId.IsZero() {
				missing.TopicAuthorizedOperations = operations(req.IncludeTopicAuthorizedOperations, topicOperations)
			}
			if missing.Name == nil && c.Version() < 12 {
				missing.Name = new(string)
			}
			resp.Topics = append(resp.Topics, missing)
			continue
		}
		describe(t)
	}
	return resp, nil
}

// misnamed returns what is wrong with how topics are named: up to version 11 only
// by their names, and since then by a name or an id. Of a topic with neither the
// JVM broker has no code.
func misnamed(req *msg.MetadataRequest, version int16) kerr.Code {
	byID := slices.ContainsFunc(req.Topics, func(t msg.MetadataRequestTopic) bool { return !t.TopicId.IsZero() })
	for _, t := range req.Topics {
		switch {
		case version < 12 && (t.Name == nil || !t.TopicId.IsZero()):
			return kerr.InvalidRequest
		case t.Name == nil && !byID:
			return kerr.UnknownServerError
		}
	}
	return kerr.None
}

// refuseMetadata answers every topic with an error, and names no broker.
func refuseMetadata(req *msg.MetadataRequest, resp *msg.MetadataResponse, code kerr.Code) {
	resp.ErrorCode = int16(code)
	for _, t := range req.Topics {
		n := name(t.Name)
		resp.Topics = append(resp.Topics, msg.MetadataResponseTopic{ErrorCode: int16(code), Name: &n, TopicId: t.TopicId, TopicAuthorizedOperations: noOperations})
	}
}

func name(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// findTopic finds a topic by name, or by id where there is no name.
func findTopic(image *meta.Image, topic *string, id prim.UUID) (*meta.Topic, error) {
	if topic == nil {
		if t := image.TopicByID(id); t != nil {
			return t, nil
		}
		return nil, kerr.UnknownTopicId
	}
	if t := image.Topic(*topic); t != nil {
		return t, nil
	}
	if control.CheckTopicName(*topic) != nil {
		return nil, kerr.InvalidTopicException
	}
	return nil, kerr.UnknownTopicOrPartition
}

// autoCreate makes the topics that are missing and returns why some were not
// made.
func (h *Handlers) autoCreate(c *Call, topics []msg.MetadataRequestTopic) map[string]error {
	image := h.Controller.Image()
	var specs []control.TopicSpec
	asked := make(map[string]bool)
	for _, t := range topics {
		if t.Name == nil || asked[*t.Name] || image.Topic(*t.Name) != nil {
			continue
		}
		asked[*t.Name] = true
		specs = append(specs, h.autoSpec(*t.Name))
	}
	if len(specs) == 0 {
		return nil
	}
	return h.create(c, specs)
}

// autoSpec is what a topic looks like that is made because a client named it.
func (h *Handlers) autoSpec(topic string) control.TopicSpec {
	s := control.TopicSpec{Name: topic, Partitions: -1, ReplicationFactor: -1}
	if topic == meta.GroupTopic {
		s = h.groupTopic()
	}
	return s
}

// create makes topics and returns why some were not made. A topic that somebody
// else made meanwhile is no failure.
func (h *Handlers) create(c *Call, specs []control.TopicSpec) map[string]error {
	var results []control.TopicResult
	err := c.parked(func() (err error) {
		ctx, cancel := context.WithTimeout(c.Context, createTimeout)
		defer cancel()
		results, err = h.Controller.EnsureTopics(ctx, specs, h.defaults())
		return err
	})
	failed := make(map[string]error)
	warned := false
	for i, s := range specs {
		e := err
		if e == nil {
			e = results[i].Err
		}
		switch code := codeOf(e); {
		case e == nil:
			h.changedTopic(nil, "created topic that a client named", results[i])
		case code == kerr.TopicAlreadyExists:
		case code == kerr.InvalidTopicException, code == kerr.InvalidReplicationFactor, code == kerr.KafkaStorageError:
			failed[s.Name] = e
		default:
			if !warned { // there may be many, for one reason
				warned = true
				h.Logger.Warn("cannot create a topic that a client named", zap.String("topic", quoted(s.Name)), zap.Error(e))
			}
			failed[s.Name] = kerr.UnknownTopicOrPartition
		}
	}
	return failed
}

// createTimeout bounds the creation of a topic that nobody asked for by name of
// the API, and so set no timeout for.
const createTimeout = 10 * time.Second

func (h *Handlers) topicMetadata(c *Call, image *meta.Image, t *meta.Topic, ops bool) msg.MetadataResponseTopic {
	out := msg.MetadataResponseTopic{Name: &t.Name, TopicId: t.ID, IsInternal: t.Internal(),
		TopicAuthorizedOperations: operations(ops, topicOperations),
		Partitions:                make([]msg.MetadataResponsePartition, len(t.Partitions))}
	for i, p := range t.Partitions {
		leader, code := h.leaderOf(c, image, p)
		out.Partitions[i] = msg.MetadataResponsePartition{ErrorCode: int16(code), PartitionIndex: int32(i),
			LeaderId: leader, LeaderEpoch: p.LeaderEpoch, ReplicaNodes: p.Replicas, IsrNodes: p.InSync, OfflineReplicas: h.offline(image, t.Name, int32(i), p)}
	}
	return out
}

// leaderOf returns the leader of a partition as it is sent to clients.
func (h *Handlers) leaderOf(c *Call, image *meta.Image, p *meta.Partition) (int32, kerr.Code) {
	if p.Leader == meta.NoLeader {
		return p.Leader, kerr.LeaderNotAvailable
	}
	b := image.Broker(p.Leader)
	if b == nil || b.Fenced || b.ID == h.NodeID && h.Replicas.Suspended() {
		return meta.NoLeader, kerr.LeaderNotAvailable
	}
	if _, _, ok := h.endpoint(c.Session, b); !ok {
		return meta.NoLeader, kerr.ListenerNotFound
	}
	return p.Leader, kerr.None
}

// offline returns the replicas whose brokers are not alive, and this broker where
// its log directory is offline.
func (h *Handlers) offline(image *meta.Image, topic string, index int32, p *meta.Partition) []int32 {
	var out []int32
	for _, id := range p.Replicas {
		if b := image.Broker(id); b == nil || b.Fenced || id == h.NodeID && h.Replicas.Offline(topic, index) {
			out = append(out, id)
		}
	}
	return out
}
