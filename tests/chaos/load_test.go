package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/tests/history"
)

type random = rand.Rand

// stream returns random numbers of their own for one part of a run, so that a change of one part
// does not change the others.
func stream(seed uint64, part string) *random {
	h := uint64(14695981039346656037)
	for _, c := range []byte(part) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return rand.New(rand.NewPCG(seed, h))
}

// topic is one that records are sent to.
type topic struct {
	name       string
	partitions int32
	configs    map[string]string
	loses      bool // may lose what was acknowledged, in this run
}

// load are the clients of a run.
type load struct {
	t      testing.TB
	s      system
	rec    *history.Recorder
	topics []topic
	pace   time.Duration // between what one client does, on average
	stopIt context.CancelFunc
	wg     sync.WaitGroup
}

func (l *load) lossy(name string) bool {
	i := slices.IndexFunc(l.topics, func(t topic) bool { return t.name == name })
	return i >= 0 && l.topics[i].loses
}

// create makes the topics, and waits until all their replicas are in sync.
func (l *load) create(a *client.Admin) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var topics []client.NewTopic
	for _, t := range l.topics {
		topics = append(topics, client.NewTopic{Name: t.name, Partitions: t.partitions, Replication: 3, Configs: t.configs})
	}
	got, err := a.CreateTopics(ctx, topics, false)
	for name, e := range got {
		if e != nil {
			l.t.Fatalf("create %s: %v", name, e)
		}
	}
	if err != nil {
		l.t.Fatalf("create topics: %v", err)
	}
	l.settle(a)
}

// settle waits until every partition of every topic, the cluster's own too, has a leader and all
// of its replicas in sync.
func (l *load) settle(a *client.Admin) {
	l.t.Helper()
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	missing := "nothing was asked"
	for ctx.Err() == nil {
		topics, err := a.ListTopics(ctx)
		missing = ""
		if err != nil {
			missing = err.Error()
		}
		for _, t := range topics {
			for _, p := range t.Partitions {
				if p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
					missing += fmt.Sprintf(" %s-%d (leader %d, in sync %v of %v)", t.Name, p.Partition, p.Leader, p.ISR, p.Replicas)
				}
			}
		}
		if missing == "" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	l.t.Fatalf("%v after all was mended: %s", patience, missing)
}

// run starts the clients, with so many more producers than usual, and those of other languages.
func (l *load) run(seed uint64, storm int, foreign ...string) {
	ctx, stop := context.WithCancel(context.Background())
	l.stopIt = stop
	l.t.Cleanup(l.stop)
	start := func(name string, n int, do func(context.Context, *random)) {
		for i := range n {
			r := stream(seed, fmt.Sprint(name, i))
			l.wg.Go(func() { do(ctx, r) })
		}
	}
	start("produce", 2+storm, l.produce)
	start("produce once", 1, l.produceOnce)
	if l.s.dial() == nil { // franz-go waits for its producer id under a mutex, which stops the clock of a bubble
		start("franz", 1, l.produceFranz)
	}
	for _, name := range foreign {
		start(name, 1, l.produceForeign(name))
	}
	start("consume", 2, l.consume)
	start("member", 2, l.member)
	start("ask", 1, l.ask)
	start("administer", 1, l.administer)
}

// stop ends the clients, once what they have under way has ended.
func (l *load) stop() {
	if l.stopIt != nil {
		l.stopIt()
		l.wg.Wait()
	}
}

func (l *load) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// pause waits between two things that a client does.
func (l *load) pause(ctx context.Context, r *random) {
	l.sleep(ctx, time.Duration(r.Int64N(int64(2*l.pace))))
}
