package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/memnet"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// onDisk starts a broker on a file system.
func onDisk(t testing.TB, fs vfs.FS, fatal func(error)) (*rig, error) {
	t.Helper()
	r := &rig{net: memnet.New(), fs: fs}
	var err error
	r.Broker, err = Start(context.Background(), Options{Config: load(t, []string{"auto.create.topics.enable=false"}), FS: fs, Listen: r.net.Listen, Logger: zap.NewNop(), Fatal: fatal})
	if err == nil {
		r.server, r.addr = r.Broker.server, r.Addr()
	}
	return r, err
}

// diskLoad is a run of requests against a topic with small segments, and what
// came of them.
type diskLoad struct {
	acked   map[string]bool // values of partitions, as "partition value"
	sent    []string
	start   map[int32]int64 // low watermarks that DeleteRecords has answered
	codes   map[kerr.Code]int
	refused int
}

func (d *diskLoad) create(t testing.TB, r *rig) {
	p := r.dial(t)
	defer p.Close()
	p.create("t", 2, "internal.segment.bytes", "600", "index.interval.bytes", "100", "flush.messages", "1", "retention.bytes", "1500")
	p.create("lazy", 1, "internal.segment.bytes", "600", "cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.01")
}

// run sends the requests one at a time. Whatever the disk does, each gets an
// answer with a code that a client understands.
func (d *diskLoad) run(t testing.TB, r *rig) {
	d.acked, d.start, d.codes = make(map[string]bool), make(map[int32]int64), make(map[kerr.Code]int)
	p := r.dial(t)
	defer p.Close()
	for i := range 14 {
		for _, to := range []struct {
			topic     string
			partition int32
			acks      int16
		}{{"t", 0, -1}, {"t", 1, 1}, {"lazy", 0, -1}} {
			value := fmt.Sprintf("%s-%d value %d %s", to.topic, to.partition, i, strings.Repeat("x", 100))
			b := record.NewBuilder(record.None, 0)
			b.Append(time.Now().UnixMilli(), fmt.Append(nil, "key", i%4), []byte(value), nil)
			out, err := b.Finish(record.NoProducer)
			if err != nil {
				t.Fatal(err)
			}
			var resp msg.ProduceResponse
			p.ask(produceTo(to.topic, to.partition, to.acks, out), 9, &resp)
			d.sent = append(d.sent, value)
			d.note(kerr.Code(resp.Responses[0].PartitionResponses[0].ErrorCode), func() { d.acked[value] = true })
		}
		switch i {
		case 6:
			var resp msg.DeleteRecordsResponse
			p.ask(&msg.DeleteRecordsRequest{TimeoutMs: 10000, Topics: []msg.DeleteRecordsRequestDeleteRecordsTopic{{Name: "t",
				Partitions: []msg.DeleteRecordsRequestDeleteRecordsPartition{{PartitionIndex: 1, Offset: 2}}}}}, 2, &resp)
			o := resp.Topics[0].Partitions[0]
			d.note(kerr.Code(o.ErrorCode), func() { d.start[1] = o.LowWatermark })
		case 8:
			r.replicas.Retain(time.Now()) // errors are the disk's
		case 10:
			r.replicas.Clean(r.controller.Image())
		case 11:
			r.replicas.Checkpoint()
		}
		var fetched msg.FetchResponse
		p.send(p.request(fetchFrom("t", 0, 0, 0, 0), 11))
		if _, err := p.tryAnswer(&fetched, 11); err != nil {
			// The answer was under way when its records could not be read. The next
			// one tells why.
			p = r.dial(t)
			p.ask(fetchFrom("t", 0, 0, 0, 0), 11, &fetched)
		}
		for _, x := range fetched.Responses[0].Partitions {
			if code := kerr.Code(x.ErrorCode); code != kerr.OffsetOutOfRange { // below the log start offset by now
				d.note(code, func() {})
			}
		}
	}
}

func (d *diskLoad) note(code kerr.Code, ok func()) {
	d.codes[code]++
	if code == kerr.None {
		ok()
	} else {
		d.refused++
	}
}

// verify reads everything back from a broker whose disk is well.
func (d *diskLoad) verify(t testing.TB, r *rig, what string) {
	t.Helper()
	p := r.dial(t)
	defer p.Close()
	for _, of := range []struct {
		topic     string
		partition int32
	}{{"t", 0}, {"t", 1}, {"lazy", 0}} {
		l := r.replicas.Get(of.topic, of.partition)
		if l == nil {
			t.Fatalf("%s: %s-%d is offline", what, of.topic, of.partition)
		}
		var got []string
		err := l.Log().Each(l.Log().StartOffset(), l.Log().EndOffset(), func(b record.Batch) error {
			it := b.Iterate(0)
			defer it.Close()
			for it.Next() {
				if it.Offset() >= l.Log().StartOffset() {
					got = append(got, string(it.Record().Value))
				}
			}
			return it.Err()
		})
		if err != nil {
			t.Fatalf("%s: %s-%d: %v", what, of.topic, of.partition, err)
		}
		if l.Log().StartOffset() < d.start[of.partition] && of.topic == "t" {
			t.Errorf("%s: %s-%d begins at %d, deleted up to %d", what, of.topic, of.partition, l.Log().StartOffset(), d.start[of.partition])
		}
		at := -1
		for _, v := range got { // in order and once
			i := slices.Index(d.sent, v)
			if i <= at {
				t.Fatalf("%s: %s-%d: %.20s comes after %.20s", what, of.topic, of.partition, v, d.sent[max(at, 0)])
			}
			at = i
		}
		newest := make(map[int]string)
		prefix := fmt.Sprintf("%s-%d value ", of.topic, of.partition)
		for i, v := range d.sent {
			if rest, ok := strings.CutPrefix(v, prefix); ok && d.acked[v] {
				var n int
				fmt.Sscan(rest, &n)
				newest[n%4] = v
				if of.topic == "lazy" || slices.Contains(got, v) {
					continue
				}
				// Retention and DeleteRecords take the oldest only.
				if len(got) == 0 || i > slices.Index(d.sent, got[0]) {
					t.Errorf("%s: %.20s was acknowledged and is lost", what, v)
				}
			}
		}
		if of.topic == "lazy" {
			for _, v := range newest {
				if !slices.Contains(got, v) && at >= 0 && slices.Index(d.sent, v) <= at {
					t.Errorf("%s: %.20s was the last of its key and is lost", what, v)
				}
			}
		}
	}
	var resp msg.ProduceResponse
	for i := range int32(2) {
		p.ask(produceTo("t", i, -1, batch(record.None, "after")), 9, &resp)
		if code := resp.Responses[0].PartitionResponses[0].ErrorCode; code != 0 {
			t.Errorf("%s: produce to t-%d: error %d", what, i, code)
		}
	}
}

// At every operation on the disk it may fail: once, or from then on until there
// is space again. The error reaches the client as KAFKA_STORAGE_ERROR, nothing
// that was acknowledged is lost, and after a restart all is well.
func TestDiskFailsAtEveryOperation(t *testing.T) {
	type fault struct {
		at      int // which operation
		err     error
		lasting bool
	}
	one := func(f fault) (operations int, failed vfs.Op) {
		m := vfs.NewMem()
		var mu sync.Mutex
		n, armed := 0, false
		fs := vfs.Inject(m, func(op vfs.Op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			// The metadata log ends the process when it fails: see below.
			if !armed || strings.Contains(name, "__cluster_metadata") || op == vfs.OpClose {
				return nil
			}
			n++
			if n == f.at {
				failed = op
			}
			if f.at > 0 && (n == f.at || f.lasting && n > f.at && (op == vfs.OpWrite || op == vfs.OpOpen || op == vfs.OpRename || op == vfs.OpSync)) {
				if op == vfs.OpWrite && f.lasting {
					return &vfs.ShortWrite{N: 7, Err: f.err}
				}
				return f.err
			}
			return nil
		})
		r, err := onDisk(t, fs, func(err error) { t.Errorf("the metadata log failed: %v", err) })
		if err != nil {
			t.Fatal(err)
		}
		d := new(diskLoad)
		d.create(t, r)
		mu.Lock()
		armed = true
		mu.Unlock()
		d.run(t, r)
		closed := r.Close()
		what := fmt.Sprintf("operation %d, %s, %v, lasting %t", f.at, failed, f.err, f.lasting)
		for code := range d.codes {
			if code != kerr.None && code != kerr.KafkaStorageError {
				t.Errorf("%s: a client was told %v", what, code)
			}
		}
		if f.lasting && d.refused == 0 && closed == nil && failed != vfs.OpStat && failed != vfs.OpList {
			t.Errorf("%s: nobody noticed", what)
		}
		if closed != nil && !errors.Is(closed, f.err) {
			t.Errorf("%s: close: %v", what, closed)
		}
		// The process starts again, its disk being well.
		again, err := onDisk(t, m, nil)
		if err != nil {
			t.Fatalf("%s: start: %v", what, err)
		}
		d.verify(t, again, what)
		if err := again.Close(); err != nil {
			t.Errorf("%s: close: %v", what, err)
		}
		return n, failed
	}
	total, _ := one(fault{})
	if total < 300 {
		t.Fatalf("only %d operations", total)
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	seen := make(map[vfs.Op]int)
	for at := 1; at <= total && !t.Failed(); at += step {
		for _, f := range []fault{{at, syscall.EIO, false}, {at, syscall.ENOSPC, true}} {
			_, op := one(f)
			seen[op]++
		}
	}
	t.Logf("%d operations failed: %v", total, seen)
}

// If the metadata log cannot be written, the broker says so and must end; after a
// restart the metadata is whole.
func TestMetadataDiskFails(t *testing.T) {
	for _, lasting := range []error{syscall.EIO, syscall.ENOSPC} {
		m := vfs.NewMem()
		var mu sync.Mutex
		armed := false
		fs := vfs.Inject(m, func(op vfs.Op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			if armed && strings.Contains(name, "__cluster_metadata") && (op == vfs.OpWrite || op == vfs.OpSync) {
				return lasting
			}
			return nil
		})
		fatal := make(chan error, 1)
		r, err := onDisk(t, fs, func(err error) { fatal <- err })
		if err != nil {
			t.Fatal(err)
		}
		p := r.dial(t)
		p.create("before", 1)
		mu.Lock()
		armed = true
		mu.Unlock()
		var resp msg.CreateTopicsResponse
		p.ask(&msg.CreateTopicsRequest{TimeoutMs: 10000, Topics: []msg.CreateTopicsRequestCreatableTopic{{Name: "after", NumPartitions: 1, ReplicationFactor: 1}}}, 4, &resp)
		if resp.Topics[0].ErrorCode == 0 {
			t.Errorf("%v: a topic was created", lasting)
		}
		if err := <-fatal; !errors.Is(err, lasting) {
			t.Errorf("fatal: %v, want %v", err, lasting)
		}
		r.Close() // it fails, and the process ends
		again, err := onDisk(t, m, nil)
		if err != nil {
			t.Fatal(err)
		}
		if again.controller.Image().Topic("before") == nil {
			t.Error("a topic is lost")
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A topic with a flush.ms is synced in time, whenever it is made or gets it.
func TestFlushMs(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		time.Sleep(time.Hour) // nothing was to be flushed so far
		p := r.dial(t)
		p.create("made", 1, "flush.ms", "1000")
		p.create("changed", 1)
		for _, topic := range []string{"made", "changed"} {
			p.produce(topic, 0, "x")
		}
		at := func(topic string) int64 { return r.replicas.Get(topic, 0).Log().RecoveryPoint() }
		time.Sleep(2500 * time.Millisecond)
		if at("made") != 1 || at("changed") != 0 {
			t.Errorf("recovery points %d and %d", at("made"), at("changed"))
		}
		value := "2000"
		var resp msg.IncrementalAlterConfigsResponse
		p.ask(&msg.IncrementalAlterConfigsRequest{Resources: []msg.IncrementalAlterConfigsRequestAlterConfigsResource{{ResourceType: 2, ResourceName: "changed",
			Configs: []msg.IncrementalAlterConfigsRequestAlterableConfig{{Name: "flush.ms", Value: &value}}}}}, 0, &resp)
		time.Sleep(4 * time.Second)
		if at("changed") != 1 {
			t.Error("the topic that got a flush.ms is not synced")
		}
	})
}
