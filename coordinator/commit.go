package coordinator

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/record"
)

// carryOut writes and replays the records of a decision and has it answered.
func (s *Shard) carryOut(d Decision) {
	if len(d.Records) == 0 {
		s.afterPending(d.Then)
		return
	}
	if s.owed.any() {
		// Nothing may pass what was decided before.
		err := s.pay()
		if err == nil && s.machine == nil {
			err = errLost
		}
		if err != nil {
			if d.Then == nil {
				s.owe(d.Records, err)
			}
			s.answer(d.Then, err)
			return
		}
	}
	left, err := s.commit(d)
	switch {
	case err == nil:
	case d.Then != nil:
		s.answer(d.Then, err)
	case d.Divisible && hopeless(err):
		s.skip(left, err)
		if s.owed.any() {
			_ = s.pay() // it keeps what it cannot write
		}
	default:
		s.owe(left, err)
	}
}

// errLost means that the machine was lost while a decision was carried out: its
// records may be written.
var errLost = fmt.Errorf("%w: the state is loaded again", kerr.UnknownServerError)

// afterPending answers a decision without records. What was looked at may not be
// committed yet: the answer waits for it.
func (s *Shard) afterPending(then func(error)) {
	switch {
	case then == nil:
	case len(s.pending) == 0:
		s.answer(then, nil)
	default:
		last := s.pending[len(s.pending)-1]
		s.pending = append(s.pending, pendingCommit{last.done, last.result, then})
	}
}

// commit writes the records of a decision, as one batch or more, and replays
// them. Where that fails, left are those that were not written.
func (s *Shard) commit(d Decision) (left []Record, err error) {
	for left = d.Records; len(left) > 0; {
		n := len(left)
		if d.Divisible {
			n = s.fitting(left)
		}
		written, err := s.write(left[:n])
		if err != nil {
			return left, err
		}
		for i, r := range left[:n] {
			if err := s.replay(r, Origin{Offset: written.Base + int64(i), Producer: record.NoProducer}); err != nil {
				// The log has it, so a machine that is loaded must understand it.
				s.lg.Error("a record that was just written cannot be replayed", zap.Error(err))
				s.lose()
				return left[n:], errLost
			}
		}
		left = left[n:]
		var then func(error)
		if len(left) == 0 {
			then = d.Then
		}
		if written.Done == nil && len(s.pending) == 0 {
			s.answer(then, nil)
			continue
		}
		s.pending = append(s.pending, pendingCommit{written.Done, written.Result, then})
	}
	return nil, nil
}

// fitting returns how many records, one at least, make a batch that is not too
// large even uncompressed.
func (s *Shard) fitting(records []Record) int {
	room := s.o.Storage.MaxBatch() - record.HeaderSize
	for i, r := range records {
		// Each takes its own size and some bytes, as a batch of its own would.
		if room -= record.SizeUpperBound(r.Key, r.Value, nil) - record.HeaderSize; room < 0 {
			return max(i, 1)
		}
	}
	return len(records)
}

func (s *Shard) write(records []Record) (Appended, error) {
	now := s.o.Clock.Now().UnixMilli()
	s.build.Reset()
	for _, r := range records {
		s.build.Append(now, r.Key, r.Value, nil)
	}
	batch, err := s.build.Finish(record.NoProducer)
	if err != nil {
		return Appended{}, err
	}
	return s.o.Storage.Append(batch)
}

// firstPending returns the channel that tells of the oldest commit under way.
func (s *Shard) firstPending() <-chan struct{} {
	if len(s.pending) == 0 {
		return nil
	}
	return s.pending[0].done
}

// settle answers the decisions whose records are committed, in order. Where records
// are not, the machine is lost and loaded again: its state holds what its log may
// not.
func (s *Shard) settle() {
	for len(s.pending) > 0 {
		p := s.pending[0]
		var err error
		if p.done != nil {
			select {
			case <-p.done:
				err = p.result()
			default:
				return
			}
		}
		s.pending = s.pending[1:]
		s.answer(p.then, err) // which may lose the machine, and keeps what is pending
		if err != nil {
			s.lg.Warn("records of a coordinator were not committed: its state is loaded again", zap.Error(err))
			s.lose()
			return
		}
	}
}

// owed are records that were decided on, that nobody waits for, and that could
// not be written. Of a key there is the newest only.
type owed struct {
	records []Record
	at      map[string]int // index in records, by key
	retry   time.Time      // zero: none is owed
	wait    time.Duration
}

// Waits between two attempts to write what is owed.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
)

func (o *owed) any() bool { return len(o.records) > 0 }

func (o *owed) due(now time.Time) bool { return o.any() && !o.retry.After(now) }

// owe keeps records that could not be written for another attempt, unless none
// can succeed.
func (s *Shard) owe(records []Record, err error) {
	if hopeless(err) {
		s.lg.Error("a coordinator's records cannot be written and are dropped", zap.Int("records", len(records)), zap.Error(err))
		return
	}
	if len(records) == 0 {
		return
	}
	o := &s.owed
	o.keep(records)
	o.wait = min(max(2*o.wait, firstRetry), lastRetry)
	o.retry = s.o.Clock.Now().Add(o.wait)
	s.lg.Warn("a coordinator's records could not be written, they are tried again", zap.Int("records", len(o.records)), zap.Duration("wait", o.wait), zap.Error(err))
}

// skip drops the first of records, which can never be written, and keeps the
// rest for the next attempt.
func (s *Shard) skip(records []Record, err error) {
	s.owe(records[:1], err) // says so
	s.owed.keep(records[1:])
}

func (o *owed) keep(records []Record) {
	if o.at == nil {
		o.at = make(map[string]int)
	}
	for _, r := range records {
		if at, ok := o.at[string(r.Key)]; ok {
			o.records[at] = r
			continue
		}
		o.at[string(r.Key)] = len(o.records)
		o.records = append(o.records, r)
	}
}

// hopeless reports whether what failed with err fails for ever.
func hopeless(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord)
}

// pay writes what is owed. A single record that is too large for any batch is
// dropped, and the rest goes on.
func (s *Shard) pay() error {
	wait := s.owed.wait
	for s.owed.any() && s.machine != nil {
		records := s.owed.records
		s.owed = owed{wait: wait}
		left, err := s.commit(Decision{Records: records, Divisible: true})
		switch {
		case err == nil:
		case hopeless(err):
			s.skip(left, err)
		default:
			s.owe(left, err)
			return err
		}
	}
	s.owed.wait = 0
	return nil
}
