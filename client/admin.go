package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// AdminOptions configure an Admin. The zero value works.
type AdminOptions struct {
	Options
	APITimeout time.Duration // 0 means 1 min (default.api.timeout.ms)
	Retries    int           // 0 means no limit but APITimeout (retries)
}

// Admin asks for and changes what a cluster holds beside records. It is safe for
// concurrent use. Calls try again what may be mended, until their context or
// APITimeout ends.
type Admin struct {
	o  AdminOptions
	cl *cluster
}

// NewAdmin returns an admin client. It connects with the first call.
func NewAdmin(o AdminOptions) (*Admin, error) {
	o.Options = o.Options.withDefaults()
	o.APITimeout = or(o.APITimeout, time.Minute)
	a := &Admin{o: o, cl: newCluster(o.Options, 5, false, nil)}
	a.cl.retries = or(o.Retries, math.MaxInt32)
	return a, nil
}

// Close ends the client; calls under way fail.
func (a *Admin) Close() error {
	a.cl.close()
	return nil
}

// call runs f within APITimeout, again as errors allow. what names the API.
func (a *Admin) call(ctx context.Context, what string, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.o.APITimeout)
	defer cancel()
	return a.cl.retryFor(ctx, what, func() error { return f(ctx) })
}

// onController runs f with a connection to the controller, as the metadata names
// it. Brokers that are no controllers hand requests on: one of them is asked while
// there is no controller, or it does not answer.
func (a *Admin) onController(ctx context.Context, what string, f func(ctx context.Context, cn versioned) error) error {
	return a.call(ctx, what, func(ctx context.Context) error {
		if a.cl.now().controller < 0 {
			if err := a.cl.fresh(ctx); err != nil {
				return err
			}
		}
		id := a.cl.now().controller
		if id < 0 || a.cl.lostBroker(id) {
			return a.cl.anyConn(ctx, func(cn versioned) error { return f(ctx, cn) })
		}
		cn, err := a.cl.broker(ctx, id, forAdmin)
		if err != nil {
			a.cl.stale()
			return err
		}
		err = lost(f(ctx, cn), cn)
		if errors.Is(err, kerr.NotController) {
			if err := a.cl.fresh(ctx); err != nil {
				return err
			}
		}
		return err
	})
}

// because adds the broker's words to a code.
func because(code int16, text *string) error {
	err := codeOf(code)
	if err != nil && text != nil && *text != "" && *text != kerr.Code(code).Message() {
		return fmt.Errorf("%w: %s", err, *text)
	}
	return err
}

// timeoutMs is how long a request has the broker wait at most.
func (a *Admin) timeoutMs() int32 { return int32(a.o.RequestTimeout.Milliseconds()) }

// Cluster is what DescribeCluster returns.
type Cluster struct {
	ID         string
	Controller int32 // -1 if there is none
	Brokers    []BrokerInfo
	Fenced     []BrokerInfo // registered, and serving nobody; brokers before Kafka 4.0 do not name them
}

// DescribeCluster returns the cluster's id, controller and brokers.
func (a *Admin) DescribeCluster(ctx context.Context) (out Cluster, err error) {
	err = a.call(ctx, "DescribeCluster", func(ctx context.Context) error {
		resp := new(msg.DescribeClusterResponse)
		err := a.cl.anyConn(ctx, func(cn versioned) error {
			req := new(msg.DescribeClusterRequest)
			req.SetDefaults()
			if v, err := cn.Version(wire.DescribeCluster); err == nil && v >= 2 {
				req.IncludeFencedBrokers = true
			}
			return cn.Do(ctx, req, resp)
		})
		if err != nil {
			return err
		}
		out = Cluster{ID: resp.ClusterId, Controller: resp.ControllerId}
		for _, b := range resp.Brokers {
			to := &out.Brokers
			if b.IsFenced {
				to = &out.Fenced
			}
			*to = append(*to, BrokerInfo{b.BrokerId, b.Host, b.Port, text(b.Rack)})
		}
		for _, all := range [][]BrokerInfo{out.Brokers, out.Fenced} {
			slices.SortFunc(all, func(x, y BrokerInfo) int { return int(x.ID - y.ID) })
		}
		return because(resp.ErrorCode, resp.ErrorMessage)
	})
	return out, err
}

// LogDir is a data directory of a broker.
type LogDir struct {
	Broker     int32
	Path       string
	Err        error
	Total      int64 // bytes of the volume, -1 if not known
	Usable     int64 // bytes free, -1 if not known
	Partitions []LogDirPartition
}

// LogDirPartition is a partition in a data directory.
type LogDirPartition struct {
	TopicPartition
	Size   int64 // bytes
	Lag    int64 // offsets behind
	Future bool  // being moved here
}

// DescribeLogDirs returns the data directories of all brokers. Where a broker does
// not answer, those of the others are there beside the error.
func (a *Admin) DescribeLogDirs(ctx context.Context) (out []LogDir, err error) {
	err = a.call(ctx, "DescribeLogDirs", func(ctx context.Context) error {
		all, err := askBrokers(ctx, a, func(cn versioned) (*msg.DescribeLogDirsResponse, error) {
			resp := new(msg.DescribeLogDirsResponse)
			if err := cn.Do(ctx, &msg.DescribeLogDirsRequest{}, resp); err != nil {
				return nil, err
			}
			return resp, codeOf(resp.ErrorCode)
		})
		out = nil
		for _, b := range all {
			for _, r := range b.answer.Results {
				d := LogDir{Broker: b.broker, Path: r.LogDir, Err: codeOf(r.ErrorCode), Total: r.TotalBytes, Usable: r.UsableBytes}
				for _, t := range r.Topics {
					for _, p := range t.Partitions {
						d.Partitions = append(d.Partitions, LogDirPartition{TopicPartition{t.Name, p.PartitionIndex}, p.PartitionSize, p.OffsetLag, p.IsFutureKey})
					}
				}
				out = append(out, d)
			}
		}
		return err
	})
	return out, err
}

// brokerAnswer is what one of several brokers answered, or why it did not.
type brokerAnswer[T any] struct {
	broker int32
	answer T
	err    error
}

// askBrokers asks every broker of the cluster at once. The answers are by broker
// id; those that came are there beside the error, which is that of the first broker
// that gave none.
func askBrokers[T any](ctx context.Context, a *Admin, ask func(cn versioned) (T, error)) (all []brokerAnswer[T], err error) {
	if err := a.cl.fresh(ctx); err != nil {
		return nil, err
	}
	for id := range a.cl.now().brokers {
		all = append(all, brokerAnswer[T]{broker: id})
	}
	slices.SortFunc(all, func(x, y brokerAnswer[T]) int { return int(x.broker - y.broker) })
	var asked sync.WaitGroup
	for i := range all {
		asked.Go(func() {
			b := &all[i]
			cn, err := a.cl.broker(ctx, b.broker, forAdmin)
			if err == nil {
				if b.answer, err = ask(cn); err != nil {
					err = fmt.Errorf("broker %d: %w", b.broker, lost(err, cn))
				}
			}
			b.err = err
		})
	}
	asked.Wait()
	for _, b := range all {
		if err == nil {
			err = b.err
		}
	}
	return slices.DeleteFunc(all, func(b brokerAnswer[T]) bool { return b.err != nil }), err
}
