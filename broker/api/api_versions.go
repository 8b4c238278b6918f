package api

import (
	"maps"
	"regexp"
	"slices"

	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of ApiVersions add to version 0:
//
//	v1   response: ThrottleTimeMs
//	v2   the broker answers at once, and the client waits out the throttle time (KIP-219)
//	v3   request: ClientSoftwareName, ClientSoftwareVersion; response: SupportedFeatures, FinalizedFeaturesEpoch,
//	     FinalizedFeatures, ZkMigrationReady; compact and tagged fields
//	v4   the same fields

// software is what a client's name and version must look like (KIP-511).
var software = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// apiVersions answers ApiVersions (key 18, v0-v4): what is served, and the
// features (KIP-584).
func (h *Handlers) apiVersions(c *Call, req *msg.ApiVersionsRequest) (*msg.ApiVersionsResponse, error) {
	resp := new(msg.ApiVersionsResponse)
	resp.SetDefaults()
	if c.Version() >= 3 {
		if !software.MatchString(req.ClientSoftwareName) || !software.MatchString(req.ClientSoftwareVersion) {
			resp.ErrorCode = int16(kerr.InvalidRequest)
			return resp, nil
		}
		c.Session.SoftwareName, c.Session.SoftwareVersion = req.ClientSoftwareName, req.ClientSoftwareVersion
	}
	rows := h.tables[c.Session.Kind]
	resp.ApiKeys = make([]msg.ApiVersionsResponseApiVersion, 0, len(rows))
	for _, r := range rows {
		if r != nil && !r.Hidden {
			low, high := r.API.Advertised()
			resp.ApiKeys = append(resp.ApiKeys, msg.ApiVersionsResponseApiVersion{ApiKey: int16(r.API.Key), MinVersion: low, MaxVersion: high})
		}
	}
	for _, f := range control.Features {
		if f.Min > 0 || c.Version() >= 4 { // older clients refuse a minimum of 0 (KAFKA-17011)
			resp.SupportedFeatures = append(resp.SupportedFeatures, msg.ApiVersionsResponseSupportedFeatureKey{Name: f.Name, MinVersion: f.Min, MaxVersion: f.Max})
		}
	}
	image := h.Controller.Image()
	resp.FinalizedFeaturesEpoch = int64(image.Index)
	finalized := image.Features()
	for _, name := range slices.Sorted(maps.Keys(finalized)) {
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, msg.ApiVersionsResponseFinalizedFeatureKey{Name: name, MaxVersionLevel: finalized[name], MinVersionLevel: finalized[name]})
	}
	return resp, nil
}
