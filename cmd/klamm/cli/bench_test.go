package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// measured runs a benchmark and returns its rows.
func (s *shell) measured(args ...string) []map[string]any {
	s.t.Helper()
	var rows []map[string]any
	if err := json.Unmarshal([]byte(s.ok(append([]string{"bench", "--format", "json"}, args...)...)), &rows); err != nil {
		s.t.Fatal(err)
	}
	return rows
}

func TestBench(t *testing.T) {
	s := newShell(t)
	r := s.measured("produce", "load", "-n", "2000", "-s", "100", "-z", "lz4", "-p", "3")[0]
	if r["records"] != 2000.0 || r["failed"] != 0.0 {
		t.Errorf("produce: %v", r)
	}
	// The seconds are rounded to a millisecond, the rates are not.
	if want := 2000 / (r["seconds"].(float64) + 0.001); r["records_per_s"].(float64) < 0.99*want || r["mb_per_s"].(float64) < 0.99*want*100/1e6 {
		t.Errorf("produce: %v records and %v MB per second, want %v and %v", r["records_per_s"], r["mb_per_s"], want, want*100/1e6)
	}
	last := 0.0
	for _, c := range []string{"p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms"} {
		v := r[c].(float64)
		if v < last || v <= 0 {
			t.Errorf("produce: %s is %v after %v", c, v, last)
		}
		last = v
	}
	if c := s.measured("consume", "load")[0]; c["records"] != 2000.0 || c["p50_ms"] != nil || c["mb_per_s"].(float64) <= 0 {
		t.Errorf("consume: %v", c)
	}
	if c := s.measured("consume", "load", "-n", "700")[0]; c["records"] != 700.0 {
		t.Errorf("consume -n 700: %v", c)
	}
	both := s.measured("latency", "load", "-n", "100", "--rate", "500")
	if len(both) != 2 || both[0]["records"] != 100.0 || both[1]["records"] != 100.0 {
		t.Fatalf("latency: %v", both)
	}
	if sec := both[0]["seconds"].(float64); sec < 99.0/500 {
		t.Errorf("latency: 100 records at 500 a second took %v s", sec)
	}
	if a, e := both[0]["p50_ms"].(float64), both[1]["p50_ms"].(float64); a <= 0 || e <= 0 {
		t.Errorf("latency: %v ms to the acknowledgement, %v ms to the consumer", a, e)
	}
	if d := s.measured("produce", "load", "-d", "200ms", "--rate", "100", "--acks", "1", "-X", "linger.ms=0")[0]; d["records"] != 20.0 {
		t.Errorf("100 records a second for 200 ms: %v", d)
	}
	if out := s.ok("bench", "produce", "load", "-n", "10"); !strings.Contains(out, "P99-9-MS") || !strings.Contains(out, "produce") {
		t.Errorf("table:\n%s", out)
	}
}

func TestBenchMistakes(t *testing.T) {
	s := newShell(t)
	for _, c := range []struct {
		args string
		want int
	}{
		{"bench", exitUsage},
		{"bench produce", exitUsage},
		{"bench produce load -s -1", exitUsage},
		{"bench produce load -n -1", exitUsage},
		{"bench produce load -p 0", exitUsage},
		{"bench produce load -z brotli", exitUsage},
		{"bench produce load -X no.such.property=1", exitUsage},
		{"bench produce a/b -n 1", exitUsage},
		{"bench latency load -s 15", exitUsage},
		{"bench consume nowhere", exitFailed},
		{"bench produce load -n 10 -s 3000000", exitFailed}, // above max.request.size
	} {
		if r := s.with("", strings.Fields(c.args)...); r.code != c.want {
			t.Errorf("klamm %s: exit %d, want %d: %s", c.args, r.code, c.want, r.err)
		}
	}
	var out, errs bytes.Buffer
	if code := Main([]string{"bench", "produce", "load", "-n", "1", "--timeout", "300ms", "-b", "127.0.0.1:1"}, strings.NewReader(""), &out, &errs); code != exitTimeout {
		t.Errorf("without a broker: exit %d: %s", code, errs.String())
	}
}

// TestOpenLoop stalls one send: what was due meanwhile counts from when it was
// due, and the load catches up.
func TestOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := benchFlags{count: 200, rate: 1000}
		var late []time.Duration
		began := time.Now()
		err := f.load(t.Context(), nil, func(_ context.Context, due time.Time, i int64) error {
			if want := began.Add(time.Duration(i) * time.Millisecond); due != want {
				t.Errorf("record %d is due at %v, want %v", i, due, want)
			}
			if i == 50 {
				time.Sleep(40 * time.Millisecond)
			}
			late = append(late, time.Since(due))
			return nil
		})
		if err != nil || len(late) != 200 {
			t.Fatalf("%d records, %v", len(late), err)
		}
		for i, want := range map[int]time.Duration{0: 0, 49: 0, 50: 40 * time.Millisecond, 51: 39 * time.Millisecond, 70: 20 * time.Millisecond, 90: 0, 199: 0} {
			if late[i] != want {
				t.Errorf("record %d was sent %v late, want %v", i, late[i], want)
			}
		}
		if d := time.Since(began); d != 199*time.Millisecond {
			t.Errorf("the load took %v, want 199ms", d)
		}
	})
}

func TestLoadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name string
			f    benchFlags
			want int
		}{
			{"with the count", benchFlags{count: 5}, 5},
			{"with the duration", benchFlags{duration: 10 * time.Millisecond}, 10},
			{"with the first of both", benchFlags{duration: 10 * time.Millisecond, count: 3}, 3},
			{"with the duration at a rate", benchFlags{duration: time.Second, rate: 20}, 20},
		} {
			n := 0
			if err := c.f.load(t.Context(), nil, func(context.Context, time.Time, int64) error {
				n++
				time.Sleep(time.Millisecond)
				return nil
			}); err != nil || n != c.want {
				t.Errorf("%s: %d records, %v, want %d", c.name, n, err, c.want)
			}
		}
		broken := errors.New("broken")
		f := benchFlags{count: 5}
		if err := f.load(t.Context(), nil, func(context.Context, time.Time, int64) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("a send that fails: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		f = benchFlags{rate: 0.001}
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		began := time.Now()
		if err := f.load(ctx, nil, func(context.Context, time.Time, int64) error { return nil }); !errors.Is(err, context.Canceled) || time.Since(began) != time.Second {
			t.Errorf("interrupted after %v: %v", time.Since(began), err)
		}
	})
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(time.Now())
		time.Sleep(2 * time.Second)
		for i := 1; i <= 1000; i++ {
			m.done(10, time.Duration(i)*time.Millisecond, nil)
		}
		time.Sleep(time.Hour) // for a broker that has died
		m.done(10, time.Second, errors.New("lost"))
		m.sent(10, time.Now(), context.DeadlineExceeded) // the time was over before it was sent
		row := m.row("x")
		for i, want := range []float64{6: 500.5, 7: 500, 8: 900, 9: 990, 10: 999, 11: 1000} {
			if i < 6 {
				continue
			}
			if got := row[i].(float64); got < 0.998*want || got > 1.002*want {
				t.Errorf("%s: %v, want %v", benchColumns[i], got, want)
			}
		}
		if row[1] != int64(1000) || row[2] != int64(1) || row[3] != 2.0 || row[4] != 500.0 || row[5] != 0.005 {
			t.Errorf("%v", row[:6])
		}
		if err := m.failure(); err == nil || !strings.Contains(err.Error(), "1 record failed, the first with: lost") {
			t.Error(err)
		}
	})
}

// TestBenchEndsAtItsTime has a send that waits for a broker which has died.
func TestBenchEndsAtItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := benchFlags{duration: 10 * time.Second}
		began := time.Now()
		err := f.load(t.Context(), nil, func(ctx context.Context, _ time.Time, i int64) error {
			if i < 5 {
				time.Sleep(time.Second)
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if took := time.Since(began); err != nil || took != 10*time.Second {
			t.Errorf("it took %v, %v", took, err)
		}
	})
}
