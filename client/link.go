package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
)

// link is what the cluster knows of one connection to a broker. cluster.mu
// guards it.
type link struct {
	cn      *conn.Conn    // nil before the first dial and while one is under way
	made    time.Time     // when cn was
	greeted int           // answers of cn when it was made
	dialing chan struct{} // closed when the dial under way ends; nil without
	fails   int           // in a row: dials that failed, and connections that were lost soon
	until   time.Time     // no dial before
	last    error         // of the last failure; nil after a success
}

// fail notes a failure. The next dial waits longer (reconnect.backoff.ms).
func (l *link) fail(err error, o *Options) {
	l.fails++
	l.last = err
	l.until = time.Now().Add(backoff(o.ReconnectBackoff, o.ReconnectBackoffMax, l.fails))
}

// lose takes a connection that is gone out. One that did not live for long, or
// brought no answer, is a failure: otherwise a broker that accepts connections
// and closes them would be dialled without a pause.
func (l *link) lose(o *Options) {
	age := time.Since(l.made)
	if age < o.ReconnectBackoffMax || age < 10*o.ReconnectBackoffMax && l.cn.Answers() == l.greeted {
		l.fail(l.cn.Err(), o)
	} else {
		l.fails = 0
	}
	l.cn = nil
}

// String names the broker for errors.
func (k connKey) String() string {
	if k.addr != "" {
		return "bootstrap server " + k.addr
	}
	return fmt.Sprintf("broker %d", k.broker)
}

// rank puts brokers with an open connection first and unreachable ones last.
func (c *cluster) rank(k connKey) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch l := c.links[k]; {
	case l == nil:
		return 1
	case l.cn != nil && l.cn.Err() == nil:
		return 0
	case l.fails > 0:
		return 2
	}
	return 1
}

// broker returns a connection to a broker, made if need be.
func (c *cluster) broker(ctx context.Context, id int32, use purpose) (*conn.Conn, error) {
	return c.conn(ctx, connKey{broker: id, use: use})
}

// conn returns an open connection. One caller dials, others wait for it; after a
// failure none tries before the reconnect backoff is over.
func (c *cluster) conn(ctx context.Context, k connKey) (*conn.Conn, error) {
	for {
		c.mu.Lock()
		if c.closed || c.ctx.Err() != nil {
			c.mu.Unlock()
			return nil, ErrClosed
		}
		l := c.links[k]
		if l == nil {
			l = new(link)
			c.links[k] = l
		}
		if l.cn != nil {
			if l.cn.Err() == nil {
				cn := l.cn
				c.mu.Unlock()
				return cn, nil
			}
			l.lose(&c.o)
		}
		addr, at := k.addr, ""
		if k.broker >= 0 {
			b, ok := c.meta.brokers[k.broker]
			if !ok {
				c.mu.Unlock()
				return nil, fmt.Errorf("%w: broker %d is not in the metadata", ErrNoBroker, k.broker)
			}
			addr = b.Addr()
			at = " at " + addr
		}
		if l.dialing == nil {
			l.dialing = make(chan struct{})
			until, limit := l.until, c.maxResponse
			c.mu.Unlock()
			return c.dial(ctx, k, l, addr, at, until, limit)
		}
		busy, last := l.dialing, l.last
		c.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, waited(ctx, last, "connection to %v%s", k, at)
		}
	}
}

func (c *cluster) dial(ctx context.Context, k connKey, l *link, addr, at string, until time.Time, maxResponse int) (*conn.Conn, error) {
	asked := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	var cn *conn.Conn
	err := sleep(ctx, time.Until(until))
	if err == nil {
		cn, err = conn.Dial(ctx, "tcp", addr, conn.Options{
			Dial: c.o.Dial, TLS: c.o.TLS, Authenticate: c.o.Authenticate, ClientID: c.o.ClientID,
			MaxInFlight: c.maxInFlight, RequestTimeout: c.o.RequestTimeout, MaxResponse: maxResponse,
			ConnectTimeout: c.o.ConnectTimeout, MaxIdle: c.o.ConnectionsMaxIdle,
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	close(l.dialing)
	l.dialing = nil
	switch {
	case c.closed || c.ctx.Err() != nil:
		if cn != nil {
			cn.Abort(ErrClosed)
		}
		return nil, ErrClosed
	case err != nil && asked.Err() != nil:
		last := l.last
		if last == nil && !errors.Is(err, asked.Err()) {
			last = err
		}
		return nil, waited(asked, last, "connection to %v%s", k, at)
	case err != nil:
		err = fmt.Errorf("%w: %v%s: %w", ErrNoBroker, k, at, err)
		l.fail(err, &c.o)
		c.lg.Warn("broker not reached", zap.Stringer("broker", k), zap.String("addr", addr), zap.Int("try", l.fails), zap.Error(err))
		return nil, err
	}
	l.cn, l.made, l.greeted, l.last = cn, time.Now(), cn.Answers(), nil
	return cn, nil
}

// lost marks errors of a connection that is gone. What is wrong with the answer
// itself stays what it is.
func lost(err error, cn *conn.Conn) error {
	if err != nil && cn.Err() != nil && !broken(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}
