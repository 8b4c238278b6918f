package api

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/conn"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// indexTag is the unknown tagged field of an EnvelopeResponse with the index of the
// metadata log that the active controller has come to: what was answered is in there.
const indexTag = 10000

// forwarded returns a row whose requests go to the active controller, if that is another
// node, in an Envelope that names the client (KIP-590).
func (h *Handlers) forwarded(r Row) Row {
	handle := r.Handle
	r.Handle = func(c *Call, body []byte) (Answer, error) {
		if h.ToController == nil || h.Controller.Active() || staysHere(r.API.Key, c.Version(), body, h.NodeID) {
			return handle(c, body)
		}
		var answer Answer
		var err error
		if e := c.Park(func() { answer, err = h.forward(c, body) }); e != nil {
			return Answer{}, e
		}
		if errors.Is(err, kerr.NotController) { // there is none, or this node has become it
			return handle(c, body)
		}
		return answer, err
	}
	return r
}

// staysHere reports whether a request to change configs concerns this broker alone: its
// loggers, and configs of another broker, which it refuses.
func staysHere(key wire.Key, version int16, body []byte, node int32) bool {
	here := func(kind int8, resource string) bool {
		own := fmt.Sprint(node)
		return meta.ResourceType(kind) == meta.BrokerLoggerResource || meta.ResourceType(kind) == meta.BrokerResource && resource != "" && resource != own
	}
	switch key {
	case wire.IncrementalAlterConfigs:
		req := new(msg.IncrementalAlterConfigsRequest)
		if decode(req, body, version) == nil {
			for _, r := range req.Resources {
				if here(r.ResourceType, r.ResourceName) {
					return true
				}
			}
		}
	case wire.AlterConfigs:
		req := new(msg.AlterConfigsRequest)
		if decode(req, body, version) == nil {
			for _, r := range req.Resources {
				if here(r.ResourceType, r.ResourceName) {
					return true
				}
			}
		}
	}
	return false
}

// Pauses between two looks for the active controller.
const (
	firstForward = 5 * time.Millisecond
	lastForward  = 200 * time.Millisecond
)

// forward has the active controller answer. While there is none it waits for an election
// as long as a request may take; then, and if it is this node, the error is
// kerr.NotController. Any other leaves open what was done: the client's connection is
// closed over it, so that the client knows as much.
func (h *Handlers) forward(c *Call, body []byte) (Answer, error) {
	ctx, cancel := h.controllerContext(c)
	defer cancel()
	for pause := firstForward; ; pause = min(2*pause, lastForward) {
		answer, err := h.forwardOnce(ctx, c, body)
		if !errors.Is(err, kerr.NotController) || h.Controller.Active() {
			return answer, err
		}
		if clock.Sleep(ctx, h.Clock, pause) != nil {
			return Answer{}, err
		}
	}
}

func (h *Handlers) forwardOnce(ctx context.Context, c *Call, body []byte) (Answer, error) {
	to, err := h.ToController(ctx)
	if err != nil {
		return Answer{}, err
	}
	inner, err := wire.AppendRequestHeader(nil, c.Header)
	if err != nil {
		return Answer{}, err
	}
	req := &msg.EnvelopeRequest{RequestData: append(inner, body...), RequestPrincipal: appendPrincipal(nil, c.Session.Principal), ClientHostAddress: net.ParseIP(c.Session.RemoteHost)}
	var resp msg.EnvelopeResponse
	if err := to.Do(ctx, req, &resp); err != nil {
		return Answer{}, fmt.Errorf("forward %s: %w", c.Header.Key, err)
	}
	if code := kerr.Code(resp.ErrorCode); code != kerr.None {
		return Answer{}, code
	}
	id, rest, err := wire.ParseResponseHeader(resp.ResponseData, c.Header.Key, c.Version())
	if err == nil && id != c.Header.CorrelationID {
		err = fmt.Errorf("%w: an answer to request %d, not %d", conn.ErrProtocol, id, c.Header.CorrelationID)
	}
	out := msg.NewResponse(int16(c.Header.Key))
	if err == nil {
		err = out.Decode(rest, c.Version())
	}
	if err != nil {
		return Answer{}, fmt.Errorf("forward %s: %w", c.Header.Key, err)
	}
	if resp.Tags != nil {
		for _, t := range *resp.Tags {
			if t.ID == indexTag && len(t.Value) == 8 {
				// The client sees here what it was answered. If this node lags it is answered all the same.
				if err := h.Controller.AwaitApplied(ctx, binary.BigEndian.Uint64(t.Value)); err != nil {
					h.Logger.Warn("answered a change that is not applied here yet", zap.Stringer("api_key", c.Header.Key), zap.Error(err))
				}
			}
		}
	}
	return Answer{Response: out}, nil
}

// envelope answers Envelope (key 58, v0): another broker's client asks.
func (h *Handlers) envelope(c *Call, req *msg.EnvelopeRequest) (*msg.EnvelopeResponse, error) {
	resp := new(msg.EnvelopeResponse)
	refuse := func(code kerr.Code) (*msg.EnvelopeResponse, error) {
		resp.ErrorCode = int16(code)
		return resp, nil
	}
	if !h.Controller.Active() {
		return refuse(kerr.NotController)
	}
	header, body, err := wire.ParseRequestHeader(req.RequestData, "")
	if err != nil {
		return refuse(kerr.InvalidRequest)
	}
	row := h.tables[Controller].Lookup(header.Key)
	if row == nil || !row.API.Forwardable {
		return refuse(kerr.InvalidRequest)
	}
	principal, err := parsePrincipal(req.RequestPrincipal)
	if err != nil {
		return refuse(kerr.PrincipalDeserializationFailure)
	}
	session := *c.Session
	session.Principal, session.RemoteHost, session.Forwarded = principal, net.IP(req.ClientHostAddress).String(), true
	session.Ended, session.fetch, session.alarm = nil, nil, nil
	answer, err := row.Handle(&Call{Context: c.Context, Header: header, Session: &session, Slot: c.Slot}, body)
	if err != nil {
		return refuse(kerr.InvalidRequest) // it is malformed
	}
	b := wire.AppendResponseHeader(nil, header.Key, header.Version, header.CorrelationID)
	if resp.ResponseData, err = answer.Response.AppendTo(b, header.Version); err != nil {
		return nil, err
	}
	resp.Tags = &prim.Tags{{ID: indexTag, Value: binary.BigEndian.AppendUint64(nil, h.Controller.Image().Index)}}
	return resp, nil
}

// principalVersion is that of Kafka's DefaultPrincipalData.
const principalVersion = 0

// appendPrincipal appends a principal such as User:alice as Kafka's DefaultPrincipalData:
// int16 version, compact strings of type and name, bool of whether it came by a delegation
// token, tagged fields.
func appendPrincipal(b []byte, principal string) []byte {
	kind, name, _ := strings.Cut(principal, ":")
	b = prim.AppendInt16(b, principalVersion)
	var e prim.Encoder // these cannot be too long: they came in a request
	b = prim.AppendString(b, kind, true, &e)
	b = prim.AppendString(b, name, true, &e)
	return append(b, 0, 0)
}

func parsePrincipal(b []byte) (string, error) {
	r := prim.NewReader(b)
	version := r.Int16()
	kind, name := r.String(true, ""), r.String(true, "")
	r.Bool()
	if r.Err() == nil && version != principalVersion {
		return "", fmt.Errorf("principal of version %d", version)
	}
	return kind + ":" + name, r.Err()
}
