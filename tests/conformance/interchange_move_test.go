package conformance_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/conformance/driver"
	"github.com/klamm-io/klamm/tests/systems"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// javaClient starts the Java driver against a broker.
func javaClient(t *testing.T, b *systems.Process) driver.Driver {
	t.Helper()
	i := slices.IndexFunc(clients, func(c client) bool { return c.name == "java" })
	d, err := clients[i].start(b.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// done runs operations that must succeed.
func done(t *testing.T, d driver.Driver, ops ...driver.Op) {
	t.Helper()
	for _, op := range ops {
		if r := d.Do(op); r.Error != "" {
			t.Fatalf("%s %s: %s (%s)", op.Op, op.Topic, r.Error, r.Message)
		}
	}
}

// javaFill writes records in every codec by the Java client, by turns idempotent
// and not.
func javaFill(t *testing.T, d driver.Driver, topic string, round, n int) {
	t.Helper()
	for i, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		records := recs(0, 100*i, n)
		for j := range records {
			records[j].Timestamp = past + int64(10000*round+1000*i+j)
			records[j].Headers = []driver.Header{{Key: "codec", Value: []byte(codec)}, {Key: "null", Value: nil}}
			records[j].Value = append(records[j].Value, strings.Repeat("x", 40)...)
			records[j].Key = fmt.Appendf(nil, "key-%d", j%9)
		}
		records[1].Value, records[2].Headers = nil, nil
		done(t, d, driver.Op{Op: "produce", Topic: topic, Codec: codec, Acks: "all", Idempotent: i%2 == 0, Records: records})
	}
}

// javaTransactions writes transactions by the Java client that are committed and
// aborted by turns, with records of none between them.
func javaTransactions(t *testing.T, d driver.Driver, topic string, round int) {
	t.Helper()
	for i := range 8 {
		records := recs(0, 10*i, 10)
		for j := range records {
			records[j].Timestamp = past + int64(10000*round+100*i+j)
		}
		op := driver.Op{Op: "produce", Topic: topic, Codec: []string{"none", "lz4"}[i%2], Acks: "all", Idempotent: true, Records: records,
			Transaction: fmt.Sprint("interchange-", i%3), Abort: i%2 == 1}
		done(t, d, op, driver.Op{Op: "produce", Topic: topic, Codec: "none", Acks: "all", Idempotent: i%4 == 0, Records: records[:2]})
	}
}

// openTransaction begins a transaction that is never ended.
func openTransaction(t *testing.T, b *systems.Process, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr), kgo.TransactionalID("interchange-open"), kgo.DefaultProduceTopic(topic), kgo.TransactionTimeout(5*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{Value: []byte("undecided"), Timestamp: time.UnixMilli(past + 90000)}
	if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// deleteTo deletes the records below an offset.
func deleteTo(t *testing.T, b *systems.Process, topic string, offset int64) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	os := make(kadm.Offsets)
	os.AddOffset(topic, 0, offset, -1)
	r, err := kadm.NewClient(cl).DeleteRecords(t.Context(), os)
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// views looks at topics.
func views(t *testing.T, b *systems.Process, topics []string) map[string]view {
	t.Helper()
	out := make(map[string]view)
	for _, topic := range topics {
		out[topic] = look(t, b, topic)
	}
	return out
}

// arrived compares what a broker tells of topics with what the one before told.
func arrived(t *testing.T, b *systems.Process, want map[string]view) {
	t.Helper()
	for topic, w := range want {
		sameView(t, topic, look(t, b, topic), w)
	}
}

// interchangeTopics are what is moved, with their configs.
func interchangeTopics() map[string]map[string]*string {
	return map[string]map[string]*string{
		"i.records": small(),
		"i.txn":     small(),
		"i.deleted": small(),
		"i.compact": small("cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.01", "segment.ms", "100"),
	}
}

func topicsOf(m map[string]map[string]*string) (out []string) {
	for topic := range m {
		out = append(out, topic)
	}
	slices.Sort(out)
	return out
}

// TestInterchangeFromJVM moves partitions of the JVM broker under klamm, after a
// clean stop and after kill -9.
func TestInterchangeFromJVM(t *testing.T) {
	t.Parallel()
	configs := interchangeTopics()
	topics := topicsOf(configs)
	source := t.TempDir()
	logs := filepath.Join(source, "logs")
	jvmConfigs := []string{"log.cleaner.backoff.ms=100", "log.flush.offset.checkpoint.interval.ms=200", "log.flush.start.offset.checkpoint.interval.ms=200", "log.initial.task.delay.ms=100",
		"transaction.state.log.num.partitions=1", "offsets.topic.num.partitions=1"}
	from := begin(t, systems.JVM, source, jvmConfigs...)
	makeTopics(t, from, configs)
	write := func(round int) {
		d := javaClient(t, from)
		for _, topic := range []string{"i.records", "i.deleted", "i.compact"} {
			javaFill(t, d, topic, round, 40)
		}
		javaTransactions(t, d, "i.txn", round)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		deleteTo(t, from, "i.deleted", int64(100*round+73))
	}
	target := func(name string) (dir string) {
		dir = filepath.Join(t.TempDir(), name)
		b := begin(t, systems.Klamm, dir)
		makeTopics(t, b, configs)
		for range 3 { // an unclean start is a new leader epoch: the new home must not be behind the old
			b.Kill()
			b = begin(t, systems.Klamm, dir)
		}
		if err := stop(b); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	write(0)
	holds(t, filepath.Join(logs, "cleaner-offset-checkpoint"), "i.compact 0 ")
	time.Sleep(time.Second) // what was compacted is deleted soon after
	want := views(t, from, topics)
	from.Stop()
	verified(t, logs)
	compare := func(t *testing.T, dir string, want map[string]view) {
		moved(t, logs, dir, topics...)
		verified(t, dir)
		to := begin(t, systems.Klamm, dir)
		arrived(t, to, want)
		if t.Failed() {
			return
		}
		if got, w := committed(t, to, "i.txn", want["i.txn"]), expectCommitted(want["i.txn"]); !slices.Equal(got, w) {
			t.Errorf("a read_committed consumer reads\n%q\nwant\n%q", got, w)
		}
		goesOn(t, to, "i.records", want["i.records"])
		if err := stop(to); err != nil {
			t.Fatal(err)
		}
		verified(t, dir)
	}
	t.Run("clean", func(t *testing.T) { compare(t, target("clean"), want) })

	from = begin(t, systems.JVM, source, jvmConfigs...)
	for _, topic := range topics {
		if err := awaitTopic(t.Context(), from, topic, 1); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	openTransaction(t, from, "i.txn")
	holds(t, filepath.Join(logs, "log-start-offset-checkpoint"), "i.deleted 0 173")
	want = views(t, from, topics)
	from.Kill()
	verified(t, logs)
	t.Run("killed", func(t *testing.T) {
		dir := target("killed")
		markUnclean(t, dir)
		compare(t, dir, want)
	})
}

// expectCommitted works out of batches what a read_committed consumer reads.
func expectCommitted(v view) (out []string) {
	aborted := make(map[int64]bool) // by base offset of the batch
	open := make(map[int64][]int64)
	for _, b := range v.batches {
		id := b.ProducerID()
		switch {
		case b.Attributes().Control():
			it := b.Iterate(0)
			if it.Next() && it.Record().Key[3] == 0 {
				for _, base := range open[id] {
					aborted[base] = true
				}
			}
			it.Close()
			delete(open, id)
		case b.Attributes().Transactional():
			open[id] = append(open[id], b.BaseOffset())
		}
	}
	for _, b := range v.batches {
		if b.Attributes().Control() || aborted[b.BaseOffset()] || b.BaseOffset() >= v.stable {
			continue
		}
		it := b.Iterate(0)
		for it.Next() {
			out = append(out, fmt.Sprintf("%d:%s", it.Offset(), it.Record().Value))
		}
		it.Close()
	}
	return out
}

// TestInterchangeToJVM moves partitions of klamm under the JVM broker, after a
// clean stop and after kill -9.
func TestInterchangeToJVM(t *testing.T) {
	t.Parallel()
	configs := interchangeTopics()
	delete(configs, "i.compact")
	topics := topicsOf(configs)
	target := t.TempDir()
	logs := filepath.Join(target, "logs")
	to := begin(t, systems.JVM, target)
	makeTopics(t, to, configs)
	to.Stop()

	dir := t.TempDir()
	from := begin(t, systems.Klamm, dir)
	makeTopics(t, from, configs)
	if err := stop(from); err != nil {
		t.Fatal(err)
	}
	// klamm has no coordinator of transactions yet, so that they are written for it.
	txn := filepath.Join(dir, "i.txn-0")
	id, err := os.ReadFile(filepath.Join(txn, "partition.metadata"))
	if err != nil {
		t.Fatal(err)
	}
	topicID, err := prim.ParseUUID(string(id[len(id)-22:]))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(txn); err != nil {
		t.Fatal(err)
	}
	if err := writeTransactions(t, txn, topicID).Close(); err != nil {
		t.Fatal(err)
	}
	compare := func(t *testing.T, want map[string]view) {
		moved(t, dir, logs, topics...)
		verified(t, logs)
		to := begin(t, systems.JVMLogging, target)
		for _, topic := range topics {
			if err := awaitTopic(t.Context(), to, topic, 1); err != nil {
				t.Fatal(err)
			}
		}
		quietAbout(t, to, topics)
		arrived(t, to, want)
		if t.Failed() {
			return
		}
		if got, w := committed(t, to, "i.txn", want["i.txn"]), expectCommitted(want["i.txn"]); !slices.Equal(got, w) {
			t.Errorf("a read_committed consumer reads\n%q\nwant\n%q", got, w)
		}
		goesOn(t, to, "i.records", want["i.records"])
		d := javaClient(t, to)
		javaFill(t, d, "i.records", 5, 10)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		to.Stop()
		verified(t, logs)
	}
	const often = "replica.high.watermark.checkpoint.interval.ms=100"
	from = begin(t, systems.Klamm, dir, often)
	write := func(round int) {
		fill(t, from.Addr, "i.records", round, 15)
		fill(t, from.Addr, "i.deleted", round, 15)
		deleteTo(t, from, "i.deleted", int64(100*round+73))
	}
	write(0)
	want := views(t, from, topics)
	if err := stop(from); err != nil {
		t.Fatal(err)
	}
	verified(t, dir)
	t.Run("clean", func(t *testing.T) { compare(t, want) })

	from = begin(t, systems.Klamm, dir, often)
	write(1)
	holds(t, filepath.Join(dir, "log-start-offset-checkpoint"), "i.deleted 0 173")
	want = views(t, from, topics)
	from.Kill()
	verified(t, dir)
	t.Run("killed", func(t *testing.T) {
		markUnclean(t, logs)
		compare(t, want)
	})
	t.Run("repaired", func(t *testing.T) {
		at := damaged(t, filepath.Join(logs, "i.deleted-0"))
		klamm, err := systems.KlammBinary()
		if err != nil {
			t.Fatal(err)
		}
		if err := command(".", klamm, "log", "repair", "--cut-at-damage", logs); err != nil {
			t.Fatal(err)
		}
		verified(t, logs)
		to := begin(t, systems.JVMLogging, target)
		if err := awaitTopic(t.Context(), to, "i.deleted", 1); err != nil {
			t.Fatal(err)
		}
		quietAbout(t, to, topics, "Could not find offset index file") // it makes it anew, as it is to
		if v := look(t, to, "i.deleted"); v.end != at {
			t.Errorf("the JVM broker's log ends at %d, want %d", v.end, at)
		}
		if err := exec.Command(klamm, "log", "repair", logs).Run(); err == nil {
			t.Error("a repair does not see that the JVM broker runs")
		}
	})
}

// damaged flips a bit of a batch in a segment in the middle of a partition, and
// returns the batch's offset.
func damaged(t *testing.T, dir string) int64 {
	t.Helper()
	files := filesOf(t, dir, ".log")
	file := files[len(files)/2]
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, err := record.Next(b)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := record.Next(rest)
	if err != nil {
		t.Fatal(err)
	}
	b[len(first)+70] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return second.BaseOffset()
}

// quietAbout checks that a broker's log has no complaint about topics, but for
// those that hold one of the texts.
func quietAbout(t *testing.T, b *systems.Process, topics []string, but ...string) {
	t.Helper()
	for _, line := range strings.Split(b.Output(), "\n") {
		in := func(text string) bool { return strings.Contains(line, text) }
		if slices.ContainsFunc(topics, in) && !slices.ContainsFunc(but, in) {
			t.Errorf("the %s broker logs: %s", b.Name, line)
		}
	}
}
