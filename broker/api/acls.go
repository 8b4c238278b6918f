package api

import (
	"errors"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// errUnknownElement means that a request carries the code 0, which stands for
// what the client itself does not know. As in Kafka its connection is closed.
var errUnknownElement = errors.New("a code that stands for unknown")

// unknown reports whether one of codes is 0.
func unknown(codes ...int8) bool {
	for _, c := range codes {
		if c == 0 {
			return true
		}
	}
	return false
}

// describeAcls answers DescribeAcls (key 29, v1-v3): there is no authorizer, so
// there are no ACLs to describe.
func (h *Handlers) describeAcls(c *Call, req *msg.DescribeAclsRequest) (*msg.DescribeAclsResponse, error) {
	if unknown(req.ResourceTypeFilter, req.PatternTypeFilter, req.Operation, req.PermissionType) {
		return nil, malformed(c, errUnknownElement)
	}
	err := kerr.Refuse(kerr.SecurityDisabled, "No Authorizer is configured on the broker")
	return &msg.DescribeAclsResponse{ErrorCode: int16(h.code(err)), ErrorMessage: text(err)}, nil
}

// errNoAuthorizer is the answer to every change of the ACLs.
var errNoAuthorizer = kerr.Refuse(kerr.SecurityDisabled, "No Authorizer is configured.")

// createAcls answers CreateAcls (key 30, v1-v3): every one is refused.
func (h *Handlers) createAcls(c *Call, req *msg.CreateAclsRequest) (*msg.CreateAclsResponse, error) {
	resp := new(msg.CreateAclsResponse)
	for _, a := range req.Creations {
		if unknown(a.ResourceType, a.ResourcePatternType, a.Operation, a.PermissionType) {
			return nil, malformed(c, errUnknownElement)
		}
		resp.Results = append(resp.Results, msg.CreateAclsResponseAclCreationResult{ErrorCode: int16(h.code(errNoAuthorizer)), ErrorMessage: text(errNoAuthorizer)})
	}
	return resp, nil
}

// deleteAcls answers DeleteAcls (key 31, v1-v3): every filter is refused.
func (h *Handlers) deleteAcls(c *Call, req *msg.DeleteAclsRequest) (*msg.DeleteAclsResponse, error) {
	resp := new(msg.DeleteAclsResponse)
	for _, f := range req.Filters {
		if unknown(f.ResourceTypeFilter, f.PatternTypeFilter, f.Operation, f.PermissionType) {
			return nil, malformed(c, errUnknownElement)
		}
		resp.FilterResults = append(resp.FilterResults, msg.DeleteAclsResponseDeleteAclsFilterResult{ErrorCode: int16(h.code(errNoAuthorizer)), ErrorMessage: text(errNoAuthorizer)})
	}
	return resp, nil
}
