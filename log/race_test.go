//go:build race

package log

const defaultModelSteps = 200_000
