package brokertest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/client"
)

func options(b *brokertest.Cluster) client.Options {
	return client.Options{BootstrapServers: strings.Split(b.Bootstrap(), ","), Dial: b.Dial}
}

func producer(t testing.TB, b *brokertest.Cluster) *client.Producer {
	t.Helper()
	p, err := client.NewProducer(client.ProducerOptions{Options: options(b), Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

func send(t testing.TB, p *client.Producer, topic, value string) client.RecordMetadata {
	t.Helper()
	at, err := p.Send(t.Context(), &client.Record{Topic: topic, Value: []byte(value)}).Get(t.Context())
	if err != nil {
		t.Fatalf("send %q: %v", value, err)
	}
	return at
}

func member(t testing.TB, b *brokertest.Cluster, group, topic string) *client.Consumer {
	t.Helper()
	c, err := client.NewConsumer(client.ConsumerOptions{Options: options(b), Group: group, Reset: client.ResetEarliest, NoAutoCommit: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	if err := c.Subscribe(topic); err != nil {
		t.Fatal(err)
	}
	return c
}

// poll returns the next n values.
func poll(t testing.TB, c *client.Consumer, n int) (values []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(values) < n {
		records, err := c.Poll(ctx)
		if err != nil {
			t.Fatalf("poll, after %q: %v", values, err)
		}
		for _, r := range records {
			values = append(values, string(r.Value))
		}
	}
	return values
}

// TestHourInABubble runs a broker, a producer and a consumer group for an hour
// of virtual time.
func TestHourInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.Start(t, brokertest.Options{InMemoryNetwork: true})
		began := time.Now()
		p := producer(t, b)
		first := member(t, b, "billing", "orders")
		var want, got []string
		for i := range 3 {
			want = append(want, fmt.Sprint("order-", i))
			send(t, p, "orders", want[i])
		}
		got = append(got, poll(t, first, 3)...)
		if err := first.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The member stays one by its heartbeats, and polls now and then, for an
		// hour in which something arrives every ten minutes.
		for minute := range 60 {
			time.Sleep(time.Minute)
			if minute%10 == 9 {
				want = append(want, fmt.Sprint("order-at-", minute))
				send(t, p, "orders", want[len(want)-1])
				got = append(got, poll(t, first, 1)...)
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if records, err := first.Poll(ctx); len(records) != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("minute %d: %d records, %v", minute, len(records), err)
			}
			cancel()
		}
		if d := time.Since(began); d < time.Hour {
			t.Errorf("only %v have passed", d)
		}
		if !slices.Equal(got, want) {
			t.Errorf("read %q, want %q", got, want)
		}
		// It never lost its place: what it commits now is accepted, and the next
		// member goes on from there.
		if err := first.Commit(t.Context()); err != nil {
			t.Errorf("commit after an hour: %v", err)
		}
		if err := first.Close(t.Context()); err != nil {
			t.Error(err)
		}
		send(t, p, "orders", "the last")
		if got := poll(t, member(t, b, "billing", "orders"), 1); got[0] != "the last" {
			t.Errorf("the next member reads %q", got)
		}
	})
}

// TestSilentMemberIsRemoved stops the network of a member: after its session
// timeout the other has its partitions.
func TestSilentMemberIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.Start(t, brokertest.Options{InMemoryNetwork: true, Config: map[string]string{"num.partitions": "2"}})
		p := producer(t, b)
		send(t, p, "orders", "a")
		silent := b.Network().Host("silent")
		lost, err := client.NewConsumer(client.ConsumerOptions{Group: "g", Options: client.Options{BootstrapServers: strings.Split(b.Bootstrap(), ","), Dial: silent.Dial}})
		if err != nil {
			t.Fatal(err)
		}
		defer lost.Close(context.Background())
		stays := member(t, b, "g", "orders")
		if err := lost.Subscribe("orders"); err != nil {
			t.Fatal(err)
		}
		polls := func(c *client.Consumer) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			c.Poll(ctx)
		}
		for range 6 {
			go polls(lost)
			polls(stays)
		}
		if a, b := len(stays.Assignment()), len(lost.Assignment()); a != 1 || b != 1 {
			t.Fatalf("%d and %d partitions are assigned, want one each", a, b)
		}
		b.Network().Partition("silent", "broker-1")
		cut := time.Now()
		for len(stays.Assignment()) != 2 {
			polls(stays)
			if time.Since(cut) > 5*time.Minute {
				t.Fatal("the member that is cut off is never removed")
			}
		}
		if d := time.Since(cut); d < 40*time.Second {
			t.Errorf("removed after %v, before its session ended", d)
		}
	})
}

// TestNewsOfTheSamePartition polls records and has more written behind them: they
// do not wait until a fetch of the other partitions has waited in vain.
func TestNewsOfTheSamePartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := brokertest.Start(t, brokertest.Options{InMemoryNetwork: true, Config: map[string]string{"num.partitions": "2"}})
		p := producer(t, b)
		write := func(value string) {
			t.Helper()
			if _, err := p.Send(t.Context(), &client.Record{Topic: "orders", Explicit: true, Value: []byte(value)}).Get(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		write("0")
		c, err := client.NewConsumer(client.ConsumerOptions{Options: options(b)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(context.Background())
		c.Assign(map[client.TopicPartition]client.Position{{Topic: "orders"}: client.AtStart(0), {Topic: "orders", Partition: 1}: client.AtStart(0)})
		for i := range 5 {
			synctest.Wait() // the record has arrived before it is asked for
			began := time.Now()
			if got := poll(t, c, 1); got[0] != fmt.Sprint(i) || time.Since(began) != 0 && i > 0 {
				t.Errorf("read %q after %v, want %d at once", got, time.Since(began), i)
			}
			write(fmt.Sprint(i + 1))
		}
	})
}

// TestOffsetsSurviveARestart starts a broker on the directory of another.
func TestOffsetsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	b := brokertest.Start(t, brokertest.Options{Dir: dir})
	p := producer(t, b)
	for i := range 5 {
		send(t, p, "orders", fmt.Sprint(i))
	}
	c := member(t, b, "g", "orders")
	if got := poll(t, c, 5); len(got) != 5 {
		t.Fatalf("read %q", got)
	}
	if err := c.CommitOffsets(t.Context(), map[client.TopicPartition]client.Offset{{Topic: "orders"}: {At: 3}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(t.Context()), p.Close(t.Context()), b.Close()); err != nil {
		t.Fatal(err)
	}
	b = brokertest.Start(t, brokertest.Options{Dir: dir})
	if got := poll(t, member(t, b, "g", "orders"), 2); !slices.Equal(got, []string{"3", "4"}) {
		t.Errorf("after the restart the group reads %q, want 3 and 4", got)
	}
}

// TestManyBrokers runs brokers side by side, each with its own data.
func TestManyBrokers(t *testing.T) {
	var all []*brokertest.Cluster
	for range 5 {
		all = append(all, brokertest.Start(t, brokertest.Options{}))
	}
	ids := make(map[string]bool)
	for i, b := range all {
		ids[b.ClusterID()] = true
		if at := send(t, producer(t, b), "orders", fmt.Sprint(i)); at.Offset != 0 {
			t.Errorf("broker %d: offset %d", i, at.Offset)
		}
	}
	if len(ids) != len(all) {
		t.Errorf("%d cluster ids of %d brokers", len(ids), len(all))
	}
}

// BenchmarkStartToFirstAck is what a test waits for: from nothing to a record
// that is acknowledged, and to a broker that is closed again.
func BenchmarkStartToFirstAck(b *testing.B) {
	for name, o := range map[string]brokertest.Options{"memory": {}, "disk": {OnDisk: true}, "memory-network": {InMemoryNetwork: true}} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				k := brokertest.Start(b, o)
				p := producer(b, k)
				send(b, p, "orders", "hello")
				took = append(took, time.Since(began))
				b.StopTimer()
				if err := errors.Join(p.Close(b.Context()), k.Close()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-max")
		})
	}
}
