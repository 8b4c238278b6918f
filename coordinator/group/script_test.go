package group_test

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

var update = flag.Bool("update", false, "write what the commands in testdata print anew")

// TestScripts runs the scripts in testdata: one command a line, and below ---- what
// comes of it: answers (of an earlier request too, which had to wait), records written
// to __consumer_offsets (+), and the group (=) where it has changed. Time stands still
// but for advance. The group is g; a consumer is known by its client id, and sends the
// member id and generation that it was told last, unless a command says otherwise.
//
//	join a [version=9] [instance=i] [protocols=range,sticky] [type=consumer] [session=10s] [rebalance=20s] [member=..]
//	sync a [assign=a:t-0,b:t-1] [version=3] [generation=..] [member=..] [protocol=..]
//	heartbeat a [generation=..] [member=..] [instance=..]
//	leave a [b] / leave instance=i
//	commit a t-0=5 [version=8] [generation=..] [metadata=..]      (no consumer: from outside the group)
//	commit-in-transaction producer=7 t-0=5
//	end-transaction producer=7 commit|abort
//	offsets               the committed offsets
//	delete-offsets t-0, delete-group, delete-topic t
//	advance 3s            time passes, and what is due happens
//	fail NOT_LEADER_OR_FOLLOWER   the next records cannot be written
//	restart               another broker loads the group from the log
func TestScripts(t *testing.T) {
	if *update {
		if err := flag.Set("rewrite", "true"); err != nil {
			t.Fatal(err)
		}
	}
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{t: t, bench: newBench(t), consumers: make(map[string]*consumer), group: "= no group"}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.bench.t, s.pos = t, t, d.Pos
			s.out.Reset()
			for line := range strings.Lines(d.String()) {
				if d.Input != "" {
					fmt.Fprintf(&s.out, "> %s\n", strings.TrimSpace(line))
				}
				s.run(strings.Fields(line))
			}
			return s.out.String()
		})
	})
}

// script is a machine, its log, and the consumers that it talks to.
type script struct {
	t         *testing.T
	pos       string
	bench     *bench
	log       []entry
	consumers map[string]*consumer
	group     string // as it was shown last
	out       strings.Builder
	args      map[string]string
	words     []string
}

// entry is a record of the log, or a marker.
type entry struct {
	record coordinator.Record
	from   coordinator.Origin
	marker *coordinator.Marker
}

// consumer is what a client knows of itself.
type consumer struct {
	member, protocol string
	instance         *string
	generation       int32
}

func (s *script) run(words []string) {
	s.args, s.words = make(map[string]string), nil
	for _, w := range words[1:] {
		if key, value, ok := strings.Cut(w, "="); ok && !strings.HasPrefix(w, "t-") && !strings.HasPrefix(w, "u-") {
			s.args[key] = value
		} else {
			s.words = append(s.words, w)
		}
	}
	b := s.bench
	switch words[0] {
	case "join":
		s.join(s.word())
	case "sync":
		s.sync(s.word())
	case "heartbeat":
		name := s.word()
		c := s.consumer(name)
		code := b.m.Heartbeat(b.now, &msg.HeartbeatRequest{GroupId: "g", MemberId: s.take("member", c.member), GenerationId: s.generation(c), GroupInstanceId: s.instance(c)})
		fmt.Fprintf(&s.out, "%s: %s\n", name, code.Name())
	case "leave":
		s.leave()
	case "commit":
		s.commit()
	case "commit-in-transaction":
		s.commitInTransaction()
	case "end-transaction":
		m := coordinator.Marker{Offset: int64(len(s.log)), ProducerID: s.number(s.take("producer", "")), Commit: s.word() == "commit"}
		s.must(b.m.Ended(m))
		s.log = append(s.log, entry{marker: &m})
	case "offsets":
		for _, o := range b.m.Fetch("g", nil) {
			fmt.Fprintf(&s.out, "%s-%d: %d %q\n", o.Topic, o.Partition, o.Offset, o.Metadata)
		}
	case "delete-offsets":
		topic, partition, _ := s.offset(s.word() + "=0")
		d, codes, all := b.m.DeleteOffsets(&msg.OffsetDeleteRequest{GroupId: "g", Topics: []msg.OffsetDeleteRequestTopic{{Name: topic, Partitions: []msg.OffsetDeleteRequestPartition{{PartitionIndex: partition}}}}})
		if all == kerr.None {
			all = codes[0][0]
		}
		fmt.Fprintln(&s.out, all.Name())
		s.do(d)
	case "delete-topic":
		s.do(b.m.TopicDeleted(s.word()))
	case "delete-group":
		d, code := b.m.Delete("g")
		fmt.Fprintln(&s.out, code.Name())
		s.do(d)
	case "advance":
		s.advance(s.duration(s.word()))
	case "fail":
		b.fail = s.code(s.word())
	case "restart":
		s.restart()
	default:
		s.t.Fatalf("%s: no command %s", s.pos, words[0])
	}
	for key := range s.args {
		s.t.Fatalf("%s: %s does not take %s", s.pos, words[0], key)
	}
	if len(s.words) > 0 {
		s.t.Fatalf("%s: %s does not take %v", s.pos, words[0], s.words)
	}
	s.show()
}

func (s *script) join(name string) {
	c := s.consumer(name)
	if i := s.take("instance", ""); i != "" {
		c.instance = &i
	}
	v := int16(s.number(s.take("version", "9")))
	req := &msg.JoinGroupRequest{GroupId: "g", MemberId: s.take("member", c.member), GroupInstanceId: c.instance, ProtocolType: s.take("type", "consumer"),
		SessionTimeoutMs: int32(s.duration(s.take("session", "10s")).Milliseconds()), RebalanceTimeoutMs: int32(s.duration(s.take("rebalance", "20s")).Milliseconds())}
	for p := range strings.SplitSeq(s.take("protocols", "range"), ",") {
		subscribed := &msg.ConsumerProtocolSubscription{Topics: []string{"t"}}
		metadata, err := subscribed.AppendTo(prim.AppendInt16(nil, 0), 0)
		s.must(err)
		req.Protocols = append(req.Protocols, msg.JoinGroupRequestProtocol{Name: p, Metadata: metadata})
	}
	s.do(s.bench.m.Join(s.bench.now, group.Client{ID: name, Host: "/h"}, v, req, func(r *msg.JoinGroupResponse) {
		fmt.Fprintf(&s.out, "%s: JoinGroup %s", name, code(r.ErrorCode).Name())
		switch code(r.ErrorCode) {
		default:
			if r.MemberId != "" {
				fmt.Fprintf(&s.out, ", member id %s", r.MemberId)
			}
			if code(r.ErrorCode) == kerr.MemberIdRequired {
				c.member = r.MemberId
			}
		case kerr.None:
			c.member, c.generation, c.protocol = r.MemberId, r.GenerationId, *r.ProtocolName
			fmt.Fprintf(&s.out, ", generation %d, protocol %s, member id %s, leader %s", r.GenerationId, *r.ProtocolName, r.MemberId, r.Leader)
			var members []string
			for _, m := range r.Members {
				members = append(members, m.MemberId)
			}
			if members != nil {
				fmt.Fprintf(&s.out, ", members %v", members)
			}
			if r.SkipAssignment {
				s.out.WriteString(", skip assignment")
			}
		}
		fmt.Fprintln(&s.out)
	}))
}

func (s *script) sync(name string) {
	c := s.consumer(name)
	kind, protocol := "consumer", s.take("protocol", c.protocol)
	req := &msg.SyncGroupRequest{GroupId: "g", MemberId: s.take("member", c.member), GenerationId: s.generation(c), GroupInstanceId: s.instance(c), ProtocolType: &kind, ProtocolName: &protocol}
	if assign := s.take("assign", ""); assign != "" {
		for x := range strings.SplitSeq(assign, ",") {
			to, what, _ := strings.Cut(x, ":")
			req.Assignments = append(req.Assignments, msg.SyncGroupRequestAssignment{MemberId: s.consumer(to).member, Assignment: []byte(what)})
		}
	}
	s.do(s.bench.m.Sync(s.bench.now, int16(s.number(s.take("version", "5"))), req, func(r *msg.SyncGroupResponse) {
		fmt.Fprintf(&s.out, "%s: SyncGroup %s", name, code(r.ErrorCode).Name())
		if code(r.ErrorCode) == kerr.None {
			fmt.Fprintf(&s.out, ", assignment %q", r.Assignment)
		}
		fmt.Fprintln(&s.out)
	}))
}

func (s *script) leave() {
	var who []msg.LeaveGroupRequestMemberIdentity
	names := s.words
	for _, name := range names {
		who = append(who, msg.LeaveGroupRequestMemberIdentity{MemberId: s.consumer(name).member, GroupInstanceId: s.consumer(name).instance})
	}
	if i := s.take("instance", ""); i != "" {
		who, names = append(who, msg.LeaveGroupRequestMemberIdentity{GroupInstanceId: &i}), append(names, i)
	}
	s.words = nil
	d, codes, all := s.bench.m.Leave(s.bench.now, "g", who)
	if all != kerr.None {
		s.t.Fatalf("%s: leave: %s", s.pos, all.Name())
	}
	for i, code := range codes {
		fmt.Fprintf(&s.out, "%s: LeaveGroup %s\n", names[i], code.Name())
	}
	s.do(d)
}

func (s *script) commit() {
	req := &msg.OffsetCommitRequest{GroupId: "g", GenerationIdOrMemberEpoch: -1, RetentionTimeMs: -1}
	if len(s.words) == 2 {
		c := s.consumer(s.word())
		req.MemberId, req.GroupInstanceId, req.GenerationIdOrMemberEpoch = s.take("member", c.member), s.instance(c), c.generation
	}
	req.GenerationIdOrMemberEpoch = int32(s.number(s.take("generation", fmt.Sprint(req.GenerationIdOrMemberEpoch))))
	topic, partition, offset := s.offset(s.word())
	metadata := s.take("metadata", "")
	req.Topics = []msg.OffsetCommitRequestTopic{{Name: topic, Partitions: []msg.OffsetCommitRequestPartition{{PartitionIndex: partition, CommittedOffset: offset, CommittedLeaderEpoch: -1, CommittedMetadata: &metadata}}}}
	d, codes, all := s.bench.m.Commit(s.bench.now, int16(s.number(s.take("version", "8"))), req)
	if all == kerr.None {
		all = codes[0][0]
	}
	fmt.Fprintf(&s.out, "OffsetCommit %s\n", all.Name())
	s.do(d)
}

// commitInTransaction writes what TxnOffsetCommit does, with a producer.
func (s *script) commitInTransaction() {
	producer := record.Producer{ID: s.number(s.take("producer", ""))}
	topic, partition, offset := s.offset(s.word())
	v := &msg.OffsetCommitValue{Offset: offset, LeaderEpoch: -1, CommitTimestamp: s.bench.now.UnixMilli(), ExpireTimestamp: -1}
	value, err := v.AppendTo(prim.AppendInt16(nil, 3), 3)
	s.must(err)
	key, err := (&msg.OffsetCommitKey{Group: "g", Topic: topic, Partition: partition}).AppendTo(prim.AppendInt16(nil, 1), 0)
	s.must(err)
	s.write(coordinator.Record{Key: key, Value: value}, producer)
}

// do carries out a decision.
func (s *script) do(d coordinator.Decision) {
	if err := s.bench.fail; err != nil && len(d.Records) > 0 {
		s.bench.fail = nil
		if d.Then != nil {
			d.Then(err)
		}
		return
	}
	for _, r := range d.Records {
		s.write(r, record.NoProducer)
	}
	if d.Then != nil {
		d.Then(nil)
	}
}

func (s *script) write(r coordinator.Record, p record.Producer) {
	e := entry{record: r, from: coordinator.Origin{Offset: int64(len(s.log)), Producer: p}}
	s.must(s.bench.m.Replay(r, e.from))
	s.log = append(s.log, e)
	fmt.Fprintln(&s.out, "+", s.text(r))
}

// text is a record of __consumer_offsets.
func (s *script) text(r coordinator.Record) string {
	key := prim.NewReader(r.Key)
	value := prim.NewReader(r.Value)
	if kind := key.Int16(); kind == 2 {
		var v msg.GroupMetadataValue
		if r.Value == nil {
			return "GroupMetadata deleted"
		}
		v.DecodeFrom(&value, value.Int16())
		var members []string
		for _, m := range v.Members {
			members = append(members, fmt.Sprintf("%s:%s", m.MemberId, m.Assignment))
		}
		return fmt.Sprintf("GroupMetadata generation %d, members %v", v.Generation, members)
	}
	var k msg.OffsetCommitKey
	k.DecodeFrom(&key, 0)
	if r.Value == nil {
		return fmt.Sprintf("OffsetCommit %s-%d deleted", k.Topic, k.Partition)
	}
	var v msg.OffsetCommitValue
	v.DecodeFrom(&value, value.Int16())
	return fmt.Sprintf("OffsetCommit %s-%d: %d", k.Topic, k.Partition, v.Offset)
}

// advance lets time pass, and everything happen that is due.
func (s *script) advance(d time.Duration) {
	b := s.bench
	began, end := b.now, b.now.Add(d)
	for range 10_000 {
		next := b.m.Next()
		if next.IsZero() || next.After(end) {
			b.now = end
			return
		}
		if next.After(b.now) {
			b.now = next
		}
		before := s.out.Len()
		s.do(b.m.Tick(b.now))
		if s.show(); s.out.Len() > before {
			text := s.out.String()
			s.out.Reset()
			fmt.Fprintf(&s.out, "%safter %s:\n%s", text[:before], b.now.Sub(began).Round(time.Millisecond), text[before:])
		}
	}
	s.t.Fatalf("%s: the machine does not come to rest", s.pos)
}

// restart loads another machine from the log.
func (s *script) restart() {
	s.bench.m.Unload(kerr.NotLeaderOrFollower)
	s.bench.m = group.NewMachine(s.bench.config())
	for _, e := range s.log {
		if e.marker != nil {
			s.must(s.bench.m.Ended(*e.marker))
		} else {
			s.must(s.bench.m.Replay(e.record, e.from))
		}
	}
	s.do(s.bench.m.Loaded(s.bench.now))
}

// show writes down the group if it has changed.
func (s *script) show() {
	d, code := s.bench.m.Describe("g")
	now := "= no group"
	if code == kerr.None {
		var members []string
		for _, m := range d.Members {
			members = append(members, m.MemberId)
		}
		now = fmt.Sprintf("= %s %v", d.GroupState, members)
	}
	if now != s.group {
		s.group = now
		fmt.Fprintln(&s.out, now)
	}
}

func (s *script) consumer(name string) *consumer {
	if s.consumers[name] == nil {
		s.consumers[name] = &consumer{generation: -1}
	}
	return s.consumers[name]
}

func (s *script) word() string {
	if len(s.words) == 0 {
		s.t.Fatalf("%s: a word is missing", s.pos)
	}
	w := s.words[0]
	s.words = s.words[1:]
	return w
}

func (s *script) take(key, otherwise string) string {
	if v, ok := s.args[key]; ok {
		delete(s.args, key)
		return v
	}
	return otherwise
}

func (s *script) instance(c *consumer) *string {
	if i := s.take("instance", ""); i != "" {
		return &i
	}
	return c.instance
}

func (s *script) generation(c *consumer) int32 {
	return int32(s.number(s.take("generation", fmt.Sprint(c.generation))))
}

// offset reads topic-partition=offset.
func (s *script) offset(w string) (topic string, partition int32, offset int64) {
	name, value, _ := strings.Cut(w, "=")
	at := strings.LastIndexByte(name, '-')
	return name[:max(at, 0)], int32(s.number(name[at+1:])), s.number(value)
}

func (s *script) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	s.must(err)
	return n
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	s.must(err)
	return d
}

// code is the error of that name.
func (s *script) code(name string) error {
	for c := range kerr.Code(200) {
		if c.Known() && c.Name() == name {
			return c
		}
	}
	s.t.Fatalf("%s: no error %s", s.pos, name)
	return nil
}

func (s *script) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", s.pos, err)
	}
}
