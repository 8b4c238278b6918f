package control_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
)

var update = flag.Bool("update", false, "write what the commands in testdata print anew")

// TestScripts runs the scripts in testdata. A command is one request, and each line
// below it one element of that. Below ---- stand the answers, the records that were
// decided on with the fields that are not at their defaults, and, once those are
// applied, what they changed in the metadata.
//
// Decided by package control:
//
//	register-broker 2 rack=a log-dirs=2 unclean
//	unregister-broker 2
//	create-topics / orders partitions=2 replication-factor=3 retention.ms=1000
//	                orders assignment=1,2;2,3
//	delete-topics / orders
//	create-partitions / orders count=4 assignment=1,2;2,3
//	incremental-alter-configs / topic orders set:retention.ms=1 delete:cleanup.policy append:.. subtract:..
//	alter-configs / broker 1 log.cleaner.threads=2     (no name: the default of all)
//	elect-leaders preferred|unclean / orders-0
//	register-controller 2 port=9093 metadata.version=7-30     (no feature: those of this version)
//	move-controller 2 port=9094
//	update-features voters=1,2 / metadata.version level=29 type=upgrade|safe-downgrade|unsafe-downgrade
//	allocate-producer-ids 1 epoch=5
//	alter-partition-reassignments [same-factor] / orders-0 replicas=1,2     (no replicas: cancel)
//	preferred-elections, unclean-elections
//
// The brokers of a cluster (see bench.brokers): register, fence, unfence, shutdown,
// alter-partition, heartbeat, expired.
//
// Given by somebody else:
//
//	fence-broker 2, unfence-broker 2, controlled-shutdown 2, log-dirs-offline 2
//	partition-change orders-0 leader=2 isr=2
//	random 1     what the next random number is (0 at first)
//	show         all topics, brokers and configs
func TestScripts(t *testing.T) {
	if *update {
		if err := flag.Set("rewrite", "true"); err != nil {
			t.Fatal(err)
		}
	}
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		static, _, err := config.Load(config.Sources{})
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{image: meta.Empty(), static: static, offline: make(map[int32]bool), sessions: control.NewSessions(9 * time.Second), now: time.Unix(0, 0)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			b.t, b.pos = t, d.Pos
			b.out.Reset()
			b.command(d)
			return b.out.String()
		})
	})
}

// bench is a controller without a log.
type bench struct {
	t       *testing.T
	pos     string
	image   *meta.Image
	static  *config.Static
	ids     byte
	random  int
	offline map[int32]bool
	out     strings.Builder

	sessions *control.Sessions
	now      time.Time
}

// UUID returns ids 1, 2 and so on.
func (b *bench) UUID() prim.UUID {
	b.ids++
	return prim.UUID{15: b.ids}
}

func (b *bench) Intn(n int) int { return b.random % n }

func (b *bench) facts() control.Facts {
	return control.Facts{Image: b.image, Chance: b, Full: func(broker int32) error {
		if b.offline[broker] {
			return errors.New("input/output error")
		}
		return nil
	}, Static: b.static}
}

// command carries out a request, which package control decides on.
func (b *bench) command(d *datadriven.TestData) {
	first := element{b, strings.Fields(d.FullCmd())[1:]}
	var items []element
	for line := range strings.Lines(d.Input) {
		items = append(items, element{b, strings.Fields(line)})
	}
	var records []meta.Record
	switch d.Cmd {
	case "register-broker":
		r := control.Registration{Broker: b.number(first.word()), Rack: first.take("rack"), EndPoints: []control.EndPoint{{Name: "PLAINTEXT", Host: "localhost", Port: 9092}}}
		for range b.number(first.takeOr("log-dirs", "1")) {
			r.LogDirs = append(r.LogDirs, b.UUID())
		}
		r.Unclean = first.word() == "unclean"
		r.Alone, r.PreviousEpoch = true, -1
		out, err := control.RegisterBroker(b.facts(), r)
		if records = out; err != nil {
			b.answer("", err)
		}
	case "register-controller", "move-controller":
		r := control.ControllerRegistration{Controller: b.number(first.word()), EndPoints: []control.EndPoint{{Name: "CONTROLLER", Host: "localhost", Port: b.number(first.takeOr("port", "9093"))}}}
		var out []meta.Record
		var err error
		if d.Cmd == "move-controller" {
			out, err = control.MoveController(b.facts(), r.Controller, r.EndPoints)
		} else {
			r.Incarnation = b.UUID()
			features := first.rest()
			for _, name := range slices.Sorted(maps.Keys(features)) {
				low, high, _ := strings.Cut(*features[name], "-")
				r.Features = append(r.Features, control.Feature{Name: name, Min: int16(b.number(low)), Max: int16(b.number(high))})
			}
			out, err = control.RegisterController(b.facts(), r)
		}
		if records = out; err != nil {
			b.answer("", err)
		}
	case "unregister-broker":
		out, err := control.UnregisterBroker(b.facts(), b.number(first.word()))
		records = out
		b.answer("", err)
	case "create-topics":
		specs := each(items, func(e *element) control.TopicSpec {
			s := control.TopicSpec{Name: e.word(), Partitions: b.number(e.takeOr("partitions", "-1")), ReplicationFactor: int16(b.number(e.takeOr("replication-factor", "-1")))}
			for i, replicas := range b.assignment(e.take("assignment")) {
				if s.Assignment == nil {
					s.Assignment = make(map[int32][]int32)
				}
				s.Assignment[int32(i)] = replicas
			}
			s.Configs = e.rest()
			return s
		})
		out, results := control.CreateTopics(b.facts(), specs, control.Defaults{Partitions: 1, ReplicationFactor: 1, Static: b.static})
		records = out
		for _, r := range results {
			b.answer(r.Name, r.Err)
		}
	case "delete-topics":
		ids := each(items, func(e *element) prim.UUID {
			if topic := b.image.Topic(e.word()); topic != nil {
				return topic.ID
			}
			return prim.UUID{0: 255} // of none
		})
		out, results := control.DeleteTopics(b.image, ids)
		records = out
		for _, r := range results {
			b.answer(r.Name, r.Err)
		}
	case "create-partitions":
		specs := each(items, func(e *element) control.PartitionsSpec {
			return control.PartitionsSpec{Name: e.word(), Count: b.number(e.take("count")), Assignment: b.assignment(e.take("assignment"))}
		})
		out, errs := control.CreatePartitions(b.facts(), specs)
		records = out
		for i, err := range errs {
			b.answer(specs[i].Name, err)
		}
	case "incremental-alter-configs", "alter-configs":
		changes := each(items, func(e *element) control.ResourceChange { return b.change(e, d.Cmd == "alter-configs") })
		out, errs := control.ChangeConfigs(b.image, changes, b.static)
		records = out
		for i, err := range errs {
			b.answer(fmt.Sprint(changes[i].Resource.Type, " ", changes[i].Resource.Name), err)
		}
	case "elect-leaders":
		kind, ok := map[string]control.ElectionType{"preferred": control.PreferredElection, "unclean": control.UncleanElection}[first.word()]
		if !ok {
			b.t.Fatalf("%s: no such election", b.pos)
		}
		partitions := each(items, func(e *element) control.PartitionName { return b.partition(e.word()) })
		out, errs := control.ElectLeaders(b.facts(), kind, partitions)
		records = out
		for i, err := range errs {
			b.answer(fmt.Sprintf("%s-%d", partitions[i].Topic, partitions[i].Partition), err)
		}
	case "update-features":
		updates := each(items, func(e *element) control.FeatureUpdate {
			kind := map[string]control.FeatureUpdateType{"upgrade": control.UpgradeFeature, "safe-downgrade": control.SafeDowngradeFeature, "unsafe-downgrade": control.UnsafeDowngradeFeature}[e.takeOr("type", "upgrade")]
			return control.FeatureUpdate{Name: e.word(), Level: int16(b.number(e.take("level"))), Type: kind}
		})
		out, err := control.UpdateFeatures(b.facts(), updates, 1, b.replicas(first.takeOr("voters", "1")))
		records = out
		b.answer("", err)
	case "preferred-elections":
		records = control.PreferredElections(b.facts())
	case "unclean-elections":
		records = control.UncleanElections(b.facts())
	case "allocate-producer-ids":
		id := b.number(first.word())
		out, from, n, err := control.ProducerIDs(b.image, id, b.epoch(id, &first))
		if records = out; err != nil {
			b.answer("", err)
			break
		}
		fmt.Fprintf(&b.out, "%d to %d\n", from, from+int64(n)-1)
	case "alter-partition-reassignments":
		moves := each(items, func(e *element) control.Move {
			return control.Move{PartitionName: b.partition(e.word()), Replicas: b.replicas(e.take("replicas"))}
		})
		out, errs := control.AlterReassignments(b.facts(), moves, first.word() != "same-factor")
		records = out
		for i, err := range errs {
			b.answer(fmt.Sprintf("%s-%d", moves[i].Topic, moves[i].Partition), err)
		}
	default:
		var ok bool
		if records, ok = b.brokers(d.Cmd, &first, items); !ok {
			records = b.given(d.Cmd, &first)
		}
	}
	first.done()
	b.apply(records)
}

// given carries out what somebody else has decided, or what the script says of the
// world.
func (b *bench) given(command string, e *element) []meta.Record {
	switch command {
	case "fence-broker":
		id := b.number(e.word())
		return []meta.Record{&msg.FenceBrokerRecord{Id: id, Epoch: b.image.Broker(id).Epoch}}
	case "unfence-broker":
		id := b.number(e.word())
		return []meta.Record{&msg.UnfenceBrokerRecord{Id: id, Epoch: b.image.Broker(id).Epoch}}
	case "controlled-shutdown":
		id := b.number(e.word())
		return []meta.Record{&msg.BrokerRegistrationChangeRecord{BrokerId: id, BrokerEpoch: b.image.Broker(id).Epoch, InControlledShutdown: 1}}
	case "partition-change":
		p := b.partition(e.word())
		r := new(msg.PartitionChangeRecord)
		r.SetDefaults()
		r.TopicId, r.PartitionId, r.Isr = b.image.Topic(p.Topic).ID, p.Partition, b.replicas(e.take("isr"))
		r.Leader = b.number(e.takeOr("leader", "-2"))
		return []meta.Record{r}
	case "log-dirs-offline":
		b.offline[b.number(e.word())] = true
	case "random":
		b.random = int(b.number(e.word()))
	case "show":
		b.show(meta.Diff(meta.Empty(), b.image), meta.Empty())
	default:
		b.t.Fatalf("%s: no command %s", b.pos, command)
	}
	return nil
}

// apply writes down records and what they change.
func (b *bench) apply(records []meta.Record) {
	if len(records) == 0 {
		return
	}
	for _, r := range records {
		b.record(r)
	}
	old := b.image
	next, delta, err := old.Apply(old.Index+1, 1, records)
	if err != nil {
		b.t.Fatalf("%s: the decision does not apply: %v", b.pos, err)
	}
	b.image = next
	b.show(delta, old)
}

func (b *bench) record(r meta.Record) {
	initial := reflect.New(reflect.TypeOf(r).Elem())
	initial.Interface().(meta.Record).SetDefaults()
	fmt.Fprintf(&b.out, "+ %s %s\n", r.MessageName(), fields(reflect.ValueOf(r).Elem(), initial.Elem()))
}

// fields are those of a struct that are not what they are at first.
func fields(v, initial reflect.Value) string {
	var out []string
	for i := range v.NumField() {
		f := v.Field(i)
		if isList := f.Kind() == reflect.Slice; isList && f.IsNil() || !isList && reflect.DeepEqual(f.Interface(), initial.Field(i).Interface()) {
			continue
		}
		out = append(out, v.Type().Field(i).Name+"="+text(f))
	}
	return strings.Join(out, " ")
}

// text is a value of a record; ids are short, as bench.UUID makes them.
func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case prim.UUID:
		if x.IsZero() {
			return "UNASSIGNED"
		}
		return fmt.Sprintf("#%d", x[15])
	case *string:
		if x == nil {
			return "null"
		}
		return *x
	}
	switch v.Kind() {
	case reflect.Struct:
		return "{" + fields(v, reflect.Zero(v.Type())) + "}"
	case reflect.Slice:
		out := make([]string, v.Len())
		for i := range out {
			out[i] = text(v.Index(i))
		}
		return fmt.Sprint(out)
	}
	return fmt.Sprint(v)
}

// show writes down what a change has made of the metadata.
func (b *bench) show(d meta.Delta, old *meta.Image) {
	for _, t := range d.Deleted {
		fmt.Fprintf(&b.out, "topic %s is gone\n", t.Name)
	}
	b.image.Topics("", func(t *meta.Topic) bool {
		if _, ok := d.Topics[t.ID]; !ok {
			return true
		}
		for i, p := range t.Partitions {
			if was := old.Partition(t.Name, int32(i)); was == p {
				continue
			}
			fmt.Fprintf(&b.out, "%s-%d: replicas %v, isr %v, leader %d, leader epoch %d, partition epoch %d", t.Name, i, p.Replicas, p.InSync, p.Leader, p.LeaderEpoch, p.PartitionEpoch)
			if p.Recovering {
				b.out.WriteString(", RECOVERING")
			}
			for _, set := range []struct {
				name string
				ids  []int32
			}{{"eligible", p.EligibleLeader}, {"last leader", p.LastKnownELR}, {"adding", p.Adding}, {"removing", p.Removing}} {
				if len(set.ids) > 0 {
					fmt.Fprintf(&b.out, ", %s %v", set.name, set.ids)
				}
			}
			fmt.Fprintln(&b.out)
		}
		return true
	})
	for _, id := range slices.Sorted(maps.Keys(d.Brokers)) {
		br := b.image.Broker(id)
		if br == nil {
			fmt.Fprintf(&b.out, "broker %d is gone\n", id)
			continue
		}
		fmt.Fprintf(&b.out, "broker %d: epoch %d", id, br.Epoch)
		if br.Fenced {
			b.out.WriteString(", fenced")
		}
		if br.ShuttingDown {
			b.out.WriteString(", in controlled shutdown")
		}
		fmt.Fprintln(&b.out)
	}
	resources := slices.SortedFunc(maps.Keys(d.Configs), func(x, y meta.Resource) int {
		return strings.Compare(fmt.Sprint(x.Type, x.Name), fmt.Sprint(y.Type, y.Name))
	})
	for _, r := range resources {
		fmt.Fprintf(&b.out, "configs of %s %q: %v\n", r.Type, r.Name, b.image.Config(r))
	}
	if f := b.image.Features(); !maps.Equal(f, old.Features()) {
		fmt.Fprintf(&b.out, "features: %v\n", f)
	}
	if n := b.image.NextProducerID(); n != old.NextProducerID() {
		fmt.Fprintf(&b.out, "next producer id: %d\n", n)
	}
}

// answer writes down what the client is told.
func (b *bench) answer(of string, err error) {
	if of != "" {
		of += ": "
	}
	var code kerr.Code
	var refusal *kerr.Refusal
	switch {
	case err == nil:
		fmt.Fprintf(&b.out, "%sNONE\n", of)
	case errors.As(err, &refusal):
		fmt.Fprintf(&b.out, "%s%s: %s\n", of, refusal.Code.Name(), refusal.Reason)
	case errors.As(err, &code):
		fmt.Fprintf(&b.out, "%s%s\n", of, code.Name())
	default:
		b.t.Fatalf("%s: an error without a code: %v", b.pos, err)
	}
}

func (b *bench) change(e *element, replace bool) control.ResourceChange {
	kind, ok := map[string]meta.ResourceType{"topic": meta.TopicResource, "broker": meta.BrokerResource, "group": meta.GroupResource, "client-metrics": meta.ClientMetricsResource}[e.word()]
	if !ok {
		b.t.Fatalf("%s: no such resource", b.pos)
	}
	c := control.ResourceChange{Resource: meta.Resource{Type: kind, Name: e.word()}, Replace: replace}
	for _, w := range e.words {
		op, key := "set", w
		if !replace {
			op, key, _ = strings.Cut(w, ":")
		}
		name, value, has := strings.Cut(key, "=")
		change := control.ConfigChange{Name: name}
		if has {
			change.Value = &value
		}
		if change.Op, ok = map[string]control.ConfigOp{"set": control.SetConfig, "delete": control.DeleteConfig, "append": control.AppendConfig, "subtract": control.SubtractConfig}[op]; !ok {
			b.t.Fatalf("%s: no operation %s", b.pos, op)
		}
		c.Changes = append(c.Changes, change)
	}
	e.words = nil
	return c
}

func (b *bench) number(s string) int32 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		b.t.Fatalf("%s: %v", b.pos, err)
	}
	return int32(n)
}

func (b *bench) replicas(s string) (out []int32) {
	if s == "" {
		return nil
	}
	for id := range strings.SplitSeq(s, ",") {
		out = append(out, b.number(id))
	}
	return out
}

func (b *bench) assignment(s string) (out [][]int32) {
	if s == "" {
		return nil
	}
	for replicas := range strings.SplitSeq(s, ";") {
		out = append(out, b.replicas(replicas))
	}
	return out
}

func (b *bench) partition(s string) control.PartitionName {
	at := max(strings.LastIndexByte(s, '-'), 0)
	return control.PartitionName{Topic: s[:at], Partition: b.number(s[at+1:])}
}

// element is a line of a command: words and key=value. What nobody takes is a
// mistake in the script.
type element struct {
	b     *bench
	words []string
}

func each[T any](items []element, f func(e *element) T) []T {
	out := make([]T, len(items))
	for i := range items {
		out[i] = f(&items[i])
		items[i].done()
	}
	return out
}

// word takes the next word, "" if it has a key or there is none.
func (e *element) word() string {
	if len(e.words) == 0 || strings.Contains(e.words[0], "=") || strings.Contains(e.words[0], ":") {
		return ""
	}
	w := e.words[0]
	e.words = e.words[1:]
	return w
}

func (e *element) take(key string) string { return e.takeOr(key, "") }

func (e *element) takeOr(key, otherwise string) string {
	for i, w := range e.words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			e.words = slices.Delete(e.words, i, i+1)
			return v
		}
	}
	return otherwise
}

// rest takes what is left, as configs; a key alone has the value null.
func (e *element) rest() map[string]*string {
	out := make(map[string]*string)
	for _, w := range e.words {
		key, value, has := strings.Cut(w, "=")
		if out[key] = nil; has {
			out[key] = &value
		}
	}
	e.words = nil
	return out
}

func (e *element) done() {
	e.b.t.Helper()
	if len(e.words) > 0 {
		e.b.t.Fatalf("%s: %v is not understood", e.b.pos, e.words)
	}
}
