package broker

import (
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/config/clock"
)

// reverse keeps streams open with the voters of the metadata quorum for them to speak on,
// while this node is no voter: whoever leads gives it the metadata over them. A node without
// a listener for controllers cannot be dialled, and of a new one nobody knows where it
// listens. One that takes itself for a voter, and finds no leader, does so too: it may have been
// removed while it was away, and nobody would tell it.
type reverse struct {
	b      *Broker
	lg     *zap.Logger
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
	wake   chan struct{} // holds one: the members of the quorum may have changed
	open   map[string]context.CancelFunc
	alone  time.Time // since when there is no leader, zero if there is one
}

const (
	// spareStreams is how many streams wait with each voter.
	spareStreams = 2
	// lookForVoters is how often a node without a leader asks who the voters are.
	lookForVoters = time.Second
	// forgottenAfter is how long a voter without a leader waits before it takes itself for one
	// that was removed.
	forgottenAfter = 5 * time.Second
	// The pauses after a stream that could not be opened.
	firstReverse, lastReverse = 20 * time.Millisecond, time.Second
)

func newReverse(b *Broker) *reverse {
	r := &reverse{b: b, lg: b.lg.Named("controller"), wake: make(chan struct{}, 1), open: make(map[string]context.CancelFunc)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// configured has it look at the members of the quorum. It does not block.
func (r *reverse) configured() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// start begins, once this node is part of the quorum.
func (r *reverse) start() { r.done.Go(r.run) }

// close closes the streams that wait, and does not open others.
func (r *reverse) close() {
	r.cancel()
	r.done.Wait()
}

func (r *reverse) run() {
	for r.ctx.Err() == nil {
		r.adjust()
		alarm, timer := clock.After(r.b.o.Clock, lookForVoters)
		select {
		case <-r.wake:
		case <-alarm:
		case <-r.ctx.Done():
		}
		timer.Stop()
	}
}

// adjust opens streams with those who vote now, and closes those with others.
func (r *reverse) adjust() {
	q := r.b.controller.Quorum()
	want := make(map[string]bool)
	if !q.Votes || r.forgotten(q.Leader) {
		addresses := r.b.peers.voterAddresses(q.Voters)
		if q.Leader < 0 {
			r.b.peers.discover(r.ctx)
			addresses = r.b.peers.candidates()
		}
		for _, address := range addresses {
			want[address] = true
		}
	}
	for address, end := range r.open {
		if !want[address] {
			end()
			delete(r.open, address)
		}
	}
	for address := range want {
		if r.open[address] == nil {
			ctx, end := context.WithCancel(r.ctx)
			r.open[address] = end
			for range spareStreams {
				r.done.Go(func() { r.keep(ctx, address) })
			}
		}
	}
}

// forgotten reports whether this node, which votes as far as it knows, may have been removed.
func (r *reverse) forgotten(leader int32) bool {
	now := r.b.o.Clock.Now()
	if leader >= 0 {
		r.alone = time.Time{}
	} else if r.alone.IsZero() {
		r.alone = now
	}
	return leader < 0 && len(r.b.conf.QuorumVoters) == 0 && now.Sub(r.alone) >= forgottenAfter
}

// keep keeps one stream waiting at a controller, until ctx ends. One that is spoken on is
// raft's.
func (r *reverse) keep(ctx context.Context, address string) {
	pause := firstReverse
	for ctx.Err() == nil {
		nc, node, err := r.b.peers.reverse(ctx, address)
		if err == nil {
			pause = firstReverse
			var first [1]byte
			if err = awaitByte(ctx, nc, first[:]); err == nil {
				r.b.streams.Take(&spokenConn{nc, first[:]}, node)
				continue
			}
			nc.Close()
		} else if pause == lastReverse && ctx.Err() == nil {
			r.lg.Debug("a stream for the controllers is not open", zap.String("address", address), zap.Error(err))
		}
		if clock.Sleep(ctx, r.b.o.Clock, pause) != nil {
			return
		}
		pause = min(2*pause, lastReverse)
	}
}

// awaitByte reads the first byte of a connection, unless ctx ends before.
func awaitByte(ctx context.Context, nc net.Conn, b []byte) error {
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	_, err := nc.Read(b)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	return err
}

// spokenConn is a connection whose first byte was read.
type spokenConn struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (c *spokenConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// voterAddresses returns where the voters listen, as far as that is known.
func (p *peers) voterAddresses(voters []int32) (out []string) {
	for _, id := range voters {
		if address, ok := p.b.addresses.of(id); ok && id != p.b.conf.NodeID {
			out = append(out, address)
		}
	}
	return out
}

// candidates returns all addresses at which there may be another controller.
func (p *peers) candidates() []string {
	out := append(slices.Clone(p.b.conf.QuorumBootstrap), p.b.addresses.others(p.b.conf.NodeID)...)
	slices.Sort(out)
	own := make(map[string]bool)
	for _, e := range p.b.endPoints(api.Controller) {
		own[net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))] = true
	}
	return slices.DeleteFunc(slices.Compact(out), func(a string) bool { return own[a] })
}
