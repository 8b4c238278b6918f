package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of DescribeClientQuotas add to version 0:
//
//	v1   compact and tagged fields

// What a component of a filter of quotas asks for.
const (
	matchExact     = 0 // the entity of that name
	matchDefault   = 1 // the default of that type
	matchSpecified = 2 // any of that type
)

// describeClientQuotas answers DescribeClientQuotas (key 48, v0-v1). No quotas
// are set, so a filter that is well matches none.
func (h *Handlers) describeClientQuotas(_ *Call, req *msg.DescribeClientQuotasRequest) (*msg.DescribeClientQuotasResponse, error) {
	resp := new(msg.DescribeClientQuotasResponse)
	if err := checkQuotaFilter(req.Components); err != nil {
		resp.ErrorCode, resp.ErrorMessage = int16(h.code(err)), text(err)
		return resp, nil
	}
	resp.ErrorMessage = new(string)
	resp.Entries = []msg.DescribeClientQuotasResponseEntryData{}
	return resp, nil
}

func checkQuotaFilter(components []msg.DescribeClientQuotasRequestComponentData) error {
	seen := make(map[string]bool)
	for _, c := range components {
		switch {
		case c.EntityType == "":
			return kerr.Refuse(kerr.InvalidRequest, "Invalid empty entity type.")
		case seen[c.EntityType]:
			return kerr.Refuse(kerr.InvalidRequest, "Entity type %s cannot appear more than once in the filter.", c.EntityType)
		case c.EntityType != "user" && c.EntityType != "client-id" && c.EntityType != "ip":
			return kerr.Refuse(kerr.UnsupportedVersion, "Unsupported entity type %s", c.EntityType)
		}
		seen[c.EntityType] = true
		switch {
		case c.MatchType == matchExact && c.Match == nil:
			return kerr.Refuse(kerr.InvalidRequest, "Request specified MATCH_TYPE_EXACT, but set match string to null.")
		case c.MatchType == matchDefault && c.Match != nil:
			return kerr.Refuse(kerr.InvalidRequest, "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.")
		case c.MatchType == matchSpecified && c.Match != nil:
			return kerr.Refuse(kerr.InvalidRequest, "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.")
		case c.MatchType < matchExact || c.MatchType > matchSpecified:
			return kerr.Refuse(kerr.InvalidRequest, "Unknown match type %d", c.MatchType)
		}
	}
	if seen["ip"] && len(seen) > 1 {
		return kerr.Refuse(kerr.InvalidRequest, "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.")
	}
	return nil
}
