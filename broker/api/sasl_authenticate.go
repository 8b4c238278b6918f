package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of SaslAuthenticate add to version 0:
//
//	v1   response: SessionLifetimeMs
//	v2   compact and tagged fields

// saslAuthenticate answers SaslAuthenticate (key 36, v0-v2) on a connection that
// needs no authentication.
func (h *Handlers) saslAuthenticate(*Call, *msg.SaslAuthenticateRequest) (*msg.SaslAuthenticateResponse, error) {
	err := kerr.Refuse(kerr.IllegalSaslState, "SaslAuthenticate request received after successful authentication")
	return &msg.SaslAuthenticateResponse{ErrorCode: int16(h.code(err)), ErrorMessage: text(err)}, nil
}
