package history

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The events of hand-made histories. Times are in steps: an event is invoked at from and returns
// at to.

func sent(process int, from, to int64, status Status, ops ...Op) Event {
	return Event{Process: process, Kind: Send, Invoked: from, Returned: to, Status: status, Idempotent: true, Ops: ops}
}

func polled(process int, from, to int64, ops ...Op) Event {
	return Event{Process: process, Kind: Poll, Invoked: from, Returned: to, Status: OK, Assigned: true, Ops: ops}
}

func assigned(process int, from int64, offset int64) Event {
	return Event{Process: process, Kind: Assign, Invoked: from, Returned: from, Status: OK, Ops: []Op{{Topic: "t", Offset: offset}}}
}

func final(e Event) Event { e.Final = true; return e }

func (e Event) plain() Event { e.Idempotent = false; return e }

func (e Event) grouped() Event { e.Assigned = false; return e }

func rec(offset, value int64) Op { return Op{Topic: "t", Offset: offset, Value: value} }

func end(process int, from, to int64, epoch int32, offset int64) Event {
	return Event{Process: process, Kind: End, Invoked: from, Returned: to, Status: OK, Ops: []Op{{Topic: "t", Offset: offset, Epoch: epoch}}}
}

func ids(from, to, first, count int64) Event {
	return Event{Kind: ProducerID, Invoked: from, Returned: to, Status: OK, First: first, Count: count}
}

func TestHandMadeHistories(t *testing.T) {
	for _, c := range []struct {
		what   string
		events []Event
		want   string // the names of the anomalies
	}{
		{"nothing", nil, ""},
		{"what is sent is read", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 11)), final(assigned(2, 4, 0)), final(polled(2, 5, 6, rec(0, 10), rec(1, 11)))}, ""},
		{"an unknown send may be there or not", []Event{sent(1, 0, Forever, Info, rec(-1, 10)), sent(1, 1, Forever, Info, rec(-1, 11)), final(assigned(2, 4, 0)), final(polled(2, 5, 6, rec(0, 11)))}, ""},
		{"two values at an offset", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(2, 0, 1, Info, rec(-1, 11)), polled(3, 2, 3, rec(0, 10)), polled(4, 2, 3, rec(0, 11))}, "inconsistent-offset"},
		{"two sends are told one offset", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(2, 0, 1, OK, rec(0, 11))}, "inconsistent-offset"},
		{"a value at two offsets", []Event{sent(1, 0, 1, OK, rec(0, 10)), polled(3, 2, 3, rec(0, 10), rec(1, 10))}, "duplicate"},
		{"a producer that is not idempotent may make duplicates", []Event{sent(1, 0, 1, OK, rec(0, 10)).plain(), polled(3, 2, 3, rec(0, 10), rec(1, 10))}, ""},
		{"an acknowledged record that was read past", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 11)), polled(2, 4, 5, rec(1, 11))}, "lost-write"},
		{"an acknowledged record that is not there at the end", []Event{sent(1, 0, 1, OK, rec(0, 10)), polled(2, 2, 3, rec(0, 10)), final(assigned(3, 4, 0)), final(polled(3, 5, 6))}, "lost-write"},
		{"an unknown record that was read and is not there at the end", []Event{sent(1, 0, Forever, Info, rec(-1, 10)), polled(2, 2, 3, rec(0, 10)), final(assigned(3, 4, 0)), final(polled(3, 5, 6))}, "lost-write"},
		{"an acknowledged record past the end", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 11)), final(assigned(3, 4, 0)), final(polled(3, 5, 6, rec(0, 10)))}, "unseen"},
		{"an acknowledged record that nobody has come to", []Event{sent(1, 0, 1, OK, rec(0, 10))}, ""},
		{"a failed record is read", []Event{sent(1, 0, 1, Fail, rec(-1, 10)), polled(2, 2, 3, rec(0, 10))}, "failed-read"},
		{"a record that nobody sent", []Event{polled(2, 2, 3, rec(0, 10))}, "phantom"},
		{"a record of another topic", []Event{sent(1, 0, 1, OK, Op{Topic: "u", Value: 10}), polled(2, 2, 3, rec(0, 10))}, "misplaced"},
		{"a record that is sent later", []Event{polled(2, 0, 1, rec(0, 10)), sent(1, 2, 3, OK, rec(0, 10))}, "early-read realtime-order"},
		{"a poll goes back", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 11)), polled(2, 4, 5, rec(1, 11), rec(0, 10))}, "internal-nonmonotonic-poll"},
		{"a poll leaves one out", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 11)), sent(1, 3, 4, OK, rec(2, 12)), polled(3, 5, 6, rec(0, 10), rec(1, 11)), polled(2, 5, 6, rec(0, 10), rec(2, 12))}, "internal-poll-skip"},
		{"the next poll goes back", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 11)), assigned(2, 4, 0), polled(2, 4, 5, rec(0, 10), rec(1, 11)), polled(2, 6, 7, rec(0, 10))}, "nonmonotonic-poll"},
		{"the next poll leaves one out", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 11)), sent(1, 3, 4, OK, rec(2, 12)), polled(3, 5, 6, rec(0, 10), rec(1, 11)), assigned(2, 6, 0), polled(2, 6, 7, rec(0, 10)), polled(2, 8, 9, rec(2, 12))}, "poll-skip"},
		{"the first poll does not begin where it was told", []Event{sent(1, 0, 1, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 11)), polled(3, 4, 5, rec(0, 10)), assigned(2, 6, 0), polled(2, 7, 8, rec(1, 11))}, "poll-skip"},
		{"a new assignment may go back", []Event{sent(1, 0, 1, OK, rec(0, 10)), assigned(2, 4, 0), polled(2, 4, 5, rec(0, 10)), assigned(2, 6, 0), polled(2, 7, 8, rec(0, 10))}, ""},
		{"a group may go back", []Event{sent(1, 0, 1, OK, rec(0, 10)), polled(2, 4, 5, rec(0, 10)).grouped(), polled(2, 7, 8, rec(0, 10)).grouped()}, ""},
		{"a producer's records change places", []Event{sent(1, 0, 9, OK, rec(1, 10)), sent(1, 1, 9, OK, rec(0, 11))}, "nonmonotonic-send"},
		{"the records of one send change places", []Event{sent(1, 0, 9, OK, rec(1, 10), rec(0, 11))}, "internal-nonmonotonic-send"},
		{"a later record of another producer is before an earlier one", []Event{sent(1, 0, 1, OK, rec(1, 10)), sent(2, 2, 3, OK, rec(0, 11))}, "realtime-order"},
		{"a record is before one that was read before it was sent", []Event{sent(1, 0, 9, OK, rec(1, 10)), polled(3, 1, 2, rec(1, 10)), sent(2, 3, 9, OK, rec(0, 11)), polled(3, 10, 11, rec(0, 11))}, "realtime-order"},
		{"an unknown record is before one that was acknowledged before it was sent", []Event{sent(1, 0, 1, OK, rec(1, 10)), sent(2, 2, Forever, Info, rec(-1, 11)), polled(3, 3, 4, rec(0, 11), rec(1, 10))}, "realtime-order"},
		{"records sent at one time are in any order", []Event{sent(1, 0, 2, OK, rec(1, 10)), sent(2, 1, 3, OK, rec(0, 11))}, ""},
		{"the end goes back", []Event{end(1, 0, 1, 5, 7), end(2, 2, 3, 5, 6)}, "end-went-back"},
		{"the end may be lower in another epoch", []Event{end(1, 0, 1, 5, 7), end(2, 2, 3, 4, 6)}, ""},
		{"the end may be lower for one who asked before", []Event{end(2, 0, 3, 5, 6), end(1, 1, 2, 5, 7)}, ""},
		{"a producer id twice", []Event{ids(0, 1, 7, 1), ids(2, 3, 7, 1)}, "producer-id-twice"},
		{"a producer id in a block", []Event{ids(0, 1, 0, 10), ids(2, 3, 3, 1), ids(4, 5, 7, 1)}, "producer-id-twice producer-id-twice"},
		{"producer ids in any order", []Event{ids(0, 1, 1000, 1), ids(2, 3, 0, 1)}, ""},
	} {
		report, err := Check(c.events, Options{})
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		var got []string
		for _, a := range report.Anomalies {
			got = append(got, a.Name)
			if !strings.Contains(report.String(), a.Detail) || len(a.Events) == 0 {
				t.Errorf("%s: the report does not tell of %+v:\n%s", c.what, a, report)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q, want %q\n%s", c.what, strings.Join(got, " "), c.want, report)
		}
	}
}

// A topic that may lose records may not have any that nobody sent, nor any twice.
func TestLossyTopics(t *testing.T) {
	o := Options{Lossy: func(topic string) bool { return topic == "t" }}
	lost := []Event{sent(1, 0, 1, OK, rec(0, 10)), polled(3, 2, 3, rec(0, 10)), sent(1, 4, 5, OK, rec(0, 11)), final(assigned(2, 6, 0)), final(polled(2, 7, 8, rec(0, 11)))}
	if r, err := Check(lost, o); err != nil || len(r.Anomalies) != 0 {
		t.Error(r, err)
	}
	if r, err := Check(lost, Options{}); err != nil || len(r.Anomalies) == 0 {
		t.Error(r, err)
	}
	for name, e := range map[string]Event{"phantom": polled(2, 9, 10, rec(1, 99)), "duplicate": polled(2, 9, 10, rec(1, 11))} {
		r, err := Check(append(lost[:len(lost):len(lost)], final(e)), o)
		if err != nil || len(r.Anomalies) != 1 || r.Anomalies[0].Name != name {
			t.Error(name, r, err)
		}
	}
}

func TestHistoriesThatMakeNoSense(t *testing.T) {
	for want, events := range map[string][]Event{
		"is sent by":     {sent(1, 0, 1, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 10))},
		"invoked before": {sent(1, 5, 6, OK, rec(0, 10)), sent(1, 2, 3, OK, rec(1, 11))},
		"returns before": {sent(1, 5, 4, OK, rec(0, 10))},
	} {
		if _, err := Check(events, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error that says %q", err, want)
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	r := NewRecorder()
	p := r.Begin(Event{Process: r.Process(), Kind: Send, Idempotent: true, Ops: []Op{rec(-1, r.Value())}})
	r.Begin(Event{Process: r.Process(), Kind: Poll, Assigned: true, Final: true}).End(Info, errTest, nil)
	r.Begin(Event{Kind: CommitOffset, Group: "g", Ops: []Op{rec(7, 0)}}).End(Fail, errTest, nil)
	r.Begin(Event{Kind: Admin, Action: Grow, Name: "t", Count: 3}).With(OK, nil, func(e *Event) { e.First = 4 })
	p.End(OK, nil, []Op{rec(0, 1)})
	events := r.Events()
	if len(events) != 4 || events[0].Status != OK || events[0].Ops[0].Offset != 0 || events[0].Returned == Forever || events[1].Returned != Forever {
		t.Fatalf("recorded %+v", events)
	}
	var b bytes.Buffer
	if err := Write(&b, events); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != len(events) {
		t.Errorf("%d lines, want %d", n, len(events))
	}
	got, err := Read(strings.NewReader(b.String()))
	if err != nil || !reflect.DeepEqual(got, events) {
		t.Errorf("read %+v, %v, want %+v", got, err, events)
	}
	if _, err := Read(strings.NewReader(b.String() + "{\"proces\":1}\n")); err == nil || !strings.Contains(err.Error(), "event 4") {
		t.Errorf("a line that is no event: %v", err)
	}
}

type testError string

func (e testError) Error() string { return string(e) }

const errTest = testError("it failed")

// The models, by histories of single registers.
func TestModels(t *testing.T) {
	commit := func(from, to int64, status Status, offset int64) Event {
		return Event{Kind: CommitOffset, Group: "g", Invoked: from, Returned: to, Status: status, Ops: []Op{rec(offset, 0)}}
	}
	fetch := func(from, to int64, offset int64) Event {
		return Event{Kind: FetchOffset, Group: "g", Invoked: from, Returned: to, Status: OK, Ops: []Op{rec(offset, 0)}}
	}
	topic := func(from, to int64, action Action, count int64, status Status) Event {
		return Event{Kind: Admin, Action: action, Name: "x", Count: count, Invoked: from, Returned: to, Status: status}
	}
	for _, c := range []struct {
		what   string
		events []Event
		good   bool
	}{
		{"no offset yet", []Event{fetch(0, 1, -1)}, true},
		{"an offset out of nowhere", []Event{fetch(0, 1, 0)}, false},
		{"what was committed is told", []Event{commit(0, 1, OK, 5), fetch(2, 3, 5)}, true},
		{"a lost commit", []Event{commit(0, 1, OK, 5), fetch(2, 3, -1)}, false},
		{"an old commit is told", []Event{commit(0, 1, OK, 5), commit(2, 3, OK, 6), fetch(4, 5, 5)}, false},
		{"a commit under way is told or not", []Event{commit(0, 9, OK, 5), fetch(1, 2, -1), fetch(3, 4, 5)}, true},
		{"a commit under way is told and then not", []Event{commit(0, 9, OK, 5), fetch(1, 2, 5), fetch(3, 4, -1)}, false},
		{"an unknown commit happens late", []Event{commit(0, Forever, Info, 5), commit(1, 2, OK, 6), fetch(3, 4, 6), fetch(5, 6, 5)}, true},
		{"a failed commit is told", []Event{commit(0, 1, Fail, 5), fetch(2, 3, 5)}, false},
		{"a topic is made and deleted", []Event{topic(0, 1, Create, 3, OK), topic(2, 3, Describe, 3, OK), topic(4, 5, Delete, 0, OK), topic(6, 7, Describe, 0, OK)}, true},
		{"a topic is made twice", []Event{topic(0, 1, Create, 3, OK), topic(2, 3, Create, 3, OK)}, false},
		{"a topic is there already", []Event{topic(0, 1, Create, 3, OK), topic(2, 3, Create, 3, Fail)}, true},
		{"a topic is there already, and nobody has made it", []Event{topic(2, 3, Create, 3, Fail)}, false},
		{"a topic that is not there is deleted", []Event{topic(2, 3, Delete, 0, OK)}, false},
		{"a topic that was made is gone", []Event{topic(0, 1, Create, 3, OK), topic(2, 3, Delete, 0, Fail)}, false},
		{"a topic shrinks", []Event{topic(0, 1, Create, 3, OK), topic(2, 3, Grow, 5, OK), topic(4, 5, Describe, 3, OK)}, false},
		{"a topic grows to what it has", []Event{topic(0, 1, Create, 3, OK), topic(2, 3, Grow, 3, OK)}, false},
		{"an unknown create is there", []Event{topic(0, Forever, Create, 3, Info), topic(2, 3, Describe, 3, OK)}, true},
		{"an unknown create is not there", []Event{topic(0, Forever, Create, 3, Info), topic(2, 3, Describe, 0, OK)}, true},
		{"an unknown create has half its partitions", []Event{topic(0, Forever, Create, 3, Info), topic(2, 3, Describe, 1, OK)}, false},
		{"a describe that failed says nothing", []Event{topic(2, 3, Describe, 1, Info)}, true},
		{"blocks follow each other", []Event{ids(0, 1, 0, 1000), ids(2, 3, 1000, 1000)}, true},
		{"blocks that were asked for at once", []Event{ids(0, 5, 1000, 1000), ids(1, 6, 0, 1000)}, true},
		{"a block twice", []Event{ids(0, 5, 1000, 1000), ids(1, 6, 1000, 1000)}, false},
		{"blocks that overlap", []Event{ids(0, 1, 0, 1000), ids(2, 3, 500, 1000)}, false},
		{"a block from before", []Event{ids(0, 1, 1000, 1000), ids(2, 3, 0, 1000)}, false},
	} {
		bad, unknown := Linearizable(c.events, time.Minute)
		if (len(bad) == 0) != c.good || len(unknown) != 0 {
			t.Errorf("%s: %v, unknown %v", c.what, bad, unknown)
		}
	}
}
