package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"runtime/coverage"
	"runtime/debug"
)

// cost is what a piece of work took.
type cost struct {
	Bytes int64 `json:"bytes"` // allocated
	Steps int64 `json:"steps"` // blocks of code of this module that were executed
}

// measure runs f and returns what it took. Steps are the counters of a program
// that was built with -cover -covermode=atomic.
func measure(f func() error) (c cost, err error) {
	var before, after runtime.MemStats
	// A collection in the middle would have pools allocate again.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.GC()
	runtime.GC() // what is pooled outlives one collection
	runtime.ReadMemStats(&before)
	if err := coverage.ClearCounters(); err != nil {
		return c, err
	}
	if err := f(); err != nil {
		return c, err
	}
	var counters bytes.Buffer
	if err := coverage.WriteCounters(&counters); err != nil {
		return c, err
	}
	runtime.ReadMemStats(&after)
	c.Bytes = int64(after.TotalAlloc - before.TotalAlloc)
	c.Steps, err = sum(counters.Bytes())
	return c, err
}

// errCounters means that the file of counters is not as it is known.
var errCounters = errors.New("coverage counters in an unknown form")

// sum adds up the counters of a file that runtime/coverage has written:
//
//	32 header, in it at 24 the flavour: 2 for ULEB128
//	16 segment header: 8 number of functions, 4 and 4 bytes of what follows
//	   string table, arguments, padding to 4 bytes
//	   for each function: number of counters, package, function, and the counters
func sum(b []byte) (total int64, err error) {
	const header, segment, flavour, uleb = 32, 16, 24, 2
	if len(b) < header+segment || b[flavour] != uleb {
		return 0, errCounters
	}
	functions := binary.LittleEndian.Uint64(b[header:])
	at := header + segment + int(binary.LittleEndian.Uint32(b[header+8:])) + int(binary.LittleEndian.Uint32(b[header+12:]))
	at += -at & 3
	next := func() (v uint64) {
		n := 0
		if at <= len(b) {
			v, n = binary.Uvarint(b[at:])
		}
		if n <= 0 {
			err = fmt.Errorf("%w: at byte %d of %d", errCounters, at, len(b))
			return 0
		}
		at += n
		return v
	}
	for range functions {
		counters := next()
		next()
		next()
		for i := uint64(0); i < counters && err == nil; i++ {
			total += int64(next())
		}
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}
