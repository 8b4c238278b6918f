package record

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// lines decodes the JSON lines of a compressed file of golden vectors, which the
// Java classes wrote.
func lines[T any](t testing.TB, name string) []T {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []T
	s := bufio.NewScanner(z)
	s.Buffer(nil, 1<<22)
	for s.Scan() {
		var v T
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if len(out) == 0 || s.Err() != nil {
		t.Fatalf("%s: %d lines, %v", name, len(out), s.Err())
	}
	return out
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type goldenBatch struct {
	Magic                       int8
	Size                        int
	Codec                       string
	BaseOffset, LastOffset      int64
	CRC                         uint32
	PartitionLeaderEpoch        int32
	TimestampType               string
	BaseTimestamp, MaxTimestamp int64
	ProducerID                  int64 `json:"producerId"`
	ProducerEpoch               int16
	BaseSequence, LastSequence  int32
	Count                       int32
	Transactional, Control      bool
	DeleteHorizonMs             *int64
	Records                     []goldenRecord
}

type goldenRecord struct {
	Offset, Timestamp int64
	Sequence          int32
	Key, Value        *string
	Headers           []struct {
		Key   string
		Value *string
	}
}

type goldenSet struct {
	Name, Hex string
	Batches   []goldenBatch
}

func text(b []byte) string {
	if b == nil {
		return "null"
	}
	return hex.EncodeToString(b)
}

func want(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

func TestGoldenBatches(t *testing.T) {
	for _, g := range lines[goldenSet](t, "records.jsonl.gz") {
		t.Run(g.Name, func(t *testing.T) {
			rest := unhex(t, g.Hex)
			for i, w := range g.Batches {
				var b Batch
				var err error
				b, rest, err = Next(rest)
				if w.Magic < 2 {
					if !errors.Is(err, ErrMagic) {
						t.Fatalf("batch %d: %v, want ErrMagic", i, err)
					}
					checkLegacy(t, b, w)
					continue
				}
				if err != nil {
					t.Fatalf("batch %d: %v", i, err)
				}
				checkHeader(t, b, w)
				checkRecords(t, b, w)
				checkRewrite(t, b)
			}
			if _, _, err := Next(rest); err != io.EOF {
				t.Errorf("after the last batch: %v, want EOF", err)
			}
		})
	}
}

func checkHeader(t *testing.T, b Batch, w goldenBatch) {
	t.Helper()
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
	a := b.Attributes()
	got := goldenBatch{
		Magic: b.Magic(), Size: b.Size(), Codec: a.Codec().String(), BaseOffset: b.BaseOffset(), LastOffset: b.LastOffset(),
		CRC: b.CRC(), PartitionLeaderEpoch: b.LeaderEpoch(), TimestampType: "CreateTime", BaseTimestamp: b.BaseTimestamp(),
		MaxTimestamp: b.MaxTimestamp(), ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(),
		LastSequence: b.LastSequence(), Count: b.Count(), Transactional: a.Transactional(), Control: a.Control(),
	}
	if a.LogAppendTime() {
		got.TimestampType = "LogAppendTime"
	}
	if a.DeleteHorizon() {
		ts := b.BaseTimestamp()
		got.DeleteHorizonMs = &ts
	}
	x, _ := json.Marshal(got)
	w.Records = nil
	y, _ := json.Marshal(w)
	if !bytes.Equal(x, y) {
		t.Errorf("header\n got %s\nwant %s", x, y)
	}
}

func checkRecords(t *testing.T, b Batch, w goldenBatch) {
	t.Helper()
	it := b.Iterate(1 << 20)
	defer it.Close()
	n := 0
	for ; it.Next(); n++ {
		if n >= len(w.Records) {
			t.Fatalf("more than %d records", n)
		}
		r, wr := it.Record(), w.Records[n]
		if it.Offset() != wr.Offset || it.Timestamp() != wr.Timestamp || text(r.Key) != want(wr.Key) || text(r.Value) != want(wr.Value) || len(r.Headers) != len(wr.Headers) {
			t.Fatalf("record %d: got %+v at %d, %d; want %+v", n, r, it.Offset(), it.Timestamp(), wr)
		}
		for i, h := range r.Headers {
			if h.Key != wr.Headers[i].Key || text(h.Value) != want(wr.Headers[i].Value) {
				t.Errorf("record %d header %d: got %+v, want %+v", n, i, h, wr.Headers[i])
			}
		}
		if s := b.BaseSequence(); s >= 0 && AddSequence(s, r.OffsetDelta) != wr.Sequence {
			t.Errorf("record %d: sequence %d, want %d", n, AddSequence(s, r.OffsetDelta), wr.Sequence)
		}
	}
	if it.Err() != nil || n != len(w.Records) {
		t.Fatalf("%d records of %d: %v", n, len(w.Records), it.Err())
	}
	if n > 0 {
		var walk Walk
		if err := walk.Run(it.Plain(), b.Count()); err != nil || !walk.Sequential {
			t.Errorf("walk: %v, sequential %t", err, walk.Sequential)
		}
	}
}

// checkRewrite builds the batch anew; without compression and the fields that
// only a broker sets, the bytes must be those of the Java builder.
func checkRewrite(t *testing.T, b Batch) {
	t.Helper()
	a := b.Attributes()
	if a.Codec() != None || a.Control() || a.DeleteHorizon() || a.LogAppendTime() || b.Count() == 0 {
		return
	}
	bld := NewBuilder(None, 0)
	it := b.Iterate(0)
	defer it.Close()
	for it.Next() {
		size := bld.Size() + bld.RecordSize(it.Timestamp(), it.Record().Key, it.Record().Value, it.Record().Headers)
		bld.Append(it.Timestamp(), it.Record().Key, it.Record().Value, it.Record().Headers)
		if bld.Size() != size {
			t.Fatalf("size %d, foretold %d", bld.Size(), size)
		}
	}
	out, err := bld.Finish(Producer{b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), a.Transactional()})
	if err != nil {
		t.Fatal(err)
	}
	Batch(out).SetBaseOffset(b.BaseOffset())
	Batch(out).SetLeaderEpoch(b.LeaderEpoch())
	if !bytes.Equal(out, b) {
		t.Errorf("rebuilt\n got %x\nwant %x", out, []byte(b))
	}
}

func checkLegacy(t *testing.T, entry []byte, w goldenBatch) {
	t.Helper()
	recs, err := ReadLegacy(nil, entry, 1<<20)
	if err != nil || len(recs) != len(w.Records) || len(entry) != w.Size {
		t.Fatalf("%d records of %d, %d bytes of %d: %v", len(recs), len(w.Records), len(entry), w.Size, err)
	}
	for i, r := range recs {
		wr := w.Records[i]
		if r.Offset != wr.Offset || r.Timestamp != wr.Timestamp || text(r.Key) != want(wr.Key) || text(r.Value) != want(wr.Value) {
			t.Errorf("record %d: got %+v, want %+v", i, r, wr)
		}
	}
	for i := 12; i < len(entry); i++ {
		bad := bytes.Clone(entry)
		bad[i] ^= 0x10
		if _, err := ReadLegacy(nil, bad, 1<<20); err == nil {
			t.Errorf("byte %d flipped: accepted", i)
		}
	}
}

func TestGoldenControlBatches(t *testing.T) {
	checked := 0
	for _, g := range lines[goldenSet](t, "records.jsonl.gz") {
		if !strings.HasPrefix(g.Name, "control-") {
			continue
		}
		b := Batch(unhex(t, g.Hex))
		c, err := ParseControl(b)
		if err != nil {
			t.Fatalf("%s: %v", g.Name, err)
		}
		out := Batch(BuildControl(nil, c))
		out.SetBaseOffset(b.BaseOffset())
		out.SetLeaderEpoch(b.LeaderEpoch())
		if !bytes.Equal(out, b) {
			t.Errorf("%s\n got %x\nwant %x", g.Name, []byte(out), []byte(b))
		}
		if c.Transactional() {
			epoch, err := c.CoordinatorEpoch()
			if err != nil || epoch != 17 {
				t.Errorf("%s: coordinator epoch %d, %v", g.Name, epoch, err)
			}
			marker := Batch(BuildEndTxn(nil, c.Type == ControlCommit, c.ProducerID, c.Epoch, epoch, c.Timestamp))
			marker.SetBaseOffset(b.BaseOffset())
			marker.SetLeaderEpoch(b.LeaderEpoch())
			if !bytes.Equal(marker, b) {
				t.Errorf("%s: marker\n got %x\nwant %x", g.Name, []byte(marker), []byte(b))
			}
		}
		checked++
	}
	if checked != 7 {
		t.Errorf("%d control batches, want 7", checked)
	}
}

type goldenStream struct {
	Codec, Name, Hex string
	Accepted         bool
	Plain            []int
}

func plainRuns(runs []int) []byte {
	var out []byte
	for _, n := range runs {
		for i := range n {
			out = append(out, byte(i%97))
		}
	}
	return out
}

func TestGoldenStreams(t *testing.T) {
	for _, g := range lines[goldenStream](t, "codecs.jsonl.gz") {
		codec, err := ParseCodec(g.Codec)
		if err != nil {
			t.Fatal(err)
		}
		prefix := []byte("before")
		got, err := Decompress(prefix, codec, unhex(t, g.Hex), 1<<20)
		if (err == nil) != g.Accepted {
			t.Errorf("%s: %v, accepted by the Java reader: %t", g.Name, err, g.Accepted)
			continue
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v does not wrap ErrCorrupt", g.Name, err)
			}
			continue
		}
		plain := plainRuns(g.Plain)
		if string(got[:6]) != "before" || !bytes.Equal(got[6:], plain) {
			t.Errorf("%s: %d bytes, want %d", g.Name, len(got)-6, len(plain))
		}
		if _, err := Decompress(nil, codec, unhex(t, g.Hex), len(plain)); len(plain) > 0 && err != nil {
			t.Errorf("%s: limit of the exact size: %v", g.Name, err)
		}
		if _, err := Decompress(nil, codec, unhex(t, g.Hex), len(plain)-1); len(plain) > 1 && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: limit one too small: %v, want ErrTooLarge", g.Name, err)
		}
	}
}
