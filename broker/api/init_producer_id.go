package api

import (
	"context"
	"sync"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of InitProducerId add to version 0:
//
//	v1   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v2   compact and tagged fields
//	v3   request: ProducerId, ProducerEpoch
//	v4   the same fields
//	v5   the same fields
//	v6   request: Enable2Pc, KeepPreparedTxn; response: OngoingTxnProducerId, OngoingTxnProducerEpoch

// initProducerID answers InitProducerId (key 22, v0-v5) for idempotent
// producers: each time with a fresh id.
func (h *Handlers) initProducerID(c *Call, req *msg.InitProducerIdRequest) (*msg.InitProducerIdResponse, error) {
	resp := new(msg.InitProducerIdResponse)
	resp.SetDefaults()
	resp.ProducerId, resp.ProducerEpoch = -1, -1
	if (req.ProducerId == -1) != (req.ProducerEpoch == -1) { // one has no meaning without the other
		resp.ErrorCode = int16(kerr.InvalidRequest)
		return resp, nil
	}
	if req.TransactionalId != nil {
		code := kerr.CoordinatorNotAvailable // FindCoordinator has answered that there is none
		if *req.TransactionalId == "" {
			code = kerr.InvalidRequest
		}
		resp.ErrorCode = int16(code)
		return resp, nil
	}
	id, ok := h.ids.take()
	if !ok { // the controller is to give a block
		var err error
		if e := c.Park(func() { id, err = h.ids.next(c.Context, h) }); e != nil {
			return nil, e
		}
		if err != nil {
			resp.ErrorCode = int16(h.code(err))
			return resp, nil
		}
	}
	resp.ProducerId, resp.ProducerEpoch = id, 0
	return resp, nil
}

// producerIDs hands out the producer ids of blocks that the controller gave to
// this broker.
type producerIDs struct {
	mu           sync.Mutex
	turn         chan struct{} // held while a block is asked for
	id, blockEnd int64
}

// take returns the next id of the block, if there is one.
func (p *producerIDs) take() (id int64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.id == p.blockEnd {
		return 0, false
	}
	p.id++
	return p.id - 1, true
}

// next is take, with a block from the controller if need be.
func (p *producerIDs) next(ctx context.Context, h *Handlers) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	p.mu.Lock()
	if p.turn == nil {
		p.turn = make(chan struct{}, 1)
	}
	p.mu.Unlock()
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-p.turn }()
	if id, ok := p.take(); ok { // of the block that somebody else asked for
		return id, nil
	}
	epoch := int64(-1)
	if b := h.Controller.Image().Broker(h.NodeID); b != nil {
		epoch = b.Epoch
	}
	first, n, err := h.Controller.ProducerIDs(ctx, h.NodeID, epoch)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id, p.blockEnd = first+1, first+int64(n)
	return first, nil
}
