package client

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// reassign notes moves of partitions, which never end in a fake.
func (f *fake) reassign(r *msg.AlterPartitionReassignmentsRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.AlterPartitionReassignmentsResponse)
	for _, t := range r.Topics {
		out := msg.AlterPartitionReassignmentsResponseReassignableTopicResponse{Name: t.Name}
		for _, p := range t.Partitions {
			tp := TopicPartition{t.Name, p.PartitionIndex}
			code := kerr.None
			switch _, moves := f.moves[tp]; {
			case int(tp.Partition) >= len(f.topics[tp.Topic]):
				code = kerr.UnknownTopicOrPartition
			case !r.AllowReplicationFactorChange && len(p.Replicas) > 1:
				code = kerr.InvalidReplicationFactor // a partition of a fake has one
			case p.Replicas == nil && !moves:
				code = kerr.NoReassignmentInProgress
			case p.Replicas == nil:
				delete(f.moves, tp)
			default:
				if f.moves == nil {
					f.moves = make(map[TopicPartition][]int32)
				}
				f.moves[tp] = p.Replicas
			}
			out.Partitions = append(out.Partitions, msg.AlterPartitionReassignmentsResponseReassignablePartitionResponse{PartitionIndex: p.PartitionIndex, ErrorCode: int16(code)})
		}
		resp.Responses = append(resp.Responses, out)
	}
	return resp
}

func (f *fake) reassigning(r *msg.ListPartitionReassignmentsRequest) msg.Response {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := new(msg.ListPartitionReassignmentsResponse)
	for tp, to := range f.moves {
		asked := r.Topics == nil
		for _, t := range r.Topics {
			asked = asked || t.Name == tp.Topic && slices.Contains(t.PartitionIndexes, tp.Partition)
		}
		if asked {
			leader := f.topics[tp.Topic][tp.Partition].leader
			resp.Topics = append(resp.Topics, msg.ListPartitionReassignmentsResponseOngoingTopicReassignment{Name: tp.Topic, Partitions: []msg.ListPartitionReassignmentsResponseOngoingPartitionReassignment{{
				PartitionIndex: tp.Partition, Replicas: append(slices.Clone(to), leader), AddingReplicas: to, RemovingReplicas: []int32{leader}}}})
		}
	}
	return resp
}

func TestAdminReassign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := background(t)
		f := newFake(t, 1, 2)
		f.topic("t", 1, 1)
		f.topic("u", 1)
		a := newAdmin(t, f)
		tries := 0
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			if r, ok := req.(*msg.AlterPartitionReassignmentsRequest); ok && tries == 0 {
				tries++
				return &msg.AlterPartitionReassignmentsResponse{Responses: []msg.AlterPartitionReassignmentsResponseReassignableTopicResponse{{Name: r.Topics[0].Name,
					Partitions: []msg.AlterPartitionReassignmentsResponseReassignablePartitionResponse{{ErrorCode: int16(kerr.NotController)}}}}}, ""
			}
			return nil, ""
		}
		zero, one, of := TopicPartition{"t", 0}, TopicPartition{"t", 1}, TopicPartition{"u", 0}
		errs, err := a.AlterPartitionReassignments(ctx, map[TopicPartition][]int32{zero: {2}, of: {2}, {"t", 7}: {2}}, true)
		if err != nil || errs[zero] != nil || errs[of] != nil || !errors.Is(errs[TopicPartition{"t", 7}], kerr.UnknownTopicOrPartition) || len(errs) != 3 {
			t.Errorf("%v, %v", errs, err)
		}
		if errs, err = a.AlterPartitionReassignments(ctx, map[TopicPartition][]int32{one: {1, 2}}, true); err != nil || !errors.Is(errs[one], kerr.InvalidReplicationFactor) {
			t.Errorf("two replicas: %v, %v", errs, err)
		}
		all, err := a.ListPartitionReassignments(ctx)
		if err != nil || len(all) != 2 || !reflect.DeepEqual(all[zero], Reassignment{Replicas: []int32{2, 1}, Adding: []int32{2}, Removing: []int32{1}}) || !slices.Equal(all[zero].Target(), []int32{2}) {
			t.Errorf("%+v, %v", all, err)
		}
		some, err := a.ListPartitionReassignments(ctx, of, one)
		if err != nil || len(some) != 1 || some[of].Replicas == nil {
			t.Errorf("%+v, %v", some, err)
		}
		errs, err = a.AlterPartitionReassignments(ctx, map[TopicPartition][]int32{zero: nil, one: nil}, true)
		if err != nil || errs[zero] != nil || !errors.Is(errs[one], kerr.NoReassignmentInProgress) {
			t.Errorf("cancel: %v, %v", errs, err)
		}
		if all, err := a.ListPartitionReassignments(ctx); err != nil || len(all) != 1 {
			t.Errorf("after a cancel: %+v, %v", all, err)
		}
	})
}
