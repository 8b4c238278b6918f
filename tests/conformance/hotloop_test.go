package conformance_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	klammclient "github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/tests/conformance/driver"
	"github.com/klamm-io/klamm/tests/systems"
)

const (
	hotWindow = 5 * time.Second // in which requests are counted
	hotLimit  = 20              // fetches and metadata requests a second that no client may send

	fetchKey, metadataKey = 1, 3
)

// TestHotLoops has every client consume two topics, spoils one of them for long,
// and counts what the clients send then. A client that asks again at once,
// whatever the answer, must be slowed down by the broker.
//
// A partition without a leader cannot be had from a single broker that is well,
// and nobody is unauthorized without an authorizer. It runs by itself, for what
// a starved client would ask at once it asks later.
func TestHotLoops(t *testing.T) {
	rates := make([]map[string]float64, 2) // by client and state
	var wg sync.WaitGroup
	for i, start := range []func(string, ...string) (*systems.Process, error){systems.Klamm, systems.JVM} {
		rates[i] = make(map[string]float64)
		wg.Go(func() {
			if err := hotLoops(t, brokers()[i].Name, start, rates[i]); err != nil {
				t.Errorf("%s: %v", brokers()[i].Name, err)
			}
		})
	}
	wg.Wait()
	for _, name := range slices.Sorted(maps.Keys(rates[0])) {
		t.Logf("%s: %.1f requests a second, %.1f from the JVM broker's client", name, rates[0][name], rates[1][name])
		if rates[0][name] >= hotLimit {
			t.Errorf("%s: %.1f requests a second, want fewer than %d", name, rates[0][name], hotLimit)
		}
	}
}

// hotClient is a client that consumes, and by what its requests are known.
type hotClient struct {
	name string
	id   string // pattern of its client id, as of package path
	join func(addr, group string, topics []string) (leave func(), err error)
}

// hotClients are the clients of the drivers and this project's own.
func hotClients() []hotClient {
	out := []hotClient{{"klamm", "klamm-hot", joinOwn}}
	ids := map[string]string{"franz-go": "kgo", "sarama": "sarama", "kafka-go": "*/segmentio/kafka-go)", "librdkafka": "rdkafka", "java": "consumer-*", "kafkajs": "conformance"}
	for _, c := range clients {
		out = append(out, hotClient{c.name, ids[c.name], func(addr, group string, topics []string) (func(), error) {
			d, err := c.start(addr)
			if err != nil {
				return nil, err
			}
			leave := func() {
				d.Do(driver.Op{Op: "leave", Member: "m"})
				d.Close()
			}
			for _, op := range []driver.Op{
				{Op: "join", Member: "m", Group: group, Topic: strings.Join(topics, ","), Reset: "earliest"},
				{Op: "poll", Member: "m", Count: len(topics)},
			} {
				if r := d.Do(op); r.Error != "" {
					leave()
					return nil, fmt.Errorf("%s: %s: %s", op.Op, r.Error, r.Message)
				}
			}
			return leave, nil
		}})
	}
	return out
}

// joinOwn starts this project's consumer.
func joinOwn(addr, group string, topics []string) (func(), error) {
	c, err := klammclient.NewConsumer(klammclient.ConsumerOptions{Options: klammclient.Options{BootstrapServers: []string{addr}, ClientID: "klamm-hot"},
		Group: group, Reset: klammclient.ResetEarliest, FetchMaxWait: 200 * time.Millisecond, NoAutoCreateTopics: true})
	if err != nil {
		return nil, err
	}
	if err := c.Subscribe(topics...); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	ready := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for got, told := 0, false; ctx.Err() == nil; {
			records, err := c.Poll(ctx)
			if got += len(records); !told && got >= len(topics) {
				told = true
				close(ready)
			}
			if err != nil {
				time.Sleep(time.Millisecond) // a user that tries again at once
			}
		}
	})
	leave := func() {
		stop()
		wg.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.Close(ctx)
	}
	select {
	case <-ready:
		return leave, nil
	case <-time.After(driver.Limit):
		leave()
		return nil, fmt.Errorf("no records within %v", driver.Limit)
	}
}

// hotBroker is a broker that is spoiled for its clients.
type hotBroker struct {
	*systems.Process
	proxy *proxy
	admin *kadm.Client
	cl    *kgo.Client
	dirs  []string
}

// hotLoops counts the requests against one broker, in every state.
func hotLoops(t *testing.T, name string, start func(string, ...string) (*systems.Process, error), rates map[string]float64) error {
	root := t.TempDir()
	b := &hotBroker{proxy: newProxy(t), dirs: []string{filepath.Join(root, "a"), filepath.Join(root, "b")}}
	overrides := append(slices.Clone(overrides), b.proxy.advertised(), "auto.create.topics.enable=false", "offsets.topic.num.partitions=1")
	where := strings.Join(b.dirs, ",")
	if name == "jvm" {
		where = filepath.Join(root, "jvm")
		overrides = append(overrides, "log.dirs="+strings.Join(b.dirs, ","))
	}
	var err error
	if b.Process, err = start(where, overrides...); err != nil {
		return err
	}
	t.Cleanup(b.Kill)
	b.proxy.serves(b.Addr)
	b.cl, err = kgo.NewClient(kgo.SeedBrokers(b.proxy.l.Addr().String()), kgo.ClientID("spoiler"), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RecordRetries(0), kgo.DisableIdempotentWrite(), kgo.RecordDeliveryTimeout(5*time.Second))
	if err != nil {
		return err
	}
	t.Cleanup(b.cl.Close)
	b.admin = kadm.NewClient(b.cl)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := b.awaitCoordinator(ctx); err != nil {
		return err
	}
	for _, state := range []struct {
		name  string
		spoil func(ctx context.Context, topics []string) error
	}{
		{"a topic deleted", b.delete},
		{"a topic deleted and made again", b.remake},
		{"a log directory failed", b.failDirectory},
	} {
		if err := b.count(ctx, t, state.name, state.spoil, rates); err != nil {
			return fmt.Errorf("%s: %w", state.name, err)
		}
	}
	return nil
}

// count has all clients consume, spoils their second topics and counts.
func (b *hotBroker) count(ctx context.Context, t *testing.T, state string, spoil func(context.Context, []string) error, rates map[string]float64) error {
	all := hotClients()
	good, bad, err := b.topics(ctx, len(all))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var leaves []func()
	for i, c := range all {
		wg.Go(func() {
			leave, err := c.join(b.proxy.l.Addr().String(), fmt.Sprintf("hot.%s.%s", c.name, good[i]), []string{good[i], bad[i]})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s, %s: %s: %v", b.Name, state, c.name, err)
				return
			}
			leaves = append(leaves, leave)
		})
	}
	wg.Wait()
	defer func() {
		for _, leave := range leaves {
			wg.Go(leave)
		}
		wg.Wait()
	}()
	if err := spoil(ctx, bad); err != nil {
		return err
	}
	time.Sleep(time.Second) // rebalances and the first metadata are over
	b.proxy.requests()
	time.Sleep(hotWindow)
	requests := b.proxy.requests()
	for _, c := range all {
		n := 0
		for a, m := range requests {
			if ok, err := path.Match(c.id, a.client); err == nil && ok && (a.key == fetchKey || a.key == metadataKey) {
				n += m
			}
		}
		rates[state+", "+c.name] = float64(n) / hotWindow.Seconds()
	}
	t.Logf("%s, %s: %v", b.Name, state, requests)
	return nil
}

// awaitCoordinator waits until a group can commit offsets: the JVM broker makes
// the topic of the offsets when it is asked for the first coordinator.
func (b *hotBroker) awaitCoordinator(ctx context.Context) error {
	good, _, err := b.topics(ctx, 1)
	if err != nil {
		return err
	}
	offsets := make(kadm.Offsets)
	offsets.Add(kadm.Offset{Topic: good[0], At: 1, LeaderEpoch: -1})
	for {
		_, err := b.admin.CommitOffsets(ctx, "hot", offsets)
		if err == nil || !kerr.IsRetriable(err) || ctx.Err() != nil {
			return err
		}
	}
}

// topics makes pairs of topics with a record each, the second of a pair in the
// second log directory. The coordinator's topic is in the first one.
func (b *hotBroker) topics(ctx context.Context, n int) (good, bad []string, err error) {
	segment := "1048576"
	for i := 0; len(good) < n || len(bad) < n; i++ {
		if i == 10*n {
			return nil, nil, fmt.Errorf("topics are made in one log directory only")
		}
		name := fmt.Sprintf("hot.%d.%d", time.Now().UnixNano(), i)
		if _, err := b.admin.CreateTopic(ctx, 1, 1, map[string]*string{"segment.bytes": &segment}, name); err != nil {
			return nil, nil, err
		}
		if err := awaitTopic(ctx, b.Process, name, 1); err != nil {
			return nil, nil, err
		}
		if err := b.cl.ProduceSync(ctx, &kgo.Record{Topic: name, Value: []byte("first")}).FirstErr(); err != nil {
			return nil, nil, err
		}
		if _, err := os.Stat(filepath.Join(b.dirs[1], name+"-0")); err == nil {
			bad = append(bad, name)
		} else {
			good = append(good, name)
		}
	}
	return good[:n], bad[:n], nil
}

func (b *hotBroker) delete(ctx context.Context, topics []string) error {
	r, err := b.admin.DeleteTopics(ctx, topics...)
	if err == nil {
		err = r.Error()
	}
	return err
}

func (b *hotBroker) remake(ctx context.Context, topics []string) error {
	if err := b.delete(ctx, topics); err != nil {
		return err
	}
	r, err := b.admin.CreateTopics(ctx, 1, 1, nil, topics...)
	if err == nil {
		err = r.Error()
	}
	return err
}

// failDirectory takes the second log directory away. A broker notices when it
// makes the next segment.
func (b *hotBroker) failDirectory(ctx context.Context, topics []string) error {
	if _, err := os.Stat(filepath.Join(b.dirs[1], "__consumer_offsets-0")); err == nil {
		return fmt.Errorf("the groups are in the directory that is to fail")
	}
	if err := os.Rename(b.dirs[1], b.dirs[1]+".gone"); err != nil {
		return err
	}
	if err := os.WriteFile(b.dirs[1], nil, 0o644); err != nil {
		return err
	}
	value := bytes.Repeat([]byte("x"), 600_000)
	for range 10 {
		if err := b.cl.ProduceSync(ctx, &kgo.Record{Topic: topics[0], Value: value}).FirstErr(); err != nil {
			return nil
		}
	}
	return fmt.Errorf("the broker did not notice")
}
