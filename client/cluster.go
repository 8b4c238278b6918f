package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/msg"
)

// errLost stands for an answer that was lost with its connection.
var errLost = errors.New("connection lost before the answer came")

// cluster keeps the metadata fresh and the connections open. It is safe for
// concurrent use. One goroutine refreshes; callers dial.
type cluster struct {
	o           Options
	maxInFlight int
	lg          *zap.Logger
	ctx         context.Context // ends with close
	cancel      context.CancelFunc
	loop        sync.WaitGroup
	refresh     chan struct{}   // asks for a refresh soon
	urgent      chan struct{}   // asks for one at once
	onUpdate    func(*metadata) // called after each change, in order, without mu; may be nil
	telling     sync.Mutex      // one call of onUpdate at a time; taken before mu

	retries  int        // of one call; set before the first
	mu       sync.Mutex // guards the fields below
	meta     *metadata
	told     *metadata     // what onUpdate was given last
	updated  chan struct{} // closed and replaced with each answer
	begun    int           // refreshes
	ended    int           // refreshes that were answered or failed
	failed   error         // of the last refresh
	failedAt time.Time
	wanted   map[string]time.Time // topics in use, when last used; nil value keys stay

	autoMake    bool // let the broker create topics
	brokers     map[brokerKey]*broker
	hooked      hooks
	asking      brokerKey // whom a request that any broker can answer went to last; no address before the first
	known       brokerKey // whose last answer about metadata brought no news
	maxResponse int       // bytes of an answer; 0 means 128 MiB
	closed      bool
}

func newCluster(o Options, maxInFlight int, autoMake bool, onUpdate func(*metadata)) *cluster {
	ctx, cancel := context.WithCancel(context.Background())
	c := &cluster{
		o: o, maxInFlight: maxInFlight, retries: math.MaxInt32, lg: o.Logger, ctx: ctx, cancel: cancel, autoMake: autoMake, onUpdate: onUpdate,
		refresh: make(chan struct{}, 1), urgent: make(chan struct{}, 1), updated: make(chan struct{}),
		meta:   newMetadata(),
		wanted: make(map[string]time.Time), brokers: make(map[brokerKey]*broker),
	}
	c.loop.Go(c.refreshLoop)
	return c
}

// setMaxResponse lets answers to fetches of so many bytes through. It counts for
// connections that are made afterwards.
func (c *cluster) setMaxResponse(fetchMaxBytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.maxResponse = max(defaultMaxResponse, fetchMaxBytes+maxResponseSlack)
}

// An answer may be as large as fetch.max.bytes and what is around the records.
const (
	defaultMaxResponse = 128 << 20
	maxResponseSlack   = 16 << 20
)

// close ends the refreshing and closes every connection; requests under way are
// told.
func (c *cluster) close() {
	c.cancel()
	c.loop.Wait()
	c.mu.Lock()
	c.closed = true
	var all []*conn.Conn
	for _, b := range c.brokers {
		all = append(all, b.take()...)
	}
	c.mu.Unlock()
	for _, cn := range all {
		cn.Close()
	}
}

// now returns the metadata as it stands.
func (c *cluster) now() *metadata {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.meta
}

// hint takes leaders that a broker named, with the brokers that it named.
func (c *cluster) hint(hints []leaderHint, nodes []BrokerInfo) {
	if len(hints) == 0 {
		return
	}
	c.mu.Lock()
	c.meta = c.meta.withLeaders(hints, nodes, c.begun)
	c.mu.Unlock()
	c.tell()
}

// tell reports the metadata to onUpdate if it has changed since. What onUpdate is given
// only gets newer, whoever changes the metadata meanwhile. The caller holds no lock
// that onUpdate takes.
func (c *cluster) tell() {
	if c.onUpdate == nil {
		return
	}
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	m := c.meta
	news := m != c.told
	c.told = m
	c.mu.Unlock()
	if news {
		c.onUpdate(m)
	}
}

// versioned is a connection to one broker.
type versioned = *conn.Conn

// doAny sends a request to any broker that can be reached.
func (c *cluster) doAny(ctx context.Context, req msg.Request, resp msg.Response) error {
	return c.anyConn(ctx, func(cn versioned) error { return cn.Do(ctx, req, resp) })
}

// anyConn runs f with a connection to any broker, and with another one's if the
// connection is lost or the broker is too old. Brokers that answer come first. While
// one may answer yet, that others are too old is not the error.
func (c *cluster) anyConn(ctx context.Context, f func(versioned) error) error {
	var last, tooOld error
	for _, k := range c.candidates(forAdmin) {
		c.note(k)
		cn, err := c.conn(ctx, k, forAdmin)
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) && last != nil {
				return waited(ctx, last, "connection to any broker")
			}
			last = err
			continue
		}
		if err = lost(f(cn), cn); err == nil || ctx.Err() != nil || !isLost(err) && !broken(err) {
			return err
		}
		if errors.Is(err, conn.ErrVersion) {
			tooOld = err
		} else {
			last = err
		}
	}
	return cmp.Or(last, tooOld, ErrNoBroker)
}

// note remembers whom a request that any broker can answer goes to.
func (c *cluster) note(k brokerKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = k
}

// asked names the broker that such a request went to last, for errors.
func (c *cluster) asked() string {
	c.mu.Lock()
	k := c.asking
	c.mu.Unlock()
	switch {
	case k.addr == "":
		return "any broker"
	case k.id < 0:
		return k.String()
	}
	return c.name(k.id)
}

// name returns a broker's id and address.
func (c *cluster) name(id int32) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.meta.brokers[id]; ok {
		return fmt.Sprintf("broker %d at %s", id, b.Addr())
	}
	return fmt.Sprintf("broker %d", id)
}

// do sends a request to a broker and waits for the answer.
func (c *cluster) do(ctx context.Context, broker int32, use purpose, req msg.Request, resp msg.Response) error {
	cn, err := c.broker(ctx, broker, use)
	if err != nil {
		return err
	}
	return lost(cn.Do(ctx, req, resp), cn)
}
