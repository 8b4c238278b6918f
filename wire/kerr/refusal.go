package kerr

import "fmt"

// Refusal is an error that a client is sent: a code of the protocol with words
// of its own.
type Refusal struct {
	Code   Code
	Reason string
}

// Error returns the words alone.
func (r *Refusal) Error() string { return r.Reason }

// Unwrap returns the code.
func (r *Refusal) Unwrap() error { return r.Code }

// maxQuoted is how much of a string that a client has sent is repeated in an
// error, in bytes: one name may be in the errors of thousands of partitions.
const maxQuoted = 1000

// Refuse returns a Refusal. It shortens the strings among args to 1,000 bytes.
func Refuse(code Code, format string, args ...any) error {
	for i, a := range args {
		if s, ok := a.(string); ok && len(s) > maxQuoted {
			args[i] = s[:maxQuoted] + "..."
		}
	}
	return &Refusal{code, fmt.Sprintf(format, args...)}
}
