package api

import (
	"errors"

	"github.com/klamm-io/klamm/wire/kerr"
)

// errUnknownElement means that a request carries the code 0, which stands for
// what the client itself does not know. As in Kafka its connection is closed.
var errUnknownElement = errors.New("a code that stands for unknown")

// unknown reports whether one of codes is 0.
func unknown(codes ...int8) bool {
	for _, c := range codes {
		if c == 0 {
			return true
		}
	}
	return false
}

// errNoAuthorizer is the answer to every change of the ACLs.
var errNoAuthorizer = kerr.Refuse(kerr.SecurityDisabled, "No Authorizer is configured.")
