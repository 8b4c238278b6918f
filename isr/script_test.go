package isr_test

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/klamm-io/klamm/isr"
)

var update = flag.Bool("update", false, "write what the commands in testdata print anew")

// TestScripts runs the scripts in testdata: one command a line, and below ---- the
// state after each. Time begins at 0 and stands still but for "at".
//
//	leader id=1 replicas=1,2 isr=1,2 [min.insync.replicas=1] [end=0] [high-watermark=0]
//	append to=10                 the leader's log ends at 10 now
//	fetch replica=2 offset=7     a follower asks for offset 7
//	at 30s                       it is 30 s after the start
//	candidates                   who may join the in-sync set
//	lagging [max=30s]            who must leave it (replica.lag.time.max.ms)
//	propose 2                    broker 2 is about to join: AlterPartition was sent
//	commit [replicas=1,2,3] isr=1,2   the controller committed an in-sync set, and replicas
//	min.insync.replicas 2
func TestScripts(t *testing.T) {
	if *update {
		if err := flag.Set("rewrite", "true"); err != nil {
			t.Fatal(err)
		}
	}
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		b := bench{now: start}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return runEach(t, d, b.run) })
	})
}

// runEach runs the commands of a directive. Where there are several, each stands
// before what it prints.
func runEach(t *testing.T, d *datadriven.TestData, run func(command string, a args) string) string {
	var out strings.Builder
	lines := strings.Split(strings.TrimSpace(d.String()), "\n")
	width := 0
	for _, line := range lines {
		width = max(width, len(line))
	}
	for _, line := range lines {
		words := strings.Fields(line)
		a := args{t, d.Pos, make(map[string]string)}
		for _, w := range words[1:] {
			key, value, _ := strings.Cut(w, "=")
			a.of[key] = value
		}
		if len(lines) > 1 {
			fmt.Fprintf(&out, "%-*s  ", width, line)
		}
		fmt.Fprintln(&out, run(words[0], a))
		for key := range a.of {
			t.Fatalf("%s: %s does not take %s", d.Pos, words[0], key)
		}
	}
	return out.String()
}

// args are the arguments of a command. What it does not take is a mistake in the
// script.
type args struct {
	t   *testing.T
	pos string
	of  map[string]string
}

func (a args) take(key, otherwise string) string {
	if v, ok := a.of[key]; ok {
		delete(a.of, key)
		return v
	}
	return otherwise
}

// word is the argument of a command that has one, without a key.
func (a args) word() string {
	for w := range a.of {
		delete(a.of, w)
		return w
	}
	return ""
}

func (a args) number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		a.t.Fatalf("%s: %v", a.pos, err)
	}
	return n
}

func (a args) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		a.t.Fatalf("%s: %v", a.pos, err)
	}
	return d
}

func (a args) ids(s string) (out []int32) {
	for id := range strings.SplitSeq(s, ",") {
		out = append(out, int32(a.number(id)))
	}
	return out
}

// start is the time at 0s.
var start = time.Unix(0, 0)

// bench is a leader's state and the time.
type bench struct {
	s   *isr.State
	now time.Time
}

func (b *bench) run(command string, a args) string {
	before := int64(0)
	if b.s != nil {
		before = b.s.HighWatermark()
	}
	moved := false
	switch command {
	case "leader":
		before = a.number(a.take("high-watermark", "0"))
		b.s = isr.New(int32(a.number(a.take("id", ""))), a.ids(a.take("replicas", "")), a.ids(a.take("isr", "")), int(a.number(a.take("min.insync.replicas", "1"))),
			a.number(a.take("end", "0")), before, b.now)
		moved = b.s.HighWatermark() > before
	case "append":
		moved = b.s.Appended(a.number(a.take("to", "")))
	case "fetch":
		moved = b.s.Fetched(int32(a.number(a.take("replica", ""))), a.number(a.take("offset", "")), b.now)
	case "at":
		b.now = start.Add(a.duration(a.word()))
		return "ok"
	case "candidates":
		return fmt.Sprint(b.s.Grow())
	case "lagging":
		return fmt.Sprint(b.s.Lagging(b.now, a.duration(a.take("max", "30s"))))
	case "propose":
		b.s.Propose(a.ids(a.word()))
	case "commit":
		inSync, replicas := a.ids(a.take("isr", "")), a.take("replicas", "")
		if replicas == "" {
			moved = b.s.Commit(inSync)
		} else {
			moved = b.s.Change(a.ids(replicas), inSync, b.now)
		}
	case "min.insync.replicas":
		moved = b.s.SetMinISR(int(a.number(a.word())))
	default:
		a.t.Fatalf("%s: no command %s", a.pos, command)
	}
	high := b.s.HighWatermark()
	if moved != (high > before) {
		a.t.Errorf("%s: %s said %t of a high watermark that went from %d to %d", a.pos, command, moved, before, high)
	}
	out := fmt.Sprintf("high watermark %d, log end %d, isr %v", high, b.s.End(), b.s.InSync())
	if moved {
		out = fmt.Sprintf("high watermark %d -> %d, log end %d, isr %v", before, high, b.s.End(), b.s.InSync())
	}
	if !b.s.Enough() {
		out += fmt.Sprintf(", below min.insync.replicas %d", b.s.MinISR())
	}
	return out
}
