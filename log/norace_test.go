//go:build !race

package log

const defaultModelSteps = 1_000_000
