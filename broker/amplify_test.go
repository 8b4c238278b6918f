package broker

import (
	"runtime"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/wire/msg"
)

// A long name is not told in full in the error of each of its partitions.
func TestLongNamesTimesPartitions(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	name := strings.Repeat("x", 32000)
	var parts []int32
	for i := range int32(8000) {
		parts = append(parts, i)
	}
	measure := func(what string, req msg.Request, v int16, resp msg.Response) {
		b := p.request(req, v)
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		p.send(b)
		_, err := p.tryAnswer(resp, v)
		runtime.ReadMemStats(&m1)
		n := (m1.TotalAlloc - m0.TotalAlloc) >> 20
		t.Logf("%s: a request of %d bytes, %d MiB allocated, %v", what, len(b), n, err)
		if n > 50 {
			t.Errorf("%s: a request of %d bytes costs %d MiB", what, len(b), n)
		}
	}
	one := &msg.ElectLeadersRequest{TimeoutMs: 1000, TopicPartitions: []msg.ElectLeadersRequestTopicPartitions{{Topic: name, Partitions: parts[:1000]}}}
	measure("ElectLeaders, 1000 partitions", one, 2, new(msg.ElectLeadersResponse))
	var re []msg.AlterPartitionReassignmentsRequestReassignablePartition
	for _, i := range parts[:1000] {
		re = append(re, msg.AlterPartitionReassignmentsRequestReassignablePartition{PartitionIndex: i, Replicas: []int32{1}})
	}
	measure("AlterPartitionReassignments, 1000 partitions", &msg.AlterPartitionReassignmentsRequest{TimeoutMs: 1000, Topics: []msg.AlterPartitionReassignmentsRequestReassignableTopic{{Name: name, Partitions: re}}, AllowReplicationFactorChange: true}, 1, new(msg.AlterPartitionReassignmentsResponse))
}
