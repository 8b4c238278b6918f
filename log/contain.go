package log

import (
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"
)

// Contain runs a background job. A panic of it is logged and ends that job only.
func Contain(lg *zap.Logger, job string, f func()) {
	// The error was logged, and a job has nobody else to return it to.
	_ = Caught(lg, job, func() error {
		f()
		return nil
	})
}

// Caught runs f and makes an error of its panic, which is logged.
func Caught(lg *zap.Logger, what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			lg.Error("panic", zap.String("in", what), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("%s: panic: %v", what, p)
		}
	}()
	return f()
}
