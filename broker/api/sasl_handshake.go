package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of SaslHandshake add to version 0:
//
//	v1   the same fields

// saslHandshake answers SaslHandshake (key 17, v0-v1) on a connection that needs
// no authentication. It is served for clients that guess the version of a broker
// by the APIs that it has.
func (h *Handlers) saslHandshake(*Call, *msg.SaslHandshakeRequest) (*msg.SaslHandshakeResponse, error) {
	return &msg.SaslHandshakeResponse{ErrorCode: int16(kerr.IllegalSaslState)}, nil
}
