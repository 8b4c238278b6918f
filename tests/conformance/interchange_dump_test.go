package conformance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// kgoCodecs are franz-go's codecs.
var kgoCodecs = []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}

// fill writes n batches of three records each in every codec, half of them by an
// idempotent producer, and returns the records in the order of their offsets.
// Timestamps rise from round to round.
func fill(t *testing.T, addr, topic string, round, n int) (out []*kgo.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i, codec := range kgoCodecs {
		opts := []kgo.Opt{kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(0)}
		if i%2 == 1 {
			opts = append(opts, kgo.DisableIdempotentWrite())
		}
		cl, err := kgo.NewClient(opts...)
		if err != nil {
			t.Fatal(err)
		}
		for j := range n {
			batch := make([]*kgo.Record, 3)
			for k := range batch {
				batch[k] = &kgo.Record{Key: fmt.Appendf(nil, "key-%d", j%7), Value: fmt.Appendf(nil, "value-%d-%d-%d-%s", i, j, k, strings.Repeat("x", 20*k)),
					Timestamp: time.UnixMilli(past + int64(10000*round+1000*i+10*j+k)), Headers: []kgo.RecordHeader{{Key: "h1", Value: []byte("1")}, {Key: "h2", Value: nil}}}
			}
			if j%5 == 0 {
				batch[1].Value = nil
			}
			if j%6 == 0 {
				batch[2].Headers = nil
			}
			if err := cl.ProduceSync(ctx, batch...).FirstErr(); err != nil {
				t.Fatal(err)
			}
			out = append(out, batch...)
		}
		cl.Close()
	}
	return out
}

// TestInterchangeDump has Kafka's dump tool read every file that klamm writes.
func TestInterchangeDump(t *testing.T) {
	dir := t.TempDir()
	b := begin(t, systems.Klamm, dir, "offsets.topic.num.partitions=1")
	makeTopics(t, b, map[string]map[string]*string{"records": small()})
	want := fill(t, b.Addr, "records", 0, 20)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.ConsumerGroup("billing"), kgo.ConsumeTopics("records"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.PollRecords(ctx, 10).Err(); err != nil {
		t.Fatal(err)
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	cl.LeaveGroup()
	if err := stop(b); err != nil {
		t.Fatal(err)
	}
	verified(t, dir)

	t.Run("records", func(t *testing.T) {
		part := filepath.Join(dir, "records-0")
		logs := filesOf(t, part, ".log")
		if len(logs) < 3 {
			t.Fatalf("%d segments", len(logs))
		}
		checkRecords(t, kafkaDump(t, logs, "--deep-iteration", "--print-data-log"), want)
		indexes := filesOf(t, part, ".index", ".timeindex")
		rows := kafkaDump(t, indexes)
		if n := strings.Count(rows, "\noffset: ") + strings.Count(rows, "\ntimestamp: "); n < 3*len(logs) {
			t.Errorf("%d index entries in %d segments", n, len(logs))
		}
		kafkaDump(t, indexes, "--verify-index-only")
		if out := kafkaDump(t, indexes, "--index-sanity-check"); strings.Count(out, "passed sanity check") != len(indexes) {
			t.Errorf("sanity check: %s", cut(out))
		}
		if out := kafkaDump(t, filesOf(t, part, ".snapshot")); !strings.Contains(out, "producerId: ") {
			t.Errorf("snapshots: %s", cut(out))
		}
	})
	t.Run("offsets", func(t *testing.T) {
		out := kafkaDump(t, filesOf(t, filepath.Join(dir, "__consumer_offsets-0"), ".log"), "--offsets-decoder")
		for _, w := range []string{`"group":"billing"`, `"topic":"records"`, `"offset":10`, `"protocolType":"consumer"`} {
			if !strings.Contains(out, w) {
				t.Errorf("no %s in\n%s", w, cut(out))
			}
		}
		kafkaDump(t, filesOf(t, filepath.Join(dir, "__consumer_offsets-0"), ".index", ".timeindex", ".snapshot"))
	})
	t.Run("metadata", func(t *testing.T) {
		part := filepath.Join(dir, "__cluster_metadata-0")
		snapshots := []string{metadataSnapshot(t, filepath.Join(t.TempDir(), "__cluster_metadata-0"))}
		verified(t, snapshots...)
		out := kafkaDump(t, append(filesOf(t, part, ".log"), snapshots...), "--cluster-metadata-decoder")
		for _, w := range []string{`"type":"TOPIC_RECORD"`, `"name":"records"`, `"type":"REGISTER_BROKER_RECORD"`, `"type":"PARTITION_RECORD"`, "SnapshotHeader ", "SnapshotFooter ", `"name":"of-a-snapshot"`, "LeaderChange: "} {
			if !strings.Contains(out, w) {
				t.Errorf("no %s in\n%s", w, cut(out))
			}
		}
		kafkaDump(t, filesOf(t, part, ".index", ".timeindex", ".snapshot"))
	})
}

// metadataSnapshot writes a snapshot of the metadata, as a broker does after
// thousands of changes, and returns its file.
func metadataSnapshot(t *testing.T, dir string) string {
	t.Helper()
	l, err := log.Open(log.Options{Dir: dir, Topic: meta.MetadataTopic})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	store, err := quorum.OpenLog(l, vfs.OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.StoreLog(&raft.Log{Index: 1, Term: 3, Type: raft.LogNoop}); err != nil {
		t.Fatal(err)
	}
	snapshots, err := quorum.OpenSnapshots(vfs.OS(), dir, store)
	if err != nil {
		t.Fatal(err)
	}
	image, _, err := meta.Empty().Apply(1, 3, []meta.Record{&msg.TopicRecord{Name: "of-a-snapshot", TopicId: prim.UUID{1}},
		&msg.PartitionRecord{TopicId: prim.UUID{1}, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1}})
	if err != nil {
		t.Fatal(err)
	}
	sink, err := snapshots.Create(1, 1, 3, raft.Configuration{Servers: []raft.Server{{ID: "1", Address: "a:1"}}}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(quorum.WriteImage(sink, image), sink.Close()); err != nil {
		t.Fatal(err)
	}
	files := filesOf(t, dir, ".checkpoint")
	if len(files) != 1 {
		t.Fatalf("snapshots: %q", files)
	}
	return files[0]
}

var dumpedRecord = regexp.MustCompile(`(?m)^\| offset: (\d+) CreateTime: (-?\d+) keySize: (-?\d+) valueSize: (-?\d+) sequence: -?\d+ headerKeys: \[(.*?)\] key: (.*?)(?: payload: (.*))?$`)

// checkRecords compares the records that the dump tool printed with those that
// were written.
func checkRecords(t *testing.T, out string, want []*kgo.Record) {
	t.Helper()
	got := dumpedRecord.FindAllStringSubmatch(out, -1)
	if len(got) != len(want) {
		t.Fatalf("%d records are dumped, want %d:\n%s", len(got), len(want), cut(out))
	}
	for i, w := range want {
		var headers []string
		for _, h := range w.Headers {
			headers = append(headers, h.Key)
		}
		size := len(w.Value)
		if w.Value == nil {
			size = -1
		}
		line := fmt.Sprint([]any{i, w.Timestamp.UnixMilli(), len(w.Key), size, strings.Join(headers, ","), string(w.Key), string(w.Value)})
		if g := fmt.Sprint([]any{got[i][1], got[i][2], got[i][3], got[i][4], got[i][5], got[i][6], got[i][7]}); g != line {
			t.Fatalf("record %d is dumped as\n%s\nwant\n%s", i, g, line)
		}
	}
}

// writeTransactions writes a partition directory through package log: the
// transactions of two producers that overlap, some committed, some aborted and
// one left open, over several segments, with records of no transaction between.
func writeTransactions(t *testing.T, dir string, id prim.UUID) *log.Log {
	t.Helper()
	now := time.UnixMilli(past)
	l, err := log.Open(log.Options{Dir: dir, Topic: "txn", TopicID: id, Now: func() time.Time { return now }, Config: log.Config{SegmentBytes: 3000, IndexIntervalBytes: 300}})
	if err != nil {
		t.Fatal(err)
	}
	add := func(b []byte, o log.Origin) {
		t.Helper()
		if _, err := l.Append(b, log.AppendOptions{Origin: o}); err != nil {
			t.Fatal(err)
		}
	}
	seq := map[int64]int32{}
	write := func(i int, id int64, codec record.Codec) {
		t.Helper()
		b := record.NewBuilder(codec, codec.DefaultLevel())
		for k := range 2 {
			b.Append(past+int64(i*10+k), fmt.Appendf(nil, "key-%d", i), fmt.Appendf(nil, "value-%d-%d of %d", i, k, id), nil)
		}
		p := record.NoProducer
		if id >= 0 {
			p = record.Producer{ID: id, Sequence: seq[id], Transactional: id < 1003}
			seq[id] += 2
		}
		out, err := b.Finish(p)
		if err != nil {
			t.Fatal(err)
		}
		add(bytes.Clone(out), log.Client)
	}
	end := func(i int, id int64, commit bool) {
		t.Helper()
		add(record.BuildEndTxn(nil, commit, id, 0, 3, past+int64(i*10+5)), log.Coordinator)
	}
	for i := range 40 {
		codec := record.Codec(i % 5)
		write(i, 1001, codec)
		write(i, 1002, codec)
		write(i, -1, codec)
		write(i, 1003, codec) // idempotent only
		if i%2 == 1 {
			end(i, 1001, i%4 == 1)
		}
		if i%3 == 2 && i != 38 {
			end(i, 1002, i%9 == 2)
		}
	}
	l.SetHighWatermark(l.EndOffset())
	return l
}

// TestInterchangeDumpTransactions has Kafka's dump tool read transactions, which
// klamm has no coordinator for yet.
func TestInterchangeDumpTransactions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "txn-0")
	l := writeTransactions(t, dir, prim.UUID{1})
	aborted, err := l.AbortedTransactions(0, l.EndOffset())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	verified(t, dir)
	out := kafkaDump(t, filesOf(t, dir, ".log"), "--deep-iteration", "--print-data-log")
	commits, aborts := strings.Count(out, "endTxnMarker: COMMIT coordinatorEpoch: 3"), strings.Count(out, "endTxnMarker: ABORT coordinatorEpoch: 3")
	if commits != 14 || aborts != len(aborted) || aborts < 10 {
		t.Errorf("%d commits and %d aborts are dumped, %d transactions are aborted", commits, aborts, len(aborted))
	}
	var want strings.Builder
	for _, a := range aborted {
		fmt.Fprintf(&want, "version: 0 producerId: %d firstOffset: %d lastOffset: %d lastStableOffset: %d\n", a.ProducerID, a.FirstOffset, a.LastOffset, a.LastStableOffset)
	}
	var got strings.Builder
	for _, line := range strings.SplitAfter(kafkaDump(t, filesOf(t, dir, ".txnindex")), "\n") {
		if !strings.HasPrefix(line, "Dumping ") {
			got.WriteString(line)
		}
	}
	if got.String() != want.String() {
		t.Errorf("transaction indexes are dumped as\n%swant\n%s", got.String(), want.String())
	}
	kafkaDump(t, filesOf(t, dir, ".index", ".timeindex"), "--index-sanity-check")
	kafkaDump(t, filesOf(t, dir, ".index", ".timeindex"))
	snapshots := kafkaDump(t, filesOf(t, dir, ".snapshot"))
	if !strings.Contains(snapshots, "producerId: 1002 producerEpoch: 0 coordinatorEpoch: 3 currentTxnFirstOffset: OptionalLong[") {
		t.Errorf("snapshots: %s", cut(snapshots))
	}
}
