//go:build !unix

package replication

func space(string) (total, usable int64) { return -1, -1 }
