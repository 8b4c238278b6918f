package api

import (
	"errors"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// What the versions of DeleteTopics add to version 1:
//
//	v2   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v3   the same fields
//	v4   compact and tagged fields
//	v5   response: Responses.ErrorMessage
//	v6   request: Topics, without TopicNames; response: Responses.TopicId

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
