// Package replication holds what a broker holds of the cluster: the replicas of
// its partitions, each a log with the leader's view of its followers, and the
// controller, which owns the metadata.
package replication

import (
	"fmt"

	"github.com/klamm-io/klamm/wire/kerr"
)

// Refusal is an error that a client is told: a code of the protocol with words
// of its own.
type Refusal struct {
	Code   kerr.Code
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

// Unwrap returns the code.
func (r *Refusal) Unwrap() error { return r.Code }

// maxQuoted is how much of a string that a client has sent is told in an error, in
// bytes: one name may be in the errors of thousands of partitions.
const maxQuoted = 1000

// Refuse returns a Refusal.
func Refuse(code kerr.Code, format string, args ...any) error {
	for i, a := range args {
		if s, ok := a.(string); ok && len(s) > maxQuoted {
			args[i] = s[:maxQuoted] + "..."
		}
	}
	return &Refusal{code, fmt.Sprintf(format, args...)}
}
