package api

import "github.com/klamm-io/klamm/wire/msg"

// What the versions of DeleteAcls add to version 1:
//
//	v2   compact and tagged fields
//	v3   the same fields

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
