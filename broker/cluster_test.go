package broker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
)

func TestThree(t *testing.T) {
	began := time.Now()
	disks := map[int32]vfs.FS{}
	for id := range int32(4) {
		disks[id] = vfs.NewMem()
	}
	c, err := StartCluster(context.Background(), ClusterOptions{Brokers: 3, Of: Options{Logger: zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel))}, Dir: "/klamm",
		Disk: func(id int32) vfs.FS { return disks[id] }, Sources: config.Sources{Overrides: []string{"default.replication.factor=3", "min.insync.replicas=2"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Println("started", time.Since(began))
	p, err := client.NewProducer(client.ProducerOptions{Options: client.Options{BootstrapServers: c.Bootstrap()}, Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		at, err := p.Send(ctx, &client.Record{Topic: "a", Value: []byte("x")}).Get(ctx)
		cancel()
		fmt.Println("acked", i, time.Since(began), at, err)
	}
}
