package conformance_test

import (
	"bytes"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/conformance/driver"
)

// scenarios are all of them.
var scenarios = slicesOf(recordScenarios, groupScenarios, adminScenarios)

func slicesOf(lists ...[]scenario) (all []scenario) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

var recordScenarios = []scenario{
	{"codecs", nil, func(s *session) {
		topic := s.create("t", 1)
		var offset int64
		for _, codec := range codecs {
			if !s.has(codec) {
				continue
			}
			want := recs(0, int(offset), 20)
			for i := range want {
				want[i].Value = bytes.Repeat(want[i].Value, 50)
			}
			s.produce(driver.Op{Topic: topic, Codec: codec}, want...)
			s.reads(topic, 0, offset, want)
			s.reads(topic, 0, offset+7, want[7:15])
			offset += int64(len(want))
		}
	}},
	{"nulls and headers", nil, func(s *session) {
		topic := s.create("t", 1)
		want := []driver.Record{
			{Key: []byte("k"), Value: []byte("v"), Headers: []driver.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "b", Value: []byte("3")}}},
			{Key: nil, Value: []byte("no key")},
			{Key: []byte{}, Value: []byte("empty key")},
			{Key: []byte("empty value"), Value: []byte{}},
			{Key: []byte("tombstone"), Value: nil},
			{Key: []byte{0, 255, 10}, Value: []byte{0, 0, 255}, Headers: []driver.Header{{Key: "empty", Value: []byte{}}, {Key: "bytes", Value: []byte{0, 255}}}},
		}
		if s.has("null_headers") {
			want = append(want, driver.Record{Key: []byte("k"), Value: []byte("v"), Headers: []driver.Header{{Key: "null", Value: nil}}})
		}
		for i := range want {
			want[i].Timestamp = -1
		}
		s.produce(driver.Op{Topic: topic}, want...)
		s.equal(s.consume(topic, 0, driver.Earliest, len(want)), 0, 0, want)
	}},
	{"one megabyte", nil, func(s *session) {
		topic := s.create("t", 1)
		var want []driver.Record
		for i := range 3 {
			r := rec(0, fmt.Sprint(i), "")
			r.Value = make([]byte, 1_000_000)
			for j := range r.Value {
				r.Value[j] = byte(j*j>>7 + i)
			}
			want = append(want, r)
			s.produce(driver.Op{Topic: topic}, r)
		}
		s.reads(topic, 0, 0, want)
	}},
	{"timestamps", nil, func(s *session) {
		topic := s.create("create-time", 1)
		want := recs(0, 0, 10)
		for i := range want {
			want[i].Timestamp = past + int64(i*i%7)*1000
		}
		s.produce(driver.Op{Topic: topic}, want...)
		s.reads(topic, 0, 0, want)
		if !s.has("append_time") {
			return
		}
		topic = s.create("append-time", 1, set("message.timestamp.type", "LogAppendTime"))
		s.produce(driver.Op{Topic: topic, Codec: "gzip"}, want...)
		for i := range want {
			want[i].Timestamp = -1
		}
		s.reads(topic, 0, 0, want)
	}},
	{"partitions", nil, func(s *session) {
		topic := s.create("t", 6)
		for p := range int32(6) {
			s.produce(driver.Op{Topic: topic}, recs(p, int(p), 2)...)
		}
		for p := range int32(6) {
			s.reads(topic, p, 0, recs(p, int(p), 2))
		}
	}},
	{"keys", nil, func(s *session) {
		topic := s.create("t", 6)
		var all []driver.Record
		for round := range 2 {
			for i := range 20 {
				all = append(all, rec(-1, fmt.Sprintf("key-%d", i), fmt.Sprintf("%d", round)))
			}
			s.produce(driver.Op{Topic: topic}, all[round*20:]...)
		}
		where := make(map[string]int32)
		total := 0
		for p := range int32(6) {
			end := s.ok(driver.Op{Op: "list_offsets", Topic: topic, Partition: p, Timestamp: driver.Latest}).Offset
			total += int(end)
			if end == 0 {
				continue
			}
			for _, r := range s.consume(topic, p, 0, int(end)) {
				if was, ok := where[string(r.Key)]; ok && was != p {
					s.Errorf("%s is in partitions %d and %d", r.Key, was, p)
				}
				where[string(r.Key)] = p
			}
		}
		if total != len(all) {
			s.Errorf("%d records are there, want %d", total, len(all))
		}
		if !s.has("murmur2") {
			return
		}
		java := kgo.StickyKeyPartitioner(nil).ForTopic(topic)
		for key, p := range where {
			if want := java.Partition(&kgo.Record{Key: []byte(key)}, 6); want != int(p) {
				s.Errorf("%s is in partition %d, want %d", key, p, want)
			}
		}
	}},
	{"idempotent", []string{"idempotent"}, func(s *session) {
		topic := s.create("t", 2)
		for i := range 3 {
			s.produce(driver.Op{Topic: topic, Idempotent: true}, append(recs(0, i*10, 10), recs(1, i*10, 10)...)...)
		}
		s.reads(topic, 0, 0, recs(0, 0, 30))
		s.reads(topic, 1, 0, recs(1, 0, 30))
	}},
	{"acks", nil, func(s *session) {
		topic := s.create("t", 1)
		for i, acks := range []string{"0", "1", "all"} {
			op := driver.Op{Op: "produce", Topic: topic, Codec: "none", Acks: acks, Records: recs(0, i*5, 5)}
			if r := s.quiet(op); r.Error != "" { // without acknowledgements clients make up offsets
				s.Fatalf("acks %s: %s (%s)", acks, r.Error, r.Message)
			}
			s.reads(topic, 0, int64(i*5), recs(0, i*5, 5))
		}
	}},
	{"auto create", nil, func(s *session) {
		topic := s.name("t")
		s.produce(driver.Op{Topic: topic, AutoCreate: true}, recs(-1, 0, 1)...)
		s.reads(topic, 0, 0, recs(0, 0, 1))
		if n := s.ok(driver.Op{Op: "describe_topic", Topic: topic}).Partitions; n != 1 {
			s.Errorf("%d partitions, want 1", n)
		}
	}},
	{"produce errors", nil, func(s *session) {
		topic := s.create("small", 1, set("max.message.bytes", "1000"))
		big := rec(0, "k", "")
		big.Value = bytes.Repeat([]byte("x"), 5000)
		one := func(topic string, r driver.Record) driver.Op {
			return driver.Op{Op: "produce", Topic: topic, Codec: "none", Acks: "all", Records: []driver.Record{r}}
		}
		s.fails(one(topic, big), "MESSAGE_TOO_LARGE")
		s.produce(driver.Op{Topic: topic}, recs(0, 0, 1)...)
		s.reads(topic, 0, 0, recs(0, 0, 1))

		early := rec(0, "k", "v")
		early.Timestamp = past
		topic = s.create("recent", 1, set("message.timestamp.before.max.ms", "1000"))
		s.fails(one(topic, early), "INVALID_TIMESTAMP")

		topic = s.create("compacted", 1, set("cleanup.policy", "compact"))
		s.fails(one(topic, driver.Record{Value: []byte("no key"), Timestamp: -1}), "INVALID_RECORD")

		if s.has("no_auto_create") {
			s.fails(one(s.name("missing"), rec(0, "k", "v")), "UNKNOWN_TOPIC_OR_PARTITION", "client: _UNKNOWN_TOPIC", "client: _UNKNOWN_PARTITION")
		}
	}},
	{"out of range", []string{"out_of_range"}, func(s *session) {
		topic := s.create("t", 1)
		s.produce(driver.Op{Topic: topic}, recs(0, 0, 3)...)
		s.fails(driver.Op{Op: "consume", Topic: topic, Offset: 100, Count: 1}, "OFFSET_OUT_OF_RANGE")
	}},
}
