package chaos_test

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/history"
)

// ask asks for ends of partitions, committed offsets and producer ids.
func (l *load) ask(ctx context.Context, r *random) {
	a := admin(l.t, l.s)
	defer a.Close()
	cl, err := franz(l.s)
	if err != nil {
		l.t.Error(err)
		return
	}
	defer cl.Close()
	process := l.rec.Process()
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		switch r.IntN(3) {
		case 0:
			l.ends(within, cl, l.rec.Begin(history.Event{Process: process, Kind: history.End}))
		case 1:
			l.fetched(within, a, l.rec.Begin(history.Event{Process: process, Kind: history.FetchOffset, Group: group}))
		case 2:
			pending := l.rec.Begin(history.Event{Process: process, Kind: history.ProducerID})
			resp, err := (&kmsg.InitProducerIDRequest{TransactionTimeoutMillis: 1000, ProducerID: -1, ProducerEpoch: -1}).RequestWith(within, cl)
			if err == nil {
				err = kerr.ErrorForCode(resp.ErrorCode)
			}
			if err != nil {
				pending.End(history.Info, err, nil)
				break
			}
			pending.With(history.OK, nil, func(e *history.Event) { e.First, e.Count = resp.ProducerID, 1 })
		}
		cancel()
		l.sleep(ctx, time.Duration(100+r.IntN(400))*time.Millisecond)
	}
}

// ends takes down where partitions end, and in which leader epoch.
func (l *load) ends(ctx context.Context, cl *kgo.Client, pending history.Pending) {
	var names []string
	for _, t := range l.topics {
		names = append(names, t.name)
	}
	listed, err := kadm.NewClient(cl).ListEndOffsets(ctx, names...)
	if err != nil {
		pending.End(history.Info, err, nil)
		return
	}
	out := []history.Op{}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			out = append(out, history.Op{Topic: o.Topic, Partition: o.Partition, Offset: o.Offset, Epoch: o.LeaderEpoch})
		}
	})
	pending.End(history.OK, nil, out)
}

// The topics that come and go.
func shortLived(i int) string { return fmt.Sprintf("short-lived-%d", i) }

const shortLivedTopics = 3

// administer makes, grows and deletes topics. Nothing is tried again, so that a refusal says what
// there was.
func (l *load) administer(ctx context.Context, r *random) {
	cl, err := franz(l.s, kgo.RequestRetries(0))
	if err != nil {
		l.t.Error(err)
		return
	}
	defer cl.Close()
	process := l.rec.Process()
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		l.change(within, cl, r, process)
		cancel()
		l.sleep(ctx, time.Duration(200+r.IntN(800))*time.Millisecond)
	}
}

func (l *load) change(ctx context.Context, cl *kgo.Client, r *random, process int) {
	e := history.Event{Process: process, Kind: history.Admin, Name: shortLived(r.IntN(shortLivedTopics)), Count: 1 + r.Int64N(4)}
	e.Action = []history.Action{history.Create, history.Create, history.Delete, history.Grow}[r.IntN(4)]
	if e.Action == history.Delete {
		e.Count = 0
	}
	const timeout = 5000
	pending := l.rec.Begin(e)
	var code int16
	var err error
	switch e.Action {
	case history.Create:
		req := &kmsg.CreateTopicsRequest{TimeoutMillis: timeout, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: e.Name, NumPartitions: int32(e.Count), ReplicationFactor: 3}}}
		var resp *kmsg.CreateTopicsResponse
		if resp, err = req.RequestWith(ctx, cl); err == nil {
			code = resp.Topics[0].ErrorCode
		}
	case history.Grow:
		req := &kmsg.CreatePartitionsRequest{TimeoutMillis: timeout, Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: e.Name, Count: int32(e.Count)}}}
		var resp *kmsg.CreatePartitionsResponse
		if resp, err = req.RequestWith(ctx, cl); err == nil {
			code = resp.Topics[0].ErrorCode
		}
	case history.Delete:
		name := e.Name
		req := &kmsg.DeleteTopicsRequest{TimeoutMillis: timeout, TopicNames: []string{name}, Topics: []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}}
		var resp *kmsg.DeleteTopicsResponse
		if resp, err = req.RequestWith(ctx, cl); err == nil {
			code = resp.Topics[0].ErrorCode
		}
	}
	if err == nil {
		err = kerr.ErrorForCode(code)
	}
	switch err {
	case nil:
		pending.End(history.OK, nil, nil)
	case kerr.TopicAlreadyExists, kerr.UnknownTopicOrPartition, kerr.InvalidPartitions:
		pending.End(history.Fail, err, nil)
	default:
		pending.End(history.Info, err, nil)
	}
}

// describe takes down which topics there are, when all has come to rest.
func (l *load) describe() {
	a := admin(l.t, l.s)
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	topics, err := a.ListTopics(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	count := make(map[string]int)
	for _, t := range topics {
		count[t.Name] = len(t.Partitions)
	}
	process := l.rec.Process()
	for i := range shortLivedTopics {
		pending := l.rec.Begin(history.Event{Process: process, Kind: history.Admin, Action: history.Describe, Name: shortLived(i)})
		pending.With(history.OK, nil, func(e *history.Event) { e.Count = int64(count[e.Name]) })
	}
}

// quorumLeader asks which node is the active controller; it is -1 if nobody knows.
func quorumLeader(ctx context.Context, s system) int32 {
	cl, err := franz(s)
	if err != nil {
		return -1
	}
	defer cl.Close()
	resp, err := (&kmsg.DescribeQuorumRequest{Topics: []kmsg.DescribeQuorumRequestTopic{{Topic: "__cluster_metadata", Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}}}}}).RequestWith(ctx, cl)
	if err != nil || len(resp.Topics) == 0 || len(resp.Topics[0].Partitions) == 0 {
		return -1
	}
	return resp.Topics[0].Partitions[0].LeaderID
}
