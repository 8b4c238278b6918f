package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
)

// purpose keeps traffic that waits on the broker off the connections of other
// traffic: a broker handles one request of a connection at a time.
type purpose uint8

const (
	forData    purpose = iota // produce, fetch
	forGroup                  // coordinator
	forAdmin                  // metadata and the rest
	forLeaving                // LeaveGroup, past a JoinGroup that the coordinator holds back
	purposes
)

// brokerKey names a broker at an address. One that moves is another: what was
// known of the old address says nothing about the new one.
type brokerKey struct {
	id   int32 // -1 for a bootstrap server whose id is not known
	addr string
}

// String names the broker for errors.
func (k brokerKey) String() string {
	if k.id < 0 {
		return "bootstrap server " + k.addr
	}
	return fmt.Sprintf("broker %d at %s", k.id, k.addr)
}

// broker is all that the cluster has of one broker: its connections, and whether
// it answers. cluster.mu guards it.
//
// Invariant: while the broker is lost at most one dial to it is under way, for
// whatever purpose; those who want another connection wait for its outcome.
type broker struct {
	brokerKey
	health
	links [purposes]link
}

// link is a broker's connection for one purpose.
type link struct {
	cn      *conn.Conn    // nil before the first dial, while one is under way, and when it was lost
	made    time.Time     // when cn was
	greeted int           // answers of cn when it was made
	dialing chan struct{} // closed when the dial under way ends; nil without
}

// listen brings the health up to date with the answers that came.
func (b *broker) listen() {
	for i := range b.links {
		if l := &b.links[i]; l.cn != nil && l.cn.Answers() > l.greeted {
			b.answered(l.cn.LastAnswer())
		}
	}
}

// open reports whether there is an open connection for a purpose.
func (b *broker) open(use purpose) bool {
	cn := b.links[use].cn
	return cn != nil && cn.Err() == nil
}

// inUse reports whether there is, or will be, a connection.
func (b *broker) inUse() bool {
	return slices.ContainsFunc(b.links[:], func(l link) bool { return l.cn != nil || l.dialing != nil })
}

// busy returns what a caller that wants a connection has to wait for, nil if it may
// dial.
func (b *broker) busy(use purpose) chan struct{} {
	if d := b.links[use].dialing; d != nil || b.standing() != isLostNow {
		return d
	}
	for i := range b.links {
		if d := b.links[i].dialing; d != nil {
			return d
		}
	}
	return nil
}

// closed takes a connection that has ended out. It returns those that are to
// follow it: a broker that has said nothing on any of them for as long as a request
// may take is not asked on another. One that did not live for long, or brought no
// answer, asks for a pause: otherwise a broker that accepts connections and closes
// them would be dialled without one.
func (b *broker) closed(use purpose, now time.Time, o *Options) (follow []*conn.Conn) {
	b.listen()
	l := &b.links[use]
	cn := l.cn
	l.cn = nil
	err := cn.Err()
	if errors.Is(err, conn.ErrIdle) {
		return nil
	}
	var pause func(int) time.Duration
	if age := now.Sub(l.made); age < o.ReconnectBackoffMax || age < 10*o.ReconnectBackoffMax && cn.Answers() == l.greeted {
		pause = o.reconnect
	}
	var late *conn.TimeoutError
	if errors.As(err, &late) && b.silentSince(now.Add(-late.After)) {
		pause = o.reconnect
		follow = b.take()
	}
	b.fail(now, fmt.Errorf("%w: %v: %w", errLost, b.brokerKey, err), pause)
	return follow
}

// take takes all connections out.
func (b *broker) take() (all []*conn.Conn) {
	for i := range b.links {
		if cn := b.links[i].cn; cn != nil {
			all = append(all, cn)
			b.links[i].cn = nil
		}
	}
	return all
}

// reconnect returns the pause after n failures in a row (reconnect.backoff.ms).
func (o *Options) reconnect(n int) time.Duration {
	return backoff(o.ReconnectBackoff, o.ReconnectBackoffMax, n)
}

// at returns the broker of a key. One that was known as a bootstrap server keeps
// what it has under its id. The caller holds mu.
func (c *cluster) at(k brokerKey) *broker {
	if k.id < 0 {
		for _, known := range c.meta.brokers {
			if known.Addr() == k.addr {
				k.id = known.ID
				break
			}
		}
	}
	b := c.brokers[k]
	if b == nil && k.id >= 0 {
		first := brokerKey{-1, k.addr}
		if b = c.brokers[first]; b != nil {
			delete(c.brokers, first)
			b.id = k.id
			c.brokers[k] = b
		}
	}
	if b == nil {
		b = &broker{brokerKey: k}
		c.brokers[k] = b
	}
	return b
}

// prune forgets brokers that the metadata does not name any more and that have no
// connection. The caller holds mu.
func (c *cluster) prune() {
	for k, b := range c.brokers {
		if now, ok := c.meta.brokers[k.id]; k.id >= 0 && (!ok || now.Addr() != k.addr) && !b.inUse() {
			delete(c.brokers, k)
		}
	}
}

// lostBroker reports whether the last that was heard of a broker is a failure.
func (c *cluster) lostBroker(id int32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.meta.brokers[id]
	if !ok {
		return false
	}
	b := c.at(brokerKey{id, known.Addr()})
	b.listen()
	return b.standing() == isLostNow
}

// candidates returns the brokers that a request may go to which any can answer,
// those first that are likely to answer soon, and then the bootstrap servers that
// are none of them.
func (c *cluster) candidates(use purpose) []brokerKey {
	type candidate struct {
		key  brokerKey
		rank int
	}
	var all []candidate
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := make(map[*broker]bool)
	add := func(k brokerKey) {
		b := c.at(k)
		if seen[b] {
			return
		}
		seen[b] = true
		b.listen()
		rank := 3 * int(b.standing())
		switch {
		case b.id < 0:
			rank += 2
		case b.brokerKey == c.known:
			rank = max(rank, 3*int(isUntried)+2) // behind those that nobody has asked yet
		case !b.open(use):
			rank++
		}
		all = append(all, candidate{b.brokerKey, rank})
	}
	for id, known := range c.meta.brokers {
		add(brokerKey{id, known.Addr()})
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, addr := range c.o.BootstrapServers {
		add(brokerKey{-1, addr})
	}
	slices.SortStableFunc(all, func(x, y candidate) int { return cmp.Compare(x.rank, y.rank) })
	keys := make([]brokerKey, len(all))
	for i, x := range all {
		keys[i] = x.key
	}
	return keys
}

// broker returns a connection to a broker, made if need be.
func (c *cluster) broker(ctx context.Context, id int32, use purpose) (*conn.Conn, error) {
	c.mu.Lock()
	known, ok := c.meta.brokers[id]
	c.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("%w: broker %d is not in the metadata", ErrNoBroker, id)
	}
	return c.conn(ctx, brokerKey{id, known.Addr()}, use)
}

// opened returns the connection to a broker that is open, nil without.
func (c *cluster) opened(id int32, use purpose) *conn.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.meta.brokers[id]
	if !ok {
		return nil
	}
	if b := c.at(brokerKey{id, known.Addr()}); b.open(use) {
		return b.links[use].cn
	}
	return nil
}

// conn returns an open connection. One caller dials, others wait for it and fail
// if it does; after a failure none tries before the reconnect backoff is over.
func (c *cluster) conn(ctx context.Context, k brokerKey, use purpose) (*conn.Conn, error) {
	for {
		c.mu.Lock()
		if c.closed || c.ctx.Err() != nil {
			c.mu.Unlock()
			return nil, ErrClosed
		}
		b := c.at(k)
		b.listen()
		l := &b.links[use]
		if cn := l.cn; cn != nil {
			c.mu.Unlock()
			if cn.Err() == nil {
				return cn, nil
			}
			c.gone(b, use, cn)
			continue
		}
		busy := b.busy(use)
		if busy == nil {
			l.dialing = make(chan struct{})
			until, limit := b.until, c.maxResponse
			c.mu.Unlock()
			return c.dial(ctx, b, use, until, limit)
		}
		losses, why := b.losses, b.why
		c.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, waited(ctx, why, "connection to %v", k)
		}
		c.mu.Lock()
		why = b.why
		failed := b.losses != losses && why != nil
		c.mu.Unlock()
		if failed {
			return nil, why
		}
	}
}

func (c *cluster) dial(ctx context.Context, b *broker, use purpose, until time.Time, maxResponse int) (*conn.Conn, error) {
	asked := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	var made *conn.Conn
	ready := make(chan struct{}) // closed when made is set
	err := sleep(ctx, time.Until(until))
	began := time.Now()
	if err == nil {
		made, err = conn.Dial(ctx, "tcp", b.addr, conn.Options{
			Dial: c.o.Dial, TLS: c.o.TLS, Authenticate: c.o.Authenticate, ClientID: c.o.ClientID,
			MaxInFlight: c.maxInFlight, RequestTimeout: c.o.RequestTimeout, MaxResponse: maxResponse,
			ConnectTimeout: c.o.ConnectTimeout, MaxIdle: c.o.ConnectionsMaxIdle,
			OnClose: func(error) {
				select {
				case <-ready:
					c.gone(b, use, made)
				default: // the dial fails, or finds the connection closed
				}
			},
		})
	}
	now := time.Now()
	c.mu.Lock()
	l := &b.links[use]
	close(l.dialing)
	l.dialing = nil
	key := b.brokerKey
	switch {
	case c.closed || c.ctx.Err() != nil:
		c.mu.Unlock()
		if made != nil {
			made.Abort(ErrClosed)
		}
		return nil, ErrClosed
	case err != nil && asked.Err() != nil:
		last := b.why
		c.mu.Unlock()
		if last == nil && !errors.Is(err, asked.Err()) {
			last = err
		}
		return nil, waited(asked, last, "connection to %v", key)
	case err != nil:
		err = fmt.Errorf("%w: %v: %w", ErrNoBroker, key, err)
		b.listen()
		var follow []*conn.Conn
		if errors.Is(err, conn.ErrTimeout) && b.silentSince(began) {
			follow = b.take()
		}
		b.fail(now, err, c.o.reconnect)
		fails := b.fails
		c.mu.Unlock()
		c.lg.Warn("broker not reached", zap.Stringer("broker", key), zap.Int("try", fails), zap.Error(err))
		c.dropped(key.id, follow, err)
		return nil, err
	}
	l.cn, l.made, l.greeted = made, now, made.Answers()
	b.greeted(made.LastAnswer())
	close(ready)
	c.mu.Unlock()
	if made.Err() != nil { // closed before it was known here
		c.gone(b, use, made)
	}
	return made, nil
}

// gone notes that a connection has ended. It may be called more than once.
func (c *cluster) gone(b *broker, use purpose, cn *conn.Conn) {
	c.mu.Lock()
	if c.closed || b.links[use].cn != cn {
		c.mu.Unlock()
		return
	}
	losses := b.losses
	follow := b.closed(use, time.Now(), &c.o)
	why, id, lost := b.why, b.id, b.losses != losses
	c.mu.Unlock()
	if lost {
		c.dropped(id, follow, why)
	}
}

// dropped does what a broker's failure changes for others: its other connections
// where it is silent on all, and those that rely on that broker.
func (c *cluster) dropped(id int32, follow []*conn.Conn, why error) {
	for _, cn := range follow {
		cn.Abort(fmt.Errorf("closed with another connection: %w", why))
	}
	if h := c.hooks(); h.onLost != nil && id >= 0 {
		h.onLost(id)
	}
}

// lost marks errors of a connection that is gone. What is wrong with the answer
// itself stays what it is.
func lost(err error, cn *conn.Conn) error {
	if err != nil && cn.Err() != nil && !broken(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}
