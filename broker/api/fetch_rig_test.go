package api

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// fetchRig is the part of broker 1 that a fetch sees, in memory: its replicas, which
// follow metadata that the test writes, and handlers without a network.
type fetchRig struct {
	testing.TB
	*Handlers
	controller *replication.Controller
	epochs     int32 // the last leader and partition epoch that was given
	ids        byte  // the last topic id that was given
}

func newFetchRig(t testing.TB) *fetchRig {
	t.Helper()
	static, _, err := config.Load(config.Sources{Overrides: []string{"log.dirs=/data"}})
	if err != nil {
		t.Fatal(err)
	}
	conf, err := static.Broker()
	if err != nil {
		t.Fatal(err)
	}
	fs := vfs.NewMem()
	dir, _, err := dirs.Open(fs, "/data", dirs.Identity{NodeID: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := replication.NewReplicas(replication.Options{NodeID: 1, FS: fs, Dirs: []*dirs.Dir{dir}, Broker: conf, Static: static, Clock: clock.System(), Logger: zap.NewNop()})
	c, err := replication.StartController(context.Background(), replication.ControllerOptions{NodeID: 1, FS: fs, Dir: "/data/__cluster_metadata-0",
		Clock: clock.System(), Logger: zap.NewNop(), Applied: r.Apply, Settled: r.Settled})
	if err != nil {
		t.Fatal(err)
	}
	f := &fetchRig{TB: t, controller: c}
	f.write(&msg.RegisterBrokerRecord{BrokerId: 1, BrokerEpoch: meta.EpochOfEntry})
	if err := r.Start(c.Image); err != nil {
		t.Fatal(err)
	}
	f.Handlers = &Handlers{NodeID: 1, Controller: c, Replicas: r, Broker: conf, Static: static, Clock: clock.System(), Logger: zap.NewNop()}
	f.Tables()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Close(1); err != nil {
			t.Error(err)
		}
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// another returns handlers of their own on the same replicas.
func (f *fetchRig) another() *Handlers {
	h := &Handlers{NodeID: 1, Controller: f.controller, Replicas: f.Replicas, Broker: f.Broker, Static: f.Static, Clock: f.Clock, Logger: f.Logger}
	h.Tables()
	return h
}

// write has the metadata changed, and waits until the replicas have followed.
func (f *fetchRig) write(records ...meta.Record) {
	f.Helper()
	if err := f.controller.Change(context.Background(), func(*meta.Image) ([]meta.Record, error) { return records, nil }); err != nil {
		f.Fatal(err)
	}
}

// create makes a topic whose replicas all are in sync; broker 1 leads.
func (f *fetchRig) create(topic string, partitions int32, replicas ...int32) (id prim.UUID) {
	f.Helper()
	f.ids++
	id = prim.UUID{14: 1, 15: f.ids}
	f.write(&msg.TopicRecord{Name: topic, TopicId: id})
	f.grow(id, 0, partitions, replicas...)
	return id
}

// grow gives a topic the partitions [from, to).
func (f *fetchRig) grow(id prim.UUID, from, to int32, replicas ...int32) {
	f.Helper()
	if len(replicas) == 0 {
		replicas = []int32{1}
	}
	var records []meta.Record
	for i := from; i < to; i++ {
		records = append(records, f.partition(id, i, 1, replicas))
	}
	f.write(records...)
}

// partition is a record that gives a partition a leader, in an epoch of its own.
func (f *fetchRig) partition(id prim.UUID, index, leader int32, replicas []int32) meta.Record {
	f.epochs++
	r := new(msg.PartitionRecord)
	r.SetDefaults()
	r.PartitionId, r.TopicId, r.Leader, r.LeaderEpoch, r.PartitionEpoch = index, id, leader, f.epochs, f.epochs
	r.Replicas, r.Isr = replicas, replicas
	return r
}

// remove deletes a topic.
func (f *fetchRig) remove(topic string) {
	f.Helper()
	f.write(&msg.RemoveTopicRecord{TopicId: f.controller.Image().Topic(topic).ID})
}

// append writes a batch of values.
func (f *fetchRig) append(p *replication.Partition, values ...string) {
	f.Helper()
	if _, _, err := p.Append(valuesBatch(f, record.NoProducer, values...), replication.AcksLeader, log.AppendOptions{}); err != nil {
		f.Fatal(err)
	}
}

// written is the time of records: in the past, also for a clock of synctest.
const written = 900_000_000_000

func valuesBatch(t testing.TB, by record.Producer, values ...string) []byte {
	t.Helper()
	b := record.NewBuilder(record.None, 0)
	for _, v := range values {
		b.Append(written, nil, []byte(v), nil)
	}
	out, err := b.Finish(by)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(out)
}

// slot is a place to run in that is always free.
type slot struct{}

func (slot) Release()                      {}
func (slot) Acquire(context.Context) error { return nil }

// reader is a client of fetches, and of one session at a time.
type reader struct {
	f       *fetchRig
	h       *Handlers
	conn    *Session
	version int16
	id      int32
	epoch   int32
}

// reader returns a client of the rig's handlers.
func (f *fetchRig) reader(version int16) *reader {
	return &reader{f: f, h: f.Handlers, conn: new(Session), version: version}
}

// request returns a request of the reader's session that waits up to wait.
func (r *reader) request(wait time.Duration, topics ...msg.FetchRequestFetchTopic) *msg.FetchRequest {
	req := new(msg.FetchRequest)
	req.SetDefaults()
	req.MinBytes, req.MaxBytes, req.MaxWaitMs, req.Topics = 1, 1<<20, int32(wait/time.Millisecond), topics
	return req
}

// asked is a topic of a request, with an offset for each partition from 0 on.
func asked(topic string, offsets ...int64) msg.FetchRequestFetchTopic {
	t := msg.FetchRequestFetchTopic{Topic: topic}
	for i, offset := range offsets {
		t.Partitions = append(t.Partitions, askedAt(int32(i), offset))
	}
	return t
}

func askedAt(index int32, offset int64) (p msg.FetchRequestFetchPartition) {
	p.SetDefaults()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = index, offset, 1<<20
	return p
}

func forgotten(topic string, indexes ...int32) msg.FetchRequestForgottenTopic {
	return msg.FetchRequestForgottenTopic{Topic: topic, Partitions: indexes}
}

// found is one partition of an answer.
type found struct {
	topic  string
	index  int32
	code   kerr.Code
	high   int64
	start  int64
	other  int64 // where the reader's log is another one, -1 nowhere
	at     int32 // the preferred read replica, -1 for none
	next   int64 // offset behind the records, -1 without any
	values []string
	bytes  int
}

// fetch asks, as the next request of the session, and returns what the answer says of
// partitions. A session that ends is begun anew with the next request.
func (r *reader) fetch(req *msg.FetchRequest) (kerr.Code, []found) {
	r.f.Helper()
	req.SessionId, req.SessionEpoch = r.id, r.epoch
	body, err := req.AppendTo(nil, r.version)
	if err != nil {
		r.f.Fatal(err)
	}
	a, err := r.h.fetch(&Call{Context: context.Background(), Header: wire.RequestHeader{Key: wire.Fetch, Version: r.version}, Session: r.conn, Slot: slot{}}, body)
	if err != nil {
		r.f.Error(err)
		return kerr.UnknownServerError, nil
	}
	defer a.Done.Release()
	resp := a.Response.(*msg.FetchResponse)
	if r.id = resp.SessionId; r.id == 0 {
		r.epoch = 0
	} else {
		r.epoch++
	}
	var out []found
	for i := range resp.Responses {
		for j := range resp.Responses[i].Partitions {
			p := &resp.Responses[i].Partitions[j]
			at := found{topic: resp.Responses[i].Topic, index: p.PartitionIndex, code: kerr.Code(p.ErrorCode), high: p.HighWatermark, start: p.LogStartOffset, other: p.DivergingEpoch.EndOffset, at: p.PreferredReadReplica, next: -1}
			if r.version >= 13 {
				at.topic = resp.Responses[i].TopicId.String()
			}
			if p.Records.Region != nil {
				b, err := p.Records.Region.Bytes()
				if err != nil {
					r.f.Error(err)
				}
				at.read(r.f, b)
			}
			out = append(out, at)
		}
	}
	return kerr.Code(resp.ErrorCode), out
}

func (at *found) read(t testing.TB, b []byte) {
	at.bytes = len(b)
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			return // cut off
		}
		it := batch.Iterate(1 << 20)
		for it.Next() {
			at.values = append(at.values, string(it.Record().Value))
		}
		if err := it.Err(); err != nil {
			t.Error(err)
		}
		it.Close()
		at.next, b = batch.LastOffset()+1, rest
	}
}

// shown is an answer as text.
func shown(code kerr.Code, all []found) string {
	var b strings.Builder
	b.WriteString(code.Name())
	for _, p := range all {
		fmt.Fprintf(&b, " | %s-%d", p.topic, p.index)
		if p.code != kerr.None {
			b.WriteString(" " + p.code.Name())
		}
		fmt.Fprintf(&b, " %d..%d %q", p.start, p.high, p.values)
		if p.other >= 0 {
			fmt.Fprintf(&b, " not from %d on", p.other)
		}
		if p.at >= 0 {
			fmt.Fprintf(&b, " at %d", p.at)
		}
	}
	return b.String()
}
