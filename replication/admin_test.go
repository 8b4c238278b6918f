package replication_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// cluster is a controller of brokers 1 and 2, which live, and 3, which is fenced,
// with the topic t, whose partitions are: 0 led by its first replica; 1 led by
// its second, the first in sync; 2 led by its second, the first not in sync; 3
// without a leader, 3 in sync; 4 without a leader, and of 3 alone.
func cluster(t *testing.T) *replication.Controller {
	t.Helper()
	c := startController(t, vfs.NewMem(), nil)
	t.Cleanup(func() { c.Close() })
	register(t, c, 1)
	register(t, c, 2)
	id := prim.RandomUUID()
	err := c.Change(t.Context(), func(*meta.Image) ([]meta.Record, error) {
		return []meta.Record{
			&msg.RegisterBrokerRecord{BrokerId: 3, BrokerEpoch: 7, Fenced: true},
			&msg.FeatureLevelRecord{Name: "metadata.version", FeatureLevel: 27},
			&msg.TopicRecord{Name: "t", TopicId: id},
			&msg.PartitionRecord{TopicId: id, PartitionId: 0, Replicas: []int32{1, 2}, Isr: []int32{1, 2}, Leader: 1},
			&msg.PartitionRecord{TopicId: id, PartitionId: 1, Replicas: []int32{1, 2}, Isr: []int32{1, 2}, Leader: 2},
			&msg.PartitionRecord{TopicId: id, PartitionId: 2, Replicas: []int32{1, 2}, Isr: []int32{2}, Leader: 2},
			&msg.PartitionRecord{TopicId: id, PartitionId: 3, Replicas: []int32{3, 2}, Isr: []int32{3}, Leader: meta.NoLeader},
			&msg.PartitionRecord{TopicId: id, PartitionId: 4, Replicas: []int32{3}, Isr: []int32{3}, Leader: meta.NoLeader},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// codeOf returns the code of an error, None for nil.
func codeOf(err error) kerr.Code {
	var c kerr.Code
	if err != nil && !errors.As(err, &c) {
		return kerr.UnknownServerError
	}
	return c
}

func TestElections(t *testing.T) {
	const preferred, unclean = control.PreferredElection, control.UncleanElection
	for _, e := range []struct {
		name      string
		kind      control.ElectionType
		topic     string
		partition int32
		want      kerr.Code
		leader    int32 // after it
		inSync    int   // after it
	}{
		{"the preferred replica leads", preferred, "t", 0, kerr.ElectionNotNeeded, 1, 2},
		{"the preferred replica is in sync", preferred, "t", 1, kerr.None, 1, 2},
		{"the preferred replica is not in sync", preferred, "t", 2, kerr.PreferredLeaderNotAvailable, 2, 1},
		{"the preferred replica is fenced", preferred, "t", 3, kerr.PreferredLeaderNotAvailable, -1, 1},
		{"there is a leader", unclean, "t", 2, kerr.ElectionNotNeeded, 2, 1},
		{"one that is not in sync lives", unclean, "t", 3, kerr.None, 2, 1},
		{"nobody lives", unclean, "t", 4, kerr.EligibleLeadersNotAvailable, -1, 1},
		{"no such topic", preferred, "nowhere", 0, kerr.UnknownTopicOrPartition, 0, 0},
		{"no such partition", unclean, "t", 5, kerr.UnknownTopicOrPartition, 0, 0},
		{"a negative partition", preferred, "t", -1, kerr.UnknownTopicOrPartition, 0, 0},
	} {
		c := cluster(t)
		p := control.PartitionName{Topic: e.topic, Partition: e.partition}
		got, err := c.ElectLeaders(t.Context(), e.kind, []control.PartitionName{p, p})
		if err != nil {
			t.Fatal(err)
		}
		again := e.want
		if again == kerr.None {
			again = kerr.ElectionNotNeeded
		}
		if codeOf(got[0]) != e.want || codeOf(got[1]) != again {
			t.Errorf("%s: %v and again %v, want %v and %v", e.name, got[0], got[1], e.want, again)
		}
		if now := c.Image().Partition(e.topic, e.partition); now != nil && (now.Leader != e.leader || len(now.InSync) != e.inSync) {
			t.Errorf("%s: then %+v, want leader %d", e.name, now, e.leader)
		}
	}
}

func TestReassignments(t *testing.T) {
	c := cluster(t)
	for _, e := range []struct {
		name      string
		topic     string
		partition int32
		replicas  []int32
		keep      bool
		want      kerr.Code
	}{
		{"to where it is", "t", 0, []int32{1, 2}, false, kerr.None},
		{"to an unknown broker", "t", 0, []int32{1, 9}, false, kerr.InvalidReplicaAssignment},
		{"to one twice", "t", 0, []int32{1, 1}, false, kerr.InvalidReplicaAssignment},
		{"to none", "t", 0, []int32{}, false, kerr.InvalidReplicaAssignment},
		{"cancels nothing", "t", 0, nil, false, kerr.NoReassignmentInProgress},
		{"to fewer", "t", 0, []int32{1}, true, kerr.InvalidReplicationFactor},
		{"no such topic", "nowhere", 0, []int32{1}, false, kerr.UnknownTopicOrPartition},
		{"no such partition", "t", 5, nil, false, kerr.UnknownTopicOrPartition},
	} {
		move := control.Move{PartitionName: control.PartitionName{Topic: e.topic, Partition: e.partition}, Replicas: e.replicas}
		if results, err := c.AlterReassignments(t.Context(), []control.Move{move}, !e.keep); err != nil || codeOf(results[0]) != e.want {
			t.Errorf("%s: %v %v, want %v", e.name, results, err, e.want)
		}
	}
	if got := control.Reassigning(c.Image()); got != nil {
		t.Errorf("on their way: %v", got)
	}
	move := control.Move{PartitionName: control.PartitionName{Topic: "t", Partition: 1}, Replicas: []int32{1, 2, 3}}
	if results, err := c.AlterReassignments(t.Context(), []control.Move{move}, true); err != nil || results[0] != nil {
		t.Fatal(results, err)
	}
	topics := control.Reassigning(c.Image())
	if len(topics) != 1 {
		t.Fatalf("%d topics on their way, want 1", len(topics))
	}
	for _, indexes := range [][]int32{nil, {0, 1, 9, -1}} {
		if got := control.Reassignments(topics[0], indexes); len(got) != 1 || got[0].Partition != 1 || fmt.Sprint(got[0].Adding) != "[3]" {
			t.Errorf("of %v: %+v", indexes, got)
		}
	}
}

func TestUnregisterBroker(t *testing.T) {
	c := cluster(t)
	if err := c.UnregisterBroker(t.Context(), 9); codeOf(err) != kerr.BrokerIdNotRegistered {
		t.Errorf("an unknown broker: %v", err)
	}
	if err := c.UnregisterBroker(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if c.Image().Broker(2) != nil {
		t.Error("the broker is still there")
	}
	for i, want := range []string{"1 [1]", "1 [1]", "-1 [2]", "-1 [3]", "-1 [3]"} {
		p := c.Image().Partition("t", int32(i))
		if got := fmt.Sprint(p.Leader, " ", p.InSync); got != want {
			t.Errorf("partition %d: leader and in-sync set %s, want %s", i, got, want)
		}
	}
}

func TestUpdateFeatures(t *testing.T) {
	const up, down, unsafe = control.UpgradeFeature, control.SafeDowngradeFeature, control.UnsafeDowngradeFeature
	c := cluster(t) // at level 27
	type update = control.FeatureUpdate
	level := func(l int16, kind control.FeatureUpdateType) update {
		return update{Name: "metadata.version", Level: l, Type: kind}
	}
	for _, e := range []struct {
		name     string
		updates  []update
		validate bool
		want     kerr.Code
		level    int16
	}{
		{"to the level it has", []update{level(27, up)}, false, kerr.None, 27},
		{"up, to see", []update{level(29, up)}, true, kerr.None, 27},
		{"up", []update{level(29, up)}, false, kerr.None, 29},
		{"down by an upgrade", []update{level(28, up)}, false, kerr.InvalidUpdateVersion, 29},
		{"down where nothing is lost", []update{level(24, down)}, false, kerr.None, 24},
		{"down where something is lost", []update{level(22, down)}, false, kerr.InvalidUpdateVersion, 24},
		{"down although something is lost", []update{level(22, unsafe)}, false, kerr.InvalidUpdateVersion, 24},
		{"up by a downgrade", []update{level(25, down)}, false, kerr.InvalidUpdateVersion, 24},
		{"too high", []update{level(31, up)}, false, kerr.InvalidUpdateVersion, 24},
		{"all or none", []update{level(30, up), {Name: "group.version", Level: 1, Type: up}}, false, kerr.InvalidUpdateVersion, 24},
		{"the last counts", []update{level(99, up), level(30, up)}, false, kerr.None, 30},
	} {
		err := c.UpdateFeatures(t.Context(), e.updates, e.validate)
		if got := c.Image().Feature("metadata.version"); codeOf(err) != e.want || got != e.level {
			t.Errorf("%s: %v and level %d, want %v and %d", e.name, err, got, e.want, e.level)
		}
	}
}

// TestARequestMakesSoManyPartitions holds the bounds of what one request may
// make, which count all that it asks for.
func TestARequestMakesSoManyPartitions(t *testing.T) {
	c := startController(t, vfs.NewMem(), nil)
	defer c.Close()
	register(t, c, 1)
	defaults := control.Defaults{Partitions: 4000, ReplicationFactor: 1, Static: static(t)}
	topic := func(name string, n int32) control.TopicSpec {
		return control.TopicSpec{Name: name, Partitions: n, ReplicationFactor: 1}
	}
	for _, e := range []struct {
		name  string
		specs []control.TopicSpec
		want  kerr.Code
	}{
		{"four of 10,000", []control.TopicSpec{topic("a", 10000), topic("b", 10000), topic("c", 10000), topic("d", 10000)}, kerr.PolicyViolation},
		{"one above it by defaults", []control.TopicSpec{topic("a", -1), topic("b", -1), topic("c", 2001)}, kerr.PolicyViolation},
		{"the record of the topic is one too many", []control.TopicSpec{topic("a", 10000)}, kerr.PolicyViolation},
		{"as many as fit", []control.TopicSpec{topic("a", 9999)}, kerr.None},
	} {
		got, err := c.CreateTopics(t.Context(), e.specs, defaults, false)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range got {
			if codeOf(r.Err) != e.want {
				t.Errorf("%s, topic %d: %v, want %v", e.name, i, r.Err, e.want)
			}
		}
	}
	if n := c.Image().PartitionCount(); n != 9999 {
		t.Errorf("%d partitions, want 9999", n)
	}
	if _, err := c.CreateTopics(t.Context(), []control.TopicSpec{topic("few", 1), topic("also", 1)}, defaults, false); err != nil {
		t.Fatal(err)
	}
	got, err := c.CreatePartitions(t.Context(), []control.PartitionsSpec{{Name: "few", Count: 20000}, {Name: "also", Count: 2}}, false)
	if err != nil || codeOf(got[0]) != kerr.UnknownServerError || codeOf(got[1]) != kerr.UnknownServerError {
		t.Errorf("too many, and one more: %+v, %v", got, err)
	}
	got, err = c.CreatePartitions(t.Context(), []control.PartitionsSpec{{Name: "also", Count: 2}, {Name: "few", Count: 10002}}, false)
	if err != nil || got[0] != nil || codeOf(got[1]) != kerr.UnknownServerError {
		t.Errorf("one, and too many: %+v, %v", got, err)
	}
}
