package broker

import (
	"fmt"
	"testing"
)

// TestAdvertisedListenersAreRegistered: other brokers, and their clients, are told
// where a broker can be reached, not where it listens.
func TestAdvertisedListenersAreRegistered(t *testing.T) {
	for advertised, want := range map[string]string{
		"": "127.0.0.1",
		"advertised.listeners=PLAINTEXT://kafka.example:19092": "kafka.example 19092",
	} {
		overrides := []string{"listeners=PLAINTEXT://127.0.0.1:0"}
		if advertised != "" {
			overrides = append(overrides, advertised)
		}
		r := start(t, overrides...)
		e := r.controller.Image().Broker(1).Endpoints[0]
		got := e.Host
		if advertised != "" {
			got = fmt.Sprint(e.Host, " ", e.Port)
		}
		if got != want || e.Port == 0 {
			t.Errorf("%s: registered as %+v", advertised, e)
		}
	}
}
