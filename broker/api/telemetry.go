package api

import (
	"hash/crc32"
	"slices"

	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

// GetTelemetrySubscriptions has one version, 0.

// The answer to a client that is to push no metrics.
const (
	telemetryInterval = 300_000 // milliseconds
	telemetryMaxBytes = 1 << 20
)

// telemetryCodecs are the ways to compress metrics that Kafka accepts, best
// first: zstd, lz4, gzip, snappy.
var telemetryCodecs = []int8{4, 3, 1, 2}

// getTelemetrySubscriptions answers GetTelemetrySubscriptions (key 71, v0): no
// metrics are wanted, since nothing here would receive them. As in Kafka without
// a plug-in that does, it is answered and not advertised.
func (h *Handlers) getTelemetrySubscriptions(_ *Call, req *msg.GetTelemetrySubscriptionsRequest) (*msg.GetTelemetrySubscriptionsResponse, error) {
	id := req.ClientInstanceId
	if id == (prim.UUID{}) {
		id = prim.RandomUUID()
	}
	return &msg.GetTelemetrySubscriptionsResponse{ClientInstanceId: id, SubscriptionId: int32(crc32.ChecksumIEEE(id[:])),
		AcceptedCompressionTypes: slices.Clone(telemetryCodecs), PushIntervalMs: telemetryInterval, TelemetryMaxBytes: telemetryMaxBytes, DeltaTemporality: true}, nil
}
