package client

import (
	"fmt"
	"math"
	"time"

	"github.com/klamm-io/klamm/wire/record"
)

// Acks is how many replicas must have a record before it counts as written.
type Acks int8

const (
	AcksAll    Acks = iota // all in-sync replicas
	AcksLeader             // the leader
	AcksNone               // none: no answer is awaited
)

func (a Acks) wire() int16 { return [...]int16{-1, 1, 0}[a] }

// Toggle is a switch with a position of its own for "not set".
type Toggle int8

const (
	Auto Toggle = iota
	On
	Off
)

// ProducerOptions configure a Producer. The zero value works; where 0 stands for
// a default, a negative number stands for 0.
//
// Records of a partition are written in the order of Send. With idempotence up to
// MaxInFlight batches of a partition are on their way at once; without it one is,
// since a batch that overtook a refused one could not be taken back. MaxInFlight
// requests are on their way to a broker in both cases.
type ProducerOptions struct {
	Options

	Acks             Acks          // acks
	Idempotence      Toggle        // Auto: on unless another option rules it out (enable.idempotence)
	Compression      record.Codec  // compression.type
	CompressionLevel int           // 0 means the codec's default (compression.<codec>.level)
	BatchSize        int           // 0 means 16384 bytes (batch.size)
	Linger           time.Duration // 0 means 5 ms (linger.ms)
	BufferMemory     int64         // 0 means 32 MiB (buffer.memory)
	MaxBlock         time.Duration // 0 means 1 min (max.block.ms)
	MaxRequestSize   int           // 0 means 1 MiB (max.request.size)
	MaxInFlight      int           // 0 means 5 (max.in.flight.requests.per.connection)
	DeliveryTimeout  time.Duration // 0 means 2 min (delivery.timeout.ms)
	Retries          int           // 0 means no limit but DeliveryTimeout (retries)

	IgnoreKeys           bool          // spread records with keys as those without (partitioner.ignore.keys)
	NoAdaptivePartitions bool          // do not prefer brokers that keep up (partitioner.adaptive.partitioning.enable)
	AvailabilityTimeout  time.Duration // leave out brokers that did not take records for so long; 0 never (partitioner.availability.timeout.ms)
}

func (o ProducerOptions) withDefaults() ProducerOptions {
	o.Options = o.Options.withDefaults()
	o.BatchSize = or(o.BatchSize, 16384)
	o.Linger = or(o.Linger, 5*time.Millisecond)
	o.BufferMemory = or(o.BufferMemory, 32<<20)
	o.MaxBlock = or(o.MaxBlock, time.Minute)
	o.MaxRequestSize = or(o.MaxRequestSize, 1<<20)
	o.MaxInFlight = or(o.MaxInFlight, 5)
	if o.DeliveryTimeout == 0 {
		o.DeliveryTimeout = max(2*time.Minute, o.Linger+o.RequestTimeout)
	}
	o.Retries = or(o.Retries, math.MaxInt32)
	if o.CompressionLevel == 0 {
		o.CompressionLevel = o.Compression.DefaultLevel()
	}
	if o.Idempotence == Auto {
		o.Idempotence = On
		if o.Acks != AcksAll || o.MaxInFlight > 5 || o.Retries == 0 {
			o.Idempotence = Off
		}
	}
	return o
}

func (o *ProducerOptions) validate() error {
	switch {
	case o.Idempotence == On && o.Acks != AcksAll:
		return fmt.Errorf("%w: enable.idempotence needs acks=all", ErrConfig)
	case o.Idempotence == On && o.MaxInFlight > 5:
		return fmt.Errorf("%w: enable.idempotence needs max.in.flight.requests.per.connection <= 5, not %d", ErrConfig, o.MaxInFlight)
	case o.Idempotence == On && o.Retries == 0:
		return fmt.Errorf("%w: enable.idempotence needs retries > 0", ErrConfig)
	case o.MaxInFlight < 1:
		return fmt.Errorf("%w: max.in.flight.requests.per.connection must be at least 1", ErrConfig)
	case o.DeliveryTimeout < o.Linger+o.RequestTimeout:
		return fmt.Errorf("%w: delivery.timeout.ms (%v) must be at least linger.ms (%v) + request.timeout.ms (%v)", ErrConfig, o.DeliveryTimeout, o.Linger, o.RequestTimeout)
	case o.Acks < AcksAll || o.Acks > AcksNone:
		return fmt.Errorf("%w: acks %d", ErrConfig, o.Acks)
	case o.Compression < record.None || o.Compression > record.Zstd:
		return fmt.Errorf("%w: compression %d", ErrConfig, o.Compression)
	}
	return nil
}
