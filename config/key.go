// Package config is the table of Kafka's configuration keys and the way from
// files, environment and flags to plain structs.
//
// The facts of a key (type, default, bounds, who may change it while the broker
// runs) are those of Kafka 4.3.1. They stand in tables/, one line a key, and are
// parsed on first use.
package config

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Kind says whose keys a table holds.
type Kind uint8

const (
	KindBroker Kind = iota
	KindTopic
	KindGroup
	KindProducer
	KindConsumer
	KindAdmin
	KindQuota
	KindClientMetrics
	numKinds
)

var kindNames = [numKinds]string{"broker", "topic", "group", "producer", "consumer", "admin", "quota", "client-metrics"}

// String returns the kind in lower case, such as "topic".
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Type is the type of a key's value. The numbers are those of DescribeConfigs.
type Type int8

const (
	TypeBoolean  Type = 1
	TypeString   Type = 2
	TypeInt      Type = 3
	TypeShort    Type = 4
	TypeLong     Type = 5
	TypeDouble   Type = 6
	TypeList     Type = 7
	TypeClass    Type = 8
	TypePassword Type = 9
)

var typeNames = [...]string{"unknown", "boolean", "string", "int", "short", "long", "double", "list", "class", "password"}

// String returns Kafka's name of the type in lower case.
func (t Type) String() string {
	if t >= 0 && int(t) < len(typeNames) {
		return typeNames[t]
	}
	return typeNames[0]
}

// Update says how a broker key may change while the broker runs.
type Update uint8

const (
	ReadOnly    Update = iota // with a restart only
	PerBroker                 // on one broker at a time
	ClusterWide               // on one broker or on all
)

// String returns Kafka's word for it.
func (u Update) String() string {
	return [...]string{"read-only", "per-broker", "cluster-wide"}[u]
}

// Acted says whether klamm does what a key asks for.
type Acted uint8

const (
	ActedNo      Acted = iota // accepted and ignored, with a warning when set
	ActedPlanned              // as ActedNo, but meant to come
	ActedYes
)

// String returns "yes", "no" or "planned".
func (a Acted) String() string { return [...]string{"no", "planned", "yes"}[a] }

// Synonym is a broker key that gives a topic or group key its value; the
// broker's value counts times Factor.
type Synonym struct {
	Name   string
	Factor int64
}

// Key is one row of a table.
type Key struct {
	Name       string
	Type       Type
	Default    *string // nil: null
	Required   bool    // no default: Kafka demands a value
	Valid      string  // Kafka's words for the values allowed, "" for any
	Importance string  // high, medium, low
	Internal   bool    // not listed to clients
	Update     Update  // of broker keys; topic and group keys always change at once
	Unit       string  // ms, bytes, ...; "" if the name tells none
	Doc        string  // one sentence, "" for keys of little importance
	Synonyms   []Synonym
	Acted      Acted
}

// Sensitive reports whether values must not be shown.
func (k *Key) Sensitive() bool { return k.Type == TypePassword }

//go:embed tables/*.tsv
var tables embed.FS

type table struct {
	once   sync.Once
	keys   []Key
	byName map[string]*Key
}

var loaded [numKinds]table

func tableOf(kind Kind) *table {
	if kind >= numKinds {
		panic(fmt.Sprintf("config: %v", kind))
	}
	t := &loaded[kind]
	t.once.Do(func() { t.load(kind) })
	return t
}

// load parses the table of a kind. The tables are part of the program: one that
// does not parse is a broken build, which the package's tests catch.
func (t *table) load(kind Kind) {
	b, err := tables.ReadFile("tables/" + kind.String() + ".tsv")
	if err != nil {
		panic(err)
	}
	text := string(b)
	head, text, _ := strings.Cut(text, "\n")
	columns := strings.Split(head, "\t")
	t.keys = make([]Key, 0, strings.Count(text, "\n"))
	t.byName = make(map[string]*Key, cap(t.keys))
	docs := docsOf(kind)
	for line := range strings.Lines(text) {
		var k Key
		rest := strings.TrimSuffix(line, "\n")
		for _, c := range columns {
			var cell string
			cell, rest, _ = strings.Cut(rest, "\t")
			k.set(c, cell)
		}
		k.Unit = unitOf(k.Name)
		k.Doc = docs[k.Name]
		t.keys = append(t.keys, k)
		t.byName[k.Name] = &t.keys[len(t.keys)-1]
	}
	actedOn(kind, t.keys)
}

func (k *Key) set(column, cell string) {
	switch column {
	case "name":
		k.Name = cell
	case "type":
		k.Type = Type(slices.Index(typeNames[:], cell))
	case "default":
		switch cell {
		case "null":
		case "REQUIRED":
			k.Required = true
		case `""`, "[]":
			k.Default = new(string)
		default:
			k.Default = &cell
		}
	case "valid":
		if cell != "-" {
			k.Valid = cell
		}
	case "importance":
		k.Importance = cell
	case "internal":
		k.Internal = cell == "yes"
	case "update":
		k.Update = map[string]Update{"per-broker": PerBroker, "cluster-wide": ClusterWide}[cell]
	case "broker_synonyms", "broker_synonym":
		k.Synonyms = parseSynonyms(cell)
	}
}

// parseSynonyms reads "a,b(*60000)".
func parseSynonyms(cell string) (all []Synonym) {
	if cell == "-" {
		return nil
	}
	for s := range strings.SplitSeq(cell, ",") {
		name, factor, times := strings.Cut(strings.TrimSuffix(s, ")"), "(*")
		syn := Synonym{name, 1}
		if times {
			if _, err := fmt.Sscan(factor, &syn.Factor); err != nil {
				panic(fmt.Sprintf("config: synonym %q: %v", s, err))
			}
		}
		all = append(all, syn)
	}
	return all
}

// unitOf finds the unit by the end of a key's name.
func unitOf(name string) string {
	for _, u := range [...]struct{ end, unit string }{
		{".bytes.per.second", "bytes/s"}, {".bytes", "bytes"}, {".ms", "ms"}, {".millis", "ms"},
		{".minutes", "minutes"}, {".hours", "hours"}, {".seconds", "seconds"}, {".secs", "seconds"},
		{".memory", "bytes"}, {".buffer.size", "bytes"}, {".percentage", "percent"}, {"_percentage", "percent"},
		{"_byte_rate", "bytes/s"}, {"batch.size", "bytes"}, {"max.request.size", "bytes"}, {".size.max.bytes", "bytes"},
		{".bytes.between.snapshots", "bytes"}, {".size.in.bytes", "bytes"}, {".max.receive.size", "bytes"},
	} {
		if strings.HasSuffix(name, u.end) {
			return u.unit
		}
	}
	return ""
}

// Keys returns the keys of a kind, sorted by name, internal ones included.
func Keys(kind Kind) []Key { return slices.Clone(tableOf(kind).keys) }

// onlyDynamic are the broker keys that can be set while the broker runs, and are
// not there otherwise.
var onlyDynamic = map[string]bool{"leader.replication.throttled.rate": true, "follower.replication.throttled.rate": true,
	"replica.alter.log.dirs.io.max.bytes.per.second": true}

// Lookup finds a key. A broker key may be meant for one listener, as
// listener.name.<listener>.[<mechanism>.]<key>; the key returned then has that
// whole name. Broker keys of plug-ins (rsm.config., rlmm.config.) are known as
// strings.
func Lookup(kind Kind, name string) (*Key, bool) {
	t := tableOf(kind)
	if k, ok := t.byName[name]; ok {
		return k, true
	}
	if kind != KindBroker {
		return nil, false
	}
	if onlyDynamic[name] {
		k := *tableOf(KindQuota).byName[name]
		k.Default, k.Update = nil, ClusterWide
		return &k, true
	}
	if strings.HasPrefix(name, "rsm.config.") || strings.HasPrefix(name, "rlmm.config.") {
		return &Key{Name: name, Type: TypeString, Importance: "low"}, true
	}
	rest, ok := strings.CutPrefix(name, "listener.name.")
	if !ok {
		return nil, false
	}
	for range 2 { // the listener's and the mechanism's name may not contain dots
		if _, rest, ok = strings.Cut(rest, "."); ok {
			if base, found := t.byName[rest]; found {
				k := *base
				k.Name, k.Default, k.Required, k.Update = name, nil, false, PerBroker
				return &k, true
			}
		}
	}
	return nil, false
}

// OfClient reports whether a client of any kind has a key of that name.
func OfClient(name string) bool {
	return slices.ContainsFunc([]Kind{KindProducer, KindConsumer, KindAdmin}, func(kind Kind) bool {
		_, ok := Lookup(kind, name)
		return ok
	})
}

// UnknownKeyError says that no key has a name, and which comes nearest.
type UnknownKeyError struct {
	Kind    Kind
	Name    string
	Nearest string // "" if nothing comes near, or the key is retired
	Retired bool   // Kafka had it before 4.0
	Instead string // of a retired key, "" if nothing takes its place
}

// Typo reports whether the name looks like another key, and not like one that is
// meant for something else, such as a plug-in.
func (e *UnknownKeyError) Typo() bool { return e.Nearest != "" }

// Error implements error.
func (e *UnknownKeyError) Error() string {
	s := fmt.Sprintf("unknown %s key %q", e.Kind, e.Name)
	if e.Retired {
		s += ": only Kafka before 4.0 had it"
		if e.Instead != "" {
			s += "; " + e.Instead
		}
	}
	if e.Nearest != "" {
		s += fmt.Sprintf(", did you mean %q?", e.Nearest)
	}
	return s
}

func unknown(kind Kind, name string) error {
	if instead, ok := Retired(kind, name); ok {
		return &UnknownKeyError{Kind: kind, Name: name, Retired: true, Instead: instead}
	}
	return &UnknownKeyError{Kind: kind, Name: name, Nearest: Nearest(kind, name)}
}

// maxEdits is how many letters a name may be away from a key to be taken for it,
// however long it is: a longer prefix belongs to somebody else.
const maxEdits = 6

// Nearest returns the key whose name takes the fewest edits to become name; if
// that is more than a third of its letters, or maxEdits, the shortest key that
// begins with name, or "".
func Nearest(kind Kind, name string) string {
	best, bestDistance := "", min(len(name)/3, maxEdits)+1
	for i := range tableOf(kind).keys {
		k := &tableOf(kind).keys[i]
		if d := editDistance(name, k.Name, bestDistance); d < bestDistance {
			best, bestDistance = k.Name, d
		}
	}
	if best != "" || name == "" {
		return best
	}
	for _, k := range tableOf(kind).keys {
		if strings.HasPrefix(k.Name, name+".") && (best == "" || len(k.Name) < len(best)) {
			best = k.Name
		}
	}
	return best
}

// editDistance counts the letters to insert, delete, change or swap with their
// neighbour to get from a to b; limit or more is returned as limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return min(prev[len(b)], limit)
}
