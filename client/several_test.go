package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// hangs has a broker keep silent about one API.
func hangs(f *fake, broker int32, key wire.Key) {
	f.script = func(id int32, h wire.RequestHeader, _ msg.Request) (msg.Response, string) {
		if id == broker && h.Key == key {
			return nil, "silent"
		}
		return nil, ""
	}
}

// TestOneBrokerHangs: who asks several brokers asks them at once, and what the
// others answer does not wait for the one that does not.
func TestOneBrokerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1, 2)
		f.topic("t", 2, 1, 2)
		mustSendTo(t, newProducer(t, f, ProducerOptions{}), "t", 1, "here")
		hangs(f, 2, wire.ListOffsets)
		c, err := NewConsumer(ConsumerOptions{Options: f.options()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(background(t))
		at := make(map[TopicPartition]Position)
		for i := range int32(3) {
			at[TopicPartition{"t", i}] = AtStart(0)
		}
		c.Assign(at)
		began := time.Now()
		rs, err := c.Poll(background(t))
		if took := time.Since(began); err != nil || len(rs) != 1 || rs[0].Partition != 1 || took > 5*time.Second {
			t.Errorf("polled %v, %v after %v", rs, err, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1, 2, 3)
		hangs(f, 2, wire.ListGroups)
		a, err := NewAdmin(AdminOptions{Options: f.options()})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		groups, err := a.ListGroups(ctx)
		if len(groups) != 2 || groups[0].Coordinator != 3 || groups[1].Coordinator != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("groups %+v, %v", groups, err)
		}
	})
}

func mustSendTo(t *testing.T, p *Producer, topic string, partition int32, value string) {
	t.Helper()
	if _, err := p.Send(background(t), &Record{Topic: topic, Partition: partition, Explicit: true, Value: []byte(value)}).Get(background(t)); err != nil {
		t.Fatal(err)
	}
}
