package api

import (
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// AssignReplicasToDirs has one version, 0.

// assignReplicasToDirs answers AssignReplicasToDirs (key 73, v0): which log directories of a
// broker have replicas (KIP-858).
func (h *Handlers) assignReplicasToDirs(c *Call, req *msg.AssignReplicasToDirsRequest) (*msg.AssignReplicasToDirsResponse, error) {
	resp := new(msg.AssignReplicasToDirsResponse)
	if !h.Controller.Active() {
		resp.ErrorCode = int16(kerr.NotController)
		return resp, nil
	}
	var all []control.DirAssignment
	for _, d := range req.Directories {
		for _, t := range d.Topics {
			for _, p := range t.Partitions {
				all = append(all, control.DirAssignment{Dir: d.Id, Topic: t.TopicId, Partition: p.PartitionIndex})
			}
		}
	}
	ctx, cancel := h.controllerContext(c)
	defer cancel()
	results, err := h.Controller.AssignDirs(ctx, req.BrokerId, req.BrokerEpoch, all)
	if err != nil {
		resp.ErrorCode = int16(h.code(err))
		return resp, nil
	}
	next := 0
	for _, d := range req.Directories {
		dir := msg.AssignReplicasToDirsResponseDirectoryData{Id: d.Id}
		for _, t := range d.Topics {
			topic := msg.AssignReplicasToDirsResponseTopicData{TopicId: t.TopicId}
			for _, p := range t.Partitions {
				topic.Partitions = append(topic.Partitions, msg.AssignReplicasToDirsResponsePartitionData{PartitionIndex: p.PartitionIndex, ErrorCode: int16(h.code(results[next]))})
				next++
			}
			dir.Topics = append(dir.Topics, topic)
		}
		resp.Directories = append(resp.Directories, dir)
	}
	return resp, nil
}
