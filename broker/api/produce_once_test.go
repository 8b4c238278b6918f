package api

import (
	"fmt"
	"testing"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// A partition that stands twice in a produce is appended to once: klamm wrote the
// records twice, where Kafka keeps what was said last.
func TestOnePartitionOnce(t *testing.T) {
	part := func(index int32, records string) msg.ProduceRequestPartitionProduceData {
		return msg.ProduceRequestPartitionProduceData{Index: index, Records: prim.Records{B: []byte(records)}}
	}
	topic := func(name string, parts ...msg.ProduceRequestPartitionProduceData) msg.ProduceRequestTopicProduceData {
		return msg.ProduceRequestTopicProduceData{Name: name, PartitionData: parts}
	}
	var many, once []msg.ProduceRequestPartitionProduceData
	for i := range int32(100) {
		many, once = append(many, part(i, "a")), append(once, part(i, "a"))
	}
	many, once[7] = append(many, part(7, "b")), part(7, "b")
	for _, c := range []struct {
		name string
		in   []msg.ProduceRequestTopicProduceData
		want []msg.ProduceRequestTopicProduceData
	}{
		{"each once", []msg.ProduceRequestTopicProduceData{topic("t", part(0, "a"), part(1, "b")), topic("u", part(0, "c"))},
			[]msg.ProduceRequestTopicProduceData{topic("t", part(0, "a"), part(1, "b")), topic("u", part(0, "c"))}},
		{"a partition twice", []msg.ProduceRequestTopicProduceData{topic("t", part(0, "a"), part(1, "b"), part(0, "c"))},
			[]msg.ProduceRequestTopicProduceData{topic("t", part(0, "c"), part(1, "b"))}},
		{"a topic twice", []msg.ProduceRequestTopicProduceData{topic("t", part(0, "a")), topic("t", part(0, "b"))},
			[]msg.ProduceRequestTopicProduceData{topic("t", part(0, "b"))}},
		{"a topic without partitions", []msg.ProduceRequestTopicProduceData{topic("t"), topic("u", part(0, "a"))},
			[]msg.ProduceRequestTopicProduceData{topic("u", part(0, "a"))}},
		{"one of many twice", []msg.ProduceRequestTopicProduceData{topic("t", many...)}, []msg.ProduceRequestTopicProduceData{topic("t", once...)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := &msg.ProduceRequest{TopicData: c.in}
			onePartitionOnce(req)
			if got, want := fmt.Sprint(req.TopicData), fmt.Sprint(c.want); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}
