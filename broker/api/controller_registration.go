package api

import (
	"errors"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// ControllerRegistration has one version, 0.

// controllerRegistration answers ControllerRegistration (key 70, v0): a controller that starts
// says where it listens and what it knows.
func (h *Handlers) controllerRegistration(c *Call, req *msg.ControllerRegistrationRequest) (*msg.ControllerRegistrationResponse, error) {
	resp := new(msg.ControllerRegistrationResponse)
	err := error(kerr.NotController)
	if h.Controller.Active() {
		r := control.ControllerRegistration{Controller: req.ControllerId, Incarnation: req.IncarnationId, Features: []control.Feature{}}
		for _, l := range req.Listeners {
			r.EndPoints = append(r.EndPoints, control.EndPoint{Name: l.Name, Host: l.Host, Port: int32(l.Port), Protocol: l.SecurityProtocol})
		}
		for _, f := range req.Features {
			r.Features = append(r.Features, control.Feature{Name: f.Name, Min: f.MinSupportedVersion, Max: f.MaxSupportedVersion})
		}
		ctx, cancel := h.controllerContext(c)
		defer cancel()
		if err = h.Controller.RegisterController(ctx, r); err != nil && !errors.Is(err, kerr.NotController) {
			h.Logger.Warn("refused to register a controller", zap.Int32("controller", req.ControllerId), zap.String("peer", c.Session.RemoteHost), zap.Error(err))
		}
	}
	resp.ErrorCode, resp.ErrorMessage = int16(h.code(err)), text(err)
	return resp, nil
}
