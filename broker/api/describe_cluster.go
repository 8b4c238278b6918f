package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// describeCluster answers DescribeCluster (key 60, v0-v2).
func (h *Handlers) describeCluster(c *Call, req *msg.DescribeClusterRequest) (*msg.DescribeClusterResponse, error) {
	resp := new(msg.DescribeClusterResponse)
	resp.SetDefaults()
	resp.ClusterId = h.ClusterID
	resp.EndpointType = req.EndpointType
	const brokers, controllers = 1, 2
	if c.Version() >= 1 && req.EndpointType != brokers {
		code := kerr.UnsupportedEndpointType
		if req.EndpointType == controllers {
			code = kerr.MismatchedEndpointType
		}
		resp.ErrorCode = int16(code)
		resp.ErrorMessage = text(code)
		return resp, nil
	}
	resp.ControllerId = h.controllerID()
	resp.ClusterAuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)
	for _, b := range h.Controller.Image().Brokers() {
		if b.Fenced && !(c.Version() >= 2 && req.IncludeFencedBrokers) {
			continue
		}
		if host, port, ok := h.endpoint(c.Session, b); ok {
			resp.Brokers = append(resp.Brokers, msg.DescribeClusterResponseDescribeClusterBroker{BrokerId: b.ID, Host: host, Port: port, Rack: b.Rack, IsFenced: b.Fenced})
		}
	}
	return resp, nil
}
