//go:build !unix

package broker

// openFiles returns how many files of the logs may be open at once.
func openFiles() int { return 512 }
