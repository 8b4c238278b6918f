package client

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// producerID is who an idempotent producer is. Producer.mu guards it.
type producerID struct {
	id       int64 // -1 while there is none
	epoch    int16
	fetching bool
	lastErr  error // why the fetch under way has not succeeded yet; nil if nothing went wrong
	wg       sync.WaitGroup
}

func (w *producerID) wait() { w.wg.Wait() }

// identify reports whether a partition may send, as far as idempotence goes, and
// brings it to the current producer id and epoch where that is safe: with
// nothing in flight, and nothing queued that was sent under the old ones unless
// the broker has refused it. The caller holds mu.
func (p *Producer) identify(part *partition) bool {
	if p.o.Idempotence != On {
		return true
	}
	if p.who.id < 0 {
		p.fetchID()
	}
	if len(part.inFlight) > 0 {
		return !part.renew && part.pid >= 0
	}
	current := part.pid == p.who.id && part.epoch == p.who.epoch
	switch {
	case part.renew:
		if current && p.who.id >= 0 {
			p.bumpEpoch()
		}
		if p.who.id < 0 {
			return false
		}
		part.restart(p.who.id, p.who.epoch)
		part.renew = false
		for _, b := range part.queue {
			if b.sequenced {
				b.pid, b.epoch, b.seq = part.pid, part.epoch, part.seq
				part.advance(b)
				part.sent = append(part.sent, b)
			}
		}
	case !current && !part.queue[0].sequenced:
		if p.who.id < 0 {
			return false
		}
		part.restart(p.who.id, p.who.epoch)
	}
	return part.pid >= 0
}

// restart makes sequences begin at 0 under a producer id and epoch.
func (part *partition) restart(id int64, epoch int16) {
	part.pid, part.epoch, part.seq, part.sent, part.acked = id, epoch, 0, nil, -1
}

// bumpEpoch moves to the next epoch, or to a new id when they are used up. The
// caller holds mu.
func (p *Producer) bumpEpoch() {
	if p.who.epoch == math.MaxInt16 {
		p.who.id = record.NoProducerID
		p.fetchID()
		return
	}
	p.who.epoch++
}

// fetchID asks a broker for a producer id. The caller holds mu.
func (p *Producer) fetchID() {
	if p.who.fetching || p.stopped || p.fatal != nil {
		return
	}
	p.who.fetching = true
	p.who.wg.Go(func() {
		id, epoch, err := p.initProducerID()
		p.mu.Lock()
		p.who.fetching = false
		p.who.lastErr = nil
		if err == nil {
			p.who.id, p.who.epoch = id, epoch
		} else if p.ctx.Err() == nil {
			p.fatal = fmt.Errorf("no producer id: %w", err)
		}
		fatal := p.fatal
		p.wakeAll()
		p.mu.Unlock()
		if fatal != nil {
			p.failAll(fatal)
		}
	})
}

func (p *Producer) initProducerID() (int64, int16, error) {
	req := new(msg.InitProducerIdRequest)
	req.SetDefaults()
	req.TransactionalId = nil
	req.TransactionTimeoutMs = 60000
	for try := 1; ; try++ {
		resp := new(msg.InitProducerIdResponse)
		err := p.cl.doAny(p.ctx, req, resp)
		if err == nil {
			err = codeOf(resp.ErrorCode)
		}
		if err == nil && (resp.ProducerId < 0 || resp.ProducerEpoch < 0) {
			err = fmt.Errorf("%w: producer id %d, epoch %d", conn.ErrProtocol, resp.ProducerId, resp.ProducerEpoch)
		}
		if err == nil {
			return resp.ProducerId, resp.ProducerEpoch, nil
		}
		if p.ctx.Err() != nil || !retriable(err) && !broken(err) || errors.Is(err, conn.ErrVersion) {
			return 0, 0, err
		}
		p.mu.Lock()
		p.who.lastErr = fmt.Errorf("no producer id: %w", err)
		p.mu.Unlock()
		p.lg.Warn("no producer id, try again", zap.Int("try", try), zap.Error(err))
		if sleep(p.ctx, backoff(p.o.RetryBackoff, p.o.RetryBackoffMax, try)) != nil {
			return 0, 0, err
		}
	}
}
