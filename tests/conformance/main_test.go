// Package conformance_test runs foreign Kafka clients through one list of
// scenarios, against klamm and against the JVM broker, and asks both brokers
// the same requests by hand. What a scenario expects must hold on both, and
// both must give the same results and the same error codes.
package conformance_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klamm-io/klamm/tests/conformance/driver"
	"github.com/klamm-io/klamm/tests/conformance/franz"
	"github.com/klamm-io/klamm/tests/conformance/kafkago"
	"github.com/klamm-io/klamm/tests/conformance/sarama"
	"github.com/klamm-io/klamm/tests/systems"
)

// overrides are set on both brokers: a first member must not have to wait for
// more of them, what the JVM broker cannot do without is static on both, and the
// background does its work soon.
var overrides = []string{"group.initial.rebalance.delay.ms=0", "node.id=1", "offsets.topic.replication.factor=1",
	"transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
	"share.coordinator.state.topic.replication.factor=1", "share.coordinator.state.topic.min.isr=1",
	"log.retention.check.interval.ms=500", "log.cleaner.backoff.ms=200"}

// klamm and jvm are the brokers, running for the whole package.
var klamm, jvm *systems.Process

// brokers are the two, with klamm first.
func brokers() []*systems.Process { return []*systems.Process{klamm, jvm} }

// client is a client and how it is started against a broker.
type client struct {
	name  string
	start func(addr string) (driver.Driver, error)
}

// clients are all of them.
var clients = []client{
	{"franz-go", func(addr string) (driver.Driver, error) { return franz.New(addr) }},
	{"sarama", func(addr string) (driver.Driver, error) { return sarama.New(addr) }},
	{"kafka-go", func(addr string) (driver.Driver, error) { return kafkago.New(addr) }},
	{"librdkafka", func(addr string) (driver.Driver, error) {
		return driver.Librdkafka(".", addr)
	}},
	{"java", func(addr string) (driver.Driver, error) {
		classpath, err := systems.Classpath()
		if err != nil {
			return nil, err
		}
		return driver.Java(classpath, addr)
	}},
	{"kafkajs", func(addr string) (driver.Driver, error) {
		return driver.Start(filepath.Join("drivers", "kafkajs"), "node", "main.js", addr)
	}},
}

func TestMain(m *testing.M) {
	flag.Parse()
	// Scenarios wait for heartbeats more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		code = 1
	}
	os.Exit(code)
}

// run prepares the toolchains, starts the brokers, runs the tests and stops the
// brokers.
func run(m *testing.M) (code int, err error) {
	began := time.Now()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i, prepare := range []func() error{venv, npm, func() error { _, err := systems.Classpath(); return err }} {
		wg.Go(func() { errs[i] = prepare() })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if klamm, err = systems.Klamm(filepath.Join(dir, "klamm"), overrides...); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, stop(klamm)) }()
	if jvm, err = systems.JVM(filepath.Join(dir, "jvm"), append(slices.Clone(overrides), "log.initial.task.delay.ms=500")...); err != nil {
		return 1, err
	}
	defer jvm.Stop() // it exits with the code of the signal
	fmt.Printf("toolchains and brokers ready after %v\n", time.Since(began).Round(time.Millisecond))
	return m.Run(), nil
}

// stop has klamm end in order, which proves that it still lives.
func stop(p *systems.Process) error {
	if err := p.Stop(); err != nil {
		return fmt.Errorf("klamm ended: %w\n%s", err, p.Output())
	}
	return nil
}

// venv installs confluent-kafka, which holds librdkafka, in .venv.
func venv() error {
	requirements := filepath.Join("drivers", "librdkafka", "requirements.txt")
	return install("librdkafka", "python3", requirements, filepath.Join(".venv", "installed"), func() error {
		if err := command(".", "python3", "-m", "venv", ".venv"); err != nil {
			return err
		}
		return command(".", filepath.Join(".venv", "bin", "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements)
	})
}

// npm installs kafkajs and its codecs beside its driver.
func npm() error {
	dir := filepath.Join("drivers", "kafkajs")
	if _, err := exec.LookPath("node"); err != nil {
		return fmt.Errorf("kafkajs needs node: %w", err)
	}
	return install("kafkajs", "npm", filepath.Join(dir, "package-lock.json"), filepath.Join(dir, "node_modules", "installed"), func() error {
		return command(dir, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	})
}

// install runs run where the file of pinned versions is not the one that stamp
// tells was installed. The tool that it needs is named if it is missing.
func install(client, tool, pins, stamp string, run func() error) error {
	if _, err := exec.LookPath(tool); err != nil {
		return fmt.Errorf("%s needs %s: %w", client, tool, err)
	}
	want, err := os.ReadFile(pins)
	if err != nil {
		return err
	}
	if got, err := os.ReadFile(stamp); err == nil && string(got) == string(want) {
		return nil
	}
	if err := run(); err != nil {
		return fmt.Errorf("%s: %w", client, err)
	}
	return os.WriteFile(stamp, want, 0o644)
}

func command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
