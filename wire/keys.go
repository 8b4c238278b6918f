// Package wire frames the messages of the Kafka protocol: the table of APIs,
// the size-prefixed frames, and the headers in front of every request and
// response.
package wire

// Key is the key of an API.
type Key int16

// API is one row of the table of APIs.
type API struct {
	Key      Key
	Name     string
	Min, Max int16 // the versions that a 4.3.1 server accepts
	Flexible int16 // the first flexible version
	Unstable int16 // the version that is accepted but not advertised; -1 none
	headerV2 int16 // the first version with request header 2 and response header 1
	// ClusterAction marks traffic between brokers.
	ClusterAction bool
	// Forwardable marks what a broker hands to the active controller.
	Forwardable bool
	// Broker and Controller tell which listeners serve the API.
	Broker, Controller bool
	known              bool
}

// Lookup returns the row of key, and whether there is one.
func Lookup(key Key) (*API, bool) {
	if key < 0 || int(key) >= len(apis) || !apis[key].known {
		return nil, false
	}
	return &apis[key], true
}

// String returns the name of the API.
func (k Key) String() string {
	if a, ok := Lookup(k); ok {
		return a.Name
	}
	return "Unknown"
}

// Advertised returns the range that an ApiVersions response carries for the
// API. Produce is advertised from version 0 on, although versions below 3 are
// refused: librdkafka switches compression off otherwise (KAFKA-18659).
func (a *API) Advertised() (low, high int16) {
	low, high = a.Min, a.Max
	if a.Key == Produce {
		low = 0
	}
	if a.Unstable >= 0 && high >= a.Unstable {
		high = a.Unstable - 1
	}
	return low, high
}

// RequestHeaderVersion returns the version of the header in front of a request
// of version v.
func (a *API) RequestHeaderVersion(v int16) int16 {
	if v >= a.headerV2 {
		return 2
	}
	return 1
}

// ResponseHeaderVersion returns the version of the header in front of a
// response of version v. ApiVersions always has version 0, so that a client
// can parse the answer to a version that the broker does not know (KIP-511).
func (a *API) ResponseHeaderVersion(v int16) int16 {
	if v >= a.headerV2 && a.Key != ApiVersions {
		return 1
	}
	return 0
}
