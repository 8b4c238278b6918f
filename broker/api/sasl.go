package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// saslHandshake answers SaslHandshake (key 17, v0-v1) on a connection that needs
// no authentication. It is served for clients that guess the version of a broker
// by the APIs that it has.
func (h *Handlers) saslHandshake(*Call, *msg.SaslHandshakeRequest) (*msg.SaslHandshakeResponse, error) {
	return &msg.SaslHandshakeResponse{ErrorCode: int16(kerr.IllegalSaslState)}, nil
}

// saslAuthenticate answers SaslAuthenticate (key 36, v0-v2) on a connection that
// needs no authentication.
func (h *Handlers) saslAuthenticate(*Call, *msg.SaslAuthenticateRequest) (*msg.SaslAuthenticateResponse, error) {
	err := kerr.Refuse(kerr.IllegalSaslState, "SaslAuthenticate request received after successful authentication")
	return &msg.SaslAuthenticateResponse{ErrorCode: int16(h.code(err)), ErrorMessage: text(err)}, nil
}
