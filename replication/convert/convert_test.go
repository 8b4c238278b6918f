package convert_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/convert"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

const dir = "/data"

// all allows everything that klamm does not enforce.
var all = convert.Options{Dir: dir, To: quorum.Klamm, Unenforced: convert.Unenforced, MetadataVersion: 30}

var back = convert.Options{Dir: dir, To: quorum.Kafka, MetadataVersion: 30}

// golden returns a directory that a JVM broker of version 4.3.1 has written: two
// topics and one that was deleted again, a group, configurations of every type,
// an ACL, a SCRAM credential and a quota. The one of static voters has snapshots
// and a log that begins before them, the standalone one a log alone.
func golden(t *testing.T, name string) *vfs.Mem {
	t.Helper()
	to := vfs.NewMem()
	err := fs.WalkDir(os.DirFS("testdata"), name, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path.Join("testdata", file))
		if err != nil {
			return err
		}
		write(t, to, dir+strings.TrimPrefix(file, name), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, dir+"/orders-0/partition.metadata", []byte("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABA"))
	return to
}

// write writes a file durably.
func write(t *testing.T, fs vfs.FS, name string, content []byte) {
	t.Helper()
	must(t, fs.MkdirAll(path.Dir(name), 0o755))
	must(t, vfs.WriteFileAtomic(fs, name, content))
	for at := path.Dir(name); at != "/"; at = path.Dir(at) {
		must(t, fs.SyncDir(path.Dir(at)))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree is every file below a directory with its content.
func tree(t *testing.T, fs vfs.FS, at string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	names, err := fs.List(at)
	if errors.Is(err, os.ErrNotExist) {
		return out
	}
	must(t, err)
	for _, name := range names {
		name = path.Join(at, name)
		info, err := fs.Stat(name)
		must(t, err)
		if info.IsDir() {
			out[name] = "directory"
			for k, v := range tree(t, fs, name) {
				out[k] = v
			}
			continue
		}
		content, err := vfs.ReadFile(fs, name)
		must(t, err)
		out[name] = string(content)
	}
	return out
}

// sameTree compares two trees but for the files that the JVM broker's original
// metadata are in.
func sameTree(t *testing.T, got, want map[string]string, but ...string) {
	t.Helper()
	skip := func(name string) bool {
		return slices.ContainsFunc(but, func(b string) bool { return strings.HasPrefix(name, b) })
	}
	for name, content := range want {
		if have, ok := got[name]; !skip(name) && (!ok || have != content) {
			t.Errorf("%s: there %v, with %d bytes, want %d", name, ok, len(have), len(content))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok && !skip(name) {
			t.Errorf("%s is new", name)
		}
	}
}

// run converts and returns the conversion.
func run(t *testing.T, fs vfs.FS, o convert.Options) *convert.Conversion {
	t.Helper()
	c, err := convert.Plan(context.Background(), fs, o)
	must(t, err)
	for _, s := range c.Steps {
		if err := s.Run(); err != nil {
			t.Fatalf("%s: %v", s.Do, err)
		}
	}
	return c
}

// records is an image in bytes, by record.
func records(t *testing.T, m *meta.Image) (out []string) {
	t.Helper()
	for _, r := range m.Records() {
		b, err := meta.AppendRecord(nil, r)
		must(t, err)
		out = append(out, r.MessageName()+" "+fmt.Sprintf("%x", b))
	}
	return out
}

func contents(t *testing.T, fs vfs.FS) *quorum.Contents {
	t.Helper()
	c, err := quorum.Read(fs, dir+"/__cluster_metadata-0")
	must(t, err)
	return c
}

// start starts klamm's controller in the directory.
func start(t *testing.T, fs vfs.FS) *replication.Controller {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := replication.StartController(ctx, replication.ControllerOptions{NodeID: 1, FS: fs, Dir: dir + "/__cluster_metadata-0", Clock: clock.System(), Logger: zap.NewNop()})
	must(t, err)
	return c
}

// TestGolden reads what the JVM broker wrote, converts it, has klamm go on with
// it, and converts it back.
func TestGolden(t *testing.T) {
	for name, kraft := range map[string]int16{"static": 0, "standalone": 1} {
		t.Run(name, func(t *testing.T) {
			fs := golden(t, name)
			before := contents(t, fs)
			m := before.Image
			if before.KRaft.Version != kraft || !slices.Equal(before.VoterIDs, []int32{1}) || before.Form != quorum.Kafka {
				t.Errorf("kraft.version %d, voters %v, form %s", before.KRaft.Version, before.VoterIDs, before.Form)
			}
			if m.Topic("dead") != nil || m.Topic("orders") == nil || len(m.Topic("orders").Partitions) != 3 || m.Feature("group.version") != 1 {
				t.Errorf("topics %d, orders %v, features %v", m.TopicCount(), m.Topic("orders"), m.Features())
			}
			var kept []string
			for _, r := range m.Kept() {
				kept = append(kept, r.MessageName())
			}
			if want := []string{"UserScramCredentialRecord", "ClientQuotaRecord", "AccessControlEntryRecord", "RegisterControllerRecord"}; !slices.Equal(kept, want) {
				t.Errorf("kept %v, want %v", kept, want)
			}
			if got := fmt.Sprint(convert.UnenforcedIn(m)); got != "map[acls:1 quotas:1 scram:1]" {
				t.Errorf("not enforced: %s", got)
			}
			for _, r := range []struct {
				meta.Resource
				key, want string
			}{{meta.Resource{Type: meta.TopicResource, Name: "orders"}, "retention.ms", "86400000"},
				{meta.Resource{Type: meta.GroupResource, Name: "g1"}, "consumer.session.timeout.ms", "50000"},
				{meta.Resource{Type: meta.BrokerResource, Name: "1"}, "log.cleaner.threads", "2"},
				{meta.Resource{Type: meta.ClientMetricsResource, Name: "cm"}, "interval.ms", "60000"}} {
				if got := m.Config(r.Resource)[r.key]; got != r.want {
					t.Errorf("%v %s is %q, want %q", r.Resource, r.key, got, r.want)
				}
			}
			undamaged(t, fs)
			files := tree(t, fs, dir)
			c := run(t, fs, all)
			undamaged(t, fs)
			sameTree(t, tree(t, fs, dir), files, dir+"/__cluster_metadata-0")
			for file, content := range files {
				if in, ok := strings.CutPrefix(file, dir+"/__cluster_metadata-0/"); ok {
					if got, err := vfs.ReadFile(fs, c.Backup+"/"+in); err != nil || string(got) != content {
						t.Errorf("%s is not kept in %s: %v", in, c.Backup, err)
					}
				}
			}
			ours := start(t, fs)
			p := ours.Image().Topic("orders").Partitions[2]
			was := m.Topic("orders").Partitions[2]
			if p.Leader != 1 || !slices.Equal(p.InSync, []int32{1}) || p.LeaderEpoch != was.LeaderEpoch+1 || p.PartitionEpoch != was.PartitionEpoch+1 || len(p.EligibleLeader) > 0 {
				t.Errorf("the partition is %+v, was %+v", p, was)
			}
			must(t, ours.Change(t.Context(), func(m *meta.Image) ([]meta.Record, error) {
				return []meta.Record{&msg.TopicRecord{Name: "born", TopicId: prim.UUID{15: 99}},
					&msg.PartitionRecord{TopicId: prim.UUID{15: 99}, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1}}, nil
			}))
			if index := ours.Image().Index; index <= uint64(m.Broker(1).Epoch) {
				t.Errorf("the next broker epoch is above %d, and %d was", index, m.Broker(1).Epoch)
			}
			must(t, ours.Close())
			run(t, fs, back)
			undamaged(t, fs)
			after := contents(t, fs)
			if after.Form != quorum.Kafka || after.End <= before.End || after.Term < before.Term || after.KRaft.Version != kraft || !slices.Equal(after.VoterIDs, []int32{1}) {
				t.Errorf("back: form %s, end %d after %d, term %d after %d, kraft.version %d, voters %v", after.Form, after.End, before.End, after.Term, before.Term, after.KRaft.Version, after.VoterIDs)
			}
			if fmt.Sprint(after.KRaft.Voters) != fmt.Sprint(before.KRaft.Voters) {
				t.Errorf("voters are %v, were %v", after.KRaft.Voters, before.KRaft.Voters)
			}
			had, have := records(t, before.Image), records(t, after.Image)
			for _, r := range had {
				if kind, _, _ := strings.Cut(r, " "); kind != "PartitionRecord" && !slices.Contains(have, r) {
					t.Errorf("a %s is not as it was: %s", kind, r)
				}
			}
			if len(have) != len(had)+2 { // the topic that was made meanwhile
				t.Errorf("%d records, want %d", len(have), len(had)+2)
			}
			p = after.Image.Topic("orders").Partitions[2]
			if p.Leader != meta.NoLeader || !slices.Equal(p.EligibleLeader, []int32{1}) || p.LeaderEpoch != was.LeaderEpoch+2 || !slices.Equal(p.Directories, was.Directories) {
				t.Errorf("back, the partition is %+v, was %+v", p, was)
			}
		})
	}
}

// undamaged checks the metadata as klamm log verify does.
func undamaged(t *testing.T, fs vfs.FS) {
	t.Helper()
	r, err := scrub.Check(t.Context(), scrub.Options{FS: fs}, dir+"/__cluster_metadata-0")
	must(t, err)
	for _, f := range r.Findings {
		if f.Severity == scrub.Damage {
			t.Errorf("%s at byte %d: %s", f.File, f.Byte, f.What)
		}
	}
}

// TestAgain converts what is converted already, which changes nothing.
func TestAgain(t *testing.T) {
	fs := golden(t, "static")
	for _, o := range []convert.Options{back, all} {
		if c := run(t, fs, o); (o.To == quorum.Kafka) != (len(c.Steps) == 0) {
			t.Errorf("%d steps to %s", len(c.Steps), o.To)
		}
	}
	before := tree(t, fs, dir)
	if c := run(t, fs, all); len(c.Steps) > 0 {
		t.Errorf("%d steps for a directory of klamm's", len(c.Steps))
	}
	sameTree(t, tree(t, fs, dir), before)
	for range 2 { // the originals of earlier conversions give way
		run(t, fs, back)
		run(t, fs, all)
	}
	must(t, start(t, fs).Close())
}

// TestInterrupted ends a conversion at every operation, as a power cut, as a
// kill or with sectors torn, and runs the same command again.
func TestInterrupted(t *testing.T) {
	errKilled := errors.New("killed")
	for _, o := range []convert.Options{all, back} {
		t.Run("to "+o.To.String(), func(t *testing.T) {
			whole := golden(t, "standalone")
			if o.To == quorum.Kafka {
				run(t, whole, all)
			}
			source := records(t, contents(t, whole).Image)
			other := whole.CrashClone(vfs.CrashPolicy{})
			run(t, other, o)
			want := records(t, contents(t, other).Image)
			for n := 1; ; n++ {
				policies := []vfs.CrashPolicy{{}, {KeepData: true}, {KeepEntries: true}, {KeepData: true, KeepEntries: true}, {Torn: rand.New(rand.NewPCG(uint64(n), 1)), KeepEntries: n%2 == 0}}
				finished := false
				for i, policy := range policies {
					fs := whole.CrashClone(vfs.CrashPolicy{})
					count := 0
					dying := vfs.Inject(fs, func(op vfs.Op, _ string) error {
						switch op {
						case vfs.OpRead, vfs.OpList, vfs.OpStat, vfs.OpSize: // they change nothing
						default:
							count++
						}
						if count >= n {
							return errKilled
						}
						return nil
					})
					c, err := convert.Plan(context.Background(), dying, o)
					for at := 0; err == nil && at < len(c.Steps); at++ {
						err = c.Steps[at].Run()
					}
					finished = err == nil
					fs = fs.CrashClone(policy)
					halfway(t, fs, o, source, want)
					run(t, fs, o)
					if got := records(t, contents(t, fs).Image); !slices.Equal(got, want) {
						t.Errorf("interrupted at operation %d, policy %d: other records than in one go", n, i)
					}
					d, err := convert.Look(fs, dir)
					must(t, err)
					if d.Kind.String() != o.To.String() || d.NodeID != 1 || !d.Clean {
						t.Errorf("interrupted at operation %d, policy %d: %+v", n, i, d)
					}
					if _, err := fs.Stat(dir + "/__cluster_metadata-0.converting-stray"); err == nil {
						t.Errorf("interrupted at operation %d, policy %d: something is left over", n, i)
					}
					if t.Failed() {
						t.FailNow()
					}
				}
				if finished {
					t.Logf("%d operations", n)
					break
				}
			}
		})
	}
}

// halfway checks what an interrupted conversion leaves: a broker finds either
// the original whole or the new metadata whole, or it does not start, the JVM
// broker since there is no meta.properties.
func halfway(t *testing.T, fs vfs.FS, o convert.Options, source, want []string) {
	t.Helper()
	d, err := convert.Look(fs, dir)
	must(t, err)
	refusal := convert.Start{Dirs: []string{dir}, NodeID: 1}.Check(fs)
	if _, err := fs.Stat(dir + "/meta.properties"); err != nil {
		if d.Kind != convert.ToKlamm && d.Kind != convert.ToKafka || refusal == nil {
			t.Errorf("without meta.properties it is %v, and klamm says %v", d, refusal)
		}
		return
	}
	if (refusal == nil) != (d.Kind == convert.Klamm) {
		t.Errorf("%v: klamm says %v", d, refusal)
	}
	expect := source
	if d.Kind.String() == o.To.String() {
		expect = want
	}
	if got := records(t, contents(t, fs).Image); !slices.Equal(got, expect) {
		t.Errorf("%v does not hold the metadata whole", d)
	}
}

// TestTornTail converts a directory whose broker died while it wrote: the JVM
// broker cuts the tail off too.
func TestTornTail(t *testing.T) {
	fs := golden(t, "standalone")
	want := contents(t, fs)
	name := dir + "/__cluster_metadata-0/00000000000000000000.log"
	b, err := vfs.ReadFile(fs, name)
	must(t, err)
	tail := record.NewBuilder(record.None, 0)
	tail.Append(1, nil, []byte("never acknowledged"), nil)
	batch, err := tail.Finish(record.NoProducer)
	must(t, err)
	record.Batch(batch).SetBaseOffset(want.End)
	write(t, fs, name, append(bytes.Clone(b), batch[:len(batch)-3]...))
	must(t, fs.Remove(dir+"/.kafka_cleanshutdown"))
	if got := run(t, fs, all); got.Contents.End != want.End {
		t.Errorf("the log ends at %d, want %d", got.Contents.End, want.End)
	}
	must(t, start(t, fs).Close())
}
