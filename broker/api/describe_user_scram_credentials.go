package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// DescribeUserScramCredentials has one version, 0.

// describeUserScramCredentials answers DescribeUserScramCredentials (key 50, v0):
// no user has any. A user who stands there twice is answered once.
func (h *Handlers) describeUserScramCredentials(_ *Call, req *msg.DescribeUserScramCredentialsRequest) (*msg.DescribeUserScramCredentialsResponse, error) {
	resp := new(msg.DescribeUserScramCredentialsResponse)
	resp.ErrorMessage = new(string)
	count := make(map[string]int)
	for _, u := range req.Users {
		count[u.Name]++
	}
	for _, u := range req.Users {
		n := count[u.Name]
		if n == 0 {
			continue // said
		}
		count[u.Name] = 0
		err := kerr.Refuse(kerr.ResourceNotFound, "Attempt to describe a user credential that does not exist: %s", u.Name)
		if n > 1 {
			err = kerr.Refuse(kerr.DuplicateResource, "Cannot describe SCRAM credentials for the same user twice in a single request: %s", u.Name)
		}
		resp.Results = append(resp.Results, msg.DescribeUserScramCredentialsResponseDescribeUserScramCredentialsResult{User: u.Name, ErrorCode: int16(h.code(err)), ErrorMessage: text(err)})
	}
	return resp, nil
}
