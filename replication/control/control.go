// Package control decides on changes of a cluster's metadata. A decision is a
// function of the metadata, the request, and what [Facts] adds; it returns the
// records to write and what to answer. It has no goroutine, clock or lock, reads
// no map in its own order, and takes ids and random numbers from its caller, so
// that the same decision on the same image is the same everywhere.
//
// The answers, codes and words are those of Kafka's controller (the managers in
// org.apache.kafka.controller), where klamm has no reason to differ.
package control

import (
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// Chance is where a decision gets what is new: ids and random numbers. It is used
// by one decision at a time.
type Chance interface {
	// UUID returns an id that no other topic, broker or directory has.
	UUID() prim.UUID
	// Intn returns a number from 0 to n-1.
	Intn(n int) int
}

// Facts are what a decision goes by beside the request.
type Facts struct {
	// Image is the newest metadata. The records of the decision apply to it.
	Image *meta.Image
	// Chance is asked in an order that the request alone gives.
	Chance Chance
	// Full returns why a broker can hold no other partition, nil if it can. It may
	// be nil, and then every live broker can.
	Full func(broker int32) error
	// Static are the static configs of the controller, below the dynamic ones of the
	// cluster and of topics; nil means the defaults.
	Static *config.Static
}

// maxRecords bounds the records of one change that a client asks for
// (MAX_RECORDS_PER_USER_OP).
const maxRecords = 10_000

var errTooManyRecords = kerr.Refuse(kerr.PolicyViolation, "Unable to perform excessively large batch operation.")
