package api

import "github.com/klamm-io/klamm/wire/msg"

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
