package api

import (
	"slices"

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
	if here == controllers && h.ControllerAt != nil {
		q := h.Controller.Quorum()
		resp.ControllerId = q.Leader
		for _, id := range h.controllers(q.Voters) {
			if host, port, ok := h.controllerEndpoint(c.Session, id); ok {
				resp.Brokers = append(resp.Brokers, msg.DescribeClusterResponseDescribeClusterBroker{BrokerId: id, Host: host, Port: port})
			}
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

// controllers returns the ids of the voters, and of the other controllers that are registered,
// in order.
func (h *Handlers) controllers(voters []int32) []int32 {
	ids := slices.Clone(voters)
	for _, c := range h.Controller.Image().Controllers() {
		ids = append(ids, c.ControllerId)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// controllerEndpoint returns where a client of a session reaches a controller.
func (h *Handlers) controllerEndpoint(s *Session, id int32) (host string, port int32, ok bool) {
	if c := h.Controller.Image().Controller(id); c != nil {
		for _, e := range c.EndPoints {
			if e.Name == s.Listener {
				return e.Host, int32(e.Port), true
			}
		}
	}
	return h.ControllerAt(id)
}
