package client

import (
	"math"
	"slices"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// windowOfBroker is how many batches of an idempotent producer a broker remembers
// per partition.
const windowOfBroker = 5

// stamp is the place of a batch in the sequences of a producer.
type stamp struct {
	id    int64 // producer id, -1 for a batch without a place
	epoch int16
	seq   int32 // of its first record
}

var noStamp = stamp{id: record.NoProducerID, epoch: -1, seq: -1}

// given reports whether the batch has a place.
func (s stamp) given() bool { return s.id >= 0 }

// identity is who an idempotent producer is to the brokers: its id, its epoch, and
// through sequences the place of each batch. It decides when a new id or epoch is
// needed, and what a broker's refusal means for a batch.
//
// It is pure: no goroutine, no clock, no network; Producer.mu guards it.
//
// Invariant: while id is -1 no batch is given a place. Under one id the epoch only
// grows, and an epoch that a broker has refused as invalid is never used again.
type identity struct {
	id     int64 // -1 while there is none
	epoch  int16
	asking bool  // somebody asks for an id
	why    error // why the question under way has not been answered yet; nil if nothing went wrong
}

func newIdentity() identity { return identity{id: record.NoProducerID} }

// ask reports whether the caller is to ask a broker for an id: there is none, and
// nobody else asks. It ends with got or gaveUp.
func (i *identity) ask() bool {
	if i.id >= 0 || i.asking {
		return false
	}
	i.asking = true
	return true
}

// failed notes why a broker gave no id. The question goes on.
func (i *identity) failed(err error) { i.why = err }

// got takes the id that was asked for.
func (i *identity) got(id int64, epoch int16) { *i = identity{id: id, epoch: epoch} }

// gaveUp ends the question without an id.
func (i *identity) gaveUp() { i.asking, i.why = false, nil }

// hindrance returns why there is no id yet, nil if there is one or nothing is wrong.
func (i *identity) hindrance() error {
	if i.id >= 0 {
		return nil
	}
	return i.why
}

// drop gives the id up: the next one differs from it.
func (i *identity) drop() { i.id = record.NoProducerID }

// bump moves to the next epoch. Where there is none the id is given up.
func (i *identity) bump() {
	if i.epoch == math.MaxInt16 {
		i.drop()
		return
	}
	i.epoch++
}

// partition returns the sequences of a partition to which nothing was sent.
func (i *identity) partition() sequences {
	return sequences{who: i, id: record.NoProducerID, acked: -1}
}

// sequences are the places of one partition's batches under its producer's identity.
// A partition changes to the identity's current id and epoch only where that is
// safe: with nothing in flight, and with nothing waiting that has a place under the
// old ones, unless the broker has said that it did not append it.
//
// Invariant: sent is in the order of sequences without a gap, all under id and
// epoch, and begins with a batch that is in flight or has no outcome. From the first
// batch without an outcome on only five are sent, so that the broker, which remembers
// five, knows every batch again whose answer was lost. That first one can be behind
// acknowledged ones: its request may have gone to a former leader.
type sequences struct {
	who   *identity
	id    int64 // that next counts under, -1 before the first
	epoch int16
	next  int32 // of the next new batch
	acked int64 // highest first sequence acknowledged under the epoch, -1 for none
	renew bool  // a broker lost track: the next batches need a new epoch
	sent  []placed
}

// placed is a batch that was given a place.
type placed struct {
	seq, count int32
	flying     bool // its request is under way
	decided    bool // it has an outcome, though its request may still be under way
}

// flying reports whether a request of the partition is under way.
func (s *sequences) flying() bool {
	return slices.ContainsFunc(s.sent, func(p placed) bool { return p.flying })
}

// ready reports whether a batch may be sent as far as the identity goes, after it has
// brought the partition to the current one where that is safe. first is the stamp of
// the first batch that waits. With again every batch that waits and has a place must
// be given a new one, in their order, before anything is sent.
//
// It leaves the identity without an id where a new one is needed: ask says so then.
func (s *sequences) ready(first stamp) (ok, again bool) {
	if s.flying() {
		return !s.renew && s.id >= 0, false
	}
	current := s.id == s.who.id && s.epoch == s.who.epoch
	switch {
	case s.renew:
		if current && s.who.id >= 0 {
			s.who.bump()
		}
		if s.who.id < 0 {
			return false, false
		}
		s.restart()
		return true, true
	case !current && !first.given():
		if s.who.id < 0 {
			return false, false
		}
		s.restart()
	}
	return s.id >= 0, false
}

// restart makes sequences begin at 0 under the current id and epoch.
func (s *sequences) restart() {
	*s = sequences{who: s.who, id: s.who.id, epoch: s.who.epoch, acked: -1}
}

// give gives a batch of so many records its place.
func (s *sequences) give(count int32) stamp {
	st := stamp{s.id, s.epoch, s.next}
	s.sent = append(s.sent, placed{seq: s.next, count: count})
	s.next = record.AddSequence(s.next, count)
	return st
}

// index returns where a batch is in sent, -1 if its place is of another epoch, or it
// and all before it are decided.
func (s *sequences) index(st stamp) int {
	if st.id != s.id || st.epoch != s.epoch {
		return -1
	}
	return slices.IndexFunc(s.sent, func(p placed) bool { return p.seq == st.seq })
}

// split gives the parts of a batch, of so many records each, places in its own.
func (s *sequences) split(st stamp, counts ...int32) []stamp {
	i := s.index(st)
	parts := make([]placed, len(counts))
	stamps := make([]stamp, len(counts))
	seq := st.seq
	for k, n := range counts {
		parts[k] = placed{seq: seq, count: n}
		stamps[k] = stamp{st.id, st.epoch, seq}
		seq = record.AddSequence(seq, n)
	}
	if i >= 0 {
		s.sent = slices.Replace(s.sent, i, i+1, parts...)
	}
	return stamps
}

// took notes that the request of a batch is under way, and landed that it is not any
// more.
func (s *sequences) took(st stamp) {
	if i := s.index(st); i >= 0 {
		s.sent[i].flying = true
	}
}

func (s *sequences) landed(st stamp) {
	if i := s.index(st); i >= 0 {
		s.sent[i].flying = false
		s.trim()
	}
}

// decided notes that a batch has its outcome: it is not sent again.
func (s *sequences) decided(st stamp) {
	if i := s.index(st); i >= 0 {
		s.sent[i].decided = true
		s.trim()
	}
}

func (s *sequences) trim() {
	for len(s.sent) > 0 && s.sent[0].decided && !s.sent[0].flying {
		s.sent = s.sent[1:]
	}
}

// acknowledged notes how far the broker has come.
func (s *sequences) acknowledged(st stamp) {
	if st.id == s.id && st.epoch == s.epoch && st.given() && (s.acked < 0 || seqBefore(int32(s.acked), st.seq)) {
		s.acked = int64(st.seq)
	}
}

// inWindow reports whether the broker would still remember every batch without an
// outcome after it took this one; noStamp stands for a new one.
func (s *sequences) inWindow(st stamp) bool {
	before := len(s.sent)
	if st.given() {
		if before = s.index(st); before < 0 {
			return false
		}
	}
	from := slices.IndexFunc(s.sent, func(p placed) bool { return !p.decided })
	return from < 0 || before-from < windowOfBroker
}

// behind reports whether the request of an earlier batch is under way.
func (s *sequences) behind(st stamp) bool {
	i := s.index(st)
	return i >= 0 && slices.ContainsFunc(s.sent[:i], func(p placed) bool { return p.flying })
}

// first reports whether nothing before a batch is under way or waits.
func (s *sequences) first(st stamp) bool {
	i := s.index(st)
	return i < 0 || !slices.ContainsFunc(s.sent[:i], func(p placed) bool { return p.flying || !p.decided })
}

// verdict is what a broker's refusal means for a batch with a place.
type verdict uint8

const (
	asCodeSays verdict = iota // nothing about its place
	written                   // it is in the log
	samePlace                 // an earlier batch is still to come, or the answer to a later one came first: again, as it is
	newPlace                  // the broker has not appended it and never will under this place: again, under a new epoch
	fenced                    // another producer has taken the identity: nothing can be sent any more
)

// refused says what the code of a broker means for a batch. Nothing is dropped with
// newPlace: the broker has just said that it has not appended the batch.
func (s *sequences) refused(st stamp, code kerr.Code) verdict {
	if !st.given() {
		return asCodeSays
	}
	switch code {
	case kerr.DuplicateSequenceNumber:
		return written
	case kerr.ProducerFenced:
		return fenced
	case kerr.UnknownProducerId:
		s.renew = true
		return newPlace
	case kerr.InvalidProducerEpoch:
		s.renew = true
		if st.id == s.who.id && st.epoch == s.who.epoch {
			s.who.drop() // another one's now: ours must differ in the id
		}
		return newPlace
	case kerr.OutOfOrderSequenceNumber:
		taken := s.acked >= 0 && !seqBefore(int32(s.acked), st.seq) // a later one: this one may be there
		if taken || !s.first(st) {
			return samePlace
		}
		s.renew = true
		return newPlace
	}
	return asCodeSays
}

// seqBefore reports whether sequence a comes before b; they wrap at 2^31.
func seqBefore(a, b int32) bool {
	d := (b - a) & 0x7fffffff
	return d != 0 && d < 1<<30
}
