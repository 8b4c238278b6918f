package cli

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/broker/brokertest"
)

// TestTopSeesAnElection watches a cluster on a terminal, of which the broker that leads dies: the
// screen shows that it has gone, who leads since, and goes on to be drawn.
func TestTopSeesAnElection(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{Brokers: 3})
	s := &shell{t, c.Bootstrap()}
	s.ok("topic", "create", "orders", "-p", "3")
	s.lines(strings.Repeat("v\n", 50), "produce", "orders")
	s.ok("consume", "orders", "-g", "billing", "-o", "start", "-n", "10")
	sc := openScreen(t, 100, 24, nil, "top", "-b", s.addr, "--interval", "100ms")
	sc.awaitText("brokers 3 of 3", "under-replicated 0", "offline 0", "[1 brokers]", "OUT-OF-SYNC")
	sc.press("3")
	sc.awaitText("[3 groups]", "billing")
	sc.await("the lag of the group", func(shown string) bool { return regexp.MustCompile(`billing +\S+ +40 `).MatchString(shown) })
	sc.press("2")
	sc.await("the topic and its least in-sync replicas", func(shown string) bool {
		return regexp.MustCompile(`orders +3 +0 +0 +0 +2 `).MatchString(shown)
	})
	sc.press("4")
	sc.awaitText("[4 elections]", "no elections since this began")
	leader := c.WaitLeader("orders", 0)
	c.Broker(leader).Kill()
	sc.awaitText("brokers 2 of 3, gone: "+fmt.Sprint(leader), "orders-0")
	next := c.WaitLeader("orders", 0)
	sc.await("the election", func(shown string) bool {
		return regexp.MustCompile(fmt.Sprintf(`orders-0 +%d +%d +\d`, leader, next)).MatchString(shown)
	})
	sc.press("1")
	sc.await("the broker that has gone", func(shown string) bool {
		return regexp.MustCompile(fmt.Sprintf(`(?m)^ *%d  gone `, leader)).MatchString(shown)
	})
	c.Broker(leader).Restart()
	sc.awaitText("brokers 3 of 3", "under-replicated 0")
	// A smaller window, and one that is too small for anything.
	sc.resize(40, 8)
	sc.await("a small window", func(shown string) bool {
		lines := strings.Split(strings.TrimRight(shown, "\n"), "\n")
		return len(lines) == 8 && strings.HasPrefix(lines[7], "[1 brokers]") && strings.HasPrefix(lines[0], "klamm top")
	})
	sc.resize(7, 2)
	sc.await("a tiny window", func(shown string) bool { return strings.HasPrefix(shown, "klamm t\n[1 brok") })
	sc.resize(120, 30)
	sc.awaitText("ADDRESS", "RACK", "q quit")
	sc.press("?")
	sc.awaitText("pause: nothing is asked")
	sc.press("?p")
	sc.awaitText("PAUSED")
	if !sc.alternate || !sc.colored {
		t.Errorf("the screen of its own: %v, colors: %v", sc.alternate, sc.colored)
	}
	sc.press("q")
	if code := sc.exits(); code != exitOK || sc.alternate {
		t.Errorf("exit %d, and the screen of its own is left: %v", code, !sc.alternate)
	}
}

// TestTopWithoutABroker starts before the cluster does, and where colors are not wanted.
func TestTopWithoutABroker(t *testing.T) {
	sc := openScreen(t, 80, 24, []string{"NO_COLOR=1"}, "top", "-b", "127.0.0.1:1")
	sc.awaitText("no metadata yet: no broker reachable")
	sc.press("\x03")
	if code := sc.exits(); code != exitOK || sc.colored || sc.alternate {
		t.Errorf("exit %d, colors %v, the screen of its own %v", code, sc.colored, sc.alternate)
	}
	// A broker that takes the connection and is silent keeps nobody from the keys.
	silent := newMortal(t, "", 0)
	sc = openScreen(t, 80, 24, nil, "top", "-b", silent.addr())
	<-silent.asked
	sc.press("?")
	sc.awaitText("pause: nothing is asked")
	sc.press("q")
	if code := sc.exits(); code != exitOK {
		t.Errorf("exit %d", code)
	}
	sc = openScreen(t, 80, 24, nil, "top", "-b", "127.0.0.1:1", "--timeout", "1s")
	if code := sc.exits(); code != exitTimeout || sc.alternate {
		t.Errorf("exit %d", code)
	}
}

// TestTopForPipes prints frames where there is no terminal.
func TestTopForPipes(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{})
	s := &shell{t, c.Bootstrap()}
	s.ok("topic", "create", "orders")
	text := s.ok("top", "--once", "--interval", "100ms")
	for _, want := range []string{"brokers 1 of 1", "REC/S", "orders"} {
		if !strings.Contains(text, want) || strings.Contains(text, "\x1b") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	var frame struct {
		Brokers, Topics, Groups, Elections []map[string]any
		Offline                            int
	}
	s.parsed(&frame, "top", "--once", "--interval", "100ms")
	if len(frame.Brokers) != 1 || len(frame.Topics) != 1 || frame.Topics[0]["topic"] != "orders" || frame.Brokers[0]["records_per_second"] == nil || frame.Elections == nil {
		t.Errorf("%+v", frame)
	}
	if row := s.ok("top", "--once", "--interval", "100ms", "--view", "topics", "--format", "tsv"); !strings.HasPrefix(row, "orders\t1\t0\t0\t0\t") {
		t.Error(row)
	}
	// Frame follows frame until it is interrupted.
	p := process{args: []string{"top", "--interval", "100ms", "--format", "json"}, broker: s.addr, onOutput: func(all string) bool {
		d := json.NewDecoder(strings.NewReader(all))
		frames := 0
		for {
			var f map[string]any
			if d.Decode(&f) != nil {
				return frames >= 3
			}
			frames++
		}
	}}
	if e := p.run(t); e.code != exitInterrupted {
		t.Errorf("exit %d\n%s", e.code, e.err)
	}
}
