package replication_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

func static(t testing.TB, overrides ...string) *config.Static {
	t.Helper()
	s, _, err := config.Load(config.Sources{Overrides: overrides})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func startController(t testing.TB, fs vfs.FS, applied func(old, new *meta.Image, d meta.Delta), settled ...func(context.Context, uint64) error) *replication.Controller {
	t.Helper()
	return startControllerIn(t, fs, "/data", applied, settled...)
}

func startControllerIn(t testing.TB, fs vfs.FS, dir string, applied func(old, new *meta.Image, d meta.Delta), settled ...func(context.Context, uint64) error) *replication.Controller {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	o := replication.ControllerOptions{NodeID: 1, FS: fs, Dir: dir + "/__cluster_metadata-0", Clock: clock.System(), Logger: zap.NewNop(), Applied: applied}
	for _, f := range settled {
		o.Settled = f
	}
	c, err := replication.StartController(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func register(t testing.TB, c *replication.Controller, id int32) {
	t.Helper()
	err := c.Change(t.Context(), func(*meta.Image) ([]meta.Record, error) {
		return []meta.Record{&msg.RegisterBrokerRecord{BrokerId: id, BrokerEpoch: meta.EpochOfEntry}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func dump(t testing.TB, m *meta.Image) []byte {
	t.Helper()
	var b []byte
	var err error
	for _, r := range m.Records() {
		if b, err = meta.AppendRecord(b, r); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestMetadataSurvivesAPowerCut(t *testing.T) {
	fs := vfs.NewMem()
	var mu sync.Mutex
	last := meta.Empty()
	c := startController(t, fs, func(old, next *meta.Image, _ meta.Delta) {
		mu.Lock()
		defer mu.Unlock()
		if last.Index > 0 && old != last || next.Index <= old.Index {
			t.Errorf("applied from index %d to %d, the last was %d", old.Index, next.Index, last.Index)
		}
		last = next
	})
	defer c.Close()
	register(t, c, 1)
	d := control.Defaults{Partitions: 3, ReplicationFactor: 1, Static: static(t)}
	for i := range 20 {
		v := fmt.Sprint(1000 + i)
		results, err := c.CreateTopics(t.Context(), []control.TopicSpec{{Name: fmt.Sprint("t", i), Partitions: -1, ReplicationFactor: -1, Configs: map[string]*string{"retention.ms": &v}}}, d, false)
		if err != nil || results[0].Err != nil {
			t.Fatal(err, results[0].Err)
		}
		if c.Image().Partition(fmt.Sprint("t", i), 2) == nil {
			t.Fatal("a change returned before it was applied")
		}
	}
	epoch := c.Image().Broker(1).Epoch
	if first, n, err := c.ProducerIDs(t.Context(), 1, epoch); first != 0 || n != 1000 || err != nil {
		t.Errorf("first block %d of %d: %v", first, n, err)
	}
	want := dump(t, c.Image())
	again := startController(t, fs.CrashClone(vfs.CrashPolicy{}), nil)
	defer again.Close()
	if !bytes.Equal(dump(t, again.Image()), want) {
		t.Error("the metadata differs after a power cut")
	}
	if first, _, err := again.ProducerIDs(t.Context(), 1, epoch); first != 1000 || err != nil {
		t.Errorf("next block begins at %d: %v", first, err)
	}
	if again.Quorum().Epoch <= c.Quorum().Epoch {
		t.Errorf("controller epoch %d after %d", again.Quorum().Epoch, c.Quorum().Epoch)
	}
}

func TestChangesAreOneAtATime(t *testing.T) {
	c := startController(t, vfs.NewMem(), nil)
	defer c.Close()
	register(t, c, 1)
	epoch := c.Image().Broker(1).Epoch
	var wg sync.WaitGroup
	seen := make(map[int64]bool)
	var mu sync.Mutex
	for range 8 {
		wg.Go(func() {
			for range 20 {
				first, _, err := c.ProducerIDs(context.Background(), 1, epoch)
				mu.Lock()
				if err != nil || seen[first] {
					t.Errorf("block at %d was given twice: %v", first, err)
				}
				seen[first] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := c.Image().NextProducerID(); got != 160_000 {
		t.Errorf("next producer id %d, want 160000", got)
	}
	if err := c.Change(t.Context(), func(*meta.Image) ([]meta.Record, error) { return nil, kerr.PolicyViolation }); !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("a decision's error came back as %v", err)
	}
}

func TestTopicRules(t *testing.T) {
	c := startController(t, vfs.NewMem(), nil)
	defer c.Close()
	register(t, c, 1)
	register(t, c, 2)
	d := control.Defaults{Partitions: 1, ReplicationFactor: 1, Static: static(t)}
	bad := "nonsense"
	ok := func(name string) control.TopicSpec {
		return control.TopicSpec{Name: name, Partitions: -1, ReplicationFactor: -1}
	}
	with := func(f func(*control.TopicSpec)) control.TopicSpec {
		s := ok("topic")
		f(&s)
		return s
	}
	if r, err := c.CreateTopics(t.Context(), []control.TopicSpec{ok("taken"), ok("dots.and_dashes")}, d, false); err != nil || r[0].Err != nil || r[1].Err != nil {
		t.Fatal(r, err)
	}
	tests := []struct {
		name string
		spec control.TopicSpec
		want kerr.Code
	}{
		{"empty name", ok(""), kerr.InvalidTopicException},
		{"dot", ok(".."), kerr.InvalidTopicException},
		{"a blank", ok("a b"), kerr.InvalidTopicException},
		{"250 letters", ok(string(bytes.Repeat([]byte("x"), 250))), kerr.InvalidTopicException},
		{"249 letters", ok(string(bytes.Repeat([]byte("x"), 249))), kerr.None},
		{"exists", ok("taken"), kerr.TopicAlreadyExists},
		{"collides", ok("dots_and.dashes"), kerr.InvalidTopicException},
		{"the metadata log", ok(meta.MetadataTopic), kerr.TopicAuthorizationFailed},
		{"no partitions", with(func(s *control.TopicSpec) { s.Partitions = 0 }), kerr.InvalidPartitions},
		{"no replicas", with(func(s *control.TopicSpec) { s.ReplicationFactor = 0 }), kerr.InvalidReplicationFactor},
		{"more replicas than brokers", with(func(s *control.TopicSpec) { s.ReplicationFactor = 3 }), kerr.InvalidReplicationFactor},
		{"both counts and an assignment", with(func(s *control.TopicSpec) {
			s.Partitions, s.Assignment = 1, map[int32][]int32{0: {1}}
		}), kerr.InvalidRequest},
		{"an assignment with a hole", with(func(s *control.TopicSpec) { s.Assignment = map[int32][]int32{0: {1}, 2: {1}} }), kerr.InvalidReplicaAssignment},
		{"an unknown broker", with(func(s *control.TopicSpec) { s.Assignment = map[int32][]int32{0: {7}} }), kerr.InvalidReplicaAssignment},
		{"a broker twice", with(func(s *control.TopicSpec) { s.Assignment = map[int32][]int32{0: {1, 1}} }), kerr.InvalidReplicaAssignment},
		{"uneven replicas", with(func(s *control.TopicSpec) { s.Assignment = map[int32][]int32{0: {1}, 1: {1, 2}} }), kerr.InvalidReplicaAssignment},
		{"unknown config", with(func(s *control.TopicSpec) { s.Configs = map[string]*string{"retention.sm": &bad} }), kerr.InvalidConfig},
		{"bad config", with(func(s *control.TopicSpec) { s.Configs = map[string]*string{"retention.ms": &bad} }), kerr.InvalidConfig},
		{"null config", with(func(s *control.TopicSpec) { s.Configs = map[string]*string{"retention.ms": nil} }), kerr.InvalidConfig},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, err := c.CreateTopics(t.Context(), []control.TopicSpec{test.spec, ok("beside")}, d, true)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == kerr.None && r[0].Err != nil || test.want != kerr.None && !errors.Is(r[0].Err, test.want) {
				t.Errorf("%v, want %s", r[0].Err, test.want.Name())
			}
			if r[1].Err != nil {
				t.Errorf("the topic beside it: %v", r[1].Err)
			}
			if c.Image().Topic("beside") != nil {
				t.Error("a topic was made that was only to be checked")
			}
		})
	}
}

func TestConfigOperations(t *testing.T) {
	c := startController(t, vfs.NewMem(), nil)
	defer c.Close()
	register(t, c, 1)
	s := static(t)
	if r, err := c.CreateTopics(t.Context(), []control.TopicSpec{{Name: "t", Partitions: 1, ReplicationFactor: 1}}, control.Defaults{Static: s}, false); err != nil || r[0].Err != nil {
		t.Fatal(r, err)
	}
	topic := meta.Resource{Type: meta.TopicResource, Name: "t"}
	text := func(s string) *string { return &s }
	tests := []struct {
		name   string
		change control.ResourceChange
		want   kerr.Code
		after  string // of cleanup.policy and retention.ms
	}{
		{"set", control.ResourceChange{Resource: topic, Changes: []control.ConfigChange{{Name: "retention.ms", Value: text("5")}}}, kerr.None, "|5"},
		{"append to the default", control.ResourceChange{Resource: topic, Changes: []control.ConfigChange{{Name: "cleanup.policy", Op: control.AppendConfig, Value: text("compact")}}}, kerr.None, "delete,compact|5"},
		{"append what is there", control.ResourceChange{Resource: topic, Changes: []control.ConfigChange{{Name: "cleanup.policy", Op: control.AppendConfig, Value: text("compact")}}}, kerr.None, "delete,compact|5"},
		{"subtract", control.ResourceChange{Resource: topic, Changes: []control.ConfigChange{{Name: "cleanup.policy", Op: control.SubtractConfig, Value: text("delete")}}}, kerr.None, "compact|5"},
		{"all or nothing", control.ResourceChange{Resource: topic, Changes: []control.ConfigChange{{Name: "retention.ms", Value: text("6")}, {Name: "segment.ms", Value: text("0")}}}, kerr.InvalidConfig, "compact|5"},
		{"append to what is no list", control.ResourceChange{Resource: topic, Changes: []control.ConfigChange{{Name: "retention.ms", Op: control.AppendConfig, Value: text("6")}}}, kerr.InvalidConfig, "compact|5"},
		{"a key twice", control.ResourceChange{Resource: topic, Changes: []control.ConfigChange{{Name: "retention.ms", Value: text("6")}, {Name: "retention.ms", Value: text("7")}}}, kerr.InvalidRequest, "compact|5"},
		{"null", control.ResourceChange{Resource: topic, Changes: []control.ConfigChange{{Name: "retention.ms"}}}, kerr.InvalidRequest, "compact|5"},
		{"no such topic", control.ResourceChange{Resource: meta.Resource{Type: meta.TopicResource, Name: "absent"}}, kerr.UnknownTopicOrPartition, "compact|5"},
		{"delete", control.ResourceChange{Resource: topic, Changes: []control.ConfigChange{{Name: "cleanup.policy", Op: control.DeleteConfig}}}, kerr.None, "|5"},
		{"replace", control.ResourceChange{Resource: topic, Replace: true, Changes: []control.ConfigChange{{Name: "cleanup.policy", Value: text("delete")}}}, kerr.None, "delete|"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			results, err := c.ChangeConfigs(t.Context(), []control.ResourceChange{test.change}, s, false)
			if err != nil {
				t.Fatal(err)
			}
			if test.want == kerr.None && results[0] != nil || test.want != kerr.None && !errors.Is(results[0], test.want) {
				t.Errorf("%v, want %s", results[0], test.want.Name())
			}
			now := c.Image().Config(topic)
			if got := now["cleanup.policy"] + "|" + now["retention.ms"]; got != test.after {
				t.Errorf("configs %q, want %q", got, test.after)
			}
		})
	}
}

// replicas opens the replicas of broker 1 with the given topics.
func replicas(t testing.TB, fs vfs.FS, overrides ...string) (*replication.Controller, *replication.Replicas, *dirs.Dir) {
	t.Helper()
	s := static(t, append(overrides, "log.dirs=/data")...)
	b, err := s.Broker()
	if err != nil {
		t.Fatal(err)
	}
	dir, _, err := dirs.Open(fs, "/data", dirs.Identity{NodeID: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := replication.NewReplicas(replication.Options{NodeID: 1, FS: fs, Dirs: []*dirs.Dir{dir}, Broker: b, Static: s, Clock: clock.System(), Logger: zap.NewNop()})
	c := startController(t, fs, r.Apply, r.Settled)
	if c.Image().Broker(1) == nil {
		register(t, c, 1)
	}
	if err := r.Start(c.Image); err != nil {
		t.Fatal(err)
	}
	return c, r, dir
}

func batch(t testing.TB, values ...string) []byte {
	t.Helper()
	b := record.NewBuilder(record.None, 0)
	for _, v := range values {
		b.Append(time.Now().UnixMilli(), nil, []byte(v), nil)
	}
	out, err := b.Finish(record.NoProducer)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(out)
}

type watcher chan struct{}

func (w watcher) Moved(*replication.Partition) {
	select {
	case w <- struct{}{}:
	default:
	}
}

func TestAppendWaitsForTheInSyncReplicas(t *testing.T) {
	c, r, _ := replicas(t, vfs.NewMem())
	defer c.Close()
	register(t, c, 2)
	// Broker 2 exists in the metadata only, and never fetches.
	results, err := c.CreateTopics(t.Context(), []control.TopicSpec{{Name: "t", Partitions: -1, ReplicationFactor: -1, Assignment: map[int32][]int32{0: {1, 2}}}}, control.Defaults{Static: static(t)}, false)
	if err != nil || results[0].Err != nil {
		t.Fatal(results, err)
	}
	p := r.Get("t", 0)
	w := make(watcher, 1)
	var x replication.Watch
	p.Watch(&x, replication.HighWatermark, w)
	info, commit, err := p.Append(batch(t, "a", "b"), replication.AcksAll, log.AppendOptions{})
	if err != nil || commit == nil || info.LastOffset != 1 {
		t.Fatalf("appended %+v, commit %v: %v", info, commit, err)
	}
	if p.HighWatermark() != 0 || p.Log().EndOffset() != 2 {
		t.Errorf("high watermark %d, log end %d, want 0 and 2", p.HighWatermark(), p.Log().EndOffset())
	}
	if _, again, err := p.Append(batch(t, "c"), replication.AcksLeader, log.AppendOptions{}); again != nil || err != nil {
		t.Errorf("acks=1 waits: %v, %v", again, err)
	}
	select {
	case <-commit.Done():
		t.Fatal("committed without the follower")
	default:
	}
	isr := func(members ...int32) {
		t.Helper()
		topic := c.Image().Topic("t")
		err := c.Change(t.Context(), func(*meta.Image) ([]meta.Record, error) {
			r := new(msg.PartitionChangeRecord)
			r.SetDefaults()
			r.TopicId, r.PartitionId, r.Isr = topic.ID, 0, members
			return []meta.Record{r}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	isr(1) // the controller drops the follower
	<-commit.Done()
	<-w
	if commit.Err() != nil || p.HighWatermark() != 3 {
		t.Errorf("after the shrink: %v, high watermark %d", commit.Err(), p.HighWatermark())
	}
	two := "2"
	if errs, err := c.ChangeConfigs(t.Context(), []control.ResourceChange{{Resource: meta.Resource{Type: meta.TopicResource, Name: "t"}, Changes: []control.ConfigChange{{Name: "min.insync.replicas", Value: &two}}}}, static(t), false); err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	if _, _, err := p.Append(batch(t, "d"), replication.AcksAll, log.AppendOptions{}); !errors.Is(err, kerr.NotEnoughReplicas) || p.Log().EndOffset() != 3 {
		t.Errorf("below min.insync.replicas: %v, log end %d", err, p.Log().EndOffset())
	}
	if _, _, err := p.Append(batch(t, "d"), replication.AcksLeader, log.AppendOptions{}); err != nil || p.HighWatermark() != 3 {
		t.Errorf("acks=1 below min.insync.replicas: %v, high watermark %d", err, p.HighWatermark())
	}
	isr(1, 2)
	_, commit, err = p.Append(batch(t, "e"), replication.AcksAll, log.AppendOptions{})
	if err != nil || commit == nil {
		t.Fatal(err)
	}
	// Leadership moves away while a produce waits.
	topic := c.Image().Topic("t")
	err = c.Change(t.Context(), func(*meta.Image) ([]meta.Record, error) {
		r := new(msg.PartitionChangeRecord)
		r.SetDefaults()
		r.TopicId, r.PartitionId, r.Leader = topic.ID, 0, 2
		return []meta.Record{r}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-commit.Done()
	if !errors.Is(commit.Err(), kerr.NotLeaderOrFollower) {
		t.Errorf("the waiting produce was told %v", commit.Err())
	}
	if _, _, err := p.Append(batch(t, "f"), replication.AcksLeader, log.AppendOptions{}); !errors.Is(err, kerr.NotLeaderOrFollower) {
		t.Errorf("append to a follower: %v", err)
	}
	if err := p.CheckLeader(0); !errors.Is(err, kerr.FencedLeaderEpoch) {
		t.Errorf("a client of the old epoch: %v", err)
	}
	if err := p.CheckLeader(9); !errors.Is(err, kerr.UnknownLeaderEpoch) {
		t.Errorf("a client of a later epoch: %v", err)
	}
}

func TestDeletedAndStrayPartitions(t *testing.T) {
	fs := vfs.NewMem()
	c, r, dir := replicas(t, fs)
	d := control.Defaults{Partitions: 2, ReplicationFactor: 1, Static: static(t)}
	create := func(name string) {
		t.Helper()
		if results, err := c.CreateTopics(t.Context(), []control.TopicSpec{{Name: name, Partitions: -1, ReplicationFactor: -1}}, d, false); err != nil || results[0].Err != nil {
			t.Fatal(results, err)
		}
	}
	create("a")
	create("b")
	old := c.Image().Topic("a").ID
	for _, p := range []*replication.Partition{r.Get("a", 0), r.Get("b", 1)} {
		if _, _, err := p.Append(batch(t, "x"), replication.AcksAll, log.AppendOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	gone := r.Get("a", 0)
	if _, err := c.DeleteTopics(t.Context(), []prim.UUID{old}); err != nil {
		t.Fatal(err)
	}
	if r.Get("a", 0) != nil || r.GetByID(old, 0) != nil || r.Count() != 2 {
		t.Errorf("%d partitions after a deletion, want 2", r.Count())
	}
	if _, _, err := gone.Append(batch(t, "y"), replication.AcksLeader, log.AppendOptions{}); !errors.Is(err, kerr.NotLeaderOrFollower) {
		t.Errorf("append to a deleted partition: %v", err)
	}
	create("a") // the same name: another topic
	if p := r.Get("a", 0); p == nil || p.TopicID == old || p.Log().EndOffset() != 0 {
		t.Error("the new topic has records of the old one")
	}
	if err := errors.Join(r.Close(1), c.Close(), dir.Close()); err != nil {
		t.Fatal(err)
	}
	// A directory of a topic that nobody knows, and one that waits for removal.
	if err := errors.Join(fs.MkdirAll("/data/unknown-0", 0o755), fs.MkdirAll("/data/x-0.0123456789abcdef0123456789abcdef-delete", 0o755)); err != nil {
		t.Fatal(err)
	}
	c, r, dir = replicas(t, fs)
	defer c.Close()
	if p := r.Get("b", 1); p == nil || p.Log().EndOffset() != 1 || p.HighWatermark() != 1 {
		t.Error("records are missing after a clean restart")
	}
	names, err := fs.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "unknown-0" || bytes.HasSuffix([]byte(name), []byte("-delete")) {
			t.Errorf("%s was not dealt with", name)
		}
	}
	if !dir.Clean() {
		t.Error("the shutdown was clean, and is not seen to be")
	}
}

func TestOneBrokerADirectory(t *testing.T) {
	fs := vfs.NewMem()
	first, got, err := dirs.Open(fs, "/data", dirs.Identity{NodeID: 1})
	if err != nil || len(got.ClusterID) != 22 {
		t.Fatalf("%+v: %v", got, err)
	}
	if _, _, err := dirs.Open(fs, "/data", dirs.Identity{NodeID: 1}); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("a second broker on the directory: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for _, other := range []dirs.Identity{{NodeID: 2}, {NodeID: 1, ClusterID: "another-cluster-id-000"}} {
		if _, _, err := dirs.Open(fs, "/data", other); err == nil {
			t.Errorf("%+v took over the directory of %+v", other, got)
		}
	}
	second, again, err := dirs.Open(fs, "/data", dirs.Identity{NodeID: 1})
	if err != nil || again != got || second.ID != first.ID {
		t.Errorf("reopened as %+v, was %+v: %v", again, got, err)
	}
}
