package client

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/prim"
)

// TestTopicMadeAgain: a topic is deleted and made again with fewer partitions.
// Keyed records soon go to those that are left, and what was on its way to the
// others fails at once rather than after delivery.timeout.ms.
func TestTopicMadeAgain(t *testing.T) {
	for _, ids := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, 1)
			f.topic("t", 1, 1, 1, 1, 1, 1)
			f.noIDs = !ids
			p := newProducer(t, f, ProducerOptions{})
			send := func() (failed int) {
				began := time.Now()
				var fs []*Future
				for i := range 100 {
					fs = append(fs, p.Send(background(t), &Record{Topic: "t", Key: fmt.Append(nil, i), Value: []byte("v")}))
				}
				for i, fu := range fs {
					m, err := fu.Get(background(t))
					switch {
					case err == nil:
					case !errors.Is(err, kerr.UnknownTopicOrPartition):
						t.Errorf("ids %v: record %d: %+v, %v", ids, i, m, err)
					default:
						failed++
					}
				}
				if d := time.Since(began); d > 5*time.Second {
					t.Errorf("ids %v: told after %v", ids, d)
				}
				return failed
			}
			if n := send(); n > 0 {
				t.Fatalf("ids %v: %d records failed", ids, n)
			}
			f.mu.Lock()
			delete(f.topics, "t")
			f.mu.Unlock()
			f.topic("t", 1, 1)
			if n := send(); n == 0 || n > 80 { // the producer learns of it with these
				t.Errorf("ids %v: %d records failed when the topic was made again", ids, n)
			}
			if n := send(); n > 0 {
				t.Errorf("ids %v: %d records failed of a topic that is there", ids, n)
			}
			synctest.Wait() // the last batch is told, and then let go of
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.used != 0 || p.open.len() != 0 {
				t.Errorf("ids %v: %d bytes and %d batches left", ids, p.used, p.open.len())
			}
		})
	}
}

// TestBrokerBehindNamesFewerPartitions: an answer with fewer partitions for a
// topic of the same id takes none away.
func TestBrokerBehindNamesFewerPartitions(t *testing.T) {
	p := newProducer(t, newFake(t, 1), ProducerOptions{})
	info := &topicInfo{name: "t", id: prim.UUID{1}, partitions: make([]PartitionInfo, 3)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.adopt(info)
	if n := len(p.adopt(&topicInfo{name: "t", id: prim.UUID{1}, partitions: make([]PartitionInfo, 1)}).partitions); n != 3 {
		t.Errorf("%d partitions after an answer that names one of three", n)
	}
}
