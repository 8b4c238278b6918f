package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/klamm-io/klamm/config"
)

// deployed is the directory of the files that people deploy with.
const deployed = "../../../deploy"

// documents parses all documents of a YAML file of deploy/.
func documents(t *testing.T, name string) (out []map[string]any) {
	t.Helper()
	f, err := os.Open(filepath.Join(deployed, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	for {
		var doc map[string]any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, doc)
	}
}

// at returns what stands at a path in YAML; a part that is a number is a place in a list.
func at[T any](t *testing.T, v any, path ...any) T {
	t.Helper()
	for i, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok || m[p] == nil {
				t.Fatalf("there is no %v", path[:i+1])
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || len(l) <= p {
				t.Fatalf("there is no %v", path[:i+1])
			}
			v = l[p]
		}
	}
	out, ok := v.(T)
	if !ok {
		t.Fatalf("%v is %T: %v", path, v, v)
	}
	return out
}

func texts(list []any) (out []string) {
	for _, v := range list {
		out = append(out, fmt.Sprint(v))
	}
	return out
}

// checkCommand checks that klamm knows a command with its flags and arguments, without running
// it.
func checkCommand(t *testing.T, where string, words []string) {
	t.Helper()
	if len(words) == 0 || filepath.Base(words[0]) != "klamm" {
		t.Errorf("%s: %q is no command of klamm", where, words)
		return
	}
	cmd, rest, err := newRoot(&globals{reach: new(reach)}).Find(words[1:])
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil {
		t.Errorf("%s: %q: %v", where, words, err)
	}
}

// checkProperties loads a configuration with an environment: every key is known, and one that
// klamm acts on.
func checkProperties(t *testing.T, where, file string, env []string) (*config.Static, *config.Broker) {
	t.Helper()
	static, warnings, err := config.Load(config.Sources{File: file, Environ: env})
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	for _, w := range warnings {
		t.Errorf("%s: %v", where, w)
	}
	b, err := static.Broker()
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	return static, b
}

// deployedProperties returns the names of all properties files of deploy/.
func deployedProperties(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(deployed, func(name string, _ os.DirEntry, err error) error {
		if filepath.Ext(name) == ".properties" {
			out = append(out, name)
		}
		return err
	})
	if err != nil || len(out) != 3 {
		t.Fatalf("%v, %v: want three", out, err)
	}
	return out
}

func TestDeployProperties(t *testing.T) {
	for i, name := range deployedProperties(t) {
		static, b := checkProperties(t, name, name, nil)
		const voters = "1@klamm-1:9093,2@klamm-2:9093,3@klamm-3:9093"
		if got := static.Str("controller.quorum.voters"); b.NodeID != int32(i+1) || len(b.Listeners) != 1 || got != voters {
			t.Errorf("%s: node %d, %v, %v", name, b.NodeID, b.Listeners, got)
		}
	}
}

func TestDeployUnit(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(deployed, "klamm.service"))
	if err != nil {
		t.Fatal(err)
	}
	unit, section := make(map[string]string), ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch key, value, ok := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = line
		case !ok:
			t.Errorf("no key: %s", line)
		default:
			unit[section+key] = value
		}
	}
	checkCommand(t, "ExecStart", strings.Fields(unit["[Service]ExecStart"]))
	if stop, err := time.ParseDuration(unit["[Service]TimeoutStopSec"] + "s"); err != nil || stop < 30*time.Second {
		t.Errorf("it may take %v to stop, %v: it hands over for 10 s, and answers for 10 s", stop, err)
	}
	if unit["[Service]Type"] != "exec" {
		t.Errorf("type %s: klamm does not notify systemd", unit["[Service]Type"])
	}
	_, b := checkProperties(t, "server-1.properties", filepath.Join(deployed, "server-1.properties"), nil)
	if want := []string{"/var/lib/" + unit["[Service]StateDirectory"]}; !slices.Equal(b.LogDirs, want) {
		t.Errorf("log.dirs is %v, and the unit can write to %v", b.LogDirs, want)
	}
}

func TestDeployCompose(t *testing.T) {
	docs := documents(t, "compose.yaml")
	services := at[map[string]any](t, docs[0], "services")
	if len(docs) != 1 || len(services) != 6 {
		t.Fatalf("%d documents, %d services", len(docs), len(services))
	}
	for n := 1; n <= 3; n++ {
		file := fmt.Sprintf("./server-%d.properties:/etc/klamm/server.properties:ro", n)
		for _, name := range []string{fmt.Sprintf("format-%d", n), fmt.Sprintf("klamm-%d", n)} {
			s := at[map[string]any](t, services, name)
			checkCommand(t, name, append(texts(at[[]any](t, s, "entrypoint")), texts(at[[]any](t, s, "command"))...))
			if v := texts(at[[]any](t, s, "volumes")); !slices.Equal(v, []string{file, fmt.Sprintf("data-%d:/var/lib/klamm", n)}) {
				t.Errorf("%s: volumes %v", name, v)
			}
			at[map[string]any](t, docs[0], "volumes")
		}
		s := at[map[string]any](t, services, fmt.Sprintf("klamm-%d", n))
		checkCommand(t, "healthcheck", texts(at[[]any](t, s, "healthcheck", "test"))[1:])
		at[string](t, s, "depends_on", fmt.Sprintf("format-%d", n), "condition")
	}
	startDeployed(t, func(n int) (string, []string) {
		text, err := os.ReadFile(filepath.Join(deployed, fmt.Sprintf("server-%d.properties", n)))
		if err != nil {
			t.Fatal(err)
		}
		return string(text), nil
	}, func(n int) string { return fmt.Sprintf("klamm-%d", n) })
}

func TestDeployKubernetes(t *testing.T) {
	kinds := make(map[string]map[string]any)
	for _, doc := range documents(t, "kubernetes.yaml") {
		kinds[at[string](t, doc, "kind")] = doc
	}
	set := kinds["StatefulSet"]
	label := "app.kubernetes.io/name"
	pod := at[map[string]any](t, set, "spec", "template")
	name := at[string](t, pod, "metadata", "labels", label)
	for what, got := range map[string]string{
		"the selector of the set": at[string](t, set, "spec", "selector", "matchLabels", label),
		"that of the service":     at[string](t, kinds["Service"], "spec", "selector", label),
		"that of the budget":      at[string](t, kinds["PodDisruptionBudget"], "spec", "selector", "matchLabels", label),
		"the service of the set":  at[string](t, set, "spec", "serviceName"),
		"the service":             at[string](t, kinds["Service"], "metadata", "name"),
		"the configuration":       at[string](t, kinds["ConfigMap"], "metadata", "name"),
		"that of the volume":      at[string](t, pod, "spec", "volumes", 0, "configMap", "name"),
	} {
		if got != name {
			t.Errorf("%s is %s, want %s", what, got, name)
		}
	}
	if n := at[int](t, set, "spec", "replicas"); n != 3 {
		t.Errorf("%d pods", n)
	}
	container := at[map[string]any](t, pod, "spec", "containers", 0)
	for where, c := range map[string]any{"format": at[any](t, pod, "spec", "initContainers", 0, "command"), "klamm": container["command"],
		"readiness": at[any](t, container, "readinessProbe", "exec", "command")} {
		checkCommand(t, where, texts(c.([]any)))
	}
	text := at[string](t, kinds["ConfigMap"], "data", "server.properties")
	startDeployed(t, func(n int) (string, []string) {
		return text, podEnv(t, at[[]any](t, container, "env"), map[string]string{"metadata.name": fmt.Sprintf("klamm-%d", n-1), "metadata.namespace": "ns",
			"metadata.labels['apps.kubernetes.io/pod-index']": fmt.Sprint(n - 1), "metadata.labels['topology.kubernetes.io/zone']": ""})
	}, func(n int) string { return fmt.Sprintf("klamm-%d.klamm", n-1) })
}

// podEnv returns the environment of a container, where fields of the pod have values.
func podEnv(t *testing.T, list []any, fields map[string]string) (out []string) {
	t.Helper()
	var pairs []string
	for _, e := range list {
		name := at[string](t, e, "name")
		var value string
		if from, ok := e.(map[string]any)["valueFrom"].(map[string]any); !ok {
			value = strings.NewReplacer(pairs...).Replace(at[string](t, e, "value"))
		} else if from["fieldRef"] != nil {
			path := at[string](t, from, "fieldRef", "fieldPath")
			if value, ok = fields[path]; !ok {
				t.Fatalf("%s: a pod has no %s", name, path)
			}
		} else {
			continue // the id of the cluster: it is that of the test
		}
		pairs = append(pairs, "$("+name+")", value)
		out = append(out, name+"="+value)
	}
	return out
}

// startDeployed formats and starts three nodes with the configurations and environments that of
// returns, with hosts, ports and paths replaced by some of this machine: a topic that they make has
// three replicas in sync, and a node stops in order.
func startDeployed(t *testing.T, of func(n int) (text string, env []string), host func(n int) string) {
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 6)
	// Longer names first: klamm-0.klamm.ns.svc.cluster.local is not klamm-0.klamm.
	var swaps []string
	for n := 1; n <= 3; n++ {
		swaps = append(swaps, host(n)+".ns.svc.cluster.local:9092", "127.0.0.1:"+ports[2*n-2], host(n)+":9092", "127.0.0.1:"+ports[2*n-2], host(n)+":9093", "127.0.0.1:"+ports[2*n-1])
	}
	id := (&shell{t, "127.0.0.1:1"}).ok("storage", "random-uuid")
	var nodes []*exec.Cmd
	ready := make(chan error, 3)
	for n := 1; n <= 3; n++ {
		text, env := of(n)
		data := filepath.Join(dir, fmt.Sprint(n))
		swap := strings.NewReplacer(append(swaps, "//:9092", "//127.0.0.1:"+ports[2*n-2], "//:9093", "//127.0.0.1:"+ports[2*n-1], "/var/lib/klamm", data)...)
		file := filepath.Join(dir, fmt.Sprintf("%d.properties", n))
		if err := os.WriteFile(file, []byte(swap.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
		for i := range env {
			env[i] = swap.Replace(env[i])
		}
		_, b := checkProperties(t, file, file, env)
		if !strings.HasPrefix(b.LogDirs[0], data) {
			t.Fatalf("the data of node %d are to be in %s", n, b.LogDirs[0])
		}
		env = append(env, asCommand+"=1", "HOME=/", "TZ=UTC")
		for range 2 { // as at a second start
			format := exec.Command(exe, "storage", "format", "-t", strings.TrimSpace(id), "-c", file, "--ignore-formatted")
			format.Env = env
			if out, err := format.CombinedOutput(); err != nil {
				t.Fatalf("format node %d: %v\n%s", n, err, out)
			}
		}
		node := exec.Command(exe, "start", "--config", file, "--log-level", "error")
		node.Env, node.Stderr = env, os.Stderr
		out, err := node.StdoutPipe()
		if err == nil {
			err = node.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, node)
		t.Cleanup(func() { node.Process.Kill(); node.Wait() })
		go func() {
			line, err := bufio.NewReader(out).ReadString('\n')
			if err == nil && !strings.HasPrefix(line, "ready ") {
				err = errors.New(line)
			}
			ready <- err
		}()
	}
	for range nodes {
		if err := <-ready; err != nil {
			t.Fatalf("a node does not start: %v", err)
		}
	}
	s := &shell{t, "127.0.0.1:" + ports[0]}
	s.ok("topic", "create", "t")
	s.ok("cluster", "health", "--wait", "--exit-code")
	s.ok("produce", "t", "v", "--acks", "all")
	if out := s.ok("topic", "describe", "t", "--format", "json"); strings.Count(out, `"leader"`) != 6 {
		t.Errorf("not as many partitions as are configured\n%s", out)
	}
	brokers := s.brokers()
	if len(brokers) != 3 || brokers[0].Replicas != 6 {
		t.Errorf("%+v", brokers)
	}
	// The last two would wait for somebody who leads in their place.
	nodes[0].Process.Signal(syscall.SIGTERM)
	if err := nodes[0].Wait(); err != nil {
		t.Errorf("a node does not stop in order: %v", err)
	}
}

// freePorts returns ports that nobody listens on, below those that the system gives to
// connections.
func freePorts(t *testing.T, n int) (out []string) {
	t.Helper()
	for port := 20000 + os.Getpid()%5000; len(out) < n && port < 32000; port++ {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		out = append(out, fmt.Sprint(port))
	}
	if len(out) < n {
		t.Fatalf("there are %d free ports, want %d", len(out), n)
	}
	return out
}
