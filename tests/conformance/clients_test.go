package conformance_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/conformance/driver"
	"github.com/klamm-io/klamm/tests/systems"
)

// scenario is one story that every client tells on both brokers.
type scenario struct {
	name  string
	needs []string // capabilities without which there is nothing to run
	run   func(*session)
}

func TestClients(t *testing.T) {
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			drivers := make([]driver.Driver, 2)
			for i, b := range brokers() {
				d, err := c.start(b.Addr)
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				drivers[i] = d
				t.Cleanup(func() {
					if err := d.Close(); err != nil {
						t.Errorf("%s against %s: %v", c.name, b.Name, err)
					}
				})
			}
			for name, why := range drivers[0].Lacks() {
				if !slices.Contains(driver.Capabilities, name) || why == "" {
					t.Errorf("%s lacks %q, which is no capability, or does not say why", c.name, name)
				}
				t.Logf("%s lacks %s: %s", c.name, name, why)
			}
			for _, sc := range scenarios {
				t.Run(sc.name, func(t *testing.T) { differ(t, c.name, sc, drivers) })
			}
		})
	}
}

// differ runs a scenario against both brokers at the same time and compares what
// came of every operation.
func differ(t *testing.T, client string, sc scenario, drivers []driver.Driver) {
	for _, need := range sc.needs {
		if why, lacks := drivers[0].Lacks()[need]; lacks {
			t.Skipf("%s lacks %s: %s", client, need, why)
		}
	}
	var transcripts [2][]string
	whole := t.Run("on", func(t *testing.T) {
		for i, b := range brokers() {
			t.Run(b.Name, func(t *testing.T) {
				t.Parallel()
				s := &session{T: t, broker: b, client: client, scenario: sc.name, driver: drivers[i], lacks: drivers[i].Lacks()}
				defer func() { transcripts[i] = s.transcript }()
				sc.run(s)
			})
		}
	})
	if !whole {
		return
	}
	compare(t, transcripts)
}

func compare(t *testing.T, transcripts [2][]string) {
	t.Helper()
	if len(transcripts[0]) == 0 {
		t.Error("nothing was compared")
	}
	for i, shown := 0, 0; i < max(len(transcripts[0]), len(transcripts[1])) && shown < 5; i++ {
		step := func(tr []string) string {
			if i < len(tr) {
				return tr[i]
			}
			return "nothing"
		}
		if k, j := step(transcripts[0]), step(transcripts[1]); k != j {
			shown++
			t.Errorf("step %d differs:\nklamm %s\njvm   %s", i, k, j)
		}
	}
}

// awaitTopic waits until a broker lists an offset of each partition of a topic.
func awaitTopic(ctx context.Context, b *systems.Process, topic string, partitions int32) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrListOffsetsRequest()
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	for i := range partitions {
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = i, -1
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	for {
		resp, err := cl.Broker(1).RetriableRequest(ctx, req)
		if err == nil {
			for _, p := range resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
				if perr := kerr.ErrorForCode(p.ErrorCode); perr != nil {
					err = fmt.Errorf("partition %d: %w", p.Partition, perr)
				}
			}
		}
		if err == nil || ctx.Err() != nil {
			if err != nil {
				err = fmt.Errorf("%s never served all of %s: %w", b.Name, topic, err)
			}
			return err
		}
	}
}
