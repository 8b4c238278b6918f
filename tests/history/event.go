// Package history checks what clients of a cluster saw: every operation, when it was invoked and
// when it returned, and what it was told. It knows nothing of how the cluster works.
//
// A value is an integer that is sent once in a whole history, so that a record that is read
// names the send that it comes from.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// Kind is what a process did.
type Kind string

// The kinds of events.
const (
	Send         Kind = "send"         // wrote records, in this order
	Assign       Kind = "assign"       // took partitions to read, from offsets on
	Poll         Kind = "poll"         // read records, in this order
	CommitOffset Kind = "commitOffset" // committed offsets of Event.Group
	FetchOffset  Kind = "fetchOffset"  // asked for committed offsets of Event.Group; -1 is none
	End          Kind = "end"          // asked for the end of partitions (ListOffsets, latest)
	Admin        Kind = "admin"        // changed or described Event.Name
	ProducerID   Kind = "producerId"   // was given Event.Count producer ids from Event.First on
)

// Status is how an operation ended.
type Status string

// The ends of an operation. What is not known to have happened or not is Info, and may happen
// at any later time.
const (
	OK   Status = "ok"
	Fail Status = "fail"
	Info Status = "info"
)

// Forever is when an operation has returned whose end nobody saw.
const Forever = math.MaxInt64

// Event is one operation of one process. The events of a history are in the order in which they
// were invoked.
type Event struct {
	Process  int    `json:"process"`
	Kind     Kind   `json:"kind"`
	Invoked  int64  `json:"invoked"`  // in nanoseconds since the history began
	Returned int64  `json:"returned"` // Forever if it has not
	Status   Status `json:"status"`
	Error    string `json:"error,omitempty"`
	Ops      []Op   `json:"ops,omitempty"`

	// Of a send: the producer is idempotent, so that no record is there twice and the records of
	// the process are in the order in which it sent them.
	Idempotent bool `json:"idempotent,omitempty"`
	// Of a poll: the process reads what it was assigned last, and no group moves it.
	Assigned bool `json:"assigned,omitempty"`
	// Of a poll: the process reads each of its partitions from the beginning to the end, after
	// everything else has come to rest.
	Final bool `json:"final,omitempty"`

	Group string `json:"group,omitempty"` // of commitOffset and fetchOffset

	Action Action `json:"action,omitempty"` // of an admin event
	Name   string `json:"name,omitempty"`   // the topic that it is about
	Count  int64  `json:"count,omitempty"`  // partitions, asked for or described; producer ids
	First  int64  `json:"first,omitempty"`  // producer id
}

// Op is one record, or one partition, of an event.
type Op struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Value     int64  `json:"value"`
	Offset    int64  `json:"offset"` // -1 if it is not known
	Epoch     int32  `json:"epoch,omitempty"`
}

// Partition names a partition.
type Partition struct {
	Topic string
	Index int32
}

func (p Partition) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.Index) }

func (o Op) at() Partition { return Partition{o.Topic, o.Partition} }

// String tells an event in one line, with at most a few of its operations.
func (e Event) String() string {
	end := "never"
	if e.Returned != Forever {
		end = fmt.Sprintf("%.3f s", seconds(e.Returned))
	}
	s := fmt.Sprintf("process %d %s [%.3f s, %s] %s", e.Process, e.Kind, seconds(e.Invoked), end, e.Status)
	if e.Group != "" {
		s += " group " + e.Group
	}
	if e.Action != "" {
		s += fmt.Sprintf(" %s %s %d", e.Action, e.Name, e.Count)
	}
	for i, o := range e.Ops {
		if i == 4 {
			s += fmt.Sprintf(" and %d more", len(e.Ops)-i)
			break
		}
		s += fmt.Sprintf(" %s@%d=%d", o.at(), o.Offset, o.Value)
	}
	if e.Error != "" {
		s += ": " + e.Error
	}
	return s
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }

// Write writes a history, one event a line.
func Write(w io.Writer, events []Event) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for i := range events {
		if err := enc.Encode(&events[i]); err != nil {
			return err
		}
	}
	return b.Flush()
}

// Read reads what Write wrote.
func Read(r io.Reader) (events []Event, err error) {
	dec := json.NewDecoder(bufio.NewReader(r))
	dec.DisallowUnknownFields()
	for {
		var e Event
		if err := dec.Decode(&e); err == io.EOF {
			return events, nil
		} else if err != nil {
			return nil, fmt.Errorf("event %d of a history: %w", len(events), err)
		}
		events = append(events, e)
	}
}
