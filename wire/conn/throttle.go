package conn

import (
	"reflect"
	"sync"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// throttledSince names, by API, the first version in which a broker answers at
// once and expects the client to wait (KIP-219). In older versions the broker
// has waited itself before it answered. APIs that are not named are younger than
// KIP-219: their clients always wait.
var throttledSince = map[wire.Key]int16{
	wire.Produce: 6, wire.Fetch: 8, wire.ListOffsets: 3, wire.Metadata: 6, wire.OffsetCommit: 4, wire.OffsetFetch: 4,
	wire.FindCoordinator: 2, wire.JoinGroup: 3, wire.Heartbeat: 2, wire.LeaveGroup: 2, wire.SyncGroup: 2,
	wire.DescribeGroups: 2, wire.ListGroups: 2, wire.ApiVersions: 2, wire.CreateTopics: 3, wire.DeleteTopics: 2,
	wire.DeleteRecords: 1, wire.InitProducerId: 1, wire.AddPartitionsToTxn: 1, wire.AddOffsetsToTxn: 1, wire.EndTxn: 1,
	wire.TxnOffsetCommit: 1, wire.DescribeAcls: 1, wire.CreateAcls: 1, wire.DeleteAcls: 1, wire.DescribeConfigs: 2,
	wire.AlterConfigs: 1, wire.AlterReplicaLogDirs: 1, wire.DescribeLogDirs: 1, wire.CreatePartitions: 1,
	wire.CreateDelegationToken: 1, wire.RenewDelegationToken: 1, wire.ExpireDelegationToken: 1, wire.DescribeDelegationToken: 1,
	wire.DeleteGroups: 1, wire.OffsetForLeaderEpoch: 3,
}

// throttleFields caches by response type where ThrottleTimeMs is, -1 for none.
var throttleFields sync.Map

// throttle returns how long the broker wants this connection to be silent.
func throttle(resp msg.Response, version int16) time.Duration {
	v := reflect.ValueOf(resp).Elem()
	at, ok := throttleFields.Load(v.Type())
	if !ok {
		at = -1
		if f, has := v.Type().FieldByName("ThrottleTimeMs"); has {
			at = f.Index[0]
		}
		throttleFields.Store(v.Type(), at)
	}
	if at.(int) < 0 || version < throttledSince[wire.Key(resp.APIKey())] {
		return 0
	}
	return time.Duration(max(v.Field(at.(int)).Int(), 0)) * time.Millisecond
}

// mute keeps the connection from writing for d. The broker reads nothing
// meanwhile: what is under way or waits has so much longer.
func (c *Conn) mute(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	until := now.Add(d)
	if c.err != nil || !until.After(c.mutedUntil) {
		return
	}
	more := d - max(c.mutedUntil.Sub(now), 0)
	for _, call := range c.pending {
		call.deadline = call.deadline.Add(more)
	}
	c.mutedUntil = until
	if c.unmute == nil {
		c.unmute = time.AfterFunc(d, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.changed.Broadcast()
		})
	} else {
		c.unmute.Reset(d)
	}
}

// MutedUntil returns until when nothing is written, since the broker wants it so.
// It lies in the past if the broker does not.
func (c *Conn) MutedUntil() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mutedUntil
}

// mayWrite reports whether there is something to write and the broker wants to
// hear it. The caller holds mu.
func (c *Conn) mayWrite() bool {
	return len(c.queue) > 0 && !time.Now().Before(c.mutedUntil)
}
