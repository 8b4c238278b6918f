package config

import (
	"bufio"
	"compress/gzip"
	"os"
	"strings"
	"testing"
	"time"
)

var allKinds = []Kind{KindBroker, KindTopic, KindGroup, KindProducer, KindConsumer, KindAdmin, KindQuota, KindClientMetrics}

// facts reads the protocol's table of a kind, by column name.
func facts(t *testing.T, kind Kind) (rows []map[string]string) {
	t.Helper()
	f, err := os.Open("testdata/" + kind.String() + ".tsv.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(z)
	s.Scan()
	columns := strings.Split(s.Text(), "\t")
	for s.Scan() {
		row := make(map[string]string)
		for i, cell := range strings.Split(s.Text(), "\t") {
			row[columns[i]] = cell
		}
		rows = append(rows, row)
	}
	if s.Err() != nil || len(rows) == 0 {
		t.Fatalf("%v: %d rows, %v", kind, len(rows), s.Err())
	}
	return rows
}

func TestTablesAreTheProtocols(t *testing.T) {
	for _, kind := range allKinds {
		rows := facts(t, kind)
		if got := len(Keys(kind)); got != len(rows) {
			t.Errorf("%v: %d keys, want %d", kind, got, len(rows))
		}
		for _, row := range rows {
			k, ok := Lookup(kind, row["name"])
			if !ok {
				t.Errorf("%v %s is missing", kind, row["name"])
				continue
			}
			def := "null"
			switch {
			case k.Required:
				def = "REQUIRED"
			case k.Default != nil && *k.Default == "":
				def = `""`
			case k.Default != nil:
				def = *k.Default
			}
			if want := strings.Replace(row["default"], "[]", `""`, 1); def != want {
				t.Errorf("%v %s: default %s, want %s", kind, k.Name, def, want)
			}
			if k.Type.String() != row["type"] {
				t.Errorf("%v %s: type %v, want %s", kind, k.Name, k.Type, row["type"])
			}
			if k.Importance != row["importance"] || k.Internal != (row["internal"] == "yes") {
				t.Errorf("%v %s: importance %s, internal %t, want %v", kind, k.Name, k.Importance, k.Internal, row)
			}
			if want := strings.TrimPrefix(row["valid"], "-"); k.Valid != want && row["valid"] != "-" {
				t.Errorf("%v %s: valid %q, want %q", kind, k.Name, k.Valid, want)
			}
			if u, ok := row["update"]; ok && k.Update.String() != u {
				t.Errorf("%s: update %v, want %s", k.Name, k.Update, u)
			}
		}
	}
}

// TestEveryRuleIsRead compiles the words of each key and tries its default.
func TestEveryRuleIsRead(t *testing.T) {
	for _, kind := range allKinds {
		for _, k := range Keys(kind) {
			if _, err := compile(&k); err != nil {
				t.Errorf("%v: %v", kind, err)
			}
			if k.Default == nil {
				continue
			}
			v, err := k.Normalize(*k.Default)
			if err != nil {
				t.Errorf("%v default: %v", kind, err)
			}
			if k.Type != TypePassword && v != *k.Default {
				if k.Type != TypeDouble && k.Type != TypeList {
					t.Errorf("%v %s: default %q reads as %q", kind, k.Name, *k.Default, v)
				}
			}
		}
	}
}

func TestSynonymsExist(t *testing.T) {
	for _, kind := range []Kind{KindTopic, KindGroup} {
		n := 0
		for _, k := range Keys(kind) {
			for _, s := range k.Synonyms {
				n++
				b, ok := Lookup(KindBroker, s.Name)
				if !ok {
					t.Errorf("%s: no broker key %s", k.Name, s.Name)
					continue
				}
				if s.Factor != 1 && b.Type != TypeInt && b.Type != TypeLong {
					t.Errorf("%s: factor %d on type %v", s.Name, s.Factor, b.Type)
				}
			}
		}
		if n == 0 {
			t.Errorf("%v: no synonyms", kind)
		}
	}
	k, _ := Lookup(KindTopic, "retention.ms")
	if len(k.Synonyms) != 3 || k.Synonyms[2] != (Synonym{"log.retention.hours", 3600000}) {
		t.Errorf("retention.ms: %v", k.Synonyms)
	}
}

func TestListsNameKeys(t *testing.T) {
	for kind, list := range map[Kind]string{KindBroker: brokerActed, KindTopic: topicActed + topicPlanned,
		KindProducer: producerActed, KindConsumer: consumerActed, KindAdmin: adminActed} {
		for w := range words(list) {
			if _, ok := Lookup(kind, w); !ok {
				t.Errorf("%v: the list of keys acted on names %q, which is none", kind, w)
			}
		}
	}
	for _, kind := range allKinds {
		for name := range docsOf(kind) {
			if _, ok := Lookup(kind, name); !ok {
				t.Errorf("%v: a sentence on %q, which is no key", kind, name)
			}
		}
	}
	for _, k := range Keys(KindTopic) {
		if k.Doc == "" && k.Importance == "high" {
			t.Errorf("%s has no sentence", k.Name)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct {
		kind     Kind
		in, want string
	}{
		{KindTopic, "retention.sm", "retention.ms"},
		{KindTopic, "retention", "retention.ms"},
		{KindTopic, "segmentbytes", "segment.bytes"},
		{KindBroker, "num.io.thread", "num.io.threads"},
		{KindBroker, "lisetners", "listeners"},
		{KindProducer, "linger", "linger.ms"},
		{KindTopic, "zzz", ""},
		{KindTopic, "", ""},
	} {
		if got := Nearest(c.kind, c.in); got != c.want {
			t.Errorf("Nearest(%v, %q) = %q, want %q", c.kind, c.in, got, c.want)
		}
	}
}

func TestListenerKeys(t *testing.T) {
	for name, base := range map[string]Type{
		"listener.name.internal.ssl.keystore.password":          TypePassword,
		"listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": TypePassword,
		"listener.name.external.max.connections":                TypeInt,
		"rsm.config.bucket":                                     TypeString,
	} {
		if k, ok := Lookup(KindBroker, name); !ok || k.Type != base || k.Name != name {
			t.Errorf("Lookup(%s) = %v, %t", name, k, ok)
		}
	}
	for _, name := range []string{"listener.name.x", "listener.name.x.nothing", "listener.name.", "sasl"} {
		if _, ok := Lookup(KindBroker, name); ok {
			t.Errorf("%s was found", name)
		}
	}
}

// TestParsingIsFast: the tables are read in every start of every command.
func TestParsingIsFast(t *testing.T) {
	best := time.Hour
	for range 20 {
		var tab table
		start := time.Now()
		tab.load(KindBroker)
		best = min(best, time.Since(start))
	}
	if best > 5*time.Millisecond {
		t.Errorf("reading the broker's table takes %v", best)
	}
	t.Logf("broker table in %v", best)
}
