package control_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
)

// TestWalk makes decisions at random, on behalf of brokers that stop, lose the ends of
// their logs and come back. After each it checks what must hold of the metadata, and that
// who is in sync or eligible has what was committed: see ledger.
func TestWalk(t *testing.T) {
	const seeds, steps = 60, 400
	seen := make(map[string]int)
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWalk(t, seed)
			w.seen = seen
			for range steps {
				w.step()
			}
		})
	}
	for _, what := range []string{"eligible leader", "unclean election", "isr is empty", "isr grows", "move begins", "move ends", "directory lost"} {
		if seen[what] == 0 {
			t.Errorf("it never happened: %s", what)
		}
	}
	t.Logf("%v", seen)
}

// walk is a cluster whose brokers do what the random numbers say.
type walk struct {
	t        *testing.T
	r        *rand.Rand
	image    *meta.Image
	sessions *control.Sessions
	now      time.Time
	brokers  int32 // their ids are 1 to brokers
	ids      uint64
	topics   int
	did      string // the last decision
	ledger   ledger
	epochs   map[int32]int64 // the last epoch of each broker
	ruled    map[term]int32  // who led in each leader epoch
	seen     map[string]int  // what has happened how often, in all walks
}

// saw counts what a change of a partition was.
func (w *walk) saw(p, was *meta.Partition) {
	for what, so := range map[string]bool{
		"eligible leader":  p.Leader != was.Leader && slices.Contains(was.EligibleLeader, p.Leader) && !p.Recovering,
		"unclean election": p.Recovering && !was.Recovering,
		"isr is empty":     len(p.InSync) == 0 && len(was.InSync) > 0,
		"isr grows":        len(p.InSync) > len(was.InSync),
		"move begins":      len(p.Adding) > len(was.Adding),
		"move ends":        len(was.Adding) > 0 && len(p.Adding) == 0 && len(p.Replicas) > 0 && slices.Contains(p.Replicas, was.Adding[0]),
		"directory lost":   strings.Contains(w.did, "OfflineDirs:[A"),
	} {
		if so {
			w.seen[what]++
		}
	}
}

type term struct {
	partition slot
	epoch     int32
}

func newWalk(t *testing.T, seed uint64) *walk {
	w := &walk{t: t, r: rand.New(rand.NewPCG(seed, 7)), image: meta.Empty(), sessions: control.NewSessions(9 * time.Second), now: time.Unix(0, 0),
		brokers: int32(1 + seed%5), epochs: make(map[int32]int64), ruled: make(map[term]int32)}
	w.ledger = ledger{t: t, partitions: make(map[slot]*account)}
	return w
}

// UUID and Intn make a walk the chance of its decisions.
func (w *walk) UUID() prim.UUID {
	w.ids++
	return prim.UUID{6: byte(w.ids >> 16), 7: byte(w.ids >> 8), 8: byte(w.ids)}
}

func (w *walk) Intn(n int) int { return w.r.IntN(n) }

func (w *walk) facts() control.Facts { return control.Facts{Image: w.image, Chance: w} }

func (w *walk) one(in int) bool { return w.r.IntN(in) == 0 }

func (w *walk) broker() int32 { return 1 + w.r.Int32N(w.brokers) }

// epoch is that of a broker, and now and then a wrong one.
func (w *walk) epoch(id int32) int64 {
	b := w.image.Broker(id)
	if b == nil || w.one(20) {
		return int64(w.r.IntN(int(w.image.Index) + 1))
	}
	return b.Epoch
}

func (w *walk) active(id int32) bool {
	b := w.image.Broker(id)
	return b != nil && !b.Fenced && !b.ShuttingDown
}

// partition returns a partition, if there is one.
func (w *walk) partition() (t *meta.Topic, index int32) {
	n := w.r.IntN(max(w.image.PartitionCount(), 1))
	w.image.Partitions(func(of *meta.Topic, i int32, _ *meta.Partition) {
		if n == 0 {
			t, index = of, i
		}
		n--
	})
	return t, index
}

func (w *walk) some(ids []int32) (out []int32) {
	for _, id := range ids {
		if !w.one(3) {
			out = append(out, id)
		}
	}
	return out
}

// step makes one decision and checks what comes of it.
func (w *walk) step() {
	w.now = w.now.Add(time.Duration(w.r.IntN(700)) * time.Millisecond)
	var records []meta.Record
	var err error
	join, lost := false, func(*meta.Partition, int32) bool { return false }
	id := w.broker()
	switch w.r.IntN(16) {
	case 0, 1:
		records, lost = w.register(id)
	case 2:
		w.did = fmt.Sprint("fence ", id)
		records, err = control.FenceBroker(w.facts(), id, w.epoch(id))
	case 3, 4:
		w.did = fmt.Sprint("unfence ", id)
		records, err = control.UnfenceBroker(w.facts(), id, w.epoch(id))
	case 5:
		w.did = fmt.Sprint("shut down ", id)
		records, err = control.ShutDownBroker(w.facts(), id, w.epoch(id))
	case 6, 7, 8:
		records = w.alter()
		join = true
	case 9:
		records = w.createTopic()
	case 10:
		records, lost = w.heartbeat(id)
	case 11:
		records = w.elect()
	case 12:
		records = w.move()
	case 13:
		records = w.configure()
	case 14:
		records = w.expire()
	case 15:
		records = w.rare(id)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", w.did, err)
	}
	w.apply(records, join, lost)
}

func (w *walk) register(id int32) ([]meta.Record, func(*meta.Partition, int32) bool) {
	r := control.Registration{Broker: id, Incarnation: w.UUID(), PreviousEpoch: -1, Unclean: w.one(5)}
	r.Alone = !slices.ContainsFunc(w.image.Brokers(), func(b *meta.Broker) bool { return b.ID != id })
	var gone []prim.UUID
	clean := !r.Unclean
	if old := w.image.Broker(id); old != nil {
		if w.one(4) {
			r.Incarnation = old.Incarnation
		}
		r.PreviousEpoch, r.LogDirs = w.epoch(id), slices.Clone(old.LogDirs)
		if r.SessionAlive = w.sessions.Alive(id, old.Epoch, w.now); r.SessionAlive && !r.Alone && r.Incarnation != old.Incarnation {
			if _, err := control.RegisterBroker(w.facts(), r); err == nil {
				w.t.Fatalf("a second process registered as broker %d", id)
			}
			w.sessions.Gone(id, old.Epoch)
			return nil, func(*meta.Partition, int32) bool { return false }
		}
		clean = clean && (r.PreviousEpoch == old.Epoch || r.Alone)
		if w.one(6) && len(r.LogDirs) > 0 && r.Incarnation != old.Incarnation {
			gone = r.LogDirs[:1]
			r.LogDirs = r.LogDirs[1:]
		}
		if r.Incarnation == old.Incarnation {
			clean = true
		}
	} else {
		clean = false
	}
	for len(r.LogDirs) < 1+w.r.IntN(2) {
		r.LogDirs = append(r.LogDirs, w.UUID())
	}
	w.did = fmt.Sprintf("register %+v, clean %v", r, clean)
	records, err := control.RegisterBroker(w.facts(), r)
	if err != nil {
		w.t.Fatalf("%s: %v", w.did, err)
	}
	return records, func(p *meta.Partition, of int32) bool {
		dir := directory(p, id)
		return of == id && (!clean || gone != nil && (dir.IsZero() || dir == gone[0]))
	}
}

func directory(p *meta.Partition, id int32) prim.UUID {
	if at := slices.Index(p.Replicas, id); at >= 0 && at < len(p.Directories) {
		return p.Directories[at]
	}
	return prim.UUID{}
}

// alter has a leader change its in-sync set.
func (w *walk) alter() []meta.Record {
	t, index := w.partition()
	if t == nil {
		return nil
	}
	p := t.Partitions[index]
	leader := p.Leader
	if w.one(20) {
		leader = w.broker()
	}
	r := control.AlterPartitionsRequest{Broker: leader, BrokerEpoch: w.epoch(leader)}
	for _, at := range []int32{index, w.r.Int32N(int32(len(t.Partitions)))} {
		p := t.Partitions[at]
		ap := control.AlterPartition{Index: at, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, Recovering: p.Recovering && w.one(4)}
		if w.one(20) {
			ap.LeaderEpoch += w.r.Int32N(3) - 1
		}
		if w.one(20) {
			ap.PartitionEpoch += w.r.Int32N(3) - 1
		}
		isr := w.some(p.Replicas)
		if !w.one(8) { // one that may be granted
			isr = slices.DeleteFunc(slices.Clone(p.Replicas), func(id int32) bool { return !w.active(id) || id != p.Leader && w.one(4) })
		}
		for _, id := range isr {
			ap.NewISR = append(ap.NewISR, control.ISRMember{Broker: id, Epoch: w.epoch(id)})
		}
		r.Topics = append(r.Topics, control.AlterTopic{ID: t.ID, Partitions: []control.AlterPartition{ap}})
	}
	w.did = fmt.Sprintf("alter %+v", r)
	records, result := control.AlterPartitions(w.facts(), r)
	if result.Err == nil && len(result.Topics) != 2 {
		w.t.Fatalf("%s: %+v", w.did, result)
	}
	return records
}

func (w *walk) createTopic() []meta.Record {
	w.topics++
	minISR := strconv.Itoa(1 + w.r.IntN(3))
	s := control.TopicSpec{Name: fmt.Sprint("t", w.topics), Partitions: 1 + w.r.Int32N(3), ReplicationFactor: int16(1 + w.r.IntN(3)), Configs: map[string]*string{"min.insync.replicas": &minISR}}
	if w.image.PartitionCount() > 20 {
		w.did = "delete a topic"
		t, _ := w.partition()
		records, _ := control.DeleteTopics(w.image, []prim.UUID{t.ID})
		return records
	}
	w.did = fmt.Sprintf("create %+v", s)
	records, _ := control.CreateTopics(w.facts(), []control.TopicSpec{s}, control.Defaults{})
	return records
}

func (w *walk) heartbeat(id int32) ([]meta.Record, func(*meta.Partition, int32) bool) {
	h := control.Heartbeat{Broker: id, Epoch: w.epoch(id), Applied: int64(w.r.IntN(int(w.image.Index) + 1)), WantFence: w.one(6), WantShutdown: w.one(4)}
	if b := w.image.Broker(id); b != nil && w.one(8) && len(b.LogDirs) > 0 {
		h.OfflineDirs = b.LogDirs[:1]
	}
	w.did = fmt.Sprintf("heartbeat %+v", h)
	records, answer, err := w.sessions.Decide(w.facts(), h, w.now)
	if b := w.image.Broker(id); (err == nil) != (b != nil && b.Epoch == h.Epoch) {
		w.t.Fatalf("%s: %v", w.did, err)
	}
	if err == nil && h.Applied < w.image.Broker(id).Epoch && w.image.Broker(id).Fenced && !answer.Fenced {
		w.t.Fatalf("%s: unfenced before it has applied its registration", w.did)
	}
	return records, func(p *meta.Partition, of int32) bool {
		dir := directory(p, id)
		return err == nil && of == id && !dir.IsZero() && slices.Contains(h.OfflineDirs, dir)
	}
}

func (w *walk) elect() []meta.Record {
	t, index := w.partition()
	if t == nil || w.one(2) {
		w.did = "preferred elections"
		return control.PreferredElections(w.facts())
	}
	if w.one(3) {
		w.did = "unclean elections"
		return control.UncleanElections(w.facts())
	}
	kind := control.ElectionType(w.r.IntN(2))
	w.did = fmt.Sprint("elect ", kind, t.Name, index)
	records, _ := control.ElectLeaders(w.facts(), kind, []control.PartitionName{{Topic: t.Name, Partition: index}})
	return records
}

func (w *walk) move() []meta.Record {
	t, index := w.partition()
	if t == nil {
		return nil
	}
	m := control.Move{PartitionName: control.PartitionName{Topic: t.Name, Partition: index}}
	if !w.one(3) {
		var all []int32
		for _, b := range w.image.Brokers() {
			all = append(all, b.ID)
		}
		w.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		m.Replicas = append([]int32{}, w.some(all)...)
	}
	w.did = fmt.Sprintf("move %+v", m)
	records, _ := control.AlterReassignments(w.facts(), []control.Move{m}, true)
	return records
}

func (w *walk) configure() []meta.Record {
	change := control.ResourceChange{Resource: meta.Resource{Type: meta.BrokerResource}}
	if t, _ := w.partition(); t != nil && !w.one(4) {
		change.Resource = meta.Resource{Type: meta.TopicResource, Name: t.Name}
	}
	minISR, unclean := strconv.Itoa(1+w.r.IntN(3)), strconv.FormatBool(w.one(4))
	change.Changes = []control.ConfigChange{{Name: "min.insync.replicas", Value: &minISR}}
	if w.one(2) {
		change.Changes[0] = control.ConfigChange{Name: "unclean.leader.election.enable", Value: &unclean}
	}
	w.did = fmt.Sprintf("configure %v %s=%s", change.Resource, change.Changes[0].Name, *change.Changes[0].Value)
	records, errs := control.ChangeConfigs(w.image, []control.ResourceChange{change}, nil)
	if errs[0] != nil {
		w.t.Fatalf("%s: %v", w.did, errs[0])
	}
	return records
}

// expire fences the first broker that was not heard of.
func (w *walk) expire() []meta.Record {
	w.did = "expire"
	if w.one(10) {
		w.sessions.Begin(w.image, w.now)
	}
	over := w.sessions.Expired(w.image, w.now)
	if len(over) == 0 {
		return nil
	}
	w.did = fmt.Sprint("expire ", over[0])
	records, err := control.FenceBroker(w.facts(), over[0].ID, over[0].Epoch)
	if err != nil || records == nil {
		w.t.Fatalf("%s: %v %v", w.did, records, err)
	}
	return records
}

func (w *walk) rare(id int32) []meta.Record {
	w.did = fmt.Sprint("unregister ", id)
	if w.one(2) {
		records, _ := control.UnregisterBroker(w.facts(), id)
		return records
	}
	u := control.FeatureUpdate{Name: "eligible.leader.replicas.version", Level: 1, Type: control.UpgradeFeature}
	if w.one(3) {
		u.Level, u.Type = 0, control.SafeDowngradeFeature
	}
	if b := w.image.Broker(id); b != nil && w.one(2) {
		w.did = fmt.Sprint("assign directories of ", id)
		return w.assign(b)
	}
	w.did = fmt.Sprint("update ", u)
	records, _ := control.UpdateFeatures(w.facts(), []control.FeatureUpdate{u}, 1, []int32{1})
	return records
}

// assign has a broker tell where its replicas are that nobody knows of.
func (w *walk) assign(b *meta.Broker) []meta.Record {
	var all []control.DirAssignment
	w.image.Partitions(func(t *meta.Topic, i int32, p *meta.Partition) {
		if slices.Contains(p.Replicas, b.ID) && directory(p, b.ID).IsZero() {
			all = append(all, control.DirAssignment{Dir: b.LogDirs[w.r.IntN(len(b.LogDirs))], Topic: t.ID, Partition: i})
		}
	})
	records, results, err := control.AssignDirs(w.facts(), b.ID, b.Epoch, all)
	if err != nil || slices.ContainsFunc(results, func(err error) bool { return err != nil }) {
		w.t.Fatalf("%s: %v %v", w.did, results, err)
	}
	return records
}

// apply applies a decision and checks the image after it.
func (w *walk) apply(records []meta.Record, join bool, lost func(*meta.Partition, int32) bool) {
	old := w.image
	if len(records) == 0 {
		return
	}
	next, _, err := old.Apply(old.Index+1, 1, records)
	if err != nil {
		w.t.Fatalf("%s: %v", w.did, err)
	}
	w.image = next
	w.checkBrokers()
	w.image.Partitions(func(t *meta.Topic, i int32, p *meta.Partition) {
		at := slot{t.ID, i}
		var was *meta.Partition
		if o := old.TopicByID(t.ID); o != nil && int(i) < len(o.Partitions) {
			was = o.Partitions[i]
		}
		defer func() {
			if w.t.Failed() {
				w.t.Fatalf("%s-%d after %s:\nwas %+v\nis  %+v", t.Name, i, w.did, was, p)
			}
		}()
		minISR := w.minISR(t)
		w.check(at, p, was, minISR)
		w.ledger.follow(w.image, at, p, was, minISR, join, lost)
	})
	if w.one(10) {
		w.checkSnapshot()
	}
}

func (w *walk) checkBrokers() {
	for _, b := range w.image.Brokers() {
		if b.Epoch < w.epochs[b.ID] {
			w.t.Fatalf("%s: broker %d has epoch %d after %d", w.did, b.ID, b.Epoch, w.epochs[b.ID])
		}
		w.epochs[b.ID] = b.Epoch
	}
}

func (w *walk) minISR(t *meta.Topic) int {
	for _, r := range []meta.Resource{{Type: meta.TopicResource, Name: t.Name}, {Type: meta.BrokerResource}} {
		if v, ok := w.image.Config(r)["min.insync.replicas"]; ok {
			n, _ := strconv.Atoi(v)
			return n
		}
	}
	return 1
}

// check checks one partition.
func (w *walk) check(at slot, p, was *meta.Partition, minISR int) {
	bad := w.t.Errorf
	active := w.active
	for name, set := range map[string][]int32{"replicas": p.Replicas, "isr": p.InSync, "elr": p.EligibleLeader, "adding": p.Adding, "removing": p.Removing} {
		for i, id := range set {
			if !slices.Contains(p.Replicas, id) || slices.Contains(set[:i], id) {
				bad("M9: %s %v, replicas %v", name, set, p.Replicas)
			}
		}
	}
	if len(p.Replicas) == 0 || p.Directories != nil && len(p.Directories) != len(p.Replicas) {
		bad("M9: replicas %v in directories %v", p.Replicas, p.Directories)
	}
	if p.Leader != meta.NoLeader && (!slices.Contains(p.InSync, p.Leader) || !active(p.Leader)) {
		bad("M10, M5: leader %d, isr %v", p.Leader, p.InSync)
	}
	for _, id := range p.InSync {
		if !active(id) && (len(p.InSync) > 1 || p.Leader != meta.NoLeader) {
			bad("M5: %d is in sync and not active", id)
		}
		if slices.Contains(p.EligibleLeader, id) {
			bad("R11: %d is in sync and eligible", id)
		}
	}
	if len(p.EligibleLeader) > 0 && (w.image.Feature("eligible.leader.replicas.version") == 0 || len(p.InSync) >= min(minISR, len(p.Replicas))) {
		bad("R11: elr %v, %d in sync, min.insync.replicas %d", p.EligibleLeader, len(p.InSync), minISR)
	}
	if was == nil || was == p {
		return
	}
	w.saw(p, was)
	if p.PartitionEpoch <= was.PartitionEpoch || p.LeaderEpoch < was.LeaderEpoch || p.Leader != was.Leader && p.LeaderEpoch == was.LeaderEpoch {
		bad("R14: leader epoch, partition epoch")
	}
	if p.LeaderEpoch == was.LeaderEpoch && slices.ContainsFunc(was.Replicas, func(id int32) bool { return !slices.Contains(p.Replicas, id) }) {
		bad("R14: a replica has gone, and could go on in the leader epoch")
	}
	if other, ok := w.ruled[term{at, p.LeaderEpoch}]; ok && p.Leader != meta.NoLeader && other != p.Leader {
		bad("R14: %d leads in the epoch of %d", p.Leader, other)
	}
	if p.Leader != meta.NoLeader {
		w.ruled[term{at, p.LeaderEpoch}] = p.Leader
	}
	if p.Recovering && !was.Recovering && (len(p.InSync) != 1 || len(p.EligibleLeader) > 0) {
		bad("R10: an unclean election leaves isr %v, elr %v", p.InSync, p.EligibleLeader)
	}
	if reassigned := len(was.Adding)+len(was.Removing) > 0 && len(p.Adding)+len(p.Removing) == 0; reassigned {
		canceled := !slices.ContainsFunc(was.Adding, func(id int32) bool { return slices.Contains(p.Replicas, id) })
		if !canceled && slices.ContainsFunc(p.Replicas, func(id int32) bool { return !slices.Contains(p.InSync, id) }) {
			bad("R17: a move is done and not all are in sync")
		}
	}
}

// checkSnapshot checks that the records of the image make up the same image.
func (w *walk) checkSnapshot() {
	again, _, err := meta.Empty().Apply(w.image.Index, w.image.Epoch, w.image.Records())
	if err != nil {
		w.t.Fatal(err)
	}
	if d := meta.Diff(w.image, again); !reflect.DeepEqual(again.Records(), w.image.Records()) || len(d.Brokers)+len(d.Configs)+len(d.Deleted) > 0 {
		w.t.Fatalf("%s: the records of the image make up another one: %+v", w.did, d)
	}
	for _, r := range w.image.Records() {
		if b, err := meta.AppendRecord(nil, r); err != nil {
			w.t.Fatal(err)
		} else if got, err := meta.ParseRecord(b); err != nil || got.MessageName() != r.MessageName() {
			w.t.Fatalf("%T: %v", r, err)
		}
	}
}
