package conformance_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/conformance/driver"
)

var groupScenarios = []scenario{
	{"commit and resume", nil, func(s *session) {
		topic, group := s.create("t", 1), s.name("g")
		join := driver.Op{Op: "join", Topic: topic, Group: group, Member: "a", Reset: "earliest"}
		s.produce(driver.Op{Topic: topic}, recs(0, 0, 10)...)
		s.ok(join)
		s.equal(s.ok(driver.Op{Op: "poll", Member: "a", Count: 6}).Records, 0, 0, recs(0, 0, 6))
		s.ok(driver.Op{Op: "commit", Member: "a"})
		s.committed(group, topic, "0=6")
		s.groupIs(group, "Stable", 1)
		s.ok(driver.Op{Op: "leave", Member: "a"})
		s.groupIs(group, "Empty", 0)
		s.produce(driver.Op{Topic: topic}, recs(0, 10, 5)...)
		s.ok(join)
		s.equal(s.ok(driver.Op{Op: "poll", Member: "a", Count: 9}).Records, 0, 6, recs(0, 6, 9))
		s.ok(driver.Op{Op: "commit", Member: "a"})
		s.ok(driver.Op{Op: "leave", Member: "a"})
		s.committed(group, topic, "0=15")
	}},
	{"second member", nil, func(s *session) {
		topic, group := s.create("t", 4), s.name("g")
		s.ok(driver.Op{Op: "join", Topic: topic, Group: group, Member: "a", Reset: "earliest"})
		s.ok(driver.Op{Op: "assignment", Member: "a", Count: 4})
		s.ok(driver.Op{Op: "join", Topic: topic, Group: group, Member: "b", Reset: "earliest"})
		s.ok(driver.Op{Op: "assignment", Member: "b", Count: 2})
		s.ok(driver.Op{Op: "assignment", Member: "a", Count: 2})
		s.groupIs(group, "Stable", 2)
		for p := range int32(4) {
			s.produce(driver.Op{Topic: topic}, recs(p, int(p)*3, 3)...)
		}
		seen := make(map[string]int)
		for _, m := range []string{"a", "b"} {
			// Which member has which half depends on their ids.
			r := s.quiet(driver.Op{Op: "poll", Member: m, Count: 6})
			if r.Error != "" {
				s.Fatalf("poll of %s: %s", m, r.Error)
			}
			for _, rec := range r.Records {
				seen[string(rec.Value)]++
			}
			s.ok(driver.Op{Op: "commit", Member: m})
		}
		for i := range 12 {
			if n := seen[fmt.Sprintf("value-%d", i)]; n != 1 {
				s.Errorf("value-%d was read %d times", i, n)
			}
		}
		s.committed(group, topic, "0=3", "1=3", "2=3", "3=3")
		s.ok(driver.Op{Op: "leave", Member: "b"})
		s.ok(driver.Op{Op: "assignment", Member: "a", Count: 4})
		s.produce(driver.Op{Topic: topic}, append(recs(0, 12, 1), recs(3, 13, 1)...)...)
		// librdkafka may hand out a record again that a fetch brought which it sent
		// before the first rebalance, so that more than the two may come.
		for seen["value-12"] == 0 || seen["value-13"] == 0 {
			r := s.quiet(driver.Op{Op: "poll", Member: "a", Count: 1})
			if r.Error != "" {
				s.Fatalf("poll of a: %s", r.Error)
			}
			seen[string(r.Records[0].Value)]++
		}
		s.ok(driver.Op{Op: "leave", Member: "a"})
		s.groupIs(group, "Empty", 0)
	}},
	{"group administration", nil, func(s *session) {
		topic, group := s.create("t", 2), s.name("g")
		s.produce(driver.Op{Topic: topic}, recs(0, 0, 5)...)
		s.do(driver.Op{Op: "describe_group", Group: group})
		s.fails(driver.Op{Op: "delete_group", Group: group}, "GROUP_ID_NOT_FOUND")
		s.do(driver.Op{Op: "group_offsets", Group: group})
		s.ok(driver.Op{Op: "join", Topic: topic, Group: group, Member: "a", Reset: "earliest"})
		s.ok(driver.Op{Op: "poll", Member: "a", Count: 5})
		s.ok(driver.Op{Op: "commit", Member: "a"})
		if got := s.listed("list_groups"); got != group {
			s.Errorf("listed are %q, want %q", got, group)
		}
		s.fails(driver.Op{Op: "delete_group", Group: group}, "NON_EMPTY_GROUP")
		s.fails(driver.Op{Op: "set_offset", Group: group, Topic: topic, Offset: 1}, "UNKNOWN_MEMBER_ID", "client: *")
		if s.has("delete_offset") {
			s.fails(driver.Op{Op: "delete_offset", Group: group, Topic: topic}, "GROUP_SUBSCRIBED_TO_TOPIC")
		}
		s.ok(driver.Op{Op: "leave", Member: "a"})
		s.groupIs(group, "Empty", 0)
		if s.has("delete_offset") {
			s.ok(driver.Op{Op: "set_offset", Group: group, Topic: topic, Partition: 1, Offset: 0})
			s.ok(driver.Op{Op: "delete_offset", Group: group, Topic: topic, Partition: 1})
		}
		s.committed(group, topic, "0=5")
		s.ok(driver.Op{Op: "delete_group", Group: group})
		if got := s.listed("list_groups"); got != "" {
			s.Errorf("listed are %q, want none", got)
		}
		s.do(driver.Op{Op: "describe_group", Group: group})
	}},
	{"offset reset", nil, func(s *session) {
		topic, group := s.create("t", 1), s.name("g")
		s.produce(driver.Op{Topic: topic}, recs(0, 0, 10)...)
		s.ok(driver.Op{Op: "set_offset", Group: group, Topic: topic, Offset: 7})
		s.committed(group, topic, "0=7")
		s.ok(driver.Op{Op: "join", Topic: topic, Group: group, Member: "a", Reset: "earliest"})
		s.equal(s.ok(driver.Op{Op: "poll", Member: "a", Count: 3}).Records, 0, 7, recs(0, 7, 3))
		s.ok(driver.Op{Op: "leave", Member: "a"})
		s.ok(driver.Op{Op: "set_offset", Group: group, Topic: topic, Offset: 2})
		s.ok(driver.Op{Op: "join", Topic: topic, Group: group, Member: "a", Reset: "latest"})
		s.equal(s.ok(driver.Op{Op: "poll", Member: "a", Count: 8}).Records, 0, 2, recs(0, 2, 8))
		s.ok(driver.Op{Op: "leave", Member: "a"})
	}},
	{"reset to latest", nil, func(s *session) {
		topic, group := s.create("t", 1), s.name("g")
		s.produce(driver.Op{Topic: topic}, recs(0, 0, 10)...)
		s.ok(driver.Op{Op: "join", Topic: topic, Group: group, Member: "a", Reset: "latest"})
		s.ok(driver.Op{Op: "assignment", Member: "a", Count: 1})
		// A member tells when it has its partitions, not when it has looked up
		// where they end, so records are written until it has read one.
		defer s.writing(topic)()
		r := s.quiet(driver.Op{Op: "poll", Member: "a", Count: 1})
		if r.Error != "" {
			s.Fatalf("poll: %s", r.Error)
		}
		if !strings.HasPrefix(string(r.Records[0].Value), "late-") {
			s.Errorf("read %q, which was there before", r.Records[0].Value)
		}
		s.ok(driver.Op{Op: "leave", Member: "a"})
	}},
}

// groupIs waits until a group is in a state with so many members: that a client
// has left is not told to the one that asks next.
func (s *session) groupIs(group, state string, members int) {
	s.Helper()
	op := driver.Op{Op: "describe_group", Group: group}
	var r driver.Result
	for deadline := s.deadline(); !deadline(); {
		if r = s.quiet(op); r.Error == "" && r.State == state && r.Members == members {
			s.note(op, r)
			return
		}
	}
	s.Fatalf("group %s is %q with %d members (error %q), want %q with %d", group, r.State, r.Members, r.Error, state, members)
}

// deadline returns a function that reports whether the limit of a wait is over.
func (s *session) deadline() func() bool {
	end := time.Now().Add(driver.Limit)
	return func() bool { return time.Now().After(end) }
}

// committed checks the offsets of a group, each as partition=offset.
func (s *session) committed(group, topic string, want ...string) {
	s.Helper()
	r := s.ok(driver.Op{Op: "group_offsets", Group: group})
	got := strings.ReplaceAll(strings.Join(r.Offsets, " "), topic+"/", "")
	if got != strings.Join(want, " ") {
		s.Errorf("committed are %q, want %q", got, want)
	}
}

// listed returns the names of this scenario that a list operation returns.
func (s *session) listed(op string) string {
	s.Helper()
	var own []string
	for _, n := range s.ok(driver.Op{Op: op}).Names {
		if strings.HasPrefix(n, s.name("")) {
			own = append(own, n)
		}
	}
	return strings.Join(own, " ")
}

// writing writes records to partition 0 of a topic until the function that it
// returns is called.
func (s *session) writing(topic string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			done <- err
			return
		}
		defer cl.Close()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			if err = cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "late-%d", i)}).FirstErr(); err != nil {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			err = nil
		}
		done <- err
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			s.Error(err)
		}
	}
}
