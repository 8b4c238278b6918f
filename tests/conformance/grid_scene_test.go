package conformance_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/klamm-io/klamm/wire/schema"
)

const (
	gridLimit    = 10 * time.Second // for the answer to a case
	prepareLimit = time.Minute      // for the answer to what prepares many
)

// gridBroker is one of the two brokers that the grid asks.
type gridBroker struct {
	name, addr string
	apis       map[int16]*gridAPI
	ids        map[string]uuid // of the topics that were made before

	mu   sync.Mutex
	idle []*rawConn
}

// gridAPI is an API by its schema.
type gridAPI struct {
	name              string
	key               int16
	request, response *schema.Message
	header2, header1  schema.Range // versions whose requests, and whose answers, have a flexible header
}

// gridAPIs returns every API of the schemas.
func gridAPIs() (map[int16]*gridAPI, error) {
	files, err := schema.Load()
	if err != nil {
		return nil, err
	}
	out := make(map[int16]*gridAPI)
	for _, f := range files {
		if f.API == nil {
			continue
		}
		a := &gridAPI{name: f.API.Name, key: f.API.Key, header2: schema.None, header1: schema.None}
		if r, ok := f.API.RequestHeader[2]; ok {
			a.header2 = r
		}
		if r, ok := f.API.ResponseHeader[1]; ok {
			a.header1 = r
		}
		for _, m := range f.Messages {
			switch m.Kind {
			case "request":
				a.request = m
			case "response":
				a.response = m
			}
		}
		out[a.key] = a
	}
	return out, nil
}

// changes are the versions in which the request of an API is another than in the
// one before, from low to high.
func (a *gridAPI) changes(low, high int16) (out []int16) {
	for v := low; v <= high; v++ {
		if v == low || v == high || a.request.Flexible.Min == v || fieldChanges(a.request.Root, v) {
			out = append(out, v)
		}
	}
	return out
}

func fieldChanges(s *schema.Struct, v int16) bool {
	for _, f := range s.Fields {
		if f.Versions.Min == v || f.Versions.Max == v-1 || f.Null.Min == v || f.Type.Struct != nil && fieldChanges(f.Type.Struct, v) {
			return true
		}
	}
	return false
}

// errSilent means that no answer came.
var errSilent = errors.New("no answer")

// ask sends a request and decodes the answer.
func (b *gridBroker) ask(key, version int16, o object) (object, error) {
	return b.askWithin(gridLimit, key, version, o)
}

func (b *gridBroker) askWithin(limit time.Duration, key, version int16, o object) (object, error) {
	a := b.apis[key]
	c, err := b.conn()
	if err != nil {
		return nil, err
	}
	c.correlation++
	frame := encode(header(key, version, c.correlation, a.header2.Has(version)), a.request, version, o)
	sent := binary.BigEndian.AppendUint32(nil, uint32(len(frame)))
	sent = append(sent, frame...)
	if acks, ok := o["Acks"].(int64); ok && acks == 0 { // only what is behind it is answered
		after := header(18, 0, -1, false)
		sent = binary.BigEndian.AppendUint32(sent, uint32(len(after)))
		sent = append(sent, after...)
	}
	c.SetDeadline(time.Now().Add(limit))
	if _, err := c.Write(sent); err != nil {
		c.Close()
		return nil, errClosed
	}
	got, err := c.read()
	if err != nil {
		c.Close()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil, errSilent
		}
		return nil, err
	}
	correlation := int32(0)
	if len(got) >= 4 {
		correlation = int32(binary.BigEndian.Uint32(got))
	}
	switch {
	case correlation == -1:
		b.release(c)
		return nil, errSilent
	case correlation != c.correlation:
		c.Close()
		return nil, fmt.Errorf("an answer to request %d, not %d", correlation, c.correlation)
	}
	b.release(c)
	got = got[4:]
	if a.header1.Has(version) && len(got) > 0 {
		if got[0] != 0 {
			return nil, fmt.Errorf("%d tagged fields in the header", got[0])
		}
		got = got[1:]
	}
	return decode(got, a.response, version)
}

// conn returns a connection that nothing is under way on.
func (b *gridBroker) conn() (*rawConn, error) {
	b.mu.Lock()
	if n := len(b.idle); n > 0 {
		c := b.idle[n-1]
		b.idle = b.idle[:n-1]
		b.mu.Unlock()
		return c, nil
	}
	b.mu.Unlock()
	c, err := net.Dial("tcp", b.addr)
	return &rawConn{Conn: c}, err
}

func (b *gridBroker) release(c *rawConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle = append(b.idle, c)
}

// close closes the connections that are idle.
func (b *gridBroker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.idle {
		c.Close()
	}
	b.idle = nil
}

// scene is what one case plays in on one broker: names that are its own, and what
// was made under them.
type scene struct {
	*gridBroker
	name    string // of the topic and of the group
	version int16  // of the request
	member  string // that joined the group
	session int64  // of fetches
}

// must is ask for what prepares a case: it panics where there is no answer.
func (s *scene) must(key, version int16, o object) object {
	out, err := s.askWithin(prepareLimit, key, version, o)
	if err != nil {
		panic(fmt.Errorf("%s: %s version %d: %w", s.gridBroker.name, s.apis[key].name, version, err))
	}
	return out
}

// see is ask for what is looked at afterwards.
func (s *scene) see(key, version int16, o object) any {
	return answerOf(s.ask(key, version, o))
}

// answerOf makes one value of an answer or what came instead.
func answerOf(o object, err error) any {
	if err != nil {
		return err.Error()
	}
	return o
}

// join makes a member of the group, alone and with an assignment.
func (s *scene) join(instance any) {
	o := object{"GroupId": s.name, "SessionTimeoutMs": int64(1_800_000), "RebalanceTimeoutMs": int64(1000), "ProtocolType": "consumer",
		"GroupInstanceId": instance, "Protocols": list{object{"Name": "range", "Metadata": subscription}}}
	version := int16(5)
	if instance == nil {
		version = 3
		delete(o, "GroupInstanceId")
	}
	r := s.must(11, version, o)
	s.member, _ = r["MemberId"].(string)
	s.expect("JoinGroup", r["ErrorCode"])
	r = s.must(14, 2, object{"GroupId": s.name, "GenerationId": int64(1), "MemberId": s.member,
		"Assignments": list{object{"MemberId": s.member, "Assignment": []byte("assignment")}}})
	s.expect("SyncGroup", r["ErrorCode"])
}

// commit commits an offset of topic shared for the group, as its member if there
// is one.
func (s *scene) commit() {
	generation := int64(-1)
	if s.member != "" {
		generation = 1
	}
	r := s.must(8, 7, object{"GroupId": s.name, "GenerationIdOrMemberEpoch": generation, "MemberId": s.member, "Topics": list{object{"Name": "shared",
		"Partitions": list{object{"PartitionIndex": int64(0), "CommittedOffset": int64(5), "CommittedLeaderEpoch": int64(0), "CommittedMetadata": "meta"}}}}})
	s.expect("OffsetCommit", r["Topics"].(list)[0].(object)["Partitions"].(list)[0].(object)["ErrorCode"])
}

func (s *scene) expect(what string, code any) {
	if code != int64(0) {
		panic(fmt.Errorf("%s: %s gave error %v", s.gridBroker.name, what, code))
	}
}

// group describes the group.
func (s *scene) group() any {
	return s.see(15, 5, object{"Groups": list{s.name}})
}

// offsets are what the group has committed.
func (s *scene) offsets() any {
	return s.see(9, 7, object{"GroupId": s.name, "Topics": nil})
}

// records is what partition 0 of the topic holds.
func (s *scene) records() any {
	return list{
		s.see(1, 12, object{"MaxWaitMs": int64(0), "MinBytes": int64(0), "Topics": list{object{"Topic": s.name, "Partitions": list{object{"Partition": int64(0), "FetchOffset": int64(0), "PartitionMaxBytes": int64(1 << 20)}}}}}),
		s.see(2, 6, object{"ReplicaId": int64(-1), "Topics": list{object{"Name": s.name, "Partitions": list{object{"PartitionIndex": int64(0), "Timestamp": int64(-2)}}}}}),
	}
}

// configs are the topic's own.
func (s *scene) configs() any {
	return s.see(32, 1, object{"Resources": list{object{"ResourceType": int64(2), "ResourceName": s.name, "ConfigurationKeys": list{"retention.ms", "cleanup.policy", "max.message.bytes"}}}})
}

// topic is the topic's metadata.
func (s *scene) topic() any {
	return s.see(3, 8, object{"Topics": list{object{"Name": s.name}}, "AllowAutoTopicCreation": false})
}

// openSession opens a fetch session of the topic, which is fetched from its end.
func (s *scene) openSession() int64 {
	o := fetchBase(own)(s, s.version)
	o["SessionEpoch"] = int64(0)
	return s.must(1, s.version, o)["SessionId"].(int64)
}

// drop deletes the topic and waits until it is gone.
func (s *scene) drop() {
	r := s.must(20, 5, object{"TopicNames": list{s.name}, "TimeoutMs": int64(60000)})
	s.expect("DeleteTopics", r["Responses"].(list)[0].(object)["ErrorCode"])
	s.await(func() bool {
		o := s.must(2, 6, object{"ReplicaId": int64(-1), "Topics": list{object{"Name": s.name, "Partitions": list{object{"PartitionIndex": int64(0), "Timestamp": int64(-1)}}}}})
		return o["Topics"].(list)[0].(object)["Partitions"].(list)[0].(object)["ErrorCode"] == int64(3)
	})
}

// makeAgain creates a topic of the name of one that was deleted.
func (s *scene) makeAgain() {
	s.mu.Lock()
	before := s.ids[s.name]
	s.mu.Unlock()
	other := &scene{gridBroker: &gridBroker{name: s.gridBroker.name, addr: s.addr, apis: s.apis, ids: map[string]uuid{s.name: before}}, name: s.name}
	defer other.close()
	other.create([]string{s.name})
}

// askForReplicas has the topic ask for three in-sync replicas.
func (s *scene) askForReplicas() {
	r := s.must(44, 1, object{"Resources": list{object{"ResourceType": int64(2), "ResourceName": s.name, "Configs": list{object{"Name": "min.insync.replicas", "Value": "3"}}}}})
	s.expect("IncrementalAlterConfigs", r["Responses"].(list)[0].(object)["ErrorCode"])
	s.await(func() bool {
		o := s.must(32, 1, object{"Resources": list{object{"ResourceType": int64(2), "ResourceName": s.name, "ConfigurationKeys": list{"min.insync.replicas"}}}})
		return o["Results"].(list)[0].(object)["Configs"].(list)[0].(object)["Value"] == "3"
	})
}
