package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// logDir is the directory of a broker that has been written to and closed.
func logDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	b := brokertest.Start(t, brokertest.Options{Dir: dir, Config: map[string]string{"offsets.topic.num.partitions": "1", "log.index.interval.bytes": "100"}})
	s := &shell{t, b.Bootstrap()}
	for i, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		s.ok("produce", "orders", "-k", fmt.Sprint("key-", i), "-H", "codec="+codec, "-z", codec, "--timestamp", fmt.Sprint(1_700_000_000_000+i), strings.Repeat("v", 200))
	}
	s.ok("produce", "orders", "-k", "gone", "-Z", "--timestamp", "1700000000005", "")
	s.ok("consume", "orders", "-g", "billing", "-o", "start", "-n", "3")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// dump runs log dump and returns its exit code, its rows and what it said.
func dump(t *testing.T, args ...string) (int, []map[string]any, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := Main(append([]string{"log", "dump", "--format", "json"}, args...), strings.NewReader(""), &out, &errs)
	var rows []map[string]any
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &rows); err != nil {
			t.Fatalf("%v: %s", err, out.Bytes())
		}
	}
	return code, rows, errs.String()
}

func dumpOK(t *testing.T, args ...string) []map[string]any {
	t.Helper()
	code, rows, said := dump(t, args...)
	if code != 0 || said != "" {
		t.Fatalf("log dump %s: exit %d: %s", args, code, said)
	}
	return rows
}

func columns(row map[string]any, names ...string) string {
	var out []string
	for _, n := range names {
		b, err := json.Marshal(row[n])
		if err != nil {
			return err.Error()
		}
		out = append(out, string(b))
	}
	return strings.Join(out, " ")
}

func TestLogDumpSegments(t *testing.T) {
	dir := logDir(t)
	segment := filepath.Join(dir, "orders-0", "00000000000000000000.log")
	batches := dumpOK(t, segment)
	if len(batches) != 6 {
		t.Fatalf("%d batches, want 6", len(batches))
	}
	for i, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd", "none"} {
		want := fmt.Sprintf(`%d %d 1 %q false true`, i, i, codec)
		if got := columns(batches[i], "base_offset", "last_offset", "count", "codec", "control", "crc_ok"); got != want {
			t.Errorf("batch %d: %s, want %s", i, got, want)
		}
	}
	records := dumpOK(t, segment, "--records", "--from", "4")
	if len(records) != 2 {
		t.Fatalf("%d records from offset 4, want 2", len(records))
	}
	if got, want := columns(records[0], "offset", "timestamp", "key", "headers"), `4 1700000000004 "key-4" {"codec":"zstd"}`; got != want {
		t.Errorf("record 4: %s, want %s", got, want)
	}
	if got, want := columns(records[1], "offset", "key", "value"), `5 "gone" null`; got != want {
		t.Errorf("record 5: %s, want %s", got, want)
	}
	if n := len(dumpOK(t, segment, "-n", "2")); n != 2 {
		t.Errorf("-n 2 prints %d batches", n)
	}
	if rows := dumpOK(t, strings.TrimSuffix(segment, "log")+"index"); len(rows) < 3 || rows[0]["position"] == nil {
		t.Errorf("offset index: %v", rows)
	}
	if rows := dumpOK(t, strings.TrimSuffix(segment, "log")+"timeindex"); len(rows) < 3 || rows[0]["timestamp"] == nil {
		t.Errorf("time index: %v", rows)
	}
}

func TestLogDumpDecodesInternalRecords(t *testing.T) {
	dir := logDir(t)
	kinds := make(map[string]map[string]any)
	for _, r := range dumpOK(t, "--records", filepath.Join(dir, "__consumer_offsets-0", "00000000000000000000.log")) {
		kinds[fmt.Sprint(r["type"])] = r
	}
	commit := kinds["OffsetCommit"]
	if got, want := columns(commit, "key"), `{"group":"billing","partition":0,"topic":"orders"}`; got != want {
		t.Errorf("offset commit: key %s, want %s", got, want)
	}
	if v, ok := commit["value"].(map[string]any); !ok || v["offset"] != 3.0 {
		t.Errorf("offset commit: value %v, want offset 3", commit["value"])
	}
	if kinds["GroupMetadata"] == nil {
		t.Errorf("no group metadata among %v", kinds)
	}
	found := false
	files, err := filepath.Glob(filepath.Join(dir, "__cluster_metadata-0", "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no metadata log: %v", err)
	}
	for _, r := range dumpOK(t, "--records", files[0]) {
		v, ok := r["value"].(map[string]any)
		if r["type"] == "Topic" && ok && v["name"] == "orders" {
			found = true
		}
	}
	if !found {
		t.Error("the metadata log does not tell of the topic")
	}
}

// TestLogDumpEveryFile dumps all that a broker leaves behind, in every format.
func TestLogDumpEveryFile(t *testing.T) {
	dir := logDir(t)
	var known []string
	kinds := make(map[string]bool)
	if err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if kind, _ := fileKind(path); err == nil && !info.IsDir() && kind != "" {
			known = append(known, path)
			kinds[kind] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"log", "offset index", "time index", "leader epochs", "offset checkpoint", "properties", "json", "producer snapshot"} {
		if !kinds[kind] {
			t.Errorf("no %s among %q", kind, known)
		}
	}
	for _, format := range []string{"table", "json", "yaml", "tsv"} {
		var out, errs bytes.Buffer
		if code := Main(append([]string{"log", "dump", "-r", "--format", format}, known...), strings.NewReader(""), &out, &errs); code != 0 {
			t.Errorf("%s: exit %d: %s", format, code, errs.String())
		}
		if !strings.Contains(out.String(), "key-3") || !strings.Contains(out.String(), "billing") {
			t.Errorf("%s: records are missing", format)
		}
	}
}

// TestLogDumpGoldenFiles dumps files that the 4.3.1 classes wrote.
func TestLogDumpGoldenFiles(t *testing.T) {
	f, err := os.Open("testdata/files.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"00000000000000001000.index":       "1005 4660\n1020 131072\n",
		"00000000000000001000.timeindex":   "1700000000000 1005\n1700000000050 1020\n",
		"00000000000000001000.txnindex":    "4001 1001 1009 1003\n4002 1003 1015 1016\n",
		"leader-epoch-checkpoint":          "0 0\n3 250\n",
		"replication-offset-checkpoint":    "orders 0 120\npay.ments_x-y 11 0\n",
		"recovery-point-offset-checkpoint": "orders 0 120\npay.ments_x-y 11 0\n",
		"log-start-offset-checkpoint":      "orders 0 120\npay.ments_x-y 11 0\n",
		"partition.metadata":               "version 0\ntopic_id AQIDBAUGBwgREhMUFRYXGA\n",
		".kafka_cleanshutdown":             "brokerEpoch 77\nversion 0\n",
		"meta.properties":                  "node.id 3\ndirectory.id AQIDBAUGBwgREhMUFRYXGA\nversion 1\ncluster.id cluster-A\n",
	}
	dir := t.TempDir()
	n := 0
	for lines := bufio.NewScanner(z); lines.Scan(); n++ {
		var v struct{ File, Hex string }
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, v.File)
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if code := Main([]string{"log", "dump", "--format", "tsv", name}, strings.NewReader(""), &out, &errs); code != 0 {
			t.Errorf("%s: exit %d: %s", v.File, code, errs.String())
		}
		got := strings.ReplaceAll(out.String(), "\t", " ")
		if text, ok := want[v.File]; ok && got != text || got == "" {
			t.Errorf("%s: got\n%swant\n%s", v.File, got, text)
		}
	}
	if n < len(want) {
		t.Errorf("%d golden files", n)
	}
}

// TestLogDumpFindsCorruption damages files of each kind at a known byte.
func TestLogDumpFindsCorruption(t *testing.T) {
	dir := logDir(t)
	part := filepath.Join(dir, "orders-0")
	segment := filepath.Join(part, "00000000000000000000.log")
	second := int64(dumpOK(t, segment)[1]["position"].(float64))
	size := fileSize(t, segment)
	snapshots, _ := filepath.Glob(filepath.Join(part, "*.snapshot"))
	if len(snapshots) == 0 {
		t.Fatal("no producer snapshot")
	}
	txns := filepath.Join(part, "00000000000000000000.txnindex")
	if err := os.WriteFile(txns, index.AppendTxn(index.AppendTxn(nil, index.AbortedTxn{ProducerID: 7, FirstOffset: 1, LastOffset: 2}),
		index.AbortedTxn{ProducerID: 8, FirstOffset: 1, LastOffset: 3}), 0o644); err != nil {
		t.Fatal(err)
	}
	if n := len(dumpOK(t, txns)); n != 2 {
		t.Errorf("%d aborted transactions, want 2", n)
	}
	for _, c := range []struct {
		name, file string
		damage     func(b []byte) []byte
		rows       int
		want       string
	}{
		{"a flipped bit in a record", segment, flip(second + 70), 6, fmt.Sprintf("corrupt at byte %d: batch of offset 1: crc", second)},
		{"a torn tail", segment, func(b []byte) []byte { return b[:size-3] }, 5, " are left"},
		{"a torn header", segment, func(b []byte) []byte { return b[:second+5] }, 1, fmt.Sprintf("corrupt at byte %d: 5 bytes are left", second)},
		{"a wrong length", segment, flip(second + 8), 1, fmt.Sprintf("corrupt at byte %d: a batch of", second)},
		{"a wrong offset", segment, flip(second + 7), 6, fmt.Sprintf("corrupt at byte %d: offset 0 after offset 0", second)},
		{"garbage", segment, func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0x7f}, 100)...) }, 6, fmt.Sprintf("corrupt at byte %d", size)},
		{"an index entry that falls", strings.TrimSuffix(segment, "log") + "index", flip(8), 1, "corrupt at byte 8"},
		{"half an index entry", strings.TrimSuffix(segment, "log") + "index", func(b []byte) []byte { return append(b[:8:8], 0, 0, 1) }, 1, "corrupt at byte 8"},
		{"a time that falls", strings.TrimSuffix(segment, "log") + "timeindex", flip(12), 1, "corrupt at byte 12"},
		{"a transaction index", txns, flip(34), 1, "corrupt at byte 34"},
		{"a producer snapshot", snapshots[0], flip(9), 0, "corrupt at byte 2: crc"},
		{"a checkpoint's count", filepath.Join(dir, "recovery-point-offset-checkpoint"), func(b []byte) []byte { return append(b, "orders 9 9\n"...) }, -1, "the count says"},
		{"a checkpoint's line", filepath.Join(part, "leader-epoch-checkpoint"), func([]byte) []byte { return []byte("0\n1\n0 x\n") }, -1, "corrupt at byte 4"},
	} {
		whole, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.file, c.damage(bytes.Clone(whole)), 0o644); err != nil {
			t.Fatal(err)
		}
		code, rows, said := dump(t, c.file)
		if code != 1 || !strings.Contains(said, c.want) || !strings.Contains(said, c.file) || c.rows >= 0 && len(rows) != c.rows {
			t.Errorf("%s: exit %d, %d rows, %q, want %d rows and %q", c.name, code, len(rows), said, c.rows, c.want)
		}
		if err := os.WriteFile(c.file, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// What is preallocated is no corruption.
	for _, ext := range []string{"log", "index", "timeindex"} {
		f, err := os.OpenFile(strings.TrimSuffix(segment, "log")+ext, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(make([]byte, 120))
		f.Close()
		dumpOK(t, f.Name())
	}
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{filepath.Join(dir, "nowhere.log")}, exitFailed},
		{[]string{filepath.Join(dir, "README")}, exitUsage},
		{nil, exitUsage},
	} {
		if code, _, said := dump(t, c.args...); code != c.want {
			t.Errorf("%q: exit %d, want %d: %s", c.args, code, c.want, said)
		}
	}
}

func flip(at int64) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= 1
		if at < 16 || at == 34 { // of entries and offsets, the highest bit
			b[at] ^= 1 ^ 0x80
		}
		return b
	}
}

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// TestLogDumpOfSeveralFiles prints JSON and TSV row for row, and as if it had all
// of them first.
func TestLogDumpOfSeveralFiles(t *testing.T) {
	dir := logDir(t)
	part := filepath.Join(dir, "orders-0")
	none := filepath.Join(dir, "log-start-offset-checkpoint") // has no rows
	files := []string{filepath.Join(part, "00000000000000000000.log"), none, filepath.Join(part, "leader-epoch-checkpoint")}
	kinds := []string{"log", "offset checkpoint", "leader epochs"}
	var want []object
	for i, f := range files {
		var rows []any
		for _, r := range orderedRows(t, f) {
			rows = append(rows, r)
		}
		if rows == nil {
			rows = []any{}
		}
		want = append(want, object{{"file", f}, {"kind", kinds[i]}, {"rows", rows}})
	}
	var expected, out, errs bytes.Buffer
	if err := (&printer{w: &expected, format: "json"}).json(want); err != nil {
		t.Fatal(err)
	}
	if code := Main(append([]string{"log", "dump", "--format", "json"}, files...), strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	if out.String() != expected.String() {
		t.Errorf("JSON\n%swant\n%s", out.String(), expected.String())
	}
	out.Reset()
	if code := Main(append([]string{"log", "dump", "--format", "tsv"}, files...), strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 7 || !strings.HasPrefix(lines[0], files[0]+"\t0\t0\t1\t") || lines[6] != files[2]+"\t0\t0" {
		t.Errorf("TSV of %d lines\n%s", len(lines), out.String())
	}
}

// orderedRows dumps one file and keeps the order of the fields.
func orderedRows(t *testing.T, file string) (out []json.RawMessage) {
	t.Helper()
	var b, errs bytes.Buffer
	if code := Main([]string{"log", "dump", "--format", "json", file}, strings.NewReader(""), &b, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	if err := json.Unmarshal(b.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLogDumpLeftovers dumps files in every state that they may be left in, also
// of partitions that were deleted or set aside.
func TestLogDumpLeftovers(t *testing.T) {
	dir := logDir(t)
	part := filepath.Join(dir, "__consumer_offsets-0")
	for _, to := range []string{".0123456789abcdef0123456789abcdef-delete", ".0123456789abcdef0123456789abcdef-stray", ".0123456789abcdef0123456789abcdef-future"} {
		if err := os.CopyFS(part+to, os.DirFS(part)); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{".deleted", ".cleaned", ".swap", ".0.damaged"} {
			for _, kind := range []string{".log", ".index", ".timeindex"} {
				name := filepath.Join(part+to, "00000000000000000000"+kind)
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name+suffix, b, 0o644); err != nil {
					t.Fatal(err)
				}
				rows := dumpOK(t, "-r", name+suffix)
				if kind == ".log" && rows[0]["type"] == nil {
					t.Errorf("%s is not decoded: %v", name+suffix, rows[0])
				}
			}
		}
	}
	// An index is checked against the data in the same state.
	damaged := filepath.Join(part+".0123456789abcdef0123456789abcdef-delete", "00000000000000000000.log.swap")
	if err := os.Truncate(damaged, 0); err != nil {
		t.Fatal(err)
	}
	if rows := dumpOK(t, strings.TrimSuffix(damaged, "log.swap")+"index"); len(rows) == 0 {
		t.Error("no index entries to be checked")
	}
	if code, _, said := dump(t, strings.TrimSuffix(damaged, "log.swap")+"index.swap"); code != exitFailed || !strings.Contains(said, "is not in the data") {
		t.Errorf("an index beyond its data: exit %d, %s", code, said)
	}
}

// TestLogDumpCheckpoints dumps checkpoints as both brokers leave them.
func TestLogDumpCheckpoints(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, text, want string }{
		{"cleaner-offset-checkpoint", "0\n2\norders 3 77\npayments-eu 0 1\n", `"orders" 3 77; "payments-eu" 0 1`},
		{"cleaner-offset-checkpoint", "", ""},
		{"replication-offset-checkpoint", "0\n0\n", ""},
		{"raft-start", "12 345\n", "12 345"},
	} {
		name := filepath.Join(dir, c.name)
		if err := os.WriteFile(name, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range dumpOK(t, name) {
			if c.name == "raft-start" {
				got = append(got, columns(r, "index", "offset"))
			} else {
				got = append(got, columns(r, "topic", "partition", "offset"))
			}
		}
		if g := strings.Join(got, "; "); g != c.want {
			t.Errorf("%s of %q: %s, want %s", c.name, c.text, g, c.want)
		}
	}
}

// TestLogDumpDecodesCoordinators dumps records that klamm does not write yet.
func TestLogDumpDecodesCoordinators(t *testing.T) {
	for _, c := range []struct {
		topic string
		kind  int16
		key   msg.Message
		value msg.Message
		want  string
	}{
		{"__transaction_state", 0, &msg.TransactionLogKey{TransactionalId: "payments"}, &msg.TransactionLogValue{ProducerId: 7, TransactionStatus: 1, PreviousProducerId: -1, NextProducerId: -1, NextProducerEpoch: -1},
			`"TransactionLog" {"transactionalId":"payments"} 7`},
		{"__share_group_state", 0, &msg.ShareSnapshotKey{GroupId: "g", Partition: 3}, &msg.ShareSnapshotValue{StartOffset: 7},
			`"ShareSnapshot" {"groupId":"g","partition":3,"topicId":"AAAAAAAAAAAAAAAAAAAAAA"} 7`},
		{"__share_group_state", 1, &msg.ShareUpdateKey{GroupId: "g", Partition: 3}, &msg.ShareUpdateValue{StartOffset: 7},
			`"ShareUpdate" {"groupId":"g","partition":3,"topicId":"AAAAAAAAAAAAAAAAAAAAAA"} 7`},
	} {
		key, err := c.key.AppendTo(binary.BigEndian.AppendUint16(nil, uint16(c.kind)), 0)
		if err != nil {
			t.Fatal(err)
		}
		value, err := c.value.AppendTo([]byte{0, 0}, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := record.NewBuilder(record.None, 0)
		b.Append(1, key, value, nil)
		b.Append(2, key, nil, nil)
		out, err := b.Finish(record.NoProducer)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), c.topic+"-0")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "00000000000000000000.log")
		if err := os.WriteFile(name, out, 0o644); err != nil {
			t.Fatal(err)
		}
		rows := dumpOK(t, "-r", name)
		v, _ := rows[0]["value"].(map[string]any)
		number := v["producerId"]
		if number == nil {
			number = v["startOffset"]
		}
		if got := columns(rows[0], "type", "key") + " " + fmt.Sprint(number); got != c.want || rows[1]["value"] != nil {
			t.Errorf("%s: %s, %v, want %s", c.topic, got, rows[1]["value"], c.want)
		}
	}
}
