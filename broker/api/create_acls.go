package api

import "github.com/klamm-io/klamm/wire/msg"

// What the versions of CreateAcls add to version 1:
//
//	v2   compact and tagged fields
//	v3   the same fields

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
