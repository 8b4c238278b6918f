package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/klamm-io/klamm/tests/conformance/driver"
	"github.com/klamm-io/klamm/tests/systems"
)

// TestMixedGroups has different clients be members of one group, whose leader is
// the client that comes first: it assigns partitions to members that another
// implementation wrote.
func TestMixedGroups(t *testing.T) {
	for _, b := range brokers() {
		for _, names := range [][]string{
			{"franz-go", "java"}, {"java", "librdkafka"}, {"librdkafka", "sarama"},
			{"sarama", "kafka-go"}, {"kafka-go", "kafkajs"}, {"kafkajs", "franz-go"},
		} {
			t.Run(b.Name+"/"+strings.Join(names, " and "), func(t *testing.T) {
				t.Parallel()
				var members []*session
				for _, name := range names {
					i := slices.IndexFunc(clients, func(c client) bool { return c.name == name })
					d, err := clients[i].start(b.Addr)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					t.Cleanup(func() {
						if err := d.Close(); err != nil {
							t.Errorf("%s: %v", name, err)
						}
					})
					members = append(members, &session{T: t, broker: b, client: strings.Join(names, "."), scenario: "mixed", driver: d, lacks: d.Lacks()})
				}
				if err := awaitCoordinator(t.Context(), b, members[0].name("g")); err != nil {
					t.Fatal(err)
				}
				mixed(members[0], members[1])
			})
		}
	}
}

// awaitCoordinator waits until a broker coordinates a group: the JVM broker makes
// the topic of the offsets when it is first asked, and not every client waits
// for that.
func awaitCoordinator(ctx context.Context, b *systems.Process, group string) error {
	ctx, cancel := context.WithTimeout(ctx, driver.Limit)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		gs, err := kadm.NewClient(cl).DescribeGroups(ctx, group)
		if err = errors.Join(err, gs[group].Err); err == nil || errors.Is(err, kerr.GroupIDNotFound) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not coordinate %s: %w", b.Name, group, err)
		}
	}
}

// mixed has b join the group of a, both read, and a leave b alone.
func mixed(a, b *session) {
	topic, group := a.create("t", 4), a.name("g")
	seen := make(map[string]int)
	read := func(s *session, count int) {
		s.Helper()
		r := s.ok(driver.Op{Op: "poll", Member: "m", Count: count})
		for _, rec := range r.Records {
			seen[string(rec.Value)]++
		}
		s.ok(driver.Op{Op: "commit", Member: "m"})
	}
	join := driver.Op{Op: "join", Topic: topic, Group: group, Member: "m", Reset: "earliest"}
	a.ok(join)
	a.ok(driver.Op{Op: "assignment", Member: "m", Count: 4})
	b.ok(join)
	b.ok(driver.Op{Op: "assignment", Member: "m", Count: 2})
	a.ok(driver.Op{Op: "assignment", Member: "m", Count: 2})
	a.groupIs(group, "Stable", 2)
	for p := range int32(4) {
		a.produce(driver.Op{Topic: topic}, recs(p, int(p)*5, 5)...)
	}
	read(a, 10)
	read(b, 10)
	a.committed(group, topic, "0=5", "1=5", "2=5", "3=5")

	a.ok(driver.Op{Op: "leave", Member: "m"})
	b.ok(driver.Op{Op: "assignment", Member: "m", Count: 4})
	b.groupIs(group, "Stable", 1)
	for p := range int32(4) {
		a.produce(driver.Op{Topic: topic}, recs(p, 20+int(p)*5, 5)...)
	}
	read(b, 20)
	b.committed(group, topic, "0=10", "1=10", "2=10", "3=10")
	b.ok(driver.Op{Op: "leave", Member: "m"})
	b.groupIs(group, "Empty", 0)
	for i := range 40 {
		if n := seen[fmt.Sprintf("value-%d", i)]; n != 1 {
			b.Errorf("value-%d was read %d times", i, n)
		}
	}
}
