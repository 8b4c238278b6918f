package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DescribeCluster add to version 0:
//
//	v1   request: EndpointType; response: EndpointType
//	v2   request: IncludeFencedBrokers; response: Brokers.IsFenced

// describeCluster answers DescribeCluster (key 60, v0-v2). This is a listener of
// brokers: who asks it for controllers is told so.
func (h *Handlers) describeCluster(c *Call, req *msg.DescribeClusterRequest) (*msg.DescribeClusterResponse, error) {
	resp := new(msg.DescribeClusterResponse)
	resp.SetDefaults()
	const brokers, controllers = 1, 2
	if c.Version() >= 1 && req.EndpointType != brokers {
		err := kerr.Refuse(kerr.UnsupportedEndpointType, "Unsupported endpoint type %d", req.EndpointType)
		if req.EndpointType == controllers {
			err = kerr.Refuse(kerr.MismatchedEndpointType, "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")
		}
		resp.ErrorCode, resp.ErrorMessage = int16(h.code(err)), text(err)
		return resp, nil
	}
	resp.ClusterId = h.ClusterID
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
