package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// handleAdmin answers what only the admin client asks.
func (f *fake) handleAdmin(id int32, h wire.RequestHeader, req msg.Request) msg.Response {
	switch r := req.(type) {
	case *msg.CreateTopicsRequest:
		resp := new(msg.CreateTopicsResponse)
		for _, t := range r.Topics {
			tr := msg.CreateTopicsResponseCreatableTopicResult{Name: t.Name, NumPartitions: -1, ReplicationFactor: -1}
			f.mu.Lock()
			exists := f.topics[t.Name] != nil
			f.mu.Unlock()
			if exists {
				text := "it is there"
				tr.ErrorCode, tr.ErrorMessage = int16(kerr.TopicAlreadyExists), &text
			} else if !r.ValidateOnly {
				f.topic(t.Name, make([]int32, max(t.NumPartitions, 1))...)
				for i := range f.topics[t.Name] {
					f.topics[t.Name][i].leader = f.brokers[0]
				}
			}
			resp.Topics = append(resp.Topics, tr)
		}
		return resp
	case *msg.DeleteTopicsRequest:
		f.mu.Lock()
		defer f.mu.Unlock()
		resp := new(msg.DeleteTopicsResponse)
		for _, t := range r.Topics {
			tr := msg.DeleteTopicsResponseDeletableTopicResult{Name: t.Name}
			if f.topics[*t.Name] == nil {
				tr.ErrorCode = int16(kerr.UnknownTopicOrPartition)
			}
			delete(f.topics, *t.Name)
			resp.Responses = append(resp.Responses, tr)
		}
		return resp
	case *msg.CreatePartitionsRequest:
		resp := new(msg.CreatePartitionsResponse)
		for _, t := range r.Topics {
			for len(f.topics[t.Name]) < int(t.Count) {
				f.topic(t.Name, f.brokers[0])
			}
			resp.Results = append(resp.Results, msg.CreatePartitionsResponseCreatePartitionsTopicResult{Name: t.Name})
		}
		return resp
	case *msg.DeleteRecordsRequest:
		f.mu.Lock()
		defer f.mu.Unlock()
		resp := new(msg.DeleteRecordsResponse)
		for _, t := range r.Topics {
			tr := msg.DeleteRecordsResponseDeleteRecordsTopicResult{Name: t.Name}
			for _, d := range t.Partitions {
				p := f.topics[t.Name][d.PartitionIndex]
				pr := msg.DeleteRecordsResponseDeleteRecordsPartitionResult{PartitionIndex: d.PartitionIndex, LowWatermark: d.Offset}
				switch {
				case p.leader != id:
					pr.ErrorCode = int16(kerr.NotLeaderOrFollower)
				case d.Offset > p.end:
					pr.ErrorCode = int16(kerr.OffsetOutOfRange)
				default:
					p.start = d.Offset
				}
				tr.Partitions = append(tr.Partitions, pr)
			}
			resp.Topics = append(resp.Topics, tr)
		}
		return resp
	case *msg.DescribeConfigsRequest:
		resp := new(msg.DescribeConfigsResponse)
		for _, q := range r.Resources {
			value := fmt.Sprintf("%s of b%d", q.ResourceName, id)
			rr := msg.DescribeConfigsResponseDescribeConfigsResult{ResourceType: q.ResourceType, ResourceName: q.ResourceName}
			if q.ResourceName == "none" {
				rr.ErrorCode = int16(kerr.UnknownTopicOrPartition)
			} else {
				rr.Configs = []msg.DescribeConfigsResponseDescribeConfigsResourceResult{{Name: "k", Value: &value, ConfigSource: 5}}
			}
			resp.Results = append(resp.Results, rr)
		}
		return resp
	case *msg.IncrementalAlterConfigsRequest:
		resp := new(msg.IncrementalAlterConfigsResponse)
		for _, q := range r.Resources {
			rr := msg.IncrementalAlterConfigsResponseAlterConfigsResourceResponse{ResourceType: q.ResourceType, ResourceName: q.ResourceName}
			for _, c := range q.Configs {
				if (c.Value == nil) != (c.ConfigOperation == 1) {
					rr.ErrorCode = int16(kerr.InvalidConfig)
				}
			}
			resp.Responses = append(resp.Responses, rr)
		}
		return resp
	case *msg.DescribeClusterRequest:
		resp := new(msg.DescribeClusterResponse)
		resp.SetDefaults()
		resp.ClusterId, resp.ControllerId = "fake", f.brokers[0]
		for _, b := range f.brokers {
			resp.Brokers = append(resp.Brokers, msg.DescribeClusterResponseDescribeClusterBroker{BrokerId: b, Host: "h", Port: 1})
		}
		if r.IncludeFencedBrokers {
			resp.Brokers = append(resp.Brokers, msg.DescribeClusterResponseDescribeClusterBroker{BrokerId: 9, Host: "h", Port: 1, IsFenced: true})
		}
		return resp
	case *msg.DescribeQuorumRequest:
		return &msg.DescribeQuorumResponse{Topics: []msg.DescribeQuorumResponseTopicData{{TopicName: "__cluster_metadata", Partitions: []msg.DescribeQuorumResponsePartitionData{{LeaderId: f.brokers[0],
			CurrentVoters: []msg.DescribeQuorumResponseReplicaState{{ReplicaId: f.brokers[0], LogEndOffset: 7, LastFetchTimestamp: -1, LastCaughtUpTimestamp: 1}}}}}}}
	case *msg.ElectLeadersRequest:
		resp := new(msg.ElectLeadersResponse)
		for _, t := range r.TopicPartitions {
			out := msg.ElectLeadersResponseReplicaElectionResult{Topic: t.Topic}
			for _, p := range t.Partitions {
				out.PartitionResult = append(out.PartitionResult, msg.ElectLeadersResponsePartitionResult{PartitionId: p})
			}
			resp.ReplicaElectionResults = append(resp.ReplicaElectionResults, out)
		}
		return resp
	case *msg.AddRaftVoterRequest:
		resp := new(msg.AddRaftVoterResponse)
		switch {
		case r.ClusterId != nil || r.VoterDirectoryId.IsZero() || r.TimeoutMs <= 0:
			resp.ErrorCode = int16(kerr.InvalidRequest)
		case r.VoterId == 5: // is never ready
			resp.ErrorCode = int16(kerr.RequestTimedOut)
		case r.VoterId != 4:
			resp.ErrorCode = int16(kerr.DuplicateVoter)
		}
		return resp
	case *msg.RemoveRaftVoterRequest:
		resp := new(msg.RemoveRaftVoterResponse)
		if r.VoterId != 4 || r.VoterDirectoryId.IsZero() {
			resp.ErrorCode = int16(kerr.VoterNotFound)
		}
		return resp
	case *msg.UnregisterBrokerRequest:
		resp := new(msg.UnregisterBrokerResponse)
		if r.BrokerId != 9 {
			resp.ErrorCode = int16(kerr.BrokerIdNotRegistered)
		}
		return resp
	case *msg.AlterPartitionReassignmentsRequest:
		return f.reassign(r)
	case *msg.ListPartitionReassignmentsRequest:
		return f.reassigning(r)
	case *msg.DescribeLogDirsRequest:
		return &msg.DescribeLogDirsResponse{Results: []msg.DescribeLogDirsResponseDescribeLogDirsResult{{LogDir: fmt.Sprintf("/d%d", id), TotalBytes: -1, UsableBytes: -1,
			Topics: []msg.DescribeLogDirsResponseDescribeLogDirsTopic{{Name: "t", Partitions: []msg.DescribeLogDirsResponseDescribeLogDirsPartition{{PartitionSize: 7}}}}}}}
	case *msg.ListGroupsRequest:
		return &msg.ListGroupsResponse{Groups: []msg.ListGroupsResponseListedGroup{{GroupId: fmt.Sprintf("g%d", 9-id), ProtocolType: "consumer", GroupState: "Stable"}}}
	case *msg.DescribeGroupsRequest:
		a, err := encodeAssignment([]TopicPartition{{"t", 3}})
		if err != nil {
			f.t.Error(err)
		}
		return &msg.DescribeGroupsResponse{Groups: []msg.DescribeGroupsResponseDescribedGroup{{GroupId: r.Groups[0], GroupState: "Stable", ProtocolType: "consumer", ProtocolData: "range",
			AuthorizedOperations: -2147483648, Members: []msg.DescribeGroupsResponseDescribedGroupMember{{MemberId: "m", ClientId: "c", ClientHost: "/h", MemberAssignment: a}}}}}
	case *msg.DeleteGroupsRequest:
		return &msg.DeleteGroupsResponse{Results: []msg.DeleteGroupsResponseDeletableGroupResult{{GroupId: r.GroupsNames[0], ErrorCode: int16(kerr.NonEmptyGroup)}}}
	case *msg.OffsetDeleteRequest:
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				delete(f.commits[r.GroupId][t.Name], p.PartitionIndex)
			}
		}
		return &msg.OffsetDeleteResponse{}
	}
	f.t.Errorf("broker %d: %s", id, req.MessageName())
	return nil
}

func newAdmin(t *testing.T, f *fake) *Admin {
	t.Helper()
	a, err := NewAdmin(AdminOptions{Options: f.options()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func TestAdminTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := background(t)
		f := newFake(t, 1, 2)
		a := newAdmin(t, f)
		tries := 0
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			if r, ok := req.(*msg.CreateTopicsRequest); ok && tries == 0 {
				tries++
				return &msg.CreateTopicsResponse{Topics: []msg.CreateTopicsResponseCreatableTopicResult{{Name: r.Topics[0].Name, ErrorCode: int16(kerr.NotController), NumPartitions: -1, ReplicationFactor: -1}}}, ""
			}
			return nil, ""
		}
		errs, err := a.CreateTopics(ctx, []NewTopic{{Name: "t", Partitions: 2, Configs: map[string]string{"retention.ms": "5"}}, {Name: "u"}}, false)
		if err != nil || errs["t"] != nil || errs["u"] != nil || len(errs) != 2 {
			t.Errorf("%v, %v", errs, err)
		}
		errs, err = a.CreateTopics(ctx, []NewTopic{{Name: "t"}, {Name: "x"}}, true)
		if err != nil || !errors.Is(errs["t"], kerr.TopicAlreadyExists) || errs["x"] != nil {
			t.Errorf("%v, %v", errs, err)
		}
		if errs, err := a.CreatePartitions(ctx, map[string]int32{"t": 5}, false); err != nil || errs["t"] != nil {
			t.Errorf("%v, %v", errs, err)
		}
		all, err := a.ListTopics(ctx)
		if err != nil || len(all) != 2 || all[0].Name != "t" || len(all[0].Partitions) != 5 || all[0].Partitions[4].Leader != 1 {
			t.Errorf("%+v, %v", all, err)
		}
		some, err := a.DescribeTopics(ctx, "u", "none")
		if err != nil || len(some) != 2 || !errors.Is(some[0].Err, kerr.UnknownTopicOrPartition) || some[1].Err != nil {
			t.Errorf("%+v, %v", some, err)
		}
		if errs, err := a.DeleteTopics(ctx, "u", "none"); err != nil || errs["u"] != nil || !errors.Is(errs["none"], kerr.UnknownTopicOrPartition) {
			t.Errorf("%v, %v", errs, err)
		}
	})
}

func TestAdminRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := background(t)
		f := newFake(t, 1, 2)
		f.topic("t", 1, 2)
		f.fill("t", 0, record.None, 1, 10)
		f.fill("t", 1, record.None, 1, 20)
		a := newAdmin(t, f)
		zero, one := TopicPartition{"t", 0}, TopicPartition{"t", 1}
		got, err := a.DeleteRecords(ctx, map[TopicPartition]int64{zero: 3, one: 4})
		if err != nil || got[zero] != 3 || got[one] != 4 {
			t.Errorf("%v, %v", got, err)
		}
		if _, err := a.DeleteRecords(ctx, map[TopicPartition]int64{zero: 11}); !errors.Is(err, kerr.OffsetOutOfRange) {
			t.Errorf("beyond the end: %v", err)
		}
		began := time.Now()
		if _, err := a.DeleteRecords(ctx, map[TopicPartition]int64{{"t", 9}: 0}); !errors.Is(err, kerr.UnknownTopicOrPartition) || time.Since(began) > time.Second {
			t.Errorf("no such partition: %v after %v", err, time.Since(began))
		}
		at, err := a.ListOffsets(ctx, map[TopicPartition]Position{zero: AtStart(0), one: AtEnd(1)}, false)
		if err != nil || at[zero] != 3 || at[one] != 19 {
			t.Errorf("%v, %v", at, err)
		}
		at, err = a.ListOffsets(ctx, map[TopicPartition]Position{zero: AtTime(time.UnixMilli(1005)), one: AtTime(time.UnixMilli(9999))}, false)
		if err != nil || at[zero] != 5 || at[one] != 20 {
			t.Errorf("%v, %v", at, err)
		}
	})
}

func TestAdminConfigs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := background(t)
		f := newFake(t, 1, 2)
		a := newAdmin(t, f)
		topic, broker := Resource{TopicResource, "t"}, Resource{BrokerResource, "2"}
		got, err := a.DescribeConfigs(ctx, []Resource{topic, broker}, nil, true)
		if err != nil || len(got[topic]) != 1 || *got[broker][0].Value != "2 of b2" {
			t.Errorf("%+v, %v", got, err)
		}
		began := time.Now()
		if got, err := a.DescribeConfigs(ctx, []Resource{topic, {TopicResource, "none"}}, nil, false); !errors.Is(err, kerr.UnknownTopicOrPartition) || len(got[topic]) != 1 || time.Since(began) > time.Second {
			t.Errorf("%+v, %v after %v", got, err, time.Since(began))
		}
		if _, err := a.DescribeConfigs(ctx, []Resource{{BrokerResource, "x"}}, nil, false); !errors.Is(err, ErrConfig) {
			t.Errorf("broker x: %v", err)
		}
		if err := a.AlterConfigs(ctx, map[Resource][]ConfigOp{topic: {{"a", SetConfig, "1"}, {"b", DeleteConfig, ""}}, broker: {{"c", AppendConfig, "1"}}}, false); err != nil {
			t.Error(err)
		}
	})
}

func TestAdminCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := background(t)
		f := newFake(t, 1, 2)
		a := newAdmin(t, f)
		c, err := a.DescribeCluster(ctx)
		if err != nil || c.ID != "fake" || c.Controller != 1 || len(c.Brokers) != 2 {
			t.Errorf("%+v, %v", c, err)
		}
		if len(c.Fenced) != 1 || c.Fenced[0].ID != 9 {
			t.Errorf("fenced: %+v", c.Fenced)
		}
		const directory = "JEXY6aqzQY-32P5TStzaFg"
		asked := f.count(wire.AddRaftVoter)
		for id, want := range map[int32]error{4: nil, 1: kerr.DuplicateVoter, 5: kerr.RequestTimedOut} {
			if err := a.AddRaftVoter(ctx, id, directory, nil, 0); !errors.Is(err, want) {
				t.Errorf("add voter %d: %v, want %v", id, err, want)
			}
		}
		if n := f.count(wire.AddRaftVoter) - asked; n != 3 {
			t.Errorf("3 voters are asked for %d times: it would be waited for again", n)
		}
		for id, want := range map[int32]error{4: nil, 1: kerr.VoterNotFound} {
			if err := a.RemoveRaftVoter(ctx, id, directory); !errors.Is(err, want) {
				t.Errorf("remove voter %d: %v, want %v", id, err, want)
			}
		}
		if err := a.AddRaftVoter(ctx, 4, "short", nil, 0); err == nil {
			t.Error("a directory id that is none")
		}
		if err := a.UnregisterBroker(ctx, 9); err != nil {
			t.Error(err)
		}
		if err := a.UnregisterBroker(ctx, 8); !errors.Is(err, kerr.BrokerIdNotRegistered) {
			t.Errorf("unregister a broker that is not there: %v", err)
		}
		dirs, err := a.DescribeLogDirs(ctx)
		if err != nil || len(dirs) != 2 || dirs[1].Path != "/d2" || dirs[0].Partitions[0].Size != 7 {
			t.Errorf("%+v, %v", dirs, err)
		}
	})
}

func TestAdminGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := background(t)
		f := newFake(t, 1, 2)
		a := newAdmin(t, f)
		groups, err := a.ListGroups(ctx)
		if err != nil || len(groups) != 2 || groups[0].ID != "g7" || groups[0].Coordinator != 2 {
			t.Errorf("%+v, %v", groups, err)
		}
		g, err := a.DescribeGroup(ctx, "g")
		if err != nil || !slices.Equal(g.Members[0].Assigned, []TopicPartition{{"t", 3}}) || g.Protocol != "range" {
			t.Errorf("%+v, %v", g, err)
		}
		if err := a.DeleteGroup(ctx, "g"); !errors.Is(err, kerr.NonEmptyGroup) {
			t.Errorf("delete: %v", err)
		}
		zero, one := TopicPartition{"t", 0}, TopicPartition{"t", 1}
		if err := a.SetGroupOffsets(ctx, "g", map[TopicPartition]Offset{zero: {At: 5, LeaderEpoch: -1}, one: {At: 6, LeaderEpoch: -1}}); err != nil {
			t.Error(err)
		}
		if err := a.DeleteGroupOffsets(ctx, "g", zero); err != nil {
			t.Error(err)
		}
		at, err := a.GroupOffsets(ctx, "g")
		if err != nil || len(at) != 1 || at[one].At != 6 {
			t.Errorf("%v, %v", at, err)
		}
	})
}

func TestAdminGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.n.Partition("client", "b1")
		a, err := NewAdmin(AdminOptions{Options: f.options(), APITimeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		began := time.Now()
		if _, err := a.ListTopics(background(t)); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 20*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
