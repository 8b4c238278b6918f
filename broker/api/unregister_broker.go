package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// UnregisterBroker has one version, 0.

// unregisterBroker answers UnregisterBroker (key 64, v0). The broker that is
// asked cannot take itself out of the cluster: it is running, and the metadata
// would have no one left to lead a partition.
func (h *Handlers) unregisterBroker(c *Call, req *msg.UnregisterBrokerRequest) (*msg.UnregisterBrokerResponse, error) {
	var err error
	if req.BrokerId == h.NodeID && !c.Session.Forwarded {
		err = kerr.Refuse(kerr.InvalidRequest, "Broker %d is running and cannot be unregistered.", req.BrokerId)
	} else {
		ctx, cancel := within(c, int32(h.Broker.RequestTimeout.Milliseconds()))
		defer cancel()
		err = h.Controller.UnregisterBroker(ctx, req.BrokerId)
	}
	return &msg.UnregisterBrokerResponse{ErrorCode: int16(h.code(err)), ErrorMessage: text(err)}, nil
}
