package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

const (
	fetchNames  = 12 // the newest Fetch that names topics rather than their ids
	fetchEpochs = 12 // the first that takes the epoch of the last record
)

// askRecords sends the next request of the session with a broker. In the answer
// topics have their names, whichever way they were asked for; one that was not asked
// for has none. full says that every partition must be in it. The session waits for
// inSession then.
func (c *Consumer) askRecords(leader int32, ps []*position, m *metadata) (resp *msg.FetchResponse, full bool, err error) {
	resp = new(msg.FetchResponse)
	cn, err := c.cl.broker(c.ctx, leader, forData)
	if err != nil {
		return resp, false, err
	}
	names := make(map[prim.UUID]string)
	ids := true
	for _, p := range ps {
		id := m.topics[p.tp.Topic].id
		names[id] = p.tp.Topic
		ids = ids && id != prim.UUID{}
	}
	v, err := fetchVersion(cn, ids)
	if err != nil {
		return resp, false, err
	}
	ids = v > fetchNames
	want := make([]fetchWant, len(ps))
	c.mu.Lock()
	for i, p := range ps {
		t := m.topics[p.tp.Topic]
		want[i] = fetchWant{tp: p.tp, offset: p.next, leaderEpoch: t.partitions[p.tp.Partition].LeaderEpoch, lastEpoch: -1, maxBytes: int32(c.o.PartitionMaxBytes), news: p.highWater < 0}
		if v >= fetchEpochs {
			want[i].lastEpoch = p.epoch
		}
		if ids {
			want[i].id = t.id
		}
	}
	ask := c.session(leader).next(want, ids)
	c.mu.Unlock()
	req := c.fetchRequest(&ask)
	if err = lost(cn.DoVersion(c.ctx, req, resp, v, c.o.FetchMaxWait+c.o.RequestTimeout), cn); err != nil {
		return resp, ask.full, err
	}
	if ids {
		for i := range resp.Responses {
			resp.Responses[i].Topic = names[resp.Responses[i].TopicId]
		}
	}
	return resp, ask.full, nil
}

// fetchVersion returns the newest version of Fetch, of those that name topics unless
// all ids are known.
func fetchVersion(cn *conn.Conn, ids bool) (int16, error) {
	if ids {
		return cn.Version(wire.Fetch)
	}
	return cn.VersionUpTo(wire.Fetch, fetchNames)
}

func (c *Consumer) fetchRequest(ask *fetchAsk) *msg.FetchRequest {
	req := new(msg.FetchRequest)
	req.SetDefaults()
	req.MaxWaitMs, req.MinBytes, req.MaxBytes = int32(c.o.FetchMaxWait.Milliseconds()), int32(c.o.FetchMinBytes), int32(c.o.FetchMaxBytes)
	req.IsolationLevel, req.RackId = c.o.isolation(), c.o.Rack
	req.SessionId, req.SessionEpoch = ask.id, ask.epoch
	type topicKey struct {
		name string
		id   prim.UUID
	}
	at := make(map[topicKey]int)
	for _, w := range ask.send {
		k := topicKey{w.tp.Topic, w.id}
		i, ok := at[k]
		if !ok {
			i = len(req.Topics)
			at[k] = i
			req.Topics = append(req.Topics, msg.FetchRequestFetchTopic{Topic: k.name, TopicId: k.id})
		}
		var fp msg.FetchRequestFetchPartition
		fp.SetDefaults()
		fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes = w.tp.Partition, w.offset, w.maxBytes
		fp.CurrentLeaderEpoch, fp.LastFetchedEpoch = w.leaderEpoch, w.lastEpoch
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, fp)
	}
	clear(at)
	for _, w := range ask.forget {
		k := topicKey{w.tp.Topic, w.id}
		i, ok := at[k]
		if !ok {
			i = len(req.ForgottenTopicsData)
			at[k] = i
			req.ForgottenTopicsData = append(req.ForgottenTopicsData, msg.FetchRequestForgottenTopic{Topic: k.name, TopicId: k.id})
		}
		req.ForgottenTopicsData[i].Partitions = append(req.ForgottenTopicsData[i].Partitions, w.tp.Partition)
	}
	return req
}

func fetchEndpoints(resp *msg.FetchResponse) (nodes []BrokerInfo) {
	for _, e := range resp.NodeEndpoints {
		nodes = append(nodes, BrokerInfo{e.NodeId, e.Host, e.Port, text(e.Rack)})
	}
	return nodes
}

// session returns the session with a broker. The caller holds mu.
func (c *Consumer) session(broker int32) *fetchSession {
	s := c.sessions[broker]
	if s == nil {
		s = new(fetchSession)
		c.sessions[broker] = s
	}
	return s
}

// inSession takes the head of an answer, with the partitions that it names, or the
// error that came in its place. It returns why the answer cannot be used. A broker
// that has lost the session is asked for all again at once, the first time. The caller
// holds mu.
func (c *Consumer) inSession(leader int32, resp *msg.FetchResponse, named []TopicPartition, err error) (anew bool, _ error) {
	s := c.session(leader)
	if err != nil {
		s.failed()
		return false, err
	}
	code := kerr.Code(resp.ErrorCode)
	switch usable := s.answered(code, resp.SessionId, named); {
	case usable:
		delete(c.resets, leader)
		return false, nil
	case code == kerr.None:
		return false, fmt.Errorf("%w: the answer is of another fetch session, or names partitions that were not asked for", errLost)
	case code == kerr.FetchSessionIdNotFound, code == kerr.InvalidFetchSessionEpoch, code == kerr.FetchSessionTopicIdError:
		if c.resets[leader]++; c.resets[leader] == 1 {
			c.lg.Info("fetch session lost, all is asked for again", zap.Int32("broker", leader), zap.Error(code))
			return true, code
		}
	}
	return false, code
}

// endUnused ends the sessions with brokers that nothing is read from any more: a broker
// has room for a number of sessions. The caller holds mu.
func (c *Consumer) endUnused(m *metadata, now time.Time) {
	if len(c.sessions) == 0 || len(c.assigned) == 0 { // without any it is about to be assigned others
		return
	}
	used := make(map[int32]bool)
	for tp, p := range c.assigned {
		if t := m.topics[tp.Topic]; t.has(tp.Partition) {
			used[t.partitions[tp.Partition].Leader] = true
			if p.from.holds(now) {
				used[p.from.id] = true
			}
		}
	}
	for broker, s := range c.sessions {
		if used[broker] || c.fetching[broker] {
			continue
		}
		delete(c.sessions, broker)
		delete(c.resets, broker)
		ids := s.ids
		if ask, open := s.last(); open {
			c.work.Go(func() { c.endSession(c.ctx, broker, &ask, ids) })
		}
	}
}

// endSessionsWithin bounds how long a consumer that closes waits for the end of its
// sessions: without it the brokers make room by themselves.
const endSessionsWithin = 2 * time.Second

// endSessions ends the sessions of a consumer that closes. A broker answers behind
// the fetch that it has, which may wait for fetch.max.wait.ms. No fetch is made any
// more.
func (c *Consumer) endSessions(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(c.o.FetchMaxWait+time.Second, endSessionsWithin))
	defer cancel()
	var ending sync.WaitGroup
	c.mu.Lock()
	for broker, s := range c.sessions {
		ids := s.ids
		if ask, open := s.last(); open {
			ending.Go(func() { c.endSession(ctx, broker, &ask, ids) })
		}
	}
	c.mu.Unlock()
	ending.Wait()
}

// endSession ends a session with its broker, on the connection that the session
// was on: without one the broker finds out by itself.
func (c *Consumer) endSession(ctx context.Context, broker int32, ask *fetchAsk, ids bool) {
	cn := c.cl.opened(broker, forData)
	if cn == nil {
		return
	}
	v, err := fetchVersion(cn, ids)
	if err == nil {
		resp := new(msg.FetchResponse)
		if err = cn.DoVersion(ctx, c.fetchRequest(ask), resp, v, 0); err == nil {
			err = codeOf(resp.ErrorCode)
		}
	}
	if err != nil {
		c.lg.Debug("fetch session not ended", zap.Int32("broker", broker), zap.Error(err))
	}
}
