package msg_test

import (
	"fmt"
	"testing"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// hundred returns the messages of the data path, with 100 partitions of two
// topics and the newest version that names topics.
func hundred() map[string]msg.Message {
	records := prim.Records{B: make([]byte, 1024)}
	produce := &msg.ProduceRequest{Acks: -1, TimeoutMs: 30000}
	produced := new(msg.ProduceResponse)
	fetch := new(msg.FetchRequest)
	fetched := new(msg.FetchResponse)
	fetch.SetDefaults()
	for i := range 2 {
		topic := fmt.Sprint("topic-", i)
		produce.TopicData = append(produce.TopicData, msg.ProduceRequestTopicProduceData{Name: topic})
		produced.Responses = append(produced.Responses, msg.ProduceResponseTopicProduceResponse{Name: topic})
		fetch.Topics = append(fetch.Topics, msg.FetchRequestFetchTopic{Topic: topic})
		fetched.Responses = append(fetched.Responses, msg.FetchResponseFetchableTopicResponse{Topic: topic})
		for p := range int32(50) {
			t := &produce.TopicData[i]
			t.PartitionData = append(t.PartitionData, msg.ProduceRequestPartitionProduceData{Index: p, Records: records})
			var a msg.ProduceResponsePartitionProduceResponse
			a.SetDefaults()
			a.Index, a.BaseOffset = p, 1<<40
			produced.Responses[i].PartitionResponses = append(produced.Responses[i].PartitionResponses, a)
			var q msg.FetchRequestFetchPartition
			q.SetDefaults()
			q.Partition, q.FetchOffset, q.PartitionMaxBytes = p, 1<<40, 1<<20
			fetch.Topics[i].Partitions = append(fetch.Topics[i].Partitions, q)
			var r msg.FetchResponsePartitionData
			r.SetDefaults()
			r.PartitionIndex, r.HighWatermark, r.Records = p, 1<<40, records
			fetched.Responses[i].Partitions = append(fetched.Responses[i].Partitions, r)
		}
	}
	return map[string]msg.Message{"ProduceRequest": produce, "ProduceResponse": produced, "FetchRequest": fetch, "FetchResponse": fetched}
}

// TestReusedMessagesDoNotAllocate decodes and encodes what every produce and
// fetch carries with the memory of the one before.
func TestReusedMessagesDoNotAllocate(t *testing.T) {
	const v = 12
	for name, m := range hundred() {
		b, err := m.AppendTo(nil, v)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := msg.NewByName(name)
		if n := testing.AllocsPerRun(10, func() {
			if err := got.Decode(b, v); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}); n != 0 {
			t.Errorf("%s: decoding allocates %v times", name, n)
		}
		out := make([]byte, 0, len(b))
		if n := testing.AllocsPerRun(10, func() { out, err = got.AppendTo(out[:0], v) }); n != 0 || err != nil {
			t.Errorf("%s: encoding allocates %v times, error %v", name, n, err)
		}
		if string(out) != string(b) {
			t.Errorf("%s: encodes to other bytes", name)
		}
	}
}
