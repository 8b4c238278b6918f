//go:build !unix

package cli

import (
	"context"
	"os"
)

// watchReader does nothing: the next write tells that nobody reads any more.
func watchReader(context.Context, *os.File, context.CancelCauseFunc) {}
