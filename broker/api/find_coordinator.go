package api

import "github.com/klamm-io/klamm/wire/msg"

// What the versions of FindCoordinator add to version 0:
//
//	v1   request: KeyType; response: ThrottleTimeMs, ErrorMessage
//	v2   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v3   compact and tagged fields
//	v4   request: CoordinatorKeys, without Key; response: Coordinators, without ErrorCode, ErrorMessage, NodeId, Host,
//	     Port
//	v5   the same fields
//	v6   the same fields

// findCoordinator answers FindCoordinator (key 10, v0-v6).
func (h *Handlers) findCoordinator(c *Call, req *msg.FindCoordinatorRequest) (*msg.FindCoordinatorResponse, error) {
	resp := new(msg.FindCoordinatorResponse)
	resp.SetDefaults()
	keys := req.CoordinatorKeys
	if c.Version() < 4 {
		keys = []string{req.Key}
	}
	for _, key := range keys {
		node, host, port, err := h.coordinator(c, req.KeyType, key)
		code := h.code(err)
		message := text(err)
		if err == nil && c.Version() < 4 {
			none := "NONE" // what Kafka says where nothing went wrong
			message = &none
		} else if err == nil {
			message = new(string)
		}
		if c.Version() < 4 {
			resp.ErrorCode, resp.ErrorMessage, resp.NodeId, resp.Host, resp.Port = int16(code), message, node, host, port
			break
		}
		resp.Coordinators = append(resp.Coordinators, msg.FindCoordinatorResponseCoordinator{Key: key, NodeId: node, Host: host, Port: port, ErrorCode: int16(code), ErrorMessage: message})
	}
	return resp, nil
}
