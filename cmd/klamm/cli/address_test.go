package cli

import "testing"

func TestAddresses(t *testing.T) {
	for address, good := range map[string]bool{
		"localhost:9092": true, "[::1]:1": true, "10.0.0.1:65535": true,
		"": false, "host": false, ":9092": false, "host:": false, "host:abc": false, "host:0": false, "host:65536": false, "host:+9092": false,
		"host: 9092": false, "http://host:9092": false, "PLAINTEXT://host:9092": false, "::1:9092": false, "a b:9092": false,
	} {
		if why := badServer(address); (why == "") != good {
			t.Errorf("%q: %q", address, why)
		}
	}
}
