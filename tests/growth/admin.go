package main

import (
	"fmt"
	"strings"

	"github.com/klamm-io/klamm/wire/msg"
)

// unknownName is the i-th name of something that there is not.
func unknownName(i int) string { return fmt.Sprintf("unknown-%05d", i) }

// unknownKeys sets n configs of a broker that it does not know.
func unknownKeys(n int, validateOnly bool) *msg.IncrementalAlterConfigsRequest {
	r := msg.IncrementalAlterConfigsRequestAlterConfigsResource{ResourceType: 4, ResourceName: "1"}
	for i := range n {
		value := "v"
		r.Configs = append(r.Configs, msg.IncrementalAlterConfigsRequestAlterableConfig{Name: unknownName(i), Value: &value})
	}
	return &msg.IncrementalAlterConfigsRequest{ValidateOnly: validateOnly, Resources: []msg.IncrementalAlterConfigsRequestAlterConfigsResource{r}}
}

// admin are the cases of what describes and runs a cluster.
var admin = []growth{
	{name: "list config resources", n: 1000, prepare: topics(func(w *world, _ int) error {
		return w.ask(1, new(msg.ListConfigResourcesRequest), new(msg.ListConfigResourcesResponse))
	})},
	{name: "list config resources of a type again and again", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := &msg.ListConfigResourcesRequest{ResourceTypes: make([]int8, n)}
		for i := range req.ResourceTypes {
			req.ResourceTypes[i] = 4
		}
		return w.ask(1, req, new(msg.ListConfigResourcesResponse))
	})},
	{name: "elect leaders", n: 1000, prepare: partitions(func(w *world, n int) error {
		req := &msg.ElectLeadersRequest{TimeoutMs: 60000, TopicPartitions: []msg.ElectLeadersRequestTopicPartitions{{Topic: w.topics[0]}}}
		for i := range n {
			req.TopicPartitions[0].Partitions = append(req.TopicPartitions[0].Partitions, int32(i))
		}
		return w.ask(2, req, new(msg.ElectLeadersResponse))
	})},
	{name: "elect leaders of all", n: 1000, prepare: topics(func(w *world, _ int) error {
		return w.ask(2, &msg.ElectLeadersRequest{TimeoutMs: 60000}, new(msg.ElectLeadersResponse))
	})},
	{name: "alter partition reassignments", n: 1000, prepare: partitions(func(w *world, n int) error {
		req := &msg.AlterPartitionReassignmentsRequest{TimeoutMs: 60000, Topics: []msg.AlterPartitionReassignmentsRequestReassignableTopic{{Name: w.topics[0]}}}
		for i := range n {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, msg.AlterPartitionReassignmentsRequestReassignablePartition{PartitionIndex: int32(i), Replicas: []int32{1}})
		}
		return w.ask(1, req, new(msg.AlterPartitionReassignmentsResponse))
	})},
	{name: "alter partition reassignments to many replicas", n: 1000, prepare: partitions(func(w *world, n int) error {
		p := msg.AlterPartitionReassignmentsRequestReassignablePartition{}
		for range n {
			p.Replicas = append(p.Replicas, 1)
		}
		req := &msg.AlterPartitionReassignmentsRequest{TimeoutMs: 60000, Topics: []msg.AlterPartitionReassignmentsRequestReassignableTopic{{Name: w.topics[0]}}}
		for range n / 10 { // each fails at its second replica
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, msg.AlterPartitionReassignmentsRequestReassignablePartition{Replicas: p.Replicas[:10]})
		}
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
		return w.ask(1, req, new(msg.AlterPartitionReassignmentsResponse))
	})},
	{name: "list partition reassignments", n: 1000, prepare: topics(func(w *world, _ int) error {
		req := &msg.ListPartitionReassignmentsRequest{TimeoutMs: 60000}
		for _, name := range w.topics {
			req.Topics = append(req.Topics, msg.ListPartitionReassignmentsRequestListPartitionReassignmentsTopics{Name: name, PartitionIndexes: []int32{0, 7}})
		}
		return w.ask(0, req, new(msg.ListPartitionReassignmentsResponse))
	})},
	{name: "describe quorum", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := new(msg.DescribeQuorumRequest)
		for i := range n {
			req.Topics = append(req.Topics, msg.DescribeQuorumRequestTopicData{TopicName: unknownName(i), Partitions: make([]msg.DescribeQuorumRequestPartitionData, 2)})
		}
		return w.ask(2, req, new(msg.DescribeQuorumResponse))
	})},
	{name: "update features again and again", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := &msg.UpdateFeaturesRequest{TimeoutMs: 60000}
		for range n {
			req.FeatureUpdates = append(req.FeatureUpdates, msg.UpdateFeaturesRequestFeatureUpdateKey{Feature: "metadata.version", MaxVersionLevel: 30, UpgradeType: 1})
		}
		return w.ask(1, req, new(msg.UpdateFeaturesResponse))
	})},
	{name: "unregister brokers", n: 300, prepare: nothing(func(w *world, n int) error {
		for range n {
			if err := w.ask(0, &msg.UnregisterBrokerRequest{BrokerId: 9}, new(msg.UnregisterBrokerResponse)); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "add a voter with many listeners", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := &msg.AddRaftVoterRequest{TimeoutMs: 60000, VoterId: 9, AckWhenCommitted: true}
		for i := range n {
			req.Listeners = append(req.Listeners, msg.AddRaftVoterRequestListener{Name: unknownName(i), Host: "127.0.0.1", Port: 9})
		}
		return w.ask(1, req, new(msg.AddRaftVoterResponse))
	})},
	{name: "remove voters", n: 300, prepare: nothing(func(w *world, n int) error {
		for range n {
			if err := w.ask(0, &msg.RemoveRaftVoterRequest{VoterId: 9}, new(msg.RemoveRaftVoterResponse)); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "list transactions of unknown states", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := new(msg.ListTransactionsRequest)
		req.SetDefaults()
		for i := range n {
			req.StateFilters = append(req.StateFilters, unknownName(i))
		}
		return w.ask(2, req, new(msg.ListTransactionsResponse))
	})},
	{name: "list transactions by a long pattern", n: 500, prepare: nothing(func(w *world, n int) error {
		pattern := strings.Repeat("(a|b)*", n)
		req := new(msg.ListTransactionsRequest)
		req.SetDefaults()
		req.TransactionalIdPattern = &pattern
		return w.ask(2, req, new(msg.ListTransactionsResponse))
	})},
	{name: "describe transactions", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := new(msg.DescribeTransactionsRequest)
		for i := range n {
			req.TransactionalIds = append(req.TransactionalIds, unknownName(i))
		}
		return w.ask(0, req, new(msg.DescribeTransactionsResponse))
	})},
	{name: "alter replica log dirs", n: 500, prepare: partitions(func(w *world, n int) error {
		req := new(msg.AlterReplicaLogDirsRequest)
		for i := range n {
			req.Dirs = append(req.Dirs, msg.AlterReplicaLogDirsRequestAlterReplicaLogDir{Path: "/" + unknownName(i), Topics: []msg.AlterReplicaLogDirsRequestAlterReplicaLogDirTopic{
				{Name: w.topics[0], Partitions: []int32{int32(i), 0}}, {Name: unknownName(i), Partitions: []int32{0}}}})
		}
		return w.ask(2, req, new(msg.AlterReplicaLogDirsResponse))
	})},
	{name: "describe client quotas", n: 300, prepare: nothing(func(w *world, n int) error {
		for range n {
			req := &msg.DescribeClientQuotasRequest{Components: []msg.DescribeClientQuotasRequestComponentData{{EntityType: "user", MatchType: 2}, {EntityType: "client-id", MatchType: 2}}}
			if err := w.ask(1, req, new(msg.DescribeClientQuotasResponse)); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "describe scram credentials", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := new(msg.DescribeUserScramCredentialsRequest)
		for i := range n {
			req.Users = append(req.Users, msg.DescribeUserScramCredentialsRequestUserName{Name: unknownName(i / 2)})
		}
		return w.ask(0, req, new(msg.DescribeUserScramCredentialsResponse))
	})},
	{name: "describe ACLs", n: 300, prepare: nothing(func(w *world, n int) error {
		for range n {
			if err := w.ask(3, &msg.DescribeAclsRequest{ResourceTypeFilter: 1, PatternTypeFilter: 1, Operation: 1, PermissionType: 1}, new(msg.DescribeAclsResponse)); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "create ACLs", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := new(msg.CreateAclsRequest)
		for i := range n {
			req.Creations = append(req.Creations, msg.CreateAclsRequestAclCreation{ResourceType: 2, ResourceName: unknownName(i), ResourcePatternType: 3, Principal: "User:a", Host: "*", Operation: 3, PermissionType: 3})
		}
		return w.ask(3, req, new(msg.CreateAclsResponse))
	})},
	{name: "delete ACLs", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := new(msg.DeleteAclsRequest)
		for range n {
			req.Filters = append(req.Filters, msg.DeleteAclsRequestDeleteAclsFilter{ResourceTypeFilter: 1, PatternTypeFilter: 1, Operation: 1, PermissionType: 1})
		}
		return w.ask(3, req, new(msg.DeleteAclsResponse))
	})},
	{name: "sasl handshakes", n: 300, prepare: nothing(func(w *world, n int) error {
		for range n {
			if err := w.ask(1, &msg.SaslHandshakeRequest{Mechanism: "PLAIN"}, new(msg.SaslHandshakeResponse)); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "sasl authentications", n: 300, prepare: nothing(func(w *world, n int) error {
		for range n {
			if err := w.ask(2, new(msg.SaslAuthenticateRequest), new(msg.SaslAuthenticateResponse)); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "telemetry subscriptions", n: 300, prepare: nothing(func(w *world, n int) error {
		for range n {
			if err := w.ask(0, new(msg.GetTelemetrySubscriptionsRequest), new(msg.GetTelemetrySubscriptionsResponse)); err != nil {
				return err
			}
		}
		return nil
	})},
	{name: "set unknown configs of a broker", n: 1000, prepare: nothing(func(w *world, n int) error {
		return w.ask(1, unknownKeys(n, false), new(msg.IncrementalAlterConfigsResponse))
	})},
	{name: "set too many configs", n: 5000, prepare: nothing(func(w *world, n int) error {
		return w.ask(1, unknownKeys(n, true), new(msg.IncrementalAlterConfigsResponse))
	})},
	{name: "describe unknown configs of a broker", n: 500, prepare: func(w *world, n int) (func() error, error) {
		req := msg.DescribeConfigsRequestDescribeConfigsResource{ResourceType: 4, ResourceName: "1"}
		for i := range n {
			req.ConfigurationKeys = append(req.ConfigurationKeys, unknownName(i))
		}
		return func() error {
			return w.ask(4, &msg.DescribeConfigsRequest{IncludeSynonyms: true, Resources: []msg.DescribeConfigsRequestDescribeConfigsResource{req}}, new(msg.DescribeConfigsResponse))
		}, w.ask(1, unknownKeys(n, false), new(msg.IncrementalAlterConfigsResponse))
	}},
	{name: "describe loggers by many names", n: 1000, prepare: nothing(func(w *world, n int) error {
		req := msg.DescribeConfigsRequestDescribeConfigsResource{ResourceType: 8, ResourceName: "1"}
		for i := range n {
			req.ConfigurationKeys = append(req.ConfigurationKeys, unknownName(i))
		}
		return w.ask(4, &msg.DescribeConfigsRequest{Resources: []msg.DescribeConfigsRequestDescribeConfigsResource{req}}, new(msg.DescribeConfigsResponse))
	})},
	{name: "look up a config key full of dots", n: 4000, prepare: nothing(func(w *world, n int) error {
		req := msg.DescribeConfigsRequestDescribeConfigsResource{ResourceType: 4, ResourceName: "1", ConfigurationKeys: []string{"listener.name." + strings.Repeat(".", n)}}
		for range n / 10 {
			req.ConfigurationKeys = append(req.ConfigurationKeys, "a.b")
		}
		return w.ask(4, &msg.DescribeConfigsRequest{Resources: []msg.DescribeConfigsRequestDescribeConfigsResource{req}}, new(msg.DescribeConfigsResponse))
	})},
}
