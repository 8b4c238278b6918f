package log

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

const t0 = 1700000000000

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func now() time.Time { return time.UnixMilli(t0) }

// newMem returns a memory file system with a data directory that a crash keeps.
func newMem(t testing.TB) *vfs.Mem {
	m := vfs.NewMem()
	check(t, m.MkdirAll("/data", 0o755))
	check(t, m.SyncDir("/"))
	return m
}

func options(fs vfs.FS) Options {
	return Options{FS: fs, Dir: "/data/orders-0", Topic: "orders", TopicID: prim.UUID{1, 2, 3}, Now: now}
}

func open(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	check(t, err)
	check(t, o.FS.SyncDir(path.Dir(o.Dir))) // as the owner of a log does
	return l
}

func reopenClean(t testing.TB, l *Log) *Log {
	t.Helper()
	o := *l.o
	check(t, l.Close())
	o.CleanShutdown, o.StartOffset = true, l.StartOffset()
	return open(t, o)
}

type rec struct {
	ts         int64
	key, value string
}

func batch(t testing.TB, codec record.Codec, p record.Producer, recs ...rec) []byte {
	t.Helper()
	b := record.NewBuilder(codec, codec.DefaultLevel())
	for _, r := range recs {
		var key []byte
		if r.key != "" {
			key = []byte(r.key)
		}
		b.Append(r.ts, key, []byte(r.value), nil)
	}
	out, err := b.Finish(p)
	check(t, err)
	return bytes.Clone(out)
}

func plain(t testing.TB, values ...string) []byte {
	var recs []rec
	for i, v := range values {
		recs = append(recs, rec{t0 + int64(i), "", v})
	}
	return batch(t, record.None, record.NoProducer, recs...)
}

func appendTo(t testing.TB, l *Log, b []byte) AppendInfo {
	t.Helper()
	i, err := l.Append(b, AppendOptions{LeaderEpoch: max(l.LatestEpoch(), 0)})
	check(t, err)
	if i.FlushDue {
		check(t, l.Flush())
	}
	return i
}

// values reads the whole log from offset on, in steps of at most size bytes, as
// "offset:value".
func values(t testing.TB, l *Log, offset int64, size int) []string {
	t.Helper()
	var out []string
	for offset < l.EndOffset() {
		c, err := l.Read(offset, l.EndOffset(), size, true)
		check(t, err)
		b, err := c.Bytes()
		check(t, err)
		c.Release()
		if len(b) == 0 {
			return out // compaction may have left nothing
		}
		for {
			batch, rest, err := record.Next(b)
			if batch == nil {
				break
			}
			check(t, err)
			check(t, batch.Validate())
			it := batch.Iterate(0)
			for it.Next() {
				if it.Offset() >= offset {
					out = append(out, fmt.Sprintf("%d:%s", it.Offset(), it.Record().Value))
				}
			}
			check(t, it.Err())
			it.Close()
			offset, b = batch.LastOffset()+1, rest
		}
	}
	return out
}

func TestGoldenFiles(t *testing.T) {
	s := &producers{m: map[int64]*producer{}}
	p := s.make(4001, 2)
	p.coordinatorEpoch, p.timestamp, p.txnFirst, p.n = 17, t0+2, 1001, 1
	p.batches[0] = producerBatch{firstSeq: 10, lastSeq: 12, lastOffset: 1012, delta: 2}
	s.make(4002, 0).timestamp = t0 + 1
	want := "0001a4fa3e16000000020000000000000fa100020000000c00000000000003f4000000020000018bcfe568020000001100000000000003e90000000000000fa20000ffffffffffffffffffffffff000000000000018bcfe56801ffffffffffffffffffffffff"
	if got := hex.EncodeToString(encodeSnapshot(s)); got != want {
		t.Errorf("snapshot\n got %s\nwant %s", got, want)
	}
	back, err := decodeSnapshot(encodeSnapshot(s))
	check(t, err)
	if got := hex.EncodeToString(encodeSnapshot(back)); got != want {
		t.Errorf("snapshot decoded and encoded\n got %s", got)
	}
	if _, ok := back.m[4001].find(10, 12); !ok {
		t.Error("snapshot lost the last batch's sequence numbers")
	}
	if got := string(formatEpochs([]epochEntry{{0, 0}, {3, 250}})); got != "0\n2\n0 0\n3 250\n" {
		t.Errorf("epochs %q", got)
	}
	m := vfs.NewMem()
	o := options(m)
	o.TopicID, _ = prim.ParseUUID("AQIDBAUGBwgREhMUFRYXGA")
	check(t, open(t, o).Close())
	b, err := vfs.ReadFile(m, o.Dir+"/partition.metadata")
	if string(b) != "version: 0\ntopic_id: AQIDBAUGBwgREhMUFRYXGA" || err != nil {
		t.Errorf("partition.metadata %q, %v", b, err)
	}
	if names, _ := m.List(o.Dir); len(names) != 1 {
		t.Errorf("a log that was never written has %v", names)
	}
	o.TopicID = prim.UUID{9}
	if _, err := Open(o); !errors.Is(err, ErrTopicID) {
		t.Errorf("other topic id: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	over := batch(t, record.None, record.NoProducer, rec{t0, "k", "v"})
	mutate := func(f func(b record.Batch)) []byte {
		b := record.Batch(bytes.Clone(over))
		f(b)
		b.UpdateCRC()
		return b
	}
	for _, c := range []struct {
		name string
		cfg  Config
		opt  AppendOptions
		b    []byte
		want error
	}{
		{"nothing", Config{}, AppendOptions{}, nil, ErrInvalidRecord},
		{"half a batch", Config{}, AppendOptions{}, over[:len(over)/2], ErrInvalidRecord},
		{"two batches", Config{}, AppendOptions{}, append(bytes.Clone(over), over...), ErrInvalidRecord},
		{"magic 1", Config{}, AppendOptions{}, mutate(func(b record.Batch) { b[16] = 1 }), ErrInvalidRecord},
		{"wrong crc", Config{}, AppendOptions{}, func() []byte { b := bytes.Clone(over); b[len(b)-1] ^= 1; return b }(), ErrCorrupt},
		{"count too high", Config{}, AppendOptions{}, mutate(func(b record.Batch) { b[60] = 2 }), ErrInvalidRecord},
		{"count and delta too high", Config{}, AppendOptions{}, mutate(func(b record.Batch) { b[60], b[26] = 2, 1 }), ErrInvalidRecord},
		{"unknown codec", Config{}, AppendOptions{}, mutate(func(b record.Batch) { b[22] = 5 }), ErrInvalidRecord},
		{"unknown codec and wrong crc", Config{}, AppendOptions{}, func() []byte { b := bytes.Clone(over); b[22] = 5; return b }(), ErrCorrupt},
		{"no records", Config{}, AppendOptions{}, batch(t, record.None, record.NoProducer), ErrInvalidRecord},
		{"base offset", Config{}, AppendOptions{}, mutate(func(b record.Batch) { b.SetBaseOffset(1) }), ErrInvalidRecord},
		{"control batch", Config{}, AppendOptions{}, record.BuildEndTxn(nil, true, 1, 0, 0, t0), ErrInvalidRecord},
		{"producer without sequence", Config{}, AppendOptions{}, mutate(func(b record.Batch) { b.SetProducer(1, 0, -1) }), ErrInvalidRecord},
		{"log append time", Config{}, AppendOptions{}, mutate(func(b record.Batch) { b.SetLogAppendTime(t0) }), ErrInvalidTimestamp},
		{"from the future", Config{}, AppendOptions{}, plainAt(t, t0+3_600_001), ErrInvalidTimestamp},
		{"from the past", Config{TimestampBeforeMax: time.Second}, AppendOptions{}, plainAt(t, t0-1001), ErrInvalidTimestamp},
		{"no key in a compacted topic", Config{Compact: true}, AppendOptions{}, plain(t, "v"), ErrInvalidRecord},
		{"larger than max.message.bytes", Config{MaxMessageBytes: 60}, AppendOptions{}, over, ErrTooLarge},
		{"larger than a segment", Config{SegmentBytes: 60}, AppendOptions{}, over, ErrListTooLarge},
		{"zstd in an old request", Config{}, AppendOptions{ProduceVersion: 6}, batch(t, record.Zstd, record.NoProducer, rec{t0, "", "v"}), ErrUnsupportedCompression},
	} {
		o := options(vfs.NewMem())
		o.Config = c.cfg
		l := open(t, o)
		_, err := l.Append(c.b, c.opt)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if l.EndOffset() != 0 || l.Size() != 0 || l.Err() != nil {
			t.Errorf("%s: end %d, size %d, latched %v", c.name, l.EndOffset(), l.Size(), l.Err())
		}
	}
	for _, ok := range []struct {
		cfg Config
		b   []byte
	}{
		{Config{}, plainAt(t, t0+3_600_000)},
		{Config{TimestampBeforeMax: time.Second}, plainAt(t, t0-1000)},
		{Config{TimestampBeforeMax: time.Second}, plainAt(t, -1)},
		{Config{LogAppendTime: true, TimestampBeforeMax: time.Second}, plainAt(t, 5)},
	} {
		o := options(vfs.NewMem())
		o.Config = ok.cfg
		appendTo(t, open(t, o), ok.b)
	}
}

func plainAt(t testing.TB, ts int64) []byte {
	return batch(t, record.None, record.NoProducer, rec{ts, "k", "v"})
}

func TestRecordErrorsNameTheRecords(t *testing.T) {
	o := options(vfs.NewMem())
	o.Config = Config{Compact: true}
	l := open(t, o)
	_, err := l.Append(batch(t, record.LZ4, record.NoProducer, rec{t0, "k", "v"}, rec{t0, "", "v"}, rec{t0, "k", "v"}, rec{t0, "", "v"}), AppendOptions{})
	var e *BatchError
	if !errors.As(err, &e) || len(e.Records) != 2 || e.Records[0].Index != 1 || e.Records[1].Index != 3 {
		t.Errorf("null keys: %+v", err)
	}
	_, err = l.Append(batch(t, record.None, record.NoProducer, rec{t0, "k", "v"}, rec{t0 + 4_000_000, "k", "v"}), AppendOptions{})
	if !errors.As(err, &e) || e.Kind != ErrInvalidTimestamp || len(e.Records) != 1 || e.Records[0].Index != 1 {
		t.Errorf("timestamps: %+v", err)
	}
}

func TestStoredBytes(t *testing.T) {
	in := batch(t, record.Gzip, record.NoProducer, rec{t0, "k", "v1"}, rec{t0 + 7, "k", "v2"})
	stored := func(cfg Config, in []byte) (record.Batch, AppendInfo) {
		o := options(vfs.NewMem())
		o.Config = cfg
		l := open(t, o)
		i, err := l.Append(bytes.Clone(in), AppendOptions{LeaderEpoch: 4})
		check(t, err)
		c, err := l.Read(0, 100, 1<<20, true)
		check(t, err)
		defer c.Release()
		b, err := c.Bytes()
		check(t, err)
		check(t, record.Batch(b).Validate())
		return b, i
	}
	b, i := stored(Config{}, in)
	if !bytes.Equal(b[16:], in[16:]) || b.LeaderEpoch() != 4 || i.LogAppendTime != -1 {
		t.Error("batch is not stored as sent")
	}
	b, i = stored(Config{LogAppendTime: true}, in)
	if !b.Attributes().LogAppendTime() || b.MaxTimestamp() != t0 || i.LogAppendTime != t0 || b.Attributes().Codec() != record.Gzip {
		t.Errorf("log append time: %+v, max %d", i, b.MaxTimestamp())
	}
	b, _ = stored(Config{Compression: "zstd"}, in)
	if b.Attributes().Codec() != record.Zstd || b.MaxTimestamp() != t0+7 || b.Count() != 2 {
		t.Errorf("recompressed: %s, max %d", b.Attributes().Codec(), b.MaxTimestamp())
	}
	b, _ = stored(Config{Compression: "uncompressed"}, in)
	if b.Attributes().Codec() != record.None {
		t.Errorf("uncompressed: %s", b.Attributes().Codec())
	}
	wrong := record.Batch(bytes.Clone(in))
	wrong.SetMaxTimestamp(5)
	if b, _ = stored(Config{}, wrong); b.MaxTimestamp() != t0+7 {
		t.Errorf("wrong largest timestamp stored: %d", b.MaxTimestamp())
	}
	// Offset deltas 0, 0 are written anew.
	odd := record.Batch(batch(t, record.None, record.NoProducer, rec{t0, "k", "v1"}, rec{t0, "k", "v2"}))
	odd[len(odd)-7] = 0
	odd.UpdateCRC()
	b, _ = stored(Config{}, odd)
	it := b.Iterate(0)
	for want := int64(0); it.Next(); want++ {
		if it.Offset() != want {
			t.Errorf("offset %d, want %d", it.Offset(), want)
		}
	}
}

func idem(t testing.TB, id int64, epoch int16, seq int32, n int) []byte {
	recs := make([]rec, n)
	for i := range recs {
		recs[i] = rec{t0, "", fmt.Sprint(seq, i)}
	}
	return batch(t, record.None, record.Producer{ID: id, Epoch: epoch, Sequence: seq}, recs...)
}

func TestIdempotence(t *testing.T) {
	for _, restart := range []string{"none", "clean", "crash", "crash without snapshot"} {
		o := options(vfs.NewMem())
		o.Config.SegmentBytes = 1000
		l := open(t, o)
		next := func() {
			switch restart {
			case "clean":
				l = reopenClean(t, l)
			case "crash", "crash without snapshot":
				o := *l.o
				if restart != "crash" {
					check(t, l.dropSnapshots(func(int64) bool { return true }))
				}
				o.FS = l.fs.(*vfs.Mem).CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true})
				l = open(t, o)
			}
		}
		step := func(name string, b []byte, base int64, dup bool, want error) {
			t.Helper()
			i, err := l.Append(b, AppendOptions{})
			if !errors.Is(err, want) || err == nil && (i.BaseOffset != base || i.Duplicate != dup) {
				t.Errorf("%s, %s: %+v, %v; want offset %d, duplicate %t, %v", restart, name, i, err, base, dup, want)
			}
			next()
		}
		const top = 2147483647
		step("first, any sequence", idem(t, 7, 0, top-1, 2), 0, false, nil)
		step("wraps to 0", idem(t, 7, 0, 0, 3), 2, false, nil)
		step("repeated", idem(t, 7, 0, 0, 3), 2, true, nil)
		step("gap", idem(t, 7, 0, 4, 1), 0, false, ErrOutOfOrderSequence)
		step("old", idem(t, 7, 0, top-2, 1), 0, false, ErrOutOfOrderSequence)
		step("next", idem(t, 7, 0, 3, 1), 5, false, nil)
		step("newer epoch not at 0", idem(t, 7, 1, 4, 1), 0, false, ErrOutOfOrderSequence)
		step("newer epoch at 0", idem(t, 7, 1, 0, 1), 6, false, nil)
		step("older epoch", idem(t, 7, 0, 4, 1), 0, false, ErrProducerEpoch)
		step("another producer", idem(t, 8, 5, 9, 1), 7, false, nil)
		for i := range int32(4) {
			step("fill", idem(t, 7, 1, 1+i, 1), 8+int64(i), false, nil)
		}
		if restart == "none" || restart == "crash without snapshot" {
			step("fifth back", idem(t, 7, 1, 0, 1), 6, true, nil)
			step("one more", idem(t, 7, 1, 5, 1), 12, false, nil)
			step("sixth back", idem(t, 7, 1, 0, 1), 0, false, ErrOutOfOrderSequence)
		}
		if got := l.Producers(); len(got) != 2 || got[0].ProducerID != 7 || got[0].Epoch != 1 || got[1].LastSequence != 9 {
			t.Errorf("%s: producers %+v", restart, got)
		}
		l.now = func() time.Time { return now().Add(25 * time.Hour) }
		l.ExpireProducers()
		_, err := l.Append(idem(t, 8, 0, 77, 1), AppendOptions{})
		if err != nil {
			t.Errorf("%s: after expiry: %v", restart, err)
		}
	}
}

func TestTransactions(t *testing.T) {
	l := open(t, options(vfs.NewMem()))
	txn := func(id int64, seq int32) []byte {
		return batch(t, record.None, record.Producer{ID: id, Epoch: 0, Sequence: seq, Transactional: true}, rec{t0, "", "v"})
	}
	end := func(id int64, commit bool, coordinator int32) error {
		_, err := l.Append(record.BuildEndTxn(nil, commit, id, 0, coordinator, t0), AppendOptions{Origin: Coordinator})
		return err
	}
	stable := func(what string, want int64) {
		t.Helper()
		l.SetHighWatermark(l.EndOffset())
		if got := l.LastStableOffset(); got != want {
			t.Errorf("%s: last stable offset %d, want %d", what, got, want)
		}
	}
	appendTo(t, l, plain(t, "a"))
	stable("none open", 1)
	appendTo(t, l, txn(1, 0)) // 1
	appendTo(t, l, txn(2, 0)) // 2
	stable("two open", 1)
	if _, err := l.Append(idem(t, 1, 0, 1, 1), AppendOptions{}); !errors.Is(err, ErrTxnState) {
		t.Errorf("plain batch in a transaction: %v", err)
	}
	check(t, end(1, false, 5)) // 3
	if got := l.LastStableOffset(); got != 1 {
		t.Errorf("marker not below the high watermark: last stable offset %d", got)
	}
	stable("second open", 2)
	l = reopenClean(t, l)
	stable("second open after a restart", 2)
	check(t, end(2, true, 5)) // 4
	stable("both ended", 5)
	if err := end(2, true, 4); !errors.Is(err, ErrCoordinatorFenced) {
		t.Errorf("old coordinator: %v", err)
	}
	got, err := l.AbortedTransactions(0, 5)
	if err != nil || len(got) != 1 || got[0].ProducerID != 1 || got[0].FirstOffset != 1 || got[0].LastOffset != 3 || got[0].LastStableOffset != 2 {
		t.Errorf("aborted: %+v, %v", got, err)
	}
	if got, err := l.AbortedTransactions(4, 5); err != nil || len(got) != 0 {
		t.Errorf("aborted after the marker: %+v, %v", got, err)
	}
	check(t, l.TruncateTo(3))
	stable("marker truncated", 1)
	if got, err := l.AbortedTransactions(0, 5); err != nil || len(got) != 0 {
		t.Errorf("aborted after truncating its marker: %+v, %v", got, err)
	}
}

func TestEpochs(t *testing.T) {
	l := open(t, options(vfs.NewMem()))
	ends := func(want string) {
		t.Helper()
		var got string
		for e := range int32(8) {
			found, end := l.EpochEndOffset(e)
			got += fmt.Sprintf(" %d@%d", found, end)
		}
		if got != " "+want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	ends("-1@-1 -1@-1 -1@-1 -1@-1 -1@-1 -1@-1 -1@-1 -1@-1")
	check(t, l.AssignEpoch(2, 0))
	appendTo(t, l, plain(t, "a", "b", "c"))
	check(t, l.AssignEpoch(4, 3)) // no records in it
	check(t, l.AssignEpoch(6, 3))
	appendTo(t, l, plain(t, "d"))
	ends("0@0 1@0 2@3 2@3 2@3 2@3 6@4 -1@-1")
	l = reopenClean(t, l)
	ends("0@0 1@0 2@3 2@3 2@3 2@3 6@4 -1@-1")
	check(t, l.TruncateTo(3))
	ends("0@0 1@0 2@3 -1@-1 -1@-1 -1@-1 -1@-1 -1@-1")
	check(t, l.AssignEpoch(5, 3))
	check(t, l.TruncateTo(3)) // nothing to cut, but the epoch never had a record
	ends("0@0 1@0 2@3 -1@-1 -1@-1 -1@-1 -1@-1 -1@-1")
	l.SetHighWatermark(3)
	check(t, l.AssignEpoch(5, 3))
	appendTo(t, l, plain(t, "e"))
	check(t, l.AdvanceStart(1))
	ends("0@1 1@1 2@3 2@3 2@3 5@4 -1@-1 -1@-1")
}

// Readers run beside a writer that appends, rolls and truncates.
func TestConcurrentReaders(t *testing.T) {
	o := options(vfs.NewMem())
	o.Config = Config{SegmentBytes: 20_000, IndexIntervalBytes: 500}
	l := open(t, o)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for {
				select {
				case <-done:
					return
				default:
				}
				offset := r.Int64N(l.EndOffset() + 1)
				c, err := l.Read(offset, l.EndOffset(), 1+r.IntN(5000), true)
				var out *OutOfRangeError
				if errors.As(err, &out) {
					continue
				}
				if err != nil {
					t.Errorf("read at %d: %v", offset, err)
					return
				}
				if b, err := c.Bytes(); err == nil && len(b) > 0 {
					first, _, _ := record.Next(b)
					if first != nil && (first.Validate() != nil || first.LastOffset() < offset) {
						t.Errorf("read at %d: batch %d to %d, %v", offset, first.BaseOffset(), first.LastOffset(), first.Validate())
					}
				}
				c.Release()
				l.OffsetForTime(t0+1, l.EndOffset())
				l.EpochEndOffset(1)
				l.LastStableOffset()
			}
		})
	}
	for i := range 1500 {
		appendTo(t, l, plain(t, fmt.Sprint("value", i), "and another one"))
		l.SetHighWatermark(l.EndOffset())
		if i%400 == 399 {
			check(t, l.Roll())
			check(t, l.Flush())
		}
	}
	close(done)
	wg.Wait()
	check(t, l.Delete())
	if _, err := l.Read(0, 10, 100, true); err != ErrClosed {
		t.Errorf("read after delete: %v", err)
	}
}

func TestReaderKeepsWhatItHolds(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "os": vfs.OS()} {
		o := options(fs)
		o.Dir = t.TempDir() + "/p-0"
		if name == "memory" {
			o.Dir = "/p-0"
		}
		l := open(t, o)
		appendTo(t, l, plain(t, "kept"))
		c, err := l.Read(0, 1, 1<<20, true)
		check(t, err)
		check(t, l.Delete())
		if b, err := c.Bytes(); err != nil || record.Batch(b).Validate() != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		c.Release()
		if names, _ := fs.List(o.Dir); len(names) != 0 {
			t.Errorf("%s: left %v", name, names)
		}
	}
}

func TestReadLimits(t *testing.T) {
	l := open(t, options(vfs.NewMem()))
	one := plain(t, "a", "b")
	for range 40 {
		appendTo(t, l, bytes.Clone(one))
	}
	size := len(one)
	for _, c := range []struct {
		name          string
		offset, limit int64
		max           int
		minOne        bool
		want          int
	}{
		{"all", 0, 80, 1 << 20, false, 40 * size},
		{"from the middle of a batch", 3, 80, 1 << 20, false, 39 * size},
		{"below a limit", 0, 20, 1 << 20, false, 10 * size},
		{"below a limit near the end", 70, 78, 1 << 20, false, 4 * size},
		{"cut off", 0, 80, size + 5, false, size + 5},
		{"first does not fit", 0, 80, size - 1, false, 0},
		{"first does not fit, but must", 0, 80, 0, true, size},
		{"at the limit", 20, 20, 1 << 20, true, 0},
		{"at the end", 80, 80, 1 << 20, true, 0},
	} {
		r, err := l.Read(c.offset, c.limit, c.max, c.minOne)
		check(t, err)
		if r.Len() != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, r.Len(), c.want)
		}
		r.Release()
	}
	var e *OutOfRangeError
	if _, err := l.Read(81, 100, 100, true); !errors.As(err, &e) || e.End != 80 {
		t.Errorf("beyond the end: %v", err)
	}
}

func TestRollByTime(t *testing.T) {
	o := options(vfs.NewMem())
	o.Config = Config{SegmentAge: time.Minute, TimestampAfterMax: 24 * time.Hour}
	l := open(t, o)
	appendTo(t, l, plainAt(t, t0))
	appendTo(t, l, plainAt(t, t0+60_000))
	if n := len(l.list()); n != 1 {
		t.Errorf("%d segments after exactly the age", n)
	}
	l = reopenClean(t, l)
	appendTo(t, l, plainAt(t, t0+60_001))
	if n := len(l.list()); n != 2 || l.active().Base() != 2 {
		t.Errorf("%d segments past the age", n)
	}
	found, ok, err := l.MaxTimestampOffset(100)
	if err != nil || !ok || found.Offset != 2 || found.Timestamp != t0+60_001 {
		t.Errorf("largest timestamp %+v, %t, %v", found, ok, err)
	}
}

// The record with the largest timestamp is looked for at and above the log start
// offset, wherever the largest of the log was; the first of several has it.
func TestMaxTimestampAboveTheStart(t *testing.T) {
	// Offsets 0 to 5 and 6 to 11 in two segments, batches of 2, 4, 3 and 3 records.
	segments := [][][]int64{{{5, 9}, {9, 2, 7, 3}}, {{6, 8, 1}, {8, 7, 6}}}
	for _, c := range []struct {
		name         string
		start, limit int64
		want         int64 // offset, -1 for none
	}{
		{"none is deleted", 0, 12, 1},
		{"the first of two stays", 1, 12, 1},
		{"the second is in the next batch", 2, 12, 2},
		{"the largest left is in the next segment", 3, 12, 7},
		{"the rest of the segment has less", 5, 12, 7},
		{"the segment is gone", 6, 12, 7},
		{"its first batch begins below the start", 8, 12, 9},
		{"the last batch begins below the start", 10, 12, 10},
		{"the last record", 11, 12, 11},
		{"no record", 12, 12, -1},
		{"it lies beyond the limit", 3, 7, -1},
		{"it is the last below the limit", 3, 8, 7},
	} {
		for _, codec := range []record.Codec{record.None, record.LZ4} {
			o := options(newMem(t))
			o.Config = Config{IndexIntervalBytes: 1}
			l := open(t, o)
			var stamps []int64
			for i, s := range segments {
				if i > 0 {
					check(t, l.Roll())
				}
				for _, b := range s {
					var recs []rec
					for _, at := range b {
						recs = append(recs, rec{t0 + at, "", "v"})
					}
					appendTo(t, l, batch(t, codec, record.NoProducer, recs...))
					stamps = append(stamps, b...)
				}
			}
			l.SetHighWatermark(l.EndOffset())
			check(t, l.AdvanceStart(c.start))
			for range 2 { // as it is, and opened again
				found, ok, err := l.MaxTimestampOffset(c.limit)
				check(t, err)
				if ok != (c.want >= 0) || ok && (found.Offset != c.want || found.Timestamp != t0+stamps[c.want]) {
					t.Errorf("%s, codec %v: %+v, %t; want %d", c.name, codec, found, ok, c.want)
				}
				l = reopenClean(t, l)
			}
		}
	}
}

// While no record with the largest timestamp is deleted, an index leads to it.
func TestMaxTimestampReadsLittle(t *testing.T) {
	m := newMem(t)
	var reads atomic.Int64
	o := options(vfs.Inject(m, func(op vfs.Op, _ string) error {
		if op == vfs.OpRead {
			reads.Add(1)
		}
		return nil
	}))
	o.Config = Config{IndexIntervalBytes: 1000, TimestampAfterMax: 1 << 60}
	l := open(t, o)
	big := strings.Repeat("x", 1000)
	for i := range int64(500) {
		appendTo(t, l, batch(t, record.None, record.NoProducer, rec{t0 + i%300, "", big}))
	}
	l.SetHighWatermark(l.EndOffset())
	check(t, l.AdvanceStart(200))
	before := reads.Load()
	if found, ok, err := l.MaxTimestampOffset(500); found.Offset != 299 || !ok || err != nil || reads.Load()-before > 20 {
		t.Errorf("%+v, %t, %v after %d reads", found, ok, err, reads.Load()-before)
	}
	check(t, l.AdvanceStart(350))
	if found, ok, err := l.MaxTimestampOffset(500); found.Offset != 499 || !ok || err != nil {
		t.Errorf("%+v, %t, %v once that is deleted", found, ok, err)
	}
}

// On a real disk: Kafka's files are there after a clean stop, a clean and an
// unclean start serve the same, and a region has a file to send from.
func TestOnDisk(t *testing.T) {
	o := options(vfs.OS())
	o.Dir = t.TempDir() + "/orders-0"
	o.Config = Config{SegmentBytes: 400, IndexIntervalBytes: 100, FlushMessages: 2}
	l := open(t, o)
	check(t, l.AssignEpoch(3, 0))
	var want []string
	for i := range int64(10) {
		appendTo(t, l, idem(t, 1, 0, int32(i), 1))
		want = append(want, fmt.Sprintf("%d:%d 0", i, i))
	}
	if rp := l.RecoveryPoint(); rp < 9 {
		t.Errorf("recovery point %d with flush.messages 2", rp)
	}
	for _, clean := range []bool{true, false, true} {
		check(t, l.Close())
		o.CleanShutdown = clean
		l = open(t, o)
		if got := values(t, l, 0, 100); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("clean %t: got %v, want %v", clean, got, want)
		}
	}
	c, err := l.Read(5, 10, 1<<20, true)
	check(t, err)
	b := make([]byte, c.Len())
	f, release := c.File().OSFile()
	if f == nil {
		t.Fatal("no file to send from")
	}
	if _, err := f.ReadAt(b, c.Pos()); err != nil || record.Batch(b).BaseOffset() != 5 {
		t.Errorf("file of the region: %v", err)
	}
	release()
	c.Release()
	check(t, l.Close())
	names, err := vfs.OS().List(o.Dir)
	check(t, err)
	count := map[string]int{}
	for _, n := range names {
		count[path.Ext(n)]++
	}
	if n := len(l.list()); n < 2 || count[segment.LogSuffix] != n || count[segment.IndexSuffix] != n || count[segment.TimeSuffix] != n || count[segment.SnapshotSuffix] < n-1 {
		t.Errorf("%d segments, files %v", n, names)
	}
}

// The log works inside a synctest bubble: it blocks on nothing but mutexes and
// takes its time from Options.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(vfs.NewMem())
		o.Now = time.Now
		o.Config = Config{LogAppendTime: true}
		l := open(t, o)
		first := appendTo(t, l, plain(t, "a"))
		time.Sleep(time.Hour)
		second := appendTo(t, l, batch(t, record.Zstd, record.NoProducer, rec{t0, "", "b"}))
		if second.LogAppendTime-first.LogAppendTime != time.Hour.Milliseconds() {
			t.Errorf("append times %d and %d", first.LogAppendTime, second.LogAppendTime)
		}
		check(t, l.Delete())
	})
}
