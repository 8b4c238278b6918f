package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DescribeCluster add to version 0:
//
//	v1   request: EndpointType; response: EndpointType
//	v2   request: IncludeFencedBrokers; response: Brokers.IsFenced

// describeCluster answers DescribeCluster (key 60, v0-v2): with the brokers on a listener
// of brokers, with the controllers on one of controllers (KIP-919). A client that asks one for the
// other gets an error.
func (h *Handlers) describeCluster(c *Call, req *msg.DescribeClusterRequest) (*msg.DescribeClusterResponse, error) {
	resp := new(msg.DescribeClusterResponse)
	resp.SetDefaults()
	const brokers, controllers = 1, 2
	names := map[int8]string{brokers: "BROKER", controllers: "CONTROLLER"}
	here := int8(brokers)
	if c.Session.Kind == Controller {
		here = controllers
	}
	if asked := req.EndpointType; asked != here && (c.Version() >= 1 || here == controllers) {
		err := kerr.Refuse(kerr.UnsupportedEndpointType, "Unsupported endpoint type %d", asked)
		if names[asked] != "" {
			err = kerr.Refuse(kerr.MismatchedEndpointType, "The request was sent to an endpoint of type %s, but we wanted an endpoint of type %s", names[here], names[asked])
		}
		resp.ErrorCode, resp.ErrorMessage = int16(h.code(err)), text(err)
		return resp, nil
	}
	resp.EndpointType = here
	resp.ClusterId = h.ClusterID
	resp.ControllerId = h.controllerID()
	resp.ClusterAuthorizedOperations = operations(req.IncludeClusterAuthorizedOperations, clusterOperations)
	if here == controllers && len(h.Voters) > 0 {
		resp.ControllerId = h.Controller.Quorum().Leader
		for _, v := range h.Voters {
			resp.Brokers = append(resp.Brokers, msg.DescribeClusterResponseDescribeClusterBroker{BrokerId: v.ID, Host: v.Host, Port: int32(v.Port)})
		}
		return resp, nil
	}
	if here == controllers { // this node is the only one
		host, port := h.here(c.Session)
		resp.Brokers = []msg.DescribeClusterResponseDescribeClusterBroker{{BrokerId: h.NodeID, Host: host, Port: port}}
		return resp, nil
	}
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
