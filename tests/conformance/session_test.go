package conformance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/tests/conformance/driver"
	"github.com/klamm-io/klamm/tests/systems"
)

// began is when the package started, in Unix milliseconds. A record's timestamp
// at or after it is one that a client or a broker chose.
var began = time.Now().UnixMilli()

// past is a timestamp that scenarios give to records: one that no broker finds
// too old, and the same on both.
var past = began - time.Hour.Milliseconds()

// session is one scenario, run by one client against one broker.
type session struct {
	*testing.T
	broker     *systems.Process
	client     string
	scenario   string
	driver     driver.Driver
	lacks      map[string]string
	transcript []string // what came of each operation, as both brokers must have it
}

// name returns a name for a topic, group or member of this scenario, the same on
// both brokers.
func (s *session) name(what string) string {
	return strings.ReplaceAll(s.client+"."+s.scenario+"."+what, " ", "-")
}

// has reports whether the client can do something. What it cannot is said in the
// log and kept out of the run.
func (s *session) has(capability string) bool {
	s.Helper()
	if !slices.Contains(driver.Capabilities, capability) {
		s.Fatalf("no such capability: %s", capability)
	}
	if why, lacks := s.lacks[capability]; lacks {
		s.Logf("%s lacks %s: %s", s.client, capability, why)
		return false
	}
	return true
}

// do runs an operation and notes what came of it, without a judgement but that
// of the other broker.
func (s *session) do(op driver.Op) driver.Result {
	s.Helper()
	r := s.quiet(op)
	s.note(op, r)
	return r
}

// quiet runs an operation whose result may differ from run to run.
func (s *session) quiet(op driver.Op) driver.Result {
	s.Helper()
	r := s.driver.Do(op)
	if strings.HasPrefix(r.Error, "client: no operation") || strings.HasPrefix(r.Error, "client: driver") {
		s.Fatalf("%s: %s", op.Op, r.Error)
	}
	return r
}

func (s *session) note(op driver.Op, r driver.Result) {
	s.Helper()
	shown := r
	shown.Message = ""
	shown.Records = slices.Clone(r.Records)
	for i := range shown.Records {
		if shown.Records[i].Timestamp >= began {
			shown.Records[i].Timestamp = 0
		}
		if len(shown.Records[i].Value) > 100 {
			shown.Records[i].Value = fmt.Appendf(nil, "%d bytes", len(shown.Records[i].Value))
		}
	}
	shown.Names = slices.DeleteFunc(slices.Clone(r.Names), func(n string) bool { return !strings.HasPrefix(n, s.name("")) })
	text, err := json.Marshal(shown)
	if err != nil {
		s.Fatal(err)
	}
	s.transcript = append(s.transcript, fmt.Sprintf("%s %s%s: %s", op.Op, op.Topic, op.Group, text))
}

// ok runs an operation that must succeed.
func (s *session) ok(op driver.Op) driver.Result {
	s.Helper()
	r := s.do(op)
	if r.Error != "" {
		s.Fatalf("%s %s%s failed: %s (%s)", op.Op, op.Topic, op.Group, r.Error, r.Message)
	}
	return r
}

// fails runs an operation that must fail with one of the errors. One that ends
// in * stands for all that begin so: a client may refuse by itself what others
// leave to the broker.
func (s *session) fails(op driver.Op, want ...string) {
	s.Helper()
	r := s.do(op)
	for _, w := range want {
		prefix, open := strings.CutSuffix(w, "*")
		if r.Error == w || open && strings.HasPrefix(r.Error, prefix) {
			return
		}
	}
	s.Errorf("%s %s%s gave error %q (%s), want %q", op.Op, op.Topic, op.Group, r.Error, r.Message, want)
}

// create creates a topic and waits until the broker serves all its partitions.
func (s *session) create(what string, partitions int32, configs ...driver.Config) string {
	s.Helper()
	topic := s.name(what)
	s.ok(driver.Op{Op: "create_topic", Topic: topic, Partitions: partitions, Replicas: 1, Configs: configs})
	s.ready(topic, partitions)
	return topic
}

// ready waits until every partition of a topic has a leader that answers: the
// JVM broker creates topics before their partitions.
func (s *session) ready(topic string, partitions int32) {
	s.Helper()
	if err := awaitTopic(s.Context(), s.broker, topic, partitions); err != nil {
		s.Fatal(err)
	}
}

// produce writes records and returns them as they must be read again.
func (s *session) produce(op driver.Op, records ...driver.Record) {
	s.Helper()
	op.Op, op.Records = "produce", records
	if op.Codec == "" {
		op.Codec = "none"
	}
	if op.Acks == "" {
		op.Acks = "all"
	}
	r := s.quiet(op)
	if r.Error != "" {
		s.Fatalf("produce to %s: %s (%s)", op.Topic, r.Error, r.Message)
	}
	s.note(op, driver.Result{Records: offsetsOnly(r.Records)})
}

// offsetsOnly keeps what clients agree to report of records they wrote.
func offsetsOnly(records []driver.Record) (out []driver.Record) {
	for _, r := range records {
		out = append(out, driver.Record{Partition: r.Partition, Offset: r.Offset})
	}
	return out
}

// consume reads count records and returns them.
func (s *session) consume(topic string, partition int32, offset int64, count int) []driver.Record {
	s.Helper()
	return s.ok(driver.Op{Op: "consume", Topic: topic, Partition: partition, Offset: offset, Count: count}).Records
}

// reads checks that a partition holds the records that were written to it, from
// offset on.
func (s *session) reads(topic string, partition int32, offset int64, want []driver.Record) {
	s.Helper()
	s.equal(s.consume(topic, partition, offset, len(want)), partition, offset, want)
}

func (s *session) equal(got []driver.Record, partition int32, offset int64, want []driver.Record) {
	s.Helper()
	for i, w := range want {
		g := got[i]
		if g.Partition != partition || g.Offset != offset+int64(i) {
			s.Errorf("record %d is at %d@%d, want %d@%d", i, g.Partition, g.Offset, partition, offset+int64(i))
		}
		if !same(g.Key, w.Key) || !same(g.Value, w.Value) {
			s.Errorf("record %d reads key %.60q value %.60q, want %.60q %.60q", i, show(g.Key), show(g.Value), show(w.Key), show(w.Value))
		}
		if len(g.Headers) != len(w.Headers) {
			s.Errorf("record %d reads %d headers, want %d", i, len(g.Headers), len(w.Headers))
			continue
		}
		for j, h := range w.Headers {
			if g.Headers[j].Key != h.Key || !same(g.Headers[j].Value, h.Value) {
				s.Errorf("record %d reads header %s=%s, want %s=%s", i, g.Headers[j].Key, show(g.Headers[j].Value), h.Key, show(h.Value))
			}
		}
		if w.Timestamp >= 0 && g.Timestamp != w.Timestamp || w.Timestamp < 0 && g.Timestamp < began {
			s.Errorf("record %d reads timestamp %d, want %d", i, g.Timestamp, w.Timestamp)
		}
	}
}

// same tells null from empty.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func show(b []byte) string {
	if b == nil {
		return "null"
	}
	return string(b)
}

// rec is a record for a partition, with the time of sending.
func rec(partition int32, key, value string) driver.Record {
	return driver.Record{Partition: partition, Key: []byte(key), Value: []byte(value), Timestamp: -1}
}

// recs are n records for a partition, told apart by their numbers from first on.
func recs(partition int32, first, n int) (out []driver.Record) {
	for i := first; i < first+n; i++ {
		out = append(out, rec(partition, fmt.Sprintf("key-%d", i), fmt.Sprintf("value-%d", i)))
	}
	return out
}

// set is a config with a value.
func set(name, value string) driver.Config {
	return driver.Config{Name: name, Value: &value, Op: "set"}
}
