package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/dirs"
	"github.com/klamm-io/klamm/wire/prim"
)

const aCluster = "5L6g3nShT-eMCtK--X86sw"

// node writes the configuration of a node with two log directories.
func node(t *testing.T, more ...string) (file, a, b string) {
	t.Helper()
	dir := t.TempDir()
	file, a, b = filepath.Join(dir, "server.properties"), filepath.Join(dir, "a", "deep"), filepath.Join(dir, "b")
	text := fmt.Sprintf("node.id=3\nlog.dirs=%s,%s\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://:9093\n%s\n", a, b, strings.Join(more, "\n"))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file, a, b
}

func content(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(text)
}

// TestStorageFormat formats directories, and holds them to what a broker writes of
// itself.
func TestStorageFormat(t *testing.T) {
	file, a, b := node(t)
	if code, out, _ := storage(t, "info", "-c", file); code != exitFailed || out != fmt.Sprintf("Found problems:\n  %s does not exist\n  %s does not exist\n\n", a, b) {
		t.Errorf("info before: exit %d, %s", code, out)
	}
	code, out, said := storage(t, "format", "-t", aCluster, "-c", file)
	if want := fmt.Sprintf("Formatting metadata directory %s with metadata.version 4.3-IV0.\nFormatting data directory %s with metadata.version 4.3-IV0.\n", a, b); code != exitOK || out != want || said != "" {
		t.Fatalf("exit %d, %s, %s; want %s", code, out, said, want)
	}
	for _, dir := range []string{a, b} {
		text := content(t, dir, "meta.properties")
		d, got, err := dirs.Open(vfs.OS(), dir, dirs.Identity{NodeID: 3})
		if err != nil || got.ClusterID != aCluster {
			t.Fatalf("%v, %v", got, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		mem := vfs.NewMem()
		other, _, err := dirs.Open(mem, "/x", got)
		if err != nil {
			t.Fatal(err)
		}
		own, err := vfs.ReadFile(mem, "/x/meta.properties") // as a broker writes it
		if want := strings.ReplaceAll(string(own), other.ID.String(), d.ID.String()); err != nil || text != want || d.ID == other.ID {
			t.Errorf("%q, want %q, %v", text, want, err)
		}
	}
	if content(t, a, "initial-controllers")+content(t, b, "initial-controllers") != "" {
		t.Error("there are initial controllers, which nobody asked for")
	}
	if code, out, said := storage(t, "info", "-c", file); code != exitOK || said != "" ||
		!strings.HasPrefix(out, fmt.Sprintf("Found log directories:\n  %s\n  %s\n\nFound metadata: MetaProperties(version=1, clusterId=%s, nodeId=3, directoryId=", a, b, aCluster)) {
		t.Errorf("info after: exit %d, %s, %s", code, out, said)
	}

	before := content(t, a, "meta.properties")
	if code, out, said := storage(t, "format", "-t", aCluster, "-c", file); code != exitFailed || out != "" ||
		said != "klamm: log directory "+a+" is already formatted. Use --ignore-formatted to ignore this directory and format the others\n" {
		t.Errorf("again: exit %d, %s, %s", code, out, said)
	}
	if code, out, _ := storage(t, "format", "-t", aCluster, "-c", file, "-g"); code != exitOK || out != "All of the log directories are already formatted.\n" {
		t.Errorf("again with --ignore-formatted: exit %d, %s", code, out)
	}
	if code, _, said := storage(t, "format", "-t", prim.RandomUUID().String(), "-c", file, "-g"); code != exitFailed || !strings.Contains(said, a+" belongs to cluster "+aCluster) {
		t.Errorf("for another cluster: exit %d, %s", code, said)
	}
	if err := os.RemoveAll(b); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := storage(t, "info", "-c", file); code != exitFailed || !strings.Contains(out, "Found problem:\n  "+b+" does not exist\n") {
		t.Errorf("info with one that is missing: exit %d, %s", code, out)
	}
	if code, _, _ := storage(t, "format", "-t", aCluster, "-c", file, "--ignore-formatted", "-I", "9@x:1:"+aCluster); code != exitOK || !strings.Contains(content(t, b, "meta.properties"), aCluster) {
		t.Errorf("a further directory: exit %d", code)
	}
	if content(t, a, "meta.properties") != before || content(t, a, "initial-controllers") != "" {
		t.Error("a formatted directory was changed")
	}
}

// TestStorageFormatThenStart: a broker starts on what was formatted for it, and is
// of that cluster.
func TestStorageFormatThenStart(t *testing.T) {
	file, _, _ := node(t)
	if code, _, said := storage(t, "format", "-t", aCluster, "-c", file); code != exitOK {
		t.Fatal(said)
	}
	static, _, err := config.Load(config.Sources{File: file, Overrides: []string{"listeners=PLAINTEXT://127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.Start(t.Context(), broker.Options{Config: static})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.ClusterID() != aCluster {
		t.Errorf("cluster %s", b.ClusterID())
	}
}

func TestStorageFormatControllers(t *testing.T) {
	const own, other = "MvDxzVmcRsaTz33bUuRU6A", "JEXY6aqzQY-32P5TStzaFg"
	joins := "controller.quorum.bootstrap.servers=a:9093"
	for _, c := range []struct {
		name   string
		config string
		args   []string
		kind   string
		want   string // the file; DIR is directory.id
	}{
		{"standalone", joins, []string{"--standalone"}, "dynamic metadata voter directory", "3@localhost:9093:DIR\n"},
		{"standalone, advertised", joins + "\nadvertised.listeners=PLAINTEXT://h:9092,CONTROLLER://c.example:1234", []string{"-s"}, "dynamic metadata voter directory", "3@c.example:1234:DIR\n"},
		{"a list with this node", joins, []string{"-I", "3@[::1]:9093:" + own + ",4@b:9093:" + other}, "dynamic metadata voter directory", "3@[::1]:9093:" + own + "\n4@b:9093:" + other + "\n"},
		{"a list without it", joins, []string{"--initial-controllers", "4@b:9093:" + other}, "dynamic metadata directory", "4@b:9093:" + other + "\n"},
		{"none", joins, []string{"--no-initial-controllers"}, "metadata directory", ""},
		{"voters of the configuration", "controller.quorum.voters=3@a:9093,4@b:9093", nil, "metadata directory", ""},
		{"a broker", "process.roles=broker\nlisteners=PLAINTEXT://:9092\n" + joins, nil, "metadata directory", ""},
	} {
		file, a, b := node(t, c.config)
		// What a run that was interrupted has left.
		if err := os.MkdirAll(a, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(a, "initial-controllers"), []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
		code, out, said := storage(t, append([]string{"format", "-t", aCluster, "-c", file}, c.args...)...)
		if code != exitOK || !strings.HasPrefix(out, "Formatting "+c.kind+" "+a+" with") {
			t.Errorf("%s: exit %d, %s, %s", c.name, code, out, said)
			continue
		}
		_, id, _ := strings.Cut(strings.TrimSpace(content(t, a, "meta.properties")), "directory.id=")
		if got, want := content(t, a, "initial-controllers"), strings.ReplaceAll(c.want, "DIR", id); got != want {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
		if strings.Contains(c.want, own) && id != own {
			t.Errorf("%s: directory.id %s, want that of the list", c.name, id)
		}
		if content(t, b, "initial-controllers") != "" || strings.Contains(content(t, b, "meta.properties"), id) {
			t.Errorf("%s: the second directory is taken for that of the metadata", c.name)
		}
	}
}

func TestStorageFormatRefuses(t *testing.T) {
	joins := "controller.quorum.bootstrap.servers=a:9093"
	for _, c := range []struct {
		name, config string
		args         []string
		want         string
	}{
		{"no id", "", []string{"-t", ""}, "want --cluster-id ID and --config FILE"},
		{"an id that is too short", "", []string{"-t", "abc"}, "Cluster ID string abc does not appear to be a valid UUID: uuid \"abc\": want 22 characters"},
		{"an id that is a name", "", []string{"-t", "my-cluster-my-cluster-1"}, "does not appear to be a valid UUID"},
		{"nothing said of the quorum", joins, nil, "you must specify one of the following: --standalone, --initial-controllers, or --no-initial-controllers"},
		{"two of them", joins, []string{"-s", "-N"}, "exclude each other"},
		{"two others", joins, []string{"-s", "-I", "3@a:1:" + aCluster}, "exclude each other"},
		{"voters twice", "controller.quorum.voters=3@a:9093", []string{"-s"}, "names the voters already"},
		{"a list that is none", joins, []string{"-I", "3@a:1"}, `--initial-controllers: invalid value "3@a:1": want id@host:port:directory-id`},
		{"a broker alone", "process.roles=broker\nlisteners=PLAINTEXT://:9092\n" + joins, []string{"-s"}, "You can only use --standalone on a controller."},
		{"no listener of controllers", "listeners=PLAINTEXT://:9092", []string{"-s"}, "No controller listeners found"},
		{"a port that nobody knows", "listeners=PLAINTEXT://:9092,CONTROLLER://:0", []string{"-s"}, "picks its port when it starts"},
		{"metadata elsewhere", "metadata.log.dir=/elsewhere", nil, "klamm keeps the metadata in the first of log.dirs"},
		{"a configuration that is wrong", "process.roles=broker", nil, "controller.quorum.bootstrap.servers"},
	} {
		file, a, _ := node(t, c.config)
		code, out, said := storage(t, append([]string{"format", "-t", aCluster, "-c", file}, c.args...)...)
		if code != exitUsage || out != "" || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit %d, %s%s; want %q", c.name, code, out, said, c.want)
		}
		if _, err := os.Stat(a); err == nil {
			t.Errorf("%s: %s was made", c.name, a)
		}
	}
	for _, dir := range []string{"static", "standalone"} {
		foreign := jvmDir(t, dir)
		file := filepath.Join(t.TempDir(), "server.properties")
		if err := os.WriteFile(file, []byte("log.dirs="+foreign+","+t.TempDir()), 0o644); err != nil {
			t.Fatal(err)
		}
		if code, _, said := storage(t, "format", "-t", aCluster, "-c", file, "-g"); code != exitFailed || !strings.Contains(said, "belongs to cluster 4L6g3nShT-eMCtK--X86sw") {
			t.Errorf("a Kafka directory: exit %d, %s", code, said)
		}
	}
}

func TestStorageRandomUUID(t *testing.T) {
	_, one, _ := storage(t, "random-uuid")
	_, two, _ := storage(t, "random-uuid")
	if _, err := prim.ParseUUID(strings.TrimSpace(one)); err != nil || one == two {
		t.Errorf("%q %q %v", one, two, err)
	}
}
