package smoke_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/log/vfs"
)

// TestPowerCut takes a clone of the disk as a power cut would leave it and starts
// a broker on it: the metadata is all there, since it was synced, and the
// partitions are led in a new epoch, so that consumers can tell what was lost.
func TestPowerCut(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	disk := vfs.NewMem()
	first := brokertest.Start(t, brokertest.Options{FS: disk})
	cl, err := kgo.NewClient(kgo.SeedBrokers(first.Bootstrap()), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	every := "1"
	for topic, configs := range map[string]map[string]*string{"t": nil, "synced": {"flush.messages": &every}} {
		if r, err := adm.CreateTopic(ctx, 1, 1, configs, topic); err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
	}
	for range 3 {
		if err := cl.ProduceSync(ctx, kgo.StringRecord("x"), &kgo.Record{Topic: "synced", Value: []byte("y")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	second := brokertest.Start(t, brokertest.Options{FS: disk.CrashClone(vfs.CrashPolicy{})})
	after, err := kgo.NewClient(kgo.SeedBrokers(second.Bootstrap()))
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	adm = kadm.NewClient(after)
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"t", "synced"} {
		d := topics[topic]
		if d.Err != nil || len(d.Partitions) != 1 || d.Partitions[0].LeaderEpoch != 1 {
			t.Errorf("topic %s after the power cut: %+v, want one partition in epoch 1", topic, d)
		}
	}
	ends, err := adm.ListEndOffsets(ctx, "t", "synced")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := ends.Lookup("synced", 0); o.Offset != 3 {
		t.Errorf("flush.messages=1: log end %d after the power cut, want 3", o.Offset)
	}
	if o, _ := ends.Lookup("t", 0); o.Offset > 3 {
		t.Errorf("log end %d after the power cut, more than was written", o.Offset)
	}
	if err := after.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("z")}).FirstErr(); err != nil {
		t.Error(err)
	}
}
