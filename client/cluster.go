package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// errLost stands for an answer that was lost with its connection.
var errLost = errors.New("connection lost before the answer came")

// purpose keeps traffic that waits on the broker off the connections of other
// traffic: a broker handles one request of a connection at a time.
type purpose uint8

const (
	forData  purpose = iota // produce, fetch
	forGroup                // coordinator
	forAdmin                // metadata and the rest
)

type connKey struct {
	broker int32
	addr   string // of a bootstrap server, whose broker is not known
	use    purpose
}

// cluster keeps the metadata fresh and the connections open. It is safe for
// concurrent use. One goroutine refreshes; callers dial.
type cluster struct {
	o           Options
	maxInFlight int
	retries     int // of one call; set before the first
	lg          *zap.Logger
	ctx         context.Context // ends with close
	cancel      context.CancelFunc
	loop        sync.WaitGroup
	refresh     chan struct{}   // asks for a refresh soon
	onUpdate    func(*metadata) // called after each change, without mu; may be nil

	mu        sync.Mutex // guards the fields below
	meta      *metadata
	updated   chan struct{}        // closed and replaced with each answer
	failed    error                // of the last refresh
	wanted    map[string]time.Time // topics in use, when last used; nil value keys stay
	wantAll   bool                 // all topics
	autoMake  bool                 // let the broker create topics
	conns     map[connKey]*conn.Conn
	dialing   map[connKey]chan struct{}
	dialFails map[connKey]dialFailure
	closed    bool
}

type dialFailure struct {
	count int
	until time.Time // no try before
}

func newCluster(o Options, maxInFlight int, autoMake bool, onUpdate func(*metadata)) *cluster {
	ctx, cancel := context.WithCancel(context.Background())
	c := &cluster{
		o: o, maxInFlight: maxInFlight, retries: math.MaxInt32, lg: o.Logger, ctx: ctx, cancel: cancel, autoMake: autoMake, onUpdate: onUpdate,
		refresh: make(chan struct{}, 1), updated: make(chan struct{}),
		meta:   &metadata{controller: -1, brokers: map[int32]BrokerInfo{}, topics: map[string]*topicInfo{}},
		wanted: make(map[string]time.Time), conns: make(map[connKey]*conn.Conn),
		dialing: make(map[connKey]chan struct{}), dialFails: make(map[connKey]dialFailure),
	}
	c.loop.Go(c.refreshLoop)
	return c
}

// close ends the refreshing and closes every connection; requests under way are
// told.
func (c *cluster) close() {
	c.cancel()
	c.loop.Wait()
	c.mu.Lock()
	c.closed = true
	var all []*conn.Conn
	for _, cn := range c.conns {
		all = append(all, cn)
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

// stale asks for fresh metadata soon.
func (c *cluster) stale() {
	select {
	case c.refresh <- struct{}{}:
	default:
	}
}

// updates returns a channel that is closed with the next refresh.
func (c *cluster) updates() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.updated
}

// want notes that a topic is in use.
func (c *cluster) want(topics ...string) {
	c.mu.Lock()
	for _, t := range topics {
		c.wanted[t] = time.Now()
	}
	c.mu.Unlock()
}

// topic returns a topic's metadata, waiting for it until ctx ends. Errors that
// waiting will not mend are returned at once.
func (c *cluster) topic(ctx context.Context, name string) (*topicInfo, error) {
	for {
		c.mu.Lock()
		t, updated, failed := c.meta.topics[name], c.updated, c.failed
		c.wanted[name] = time.Now()
		c.mu.Unlock()
		if t != nil && t.err == kerr.None && len(t.partitions) > 0 {
			return t, nil
		}
		if t != nil && t.err != kerr.None && !t.err.Retriable() {
			return nil, fmt.Errorf("topic %s: %w", name, t.err)
		}
		c.stale()
		select {
		case <-updated:
		case <-c.ctx.Done():
			return nil, ErrClosed
		case <-ctx.Done():
			if t != nil && t.err != kerr.None {
				return nil, fmt.Errorf("metadata of topic %s: %w (%w)", name, ctx.Err(), t.err)
			}
			if failed != nil {
				return nil, fmt.Errorf("metadata of topic %s: %w (%w)", name, ctx.Err(), failed)
			}
			return nil, fmt.Errorf("metadata of topic %s: %w", name, ctx.Err())
		}
	}
}

// refreshLoop refreshes on demand and by age, with pauses that grow while
// brokers do not answer or topics have no leaders.
func (c *cluster) refreshLoop() {
	age := time.NewTimer(c.o.MetadataMaxAge)
	defer age.Stop()
	tries := 0
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.refresh:
		case <-age.C:
		}
		err := c.update(c.ctx)
		if err != nil {
			tries++
			c.lg.Warn("metadata not refreshed", zap.Error(err))
			c.stale()
		} else {
			tries = 0
		}
		age.Reset(c.o.MetadataMaxAge)
		if tries == 0 && c.settled() {
			continue
		}
		if sleep(c.ctx, backoff(c.o.RetryBackoff, c.o.RetryBackoffMax, max(tries, 1))) != nil {
			return
		}
	}
}

// fresh waits for metadata that was asked for after the call.
func (c *cluster) fresh(ctx context.Context) error {
	for range 2 { // an answer that comes first may be to an older question
		c.mu.Lock()
		updated := c.updated
		c.mu.Unlock()
		c.stale()
		select {
		case <-updated:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return ErrClosed
		}
		c.mu.Lock()
		err := c.failed
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// settled reports whether every topic in use has a leader for every partition.
// Otherwise the next refresh comes after a pause.
func (c *cluster) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.wanted {
		t := c.meta.topics[name]
		if t == nil || t.err != kerr.None {
			return false
		}
		for i := range t.partitions {
			if t.partitions[i].Leader < 0 {
				return false
			}
		}
	}
	return true
}

// update asks one broker for the topics in use.
func (c *cluster) update(ctx context.Context) error {
	req := c.metadataRequest()
	all := req.Topics == nil
	resp, err := c.fetchMetadata(ctx, req)
	c.mu.Lock()
	c.failed = err
	if err == nil {
		c.meta = c.meta.with(resp, all)
	}
	close(c.updated)
	c.updated = make(chan struct{})
	meta := c.meta
	c.mu.Unlock()
	if err == nil && c.onUpdate != nil {
		c.onUpdate(meta)
	}
	return err
}

func (c *cluster) metadataRequest() *msg.MetadataRequest {
	req := new(msg.MetadataRequest)
	req.SetDefaults()
	req.AllowAutoTopicCreation = c.autoMake
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wantAll {
		req.Topics = nil
		return req
	}
	req.Topics = []msg.MetadataRequestTopic{}
	for name, used := range c.wanted {
		if time.Since(used) > c.o.MetadataMaxIdle {
			delete(c.wanted, name)
			continue
		}
		req.Topics = append(req.Topics, msg.MetadataRequestTopic{Name: &name})
	}
	return req
}

func (c *cluster) fetchMetadata(ctx context.Context, req *msg.MetadataRequest) (*msg.MetadataResponse, error) {
	resp := new(msg.MetadataResponse)
	if err := c.doAny(ctx, req, resp); err != nil {
		return nil, err
	}
	if err := codeOf(resp.ErrorCode); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if len(resp.Brokers) == 0 {
		return nil, fmt.Errorf("metadata: %w: the answer names none", ErrNoBroker)
	}
	return resp, nil
}

// hint takes a leader that a broker named (KIP-951) and reports whether it was
// news.
func (c *cluster) hint(topic string, partition, leader, epoch int32, nodes []BrokerInfo) bool {
	c.mu.Lock()
	next := c.meta.withLeader(topic, partition, leader, epoch, nodes)
	news := next != c.meta
	c.meta = next
	c.mu.Unlock()
	if news && c.onUpdate != nil {
		c.onUpdate(next)
	}
	return news
}

// versioned is a connection to one broker.
type versioned = *conn.Conn

// doAny sends a request to any broker that can be reached.
func (c *cluster) doAny(ctx context.Context, req msg.Request, resp msg.Response) error {
	return c.anyConn(ctx, func(cn versioned) error { return cn.Do(ctx, req, resp) })
}

// anyConn runs f with a connection to any broker that can be reached, and with
// another one's if the connection is lost.
func (c *cluster) anyConn(ctx context.Context, f func(versioned) error) error {
	m := c.now()
	var keys []connKey
	for id := range m.brokers {
		keys = append(keys, connKey{broker: id, use: forAdmin})
	}
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	slices.SortStableFunc(keys, func(a, b connKey) int { return c.rank(a) - c.rank(b) })
	for _, addr := range c.o.BootstrapServers {
		keys = append(keys, connKey{broker: -1, addr: addr, use: forAdmin})
	}
	err := error(ErrNoBroker)
	for _, k := range keys {
		cn, dialErr := c.conn(ctx, k)
		if dialErr != nil {
			err = fmt.Errorf("%w: %w", ErrNoBroker, dialErr)
			continue
		}
		if err = lost(f(cn), cn); err == nil || ctx.Err() != nil || !isLost(err) {
			return err
		}
	}
	return err
}

// rank puts brokers with an open connection first and unreachable ones last.
func (c *cluster) rank(k connKey) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cn := c.conns[k]; cn != nil && cn.Err() == nil {
		return 0
	}
	if c.dialFails[k].count > 0 {
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
		if cn := c.conns[k]; cn != nil {
			if cn.Err() == nil {
				c.mu.Unlock()
				return cn, nil
			}
			delete(c.conns, k)
		}
		addr := k.addr
		if k.broker >= 0 {
			b, ok := c.meta.brokers[k.broker]
			if !ok {
				c.mu.Unlock()
				return nil, fmt.Errorf("%w: broker %d is not in the metadata", ErrNoBroker, k.broker)
			}
			addr = b.Addr()
		}
		busy, fail := c.dialing[k], c.dialFails[k]
		if busy == nil {
			done := make(chan struct{})
			c.dialing[k] = done
			c.mu.Unlock()
			cn, err := c.dial(ctx, k, addr, fail)
			close(done)
			return cn, err
		}
		c.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *cluster) dial(ctx context.Context, k connKey, addr string, fail dialFailure) (*conn.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	var cn *conn.Conn
	err := sleep(ctx, time.Until(fail.until))
	if err == nil {
		cn, err = conn.Dial(ctx, "tcp", addr, conn.Options{
			Dial: c.o.Dial, TLS: c.o.TLS, Authenticate: c.o.Authenticate, ClientID: c.o.ClientID,
			MaxInFlight: c.maxInFlight, RequestTimeout: c.o.RequestTimeout,
			ConnectTimeout: c.o.ConnectTimeout, MaxIdle: c.o.ConnectionsMaxIdle,
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.dialing, k)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			fail.count++
			fail.until = time.Now().Add(backoff(c.o.ReconnectBackoff, c.o.ReconnectBackoffMax, fail.count))
			c.dialFails[k] = fail
		}
		return nil, err
	case c.closed || c.ctx.Err() != nil:
		cn.Abort(ErrClosed)
		return nil, ErrClosed
	}
	delete(c.dialFails, k)
	c.conns[k] = cn
	return cn, nil
}

// do sends a request to a broker and waits for the answer.
func (c *cluster) do(ctx context.Context, broker int32, use purpose, req msg.Request, resp msg.Response) error {
	cn, err := c.broker(ctx, broker, use)
	if err != nil {
		return err
	}
	return lost(cn.Do(ctx, req, resp), cn)
}

// lost marks errors of a connection that is gone.
func lost(err error, cn *conn.Conn) error {
	if err != nil && cn.Err() != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}
