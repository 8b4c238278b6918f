package api

import (
	"context"
	"errors"
	"slices"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// createTopics answers CreateTopics (key 19, v2-v7).
func (h *Handlers) createTopics(c *Call, req *msg.CreateTopicsRequest) (*msg.CreateTopicsResponse, error) {
	specs := make([]control.TopicSpec, 0, len(req.Topics))
	early := make(map[string]error) // refused before the controller is asked
	for _, t := range req.Topics {
		s := control.TopicSpec{Name: t.Name, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor, Configs: make(map[string]*string)}
		for _, a := range t.Assignments {
			if s.Assignment == nil {
				s.Assignment = make(map[int32][]int32)
			}
			if _, twice := s.Assignment[a.PartitionIndex]; twice {
				early[t.Name] = kerr.Refuse(kerr.InvalidReplicaAssignment, "Found multiple manual partition assignments for partition %d", a.PartitionIndex)
			}
			s.Assignment[a.PartitionIndex] = slices.Clone(a.BrokerIds)
		}
		for _, cfg := range t.Configs {
			s.Configs[cfg.Name] = cfg.Value
		}
		specs = append(specs, s)
	}
	asked := slices.DeleteFunc(slices.Clone(specs), func(s control.TopicSpec) bool { return early[s.Name] != nil })
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	results, err := h.Controller.CreateTopics(ctx, asked, h.defaults(), req.ValidateOnly)
	resp := new(msg.CreateTopicsResponse)
	said := make(map[string]bool)
	next := 0
	if len(results) > 0 && errors.Is(results[0].Err, kerr.PolicyViolation) {
		// The request as a whole is too large: all that stands in it is refused.
		for _, s := range specs {
			resp.Topics = append(resp.Topics, h.created(c, s, control.TopicResult{Name: s.Name, Err: results[0].Err}))
		}
		return resp, nil
	}
	for _, s := range specs {
		result := control.TopicResult{Name: s.Name, Err: early[s.Name]}
		if result.Err == nil {
			result = results[next]
			next++
			if err != nil {
				result = control.TopicResult{Name: s.Name, Err: err}
			}
		}
		if said[s.Name] {
			continue // a name that stands twice is answered once
		}
		said[s.Name] = true
		if result.Err == nil && !req.ValidateOnly {
			h.changedTopic(c, "created topic", result)
		}
		resp.Topics = append(resp.Topics, h.created(c, s, result))
	}
	return resp, nil
}

func (h *Handlers) created(c *Call, s control.TopicSpec, result control.TopicResult) msg.CreateTopicsResponseCreatableTopicResult {
	r := msg.CreateTopicsResponseCreatableTopicResult{}
	r.SetDefaults()
	r.Name = s.Name
	if result.Err != nil {
		r.ErrorCode, r.ErrorMessage = int16(h.code(result.Err)), text(result.Err)
		r.Configs = []msg.CreateTopicsResponseCreatableTopicConfigs{}
		return r
	}
	r.ErrorMessage = nil
	r.TopicId, r.NumPartitions, r.ReplicationFactor = result.ID, result.Partitions, result.ReplicationFactor
	if c.Version() < 5 {
		return r
	}
	own := make(map[string]string, len(s.Configs))
	for k, v := range s.Configs {
		if v != nil {
			own[k] = *v
		}
	}
	for _, d := range config.Describe(config.KindTopic, h.layers(own), nil) {
		value := d.Value
		if raw, ok := own[d.Name]; ok && !d.Sensitive {
			value = &raw // as it was sent, with its blanks
		}
		r.Configs = append(r.Configs, msg.CreateTopicsResponseCreatableTopicConfigs{Name: d.Name, Value: value, ReadOnly: d.ReadOnly, ConfigSource: int8(d.Source), IsSensitive: d.Sensitive})
	}
	return r
}

// deleteTopics answers DeleteTopics (key 20, v1-v6). What stands twice is
// answered once and not deleted. A topic that stands there by its name and by its
// id is not deleted either, and answered by its name (Kafka's ControllerApis).
func (h *Handlers) deleteTopics(c *Call, req *msg.DeleteTopicsRequest) (*msg.DeleteTopicsResponse, error) {
	topics := req.Topics
	if c.Version() < 6 {
		topics = nil
		for i := range req.TopicNames {
			topics = append(topics, msg.DeleteTopicsRequestDeleteTopicState{Name: &req.TopicNames[i]})
		}
	}
	resp := new(msg.DeleteTopicsResponse)
	answer := func(name *string, id prim.UUID, err error) {
		resp.Responses = append(resp.Responses, msg.DeleteTopicsResponseDeletableTopicResult{Name: name, TopicId: id, ErrorCode: int16(h.code(err)), ErrorMessage: text(err)})
	}
	if !h.Broker.DeleteTopicEnable {
		err := kerr.TopicDeletionDisabled
		if c.Version() < 3 {
			err = kerr.InvalidRequest
		}
		for _, t := range topics {
			answer(t.Name, t.TopicId, err)
		}
		return resp, nil
	}
	chosen := h.toDelete(topics, answer)
	if len(chosen) == 0 {
		return resp, nil
	}
	ids := make([]prim.UUID, len(chosen))
	for i, t := range chosen {
		ids[i] = t.ID
	}
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	results, err := h.Controller.DeleteTopics(ctx, ids)
	for i, t := range chosen {
		e := err
		if e == nil {
			e = results[i].Err
		}
		answer(&t.Name, t.ID, e)
		if e == nil {
			h.changed(c, "deleted topic", zap.String("topic", t.Name))
		}
		if e == nil && h.Groups != nil {
			h.Groups.TopicDeleted(results[i].Name)
		}
	}
	return resp, nil
}

// toDelete returns the topics that a request names well, and answers the rest.
func (h *Handlers) toDelete(topics []msg.DeleteTopicsRequestDeleteTopicState, answer func(*string, prim.UUID, error)) (chosen []*meta.Topic) {
	named, withID := make(map[string]int), make(map[prim.UUID]int)
	for _, t := range topics {
		switch {
		case t.Name == nil:
			withID[t.TopicId]++
		case t.TopicId.IsZero():
			named[*t.Name]++
		}
	}
	saidName, saidID := make(map[string]bool), make(map[prim.UUID]bool)
	image := h.Controller.Image()
	for _, t := range topics {
		switch {
		case t.Name != nil && !t.TopicId.IsZero():
			answer(t.Name, t.TopicId, kerr.Refuse(kerr.InvalidRequest, "You may not specify both topic name and topic id."))
			continue
		case t.Name == nil && t.TopicId.IsZero():
			answer(nil, t.TopicId, kerr.Refuse(kerr.InvalidRequest, "Neither topic name nor id were specified."))
			continue
		case t.Name != nil && named[*t.Name] > 1:
			if !saidName[*t.Name] {
				saidName[*t.Name] = true
				answer(t.Name, t.TopicId, kerr.Refuse(kerr.InvalidRequest, "Duplicate topic name."))
			}
			continue
		case t.Name == nil && withID[t.TopicId] > 1:
			if !saidID[t.TopicId] {
				saidID[t.TopicId] = true
				answer(nil, t.TopicId, kerr.Refuse(kerr.InvalidRequest, "Duplicate topic id."))
			}
			continue
		}
		found, err := findTopic(image, t.Name, t.TopicId)
		if errors.Is(err, kerr.InvalidTopicException) {
			err = kerr.UnknownTopicOrPartition
		}
		switch {
		case err != nil:
			answer(t.Name, t.TopicId, err)
		case t.Name != nil && withID[found.ID] > 0:
			answer(t.Name, found.ID, kerr.Refuse(kerr.InvalidRequest, "The provided topic name maps to an ID that was already supplied."))
		case t.Name == nil && named[found.Name] == 1: // answered by its name
		default:
			chosen = append(chosen, found)
		}
	}
	return chosen
}

// createPartitions answers CreatePartitions (key 37, v0-v3).
func (h *Handlers) createPartitions(c *Call, req *msg.CreatePartitionsRequest) (*msg.CreatePartitionsResponse, error) {
	resp := new(msg.CreatePartitionsResponse)
	count := make(map[string]int)
	for _, t := range req.Topics {
		count[t.Name]++
	}
	var specs []control.PartitionsSpec
	for _, t := range req.Topics {
		if count[t.Name] > 1 {
			if count[t.Name] < 1<<16 {
				err := kerr.Refuse(kerr.InvalidRequest, "Duplicate topic name.")
				resp.Results = append(resp.Results, msg.CreatePartitionsResponseCreatePartitionsTopicResult{Name: t.Name, ErrorCode: int16(kerr.InvalidRequest), ErrorMessage: text(err)})
				count[t.Name] = 1 << 16 // said
			}
			continue
		}
		s := control.PartitionsSpec{Name: t.Name, Count: t.Count}
		if t.Assignments != nil {
			s.Assignment = make([][]int32, 0, len(t.Assignments))
			for _, a := range t.Assignments {
				s.Assignment = append(s.Assignment, slices.Clone(a.BrokerIds))
			}
		}
		specs = append(specs, s)
	}
	ctx, cancel := change(c, req.TimeoutMs)
	defer cancel()
	results, err := h.Controller.CreatePartitions(ctx, specs, req.ValidateOnly)
	for i, s := range specs {
		e := err
		if e == nil {
			e = results[i]
		}
		if e == nil && !req.ValidateOnly {
			h.changed(c, "added partitions", zap.String("topic", s.Name), zap.Int32("partitions", s.Count))
		}
		resp.Results = append(resp.Results, msg.CreatePartitionsResponseCreatePartitionsTopicResult{Name: s.Name, ErrorCode: int16(h.code(e)), ErrorMessage: words(e)})
	}
	return resp, nil
}

// deleteRecords answers DeleteRecords (key 21, v0-v2).
func (h *Handlers) deleteRecords(c *Call, req *msg.DeleteRecordsRequest) (*msg.DeleteRecordsResponse, error) {
	resp := new(msg.DeleteRecordsResponse)
	type key struct {
		topic string
		index int32
	}
	last := make(map[key]int64) // of a partition that stands twice, what was said last counts
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			last[key{t.Name, p.PartitionIndex}] = p.Offset
		}
	}
	answered := make(map[key]bool)
	var all []replication.Deletion
	for _, t := range req.Topics {
		out := msg.DeleteRecordsResponseDeleteRecordsTopicResult{Name: t.Name}
		for _, p := range t.Partitions {
			this := key{t.Name, p.PartitionIndex}
			if answered[this] {
				continue
			}
			answered[this] = true
			p.Offset = last[this]
			r := msg.DeleteRecordsResponseDeleteRecordsPartitionResult{PartitionIndex: p.PartitionIndex, LowWatermark: -1}
			partition, err := h.deletable(t.Name, p.PartitionIndex)
			if r.ErrorCode = int16(h.code(err)); err == nil {
				all = append(all, replication.Deletion{Partition: partition, Offset: p.Offset})
			}
			out.Partitions = append(out.Partitions, r)
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	h.Replicas.DeleteRecords(all)
	next := 0
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			r := &resp.Topics[i].Partitions[j]
			if r.ErrorCode != 0 {
				continue
			}
			if d := all[next]; d.Err == nil {
				r.LowWatermark = d.Low
			} else {
				r.ErrorCode = int16(h.code(d.Err))
			}
			next++
		}
	}
	return resp, nil
}

// deletable returns a partition whose records a client may delete.
func (h *Handlers) deletable(topic string, index int32) (*replication.Partition, error) {
	if meta.InternalTopic(topic) {
		return nil, kerr.InvalidTopicException
	}
	p, err := h.leader(topic, index, -1)
	if err != nil {
		return nil, err
	}
	conf, err := h.Replicas.TopicConfig(h.Controller.Image(), topic)
	if err != nil {
		return nil, err
	}
	if conf.Compact && !conf.Delete {
		return nil, kerr.PolicyViolation
	}
	return p, nil
}

// describeTopicPartitions answers DescribeTopicPartitions (key 75, v0): topics a
// page at a time, in order of name.
func (h *Handlers) describeTopicPartitions(c *Call, req *msg.DescribeTopicPartitionsRequest) (*msg.DescribeTopicPartitionsResponse, error) {
	resp := new(msg.DescribeTopicPartitionsResponse)
	resp.SetDefaults()
	limit := max(min(int(req.ResponsePartitionLimit), h.Broker.RequestPartitionSizeLimit), 1)
	image := h.Controller.Image()
	from, first := "", int32(0)
	if req.Cursor != nil {
		from, first = req.Cursor.TopicName, req.Cursor.PartitionIndex
		listed := slices.ContainsFunc(req.Topics, func(t msg.DescribeTopicPartitionsRequestTopicRequest) bool { return t.Name == from })
		if first < 0 || len(req.Topics) > 0 && !listed {
			for _, t := range req.Topics {
				out := msg.DescribeTopicPartitionsResponseTopic{}
				out.SetDefaults()
				out.Name, out.ErrorCode = &t.Name, int16(kerr.InvalidRequest)
				resp.Topics = append(resp.Topics, out)
			}
			return resp, nil
		}
	}
	var names []string
	if len(req.Topics) == 0 {
		image.Topics(from, func(t *meta.Topic) bool {
			names = append(names, t.Name)
			return len(names) <= limit
		})
	} else {
		for _, t := range req.Topics {
			if t.Name >= from {
				names = append(names, t.Name)
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
	}
	for _, topic := range names {
		if limit <= 0 {
			resp.NextCursor = &msg.DescribeTopicPartitionsResponseCursor{TopicName: topic}
			break
		}
		out := msg.DescribeTopicPartitionsResponseTopic{}
		out.SetDefaults()
		out.Name = &topic
		t, err := findTopic(image, &topic, prim.UUID{})
		if err != nil {
			out.ErrorCode = int16(h.code(err))
			out.TopicAuthorizedOperations = topicOperations
			resp.Topics = append(resp.Topics, out)
			continue
		}
		out.TopicId, out.IsInternal, out.TopicAuthorizedOperations = t.ID, t.Internal(), topicOperations
		start := int32(0)
		if topic == from {
			start = first
		}
		for i := int(start); i < len(t.Partitions) && limit > 0; i++ {
			p := t.Partitions[i]
			leader, code := h.leaderOf(c, image, p)
			d := msg.DescribeTopicPartitionsResponsePartition{}
			d.SetDefaults()
			d.ErrorCode, d.PartitionIndex, d.LeaderId, d.LeaderEpoch = int16(code), int32(i), leader, p.LeaderEpoch
			d.ReplicaNodes, d.IsrNodes, d.OfflineReplicas = p.Replicas, p.InSync, h.offline(image, t.Name, int32(i), p)
			// Null is allowed on the wire and breaks the Java client.
			d.EligibleLeaderReplicas = append([]int32{}, p.EligibleLeader...)
			d.LastKnownElr = append([]int32{}, p.LastKnownELR...)
			out.Partitions = append(out.Partitions, d)
			limit--
			if limit == 0 && i+1 < len(t.Partitions) {
				resp.NextCursor = &msg.DescribeTopicPartitionsResponseCursor{TopicName: topic, PartitionIndex: int32(i + 1)}
			}
		}
		resp.Topics = append(resp.Topics, out)
		if resp.NextCursor != nil {
			break
		}
	}
	return resp, nil
}

// describeLogDirs answers DescribeLogDirs (key 35, v1-v5): what lies in each log
// directory.
func (h *Handlers) describeLogDirs(c *Call, req *msg.DescribeLogDirsRequest) (*msg.DescribeLogDirsResponse, error) {
	resp := new(msg.DescribeLogDirsResponse)
	type key struct {
		topic string
		index int32
	}
	var want map[key]bool
	if req.Topics != nil {
		want = make(map[key]bool)
		for _, t := range req.Topics {
			for _, p := range t.Partitions {
				want[key{t.Topic, p}] = true
			}
		}
	}
	for _, dir := range h.Dirs {
		out := msg.DescribeLogDirsResponseDescribeLogDirsResult{}
		out.SetDefaults()
		out.LogDir = dir.Path
		if dir.Err() != nil { // what is in it is unknown
			out.ErrorCode = int16(kerr.KafkaStorageError)
			resp.Results = append(resp.Results, out)
			continue
		}
		out.TotalBytes, out.UsableBytes = dir.Space()
		topics := make(map[string]int)
		h.Replicas.Each(func(p *replication.Partition) bool {
			if p.Dir != dir || want != nil && !want[key{p.Topic, p.Index}] {
				return true
			}
			at, ok := topics[p.Topic]
			if !ok {
				at = len(out.Topics)
				topics[p.Topic] = at
				out.Topics = append(out.Topics, msg.DescribeLogDirsResponseDescribeLogDirsTopic{Name: p.Topic})
			}
			lag := max(p.HighWatermark()-p.Log().EndOffset(), 0)
			out.Topics[at].Partitions = append(out.Topics[at].Partitions, msg.DescribeLogDirsResponseDescribeLogDirsPartition{PartitionIndex: p.Index, PartitionSize: p.Log().Size(), OffsetLag: lag})
			return true
		})
		resp.Results = append(resp.Results, out)
	}
	return resp, nil
}

func codeOf(err error) kerr.Code {
	var c kerr.Code
	if errors.As(err, &c) {
		return c
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return kerr.RequestTimedOut
	}
	return kerr.UnknownServerError
}
