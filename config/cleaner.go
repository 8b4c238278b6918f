package config

import "time"

// Cleaner is how logs are compacted. The keys can be changed while a broker runs.
type Cleaner struct {
	Threads           int           // log.cleaner.threads
	DedupeBuffer      int64         // log.cleaner.dedupe.buffer.size, bytes for all threads
	MaxBytesPerSecond float64       // log.cleaner.io.max.bytes.per.second, read and written
	Backoff           time.Duration // log.cleaner.backoff.ms
}

// CleanerFrom resolves the configuration of the cleaner.
func CleanerFrom(l Layers) (Cleaner, error) {
	r := resolver{l: l, kind: KindBroker}
	c := Cleaner{
		Threads:           r.int("log.cleaner.threads"),
		DedupeBuffer:      r.long("log.cleaner.dedupe.buffer.size"),
		MaxBytesPerSecond: r.double("log.cleaner.io.max.bytes.per.second"),
		Backoff:           r.ms("log.cleaner.backoff.ms"),
	}
	return c, r.err
}
