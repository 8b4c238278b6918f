package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DescribeAcls add to version 1:
//
//	v2   compact and tagged fields
//	v3   the same fields

// describeAcls answers DescribeAcls (key 29, v1-v3): there is no authorizer, so
// there are no ACLs to describe.
func (h *Handlers) describeAcls(c *Call, req *msg.DescribeAclsRequest) (*msg.DescribeAclsResponse, error) {
	if unknown(req.ResourceTypeFilter, req.PatternTypeFilter, req.Operation, req.PermissionType) {
		return nil, malformed(c, errUnknownElement)
	}
	err := kerr.Refuse(kerr.SecurityDisabled, "No Authorizer is configured on the broker")
	return &msg.DescribeAclsResponse{ErrorCode: int16(h.code(err)), ErrorMessage: text(err)}, nil
}
