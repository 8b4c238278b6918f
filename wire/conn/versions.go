package conn

import (
	"context"
	"fmt"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// negotiate asks for the broker's versions, from the newest that we know
// downwards: a broker that lacks it says which it has.
func (c *Conn) negotiate(ctx context.Context) error {
	api, _ := wire.Lookup(wire.ApiVersions)
	v := api.Max
	var refused error
	for range 2 {
		var resp msg.ApiVersionsResponse
		req := &msg.ApiVersionsRequest{ClientSoftwareName: c.o.SoftwareName, ClientSoftwareVersion: c.o.SoftwareVersion}
		if err := c.DoVersion(ctx, req, &resp, v, 0); err != nil {
			return err
		}
		code := kerr.Code(resp.ErrorCode)
		if code != kerr.None && code != kerr.UnsupportedVersion {
			return fmt.Errorf("ApiVersions: %w", code)
		}
		refused = code.Err()
		c.learn(&resp)
		if code == kerr.None {
			return nil
		}
		r, ok := c.versions[wire.ApiVersions]
		if !ok { // a broker that tells nothing understands version 0
			r = versionRange{0, 0}
		}
		if r.max >= v || r.max < 0 {
			break
		}
		v = r.max
	}
	if refused != nil {
		return fmt.Errorf("ApiVersions: %w with %s: %w", ErrVersion, c.addr, refused)
	}
	return fmt.Errorf("ApiVersions: %w with %s", ErrVersion, c.addr)
}

func (c *Conn) learn(resp *msg.ApiVersionsResponse) {
	c.versions = make(map[wire.Key]versionRange, len(resp.ApiKeys))
	for _, k := range resp.ApiKeys {
		c.versions[wire.Key(k.ApiKey)] = versionRange{k.MinVersion, k.MaxVersion}
	}
}

// Version returns the newest version of an API that both sides know.
func (c *Conn) Version(key wire.Key) (int16, error) { return c.VersionUpTo(key, 1<<15-1) }

// VersionUpTo returns the newest version, at most limit, that both sides know.
func (c *Conn) VersionUpTo(key wire.Key, limit int16) (int16, error) {
	api, ok := wire.Lookup(key)
	if !ok {
		return 0, fmt.Errorf("%w: key %d", wire.ErrUnknownAPI, key)
	}
	theirs, ok := c.versions[key]
	if !ok {
		return 0, fmt.Errorf("%w of %s with %s: the broker does not serve it", ErrVersion, api.Name, c.addr)
	}
	_, newest := api.Advertised()
	v := min(newest, theirs.max, limit)
	if v < api.Min || v < theirs.min {
		return 0, fmt.Errorf("%w of %s with %s: it has %d-%d, we have %d-%d", ErrVersion, api.Name, c.addr, theirs.min, theirs.max, api.Min, min(newest, limit))
	}
	return v, nil
}
