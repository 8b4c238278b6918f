package replication

import (
	"errors"
	"fmt"
	"time"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// errLost means that an answer has not come.
var errLost = errors.New("no answer has come")

func (s *sim) reaches(from, to int32) bool { return from == to || !s.blocked[[2]int32{from, to}] }

// delay returns how long a message is on its way. Some are so late that nobody waits for
// their answers any more, and the process that sent them may have ended.
func (s *sim) delay(from, to int32) time.Duration {
	d := 100*time.Microsecond + time.Duration(s.net.Int64N(int64(2*time.Millisecond)))
	switch n := s.net.IntN(1000); {
	case n < s.plan.late:
		d = time.Duration(s.net.Int64N(int64(simLate)))
	case n < 4*s.plan.late:
		d *= 20
	}
	if s.slow[[2]int32{from, to}] {
		d *= 100
	}
	return min(d, simLate)
}

// call has f run at another process, and what it replies with run here. lost is called
// instead if there is no reply in time; f may have run then, and may yet.
func (p *process) call(to *process, what string, f func(reply func(func())), lost func()) {
	s := p.s
	if to == nil || to.dead {
		s.later(p, simAgain, what+" finds nobody", lost)
		return
	}
	over := new(bool)
	once := func(f func()) func() {
		return func() {
			*over = true
			f()
		}
	}
	s.later(p, simTimeout, what+" is not answered", once(lost)).over = over
	if !s.reaches(p.id, to.id) {
		return
	}
	s.carry(p.id, to, fmt.Sprintf("%s of %d.%d", what, p.id, p.run), func() {
		f(func(then func()) {
			if p.dead || *over || !s.reaches(to.id, p.id) {
				return
			}
			s.later(p, s.delay(to.id, p.id), what+" is answered", once(then)).over = over
		})
	})
}

// carry brings a message to a process.
func (s *sim) carry(from int32, to *process, what string, f func()) {
	link := [2]int32{from, to.id}
	if kept, ok := s.held[link]; ok {
		s.held[link] = append(kept, func() { s.later(to, 0, what+", which was held back", f) })
		return
	}
	s.later(to, s.delay(from, to.id), what, f)
}

// ask has f run with the active controller, and what it returns run here. Else lost is
// called: with kerr.NotController if nothing was done.
func (p *process) ask(what string, f func(*Controller) func(), lost func(error)) {
	to := p.s.leader
	if to == nil || to.dead {
		p.s.later(p, simAgain, what+" finds no controller", func() { lost(kerr.NotController) })
		return
	}
	p.call(to, what, func(reply func(func())) { reply(f(to.ctrl)) }, func() { lost(errLost) })
}

type alterResult = control.AlterPartitionsResult

// following is a partition that is copied in one leader epoch.
type following struct {
	p      *process
	part   *Partition
	leader int32
	epoch  int32
	gone   bool
}

// became follows a change of a partition's role, as fetchers do.
func (p *process) became(part *Partition) {
	if old := p.following[part]; old != nil {
		old.gone = true
		delete(p.following, part)
	}
	leader, epoch, ok := part.follows()
	if !ok {
		return
	}
	x := &following{p: p, part: part, leader: leader, epoch: epoch}
	p.following[part] = x
	p.s.later(p, 0, fmt.Sprintf("follows %d in epoch %d", leader, epoch), x.ask)
}

func (x *following) ask() {
	s := x.p.s
	if x.gone {
		return
	}
	f := x.part.next(x.epoch)
	f.FollowerEpoch, f.MaxBytes, f.MinOne = x.p.life.Epoch(), 100+s.net.IntN(1000), true
	to, id, index, high := s.procs[x.leader], x.part.TopicID, x.part.Index, x.part.HighWatermark()
	x.p.call(to, fmt.Sprintf("fetch of %d from %d after e%d", index, f.Offset, f.LastEpoch), func(reply func(func())) {
		to.fetch(id, index, f, high, func(a Answer) { reply(func() { x.take(f, a) }) })
	}, x.again)
}

func (x *following) again() { x.p.s.later(x.p, simAgain, "fetches again", x.ask) }

// take follows the answer to a fetch, as a fetcher does: also if the partition is not
// copied any more.
func (x *following) take(f Fetch, a Answer) {
	_, err := x.part.Take(f, a)
	switch {
	case x.gone:
	case err == nil:
		x.ask()
	case errors.Is(err, kerr.OffsetOutOfRange):
		x.meet(f)
	default:
		x.again()
	}
}

// meet asks the leader where its log begins and ends, and has this one do so too.
func (x *following) meet(f Fetch) {
	to, id, index := x.p.s.procs[x.leader], x.part.TopicID, x.part.Index
	x.p.call(to, "log range", func(reply func(func())) {
		p := to.partition(id, index)
		if p == nil || p.CheckLeader(x.epoch) != nil {
			reply(x.again)
			return
		}
		start, end := p.log.StartOffset(), p.log.EndOffset()
		reply(func() {
			_ = x.part.Meet(f, start, end) // if it fails the next fetch tells so
			x.again()
		})
	}, x.again)
}

func (p *process) partition(id prim.UUID, index int32) *Partition {
	if p.replicas == nil {
		return nil
	}
	return p.replicas.GetByID(id, index)
}

// parked is a fetch of a follower that waits at the leader for something new.
type parked struct {
	part   *Partition
	f      Fetch
	high   int64 // that the follower knows
	until  time.Duration
	seen   [2]int64 // log end and high watermark when it was looked at last
	view   *view
	answer func(Answer)
}

// fetch answers a follower: at once if there is something new.
func (p *process) fetch(id prim.UUID, index int32, f Fetch, high int64, answer func(Answer)) {
	part := p.partition(id, index)
	if part == nil {
		answer(Answer{Code: kerr.UnknownTopicId})
		return
	}
	x := &parked{part: part, f: f, high: high, until: p.s.at + simWait, answer: answer}
	if !p.tryFetch(x) {
		p.parked = append(p.parked, x)
		p.s.later(p, simWait, "fetch waited", func() {})
	}
}

// tryFetch answers a fetch, unless it goes on to wait.
func (p *process) tryFetch(x *parked) bool {
	x.seen, x.view = [2]int64{x.part.log.EndOffset(), x.part.HighWatermark()}, x.part.view.Load()
	out, err := x.part.Fetch(x.f)
	a := Answer{High: out.High, Start: out.Start, DivergingEpoch: out.DivergingEpoch, DivergingEnd: out.DivergingEnd}
	switch {
	case err != nil:
		a.Code = kerr.UnknownServerError
		errors.As(err, &a.Code)
	case out.Region != nil:
		b, err := out.Region.Bytes()
		if err != nil {
			p.s.fail("read", "broker %d: %v", p.id, err)
		}
		a.Batches = append([]byte(nil), b...)
		out.Region.Release()
	case out.DivergingEpoch < 0 && out.High == x.high && p.s.at < x.until:
		return false
	}
	x.answer(a)
	return true
}

// unpark answers the fetches for which there is news.
func (p *process) unpark() {
	kept := p.parked[:0]
	for _, x := range p.parked {
		news := p.s.at >= x.until || x.view != x.part.view.Load() || x.seen != [2]int64{x.part.log.EndOffset(), x.part.HighWatermark()} || x.part.closed.Load()
		if !news || !p.tryFetch(x) {
			kept = append(kept, x)
		}
	}
	clear(p.parked[len(kept):])
	p.parked = kept
}

// propose sends what leaders here propose, one request at a time.
func (p *process) propose() {
	q := p.replicas.proposals
	if p.proposing || len(q.queue) == 0 {
		return
	}
	req, sent := q.request(q.take())
	if len(sent) == 0 {
		return
	}
	p.proposing = true
	followUp := func(result alterResult, err error) {
		again, _ := q.answered(sent, result, err) // the error is for the log
		if len(again) == 0 {
			p.proposing = false
			return
		}
		p.s.later(p, simAgain, "proposes again", func() {
			p.proposing = false
			q.putBack(again)
		})
	}
	p.s.stats["proposals"]++
	what := "proposal"
	for _, x := range sent {
		what += fmt.Sprintf(" %d:e%d.%d", x.p.Index, x.leaderEpoch, x.partitionEpoch)
		for _, m := range x.members {
			what += fmt.Sprintf(",%d", m.Broker)
		}
	}
	p.ask(what, func(c *Controller) func() {
		result, err := c.AlterPartitions(background, req)
		return func() { followUp(result, err) }
	}, func(err error) { followUp(alterResult{}, err) })
}

// leaderOf returns who leads a partition as a broker knows it, or nil.
func (s *sim) leaderOf(m *meta.Image, index int32) *process {
	part := m.Partition(simTopic, index)
	if part == nil || part.Leader == meta.NoLeader {
		return nil
	}
	return s.procs[part.Leader]
}
