package convert_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/convert"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/replication/quorum"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

const metadata = dir + "/__cluster_metadata-0"

// moved returns a directory in another place.
func moved(t *testing.T, fs *vfs.Mem, from, to string) *vfs.Mem {
	t.Helper()
	must(t, fs.MkdirAll("/moved", 0o755))
	must(t, fs.Rename(from, to))
	return fs
}

// formatted returns a directory in which no broker has run.
func formatted(t *testing.T, name string) *vfs.Mem {
	t.Helper()
	fs := golden(t, name)
	must(t, fs.RemoveAll(dir+"/orders-0"))
	must(t, fs.Remove(dir+"/.kafka_cleanshutdown"))
	if name == "static" {
		must(t, fs.RemoveAll(metadata))
		return fs
	}
	names, err := fs.List(metadata)
	must(t, err)
	for _, n := range names {
		if n != "00000000000000000000-0000000000.checkpoint" {
			must(t, fs.Remove(metadata+"/"+n))
		}
	}
	return fs
}

// TestStartRefuses starts a broker on directories that are not klamm's: it says
// in one line what they are, and changes nothing.
func TestStartRefuses(t *testing.T) {
	half := func(t *testing.T, o convert.Options) *vfs.Mem {
		fs := golden(t, "static")
		if o.To == quorum.Kafka {
			run(t, fs, all)
		}
		c, err := convert.Plan(context.Background(), fs, o)
		must(t, err)
		for _, s := range c.Steps[:3] {
			must(t, s.Run())
		}
		return fs
	}
	ours := func(t *testing.T) *vfs.Mem {
		fs := golden(t, "static")
		run(t, fs, all)
		return fs
	}
	for _, c := range []struct {
		name  string
		fs    func(t *testing.T) *vfs.Mem
		over  []string
		wants string
	}{
		{"static voters", func(t *testing.T) *vfs.Mem { return golden(t, "static") }, nil, "a log directory of a Kafka broker (KRaft), node 1 of cluster 4L6g3nShT-eMCtK--X86sw: stop that broker, then run 'klamm storage convert --from-kafka /data'; nothing was changed"},
		{"standalone", func(t *testing.T) *vfs.Mem { return golden(t, "standalone") }, nil, "'klamm storage convert --from-kafka /data'"},
		{"quorum-state that an earlier klamm replaced", func(t *testing.T) *vfs.Mem {
			fs := golden(t, "static")
			write(t, fs, metadata+"/quorum-state", []byte(`{"leaderId":-1,"leaderEpoch":9,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1,"voteTerm":9,"votedAddress":"single"}`))
			return fs
		}, nil, "'klamm storage convert --from-kafka /data'"},
		{"formatted for static voters", func(t *testing.T) *vfs.Mem { return formatted(t, "static") }, nil, "formatted for a Kafka broker which never ran"},
		{"formatted standalone", func(t *testing.T) *vfs.Mem { return formatted(t, "standalone") }, nil, "formatted for a Kafka broker which never ran"},
		{"ZooKeeper", func(t *testing.T) *vfs.Mem {
			fs := vfs.NewMem()
			write(t, fs, dir+"/meta.properties", []byte("#\n#Tue Jan 02 2024\ncluster.id=x\nversion=0\nbroker.id=1\n"))
			write(t, fs, dir+"/orders-0/00000000000000000000.log", nil)
			return fs
		}, nil, "a Kafka broker that used ZooKeeper, node 1 of cluster x: migrate it to KRaft"},
		{"on the way to klamm", func(t *testing.T) *vfs.Mem { return half(t, all) }, nil, "run 'klamm storage convert --from-kafka /data' again"},
		{"on the way to Kafka", func(t *testing.T) *vfs.Mem { return half(t, back) }, nil, "run 'klamm storage convert --to-kafka /data' again"},
		{"another node", ours, []string{"node.id=2"}, "/data belongs to node 1, but node.id is 2"},
		{"another cluster's directory as the second", func(t *testing.T) *vfs.Mem {
			fs := ours(t)
			write(t, fs, "/more/meta.properties", []byte("version=1\ncluster.id=other\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAABQ\n"))
			return fs
		}, []string{"log.dirs=/data,/more"}, "/more belongs to cluster other, not 4L6g3nShT-eMCtK--X86sw"},
		{"the metadata in the second directory", ours, []string{"log.dirs=/empty,/data"}, "it must be the first of log.dirs"},
		{"the metadata in a directory of their own", func(t *testing.T) *vfs.Mem { return moved(t, ours(t), dir, "/moved/metadata") },
			[]string{"metadata.log.dir=/moved/metadata"}, "it is metadata.log.dir, but klamm keeps the metadata in the first of log.dirs"},
		{"partitions without metadata", func(t *testing.T) *vfs.Mem { return moved(t, golden(t, "static"), metadata, "/moved/metadata") },
			nil, "it has partitions (1), and what is known of them is in another directory, the one with __cluster_metadata-0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := c.fs(t)
			before := tree(t, fs, "/")
			conf, _, err := config.Load(config.Sources{Overrides: append([]string{"node.id=1", "log.dirs=" + dir, "listeners=PLAINTEXT://127.0.0.1:0"}, c.over...)})
			must(t, err)
			b, err := broker.Start(t.Context(), broker.Options{Config: conf, FS: fs})
			if err == nil {
				b.Close()
				t.Fatal("it starts")
			}
			if !strings.Contains(err.Error(), c.wants) || strings.Contains(err.Error(), "\n") {
				t.Errorf("it says %q, want %q", err, c.wants)
			}
			sameTree(t, tree(t, fs, "/"), before)
		})
	}
}

// TestStartTakes checks that further log directories of a JVM broker, which
// formatting has left its file in, are no obstacle once the first is converted.
func TestStartTakes(t *testing.T) {
	fs := golden(t, "static")
	for _, name := range []string{"/used", "/unused"} {
		write(t, fs, name+"/meta.properties", []byte("version=1\ncluster.id=4L6g3nShT-eMCtK--X86sw\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAABQ\n"))
		write(t, fs, name+"/bootstrap.checkpoint", nil)
	}
	write(t, fs, "/used/orders-1/partition.metadata", nil)
	s := convert.Start{Dirs: []string{dir, "/used", "/unused", "/new"}, NodeID: 1}
	if err := s.Check(fs); err == nil {
		t.Error("klamm starts before the conversion")
	}
	run(t, fs, all)
	if err := s.Check(fs); err != nil {
		t.Error(err)
	}
	s.Dirs = s.Dirs[1:]
	if err := s.Check(fs); err == nil {
		t.Error("klamm starts without the metadata")
	}
}

// TestStartTakesWhatOnlyLooksLikePartitions checks that folders which somebody has
// put into a log directory, and another spelling of its name, are no obstacle.
func TestStartTakesWhatOnlyLooksLikePartitions(t *testing.T) {
	fs := vfs.NewMem()
	write(t, fs, dir+"/meta.properties", []byte("version=1\ncluster.id=4L6g3nShT-eMCtK--X86sw\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAABQ\n"))
	write(t, fs, dir+"/backup-2024/notes.txt", []byte("mine"))
	for _, name := range []string{"", dir, dir + "/", dir + "/x/.."} {
		if err := (convert.Start{Dirs: []string{dir}, NodeID: 1, Metadata: name}).Check(fs); err != nil {
			t.Errorf("metadata.log.dir=%s: %v", name, err)
		}
	}
	write(t, fs, dir+"/orders-1/00000000000000000000.log", nil)
	if err := (convert.Start{Dirs: []string{dir}, NodeID: 1}).Check(fs); err == nil {
		t.Error("klamm starts with a partition of which nothing is known")
	}
}

// kafka returns a directory of a JVM broker with these records as its snapshot,
// and more as batches behind it.
func kafka(t *testing.T, snapshot []meta.Record, more ...[]meta.Record) *vfs.Mem {
	t.Helper()
	fs := vfs.NewMem()
	write(t, fs, dir+"/meta.properties", []byte("#\n#Fri Nov 27 2026\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAABQ\nversion=1\ncluster.id=4L6g3nShT-eMCtK--X86sw\n"))
	m, _, err := meta.Empty().Apply(0, 0, snapshot)
	must(t, err)
	must(t, quorum.Begin(fs, metadata, 1, &quorum.Contents{Form: quorum.Kafka, Image: m, End: 10, Epoch: 2, Term: 3}))
	must(t, fs.SyncDir(dir))
	var file []byte
	end := int64(10)
	for _, records := range more {
		build := record.NewBuilder(record.None, 0)
		for _, r := range records {
			framed, err := meta.AppendRecord(nil, r)
			must(t, err)
			build.Append(1, nil, framed, nil)
		}
		b, err := build.Finish(record.NoProducer)
		must(t, err)
		record.Batch(b).SetBaseOffset(end)
		record.Batch(b).SetLeaderEpoch(3)
		end = record.Batch(b).LastOffset() + 1
		file = append(file, b...)
	}
	write(t, fs, metadata+"/00000000000000000010.log", file)
	return fs
}

func version(level int16) meta.Record {
	return &msg.FeatureLevelRecord{Name: "metadata.version", FeatureLevel: level}
}

func registered(id int32) meta.Record {
	return &msg.RegisterBrokerRecord{BrokerId: id, BrokerEpoch: 5, Fenced: true}
}

func topic(name string, replicas ...int32) []meta.Record {
	id := prim.UUID{15: byte(len(name))}
	return []meta.Record{&msg.TopicRecord{Name: name, TopicId: id}, &msg.PartitionRecord{TopicId: id, Replicas: replicas, Isr: replicas, Leader: replicas[0]}}
}

func topicConfig(name, key, value string) meta.Record {
	return &msg.ConfigRecord{ResourceType: 2, ResourceName: name, Name: key, Value: &value}
}

// TestConvertRefuses plans to convert what klamm cannot serve, or what cannot be
// read: it says why, and changes nothing.
func TestConvertRefuses(t *testing.T) {
	own := []meta.Record{version(30), registered(1)}
	with := func(more ...meta.Record) func(*testing.T) *vfs.Mem {
		return func(t *testing.T) *vfs.Mem { return kafka(t, append(own[:2:2], more...)) }
	}
	state := func(voters string) func(*testing.T) *vfs.Mem {
		return func(t *testing.T) *vfs.Mem {
			fs := kafka(t, own)
			write(t, fs, metadata+"/quorum-state", []byte(`{"clusterId":"","leaderId":1,"leaderEpoch":3,"votedId":-1,"appliedOffset":0,"currentVoters":[`+voters+`],"data_version":0}`))
			return fs
		}
	}
	strict := all
	strict.Unenforced = nil
	for _, c := range []struct {
		name  string
		fs    func(t *testing.T) *vfs.Mem
		o     convert.Options
		wants []string
	}{
		{"what klamm does not enforce", func(t *testing.T) *vfs.Mem { return golden(t, "static") }, strict,
			[]string{"it has 1 acls, which klamm keeps but does not enforce: say '--unenforced acls' if that is all right", "1 quotas", "1 scram"}},
		{"three voters", state(`{"voterId":1},{"voterId":2},{"voterId":3}`), all, []string{"the quorum has the voters [1 2 3]"}},
		{"a broker only", state(`{"voterId":7}`), all, []string{"node 1 is no voter but a broker only: its metadata are at the controllers [7]"}},
		{"a controller only", func(t *testing.T) *vfs.Mem { return kafka(t, own[:1]) }, all, []string{"node 1 is a controller only"}},
		{"a second broker", with(append(topic("far", 1, 2), registered(2))...), all, []string{"broker 2 is registered too", "partition far-0 has the replicas [1 2]"}},
		{"an older metadata.version", func(t *testing.T) *vfs.Mem { return kafka(t, []meta.Record{version(25), registered(1)}) }, all, []string{"metadata.version is 25, and klamm writes the records of 30: raise it"}},
		{"a newer metadata.version", func(t *testing.T) *vfs.Mem { return kafka(t, []meta.Record{version(31), registered(1)}) }, all, []string{"metadata.version is 31, and klamm knows it up to 30"}},
		{"a topic in remote storage", with(append(topic("cold", 1), topicConfig("cold", "remote.storage.enable", "true"))...), all, []string{"topic cold has remote.storage.enable"}},
		{"a configuration that klamm does not know", with(append(topic("odd", 1), topicConfig("odd", "no.such.key", "1"))...), all, []string{"the configuration of topic odd", "no.such.key"}},
		{"a record that klamm does not know", func(t *testing.T) *vfs.Mem {
			fs := kafka(t, own)
			build := record.NewBuilder(record.None, 0)
			build.Append(1, nil, []byte{1, 99, 0, 0}, nil)
			b, err := build.Finish(record.NoProducer)
			must(t, err)
			record.Batch(b).SetBaseOffset(10)
			record.Batch(b).SetLeaderEpoch(3)
			write(t, fs, metadata+"/00000000000000000010.log", b)
			return fs
		}, all, []string{"00000000000000000010.log at offset 10: metadata record: unknown type 99"}},
		{"damage in the middle", func(t *testing.T) *vfs.Mem {
			fs := golden(t, "standalone")
			name := metadata + "/00000000000000000000.log"
			b, err := vfs.ReadFile(fs, name)
			must(t, err)
			b[3000] ^= 1
			write(t, fs, name, b)
			return fs
		}, all, []string{"00000000000000000000.log is damaged"}},
		{"offsets that are missing", func(t *testing.T) *vfs.Mem {
			fs := golden(t, "static")
			must(t, fs.Rename(metadata+"/00000000000000000106-0000000001.checkpoint", metadata+"/00000000000000000106-0000000001.old"))
			must(t, fs.Rename(metadata+"/00000000000000000071-0000000001.checkpoint", metadata+"/00000000000000000071-0000000001.old"))
			b, err := vfs.ReadFile(fs, metadata+"/00000000000000000000.log")
			must(t, err)
			first, rest, err := record.Next(b)
			must(t, err)
			must(t, fs.Remove(metadata+"/00000000000000000000.log"))
			write(t, fs, fmt.Sprintf("%s/%020d.log", metadata, first.LastOffset()+1), rest)
			return fs
		}, all, []string{"offset 1 follows -1"}},
		{"ZooKeeper", func(t *testing.T) *vfs.Mem {
			fs := vfs.NewMem()
			write(t, fs, dir+"/meta.properties", []byte("cluster.id=x\nversion=0\nbroker.id=1\n"))
			return fs
		}, all, []string{"migrate it to KRaft"}},
		{"one of several directories", func(t *testing.T) *vfs.Mem {
			fs := vfs.NewMem()
			write(t, fs, dir+"/meta.properties", []byte("cluster.id=x\nversion=1\nnode.id=1\n"))
			return fs
		}, back, []string{"want the one of its node's log directories that has __cluster_metadata-0"}},
		{"an empty directory", func(t *testing.T) *vfs.Mem { return vfs.NewMem() }, all, []string{"no log directory of a broker yet"}},
		{"the other way is under way", func(t *testing.T) *vfs.Mem {
			fs := golden(t, "static")
			c, err := convert.Plan(context.Background(), fs, all)
			must(t, err)
			must(t, c.Steps[0].Run())
			must(t, c.Steps[1].Run())
			return fs
		}, back, []string{"run 'klamm storage convert --from-kafka /data' again, which finishes it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := c.fs(t)
			before := tree(t, fs, "/")
			_, err := convert.Plan(t.Context(), fs, c.o)
			if err == nil {
				t.Fatal("it is planned")
			}
			for _, want := range c.wants {
				if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("it says %q, want %q", err, want)
				}
			}
			sameTree(t, tree(t, fs, "/"), before)
		})
	}
}

// TestFormatted converts directories in which no broker has run: what formatting
// has finalized stays.
func TestFormatted(t *testing.T) {
	for name, kraft := range map[string]int16{"static": 0, "standalone": 1} {
		fs := formatted(t, name)
		if c := run(t, fs, back); len(c.Steps) > 0 {
			t.Errorf("%s: %d steps back", name, len(c.Steps))
		}
		run(t, fs, all)
		c := start(t, fs)
		if m := c.Image(); m.Feature("metadata.version") != 30 || m.Feature("transaction.version") != 2 {
			t.Errorf("%s: features %v", name, m.Features())
		}
		must(t, c.Close())
		run(t, fs, back)
		if got := contents(t, fs); got.KRaft.Version != kraft || len(got.Image.Features()) != 6 {
			t.Errorf("%s: kraft.version %d, features %v", name, got.KRaft.Version, got.Image.Features())
		}
	}
}

// TestMetadataTransactions converts a log with transactions: what is aborted, or
// was not ended, has not happened (KIP-868).
func TestMetadataTransactions(t *testing.T) {
	begin, end, abort := &msg.BeginTransactionRecord{}, &msg.EndTransactionRecord{}, &msg.AbortTransactionRecord{}
	one := func(name string) []meta.Record { return topic(name, 1) }
	fs := kafka(t, []meta.Record{version(30), registered(1)},
		one("a"), []meta.Record{begin}, one("bb"), append(one("ccc"), end), append([]meta.Record{begin}, one("dddd")...), []meta.Record{abort},
		append(append([]meta.Record{begin}, one("eeeee")...), end), append([]meta.Record{begin}, one("ffffff")...), one("ggggggg"))
	m := run(t, fs, all).Contents.Image
	var got []string
	m.Topics("", func(t *meta.Topic) bool {
		got = append(got, t.Name)
		return true
	})
	if want := "[a bb ccc eeeee]"; fmt.Sprint(got) != want {
		t.Errorf("topics %v, want %s", got, want)
	}
}
