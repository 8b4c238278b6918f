//go:build unix

package cli

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// watchReader cancels with errReaderGone when nobody reads from a pipe any more,
// which a command that has nothing to write would not notice. It ends with ctx.
func watchReader(ctx context.Context, f *os.File, cancel context.CancelCauseFunc) {
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	go func() {
		for ctx.Err() == nil {
			if n, err := unix.Poll(fds, 250); n == 0 || err == unix.EINTR {
				continue
			} else if err == nil && fds[0].Revents&unix.POLLERR != 0 {
				cancel(errReaderGone)
			}
			return
		}
	}()
}
