package client

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/wire/conn"
)

// Options are common to producer, consumer and admin client. The zero value
// works. Kafka keys stand beside the fields; where 0 stands for a default, a
// negative number stands for 0.
type Options struct {
	BootstrapServers []string                                                          // empty means 127.0.0.1:9092 (bootstrap.servers)
	ClientID         string                                                            // client.id
	Dial             func(ctx context.Context, network, addr string) (net.Conn, error) // nil dials TCP
	TLS              *tls.Config                                                       // nil means plain
	Authenticate     func(ctx context.Context, c *conn.Conn) error                     // SASL; nil for none

	RequestTimeout      time.Duration // 0 means 30 s (request.timeout.ms)
	ConnectTimeout      time.Duration // 0 means 10 s (socket.connection.setup.timeout.ms)
	ConnectionsMaxIdle  time.Duration // 0 means 9 min (connections.max.idle.ms)
	MetadataMaxAge      time.Duration // 0 means 5 min (metadata.max.age.ms)
	MetadataMaxIdle     time.Duration // 0 means 5 min (metadata.max.idle.ms)
	RetryBackoff        time.Duration // 0 means 100 ms (retry.backoff.ms)
	RetryBackoffMax     time.Duration // 0 means 1 s (retry.backoff.max.ms)
	ReconnectBackoff    time.Duration // 0 means 50 ms (reconnect.backoff.ms)
	ReconnectBackoffMax time.Duration // 0 means 1 s (reconnect.backoff.max.ms)

	Logger *zap.Logger // nil logs nothing
}

// or returns v, or def if v is 0, or 0 if v is negative.
func or[T ~int | ~int32 | ~int64](v, def T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 0
	}
	return v
}

func (o Options) withDefaults() Options {
	if len(o.BootstrapServers) == 0 {
		o.BootstrapServers = []string{"127.0.0.1:9092"}
	}
	o.RequestTimeout = or(o.RequestTimeout, 30*time.Second)
	o.ConnectTimeout = or(o.ConnectTimeout, 10*time.Second)
	o.ConnectionsMaxIdle = or(o.ConnectionsMaxIdle, 9*time.Minute)
	o.MetadataMaxAge = or(o.MetadataMaxAge, 5*time.Minute)
	o.MetadataMaxIdle = or(o.MetadataMaxIdle, 5*time.Minute)
	o.RetryBackoff = or(o.RetryBackoff, 100*time.Millisecond)
	o.RetryBackoffMax = max(or(o.RetryBackoffMax, time.Second), o.RetryBackoff)
	o.ReconnectBackoff = or(o.ReconnectBackoff, 50*time.Millisecond)
	o.ReconnectBackoffMax = max(or(o.ReconnectBackoffMax, time.Second), o.ReconnectBackoff)
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

// backoff returns how long to wait before try number n (from 1): first, doubled
// for each further try, at most limit, a fifth more or less at random (KIP-580).
func backoff(first, limit time.Duration, n int) time.Duration {
	if n < 1 || first <= 0 {
		return 0
	}
	return time.Duration(float64(steady(first, limit, n)) * (0.8 + 0.4*rand.Float64()))
}

// steady is backoff without chance. n is at least 1.
func steady(first, limit time.Duration, n int) time.Duration {
	return time.Duration(min(float64(first)*math.Pow(2, float64(min(n-1, 30))), float64(limit)))
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isLost reports whether err is that of a connection that could not be made, or
// was lost with the answer.
func isLost(err error) bool {
	var op *net.OpError
	return errors.Is(err, conn.ErrTimeout) || errors.Is(err, conn.ErrClosed) || errors.Is(err, errLost) || errors.Is(err, ErrNoBroker) || errors.As(err, &op)
}
