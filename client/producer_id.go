package client

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/msg"
)

// identify reports whether a partition may send, as far as idempotence goes. The
// caller holds mu.
func (p *Producer) identify(part *partition) bool {
	if p.o.Idempotence != On {
		return true
	}
	ok, again := part.seqs.ready(part.queue[0].place)
	if again {
		for _, b := range part.queue {
			if b.place.given() {
				b.place = part.seqs.give(b.count())
			}
		}
	}
	p.fetchID()
	return ok
}

// fetchID asks a broker for a producer id if one is needed. The caller holds mu.
func (p *Producer) fetchID() {
	if p.stopped || p.fatal != nil || !p.who.ask() {
		return
	}
	p.asking.Go(func() {
		id, epoch, err := p.initProducerID()
		p.mu.Lock()
		switch {
		case err == nil:
			p.who.got(id, epoch)
		case p.ctx.Err() == nil:
			p.fatal = fmt.Errorf("no producer id: %w", err)
			fallthrough
		default:
			p.who.gaveUp()
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
		p.who.failed(fmt.Errorf("no producer id: %w", err))
		p.mu.Unlock()
		p.lg.Warn("no producer id, try again", zap.Int("try", try), zap.Error(err))
		if sleep(p.ctx, backoff(p.o.RetryBackoff, p.o.RetryBackoffMax, try)) != nil {
			return 0, 0, err
		}
	}
}
