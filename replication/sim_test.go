package replication

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
)

// sim is a cluster of brokers in virtual time. What decides is the code of klamm: the
// partitions with their logs, the replicas that follow the metadata, the controller. The
// sim stands for what carries requests between them, for the timers, the disks and the
// quorum, and everything happens in one goroutine, in the order of one heap of events: a
// seed and a plan repeat a run to the last byte.
//
// What happens, happens in an event of one process. After it, check looks at what has
// changed.
type sim struct {
	plan  plan
	at    time.Duration // since the beginning
	queue events
	seq   uint64
	count int // events so far

	net    *rand.Rand // decides on delays and losses
	work   *rand.Rand // on what clients do
	static *config.Static

	disks   map[int32]*vfs.Mem
	procs   map[int32]*process // that run
	runs    map[int32]int      // processes that each broker has had
	dirty   map[int32]bool     // brokers that may have lost something and are not in sync again
	blocked map[[2]int32]bool  // from one broker to another nothing comes through
	slow    map[[2]int32]bool
	// held are the messages from one broker to another that a scenario keeps back.
	held map[[2]int32][]func()
	// behind is the index that a broker applies no metadata beyond.
	behind map[int32]uint64

	quorum *quorum.Ideal
	leader *process // of the quorum, nil for none
	// appointed means that a scenario says who leads the quorum.
	appointed bool
	image     *meta.Image
	check     *checker

	clients []*producer
	quiet   bool // producers begin nothing new

	failure *failure
	hash    uint64
	lines   []string
	keep    int // lines of the trace
	stats   map[string]int
}

// failure is what a check has found.
type failure struct {
	check string // the rule that does not hold
	text  string
}

func (f *failure) String() string { return f.check + ": " + f.text }

// event is something that happens to a process, or to the whole if p is nil.
type event struct {
	at   time.Duration
	seq  uint64
	p    *process
	what string
	f    func()
	over *bool // it does not happen any more; may be nil
}

type events []*event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *events) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return x
}

// simStart is when every run begins.
var simStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newSim(p plan, static *config.Static) *sim {
	s := &sim{plan: p, static: static, net: rand.New(rand.NewPCG(p.seed, 1)), work: rand.New(rand.NewPCG(p.seed, 2)),
		disks: make(map[int32]*vfs.Mem), procs: make(map[int32]*process), runs: make(map[int32]int), dirty: make(map[int32]bool), blocked: make(map[[2]int32]bool), slow: make(map[[2]int32]bool), held: make(map[[2]int32][]func()), behind: make(map[int32]uint64),
		quorum: new(quorum.Ideal), image: meta.Empty(), stats: make(map[string]int), keep: 60}
	s.check = newChecker(s)
	return s
}

// later has f run at a process after d, if it lives then.
func (s *sim) later(p *process, d time.Duration, what string, f func()) *event {
	e := &event{at: s.at + d, seq: s.seq, p: p, what: what, f: f}
	s.seq++
	heap.Push(&s.queue, e)
	return e
}

// every has f run at a process again and again.
func (s *sim) every(p *process, d time.Duration, what string, f func()) {
	s.later(p, d, what, func() {
		f()
		s.every(p, d, what, f)
	})
}

// fail notes the first thing that is wrong.
func (s *sim) fail(check, format string, args ...any) {
	if s.failure == nil {
		s.failure = &failure{check, fmt.Sprintf(format, args...)}
	}
}

// run runs events until end says so, or something is wrong.
func (s *sim) run(end func() bool) {
	for s.failure == nil && len(s.queue) > 0 && !end() {
		e := heap.Pop(&s.queue).(*event)
		if e.over != nil && *e.over || e.p != nil && e.p.dead {
			continue
		}
		if e.p != nil && e.p.frozen > s.at && e.p.frozen > e.at {
			e.at, e.seq = e.p.frozen, s.seq
			s.seq++
			heap.Push(&s.queue, e)
			continue
		}
		s.at = max(s.at, e.at)
		s.step(e)
	}
}

// step lets one event happen, and checks what has come of it.
func (s *sim) step(e *event) {
	defer func() {
		if x := recover(); x != nil {
			s.fail("panic", "%v\n%s", x, debug.Stack())
		}
	}()
	s.count++
	e.f()
	if e.p != nil && !e.p.dead {
		e.p.follow()
	}
	for _, id := range s.ids() {
		s.procs[id].pump()
	}
	s.note(e)
	s.check.after(e.p)
}

// ids returns the brokers that run, in order.
func (s *sim) ids() []int32 {
	out := make([]int32, 0, len(s.procs))
	for id := int32(1); id <= s.plan.brokers; id++ {
		if s.procs[id] != nil {
			out = append(out, id)
		}
	}
	return out
}

// note puts an event into the trace, with what it has made of the process.
func (s *sim) note(e *event) {
	who := "-"
	state := ""
	if e.p != nil {
		who = fmt.Sprintf("%d.%d", e.p.id, e.p.run)
		state = e.p.state()
	}
	line := fmt.Sprintf("%4d %9.6f %-4s %s%s", s.count, s.at.Seconds(), who, e.what, state)
	h := fnv.New64a()
	fmt.Fprintf(h, "%x", s.hash)
	h.Write([]byte(line))
	s.hash = h.Sum64()
	s.lines = append(s.lines, line)
	if len(s.lines) > 2*s.keep {
		s.lines = append(s.lines[:0], s.lines[len(s.lines)-s.keep:]...)
	}
}

// simClock is the clock of a process. Nothing that the sim runs waits for a timer of it.
type simClock struct {
	s    *sim
	skew *time.Duration
}

func (c simClock) Now() time.Time { return simStart.Add(c.s.at + *c.skew) }

func (c simClock) AfterFunc(time.Duration, func()) clock.Timer { return noTimer{} }

// noTimer is a timer that never runs.
type noTimer struct{}

func (noTimer) Stop() bool               { return true }
func (noTimer) Reset(time.Duration) bool { return true }
