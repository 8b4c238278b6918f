// Package driver is what the conformance suite asks of a Kafka client, whatever
// its language: operations that go in as one JSON object each and results that
// come out the same way.
//
// A driver for a client in Go implements Driver. A client of another language is
// a process that reads an Op a line on stdin and writes a Result a line on
// stdout, in the order of the operations.
package driver

import (
	"fmt"
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Op is one operation. Which fields count depends on Op.
type Op struct {
	Op        string `json:"op"`
	Topic     string `json:"topic,omitempty"` // of a join: several, with commas between them
	Partition int32  `json:"partition"`
	// Offset is where a consume starts, what delete_records deletes up to, and
	// what set_offset commits. Consume takes Earliest too.
	Offset int64 `json:"offset"`
	// Count is how many records a consume or poll waits for, and how many
	// partitions assignment waits for.
	Count int `json:"count"`

	Records    []Record `json:"records,omitempty"`
	Codec      string   `json:"codec,omitempty"` // none gzip snappy lz4 zstd
	Acks       string   `json:"acks,omitempty"`  // 0 1 all
	Idempotent bool     `json:"idempotent"`
	AutoCreate bool     `json:"autoCreate"` // ask for topics that are missing to be created
	// Transaction is a transactional id: the records are written in one
	// transaction of it, which Abort aborts. Only the Java driver knows both.
	Transaction string `json:"transaction,omitempty"`
	Abort       bool   `json:"abort,omitempty"`

	Group  string `json:"group,omitempty"`
	Member string `json:"member,omitempty"` // a name by which the suite knows an open group member
	Reset  string `json:"reset,omitempty"`  // earliest or latest, where nothing is committed

	Partitions   int32    `json:"partitions"`
	Replicas     int16    `json:"replicas"`
	ValidateOnly bool     `json:"validateOnly"`
	Resource     string   `json:"resource,omitempty"` // topic or broker
	Name         string   `json:"name,omitempty"`     // of the resource
	Configs      []Config `json:"configs,omitempty"`  // to set, alter, or describe (names only)
	// Timestamp is what list_offsets looks for: Unix milliseconds, or one of the
	// special timestamps.
	Timestamp int64 `json:"timestamp"`
}

// Special timestamps of list_offsets and special offsets of consume, as on the
// wire.
const (
	Latest       int64 = -1
	Earliest     int64 = -2
	MaxTimestamp int64 = -3
)

// Record is a record to write, or one that was read. A nil key or value is null,
// which is not the same as one of no bytes.
type Record struct {
	Topic     string   `json:"topic,omitempty"`
	Partition int32    `json:"partition"` // to write: -1 leaves it to the client's partitioner
	Offset    int64    `json:"offset"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []Header `json:"headers,omitempty"`
	Timestamp int64    `json:"timestamp"` // Unix milliseconds; to write: -1 means now
}

// Header is one header of a record. Keys may repeat; a value may be null.
type Header struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// Config is a config entry that was described, or a change to one.
type Config struct {
	Name     string  `json:"name"`
	Value    *string `json:"value"`
	Op       string  `json:"op,omitempty"`     // set delete append subtract
	Source   string  `json:"source,omitempty"` // as Kafka names it: DEFAULT_CONFIG
	ReadOnly bool    `json:"readOnly,omitempty"`
	// Synonyms are the values that this one hides, itself first, as
	// SOURCE:name=value.
	Synonyms []string `json:"synonyms,omitempty"`
}

// Result is what came of an operation.
type Result struct {
	// Error is empty, Kafka's name of the error that the broker returned such as
	// UNKNOWN_TOPIC_OR_PARTITION, or the client's own words after "client: ".
	Error string `json:"error,omitempty"`
	// Code is how processes report an error by its number; Do turns it into Error.
	Code int16 `json:"code,omitempty"`
	// Message is for people. It is not compared.
	Message string `json:"message,omitempty"`

	Records []Record `json:"records,omitempty"`
	Offset  int64    `json:"offset"`
	// Partitions is the number of partitions of a topic, or of those that a
	// member has been assigned.
	Partitions int      `json:"partitions"`
	Replicas   int      `json:"replicas"`
	State      string   `json:"state,omitempty"`   // of a group
	Members    int      `json:"members,omitempty"` // of a group
	Names      []string `json:"names,omitempty"`   // of topics or groups
	Configs    []Config `json:"configs,omitempty"`
	// Offsets are committed offsets as topic/partition=offset, sorted.
	Offsets []string `json:"offsets,omitempty"`
	// Lacks is the answer to hello: what the client cannot do, and why.
	Lacks map[string]string `json:"lacks,omitempty"`
}

// Driver drives one client against one broker. It is used by one goroutine.
type Driver interface {
	// Lacks returns what the client has no means to do, each with the reason.
	Lacks() map[string]string
	Do(Op) Result
	Close() error
}

// Capabilities are all names that Lacks may hold: the operations that some client
// has no means for, and what goes beyond one.
var Capabilities = []string{
	"alter_configs", "delete_records", "delete_offset",
	"none", "gzip", "snappy", "lz4", "zstd",
	"murmur2",              // the Java client's hash of keys
	"idempotent",           // an idempotent producer
	"no_auto_create",       // producing without letting the broker create the topic
	"null_headers",         // headers whose value is null
	"append_time",          // the time at which the broker appended, where it is the timestamp
	"max_timestamp",        // the offset of the largest timestamp
	"list_offsets_by_time", // the first offset at or after a timestamp, and -1 for none
	"out_of_range",         // an error for an offset that is out of range, not a reset
	"default_partitions",   // creating a topic with the broker's defaults
}

// Fail returns the result of an operation that failed with err, a Kafka error
// of code if it is not 0.
func Fail(code int16, err error) Result {
	r := Result{Code: code}
	if err != nil {
		r.Message = err.Error()
		if code == 0 {
			r.Error = "client: " + err.Error()
		}
	}
	return Normal(r)
}

// Unsupported is the result of an operation that a driver does not know.
func Unsupported(op Op) Result { return Result{Error: "client: no operation " + op.Op} }

// Normal names the error code and puts what has no order of its own in order.
func Normal(r Result) Result {
	if r.Code != 0 {
		if e := kerr.TypedErrorForCode(r.Code); e != nil {
			r.Error = e.Message
		} else {
			r.Error = fmt.Sprintf("error code %d", r.Code)
		}
		r.Code = 0
	}
	sort.SliceStable(r.Records, func(i, j int) bool {
		a, b := r.Records[i], r.Records[j]
		if a.Topic != b.Topic {
			return a.Topic < b.Topic
		}
		if a.Partition != b.Partition {
			return a.Partition < b.Partition
		}
		return a.Offset < b.Offset
	})
	sort.Strings(r.Names)
	sort.Strings(r.Offsets)
	sort.Slice(r.Configs, func(i, j int) bool { return r.Configs[i].Name < r.Configs[j].Name })
	return r
}

// Topics are the topics of a join.
func (op Op) Topics() []string { return strings.Split(op.Topic, ",") }

// Asks reports whether a describe asks for a config; it asks for all of them by
// naming none.
func (op Op) Asks(name string) bool {
	for _, c := range op.Configs {
		if c.Name == name {
			return true
		}
	}
	return len(op.Configs) == 0
}

// Synonym writes a synonym as Config.Synonyms has it.
func Synonym(source, name string, value *string) string {
	if value == nil {
		return source + ":" + name + "=null"
	}
	return source + ":" + name + "=" + *value
}

// Committed writes an offset as Result.Offsets has it.
func Committed(topic string, partition int32, offset int64) string {
	return fmt.Sprintf("%s/%d=%d", topic, partition, offset)
}
