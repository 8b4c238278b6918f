package broker

import (
	"fmt"
	"testing"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// A listener serves, and advertises, the APIs of its kind; who asks one kind for the
// other is told so, and only the brokers' are registered with the cluster.
func TestListenersOfBothKinds(t *testing.T) {
	r := start(t, "listeners=PLAINTEXT://broker-1:0,CONTROLLER://broker-1:0")
	addrs := r.Addrs()
	if len(addrs) != 2 || len(r.Bootstrap()) != 1 || len(r.controller.Image().Broker(1).Endpoints) != 1 {
		t.Fatalf("listeners %v, for clients %v, registered %+v", addrs, r.Bootstrap(), r.controller.Image().Broker(1).Endpoints)
	}
	on := func(i int) *peer {
		r.addr = addrs[i]
		return r.dial(t)
	}
	advertised := func(i int) map[wire.Key]bool {
		resp := new(msg.ApiVersionsResponse)
		on(i).ask(&msg.ApiVersionsRequest{ClientSoftwareName: "test", ClientSoftwareVersion: "1"}, 3, resp)
		out := make(map[wire.Key]bool)
		for _, k := range resp.ApiKeys {
			out[wire.Key(k.ApiKey)] = true
		}
		return out
	}
	brokers, controllers := advertised(0), advertised(1)
	for key := range controllers {
		if api, _ := wire.Lookup(key); !api.Controller {
			t.Errorf("a controller advertises %s", key)
		}
	}
	for _, c := range []struct {
		key                wire.Key
		broker, controller bool
	}{{wire.ApiVersions, true, true}, {wire.DescribeCluster, true, true}, {wire.DescribeQuorum, true, true}, {wire.CreateTopics, true, true},
		{wire.Metadata, true, false}, {wire.Produce, true, false}, {wire.Fetch, true, false}} {
		if brokers[c.key] != c.broker || controllers[c.key] != c.controller {
			t.Errorf("%s is advertised by a broker: %t, by a controller: %t", c.key, brokers[c.key], controllers[c.key])
		}
	}
	p := on(1)
	p.send(p.request(new(msg.MetadataRequest), 9))
	if err := p.closed(); err != nil {
		t.Errorf("a controller is asked for metadata: %v", err)
	}
	for _, c := range []struct {
		listener int
		kind     int8
		want     string
	}{{0, 1, "0 kind 1, 1 nodes"}, {0, 2, "114 kind 1, 0 nodes"}, {0, 3, "115 kind 1, 0 nodes"}, {1, 2, "0 kind 2, 1 nodes"}, {1, 1, "114 kind 1, 0 nodes"}} {
		resp := new(msg.DescribeClusterResponse)
		on(c.listener).ask(&msg.DescribeClusterRequest{EndpointType: c.kind}, 1, resp)
		if got := fmt.Sprintf("%d kind %d, %d nodes", resp.ErrorCode, resp.EndpointType, len(resp.Brokers)); got != c.want {
			t.Errorf("listener %d, endpoints of kind %d: %s, want %s", c.listener, c.kind, got, c.want)
		}
		for _, b := range resp.Brokers {
			if at := fmt.Sprintf("%s:%d", b.Host, b.Port); at != addrs[c.listener] || b.BrokerId != 1 {
				t.Errorf("listener %d: node %d at %s, want %s", c.listener, b.BrokerId, at, addrs[c.listener])
			}
		}
	}
}
