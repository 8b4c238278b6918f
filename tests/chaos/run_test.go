package chaos_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/tests/history"
	"github.com/klamm-io/klamm/tests/systems"
)

// result is what is left of a run.
type result struct {
	plan   plan
	log    string // what the nemesis did
	events []history.Event
}

// topicsOf are the topics of a run: t, which producers and consumers use most, and one that is
// flushed before anything in it is acknowledged.
func topicsOf(w row) []topic {
	return []topic{
		{name: "t", partitions: 3, loses: w.loses, configs: map[string]string{"min.insync.replicas": "2"}},
		{name: "flushed", partitions: 2, configs: map[string]string{"min.insync.replicas": "2", "flush.messages": "1"}},
	}
}

// play runs the clients and the nemesis against a cluster that has started, and reads at the end
// what is there.
func play(t testing.TB, s system, w row, seed uint64, pace time.Duration, out *result) *load {
	l := &load{t: t, s: s, rec: history.NewRecorder(), topics: topicsOf(w), pace: pace}
	a := admin(t, s)
	defer a.Close()
	n := &nemesis{t: t, s: s, l: l, a: a, r: stream(seed, "nemesis"), began: time.Now()}
	defer func() { out.log, out.events = n.log.String(), l.rec.Events() }()
	l.create(a)
	l.run(seed, w.storm, w.foreign...)
	defer l.stop()
	time.Sleep(500 * time.Millisecond)
	n.run(out.plan)
	n.settle()
	before := acknowledged(l.rec.Events())
	time.Sleep(2 * time.Second)
	l.stop()
	if after := acknowledged(l.rec.Events()); after == before {
		t.Errorf("nothing was acknowledged after all was mended: %d records before that", before)
	}
	l.settle(a)
	l.final(a)
	l.describe()
	return l
}

// acknowledged counts the records that were.
func acknowledged(events []history.Event) (n int) {
	for _, e := range events {
		if e.Kind == history.Send && e.Status == history.OK {
			n++
		}
	}
	return n
}

// inMemory is a run in memory, inside a bubble.
func inMemory(t *testing.T, w row, seed uint64) {
	out := result{plan: w.plan(seed)}
	defer keep(t, w, seed, &out)
	began, simulated := time.Now(), time.Duration(0)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		m := startMemory(t, w.fills, w.config)
		l := play(t, m, w, seed, 40*time.Millisecond, &out)
		for _, topic := range l.topics {
			m.sameLogs(topic.name, topic.partitions)
		}
		simulated = time.Since(began)
	})
	t.Logf("%.0f s in %.1f s", simulated.Seconds(), time.Since(began).Seconds())
	judge(t, w, &out)
}

// inProcesses is a run with brokers that are processes, and waits that are shorter than planned.
func inProcesses(t *testing.T, of systems.Commands, w row, seed uint64, faster time.Duration) {
	out := result{plan: w.plan(seed).faster(faster)}
	defer keep(t, w, seed, &out)
	began := time.Now()
	play(t, startProcesses(t, of, w.links), w, seed, 20*time.Millisecond, &out)
	t.Logf("%.1f s", time.Since(began).Seconds())
	judge(t, w, &out)
}

// judge has the history checked.
func judge(t *testing.T, w row, out *result) {
	t.Helper()
	loses := make(map[string]bool)
	for _, topic := range topicsOf(w) {
		loses[topic.name] = topic.loses
	}
	report, err := history.Check(out.events, history.Options{Lossy: func(topic string) bool { return loses[topic] }})
	if err != nil {
		t.Fatal(err)
	}
	registers := out.events
	if w.loses {
		registers = nil
		for _, e := range out.events {
			if e.Kind != history.CommitOffset && e.Kind != history.FetchOffset {
				registers = append(registers, e)
			}
		}
	}
	bad, unknown := history.Linearizable(registers, 20*time.Second)
	report.Anomalies = append(report.Anomalies, bad...)
	for _, what := range unknown {
		t.Logf("it takes too long to tell whether %s is linearizable", what)
	}
	if len(report.Anomalies) > 0 {
		t.Errorf("%s", report)
	} else {
		t.Logf("%s", strings.TrimSpace(report.String()))
	}
}

// keep keeps the history and the plan of a run that failed.
func keep(t *testing.T, w row, seed uint64, out *result) {
	if !t.Failed() {
		return
	}
	folder := os.Getenv("CHAOS_DIR")
	if folder == "" {
		folder = os.TempDir()
	}
	folder, err := os.MkdirTemp(folder, fmt.Sprintf("chaos-%s-%d-", w.name, seed))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	err = history.Write(&b, out.events)
	for name, text := range map[string]string{"history.jsonl": b.String(), "plan": fmt.Sprintf("%s (%s), seed %d\n%s\n%s", w.name, w.about, seed, out.plan, out.log)} {
		if e := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err == nil {
			err = e
		}
	}
	t.Logf("%s (%s), seed %d\n%s\n%s", w.name, w.about, seed, out.plan, out.log)
	t.Logf("the history is kept in %s (%v)", folder, err)
}
