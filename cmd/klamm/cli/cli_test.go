package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/client"
)

// shell runs commands against a broker.
type shell struct {
	t    *testing.T
	addr string
}

func newShell(t *testing.T) *shell {
	return &shell{t, brokertest.Start(t, brokertest.Options{}).Bootstrap()}
}

type result struct {
	code     int
	out, err string
}

func (s *shell) with(stdin string, args ...string) result {
	s.t.Helper()
	var out, errs bytes.Buffer
	code := Main(append(args, "-b", s.addr), strings.NewReader(stdin), &out, &errs)
	return result{code, out.String(), errs.String()}
}

// ok runs a command that must succeed and returns its output.
func (s *shell) ok(args ...string) string {
	s.t.Helper()
	r := s.with("", args...)
	if r.code != 0 {
		s.t.Fatalf("klamm %s: exit %d\n%s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// lines runs a command on standard input that must succeed.
func (s *shell) lines(stdin string, args ...string) result {
	s.t.Helper()
	r := s.with(stdin, args...)
	if r.code != 0 {
		s.t.Fatalf("klamm %s: exit %d\n%s", strings.Join(args, " "), r.code, r.err)
	}
	return r
}

func (s *shell) same(got, want string) {
	s.t.Helper()
	if got != want {
		s.t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTheREADME(t *testing.T) {
	s := newShell(t)
	value := `{"orderId":1001,"amount":2500,"currency":"INR"}`
	s.same(s.ok("produce", "orders", "-k", "ORDER-1001", "-H", "source=web-app", "-H", "eventType=orderCreated", value), "orders/0@0\n")
	s.same(s.ok("consume", "orders", "-o", "start", "-e", "-f", `%t/%p@%o %k %h{%k=%v } %v\n`),
		"orders/0@0 ORDER-1001 source=web-app eventType=orderCreated  "+value+"\n")
}

func TestProduceAndConsume(t *testing.T) {
	s := newShell(t)
	s.ok("topic", "create", "t", "-p", "2")
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		r := s.lines(codec+"1\n"+codec+"2", "produce", "t", "-p", "1", "-z", codec)
		if !strings.Contains(r.err, "2 records written") {
			t.Errorf("%s: said %q", codec, r.err)
		}
	}
	s.same(s.ok("consume", "t", "-o", "-3", "-p", "1", "-e"), "lz42\nzstd1\nzstd2\n")
	s.same(s.ok("consume", "t", "-o", "+1", "-p", "1", "-n", "2"), "none2\ngzip1\n")
	s.same(s.ok("consume", "t", "-o", "4", "-p", "1", "-n", "1", "-f", "%o %V %v{hex} %v{base64}"), "4 7 736e6170707931 c25hcHB5MQ==")
	s.same(s.ok("consume", "t", "-o", "end", "-e"), "")

	s.ok("topic", "create", "times")
	for i := range 4 {
		s.ok("produce", "times", fmt.Sprint(i), "--timestamp", fmt.Sprint(1_700_000_000_000+i*1000))
	}
	s.same(s.ok("consume", "times", "-o", "@1700000001000:@1700000003000", "-f", `%v@%d %d{s} %d{rfc3339}\n`),
		"1@1700000001000 1700000001 2023-11-14T22:13:21.000Z\n2@1700000002000 1700000002 2023-11-14T22:13:22.000Z\n")

	s.ok("topic", "create", "nulls")
	s.ok("produce", "nulls", "-k", "k", "-Z", "")
	s.ok("produce", "nulls", "")
	s.lines("a\n\nb\n", "produce", "nulls", "-Z")
	s.same(s.ok("consume", "nulls", "-o", "start", "-e", "-f", `%k=%v{json} `), `k=null ="" ="a" =null ="b" `)

	var rec struct {
		Key     *string
		Value   any
		Headers []struct{ Key, Value string }
	}
	s.ok("topic", "create", "json")
	s.ok("produce", "json", "-H", "a=1", "-H", "a=2", "\xff\x00")
	if err := json.Unmarshal([]byte(s.ok("consume", "json", "-o", "start", "-e", "--format", "json")), &rec); err != nil {
		t.Fatal(err)
	}
	if rec.Key != nil || fmt.Sprint(rec.Value) != "map[base64:/wA=]" || len(rec.Headers) != 2 || rec.Headers[1].Value != "2" {
		t.Errorf("JSON record %+v", rec)
	}
}

func TestReadFormats(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(t.TempDir(), "in")
	tests := []struct{ name, format, input, want string }{
		{"key and value", `%k %v\n`, "a 1\nb two words\n", "a|1;b|two words;"},
		{"last line without its end", `%k:%v`, "a:1\nb:2", "a|1;b|2;"},
		{"sizes", `%K %V %k%v\n`, "1 2 abc\n2 1 abc\n", "a|bc;ab|c;"},
		{"a value with the separator in it", `%V,%v;`, "3,a;b;1,c;", "|a;b;|c;"},
		{"longer separator", `%k<->%v\n`, "a<b<->c\n", "a<b|c;"},
		{"hex and base64", `%k{hex} %v{base64}\n`, "6b dmFsdWU=\n", "k|value;"},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			topic := fmt.Sprint("in", i)
			s.ok("topic", "create", topic)
			if err := os.WriteFile(file, []byte(test.input), 0o600); err != nil {
				t.Fatal(err)
			}
			s.ok("produce", topic, "--file", file, "-f", test.format)
			s.same(s.ok("consume", topic, "-o", "start", "-e", "-f", `%k|%v;`), test.want)
		})
	}
	s.ok("topic", "create", "headers", "-p", "3")
	s.lines("headers 2 1700000000000 2 a=1,b=2,|v\n", "produce", "ignored", "-f", `%t %p %d %H %h{%k=%v,}|%v\n`, "--results")
	s.same(s.ok("consume", "headers", "-o", "start", "-e", "-f", `%p %d %h{%k=%v;} %v`), "2 1700000000000 a=1;b=2; v")
	for _, bad := range []struct{ format, why string }{
		{`%k%v`, "separator"}, {`%z`, "unknown verb"}, {`%h{%k}`, "%H"}, {`%o\n`, "broker gives it"}, {`%v\q`, "escape"}, {`%v{rot13}`, "hex"}, {`%`, "percent"},
	} {
		if r := s.with("x\n", "produce", "t", "-f", bad.format); r.code != exitUsage || !strings.Contains(r.err, bad.why) {
			t.Errorf("-f %q: exit %d, %q, want usage and %q", bad.format, r.code, r.err, bad.why)
		}
	}
	if r := s.with("novalue\n", "produce", "t", "-f", `%k %v\n`); r.code != exitFailed || !strings.Contains(r.err, "record 1 of the input") {
		t.Errorf("a line without its separator: exit %d, %q", r.code, r.err)
	}
}

func TestFailuresOfSomeRecords(t *testing.T) {
	s := newShell(t)
	s.ok("topic", "create", "small", "-c", "max.message.bytes=200")
	r := s.with("short\n"+strings.Repeat("x", 1000)+"\nalso short\n", "produce", "small", "-X", "batch.size=1", "-X", "linger.ms=0")
	if r.code != exitFailed || !strings.Contains(r.err, "2 records written, 1 not") || !strings.Contains(r.err, "record 2: ") {
		t.Errorf("exit %d\n%s", r.code, r.err)
	}
	s.same(s.ok("consume", "small", "-o", "start", "-e"), "short\nalso short\n")
}

func TestExitCodes(t *testing.T) {
	s := newShell(t)
	tests := []struct {
		args []string
		code int
		says string
	}{
		{[]string{"frobnicate"}, exitUsage, "unknown command"},
		{[]string{"topic"}, exitUsage, "needs one of its commands"},
		{[]string{"topic", "create"}, exitUsage, "missing the NAME"},
		{[]string{"topic", "create", "a", "--nope"}, exitUsage, "unknown flag"},
		{[]string{"topic", "list", "--format", "xml"}, exitUsage, "want table, json, yaml or tsv"},
		{[]string{"topic", "describe", "absent"}, exitFailed, "UNKNOWN_TOPIC_OR_PARTITION"},
		{[]string{"topic", "create", "bad name"}, exitUsage, "invalid"},
		{[]string{"consume", "absent", "-e"}, exitFailed, "UNKNOWN_TOPIC_OR_PARTITION"},
		{[]string{"consume", "a", "-o", "soon"}, exitUsage, "--offset"},
		{[]string{"produce", "a", "v", "-z", "rar"}, exitUsage, "compression.type"},
		{[]string{"produce", "a", "v", "-X", "linger.msec=1"}, exitUsage, `did you mean "linger.ms"`},
		{[]string{"produce", "a", "v", "-H", "novalue"}, exitUsage, "key=value"},
		{[]string{"config", "describe", "num.io.thread"}, exitUsage, `did you mean "num.io.threads"`},
		{[]string{"config", "set", "retention.sm=1", "--topic", "a"}, exitUsage, `did you mean "retention.ms"`},
		{[]string{"config", "set", "a=b"}, exitUsage, "of what?"},
		{[]string{"group", "describe", "absent"}, exitFailed, "GROUP_ID_NOT_FOUND"},
		{[]string{"version", "extra"}, exitUsage, "unexpected argument"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			r := s.with("", test.args...)
			if r.code != test.code || !strings.Contains(r.err+r.out, test.says) {
				t.Errorf("exit %d, want %d; said %q, want %q", r.code, test.code, r.err+r.out, test.says)
			}
		})
	}
	s.ok("topic", "create", "quiet")
	if r := s.with("", "consume", "quiet", "--timeout", "50ms"); r.code != exitTimeout {
		t.Errorf("consume that times out: exit %d, want %d\n%s", r.code, exitTimeout, r.err)
	}
	gone := &shell{t, "127.0.0.1:1"}
	if r := gone.with("", "topic", "list", "--timeout", "100ms"); r.code != exitTimeout || !strings.Contains(r.err, "127.0.0.1:1") {
		t.Errorf("no broker: exit %d, want %d\n%s", r.code, exitTimeout, r.err)
	}
}

func TestTopics(t *testing.T) {
	s := newShell(t)
	s.ok("topic", "create", "a", "b", "-p", "2", "-c", "retention.ms=1000")
	if r := s.with("", "topic", "create", "a"); r.code != exitFailed || !strings.Contains(r.out, "TOPIC_ALREADY_EXISTS") && !strings.Contains(r.out, "already exists") {
		t.Errorf("create of what exists: exit %d, %s", r.code, r.out)
	}
	s.ok("topic", "create", "a", "--if-not-exists")
	s.ok("topic", "create", "never", "--dry-run")
	if out := s.ok("topic", "list", "--format", "tsv"); strings.Contains(out, "never") || !strings.Contains(out, "a\t2\t1\t") {
		t.Errorf("list\n%s", out)
	}
	s.ok("topic", "alter", "a", "-p", "4", "-c", "segment.ms=60000", "--unset", "retention.ms")
	var described []struct {
		Name       string
		Partitions []struct {
			Partition, Leader int
			EndOffset         int64 `json:"end_offset"`
		}
		Configs []struct{ Key, Value string }
	}
	s.ok("produce", "a", "x", "-p", "3")
	if err := json.Unmarshal([]byte(s.ok("topic", "describe", "a", "--format", "json")), &described); err != nil {
		t.Fatal(err)
	}
	d := described[0]
	if len(d.Partitions) != 4 || d.Partitions[3].EndOffset != 1 || len(d.Configs) != 1 || d.Configs[0].Key != "segment.ms" {
		t.Errorf("described %+v", d)
	}
	s.lines("1\n2\n3\n", "produce", "b", "-p", "0")
	s.same(s.ok("topic", "trim", "b", "-o", "2", "-p", "0", "--format", "tsv"), "0\t2\n")
	s.same(s.ok("consume", "b", "-o", "start", "-e"), "3\n")
	s.ok("topic", "delete", "a", "b")
	s.same(s.ok("topic", "list", "--format", "tsv"), "")
}

func TestGroups(t *testing.T) {
	s := newShell(t)
	s.lines("1\n2\n3\n4\n5\n", "produce", "t")
	s.same(s.ok("consume", "t", "-g", "g", "-o", "start", "-n", "2"), "1\n2\n")
	s.same(s.ok("consume", "t", "-g", "g", "-e"), "3\n4\n5\n")
	if out := s.ok("group", "list", "--format", "tsv"); !strings.HasPrefix(out, "g\tEmpty\tclassic\tconsumer\t") {
		t.Errorf("list %q", out)
	}
	s.same(s.ok("group", "seek", "g", "--to", "+3", "--format", "tsv"), "t\t0\t5\t3\n")
	s.same(s.ok("group", "describe", "g", "--format", "tsv"), "t\t0\t3\t5\t2\t-\t-\t-\n")
	s.same(s.ok("consume", "t", "-g", "g", "-e"), "4\n5\n")
	s.ok("group", "delete", "g")
	s.same(s.ok("group", "list", "--format", "tsv"), "")
}

func TestConfigs(t *testing.T) {
	s := newShell(t)
	s.ok("topic", "create", "t")
	s.ok("config", "set", "cleanup.policy+=compact", "retention.ms=5", "--topic", "t")
	out := s.ok("config", "describe", "cleanup.policy", "retention.ms", "--topic", "t", "--format", "tsv")
	if !strings.Contains(out, "cleanup.policy\tdelete,compact\tTOPIC_CONFIG\tdelete\t") || !strings.Contains(out, "retention.ms\t5\tTOPIC_CONFIG\t604800000\tms\t") {
		t.Errorf("described\n%s", out)
	}
	s.ok("config", "delete", "retention.ms", "--topic", "t")
	if out := s.ok("config", "describe", "retention.ms", "--topic", "t", "--format", "tsv"); !strings.Contains(out, "DEFAULT_CONFIG") {
		t.Errorf("after the deletion\n%s", out)
	}
	s.ok("config", "set", "message.max.bytes=5000", "--all-brokers")
	if out := s.ok("config", "describe", "max.message.bytes", "--topic", "t", "--format", "tsv"); !strings.Contains(out, "max.message.bytes\t5000\tDYNAMIC_DEFAULT_BROKER_CONFIG") {
		t.Errorf("a topic does not see the brokers' default\n%s", out)
	}
	t.Setenv("KAFKA_NUM_IO_THREADS", "3")
	if out := s.ok("config", "describe", "num.io.threads", "--format", "tsv"); !strings.HasPrefix(out, "num.io.threads\t3\tenvironment") {
		t.Errorf("static\n%s", out)
	}
}

func TestCompletion(t *testing.T) {
	s := newShell(t)
	s.ok("topic", "create", "orders", "others")
	for _, test := range []struct{ args, want string }{
		{"__complete topic describe or", "orders"},
		{"__complete consume ot", "others"},
		{"__complete produce t -X linge", "linger.ms="},
		{"__complete topic list --format y", "yaml"},
	} {
		args := strings.Fields(test.args)
		// The broker's address stands before what is completed.
		args = append([]string{args[0], "-b", s.addr}, args[1:]...)
		var out, errs bytes.Buffer
		if code := Main(args, strings.NewReader(""), &out, &errs); code != 0 || !strings.Contains(out.String(), test.want+"\n") {
			t.Errorf("%s: exit %d, %q, want %q", test.args, code, out.String(), test.want)
		}
	}
}

func TestCluster(t *testing.T) {
	s := newShell(t)
	var c struct {
		ClusterID string `json:"cluster_id"`
		Brokers   []struct{ Broker int }
		LogDirs   []struct{ Directory string } `json:"log_dirs"`
	}
	if err := json.Unmarshal([]byte(s.ok("cluster", "describe", "--format", "json")), &c); err != nil || len(c.ClusterID) != 22 || len(c.Brokers) != 1 || len(c.LogDirs) != 1 {
		t.Errorf("described %+v: %v", c, err)
	}
	if out := s.ok("cluster", "describe", "--format", "yaml"); !strings.Contains(out, "cluster_id: "+c.ClusterID) {
		t.Errorf("yaml\n%s", out)
	}
}

func FuzzFormat(f *testing.F) {
	for _, s := range []string{`%t/%p@%o %k %h{%k=%v } %v\n`, `%K %V %k%v\n`, `%d{go[2006]}`, `\x00%%`, `%h{`, `%v{`} {
		f.Add(s, "1 2 abc\n")
	}
	f.Fuzz(func(t *testing.T, format, input string) {
		in, err := newInput(strings.NewReader(input), format)
		if err != nil {
			return
		}
		for range 100 {
			var r = newRecord()
			if in.next(r) != nil {
				return
			}
			appendRecord(nil, in.verbs, r)
		}
	})
}

func newRecord() *client.Record { return new(client.Record) }
