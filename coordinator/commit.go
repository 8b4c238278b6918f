package coordinator

import (
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/record"
)

// carryOut writes and replays the records of a decision and has it answered.
func (c *core[M]) carryOut(d Decision, now time.Time) {
	if len(d.Records) == 0 {
		c.afterPending(d.Then)
		return
	}
	if c.owed.any() {
		// Nothing may pass what was decided before.
		err := c.pay(now)
		if err == nil && !c.live {
			err = errLost
		}
		if err != nil {
			if d.Then == nil {
				c.owe(d.Records, err, now)
			}
			c.answer(d.Then, err)
			return
		}
	}
	left, err := c.commit(d, now)
	switch {
	case err == nil:
	case d.Then != nil:
		c.answer(d.Then, err)
	case d.Divisible && hopeless(err):
		c.skip(left, err, now)
		if c.owed.any() {
			_ = c.pay(now) // it keeps what it cannot write
		}
	default:
		c.owe(left, err, now)
	}
}

// afterPending answers a decision without records. What was looked at may not be
// committed yet: the answer waits for it.
func (c *core[M]) afterPending(then func(error)) {
	switch {
	case then == nil:
	case len(c.pending) == 0:
		c.answer(then, nil)
	default:
		last := c.pending[len(c.pending)-1]
		c.pending = append(c.pending, pendingCommit{last.done, last.result, then})
	}
}

// commit writes the records of a decision, as one batch or more, and replays
// them. Where that fails, left are those that were not written.
func (c *core[M]) commit(d Decision, now time.Time) (left []Record, err error) {
	for left = d.Records; len(left) > 0; {
		n := len(left)
		if d.Divisible {
			n = c.fitting(left)
		}
		written, err := c.write(left[:n], now)
		if err != nil {
			return left, err
		}
		for i, r := range left[:n] {
			if err := c.replay(r, Origin{Offset: written.Base + int64(i), Producer: record.NoProducer}); err != nil {
				// The log has it, so a machine that is loaded must understand it.
				c.lg.Error("a record that was just written cannot be replayed", zap.Error(err))
				c.lose()
				return left[n:], errLost
			}
		}
		left = left[n:]
		var then func(error)
		if len(left) == 0 {
			then = d.Then
		}
		if written.Done == nil && len(c.pending) == 0 {
			c.answer(then, nil)
			continue
		}
		c.pending = append(c.pending, pendingCommit{written.Done, written.Result, then})
	}
	return nil, nil
}

// fitting returns how many records, one at least, make a batch that is not too
// large even uncompressed.
func (c *core[M]) fitting(records []Record) int {
	room := c.storage.MaxBatch() - record.HeaderSize
	for i, r := range records {
		// Each takes its own size and some bytes, as a batch of its own would.
		if room -= record.SizeUpperBound(r.Key, r.Value, nil) - record.HeaderSize; room < 0 {
			return max(i, 1)
		}
	}
	return len(records)
}

func (c *core[M]) write(records []Record, now time.Time) (Appended, error) {
	c.build.Reset()
	for _, r := range records {
		c.build.Append(now.UnixMilli(), r.Key, r.Value, nil)
	}
	batch, err := c.build.Finish(record.NoProducer)
	if err != nil {
		return Appended{}, err
	}
	return c.storage.Append(batch)
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
func (c *core[M]) owe(records []Record, err error, now time.Time) {
	if hopeless(err) {
		c.lg.Error("a coordinator's records cannot be written and are dropped", zap.Int("records", len(records)), zap.Error(err))
		return
	}
	if len(records) == 0 {
		return
	}
	o := &c.owed
	o.keep(records)
	o.wait = min(max(2*o.wait, firstRetry), lastRetry)
	o.retry = now.Add(o.wait)
	c.lg.Warn("a coordinator's records could not be written, they are tried again", zap.Int("records", len(o.records)), zap.Duration("wait", o.wait), zap.Error(err))
}

// skip drops the first of records, which can never be written, and keeps the
// rest for the next attempt.
func (c *core[M]) skip(records []Record, err error, now time.Time) {
	c.owe(records[:1], err, now) // says so
	c.owed.keep(records[1:])
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

// pay writes what is owed. A single record that is too large for any batch is
// dropped, and the rest goes on.
func (c *core[M]) pay(now time.Time) error {
	wait := c.owed.wait
	for c.owed.any() && c.live {
		records := c.owed.records
		c.owed = owed{wait: wait}
		left, err := c.commit(Decision{Records: records, Divisible: true}, now)
		switch {
		case err == nil:
		case hopeless(err):
			c.skip(left, err, now)
		default:
			c.owe(left, err, now)
			return err
		}
	}
	c.owed.wait = 0
	return nil
}
