package conformance_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/record"
)

// script is a storage case that is run against one broker. It notes what came of
// each step, which must be the same on both.
type script struct {
	*testing.T
	broker *systems.Process
	conn   *rawConn
	topic  string
	ranges map[int16][2]int16 // versions by key
	now    int64              // ms, the same for both brokers
	lines  []string
}

func (s *script) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func errorName(code int16) string {
	if err := kerr.TypedErrorForCode(code); err != nil {
		return err.Message
	}
	return "ok"
}

// create makes a topic of one partition, and reports whether the broker did.
func (s *script) create(topic string, configs ...string) bool {
	s.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10000
	req.SetVersion(7)
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, 1, 1
	for i := 0; i < len(configs); i += 2 {
		topicConfig(configs[i], &configs[i+1])(&t)
	}
	req.Topics = append(req.Topics, t)
	code := s.conn.ok(s.T, req).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode
	s.say("create %v: %s", configs, errorName(code))
	if code == 0 {
		if err := awaitTopic(s.Context(), s.broker, topic, 1); err != nil {
			s.Fatal(err)
		}
	}
	s.topic = topic
	return code == 0
}

// alter sets one config of the topic.
func (s *script) alter(key string, value *string, validate bool) {
	s.Helper()
	s.incremental(key, value, kmsg.IncrementalAlterConfigOpSet, validate)
}

// incremental changes one config of the topic.
func (s *script) incremental(key string, value *string, op kmsg.IncrementalAlterConfigOp, validate bool) {
	s.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.SetVersion(1)
	req.ValidateOnly = validate
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value, c.Op = key, value, op
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.Configs = topicRes, s.topic, append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	got := s.conn.ok(s.T, req).(*kmsg.IncrementalAlterConfigsResponse).Resources[0]
	shown := "null"
	if value != nil {
		shown = fmt.Sprintf("%q", *value)
	}
	s.say("%s=%s: %s", key, shown, errorName(got.ErrorCode))
}

// describe notes what the broker tells of configs of the topic.
func (s *script) describe(keys ...string) {
	s.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.SetVersion(4)
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = topicRes, s.topic, keys
	req.Resources = append(req.Resources, r)
	for _, c := range s.conn.ok(s.T, req).(*kmsg.DescribeConfigsResponse).Resources[0].Configs {
		s.say("\t%s is %q, source %v", c.Name, *c.Value, c.Source)
	}
}

// produce sends a batch and notes the answer.
func (s *script) produce(what string, b []byte) {
	s.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(9)
	req.Acks, req.TimeoutMillis = -1, 10000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: s.topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: bytes.Clone(b)}}}}
	got := s.conn.ok(s.T, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	var bad []int32
	for _, r := range got.ErrorRecords {
		bad = append(bad, r.RelativeOffset)
	}
	s.say("produce %s: %s at %d, append time %v, log start %d, records %v", what, errorName(got.ErrorCode), got.BaseOffset, got.LogAppendTime >= 0, got.LogStartOffset, bad)
}

// records notes what the partition holds: codecs and records, with create times.
func (s *script) records() {
	s.Helper()
	start, end := listOffset(s.T, s.conn, s.topic, -2, 0), listOffset(s.T, s.conn, s.topic, -1, 0)
	s.say("log [%d, %d)", start, end)
	for _, b := range fetchAll(s.T, s.conn, s.topic, start, end, 0, nil) {
		s.say("batch %d to %d, codec %d, attributes %x", b.BaseOffset(), b.LastOffset(), b.Attributes().Codec(), b.Attributes())
		it := b.Iterate(0)
		for it.Next() {
			at := it.Timestamp()
			if b.Attributes().LogAppendTime() {
				at = 0
			}
			r := it.Record()
			s.say("\t%d at %d: %q %.40q of %d bytes %v", it.Offset(), at, r.Key, r.Value, len(r.Value), r.Headers)
		}
		if err := it.Err(); err != nil {
			s.Error(err)
		}
		it.Close()
	}
}

// deleteTo deletes the records below an offset.
func (s *script) deleteTo(offset int64) {
	s.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.SetVersion(2)
	req.TimeoutMillis = 10000
	req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: s.topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Offset: offset}}}}
	got := s.conn.ok(s.T, req).(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
	s.say("delete to %d: %s, low watermark %d", offset, errorName(got.ErrorCode), got.LowWatermark)
}

// offsets notes what ListOffsets says of every special timestamp, in all versions.
func (s *script) offsets(when string) {
	s.Helper()
	for ts := int64(-1); ts >= -7; ts-- {
		req := kmsg.NewPtrListOffsetsRequest()
		for v := s.ranges[2][0]; v <= min(s.ranges[2][1], req.MaxVersion()); v++ {
			for isolation := range int8(2) {
				req := listOffsets(s.topic, 0, ts, -1)(world{}, v).(*kmsg.ListOffsetsRequest)
				req.SetVersion(v)
				req.ReplicaID, req.IsolationLevel, req.TimeoutMillis = -1, isolation, 5000
				resp, err := s.conn.ask(req)
				if err != nil {
					s.say("%s: timestamp %d in version %d: %v", when, ts, v, err)
					if s.conn, err = dialRaw(s.broker); err != nil {
						s.Fatal(err)
					}
					continue
				}
				got := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
				s.say("%s: timestamp %d, isolation %d in version %d: %s, offset %d, timestamp %d, epoch %d", when, ts, isolation, v, errorName(got.ErrorCode), got.Offset, got.Timestamp, got.LeaderEpoch)
			}
		}
	}
}

// start waits until the log start has moved and stays, and notes it.
func (s *script) start(from int64) {
	s.Helper()
	for end := time.Now().Add(20 * time.Second); listOffset(s.T, s.conn, s.topic, -2, 0) <= from; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.Errorf("%s: the log start stays at %d", s.broker.Name, from)
			return
		}
	}
	time.Sleep(time.Second) // two checks, which might move it on
	s.say("log start %d of %d", listOffset(s.T, s.conn, s.topic, -2, 0), listOffset(s.T, s.conn, s.topic, -1, 0))
}

// smallSegments makes a topic and writes batches to it, a few to a segment.
func (s *script) smallSegments(topic string, batches int) {
	s.Helper()
	s.create(topic, "internal.segment.bytes", "1000", "file.delete.delay.ms", "100")
	for range batches {
		s.produce("", s.batch(record.None, bytes.Repeat([]byte("x"), 100), 2))
	}
}

// batchOf returns a batch of records with the timestamps given.
func batchOf(t *testing.T, codec record.Codec, key, value []byte, stamps ...int64) []byte {
	t.Helper()
	b := record.NewBuilder(codec, codec.DefaultLevel())
	for i, at := range stamps {
		b.Append(at, key, append(bytes.Clone(value), byte('a'+i%26)), []record.Header{{Key: "h", Value: nil}})
	}
	out, err := b.Finish(record.NoProducer)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(out)
}

func (s *script) batch(codec record.Codec, value []byte, n int) []byte {
	return batchOf(s.T, codec, []byte("k"), value, slices.Repeat([]int64{s.now - 5000}, n)...)
}

// noise cannot be compressed.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

// TestStorageCases runs each case against both brokers and compares what came of
// it, step by step.
func TestStorageCases(t *testing.T) {
	t.Parallel()
	ranges := versions(t)
	now := time.Now().UnixMilli()
	var mu sync.Mutex
	used := make(map[difference]bool) // guarded by mu
	t.Run("all", func(t *testing.T) {
		for _, c := range storageCases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				got := runStorageCase(t, c.run, c.name, ranges, now)
				mu.Lock()
				defer mu.Unlock()
				compareSteps(t, c.name, got, used)
			})
		}
	})
	for _, d := range storageDifferences {
		if d.name != "special timestamps" && !used[d] && !t.Failed() { // those also depend on when segments go
			t.Errorf("the known difference %+v has gone: take it off the list", d)
		}
	}
}

// runStorageCase returns what came of a case under klamm and under the JVM broker.
func runStorageCase(t *testing.T, run func(*script, string), name string, ranges map[int16][2]int16, now int64) (got [2][]string) {
	t.Helper()
	for i, b := range brokers() {
		conn, err := dialRaw(b)
		if err != nil {
			t.Fatal(err)
		}
		s := &script{T: t, broker: b, conn: conn, ranges: ranges, now: now}
		run(s, "storage."+strings.ReplaceAll(name, " ", "-"))
		s.conn.Close()
		got[i] = s.lines
	}
	if len(got[1]) == 0 {
		t.Error("nothing is compared")
	}
	return got
}

// compareSteps compares what came of a case, and notes the known differences
// that it met.
func compareSteps(t *testing.T, name string, got [2][]string, used map[difference]bool) {
	t.Helper()
	for i := range max(len(got[0]), len(got[1])) {
		var k, j string
		if i < len(got[0]) {
			k = got[0][i]
		}
		if i < len(got[1]) {
			j = got[1][i]
		}
		if k == j {
			continue
		}
		at := slices.IndexFunc(storageDifferences, func(d difference) bool {
			return d.name == name && strings.HasPrefix(k, d.path) && strings.HasPrefix(j, d.path)
		})
		if at < 0 {
			t.Errorf("klamm: %s\nthe JVM broker: %s", k, j)
			continue
		}
		used[storageDifferences[at]] = true
	}
}

// storageDifferences are known, by case and how the line begins.
var storageDifferences = []difference{
	{"special timestamps", "deleted to 1: timestamp -3", "klamm tells of the first record left that has the timestamp, the JVM broker of one below the log start"},
	{"special timestamps", "deleted to 5: timestamp -3", "the same, until the JVM broker has removed the segment"},
	{"special timestamps", "deleted to 12: timestamp -3", "klamm says that there is none, the JVM broker tells of one below the log start"},
	{"special timestamps", "written again: timestamp -3", "klamm tells of the one record that is left, the JVM broker of one below the log start"},
}

// storageCases are what a client sees of storage.
var storageCases = []struct {
	name string
	run  func(s *script, topic string)
}{
	{"codecs and levels", func(s *script, topic string) {
		levels := map[string][]string{"gzip": {"", "-1", "0", "1", "9", "10"}, "lz4": {"", "0", "1", "17", "18"}, "zstd": {"", "-131072", "1", "22", "23"}, "snappy": {""}, "uncompressed": {""}, "producer": {""}, "none": {""}, "brotli": {""}}
		for i, codec := range []string{"gzip", "lz4", "zstd", "snappy", "uncompressed", "producer", "none", "brotli"} {
			for j, level := range levels[codec] {
				configs := []string{"compression.type", codec}
				if level != "" {
					configs = append(configs, "compression."+codec+".level", level)
				}
				if s.create(fmt.Sprintf("%s.%d.%d", topic, i, j), configs...) {
					for _, from := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
						s.produce(fmt.Sprint("codec ", from), s.batch(from, bytes.Repeat([]byte("value"), 200), 3))
					}
					s.records()
				}
			}
		}
	}},
	{"largest batch", func(s *script, topic string) {
		plain := s.batch(record.None, bytes.Repeat([]byte("x"), 100), 3)
		for _, d := range []int{-1, 0, 1} {
			s.create(fmt.Sprintf("%s.plain.%d", topic, d+1), "max.message.bytes", fmt.Sprint(len(plain)+d))
			s.produce("plain", plain)
		}
		s.create(topic+".zero", "max.message.bytes", "0")
		s.produce("of no bytes", plain)
		s.create(topic+".negative", "max.message.bytes", "-1")
		s.create(topic+".shrinks", "max.message.bytes", "1000", "compression.type", "zstd")
		s.produce("what shrinks", s.batch(record.None, bytes.Repeat([]byte("x"), 1000), 3))
		s.records()
		s.create(topic+".grows", "max.message.bytes", "1000", "compression.type", "uncompressed")
		s.produce("what grows", s.batch(record.Zstd, bytes.Repeat([]byte("x"), 1000), 3))
		s.create(topic+".noise", "max.message.bytes", "1060", "compression.type", "snappy")
		s.produce("what cannot shrink", s.batch(record.None, noise(980), 1))
		s.records()
		s.create(topic+".larger", "compression.type", "gzip", "max.message.bytes", "300")
		s.produce("noise", s.batch(record.None, noise(500), 1))
		s.alter("max.message.bytes", ptr("2000"), false)
		time.Sleep(200 * time.Millisecond)
		s.produce("noise after the limit was raised", s.batch(record.None, noise(500), 1))
	}},
	{"timestamps", func(s *script, topic string) {
		one := func(at ...int64) []byte { return batchOf(s.T, record.None, []byte("k"), []byte("v"), at...) }
		s.create(topic+".create", "message.timestamp.before.max.ms", "100000", "message.timestamp.after.max.ms", "100000")
		for _, d := range []int64{0, -60000, 60000, -200000, 200000} {
			s.produce(fmt.Sprint("at ", d), one(s.now+d))
		}
		s.produce("some too old", one(s.now, s.now-500000, s.now, s.now-500000))
		s.produce("some too new", one(s.now, s.now+500000, s.now))
		s.produce("both", one(s.now-500000, s.now+500000, s.now))
		s.produce("no timestamp", one(-1))
		s.produce("gzip, too old", batchOf(s.T, record.Gzip, []byte("k"), []byte("v"), s.now, s.now-500000))
		s.records()
		s.create(topic+".default", "retention.ms", "-1")
		for _, d := range []int64{-s.now, 1 - s.now, -(100 * 24 * 3600_000), 3000_000, 4200_000} {
			s.produce(fmt.Sprint("by default at ", d > -s.now, d < 0), one(s.now+d))
		}
		s.create(topic+".append", "message.timestamp.type", "LogAppendTime", "message.timestamp.before.max.ms", "1000", "message.timestamp.after.max.ms", "1000")
		for _, d := range []int64{0, -200000, 200000} {
			s.produce(fmt.Sprint("append time, at ", d), one(s.now+d, s.now))
		}
		s.produce("append time, gzip", batchOf(s.T, record.Gzip, []byte("k"), []byte("v"), 5, 6))
		s.records()
		s.create(topic+".append.zstd", "message.timestamp.type", "LogAppendTime", "compression.type", "zstd")
		s.produce("append time, to zstd", one(s.now, 7))
		s.records()
	}},
	{"null keys of a compacted topic", func(s *script, topic string) {
		s.create(topic, "cleanup.policy", "compact")
		s.produce("null", batchOf(s.T, record.None, nil, []byte("v"), s.now, s.now))
		s.produce("empty", batchOf(s.T, record.None, []byte{}, []byte("v"), s.now))
		s.produce("null in gzip", batchOf(s.T, record.Gzip, nil, []byte("v"), s.now))
		s.alter("cleanup.policy", ptr("delete"), false)
		time.Sleep(200 * time.Millisecond)
		s.produce("null after a change", batchOf(s.T, record.None, nil, []byte("v"), s.now))
	}},
	{"segment smaller than a batch", func(s *script, topic string) {
		b := s.batch(record.None, bytes.Repeat([]byte("x"), 300), 1)
		for _, d := range []int{-1, 0} {
			s.create(fmt.Sprint(topic, d+1), "internal.segment.bytes", fmt.Sprint(len(b)+d))
			s.produce("first", b)
			s.produce("second", b)
			s.records()
		}
		s.create(topic+".both", "internal.segment.bytes", "200", "max.message.bytes", "200")
		s.produce("too large for both", b)
		s.create(topic+".official", "segment.bytes", "1000")
	}},
	{"special timestamps", func(s *script, topic string) {
		s.create(topic, "internal.segment.bytes", "500")
		s.offsets("empty")
		for i := range 6 {
			s.produce("", batchOf(s.T, record.None, []byte("k"), bytes.Repeat([]byte("x"), 100), s.now-int64(i*10), s.now-int64(i*7)))
		}
		s.offsets("written")
		for _, to := range []int64{1, 5, 12} {
			s.deleteTo(to)
			s.offsets(fmt.Sprintf("deleted to %d", to))
		}
		s.produce("", s.batch(record.None, []byte("x"), 1))
		s.offsets("written again")
	}},
	{"delete records", func(s *script, topic string) {
		s.create(topic, "internal.segment.bytes", "500")
		for _, to := range []int64{0, 1, -1, -2} {
			s.deleteTo(to)
		}
		for range 6 {
			s.produce("", s.batch(record.None, bytes.Repeat([]byte("x"), 100), 2))
		}
		for _, to := range []int64{0, 3, 3, 2, 0, 13, -2, 11, 12, 12, -1, 13, 1 << 62} {
			s.deleteTo(to)
			s.records()
		}
		s.produce("", s.batch(record.None, []byte("x"), 1))
		s.deleteTo(-1)
		s.deleteTo(13)
		s.alter("cleanup.policy", ptr("compact"), false)
		time.Sleep(200 * time.Millisecond)
		s.deleteTo(13)
		s.alter("cleanup.policy", ptr("compact,delete"), false)
		time.Sleep(200 * time.Millisecond)
		s.deleteTo(13)
	}},
	{"log directories", func(s *script, topic string) {
		s.create(topic)
		s.produce("", s.batch(record.None, []byte("x"), 3))
		req := kmsg.NewPtrDescribeLogDirsRequest()
		for v := s.ranges[req.Key()][0]; v <= min(s.ranges[req.Key()][1], req.MaxVersion()); v++ {
			for _, ask := range [][]kmsg.DescribeLogDirsRequestTopic{{{Topic: topic, Partitions: []int32{0}}}, {{Topic: topic, Partitions: []int32{0, 7}}, {Topic: "storage.missing", Partitions: []int32{0}}}, {{Topic: topic}}, {}} {
				req := kmsg.NewPtrDescribeLogDirsRequest()
				req.SetVersion(v)
				req.Topics = ask
				got := s.conn.ok(s.T, req).(*kmsg.DescribeLogDirsResponse)
				s.say("version %d of %v: %s, %d directories", v, ask, errorName(got.ErrorCode), len(got.Dirs))
				for _, d := range got.Dirs {
					s.say("\t%s, absolute %v, total %v, usable %v, unknown %v", errorName(d.ErrorCode), strings.HasPrefix(d.Dir, "/"), d.TotalBytes > 0, d.UsableBytes > 0, d.UnknownTags.Len())
					for _, dt := range d.Topics {
						for _, p := range dt.Partitions {
							s.say("\t%s %d: %d bytes, lag %d, future %v", dt.Topic, p.Partition, p.Size, p.OffsetLag, p.IsFuture)
						}
					}
				}
			}
		}
	}},
	{"configs of storage", func(s *script, topic string) {
		s.create(topic)
		for _, c := range storageConfigs {
			for _, v := range c.values {
				s.alter(c.key, &v, true)
			}
			s.alter(c.key, nil, true)
		}
		for _, c := range [][]string{{"cleanup.policy", "compact", "retention.ms", "1000"}, {"local.retention.ms", "2000", "retention.ms", "1000"}, {"local.retention.bytes", "2000", "retention.bytes", "1000"},
			{"min.compaction.lag.ms", "2000", "max.compaction.lag.ms", "1000"}, {"min.compaction.lag.ms", "1000", "max.compaction.lag.ms", "1000"}, {"segment.ms", "1000", "segment.jitter.ms", "2000"},
			{"local.retention.ms", "-2", "retention.ms", "-1"}, {"local.retention.ms", "1000", "retention.ms", "-1"}, {"local.retention.ms", "-1", "retention.ms", "1000"},
			{"segment.bytes", "1048576", "max.message.bytes", "2097152"}, {"cleanup.policy", "compact", "remote.storage.enable", "true"}, {"cleanup.policy", "", "retention.ms", "1000"}} {
			s.create(fmt.Sprintf("%s.%d", topic, len(s.lines)), c...)
		}
	}},
	{"configs said twice and no numbers", func(s *script, topic string) {
		keys := []string{"cleanup.policy", "min.cleanable.dirty.ratio"}
		change := func(key, value string, op kmsg.IncrementalAlterConfigOp) {
			s.incremental(key, &value, op, false)
			time.Sleep(200 * time.Millisecond)
			s.describe(keys...)
		}
		s.create(topic, "cleanup.policy", "compact,compact", "min.cleanable.dirty.ratio", "NaN")
		s.describe(keys...)
		change("cleanup.policy", "compact", kmsg.IncrementalAlterConfigOpAppend)
		change("cleanup.policy", "delete,delete", kmsg.IncrementalAlterConfigOpAppend)
		change("cleanup.policy", "compact", kmsg.IncrementalAlterConfigOpSubtract)
		change("cleanup.policy", "compact", kmsg.IncrementalAlterConfigOpSubtract)
		change("cleanup.policy", "delete, compact ,delete", kmsg.IncrementalAlterConfigOpSet)
		change("cleanup.policy", "delete,delete,", kmsg.IncrementalAlterConfigOpSet)
		for _, v := range []string{" NaN ", "nan", "NAN", "Infinity", "-Infinity", "inf", "Inf"} {
			change("min.cleanable.dirty.ratio", v, kmsg.IncrementalAlterConfigOpSet)
		}
	}},
	{"retention by size", func(s *script, topic string) {
		s.smallSegments(topic, 20)
		s.alter("retention.bytes", ptr("2500"), false)
		s.start(0)
		s.offsets("after retention")
		s.records()
	}},
	{"no bytes retained", func(s *script, topic string) {
		s.smallSegments(topic, 8)
		s.alter("retention.bytes", ptr("0"), false)
		s.start(0)
	}},
	{"no time retained", func(s *script, topic string) {
		s.smallSegments(topic, 8)
		s.alter("retention.ms", ptr("0"), false)
		s.start(0)
	}},
	{"retention by time", func(s *script, topic string) {
		s.create(topic, "internal.segment.bytes", "1000", "file.delete.delay.ms", "100")
		for i := range 20 {
			at := s.now - 3600_000 + int64(i)
			if i == 10 || i >= 15 { // an old segment behind one that is not stays
				at = s.now
			}
			s.produce("", batchOf(s.T, record.None, []byte("k"), bytes.Repeat([]byte("x"), 100), at, at-1000))
		}
		s.alter("retention.ms", ptr("1800000"), false)
		s.start(0)
		s.records()
		from := listOffset(s.T, s.conn, topic, -2, 0)
		s.alter("retention.ms", ptr("1"), false)
		s.start(from)
		s.offsets("after retention")
		s.produce("afterwards", s.batch(record.None, []byte("x"), 1))
	}},
	{"delete and compact", func(s *script, topic string) {
		s.create(topic, "internal.segment.bytes", "1000", "file.delete.delay.ms", "100", "cleanup.policy", "compact,delete", "min.compaction.lag.ms", "86400000", "min.cleanable.dirty.ratio", "0")
		for i := range 30 {
			at := s.now - 3600_000 + int64(i)
			if i > 9 {
				at = s.now
			}
			s.produce("", batchOf(s.T, record.None, fmt.Appendf(nil, "key-%d", i%4), bytes.Repeat([]byte("x"), 100), at, at))
		}
		s.alter("retention.ms", ptr("1800000"), false)
		s.start(0)
		s.records()
		s.alter("min.compaction.lag.ms", ptr("0"), false)
		start, end := listOffset(s.T, s.conn, topic, -2, 0), listOffset(s.T, s.conn, topic, -1, 0)
		for deadline := time.Now().Add(20 * time.Second); len(fetchAll(s.T, s.conn, topic, start, end, 0, nil)) > 10; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				s.Fatalf("%s does not compact", s.broker.Name)
			}
		}
		time.Sleep(time.Second) // segments are replaced one by one
		s.records()
		s.offsets("compacted")
	}},
}

// storageConfigs are values that are taken or refused.
var storageConfigs = []struct {
	key    string
	values []string
}{
	{"retention.ms", []string{"-2", "-1", "0", "1", "9223372036854775807", "9223372036854775808", "", " 5 ", "1.5"}},
	{"retention.bytes", []string{"-2", "-1", "0", "9223372036854775807"}},
	{"cleanup.policy", []string{"", "compact", "delete", "compact,delete", "delete,compact", "compact, delete", "compact,compact", "delete,", "Delete", "none", ","}},
	{"min.compaction.lag.ms", []string{"-1", "0", "1", "9223372036854775807"}},
	{"max.compaction.lag.ms", []string{"-1", "0", "1", "9223372036854775807"}},
	{"min.cleanable.dirty.ratio", []string{"-0.1", "0", "0.5", "1", "1.1", "x", "NaN"}},
	{"delete.retention.ms", []string{"-1", "0", "1", "9223372036854775807"}},
	{"file.delete.delay.ms", []string{"-1", "0", "1", "9223372036854775807"}},
	{"flush.messages", []string{"-1", "0", "1", "9223372036854775807"}},
	{"flush.ms", []string{"-1", "0", "1", "9223372036854775807"}},
	{"preallocate", []string{"true", "false", "TRUE", "yes", "1", ""}},
	{"local.retention.ms", []string{"-3", "-2", "-1", "0", "1", "9223372036854775807"}},
	{"local.retention.bytes", []string{"-3", "-2", "-1", "0", "1", "9223372036854775807"}},
	{"segment.bytes", []string{"-1", "0", "1", "1048575", "1048576", "2147483647", "2147483648"}},
	{"internal.segment.bytes", []string{"-1", "0", "1", "14", "2147483647"}},
	{"segment.ms", []string{"-1", "0", "1", "9223372036854775807"}},
	{"segment.jitter.ms", []string{"-1", "0", "1", "9223372036854775807"}},
	{"segment.index.bytes", []string{"-1", "0", "3", "4", "11", "12", "2147483647", "2147483648"}},
	{"index.interval.bytes", []string{"-1", "0", "1", "2147483647"}},
	{"max.message.bytes", []string{"-1", "0", "1", "2147483647"}},
	{"message.timestamp.type", []string{"CreateTime", "LogAppendTime", "createtime", "", "NoTimestampType"}},
	{"message.timestamp.before.max.ms", []string{"-1", "0", "1", "9223372036854775807"}},
	{"message.timestamp.after.max.ms", []string{"-1", "0", "1", "9223372036854775807"}},
	{"compression.type", []string{"none", "uncompressed", "gzip", "producer", "GZIP", ""}},
	{"compression.gzip.level", []string{"-2", "-1", "0", "1", "9", "10"}},
	{"compression.lz4.level", []string{"0", "1", "17", "18"}},
	{"compression.zstd.level", []string{"-131073", "-131072", "0", "22", "23"}},
	{"min.insync.replicas", []string{"0", "1", "2"}},
	{"unclean.leader.election.enable", []string{"true", "x"}},
	{"remote.storage.enable", []string{"false", "x"}},
	{"remote.log.copy.disable", []string{"false", "x"}},
	{"remote.log.delete.on.disable", []string{"false", "x"}},
	{"message.format.version", []string{"3.0"}},
	{"message.timestamp.difference.max.ms", []string{"1000"}},
	{"message.downconversion.enable", []string{"true"}},
	{"leader.replication.throttled.replicas", []string{"*", "0:1", "x", ""}},
}
