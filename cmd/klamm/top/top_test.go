package top

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/wire/prim"
)

var began = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// second is a time, in seconds after began.
func second(n float64) time.Time { return began.Add(time.Duration(n * float64(time.Second))) }

func tp(topic string, p int32) client.TopicPartition {
	return client.TopicPartition{Topic: topic, Partition: p}
}

// part is a partition with three replicas.
func part(i, leader, epoch int32, isr ...int32) client.PartitionInfo {
	return client.PartitionInfo{Partition: i, Leader: leader, LeaderEpoch: epoch, Replicas: []int32{1, 2, 3}, ISR: isr}
}

// seen is metadata of three brokers, of which some are fenced, and topic orders.
func seen(at float64, controller int32, fenced []int32, parts ...client.PartitionInfo) Metadata {
	m := Metadata{At: second(at), Controller: controller, Cluster: client.Cluster{ID: "C"}, Topics: []client.TopicInfo{{Name: "orders", ID: prim.UUID{1}, Partitions: parts}}}
	for id := range int32(3) {
		b := client.BrokerInfo{ID: id + 1, Host: "h", Port: 9092 + id}
		if slices.Contains(fenced, b.ID) {
			m.Cluster.Fenced = append(m.Cluster.Fenced, b)
		} else {
			m.Cluster.Brokers = append(m.Cluster.Brokers, b)
		}
	}
	return m
}

func shownLines(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		mark := ' '
		if l.Kind == Warning {
			mark = '!'
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("%c %s", mark, l.Text), " ") + "\n")
	}
	return b.String()
}

// story is a cluster of which broker 1 dies.
func story() *State {
	s := NewState()
	s.Take(seen(0, 1, nil, part(0, 1, 5, 1, 2, 3), part(1, 2, 7, 1, 2, 3)))
	s.Take(MinISR{At: second(0), Of: map[string]int{"orders": 2}})
	s.Take(Ends{At: second(0), Of: map[client.TopicPartition]int64{tp("orders", 0): 100, tp("orders", 1): 200}})
	dirs := func(sizes ...int64) (out []client.LogDir) {
		for i, n := range sizes {
			out = append(out, client.LogDir{Broker: int32(i + 1), Partitions: []client.LogDirPartition{{TopicPartition: tp("orders", 0), Size: n}, {TopicPartition: tp("orders", 1), Size: 2 * n}}})
		}
		return out
	}
	s.Take(Dirs{At: second(0), Dirs: dirs(1000, 1000, 1000)})
	s.Take(Groups{At: second(0), Groups: []Group{{ID: "billing", State: "Stable", Coordinator: 2, Committed: map[client.TopicPartition]int64{tp("orders", 0): 90, tp("orders", 1): 200}},
		{ID: "empty", State: "Empty", Coordinator: 3}, {ID: "unknown", State: "Stable", Coordinator: 1, Committed: map[client.TopicPartition]int64{tp("other", 0): 1}}}})
	s.Take(Ends{At: second(2), Of: map[client.TopicPartition]int64{tp("orders", 0): 300, tp("orders", 1): 201}})
	s.Take(Dirs{At: second(2), Dirs: dirs(5000, 5000, 5000)})
	s.Take(seen(3, 2, []int32{1}, part(0, 3, 6, 2, 3), part(1, 2, 7, 2)))
	return s
}

func TestStory(t *testing.T) {
	s := story()
	p := Page{}
	got := shownLines(s.Frame(&p, second(3), 0, 0))
	want := `  klamm top  12:00:03  cluster C
! brokers 2 of 3, gone: 1  controller 2  topics 1  partitions 2  groups 3
! under-replicated 2  under min ISR 1  offline 0  100 records/s  6.0kB/s

  ID  STATE  CTRL  LEADERS  REPLICAS  OUT-OF-SYNC  REC/S  BYTES/S  DISK  ADDRESS  RACK
!  1  gone               0         2            2      -        -     -  h:9092   -
   2  up     *           1         2            0    0.5    4.0kB  15kB  h:9093   -
!  3  up                 1         2            1    100    2.0kB  15kB  h:9094   -
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for v, want := range map[View]string{
		Topics: `  TOPIC   PARTITIONS  UNDER-REPL  UNDER-MIN  OFFLINE  MIN-ISR  REC/S  BYTES/S  SIZE  REPLICAS
! orders           2           2          1        0        2    100    6.0kB  15kB         3
`,
		ByGroup: `  GROUP    STATE   LAG  PARTITIONS  COORDINATOR
  billing  Stable  211           2            2
  empty    Empty     0           0            3
  unknown  Stable    -           1            1
`,
		Elections: `  TIME      WHAT        FROM  TO  EPOCH
  12:00:03  orders-0       1   3      6
  12:00:03  controller     1   2      -
`,
	} {
		table := s.Table(v)
		SortFirst(v, &table)
		if got := shownLines(table.Lines()); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", v, got, want)
		}
	}
	if f := s.Facts(); f != (Facts{second(3), "C", 2, 2, 2, 1, 0}) {
		t.Errorf("%+v", f)
	}
}

func TestElections(t *testing.T) {
	for _, c := range []struct {
		name string
		take []Metadata
		want string
	}{
		{"what is seen first is no election", []Metadata{seen(0, 1, nil, part(0, 1, 9, 1))}, ""},
		{"a higher epoch is one", []Metadata{seen(0, 1, nil, part(0, 1, 9, 1)), seen(1, 1, nil, part(0, 2, 11, 2))}, "orders-0 1>2 epoch 11"},
		{"also with the same leader", []Metadata{seen(0, 1, nil, part(0, 1, 9, 1)), seen(1, 1, nil, part(0, 1, 10, 1))}, "orders-0 1>1 epoch 10"},
		{"a broker that lags behind changes nothing", []Metadata{seen(0, 1, nil, part(0, 2, 9, 1)), seen(1, 1, nil, part(0, 1, 8, 1)), seen(2, 1, nil, part(0, 2, 9, 1))}, ""},
		{"nobody leads, and then somebody", []Metadata{seen(0, 1, nil, part(0, 1, 1, 1)), seen(1, 1, nil, part(0, -1, 2, 1)), seen(2, 1, nil, part(0, 1, 3, 1))}, "orders-0 -1>1 epoch 3, orders-0 1>-1 epoch 2"},
		{"a new controller", []Metadata{seen(0, 1, nil), seen(1, -1, nil), seen(2, 3, nil)}, "controller 1>3 epoch 0"},
		{"the same controller after a while without", []Metadata{seen(0, 1, nil), seen(1, -1, nil), seen(2, 1, nil)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewState()
			for _, m := range c.take {
				s.Take(m)
			}
			var got []string
			for _, e := range s.elections {
				what := fmt.Sprintf("%s-%d", e.TP.Topic, e.TP.Partition)
				if e.Controller {
					what = "controller"
				}
				got = append(got, fmt.Sprintf("%s %d>%d epoch %d", what, e.From, e.To, e.Epoch))
			}
			if text := strings.Join(got, ", "); text != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
		})
	}
	s := NewState()
	again := seen(1, 1, nil, part(0, 2, 12, 2))
	again.Topics[0].ID = prim.UUID{2}
	s.Take(seen(0, 1, nil, part(0, 1, 9, 1)))
	s.Take(again)
	if len(s.elections) != 0 {
		t.Errorf("a topic that was made again: %+v", s.elections)
	}
	for i := range int32(2 * keepElections) {
		s.Take(seen(2, 1, nil, part(0, 1, i, 1)))
	}
	if len(s.elections) > keepElections || s.elections[0].Epoch != 2*keepElections-1 {
		t.Errorf("%d elections, the newest is %+v", len(s.elections), s.elections[0])
	}
}

// TestTrouble has answers not come: what came before them stays, and the screen says which.
func TestTrouble(t *testing.T) {
	s := NewState()
	p := Page{}
	if got := shownLines(s.Frame(&p, second(0), 0, 0)); !strings.Contains(got, "waiting for the first answer") {
		t.Error(got)
	}
	s.Take(Metadata{At: second(1), Err: errors.New("refused\nagain")})
	if got := shownLines(s.Frame(&p, second(1), 0, 0)); !strings.Contains(got, "! no metadata yet: refused; again") {
		t.Error(got)
	}
	s.Take(seen(2, 1, nil, part(0, 1, 1, 1, 2, 3)))
	s.Take(Groups{At: second(2), Groups: []Group{{ID: "g"}}})
	s.Take(Groups{At: second(3), Err: errors.New("silent")})
	s.Take(Metadata{At: second(5), Err: errors.New("refused")})
	got := shownLines(s.Frame(&p, second(7), 0, 0))
	if !strings.Contains(got, "! no new metadata for 5s: refused") || !strings.Contains(got, "brokers 3 of 3") || !strings.Contains(got, "groups 1") {
		t.Error(got)
	}
	s.Take(seen(8, 1, nil, part(0, 1, 1, 1, 2, 3)))
	if got := shownLines(s.Frame(&p, second(8), 0, 0)); !strings.Contains(got, "! no new groups: silent") {
		t.Error(got)
	}
}

// TestFramesFit draws frames of every small size: none has more lines or columns than there
// are, and where there is room for two lines the last one has the keys.
func TestFramesFit(t *testing.T) {
	s := story()
	s.Take(Groups{Groups: []Group{{ID: "wide-グループ-" + strings.Repeat("x", 100), State: "Stable\x1b[2J"}}})
	for range 100 {
		s.elected(Election{At: second(1), TP: tp("orders", 1), To: 2})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for width := 1; width < 100; width += 3 {
		for height := 1; height < 30; height++ {
			for v := range views {
				p := Page{View: v, Sort: r.IntN(5), Down: r.IntN(2) == 0, Scroll: r.IntN(200) - 50, Help: r.IntN(8) == 0}
				lines := s.Frame(&p, second(3), width, height)
				if len(lines) != height {
					t.Fatalf("%v, %d x %d: %d lines", p, width, height, len(lines))
				}
				for _, l := range lines {
					if w := text.StringWidthWithoutEscSequences(l.Text); w > width || strings.Contains(l.Text, "\x1b") {
						t.Errorf("%v, %d x %d: %q", p, width, height, l.Text)
					}
				}
				if last := lines[height-1].Text; height > 1 && !strings.HasPrefix(footer(&p), last[:min(len(last), 5)]) {
					t.Errorf("%v, %d x %d: the last line is %q", p, width, height, last)
				}
			}
		}
	}
}

// TestOrder draws the same state again and again: what is not sorted comes in one order too, as
// JSON has it.
func TestOrder(t *testing.T) {
	s := story()
	for v := range views {
		first := fmt.Sprint(s.Table(v))
		for range 20 {
			if again := fmt.Sprint(s.Table(v)); again != first {
				t.Fatalf("%s: got\n%s\nwant\n%s", v, again, first)
			}
		}
	}
	s.Take(seen(4, 2, nil, part(0, 3, 6, 1, 2, 3), part(1, 2, 7, 1, 2, 3)))
	if v := s.Table(Brokers).Rows[0].Values; v[0] != int64(1) || v[6] != PerSecond(0) {
		t.Errorf("a broker that leads nothing: %v", v)
	}
}

// TestSort sorts every view by every column, both ways: it does not mix up types.
func TestSort(t *testing.T) {
	s := story()
	for v := range views {
		for column := range s.Table(v).Columns {
			for _, down := range []bool{false, true} {
				table := s.Table(v)
				table.Sort(column, down)
				seenNil := false
				for i, r := range table.Rows {
					if r.Values[column] == nil {
						seenNil = true
						continue
					}
					if seenNil {
						t.Errorf("%s by %s: what is not known does not come last", v, table.Columns[column])
					}
					if i > 0 {
						c := compare(table.Rows[i-1].Values[column], r.Values[column])
						if down && c < 0 || !down && c > 0 {
							t.Errorf("%s by %s, down %v: %v before %v", v, table.Columns[column], down, table.Rows[i-1].Values, r.Values)
						}
					}
				}
			}
		}
	}
}

func TestHuman(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 0.5: "0.5", 1: "1", 9: "9", 10.4: "10", 999: "999", 1000: "1.0k", 1234: "1.2k", 99_900: "100k", 1e6: "1.0M", 2.5e9: "2.5G", 1e21: "1000E"} {
		if got := human(x); got != want {
			t.Errorf("%v: got %s, want %s", x, got, want)
		}
	}
}

// press presses a key.
func press(m *Model, keys ...string) (quit bool) {
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		if k == "tab" {
			msg = tea.KeyPressMsg{Code: tea.KeyTab}
		}
		_, cmd := m.Update(msg)
		quit = quit || cmd != nil
	}
	return quit
}

func TestKeys(t *testing.T) {
	var paused []bool
	m := NewModel(Brokers, func() time.Time { return second(0) }, func(p bool) { paused = append(paused, p) })
	if got := m.View().Content; got != "" {
		t.Errorf("before it knows how large the screen is: %q", got)
	}
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 12})
	has := func(want string) {
		t.Helper()
		if got := m.View().Content; !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	has("waiting for the first answer")
	m.Update(seen(0, 1, nil, part(0, 1, 1, 1, 2, 3)))
	has("[1 brokers]")
	press(m, "2")
	has("[2 topics]")
	has("by topic")
	press(m, "s")
	has("by partitions")
	press(m, "tab", "tab")
	has("[4 elections]")
	has("no elections since this began")
	press(m, "?")
	has("pause: nothing is asked")
	press(m, "?", "p")
	has("PAUSED")
	m.Update(seen(1, 2, nil, part(0, 2, 2, 1, 2, 3)))
	has("no elections since this began")
	press(m, "p")
	m.Update(seen(1, 2, nil, part(0, 2, 2, 1, 2, 3)))
	has("orders-0")
	if !slices.Equal(paused, []bool{true, false}) {
		t.Errorf("paused %v", paused)
	}
	for range 40 {
		m.state.elected(Election{At: second(1), TP: tp("more", 1), To: 2})
	}
	press(m, "j", "j")
	m.View()
	if m.page.Scroll != 2 {
		t.Errorf("scrolled to %d", m.page.Scroll)
	}
	press(m, "k", "k", "k")
	m.View()
	if m.page.Scroll != 0 {
		t.Errorf("scrolled to %d", m.page.Scroll)
	}
	if press(m, "x") || !press(m, "q") {
		t.Error("q does not quit, or something else does")
	}
}
