package api

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of BrokerRegistration add to version 0:
//
//	v1  request: IsMigratingZkBroker
//	v2  request: LogDirs
//	v3  request: PreviousBrokerEpoch
//	v4  the features of kraft.version 0 may be named

// brokerRegistration answers BrokerRegistration (key 62, v0-v4): a broker that starts.
func (h *Handlers) brokerRegistration(c *Call, req *msg.BrokerRegistrationRequest) (*msg.BrokerRegistrationResponse, error) {
	resp := new(msg.BrokerRegistrationResponse)
	resp.SetDefaults()
	epoch, err := h.registerBroker(c, req)
	if err != nil {
		if !errors.Is(err, kerr.NotController) { // it asks the next one
			h.Logger.Warn("refused to register a broker", zap.Int32("broker_id", req.BrokerId), zap.String("peer", c.Session.RemoteHost), zap.Error(err))
		}
		resp.ErrorCode = int16(h.code(err))
		return resp, nil
	}
	resp.BrokerEpoch = epoch
	return resp, nil
}

func (h *Handlers) registerBroker(c *Call, req *msg.BrokerRegistrationRequest) (int64, error) {
	switch {
	case !h.Controller.Active():
		return 0, kerr.NotController
	case req.ClusterId != h.ClusterID:
		return 0, kerr.Refuse(kerr.InconsistentClusterId, "Expected cluster ID %s, but got cluster ID %s", h.ClusterID, req.ClusterId)
	case req.IsMigratingZkBroker:
		return 0, kerr.Refuse(kerr.InvalidRegistration, "Broker %d is migrating from ZooKeeper, which is not supported.", req.BrokerId)
	}
	b := control.Registration{Broker: req.BrokerId, Incarnation: req.IncarnationId, LogDirs: req.LogDirs, PreviousEpoch: req.PreviousBrokerEpoch, Rack: name(req.Rack), Features: []control.Feature{}}
	for _, l := range req.Listeners {
		b.EndPoints = append(b.EndPoints, control.EndPoint{Name: l.Name, Host: l.Host, Port: int32(l.Port), Protocol: l.SecurityProtocol})
	}
	for _, f := range req.Features {
		b.Features = append(b.Features, control.Feature{Name: f.Name, Min: f.MinSupportedVersion, Max: f.MaxSupportedVersion})
	}
	ctx, cancel := h.controllerContext(c)
	defer cancel()
	return h.Controller.RegisterBroker(ctx, b)
}

// controllerContext bounds what a broker asks the controller for.
func (h *Handlers) controllerContext(c *Call) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.Context, h.Broker.RequestTimeout)
}

// brokerHeartbeat answers BrokerHeartbeat (key 63, v0-v2). The end of the connection tells
// that the broker may be gone.
func (h *Handlers) brokerHeartbeat(c *Call, req *msg.BrokerHeartbeatRequest) (*msg.BrokerHeartbeatResponse, error) {
	resp := new(msg.BrokerHeartbeatResponse)
	resp.SetDefaults()
	if !h.Controller.Active() {
		resp.ErrorCode = int16(kerr.NotController)
		return resp, nil
	}
	ctx, cancel := h.controllerContext(c)
	defer cancel()
	answer, err := h.Controller.Heartbeat(ctx, control.Heartbeat{Broker: req.BrokerId, Epoch: req.BrokerEpoch, Applied: req.CurrentMetadataOffset,
		WantFence: req.WantFence, WantShutdown: req.WantShutDown, OfflineDirs: req.OfflineLogDirs})
	if err != nil {
		resp.ErrorCode = int16(h.code(err))
		return resp, nil
	}
	h.Controller.BrokerLinked(req.BrokerId, req.BrokerEpoch)
	c.Session.Ended = func() { h.Controller.BrokerSilent(req.BrokerId, req.BrokerEpoch) }
	resp.IsCaughtUp, resp.IsFenced, resp.ShouldShutDown = answer.CaughtUp, answer.Fenced, answer.ShutDown
	return resp, nil
}

// allocateProducerIDs answers AllocateProducerIds (key 67, v0).
func (h *Handlers) allocateProducerIDs(c *Call, req *msg.AllocateProducerIdsRequest) (*msg.AllocateProducerIdsResponse, error) {
	resp := new(msg.AllocateProducerIdsResponse)
	err := error(kerr.NotController)
	if h.Controller.Active() {
		ctx, cancel := h.controllerContext(c)
		defer cancel()
		resp.ProducerIdStart, resp.ProducerIdLen, err = h.Controller.ProducerIDs(ctx, req.BrokerId, req.BrokerEpoch)
	}
	resp.ErrorCode = int16(h.code(err))
	return resp, nil
}

// What the versions of AlterPartition add to version 2:
//
//	v3  request: Topics.Partitions.NewIsrWithEpochs, without NewIsr (KIP-903)

// alterPartition answers AlterPartition (key 56, v2-v3): a leader's in-sync sets.
func (h *Handlers) alterPartition(c *Call, req *msg.AlterPartitionRequest) (*msg.AlterPartitionResponse, error) {
	resp := new(msg.AlterPartitionResponse)
	if !h.Controller.Active() {
		resp.ErrorCode = int16(kerr.NotController)
		return resp, nil
	}
	r := control.AlterPartitionsRequest{Broker: req.BrokerId, BrokerEpoch: req.BrokerEpoch}
	for _, t := range req.Topics {
		topic := control.AlterTopic{ID: t.TopicId}
		for _, p := range t.Partitions {
			part := control.AlterPartition{Index: p.PartitionIndex, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, Recovering: p.LeaderRecoveryState == 1}
			for _, id := range p.NewIsr {
				part.NewISR = append(part.NewISR, control.ISRMember{Broker: id, Epoch: -1})
			}
			for _, m := range p.NewIsrWithEpochs {
				part.NewISR = append(part.NewISR, control.ISRMember{Broker: m.BrokerId, Epoch: m.BrokerEpoch})
			}
			topic.Partitions = append(topic.Partitions, part)
		}
		r.Topics = append(r.Topics, topic)
	}
	ctx, cancel := h.controllerContext(c)
	defer cancel()
	result, err := h.Controller.AlterPartitions(ctx, r)
	if err = errors.Join(err, result.Err); err != nil {
		resp.ErrorCode = int16(h.code(err))
		return resp, nil
	}
	for _, t := range result.Topics {
		topic := msg.AlterPartitionResponseTopicData{TopicId: t.ID}
		for _, p := range t.Partitions {
			out := msg.AlterPartitionResponsePartitionData{PartitionIndex: p.Index, ErrorCode: int16(h.code(p.Err))}
			if s := p.State; s != nil && p.Err == nil {
				out.LeaderId, out.LeaderEpoch, out.Isr, out.PartitionEpoch = s.Leader, s.LeaderEpoch, s.InSync, s.PartitionEpoch
				if s.Recovering {
					out.LeaderRecoveryState = 1
				}
			}
			topic.Partitions = append(topic.Partitions, out)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp, nil
}
