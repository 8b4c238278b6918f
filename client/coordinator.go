package client

import (
	"context"
	"fmt"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// findCoordinator asks which broker coordinates a group, once. A broker that does
// not answer within patience has the next one asked; 0 means
// request.timeout.ms.
func (c *cluster) findCoordinator(ctx context.Context, group string, patience time.Duration) (int32, error) {
	var found BrokerInfo
	err := c.anyConn(ctx, func(cn versioned) error {
		v, err := cn.Version(wire.FindCoordinator)
		if err != nil {
			return err
		}
		req, resp := new(msg.FindCoordinatorRequest), new(msg.FindCoordinatorResponse)
		if v >= 4 {
			req.CoordinatorKeys = []string{group}
		} else {
			req.Key = group
		}
		if err := cn.DoVersion(ctx, req, resp, v, patience); err != nil {
			return err
		}
		if v < 4 {
			found = BrokerInfo{ID: resp.NodeId, Host: resp.Host, Port: resp.Port}
			return codeOf(resp.ErrorCode)
		}
		if len(resp.Coordinators) != 1 {
			return fmt.Errorf("FindCoordinator: %d answers to one question", len(resp.Coordinators))
		}
		r := &resp.Coordinators[0]
		found = BrokerInfo{ID: r.NodeId, Host: r.Host, Port: r.Port}
		return codeOf(r.ErrorCode)
	})
	if err != nil {
		return -1, fmt.Errorf("coordinator of group %s: %w", group, err)
	}
	c.learnBroker(found)
	return found.ID, nil
}

// learnBroker adds a broker that the metadata did not name.
func (c *cluster) learnBroker(b BrokerInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meta = c.meta.withBroker(b, c.begun)
}

// onCoordinator runs f with the broker that coordinates a group, again with
// another one as often as the errors say that it moved.
func (c *cluster) onCoordinator(ctx context.Context, group, what string, f func(broker int32) error) error {
	return c.retryFor(ctx, what+" of group "+group, func() error {
		id, err := c.findCoordinator(ctx, group, 0)
		if err != nil {
			return err
		}
		return f(id)
	})
}
