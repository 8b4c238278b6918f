package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

func newProducer(t *testing.T, f *fake, o ProducerOptions) *Producer {
	t.Helper()
	o.Options.BootstrapServers, o.Dial = f.options().BootstrapServers, f.n.Dial
	p, err := NewProducer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

// send sends values to partition 0 of "t", waits for all and returns the errors.
func send(t *testing.T, p *Producer, values ...string) (errs []error) {
	t.Helper()
	var fs []*Future
	for _, v := range values {
		fs = append(fs, p.Send(background(t), &Record{Topic: "t", Value: []byte(v), Explicit: true}))
	}
	for _, f := range fs {
		_, err := f.Get(background(t))
		errs = append(errs, err)
	}
	return errs
}

func numbers(n int) (s []string) {
	for i := range n {
		s = append(s, fmt.Sprintf("v%04d", i))
	}
	return s
}

func mustSend(t *testing.T, p *Producer, values ...string) {
	t.Helper()
	for i, err := range send(t, p, values...) {
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}

func TestProduce(t *testing.T) {
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		t.Run(codec.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1, 2)
				f.topic("t", 1, 2, 1)
				p := newProducer(t, f, ProducerOptions{Compression: codec, BatchSize: 500})
				var last int64 = -1
				for i := range 300 {
					r := &Record{Topic: "t", Key: []byte("k"), Value: []byte(fmt.Sprint(i)), Headers: []Header{{Key: "h", Value: []byte("x")}}, Timestamp: time.UnixMilli(int64(i))}
					err := p.SendFunc(background(t), r, func(m RecordMetadata, err error) {
						if err != nil || m.Offset != last+1 || m.Timestamp.UnixMilli() != m.Offset {
							t.Errorf("record %d: %+v, %v", last+1, m, err)
						}
						last = m.Offset
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				if err := p.Flush(background(t)); err != nil || last != 299 {
					t.Fatalf("flush: %v; last offset %d", err, last)
				}
				index := int(PartitionForKey([]byte("k"), 3))
				if got := f.values("t", index); len(got) != 300 || got[299] != "299" {
					t.Errorf("%d records", len(got))
				}
				if p.used != 0 {
					t.Errorf("%d bytes still in use", p.used)
				}
			})
		})
	}
}

// TestRetries: whatever comes between, every record is there once and in order.
func TestRetries(t *testing.T) {
	type step func(f *fake, n int, req *msg.ProduceRequest) (msg.Response, string)
	answer := func(code kerr.Code) step {
		return func(f *fake, n int, req *msg.ProduceRequest) (msg.Response, string) {
			if n%3 != 0 || n > 30 {
				return nil, ""
			}
			return refuse(req, code), ""
		}
	}
	drop := func(how string) step {
		return func(f *fake, n int, _ *msg.ProduceRequest) (msg.Response, string) {
			if n%4 == 1 && n < 30 {
				return nil, how
			}
			return nil, ""
		}
	}
	for name, script := range map[string]step{
		"not leader":                    answer(kerr.NotLeaderOrFollower),
		"not enough replicas":           answer(kerr.NotEnoughReplicas),
		"timed out at the broker":       answer(kerr.RequestTimedOut),
		"connection lost before append": drop("before"),
		"connection lost after append":  drop("after"),
		"no answer":                     drop("silent"),
		"leader moves": func(f *fake, n int, _ *msg.ProduceRequest) (msg.Response, string) {
			if n%3 == 1 && n < 30 {
				f.move("t", 0, int32(1+n/3%2))
			}
			return nil, ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1, 2)
				f.topic("t", 1)
				n := 0
				var mu sync.Mutex
				f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
					if r, ok := req.(*msg.ProduceRequest); ok {
						mu.Lock()
						defer mu.Unlock()
						n++
						return script(f, n, r)
					}
					return nil, ""
				}
				p := newProducer(t, f, ProducerOptions{BatchSize: 200, Linger: time.Millisecond, DeliveryTimeout: time.Hour})
				want := numbers(400)
				order := 0
				for _, v := range want {
					i := order
					order++
					err := p.SendFunc(background(t), &Record{Topic: "t", Value: []byte(v), Explicit: true}, func(m RecordMetadata, err error) {
						if err != nil || m.Offset != int64(i) {
							t.Errorf("record %d: offset %d, %v", i, m.Offset, err)
						}
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				if err := p.Flush(background(t)); err != nil {
					t.Fatal(err)
				}
				if got := f.values("t", 0); !slices.Equal(got, want) {
					t.Errorf("log has %d records, want %d in order: %v", len(got), len(want), got)
				}
				if n < 10 {
					t.Errorf("only %d requests: the script hardly ran", n)
				}
			})
		})
	}
}

func refuse(req *msg.ProduceRequest, code kerr.Code) msg.Response {
	resp := new(msg.ProduceResponse)
	resp.SetDefaults()
	for _, t := range req.TopicData {
		tr := msg.ProduceResponseTopicProduceResponse{Name: t.Name, TopicId: t.TopicId}
		for _, d := range t.PartitionData {
			pr := msg.ProduceResponsePartitionProduceResponse{}
			pr.SetDefaults()
			pr.Index, pr.ErrorCode, pr.BaseOffset = d.Index, int16(code), -1
			tr.PartitionResponses = append(tr.PartitionResponses, pr)
		}
		resp.Responses = append(resp.Responses, tr)
	}
	return resp
}

func TestFatalErrorEndsTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		n := 0
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			if r, ok := req.(*msg.ProduceRequest); ok {
				if n++; n == 1 {
					return refuse(r, kerr.TopicAuthorizationFailed), ""
				}
			}
			return nil, ""
		}
		p := newProducer(t, f, ProducerOptions{})
		if errs := send(t, p, "a", "b"); !errors.Is(errs[0], kerr.TopicAuthorizationFailed) || !errors.Is(errs[1], kerr.TopicAuthorizationFailed) {
			t.Errorf("got %v", errs)
		}
		// The sequence of the refused batch is a gap: a new epoch begins.
		mustSend(t, p, "c")
		mustSend(t, p, "d")
		if got := f.values("t", 0); !slices.Equal(got, []string{"c", "d"}) {
			t.Errorf("log %v", got)
		}
	})
}

func TestNewEpochWhenTheBrokerForgot(t *testing.T) {
	for _, code := range []kerr.Code{kerr.UnknownProducerId, kerr.OutOfOrderSequenceNumber, kerr.InvalidProducerEpoch} {
		t.Run(code.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, 1)
				f.topic("t", 1, 1)
				p := newProducer(t, f, ProducerOptions{})
				mustSend(t, p, "a")
				once := true
				f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
					if r, ok := req.(*msg.ProduceRequest); ok && once {
						once = false
						return refuse(r, code), ""
					}
					return nil, ""
				}
				mustSend(t, p, "b")
				mustSend(t, p, "c")
				if got := f.values("t", 0); !slices.Equal(got, []string{"a", "b", "c"}) {
					t.Errorf("log %v", got)
				}
				last := f.topics["t"][0].batches[2]
				if code == kerr.InvalidProducerEpoch {
					if last.ProducerID() != 1002 {
						t.Errorf("producer id %d, want a new one", last.ProducerID())
					}
				} else if last.ProducerEpoch() != 1 || last.BaseSequence() != 1 {
					t.Errorf("epoch %d, sequence %d; want 1, 1", last.ProducerEpoch(), last.BaseSequence())
				}
			})
		})
	}
}

func TestTooLargeBatchIsSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		f.maxBatch = 300
		p := newProducer(t, f, ProducerOptions{BatchSize: 2000, Compression: record.None})
		want := numbers(100)
		var fs []*Future
		for _, v := range want {
			fs = append(fs, p.Send(background(t), &Record{Topic: "t", Value: []byte(v), Explicit: true}))
		}
		for i, fu := range fs {
			if m, err := fu.Get(background(t)); err != nil || m.Offset != int64(i) {
				t.Errorf("record %d: %+v, %v", i, m, err)
			}
		}
		if got := f.values("t", 0); !slices.Equal(got, want) {
			t.Errorf("log %v", got)
		}
		if errs := send(t, p, strings.Repeat("x", 400)); !errors.Is(errs[0], kerr.MessageTooLarge) {
			t.Errorf("one record above the limit: %v", errs)
		}
		mustSend(t, p, "after")
	})
}

func TestDeliveryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		p := newProducer(t, f, ProducerOptions{DeliveryTimeout: 40 * time.Second})
		mustSend(t, p, "a")
		f.n.Partition("client", "b1")
		began := time.Now()
		errs := send(t, p, "b")
		if d := time.Since(began); !errors.Is(errs[0], ErrDeliveryTimeout) || d != 40*time.Second {
			t.Errorf("%v after %v", errs, d)
		}
		f.n.Heal()
		mustSend(t, p, "c")
		got := f.values("t", 0)
		if !slices.Equal(got, []string{"a", "c"}) && !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("log %v", got)
		}
	})
}

func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		p := newProducer(t, f, ProducerOptions{Linger: 100 * time.Millisecond})
		mustSend(t, p, "warm")
		began := time.Now()
		mustSend(t, p, numbers(10)...)
		if d := time.Since(began); d != 100*time.Millisecond {
			t.Errorf("answered after %v", d)
		}
		if n := f.count(wire.Produce); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
		began = time.Now()
		fu := p.Send(background(t), &Record{Topic: "t", Explicit: true})
		if err := p.Flush(background(t)); err != nil || !fu.Ready() || time.Since(began) != 0 {
			t.Errorf("flush: %v, ready %t, after %v", err, fu.Ready(), time.Since(began))
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		p := newProducer(t, f, ProducerOptions{BufferMemory: 3000, MaxBlock: time.Second, Linger: time.Minute, BatchSize: 10000})
		mustSend(t, p, "warm")
		f.n.Partition("client", "b1")
		r := &Record{Topic: "t", Value: make([]byte, 1000), Explicit: true}
		a, b := p.Send(background(t), r), p.Send(background(t), r)
		began := time.Now()
		if _, err := p.Send(background(t), r).Get(background(t)); !errors.Is(err, ErrMaxBlock) || time.Since(began) != time.Second {
			t.Errorf("third record: %v after %v", err, time.Since(began))
		}
		go func() { time.Sleep(500 * time.Millisecond); f.n.Heal() }()
		if err := errors.Join(second(p.Send(background(t), r).Get(background(t))), second(a.Get(background(t))), second(b.Get(background(t)))); err != nil {
			t.Error(err)
		}
		if _, err := p.Send(background(t), &Record{Topic: "t", Value: make([]byte, 3000)}).Get(background(t)); !errors.Is(err, ErrRecordTooLarge) {
			t.Errorf("a record above buffer.memory: %v", err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestMaxBlockWithoutMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		p := newProducer(t, f, ProducerOptions{MaxBlock: 10 * time.Second})
		began := time.Now()
		_, err := p.Send(background(t), &Record{Topic: "nowhere"}).Get(background(t))
		if !errors.Is(err, ErrMaxBlock) || !errors.Is(err, kerr.UnknownTopicOrPartition) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		f.topic("t", 1)
		if _, err := p.Send(background(t), &Record{Topic: "t", Partition: 7, Explicit: true}).Get(background(t)); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("a partition that does not exist: %v", err)
		}
	})
}

func TestClose(t *testing.T) {
	t.Run("sends what is queued", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, 1)
			f.topic("t", 1)
			p := newProducer(t, f, ProducerOptions{Linger: time.Hour, DeliveryTimeout: 2 * time.Hour})
			fu := p.Send(background(t), &Record{Topic: "t", Value: []byte("a")})
			if err := p.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if _, err := fu.Get(background(t)); err != nil {
				t.Error(err)
			}
			if _, err := p.Send(background(t), &Record{Topic: "t"}).Get(background(t)); !errors.Is(err, ErrClosed) {
				t.Errorf("send after close: %v", err)
			}
		})
	})
	t.Run("does not hang on a dead broker", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, 1)
			f.topic("t", 1)
			p := newProducer(t, f, ProducerOptions{})
			mustSend(t, p, "a")
			f.n.HalfOpen("client", "b1")
			f.n.Partition("client", "b1")
			fs := []*Future{p.Send(background(t), &Record{Topic: "t"}), p.Send(background(t), &Record{Topic: "t"})}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			began := time.Now()
			if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			for _, fu := range fs {
				if _, err := fu.Get(background(t)); err == nil {
					t.Error("a record that nobody answered is said to be written")
				}
			}
		})
	})
}

func TestAcksNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		p := newProducer(t, f, ProducerOptions{Acks: AcksNone})
		m, err := p.Send(background(t), &Record{Topic: "t", Value: []byte("a")}).Get(background(t))
		if err != nil || m.Offset != -1 {
			t.Errorf("%+v, %v", m, err)
		}
		synctest.Wait()
		if got := f.values("t", 0); len(got) != 1 || f.topics["t"][0].batches[0].ProducerID() != -1 {
			t.Errorf("log %v", got)
		}
	})
}

func TestProducerOptions(t *testing.T) {
	for name, o := range map[string]ProducerOptions{
		"idempotence with acks 1":       {Idempotence: On, Acks: AcksLeader},
		"idempotence with 6 in flight":  {Idempotence: On, MaxInFlight: 6},
		"idempotence without retries":   {Idempotence: On, Retries: -1},
		"delivery shorter than request": {DeliveryTimeout: time.Second},
		"no such codec":                 {Compression: 9},
	} {
		if p, err := NewProducer(o); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
			p.Close(context.Background())
		}
	}
}

func TestSequencesWrap(t *testing.T) {
	for _, c := range []struct {
		a, b int32
		want bool
	}{{0, 1, true}, {1, 0, false}, {5, 5, false}, {2147483647, 0, true}, {0, 2147483647, false}, {2147483000, 10, true}} {
		if got := seqBefore(c.a, c.b); got != c.want {
			t.Errorf("seqBefore(%d, %d) = %t", c.a, c.b, got)
		}
	}
}

// TestBuffersInFlightAreNotReused (CVE-2026-35554): a batch expires while the
// network holds back its bytes, and records of another topic follow at once.
// When the network lets go, each topic gets its own bytes.
func TestBuffersInFlightAreNotReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1)
		f.topic("u", 1)
		f.n.SetBuffer(1000)
		o := ProducerOptions{Linger: -1, DeliveryTimeout: 1500 * time.Millisecond, BatchSize: 50_000, Idempotence: Off, MaxInFlight: 2}
		o.RequestTimeout, o.RetryBackoff, o.RetryBackoffMax = time.Second, time.Second, time.Second
		p := newProducer(t, f, o)
		mustSend(t, p, "warm")
		if _, err := p.Send(background(t), &Record{Topic: "u", Value: []byte("warm")}).Get(background(t)); err != nil {
			t.Fatal(err)
		}
		refused := false
		f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
			if r, ok := req.(*msg.ProduceRequest); ok && !refused {
				refused = true
				return refuse(r, kerr.NotEnoughReplicas), "" // so that the next try straddles the deadline
			}
			return nil, ""
		}
		mine, others := strings.Repeat("t", 20_000), strings.Repeat("u", 20_000)
		first := p.Send(background(t), &Record{Topic: "t", Value: []byte(mine), Explicit: true})
		time.Sleep(500 * time.Millisecond)
		f.n.Block("client", "b1")
		if _, err := first.Get(background(t)); !errors.Is(err, ErrDeliveryTimeout) {
			t.Fatalf("got %v", err)
		}
		var fs []*Future
		for range 5 {
			fs = append(fs, p.Send(background(t), &Record{Topic: "u", Value: []byte(others)}))
		}
		synctest.Wait()
		f.n.Heal()
		for _, fu := range fs {
			if _, err := fu.Get(background(t)); err != nil {
				t.Error(err)
			}
		}
		for topic, want := range map[string]string{"t": mine, "u": others} {
			for _, v := range f.values(topic, 0)[1:] {
				if v != want {
					t.Errorf("topic %s has a record of %d bytes that begins %.3q", topic, len(v), v)
				}
			}
		}
		if n := len(f.values("t", 0)); n != 2 {
			t.Errorf("topic t has %d records; the late one should have come through", n)
		}
	})
}

func BenchmarkProduce(b *testing.B) {
	t := &testing.T{}
	f := newFakeAt(t)
	f.topic("t", 1, 1)
	f.script = func(_ int32, _ wire.RequestHeader, req msg.Request) (msg.Response, string) {
		if r, ok := req.(*msg.ProduceRequest); ok {
			return refuse(r, kerr.None), ""
		}
		return nil, ""
	}
	o := ProducerOptions{BatchSize: 1 << 18, Linger: time.Millisecond}
	o.BootstrapServers, o.Dial = f.options().BootstrapServers, f.n.Dial
	p, err := NewProducer(o)
	if err != nil {
		b.Fatal(err)
	}
	r := &Record{Topic: "t", Value: make([]byte, 100)}
	b.SetBytes(100)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.SendFunc(context.Background(), r, func(RecordMetadata, error) {}); err != nil {
			b.Fatal(err)
		}
	}
	p.Close(context.Background())
}
