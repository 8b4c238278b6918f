package wire

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// version is the newest one that names topics.
const version = 12

// hundred returns the messages of the data path with 100 partitions.
func hundred() []msg.Message {
	records := prim.Records{B: make([]byte, 1024)}
	produce := &msg.ProduceRequest{Acks: -1, TimeoutMs: 30000}
	produced, fetch, fetched := new(msg.ProduceResponse), new(msg.FetchRequest), new(msg.FetchResponse)
	fetch.SetDefaults()
	for i := range 2 {
		topic := fmt.Sprint("topic-", i)
		t := msg.ProduceRequestTopicProduceData{Name: topic}
		a := msg.ProduceResponseTopicProduceResponse{Name: topic}
		q := msg.FetchRequestFetchTopic{Topic: topic}
		r := msg.FetchResponseFetchableTopicResponse{Topic: topic}
		for p := range int32(50) {
			t.PartitionData = append(t.PartitionData, msg.ProduceRequestPartitionProduceData{Index: p, Records: records})
			var ap msg.ProduceResponsePartitionProduceResponse
			ap.SetDefaults()
			ap.Index, ap.BaseOffset = p, 1<<40
			a.PartitionResponses = append(a.PartitionResponses, ap)
			var qp msg.FetchRequestFetchPartition
			qp.SetDefaults()
			qp.Partition, qp.FetchOffset, qp.PartitionMaxBytes = p, 1<<40, 1<<20
			q.Partitions = append(q.Partitions, qp)
			var rp msg.FetchResponsePartitionData
			rp.SetDefaults()
			rp.PartitionIndex, rp.HighWatermark, rp.Records = p, 1<<40, records
			r.Partitions = append(r.Partitions, rp)
		}
		produce.TopicData = append(produce.TopicData, t)
		produced.Responses = append(produced.Responses, a)
		fetch.Topics = append(fetch.Topics, q)
		fetched.Responses = append(fetched.Responses, r)
	}
	return []msg.Message{produce, produced, fetch, fetched}
}

func theirsOf(name string) theirMessage {
	var k theirMessage
	switch name {
	case "ProduceRequest":
		k = kmsg.NewPtrProduceRequest()
	case "ProduceResponse":
		k = kmsg.NewPtrProduceResponse()
	case "FetchRequest":
		k = kmsg.NewPtrFetchRequest()
	case "FetchResponse":
		k = kmsg.NewPtrFetchResponse()
	}
	k.SetVersion(version)
	return k
}

// BenchmarkDecode decodes a message of 100 partitions into the memory of the
// one before, as a connection does: here, and with kmsg in both its ways.
func BenchmarkDecode(b *testing.B) {
	for _, m := range hundred() {
		name := m.MessageName()
		in, err := m.AppendTo(nil, version)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/klamm", func(b *testing.B) {
			b.ReportAllocs()
			used := msg.NewByName(name)
			for b.Loop() {
				if err := used.Decode(in, version); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/klamm-new", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := msg.NewByName(name).Decode(in, version); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/kmsg", func(b *testing.B) {
			b.ReportAllocs()
			used := theirsOf(name)
			for b.Loop() {
				if err := used.ReadFrom(in); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/kmsg-unsafe", func(b *testing.B) {
			b.ReportAllocs()
			used := theirsOf(name).(kmsg.UnsafeReadFrom)
			for b.Loop() {
				if err := used.UnsafeReadFrom(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncode encodes the same messages.
func BenchmarkEncode(b *testing.B) {
	for _, m := range hundred() {
		name := m.MessageName()
		in, err := m.AppendTo(nil, version)
		if err != nil {
			b.Fatal(err)
		}
		k := theirsOf(name)
		if err := k.ReadFrom(in); err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/klamm", func(b *testing.B) {
			b.ReportAllocs()
			out := make([]byte, 0, len(in))
			for b.Loop() {
				if out, err = m.AppendTo(out[:0], version); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/kmsg", func(b *testing.B) {
			b.ReportAllocs()
			out := make([]byte, 0, len(in))
			for b.Loop() {
				out = k.AppendTo(out[:0])
			}
		})
	}
}
