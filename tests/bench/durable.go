package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/systems"
)

// makeTopic makes a topic with a configuration.
func makeTopic(ctx context.Context, p *systems.Process, name string, partitions int32, config map[string]string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.Addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	c := make(map[string]*string)
	for k, v := range config {
		c[k] = &v
	}
	r, err := kadm.NewClient(cl).CreateTopic(ctx, partitions, 1, c, name)
	if err == nil {
		err = r.Err
	}
	return err
}

// produceDurable has 64 producers wait for each of their records, in a topic
// whose records must be on disk before they are acknowledged.
func produceDurable(partitions int32) func(context.Context, options, string, *systems.Process, int) (map[string]float64, error) {
	return func(ctx context.Context, o options, name string, p *systems.Process, round int) (map[string]float64, error) {
		const producers = 64
		t := fmt.Sprint("durable-", partitions)
		frames := make([][]byte, producers)
		for i := range frames {
			batch, err := recordBatch(1, 100)
			if err != nil {
				return nil, err
			}
			if frames[i], err = rawProduce(t, int32(i)%partitions, batch); err != nil {
				return nil, err
			}
		}
		n := producers * 1000
		if name == "jvm" {
			n /= 8 // it takes as long
		}
		if round == 0 {
			if err := makeTopic(ctx, p, t, partitions, map[string]string{"flush.messages": "1"}); err != nil {
				return nil, err
			}
			// The JVM compiles what it runs.
			if err := retry(ctx, func() error { _, err := rawProducers(p.Addr, frames, n); return err }); err != nil {
				return nil, err
			}
		}
		var client spent
		var took time.Duration
		user, system, err := used(p, func() (err error) {
			client, err = spend(func() error {
				took, err = rawProducers(p.Addr, frames, n)
				return err
			})
			return err
		})
		us := func(d float64) float64 { return d * 1e6 / float64(n) }
		return map[string]float64{"acknowledged/s": float64(n) / took.Seconds(), "CPU us/request": us((user + system).Seconds()),
			"client CPU us/request": us((client.user + client.system).Seconds())}, err
	}
}
