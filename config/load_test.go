package config

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "server.properties")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func load(t *testing.T, src Sources) *Static {
	t.Helper()
	s, _, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPrecedence(t *testing.T) {
	s := load(t, Sources{
		File:      file(t, "num.partitions=2\nnum.io.threads = 3\nqueued.max.requests: 4\nbroker.rack=${HOME}\n"),
		Environ:   []string{"KAFKA_NUM_IO_THREADS=5", "KAFKA_QUEUED_MAX_REQUESTS=6", "HOME=/x"},
		Overrides: []string{"queued.max.requests=7"},
	})
	for name, want := range map[string]string{
		"num.partitions":      "2 file",
		"num.io.threads":      "5 environment",
		"queued.max.requests": "7 override",
		"num.network.threads": "3 default",
		"listeners":           "PLAINTEXT://127.0.0.1:9092 default",
		"log.dirs":            "./data default",
		"broker.rack":         "${HOME} file",
	} {
		v, source, ok := s.Get(name)
		if got := fmt.Sprint(v, " ", source); !ok || got != want {
			t.Errorf("%s: %s, %t; want %s", name, got, ok, want)
		}
	}
	if v, _, ok := s.Get("advertised.listeners"); ok {
		t.Errorf("a null key has value %q", v)
	}
	if _, _, ok := s.Get("no.such.key"); ok {
		t.Error("an unknown key has a value")
	}
}

func TestLoadErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		src  Sources
		want string
	}{
		{"unknown key in the file", Sources{File: file(t, "num.partition=1")}, `"num.partitions"`},
		{"unknown override", Sources{Overrides: []string{"num.io.thread=1"}}, `"num.io.threads"`},
		{"override without =", Sources{Overrides: []string{"num.io.threads"}}, "key=value"},
		{"bad value in the environment", Sources{Environ: []string{"KAFKA_NUM_PARTITIONS=0"}}, "KAFKA_NUM_PARTITIONS"},
		{"no such file", Sources{File: "/nowhere/at.all"}, "/nowhere/at.all"},
	} {
		if _, _, err := Load(c.src); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s in it", c.name, err, c.want)
		}
	}
	_, _, err := Load(Sources{Overrides: []string{"ssl.key.password=a", "log.retention.mss=1"}})
	var u *UnknownKeyError
	if !errors.As(err, &u) || u.Nearest != "log.retention.ms" {
		t.Errorf("%v", err)
	}
}

func TestWarnings(t *testing.T) {
	_, warnings, err := Load(Sources{
		Environ:   []string{"KAFKA_HEAP_OPTS=-Xmx1G", "KAFKA_BOOTSTRAP_SERVERS=x", "KAFKA_LOG4J_ROOT_LOGLEVEL=INFO", "KAFKA_NO_SUCH=1", "OTHER=1"},
		Overrides: []string{"alter.config.policy.class.name=3", "num.partitions=2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, w := range warnings {
		keys = append(keys, w.Key)
	}
	if want := []string{"KAFKA_NO_SUCH", "alter.config.policy.class.name"}; !slices.Equal(keys, want) {
		t.Errorf("warnings %v, want of %v", warnings, want)
	}
}

// What a combined broker and controller is configured with is acted on, and says so.
func TestACombinedNodeIsNotWarnedAbout(t *testing.T) {
	_, warnings, err := Load(Sources{Overrides: []string{"process.roles=broker,controller", "node.id=1", "controller.listener.names=CONTROLLER",
		"listeners=PLAINTEXT://:9092,CONTROLLER://:9093", "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT", "log.dirs=/d"}})
	if err != nil || len(warnings) != 0 {
		t.Errorf("%v, warned %v", err, warnings)
	}
}

// TestUnknownKeysOfAFile: a slip of the pen is refused, a plug-in's key and one
// of an older Kafka are a warning that says what it is.
func TestUnknownKeysOfAFile(t *testing.T) {
	for key, want := range map[string]string{
		"num.partition":         "!did you mean \"num.partitions\"",
		"retention.ms":          "!did you mean \"log.retention.ms\"",
		"log.retention":         "!did you mean \"log.retention.",
		"ssl.keystore.locatoin": "!did you mean \"ssl.keystore.location\"",
		"my.plugin.key":         "unknown broker key \"my.plugin.key\"",
		"confluent.license.topic.replication.factor":        "unknown broker key",
		"confluent.support.metrics.enable":                  "unknown broker key",
		"confluent.balancer.enable":                         "unknown broker key",
		"confluent.metrics.reporter.bootstrap.servers":      "unknown broker key",
		"cruise.control.metrics.topic":                      "unknown broker key",
		"cruise.control.metrics.reporter.bootstrap.servers": "unknown broker key",
		"opa.authorizer.url":                                "unknown broker key",
		"strimzi.authorization.client.id":                   "unknown broker key",
		"client.quota.callback.static.produce":              "unknown broker key",
		"zookeeper.connect":                                 "before 4.0 had it; there is no ZooKeeper",
		"zookeeper.ssl.keystore.location":                   "before 4.0 had it; there is no ZooKeeper",
		"log.message.format.version":                        "before 4.0 had it",
		"port":                                              "before 4.0 had it; use listeners",
		"inter.broker.protocol.version":                     "before 4.0 had it; the feature metadata.version",
	} {
		_, warnings, err := Load(Sources{File: file(t, "num.partitions=2\n"+key+"=1\n")})
		if refusal, ok := strings.CutPrefix(want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), refusal) {
				t.Errorf("%s: %v; want %q in the error", key, err, refusal)
			}
			continue
		}
		if err != nil || len(warnings) != 1 || warnings[0].Key != key || !strings.Contains(warnings[0].Message, want) {
			t.Errorf("%s: warnings %v, error %v; want %q in one warning", key, warnings, err, want)
		}
	}
	for kind, keys := range retired {
		for key := range keys {
			if _, ok := Lookup(kind, key); ok {
				t.Errorf("%s key %s is retired and known", kind, key)
			}
		}
	}
	if _, _, err := Load(Sources{Overrides: []string{"my.plugin.key=1"}}); err == nil {
		t.Error("an override that is no key was taken")
	}
}

// TestImageVariables: the variables of Kafka's container image that are no keys.
func TestImageVariables(t *testing.T) {
	for _, c := range []struct {
		environ, listeners, cluster, err string
	}{
		{"CLUSTER_ID=5L6g3nShT-eMCtK--X86sw", "PLAINTEXT://127.0.0.1:9092", "5L6g3nShT-eMCtK--X86sw", ""},
		{"CLUSTER_ID=a b", "", "", "CLUSTER_ID"},
		{"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://example:29092,EXTERNAL://[::1]:9094", "PLAINTEXT://0.0.0.0:29092,EXTERNAL://0.0.0.0:9094", "", ""},
		{"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://example:29092 KAFKA_LISTENERS=PLAINTEXT://:9092", "PLAINTEXT://:9092", "", ""},
		{"KAFKA_SSL_KEY_CREDENTIALS=no-such-file", "", "", "KAFKA_SSL_KEY_CREDENTIALS"},
	} {
		s, warnings, err := Load(Sources{Environ: strings.Split(c.environ, " ")})
		if strings.Contains(c.environ, "a b") {
			s, warnings, err = Load(Sources{Environ: []string{c.environ}})
		}
		if err != nil || c.err != "" {
			if err == nil || c.err == "" || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.environ, err)
			}
			continue
		}
		if s.Str("listeners") != c.listeners || s.ClusterID() != c.cluster || len(warnings) > 0 {
			t.Errorf("%s: listeners %s, cluster %q, warnings %v", c.environ, s.Str("listeners"), s.ClusterID(), warnings)
		}
	}
	s := load(t, Sources{Environ: []string{"KAFKA_SSL_KEYSTORE_FILENAME=kafka.jks"}})
	if got := s.Str("ssl.keystore.location"); got != "/etc/kafka/secrets/kafka.jks" {
		t.Errorf("ssl.keystore.location %q", got)
	}
	b, err := load(t, Sources{Environ: []string{"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://example:29092"}}).Broker()
	if err != nil || fmt.Sprint(b.Listeners, b.Advertised) != "[PLAINTEXT://0.0.0.0:29092] [PLAINTEXT://example:29092]" {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestEnvName(t *testing.T) {
	for in, want := range map[string]string{
		"KAFKA_LOG_RETENTION_MS":                    "log.retention.ms",
		"KAFKA_LISTENER_NAME_A__B_SSL_KEY_PASSWORD": "listener.name.a_b.ssl.key.password",
		"KAFKA_LISTENER_NAME_X_SCRAM___SHA___256_Y": "listener.name.x.scram-sha-256.y",
		"KAFKA_OPTS": "", "PATH": "", "KAFKA_": "",
	} {
		if got, ok := EnvName(in); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %t; want %q", in, got, ok, want)
		}
	}
}

func TestBrokerDefaults(t *testing.T) {
	b, err := load(t, Sources{}).Broker()
	if err != nil {
		t.Fatal(err)
	}
	if b.NodeID != 1 || fmt.Sprint(b.LogDirs, b.Listeners, b.Advertised) != "[./data] [PLAINTEXT://127.0.0.1:9092] []" {
		t.Errorf("%d %v %v %v", b.NodeID, b.LogDirs, b.Listeners, b.Advertised)
	}
	if b.RequestTimeout != 30*time.Second || b.SocketRequestMaxBytes != 104857600 || b.IOThreads != 8 || b.OffsetsRetention != 7*24*time.Hour {
		t.Errorf("%+v", b)
	}
	l := b.Log
	if l.Retention != 168*time.Hour || l.SegmentBytes != 1<<30 || !l.Delete || l.Compact || l.FlushInterval != math.MaxInt64 ||
		l.MaxMessageBytes != 1048588 || l.SegmentAge != 168*time.Hour || l.MinCleanableDirtyRatio != 0.5 || l.LocalRetentionBytes != -2 {
		t.Errorf("%+v", l)
	}
}

func TestBrokerAddresses(t *testing.T) {
	for _, c := range []struct {
		name      string
		overrides []string
		want      string // listeners, controllers', advertised; or the error after !
	}{
		{"several", []string{"listeners=INTERNAL://:19092,external://[::1]:0", "listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:SASL_SSL", "advertised.listeners=EXTERNAL://kafka.example:443"},
			"[INTERNAL://:19092 EXTERNAL://[::1]:0] [] [EXTERNAL://kafka.example:443]"},
		{"controller apart", []string{"listeners=PLAINTEXT://:9092,CONTROLLER://:9093"}, "[PLAINTEXT://:9092] [CONTROLLER://:9093] []"},
		{"name without protocol", []string{"listeners=FOO://:1"}, "!no protocol for FOO"},
		{"same name", []string{"listeners=SSL://:1,SSL://:2"}, "!two listeners are named SSL"},
		{"same address", []string{"listeners=SSL://:1,PLAINTEXT://:1"}, "!two listeners on :1"},
		{"no port", []string{"listeners=SSL://host"}, "!want NAME://host:port"},
		{"port too high", []string{"listeners=SSL://host:65536"}, "!port"},
		{"advertised everywhere", []string{"advertised.listeners=PLAINTEXT://0.0.0.0:9092"}, "!every interface"},
		{"advertised not listened on", []string{"advertised.listeners=SSL://h:9092"}, "!not among"},
		{"protocol unknown", []string{"listener.security.protocol.map=A:B"}, "!want NAME:PROTOCOL"},
		{"controllers only", []string{"listeners=CONTROLLER://:9093"}, "!none is for clients"},
	} {
		b, err := load(t, Sources{Overrides: c.overrides}).Broker()
		if want, isErr := strings.CutPrefix(c.want, "!"); isErr {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q in it", c.name, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := fmt.Sprint(b.Listeners, " ", b.ControllerListeners, " ", b.Advertised); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestBrokerLimits(t *testing.T) {
	b, err := load(t, Sources{Overrides: []string{"broker.id=7", "log.dir=/a", "max.connections.per.ip.overrides=10.0.0.1:5,[::1]:6"}}).Broker()
	if err != nil {
		t.Fatal(err)
	}
	if b.NodeID != 7 || fmt.Sprint(b.LogDirs, b.MaxConnectionsByIP) != "[/a] map[10.0.0.1:5 ::1:6]" {
		t.Errorf("%d %v %v", b.NodeID, b.LogDirs, b.MaxConnectionsByIP)
	}
	for _, o := range []string{"queued.max.request.bytes=1000", "group.min.session.timeout.ms=1800001", "offsets.topic.compression.codec=5",
		"default.replication.factor=0", "max.connections.per.ip.overrides=a", "broker.id=2,node.id=3"} {
		if _, err := load(t, Sources{Overrides: strings.Split(o, ",")}).Broker(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", o, err)
		}
	}
}

func TestTopicFrom(t *testing.T) {
	s := load(t, Sources{Overrides: []string{"log.retention.hours=2", "log.roll.hours=3", "message.max.bytes=2000", "log.flush.scheduler.interval.ms=9"}})
	for _, c := range []struct {
		name                string
		own, broker, common map[string]string
		want                string // retention, max message, segment age, flush
	}{
		{"static", nil, nil, nil, "2h0m0s 2000 3h0m0s 9ms"},
		{"dynamic default over static", nil, nil, map[string]string{"message.max.bytes": "3000", "log.retention.ms": "60000"}, "1m0s 3000 3h0m0s 9ms"},
		{"dynamic broker over default", nil, map[string]string{"message.max.bytes": "4000"}, map[string]string{"message.max.bytes": "3000"}, "2h0m0s 4000 3h0m0s 9ms"},
		{"own over all", map[string]string{"max.message.bytes": "5000", "retention.ms": "-1", "flush.ms": "1"}, map[string]string{"message.max.bytes": "4000"}, nil, "-1ms 5000 3h0m0s 1ms"},
		{"negative time of the broker is forever", nil, map[string]string{"log.retention.ms": "-5"}, nil, "-1ms 2000 3h0m0s 9ms"},
	} {
		got, err := TopicFrom(c.own, c.broker, c.common, s)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if g := fmt.Sprint(got.Retention, " ", got.MaxMessageBytes, " ", got.SegmentAge, " ", got.FlushInterval); g != c.want {
			t.Errorf("%s: %s, want %s", c.name, g, c.want)
		}
	}
	for _, bad := range []map[string]string{
		{"retention.sm": "1"}, {"retention.ms": "x"},
		{"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"},
		{"remote.storage.enable": "true", "cleanup.policy": "compact"},
	} {
		if _, err := TopicFrom(bad, nil, nil, nil); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if small, err := TopicFrom(map[string]string{"internal.segment.bytes": "100"}, nil, nil, nil); err != nil || small.SegmentBytes != 100 {
		t.Errorf("internal.segment.bytes: %d, %v", small.SegmentBytes, err)
	}
}

func chainOf(d Described) string {
	show := func(v *string) string {
		if v == nil {
			return "null"
		}
		return *v
	}
	s := fmt.Sprint(show(d.Value), " ", d.Source)
	for _, y := range d.Synonyms {
		s += fmt.Sprintf(" | %s=%s %v", y.Name, show(y.Value), y.Source)
	}
	return s
}

func TestDescribe(t *testing.T) {
	s := load(t, Sources{Overrides: []string{"log.segment.bytes=2000000", "log.retention.hours=2", "ssl.key.password=secret", "listener.name.x.ssl.key.password=secret2"}})
	l := Layers{
		Own:            map[string]string{"segment.bytes": "3000000"},
		DynamicBroker:  map[string]string{"log.segment.bytes": "4000000", "log.retention.ms": "5"},
		DynamicDefault: map[string]string{"log.segment.bytes": "5000000"},
		Static:         s,
	}
	static := Layers{Static: s}
	for _, c := range []struct {
		name   string
		kind   Kind
		layers Layers
		key    string
		want   string
	}{
		{"all layers", KindTopic, l, "segment.bytes", "3000000 TOPIC_CONFIG | segment.bytes=3000000 TOPIC_CONFIG | log.segment.bytes=4000000 DYNAMIC_BROKER_CONFIG | log.segment.bytes=5000000 DYNAMIC_DEFAULT_BROKER_CONFIG | log.segment.bytes=2000000 STATIC_BROKER_CONFIG | log.segment.bytes=1073741824 DEFAULT_CONFIG"},
		{"stand-ins are left out before the first value", KindTopic, static, "retention.ms", "7200000 DEFAULT_CONFIG"},
		{"stand-ins after it are not", KindTopic, l, "retention.ms", "5 DYNAMIC_BROKER_CONFIG | log.retention.ms=5 DYNAMIC_BROKER_CONFIG | log.retention.hours=2 STATIC_BROKER_CONFIG | log.retention.hours=168 DEFAULT_CONFIG"},
		{"no broker key", KindTopic, l, "remote.storage.enable", "false DEFAULT_CONFIG"},
		{"broker key", KindBroker, static, "log.segment.bytes", "2000000 STATIC_BROKER_CONFIG | log.segment.bytes=2000000 STATIC_BROKER_CONFIG | log.segment.bytes=1073741824 DEFAULT_CONFIG"},
		{"secret", KindBroker, static, "ssl.key.password", "null STATIC_BROKER_CONFIG | ssl.key.password=null STATIC_BROKER_CONFIG"},
		{"null key", KindBroker, static, "broker.rack", "null DEFAULT_CONFIG"},
		{"group key", KindGroup, Layers{Own: map[string]string{"share.auto.offset.reset": "earliest"}}, "share.auto.offset.reset", "earliest GROUP_CONFIG | share.auto.offset.reset=earliest GROUP_CONFIG | share.auto.offset.reset=latest DEFAULT_CONFIG"},
		{"group key from the broker", KindGroup, static, "consumer.session.timeout.ms", "45000 DEFAULT_CONFIG | group.consumer.session.timeout.ms=45000 DEFAULT_CONFIG"},
	} {
		d := Describe(c.kind, c.layers, []string{c.key})
		if len(d) != 1 || chainOf(d[0]) != c.want {
			t.Errorf("%s:\n got %v\nwant %s", c.name, d, c.want)
			if len(d) == 1 {
				t.Log(chainOf(d[0]))
			}
		}
	}
	all := Describe(KindBroker, static, nil)
	var listener, internal bool
	for _, d := range all {
		listener = listener || d.Name == "listener.name.x.ssl.key.password"
		internal = internal || d.Key.Internal
		if d.Sensitive != (d.Type == TypePassword) || d.ReadOnly != (d.Key.Update == ReadOnly) {
			t.Errorf("%s: sensitive %t, read-only %t", d.Name, d.Sensitive, d.ReadOnly)
		}
	}
	if !listener || internal {
		t.Errorf("listener key listed: %t; internal keys listed: %t", listener, internal)
	}
	if d := Describe(KindTopic, l, []string{"no.such.key"}); len(d) != 0 {
		t.Errorf("described %v", d)
	}
}
