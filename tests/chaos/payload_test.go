package chaos_test

import (
	"bytes"
	"fmt"
	"strconv"
)

// payload is the value of a record that stands for v. Every byte of it follows from v, and most
// are of a few hundred bytes.
func payload(v int64) []byte {
	size := 20 + int(uint64(v)*2654435761%400)
	b := make([]byte, 0, size)
	for len(b) < size {
		b = fmt.Appendf(b, "%d ", v)
	}
	return b
}

// key is the key of a record that stands for v.
func key(v int64) []byte { return fmt.Appendf(nil, "key-%d", v%7) }

// parse returns what a record stands for: a value that nobody has sent, if any byte of it is
// another one.
func parse(k, b []byte) int64 {
	first, _, _ := bytes.Cut(b, []byte(" "))
	v, err := strconv.ParseInt(string(first), 10, 64)
	if err != nil {
		return -1
	}
	if !bytes.Equal(b, payload(v)) || !bytes.Equal(k, key(v)) {
		return -v - 1
	}
	return v
}
