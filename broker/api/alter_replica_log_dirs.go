package api

import (
	"path"
	"strconv"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of AlterReplicaLogDirs add to version 1:
//
//	v2   compact and tagged fields

// alterReplicaLogDirs answers AlterReplicaLogDirs (key 34, v1-v2). A partition
// may be sent to the log directory where it is; a move to another one is
// refused. Of a partition that stands there twice the last counts.
func (h *Handlers) alterReplicaLogDirs(_ *Call, req *msg.AlterReplicaLogDirsRequest) (*msg.AlterReplicaLogDirsResponse, error) {
	resp := new(msg.AlterReplicaLogDirsResponse)
	dirs := make(map[string]*dirs.Dir, len(h.Dirs))
	for _, d := range h.Dirs {
		dirs[path.Clean(d.Path)] = d
	}
	type place struct{ topic, partition int }
	topics := make(map[string]int)
	at := make(map[control.PartitionName]place)
	for _, d := range req.Dirs {
		dir := dirs[path.Clean(d.Path)]
		for _, t := range d.Topics {
			if len(t.Partitions) == 0 {
				continue // a topic is answered by its partitions
			}
			i, ok := topics[t.Name]
			if !ok {
				i = len(resp.Results)
				topics[t.Name] = i
				resp.Results = append(resp.Results, msg.AlterReplicaLogDirsResponseAlterReplicaLogDirTopicResult{TopicName: t.Name})
			}
			out := &resp.Results[i]
			for _, p := range t.Partitions {
				r := msg.AlterReplicaLogDirsResponseAlterReplicaLogDirPartitionResult{PartitionIndex: p, ErrorCode: int16(h.code(h.moveTo(dir, t.Name, p)))}
				name := control.PartitionName{Topic: t.Name, Partition: p}
				if twice, ok := at[name]; ok {
					out.Partitions[twice.partition] = r
					continue
				}
				at[name] = place{i, len(out.Partitions)}
				out.Partitions = append(out.Partitions, r)
			}
		}
	}
	return resp, nil
}

// maxFileName is the longest name of a file, in bytes.
const maxFileName = 255

// moveTo returns why a partition cannot move to dir, which is nil for one that
// this broker does not have. Nil is returned for the directory that it is in.
func (h *Handlers) moveTo(dir *dirs.Dir, topic string, index int32) error {
	// The name of the directory of a partition on its way has an id and a suffix.
	if len(topic)+len("-")+len(strconv.Itoa(int(index)))+len(".")+32+len("-future") > maxFileName {
		return kerr.InvalidTopicException
	}
	if dir == nil {
		return kerr.LogDirNotFound
	}
	if dir.Err() != nil {
		return kerr.KafkaStorageError
	}
	p, err := h.partition(topic, index)
	if err != nil {
		return err
	}
	if p.Dir != dir {
		h.Logger.Warn("refused to move a partition to another log directory, which this version cannot do",
			zap.String("topic", topic), zap.Int32("partition", index), zap.String("from", p.Dir.Path), zap.String("to", dir.Path))
		return kerr.InvalidReplicaAssignment
	}
	return nil
}
