// Package kerr is the table of protocol error codes: the int16 that a response
// carries, as a Go error that knows its name and whether trying again may help.
//
// The facts are those of Kafka 4.3.1. A Code is a comparable value, so
// errors.Is(err, kerr.NotCoordinator) works on wrapped codes.
package kerr

import "strconv"

// Code is a protocol error code. The zero value is None, which is no error;
// use [Code.Err] where None must become a nil error.
type Code int16

// Refresh says what a client must look up again before it tries again.
type Refresh uint8

const (
	RefreshNone        Refresh = iota // nothing: the same broker may do better later
	RefreshMetadata                   // topic metadata: another broker leads
	RefreshCoordinator                // FindCoordinator: another broker coordinates
)

// String returns "none", "metadata" or "coordinator".
func (r Refresh) String() string {
	switch r {
	case RefreshMetadata:
		return "metadata"
	case RefreshCoordinator:
		return "coordinator"
	}
	return "none"
}

// fact is what the table knows of one code.
type fact struct {
	name      string
	message   string
	retriable bool
	refresh   Refresh
}

func (c Code) fact() *fact {
	if i := int(c) + 1; i >= 0 && i < len(table) {
		return &table[i]
	}
	return nil
}

// Known reports whether c is a code of Kafka 4.3.1. A newer peer may send others.
func (c Code) Known() bool { return c.fact() != nil }

// Name returns Kafka's name, such as "NOT_COORDINATOR", or "CODE_<n>" for a code
// that this version does not know.
func (c Code) Name() string {
	if f := c.fact(); f != nil {
		return f.name
	}
	return "CODE_" + strconv.Itoa(int(c))
}

// Message returns what the code means in one phrase.
func (c Code) Message() string {
	if f := c.fact(); f != nil {
		return f.message
	}
	return "error code that this version does not know"
}

// Retriable reports whether the same request may succeed when sent again. An
// unknown code is not retriable.
func (c Code) Retriable() bool {
	f := c.fact()
	return f != nil && f.retriable
}

// Refresh returns what to look up again before the next try.
func (c Code) Refresh() Refresh {
	if f := c.fact(); f != nil {
		return f.refresh
	}
	return RefreshNone
}

// Error implements error: "NAME: meaning".
func (c Code) Error() string { return c.Name() + ": " + c.Message() }

// Err returns nil for None and c for every other code.
func (c Code) Err() error {
	if c == None {
		return nil
	}
	return c
}

// ByName returns the code with Kafka's name n.
func ByName(n string) (Code, bool) {
	for i := range table {
		if table[i].name == n {
			return Code(i - 1), true
		}
	}
	return None, false
}

// Codes returns every known code, in rising order.
func Codes() []Code {
	all := make([]Code, len(table))
	for i := range all {
		all[i] = Code(i - 1)
	}
	return all
}
