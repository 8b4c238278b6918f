package replication_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

var update = flag.Bool("update", false, "write what the commands in testdata print anew")

// TestScripts runs the scripts in testdata: one command a line, and below ---- what it
// says, and the replicas of partition t-0 that it changed. A log is written as its
// batches, each with its base offset, leader epoch and values: 3/e2:d,e. Epochs are
// written with the offset that they begin at.
//
//	start 1 2                       brokers with empty disks
//	meta leader=1 epoch=3 partition-epoch=7 replicas=1,2 isr=1,2
//	min.insync.replicas 2
//	append broker=1 values=a,b [acks=all|1|0]
//	fetch broker=1 replica=2 offset=3 [leader-epoch=3] [last-epoch=2]
//	consume broker=1 offset=0 [leader-epoch=3]
//	replicate from=1 to=2           broker 2 does what a follower does: it fetches once,
//	                                and appends what comes or cuts off what diverges
//	ask from=1 to=2 as=x            the same without what follows from the answer
//	take from=1 to=2 answer=x       and that
//	follower-append broker=2 epoch=3 offset=0 values=a,b [batch-epoch=2] [high=1] [start=0]
//	truncate broker=2 to=1          truncate-fully broker=2 start=10
//	delete-records broker=1 below=2
//	epoch-end broker=1 epoch=2      OffsetsForLeaderEpoch
//	restart 1                       a clean one
//	crash 1                         the power fails: what was not synced is lost
//	kill 1                          the process dies, and the system lives
//	checkpoint 1
//	show                            every replica
func TestScripts(t *testing.T) {
	if *update {
		if err := flag.Set("rewrite", "true"); err != nil {
			t.Fatal(err)
		}
	}
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &script{brokers: make(map[int32]*scriptBroker), late: make(map[string]late), image: meta.Empty(), static: static(t), clk: clock.NewVirtual(time.Now())}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.pos = t, d.Pos
			s.out.Reset()
			for line := range strings.Lines(d.String()) {
				if d.Input != "" {
					fmt.Fprintf(&s.out, "> %s\n", strings.TrimSpace(line))
				}
				s.run(strings.Fields(line))
			}
			return s.out.String()
		})
		for _, b := range s.brokers {
			if err := b.stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// script is a cluster of brokers that have a partition, and nobody who connects them
// but the commands.
type script struct {
	t       *testing.T
	pos     string
	brokers map[int32]*scriptBroker
	image   *meta.Image
	static  *config.Static
	clk     *clock.Virtual
	out     strings.Builder
	args    map[string]string
	words   []string
	late    map[string]late
}

type scriptBroker struct {
	id      int32
	disk    *vfs.Mem
	dir     *dirs.Dir
	r       *replication.Replicas
	commits []*replication.Commit
	waits   []string // the values that each of commits is for
}

func (s *script) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", s.pos, err)
	}
}

// open starts a broker on its disk.
func (s *script) open(b *scriptBroker) {
	d, _, err := dirs.Open(b.disk, "/d", dirs.Identity{NodeID: b.id})
	s.must(err)
	conf, err := s.static.Broker()
	s.must(err)
	b.dir = d
	b.r = replication.NewReplicas(replication.Options{NodeID: b.id, FS: b.disk, Dirs: []*dirs.Dir{d}, Broker: conf, Static: s.static, Clock: s.clk, Logger: zap.NewNop()})
	s.must(b.r.Start(func() *meta.Image { return s.image }))
	s.brokers[b.id] = b
}

func (b *scriptBroker) stop() error { return errors.Join(b.r.Close(1), b.dir.Close()) }

func (s *script) run(words []string) {
	s.args, s.words = make(map[string]string), nil
	for _, w := range words[1:] {
		if key, value, ok := strings.Cut(w, "="); ok {
			s.args[key] = value
		} else {
			s.words = append(s.words, w)
		}
	}
	switch words[0] {
	case "start":
		for _, w := range s.words {
			s.open(&scriptBroker{id: int32(s.number(w)), disk: vfs.NewMem()})
		}
		return
	case "meta":
		r := &msg.PartitionRecord{TopicId: prim.UUID{15: 1}, Leader: int32(s.number(s.arg("leader"))), LeaderEpoch: int32(s.number(s.arg("epoch"))),
			PartitionEpoch: int32(s.number(s.arg("partition-epoch"))), Replicas: s.ids(s.arg("replicas")), Isr: s.ids(s.arg("isr"))}
		s.apply(&msg.TopicRecord{Name: "t", TopicId: r.TopicId}, r)
		s.show()
	case "min.insync.replicas":
		s.apply(nil, &msg.ConfigRecord{ResourceType: int8(meta.TopicResource), ResourceName: "t", Name: words[0], Value: &s.words[0]})
		s.show()
	case "show":
		s.show()
	case "restart":
		b := s.broker(s.words[0])
		s.must(b.stop())
		s.open(&scriptBroker{id: b.id, disk: b.disk})
		s.show(b.id)
	case "checkpoint":
		s.must(s.broker(s.words[0]).r.Checkpoint())
	case "crash", "kill":
		b := s.broker(s.words[0])
		after := b.disk.CrashClone(vfs.CrashPolicy{KeepData: words[0] == "kill", KeepEntries: words[0] == "kill"})
		s.must(b.stop())
		s.open(&scriptBroker{id: b.id, disk: after})
		s.show(b.id)
	default:
		s.onPartition(words[0])
	}
	for key := range s.args {
		s.t.Fatalf("%s: %s does not take %s", s.pos, words[0], key)
	}
}

// apply has every broker follow a change of the metadata. topic comes first if there
// is none yet.
func (s *script) apply(topic *msg.TopicRecord, r meta.Record) {
	records := []meta.Record{r}
	if topic != nil && s.image.TopicByID(topic.TopicId) == nil {
		records = []meta.Record{topic, r}
	}
	old := s.image
	next, delta, err := old.Apply(old.Index+1, 1, records)
	s.must(err)
	s.image = next
	for _, b := range s.brokers {
		b.r.Apply(old, next, delta)
		s.must(b.r.Settled(s.t.Context(), next.Index))
	}
}

// onPartition runs a command on the partition of a broker.
func (s *script) onPartition(command string) {
	switch command {
	case "replicate":
		leader, follower := s.broker(s.arg("from")), s.broker(s.arg("to"))
		s.take(leader, follower, s.ask(leader, follower))
		return
	case "ask":
		s.late[s.arg("as")] = s.ask(s.broker(s.arg("from")), s.broker(s.arg("to")))
		return
	case "take":
		x, ok := s.late[s.arg("answer")]
		if !ok {
			s.t.Fatalf("%s: no such answer", s.pos)
		}
		s.take(s.broker(s.arg("from")), s.broker(s.arg("to")), x)
		return
	}
	b := s.broker(s.arg("broker"))
	p := b.r.Get("t", 0)
	var err error
	switch command {
	case "append":
		values := s.arg("values")
		acks := map[string]replication.Acks{"": replication.AcksAll, "all": replication.AcksAll, "1": replication.AcksLeader, "0": replication.AcksNone}[s.arg("acks")]
		var c *replication.Commit
		if _, c, err = p.Append(batch(s.t, strings.Split(values, ",")...), acks, log.AppendOptions{}); c != nil {
			b.commits, b.waits = append(b.commits, c), append(b.waits, values)
		}
	case "follower-append":
		epoch, offset := int32(s.number(s.arg("epoch"))), s.number(s.arg("offset"))
		out := record.Batch(batch(s.t, strings.Split(s.arg("values"), ",")...))
		out.SetBaseOffset(offset)
		out.SetLeaderEpoch(int32(s.number(s.argOr("batch-epoch", fmt.Sprint(epoch)))))
		_, err = p.AppendAsFollower(epoch, out, s.number(s.argOr("high", "0")), s.number(s.argOr("start", "0")))
	case "fetch":
		s.fetched(s.fetch(p, replication.Fetch{Reader: replication.Replica, Follower: int32(s.number(s.arg("replica"))), Offset: s.number(s.arg("offset")),
			LeaderEpoch: int32(s.number(s.argOr("leader-epoch", "-1"))), LastEpoch: int32(s.number(s.argOr("last-epoch", "-1")))}))
	case "consume":
		s.fetched(s.fetch(p, replication.Fetch{Offset: s.number(s.arg("offset")), LeaderEpoch: int32(s.number(s.argOr("leader-epoch", "-1"))), LastEpoch: int32(s.number(s.argOr("last-epoch", "-1")))}))
		return
	case "truncate":
		err = p.TruncateTo(s.number(s.arg("to")))
	case "truncate-fully":
		err = p.TruncateFullyAndStartAt(s.number(s.arg("start")))
	case "delete-records":
		_, err = p.DeleteRecords(s.number(s.arg("below")))
	case "epoch-end":
		epoch, end := p.Log().EpochEndOffset(int32(s.number(s.arg("epoch"))))
		fmt.Fprintf(&s.out, "leader epoch %d, end offset %d\n", epoch, end)
		return
	default:
		s.t.Fatalf("%s: no command %s", s.pos, command)
	}
	s.failed(err)
	s.show(b.id)
}

func (s *script) fetch(p *replication.Partition, f replication.Fetch) (out replication.Fetched, b []byte, err error) {
	f.MaxBytes, f.MinOne = 1<<20, true
	if out, err = p.Fetch(f); err == nil && out.Region != nil {
		if b, err = out.Region.Bytes(); err == nil {
			out.Region.Release()
		}
	}
	return out, b, err
}

// fetched says what a fetch was answered.
func (s *script) fetched(f replication.Fetched, b []byte, err error) {
	switch {
	case err != nil:
		s.failed(err)
	case f.DivergingEpoch >= 0:
		fmt.Fprintf(&s.out, "diverging epoch %d, which ends at %d\n", f.DivergingEpoch, f.DivergingEnd)
	default:
		fmt.Fprintf(&s.out, "fetched [%s], high watermark %d, log start %d\n", s.batches(b), f.High, f.Start)
	}
}

// late is what a leader has answered to a fetch that a follower asked for with.
type late struct {
	f replication.Fetch
	a replication.Answer
}

// ask has a follower ask its leader, and returns the answer.
func (s *script) ask(leader, follower *scriptBroker) late {
	from, to := leader.r.Get("t", 0), follower.r.Get("t", 0)
	l := to.Log()
	f := replication.Fetch{Reader: replication.Replica, Follower: follower.id, Offset: l.EndOffset(), LeaderEpoch: to.LeaderEpoch(), LastEpoch: l.LatestEpoch()}
	out, b, err := s.fetch(from, f)
	fmt.Fprintf(&s.out, "broker %d asks for %d after leader epoch %d\n", follower.id, l.EndOffset(), l.LatestEpoch())
	s.fetched(out, b, err)
	a := replication.Answer{Batches: slices.Clone(b), High: out.High, Start: out.Start, DivergingEpoch: out.DivergingEpoch, DivergingEnd: out.DivergingEnd}
	if err != nil && !errors.As(err, &a.Code) {
		s.t.Fatalf("%s: %v", s.pos, err)
	}
	return late{f, a}
}

// take has a follower do what an answer asks for (AbstractFetcherThread).
func (s *script) take(leader, follower *scriptBroker, x late) {
	to := follower.r.Get("t", 0)
	_, err := to.Take(x.f, x.a)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		l := leader.r.Get("t", 0).Log()
		err = to.Meet(x.f, l.StartOffset(), l.EndOffset())
	}
	s.failed(err)
	s.show(leader.id, follower.id)
}

func (s *script) failed(err error) {
	var refusal *kerr.Refusal
	var code kerr.Code
	switch {
	case err == nil:
	case errors.As(err, &refusal):
		fmt.Fprintf(&s.out, "%s: %s\n", refusal.Code.Name(), refusal.Reason)
	case errors.As(err, &code):
		fmt.Fprintln(&s.out, code.Name())
	default:
		fmt.Fprintln(&s.out, "error:", err)
	}
}

// show writes down the replicas of brokers, of all if none are named, and which
// produces were answered since the last time.
func (s *script) show(ids ...int32) {
	if ids == nil {
		ids = slices.Sorted(maps.Keys(s.brokers))
	}
	for _, id := range ids {
		b := s.brokers[id]
		b.answered(&s.out)
		p := b.r.Get("t", 0)
		if p == nil {
			fmt.Fprintf(&s.out, "broker %d: no replica\n", id)
			continue
		}
		l := p.Log()
		var content []byte
		s.must(l.Each(l.StartOffset(), l.EndOffset(), func(b record.Batch) error {
			content = append(content, b...)
			return nil
		}))
		fmt.Fprintf(&s.out, "broker %d: %s in epoch %d, log %d to %d [%s], high watermark %d, epochs [%s]", id, p.Role(), p.LeaderEpoch(), l.StartOffset(), l.EndOffset(), s.batches(content), l.HighWatermark(), epochsOf(l))
		if p.Leads() && !p.Settled() {
			s.out.WriteString(", not settled")
		}
		fmt.Fprintln(&s.out)
	}
}

func (b *scriptBroker) answered(out *strings.Builder) {
	for i := 0; i < len(b.commits); i++ {
		select {
		case <-b.commits[i].Done():
		default:
			continue
		}
		answer := "NONE"
		var code kerr.Code
		if errors.As(b.commits[i].Err(), &code) {
			answer = code.Name()
		}
		fmt.Fprintf(out, "produce of %s is answered %s\n", b.waits[i], answer)
		b.commits, b.waits = slices.Delete(b.commits, i, i+1), slices.Delete(b.waits, i, i+1)
		i--
	}
}

// epochsOf is where each leader epoch from 1 on begins.
func epochsOf(l *log.Log) string {
	var out []string
	begins := int64(-1)
	for e := int32(1); e <= l.LatestEpoch(); e++ {
		_, begins = l.EpochEndOffset(e - 1)
		if _, ends := l.EpochEndOffset(e); e == l.LatestEpoch() || ends != begins && begins >= 0 {
			out = append(out, fmt.Sprintf("%d@%d", e, max(begins, l.StartOffset())))
		}
	}
	return strings.Join(out, " ")
}

func (s *script) batches(b []byte) string {
	var out []string
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		s.must(err)
		var values []string
		it := batch.Iterate(0)
		for it.Next() {
			values = append(values, string(it.Record().Value))
		}
		s.must(it.Err())
		it.Close()
		out = append(out, fmt.Sprintf("%d/e%d:%s", batch.BaseOffset(), batch.LeaderEpoch(), strings.Join(values, ",")))
		b = rest
	}
	return strings.Join(out, " ")
}

func (s *script) broker(id string) *scriptBroker {
	b := s.brokers[int32(s.number(id))]
	if b == nil {
		s.t.Fatalf("%s: no broker %s", s.pos, id)
	}
	return b
}

func (s *script) arg(key string) string { return s.argOr(key, "") }

func (s *script) argOr(key, otherwise string) string {
	if v, ok := s.args[key]; ok {
		delete(s.args, key)
		return v
	}
	return otherwise
}

func (s *script) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	s.must(err)
	return n
}

func (s *script) ids(text string) (out []int32) {
	for id := range strings.SplitSeq(text, ",") {
		out = append(out, int32(s.number(id)))
	}
	return out
}
