package control_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
)

// brokers carries out what concerns the brokers of a cluster, if command is of that kind.
// The epoch of a broker is its last one where none is named.
//
//	cluster 3 racks=a,b,a
//	    brokers 1 to 3 have registered and are unfenced
//	register 2 incarnation=7 previous-epoch=3 unclean alone log-dirs=1,2 rack=a
//	    a process that has shut down cleanly in the last epoch, with the directories that
//	    the broker had, unless it says otherwise; log-dirs=new is an empty disk
//	fence 2 epoch=5, unfence 2, shutdown 2
//	alter-partition 1 epoch=5 / orders-0 isr=1,2@7 leader-epoch=3 partition-epoch=4 recovering
//	    the epochs are those of the partition where none are named; 2@7: broker 2 in epoch 7
//	heartbeat 2 epoch=5 applied=6 want-fence want-shutdown offline=1
//	assign-dirs 2 epoch=5 / orders-0 dir=3
//	settled 2 index=9    the entry with which the shutdown began
//	expired              the sessions that are over
//	gone 2               the process has died
//	pass 9s              time passes
//	begin                another controller becomes active
func (b *bench) brokers(command string, e *element, items []element) (records []meta.Record, ok bool) {
	switch command {
	case "cluster":
		b.cluster(e)
	case "register":
		return b.register(e), true
	case "fence", "unfence", "shutdown":
		id := b.number(e.word())
		decide := map[string]func(control.Facts, int32, int64) ([]meta.Record, error){"fence": control.FenceBroker, "unfence": control.UnfenceBroker, "shutdown": control.ShutDownBroker}
		records, err := decide[command](b.facts(), id, b.epoch(id, e))
		b.answer("", err)
		return records, true
	case "alter-partition":
		return b.alterPartition(e, items), true
	case "heartbeat":
		return b.heartbeat(e), true
	case "assign-dirs":
		return b.assignDirs(e, items), true
	case "settled":
		id := b.number(e.word())
		b.sessions.Settled(id, b.image.Broker(id).Epoch, uint64(b.number(e.take("index"))))
	case "expired":
		for _, name := range b.sessions.Expired(b.image, b.now) {
			fmt.Fprintf(&b.out, "broker %d in epoch %d\n", name.ID, name.Epoch)
		}
		if next, ok := b.sessions.Next(); ok {
			fmt.Fprintf(&b.out, "next in %v\n", next.Sub(b.now))
		}
	case "gone":
		id := b.number(e.word())
		b.sessions.Gone(id, b.image.Broker(id).Epoch)
	case "pass":
		d, err := time.ParseDuration(e.word())
		if err != nil {
			b.t.Fatalf("%s: %v", b.pos, err)
		}
		b.now = b.now.Add(d)
	case "begin":
		b.sessions.Begin(b.image, b.now)
	default:
		return nil, false
	}
	return nil, true
}

// cluster registers and unfences brokers, and writes down only their epochs.
func (b *bench) cluster(e *element) {
	racks := strings.Split(e.take("racks"), ",")
	for id := range b.number(e.word()) {
		line := fmt.Sprint(id + 1)
		if int(id) < len(racks) && racks[id] != "" {
			line += " rack=" + racks[id]
		}
		b.apply(b.register(&element{b, strings.Fields(line)}))
		b.apply(b.heartbeat(&element{b, strings.Fields(fmt.Sprint(id + 1))}))
	}
	b.out.Reset()
	for _, br := range b.image.Brokers() {
		fmt.Fprintf(&b.out, "broker %d: epoch %d\n", br.ID, br.Epoch)
	}
}

// epoch takes the epoch of a broker.
func (b *bench) epoch(id int32, e *element) int64 {
	last := int64(-1)
	if br := b.image.Broker(id); br != nil {
		last = br.Epoch
	}
	return int64(b.number(e.takeOr("epoch", fmt.Sprint(last))))
}

func (b *bench) dirs(s string) (out []prim.UUID) {
	for _, id := range b.replicas(s) {
		out = append(out, prim.UUID{15: byte(id)})
	}
	return out
}

func (b *bench) register(e *element) []meta.Record {
	id := b.number(e.word())
	r := control.Registration{Broker: id, Rack: e.take("rack"), Incarnation: prim.UUID{14: 1, 15: byte(b.number(e.takeOr("incarnation", "0")))}, PreviousEpoch: -1,
		EndPoints: []control.EndPoint{{Name: "PLAINTEXT", Host: "localhost", Port: 9092}}}
	if r.Incarnation[15] == 0 {
		r.Incarnation = b.UUID()
	}
	if old := b.image.Broker(id); old != nil {
		r.PreviousEpoch, r.LogDirs = old.Epoch, old.LogDirs
		r.SessionAlive = b.sessions.Alive(id, old.Epoch, b.now)
	}
	r.PreviousEpoch = int64(b.number(e.takeOr("previous-epoch", fmt.Sprint(r.PreviousEpoch))))
	switch dirs := e.take("log-dirs"); {
	case dirs == "new" || dirs == "" && r.LogDirs == nil:
		r.LogDirs = []prim.UUID{b.UUID()}
	case dirs != "":
		r.LogDirs = b.dirs(dirs)
	}
	r.Unclean, r.Alone = e.flag("unclean"), e.flag("alone")
	records, err := control.RegisterBroker(b.facts(), r)
	b.answer("", err)
	if err != nil {
		return nil
	}
	epoch := int64(b.image.Index) + 1
	if old := b.image.Broker(id); old != nil && old.Incarnation == r.Incarnation {
		epoch = old.Epoch
	}
	b.sessions.Registered(id, epoch, b.now)
	return records
}

func (b *bench) alterPartition(e *element, items []element) []meta.Record {
	r := control.AlterPartitionsRequest{Broker: b.number(e.word())}
	r.BrokerEpoch = b.epoch(r.Broker, e)
	names := make(map[prim.UUID]string)
	r.Topics = each(items, func(e *element) control.AlterTopic {
		name := b.partition(e.word())
		p := b.image.Partition(name.Topic, name.Partition)
		topic := control.AlterTopic{ID: prim.UUID{0: 255}} // of none
		if t := b.image.Topic(name.Topic); t != nil {
			topic.ID = t.ID
		}
		names[topic.ID] = name.Topic
		if p == nil {
			p = new(meta.Partition)
		}
		ap := control.AlterPartition{Index: name.Partition, LeaderEpoch: b.number(e.takeOr("leader-epoch", fmt.Sprint(p.LeaderEpoch))),
			PartitionEpoch: b.number(e.takeOr("partition-epoch", fmt.Sprint(p.PartitionEpoch)))}
		for member := range strings.SplitSeq(e.take("isr"), ",") {
			id, epoch, has := strings.Cut(member, "@")
			m := control.ISRMember{Broker: b.number(id), Epoch: -1}
			if has {
				m.Epoch = int64(b.number(epoch))
			}
			ap.NewISR = append(ap.NewISR, m)
		}
		ap.Recovering = e.flag("recovering")
		topic.Partitions = []control.AlterPartition{ap}
		return topic
	})
	records, result := control.AlterPartitions(b.facts(), r)
	if result.Err != nil {
		b.answer("", result.Err)
	}
	for _, t := range result.Topics {
		for _, p := range t.Partitions {
			b.answer(fmt.Sprintf("%s-%d", names[t.ID], p.Index), p.Err)
			if p.State != nil {
				fmt.Fprintf(&b.out, "  isr %v, leader %d, leader epoch %d, partition epoch %d\n", p.State.InSync, p.State.Leader, p.State.LeaderEpoch, p.State.PartitionEpoch)
			}
		}
	}
	return records
}

func (b *bench) assignDirs(e *element, items []element) []meta.Record {
	id := b.number(e.word())
	names := make([]string, len(items))
	assignments := make([]control.DirAssignment, len(items))
	for i := range items {
		names[i] = items[i].word()
		name := b.partition(names[i])
		a := control.DirAssignment{Dir: b.dirs(items[i].take("dir"))[0], Topic: prim.UUID{0: 255}, Partition: name.Partition}
		if t := b.image.Topic(name.Topic); t != nil {
			a.Topic = t.ID
		}
		assignments[i] = a
		items[i].done()
	}
	records, results, err := control.AssignDirs(b.facts(), id, b.epoch(id, e), assignments)
	if err != nil {
		b.answer("", err)
		return nil
	}
	for i, err := range results {
		b.answer(names[i], err)
	}
	return records
}

func (b *bench) heartbeat(e *element) []meta.Record {
	h := control.Heartbeat{Broker: b.number(e.word())}
	h.Epoch, h.Applied = b.epoch(h.Broker, e), int64(b.number(e.takeOr("applied", fmt.Sprint(b.image.Index))))
	h.OfflineDirs = b.dirs(e.take("offline"))
	h.WantFence, h.WantShutdown = e.flag("want-fence"), e.flag("want-shutdown")
	records, answer, err := b.sessions.Decide(b.facts(), h, b.now)
	if err != nil {
		b.answer("", err)
		return nil
	}
	var told []string
	for _, is := range []struct {
		so   bool
		name string
	}{{answer.CaughtUp, "caught up"}, {answer.Fenced, "fenced"}, {answer.ShutDown, "shut down"}} {
		if is.so {
			told = append(told, is.name)
		}
	}
	fmt.Fprintf(&b.out, "NONE: %s\n", strings.Join(told, ", "))
	return records
}

// flag takes a word alone.
func (e *element) flag(word string) bool {
	at := slices.Index(e.words, word)
	if at >= 0 {
		e.words = slices.Delete(e.words, at, at+1)
	}
	return at >= 0
}
