package replication

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// Remote is the active controller on another node, over connections to its listener.
type Remote struct {
	ClusterID string
	// Connect returns a connection for a purpose. A request that takes its time holds up
	// those of its purpose only. Its error is kerr.NotController if nothing was sent.
	Connect func(ctx context.Context, p Purpose) (*conn.Conn, error)
}

// Purpose says what a connection to the controller is for.
type Purpose int

// The purposes.
const (
	ForMembership Purpose = iota // registration and heartbeats: its end tells that the broker is gone
	ForPartitions                // in-sync sets
	ForTopics                    // what the broker needs for its clients
	ForClients                   // what its clients ask for
	ForVoters                    // who the controllers are
)

// do sends a request on a connection for a purpose.
func (r Remote) do(ctx context.Context, p Purpose, req msg.Request, resp msg.Response) error {
	c, err := r.Connect(ctx, p)
	if err != nil {
		return err
	}
	return c.Do(ctx, req, resp)
}

var _ Channel = Remote{}

// refusal makes an error of the code and the words of an answer.
func refusal(code int16, words *string) error {
	c := kerr.Code(code)
	if c == kerr.None {
		return nil
	}
	if words == nil || *words == "" {
		return c
	}
	return kerr.Refuse(c, "%s", *words)
}

// EnsureTopics implements Channel. The other node's own defaults count.
func (r Remote) EnsureTopics(ctx context.Context, specs []control.TopicSpec, _ control.Defaults) ([]control.TopicResult, error) {
	results := make([]control.TopicResult, len(specs))
	req := &msg.CreateTopicsRequest{TimeoutMs: timeoutMs(ctx)}
	at := make(map[string]int, len(specs))
	for i, s := range specs {
		at[s.Name] = i
		results[i].Name = s.Name
		t := msg.CreateTopicsRequestCreatableTopic{Name: s.Name, NumPartitions: s.Partitions, ReplicationFactor: s.ReplicationFactor}
		for index, replicas := range s.Assignment {
			t.Assignments = append(t.Assignments, msg.CreateTopicsRequestCreatableReplicaAssignment{PartitionIndex: index, BrokerIds: replicas})
		}
		for k, v := range s.Configs {
			t.Configs = append(t.Configs, msg.CreateTopicsRequestCreatableTopicConfig{Name: k, Value: v})
		}
		req.Topics = append(req.Topics, t)
	}
	var resp msg.CreateTopicsResponse
	if err := r.do(ctx, ForTopics, req, &resp); err != nil {
		return results, err
	}
	answered := 0
	for _, t := range resp.Topics {
		i, ok := at[t.Name]
		if !ok {
			return results, fmt.Errorf("%w: CreateTopics is answered for topic %q, which was not asked for", conn.ErrProtocol, t.Name)
		}
		answered++
		if kerr.Code(t.ErrorCode) == kerr.NotController {
			return results, kerr.NotController
		}
		results[i] = control.TopicResult{Name: t.Name, ID: t.TopicId, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor, Err: refusal(t.ErrorCode, t.ErrorMessage)}
	}
	if answered != len(specs) {
		return results, fmt.Errorf("%w: CreateTopics for %d topics is answered for %d", conn.ErrProtocol, len(specs), answered)
	}
	return results, nil
}

// RegisterBroker implements Channel.
func (r Remote) RegisterBroker(ctx context.Context, b control.Registration) (int64, error) {
	req := &msg.BrokerRegistrationRequest{BrokerId: b.Broker, ClusterId: r.ClusterID, IncarnationId: b.Incarnation, LogDirs: b.LogDirs, PreviousBrokerEpoch: b.PreviousEpoch}
	if b.Rack != "" {
		req.Rack = &b.Rack
	}
	if b.Unclean {
		req.PreviousBrokerEpoch = -1
	}
	for _, e := range b.EndPoints {
		req.Listeners = append(req.Listeners, msg.BrokerRegistrationRequestListener{Name: e.Name, Host: e.Host, Port: uint16(e.Port), SecurityProtocol: e.Protocol})
	}
	features := b.Features
	if features == nil {
		features = control.Features
	}
	for _, f := range features {
		req.Features = append(req.Features, msg.BrokerRegistrationRequestFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	var resp msg.BrokerRegistrationResponse
	if err := r.do(ctx, ForMembership, req, &resp); err != nil {
		return 0, err
	}
	return resp.BrokerEpoch, kerr.Code(resp.ErrorCode).Err()
}

// RegisterController implements Channel.
func (r Remote) RegisterController(ctx context.Context, c control.ControllerRegistration) error {
	req := &msg.ControllerRegistrationRequest{ControllerId: c.Controller, IncarnationId: c.Incarnation}
	for _, e := range c.EndPoints {
		req.Listeners = append(req.Listeners, msg.ControllerRegistrationRequestListener{Name: e.Name, Host: e.Host, Port: uint16(e.Port), SecurityProtocol: e.Protocol})
	}
	features := c.Features
	if features == nil {
		features = control.Features
	}
	for _, f := range features {
		req.Features = append(req.Features, msg.ControllerRegistrationRequestFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	var resp msg.ControllerRegistrationResponse
	if err := r.do(ctx, ForVoters, req, &resp); err != nil {
		return err
	}
	return refusal(resp.ErrorCode, resp.ErrorMessage)
}

// RemoveVoter implements Channel.
func (r Remote) RemoveVoter(ctx context.Context, p quorum.Peer) error {
	var resp msg.RemoveRaftVoterResponse
	if err := r.do(ctx, ForVoters, &msg.RemoveRaftVoterRequest{ClusterId: &r.ClusterID, VoterId: p.ID, VoterDirectoryId: p.Directory}, &resp); err != nil {
		return err
	}
	if kerr.Code(resp.ErrorCode) == kerr.NotLeaderOrFollower {
		return kerr.NotController
	}
	return refusal(resp.ErrorCode, resp.ErrorMessage)
}

// Heartbeat implements Channel.
func (r Remote) Heartbeat(ctx context.Context, h control.Heartbeat) (control.HeartbeatAnswer, error) {
	req := &msg.BrokerHeartbeatRequest{BrokerId: h.Broker, BrokerEpoch: h.Epoch, CurrentMetadataOffset: h.Applied, WantFence: h.WantFence, WantShutDown: h.WantShutdown, OfflineLogDirs: h.OfflineDirs}
	var resp msg.BrokerHeartbeatResponse
	if err := r.do(ctx, ForMembership, req, &resp); err != nil {
		return control.HeartbeatAnswer{}, err
	}
	return control.HeartbeatAnswer{CaughtUp: resp.IsCaughtUp, Fenced: resp.IsFenced, ShutDown: resp.ShouldShutDown}, kerr.Code(resp.ErrorCode).Err()
}

// AlterPartitions implements Channel.
func (r Remote) AlterPartitions(ctx context.Context, a control.AlterPartitionsRequest) (control.AlterPartitionsResult, error) {
	var out control.AlterPartitionsResult
	req := &msg.AlterPartitionRequest{BrokerId: a.Broker, BrokerEpoch: a.BrokerEpoch}
	for _, t := range a.Topics {
		topic := msg.AlterPartitionRequestTopicData{TopicId: t.ID}
		for _, p := range t.Partitions {
			part := msg.AlterPartitionRequestPartitionData{PartitionIndex: p.Index, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch}
			if p.Recovering {
				part.LeaderRecoveryState = 1
			}
			for _, m := range p.NewISR {
				part.NewIsrWithEpochs = append(part.NewIsrWithEpochs, msg.AlterPartitionRequestBrokerState{BrokerId: m.Broker, BrokerEpoch: m.Epoch})
			}
			topic.Partitions = append(topic.Partitions, part)
		}
		req.Topics = append(req.Topics, topic)
	}
	var resp msg.AlterPartitionResponse
	if err := r.do(ctx, ForPartitions, req, &resp); err != nil {
		return out, err
	}
	if code := kerr.Code(resp.ErrorCode); code != kerr.None {
		if code == kerr.NotController {
			return out, code
		}
		out.Err = code
		return out, nil
	}
	for _, t := range resp.Topics {
		topic := control.AlteredTopic{ID: t.TopicId}
		for _, p := range t.Partitions {
			topic.Partitions = append(topic.Partitions, control.AlteredPartition{Index: p.PartitionIndex, Err: kerr.Code(p.ErrorCode).Err(), State: &meta.Partition{
				Leader: p.LeaderId, LeaderEpoch: p.LeaderEpoch, InSync: p.Isr, PartitionEpoch: p.PartitionEpoch, Recovering: p.LeaderRecoveryState == 1}})
		}
		out.Topics = append(out.Topics, topic)
	}
	return out, nil
}

// AssignDirs implements Channel.
func (r Remote) AssignDirs(ctx context.Context, broker int32, epoch int64, all []control.DirAssignment) ([]error, error) {
	type place struct {
		dir, topic prim.UUID
		index      int32
	}
	results := make([]error, len(all))
	at := make(map[place]int, len(all))
	req := &msg.AssignReplicasToDirsRequest{BrokerId: broker, BrokerEpoch: epoch}
	for i, a := range all {
		at[place{a.Dir, a.Topic, a.Partition}] = i
		d := slices.IndexFunc(req.Directories, func(d msg.AssignReplicasToDirsRequestDirectoryData) bool { return d.Id == a.Dir })
		if d < 0 {
			d = len(req.Directories)
			req.Directories = append(req.Directories, msg.AssignReplicasToDirsRequestDirectoryData{Id: a.Dir})
		}
		dir := &req.Directories[d]
		t := slices.IndexFunc(dir.Topics, func(t msg.AssignReplicasToDirsRequestTopicData) bool { return t.TopicId == a.Topic })
		if t < 0 {
			t = len(dir.Topics)
			dir.Topics = append(dir.Topics, msg.AssignReplicasToDirsRequestTopicData{TopicId: a.Topic})
		}
		dir.Topics[t].Partitions = append(dir.Topics[t].Partitions, msg.AssignReplicasToDirsRequestPartitionData{PartitionIndex: a.Partition})
	}
	var resp msg.AssignReplicasToDirsResponse
	if err := r.do(ctx, ForTopics, req, &resp); err != nil {
		return results, err
	}
	for _, d := range resp.Directories {
		for _, t := range d.Topics {
			for _, p := range t.Partitions {
				if i, ok := at[place{d.Id, t.TopicId, p.PartitionIndex}]; ok {
					results[i] = kerr.Code(p.ErrorCode).Err()
				}
			}
		}
	}
	return results, kerr.Code(resp.ErrorCode).Err()
}

// ProducerIDs implements Channel.
func (r Remote) ProducerIDs(ctx context.Context, broker int32, brokerEpoch int64) (int64, int32, error) {
	var resp msg.AllocateProducerIdsResponse
	if err := r.do(ctx, ForTopics, &msg.AllocateProducerIdsRequest{BrokerId: broker, BrokerEpoch: brokerEpoch}, &resp); err != nil {
		return 0, 0, err
	}
	return resp.ProducerIdStart, resp.ProducerIdLen, kerr.Code(resp.ErrorCode).Err()
}

// timeoutMs returns how long a request may take whose context is ctx, in milliseconds.
func timeoutMs(ctx context.Context) int32 {
	const otherwise = 30 * time.Second
	left := otherwise
	if at, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(at))
	}
	return int32(max(left.Milliseconds(), 1))
}
