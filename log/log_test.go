package log

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
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
	o.CleanShutdown, o.StartOffset, o.HighWatermark = true, l.StartOffset(), l.HighWatermark()
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
	if l.FlushDue() {
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
	f, release := c.File.OSFile()
	if f == nil {
		t.Fatal("no file to send from")
	}
	if _, err := f.ReadAt(b, c.Pos); err != nil || record.Batch(b).BaseOffset() != 5 {
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
