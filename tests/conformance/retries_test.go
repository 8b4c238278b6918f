package conformance_test

import (
	"bytes"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/klamm-io/klamm/tests/conformance/driver"
	"github.com/klamm-io/klamm/tests/conformance/franz"
	"github.com/klamm-io/klamm/tests/systems"
)

// TestIdempotentRetries loses answers to produces: every client that has an
// idempotent producer sends them again on a new connection, and each record is
// in the log once and in its place. A producer that is not idempotent shows that
// the answers are lost indeed: its records are there twice.
func TestIdempotentRetries(t *testing.T) {
	t.Parallel()
	// Brokers of its own: these send their clients to the proxies.
	proxies := []*proxy{newProxy(t), newProxy(t)}
	own := make([]*systems.Process, len(proxies))
	errs := make([]error, len(proxies))
	var wg sync.WaitGroup
	for i, start := range []func(string, ...string) (*systems.Process, error){systems.Klamm, systems.JVM} {
		dir := filepath.Join(t.TempDir(), brokers()[i].Name)
		wg.Go(func() {
			if own[i], errs[i] = start(dir, append(slices.Clone(overrides), proxies[i].advertised())...); errs[i] == nil {
				proxies[i].serves(own[i].Addr)
			}
		})
	}
	wg.Wait()
	for i, b := range own {
		if errs[i] != nil {
			t.Error(errs[i])
			continue
		}
		t.Cleanup(func() {
			if err := b.Stop(); err != nil && b.Name == "klamm" { // the JVM exits with the code of the signal
				t.Errorf("klamm ended: %v\n%s", err, b.Output())
			}
		})
	}
	if t.Failed() {
		return
	}
	for i, b := range own {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			addr := proxies[i].l.Addr().String()
			for _, c := range clients {
				t.Run(c.name, func(t *testing.T) {
					d, err := c.start(addr)
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						if err := d.Close(); err != nil {
							t.Error(err)
						}
					}()
					if why, lacks := d.Lacks()["idempotent"]; lacks {
						t.Skipf("%s lacks idempotent: %s", c.name, why)
					}
					retry(&session{T: t, broker: b, client: c.name, scenario: "retries", driver: d, lacks: d.Lacks()}, proxies[i])
				})
			}
			t.Run("not idempotent", func(t *testing.T) {
				d, err := franz.New(addr)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				s := &session{T: t, broker: b, client: "franz-go", scenario: "duplicates", driver: d}
				topic := s.create("t", 1)
				want := recs(0, 0, 3)
				proxies[i].cut(1)
				s.produce(driver.Op{Topic: topic}, want...)
				s.reads(topic, 0, 0, append(slices.Clone(want), want...))
			})
		})
	}
}

// retry produces while answers are lost: the first, the first and that to its
// repetition, and some among those of several produces in flight.
func retry(s *session, p *proxy) {
	topic := s.create("t", 2)
	var want [2][]driver.Record
	for _, step := range []struct {
		cuts  []int
		least int // cuts that must have come about
		bytes int // of a value
	}{
		{[]int{1}, 1, 10},
		{[]int{1, 1}, 2, 10},
		{nil, 0, 10},
		{[]int{3, 2, 1}, 0, 20_000}, // some clients send it all in one produce
	} {
		var batch []driver.Record
		for part := range int32(2) {
			rs := recs(part, len(want[part]), 20)
			for i := range rs {
				rs[i].Value = append(rs[i].Value, bytes.Repeat([]byte("."), step.bytes)...)
			}
			want[part] = append(want[part], rs...)
			batch = append(batch, rs...)
		}
		p.cut(step.cuts...)
		s.produce(driver.Op{Topic: topic, Idempotent: true}, batch...)
		sent, made := p.count()
		s.Logf("%d produces, %d answers lost", sent, made)
		if made < step.least {
			s.Errorf("%d answers of %d produces were lost, want %d", made, sent, step.least)
		}
		if sent <= made {
			s.Errorf("success without an answer: %d produces, %d answers lost", sent, made)
		}
	}
	p.cut()
	for part := range int32(2) {
		if end := s.ok(driver.Op{Op: "list_offsets", Topic: topic, Partition: part, Timestamp: driver.Latest}).Offset; end != int64(len(want[part])) {
			s.Errorf("partition %d ends at %d, want %d", part, end, len(want[part]))
			continue
		}
		s.reads(topic, part, 0, want[part])
	}
}
