// Command bench measures klamm beside the JVM broker and kfake: the same
// clients, in turns, medians and ratios. See README.md for how to read it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/klamm-io/klamm/tests/systems"
)

type options struct {
	rounds  int
	dir     string
	bytes   int64 // per produce run
	warm    int64
	recover int64 // for an unclean start
	compact int64 // for a round of compaction
	many    int   // partitions that are idle
	systems []string
	only    string
	fill    int64 // bytes of file to warm the page cache with
	kills   int   // of a leader, in a round

	clusters map[string]*systems.Cluster // that run, by name
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "kfake" {
		serveKfake()
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "bare" {
		fmt.Fprintln(os.Stderr, "bare:", serveBare(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "bareserver" {
		fmt.Fprintln(os.Stderr, "bare server:", serveBareKafka(os.Args[2]))
		os.Exit(1)
	}
	if len(os.Args) > 3 && os.Args[1] == "child" {
		if err := serveChild(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var o options
	var names string
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of every measurement")
	flag.StringVar(&o.dir, "dir", filepath.Join(os.TempDir(), "klamm-bench"), "where the brokers keep their data")
	flag.Int64Var(&o.bytes, "bytes", 1<<30, "bytes of values in one produce run")
	flag.Int64Var(&o.warm, "warm", 5<<30, "bytes to warm a broker with before it is measured")
	flag.Int64Var(&o.fill, "fill", 12<<30, "bytes of a file that is written first and kept, so that the page cache is warm")
	flag.Int64Var(&o.recover, "recover", 2_000_000_000, "bytes of values that an unclean start has to check")
	flag.Int64Var(&o.compact, "compact", 1_000_000_000, "bytes of log that are compacted, in records of 200 B, five of a key")
	flag.IntVar(&o.many, "partitions", 10_000, "partitions that are idle, in 10 topics")
	flag.IntVar(&o.kills, "kills", 30, "kills of a leader of klamm; of the JVM, which takes long, a tenth")
	flag.StringVar(&names, "systems", "klamm,jvm", "what to measure: klamm, jvm, kfake")
	flag.StringVar(&o.only, "only", "", "measurements whose name has this in it")
	flag.Parse()
	o.systems = strings.Split(names, ",")
	o.clusters = make(map[string]*systems.Cluster)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// serveKfake runs kfake until it is killed.
func serveKfake() {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DefaultNumPartitions(6))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.ListenAddrs()[0])
	select {}
}

func start(name, dir string) (*systems.Process, error) {
	switch name {
	case "klamm":
		return systems.Klamm(dir)
	case "jvm":
		return systems.JVM(dir)
	case "kfake":
		return systems.Self("kfake", "kfake")
	case bareName:
		return systems.Self(bareName, "bareserver", dir)
	}
	return nil, fmt.Errorf("unknown system %q", name)
}

// bareName is the bare Kafka server among the systems.
const bareName = "bare"

// measurement is one thing that is measured, in rounds over the systems.
type measurement struct {
	name string
	run  func(ctx context.Context, o options, name string, p *systems.Process, round int) (map[string]float64, error)
	// fresh measurements start their own processes.
	fresh bool
	small bool // moves so little that the brokers need not be warm
	most  int  // rounds that tell enough, if not 0
	// instead are measured in place of the systems, if any. Figures of the first
	// are also shown as ratios to those of each other.
	instead []string
	bare    bool // the bare Kafka server is measured too
}

func (m *measurement) of(o options) []string {
	if len(m.instead) > 0 {
		return m.instead
	}
	if m.bare && len(o.systems) > 0 {
		return append([]string{o.systems[0], bareName}, o.systems[1:]...)
	}
	return o.systems
}

// storageDir is where a measurement of storage keeps its files until it has been
// reported.
func (o options) storageDir() string { return filepath.Join(o.dir, "storage") }

func run(ctx context.Context, o options) error {
	if err := os.RemoveAll(o.dir); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	// Touching memory that the machine has not used lately costs more CPU than
	// all the rest: new pages must come from the cache and not from there.
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	if err := bareFile(filepath.Join(o.dir, "fill"), o.fill); err != nil {
		return err
	}
	var list []measurement
	for _, m := range measurements() {
		if o.only == "" || strings.Contains(m.name, o.only) {
			list = append(list, m)
		}
	}
	procs := make(map[string]*systems.Process)
	defer func() {
		for _, p := range procs {
			p.Stop()
		}
		for _, c := range o.clusters {
			c.Kill()
		}
	}()
	if slices.ContainsFunc(list, func(m measurement) bool { return !m.fresh }) {
		bulk := slices.ContainsFunc(list, func(m measurement) bool { return !m.fresh && !m.small })
		names := o.systems
		if slices.ContainsFunc(list, func(m measurement) bool { return m.bare }) {
			names = append(slices.Clone(names), bareName)
		}
		for _, name := range names {
			p, err := start(name, filepath.Join(o.dir, name))
			if err != nil {
				return err
			}
			procs[name] = p
			if !bulk {
				continue
			}
			if err := warm(ctx, p, o.warm); err != nil {
				return fmt.Errorf("warm %s: %w", name, err)
			}
		}
	}
	for _, m := range list {
		results := make(map[string]map[string][]float64) // system -> figure -> rounds
		rounds := o.rounds
		if m.most > 0 {
			rounds = min(rounds, m.most)
		}
		for round := range rounds {
			for _, name := range m.of(o) {
				got, err := m.run(ctx, o, name, procs[name], round)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", m.name, name, err)
				}
				if results[name] == nil {
					results[name] = make(map[string][]float64)
				}
				for k, v := range got {
					results[name][k] = append(results[name][k], v)
				}
			}
		}
		report(m.name, m.of(o), results)
		if err := os.RemoveAll(o.storageDir()); err != nil {
			return err
		}
	}
	return nil
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

func report(name string, names []string, results map[string]map[string][]float64) {
	fmt.Printf("\n%s\n", name)
	var figures []string
	for _, n := range names { // some figures are of one system only
		for f := range results[n] {
			figures = append(figures, f)
		}
	}
	slices.Sort(figures)
	figures = slices.Compact(figures)
	for _, f := range figures {
		fmt.Printf("  %-28s", f)
		for _, n := range names {
			if v := results[n][f]; len(v) > 0 {
				fmt.Printf("  %s %10.4g [%.4g..%.4g]", n, median(v), slices.Min(v), slices.Max(v))
			}
		}
		for _, n := range names[1:] {
			if v := results[n][f]; len(v) > 0 && len(results[names[0]][f]) > 0 && median(v) != 0 {
				fmt.Printf("  ratio %.2f", median(results[names[0]][f])/median(v))
			}
		}
		fmt.Println()
	}
}
