package conformance_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klamm-io/klamm/tests/systems"
)

// exhaustive has the grid ask in every version, and not only in those in which a
// request is another than in the version before.
var exhaustive = flag.Bool("grid.exhaustive", false, "ask the grid's requests in every version")

// gridOnly restricts the grid, to look at one thing at a time.
var gridOnly = flag.String("grid.only", "", "a regular expression of the APIs and edges of the grid to ask")

// gridBudget bounds the time of the grid.
var gridBudget = flag.Duration("grid.budget", 3*time.Minute, "how long the grid may ask")

// gridCase is one request of the grid.
type gridCase struct {
	base    *gridBase
	api     *gridAPI
	version int16
	edge    edge
	name    string // of its topic or group, on both brokers
}

// what names the request without the edge.
func (c *gridCase) what() string {
	return strings.TrimSpace(c.api.name + " " + c.base.variant)
}

// TestGrid asks both brokers for every API in its versions, with each field of
// the request at its edge values, in the same state. The answers must be the
// same, field by field, and so must what is to be seen afterwards. It runs by
// itself: beside the tests that start brokers too, none of them would get on.
func TestGrid(t *testing.T) {
	pair := startGrid(t)
	cases := gridCases(t, pair)
	began := time.Now()
	for _, b := range pair {
		defer b.close()
	}
	askEarly(t, pair)
	prepareGrid(t, pair, cases)
	if t.Failed() {
		return
	}
	prepared := time.Since(began)
	began = time.Now()
	var mu sync.Mutex
	seen := make(map[gridFound][]int16)
	var slow []string
	next := make(chan *gridCase)
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			for c := range next {
				started := time.Now()
				found, err := c.play(pair)
				mu.Lock()
				if took := time.Since(started); took > time.Second {
					slow = append(slow, fmt.Sprintf("%s version %d, %s: %v", c.what(), c.version, c.edge, took.Round(time.Millisecond)))
				}
				if err != nil {
					t.Errorf("%s version %d, %s: %v", c.what(), c.version, c.edge, err)
				}
				for _, f := range found {
					f.what, f.edge = c.what(), c.edge.String()
					if !slices.Contains(seen[f], c.version) {
						seen[f] = append(seen[f], c.version)
					}
				}
				mu.Unlock()
			}
		})
	}
	for i := range cases {
		if time.Since(began) > *gridBudget {
			t.Errorf("%d of %d cases asked within %v", i, len(cases), *gridBudget)
			break
		}
		next <- &cases[i]
	}
	close(next)
	wg.Wait()
	t.Logf("%d pairs of answers compared in %v, after %v of preparing", len(cases), time.Since(began).Round(time.Millisecond), prepared.Round(time.Millisecond))
	slices.Sort(slow)
	t.Logf("%d took longer than a second:\n%s", len(slow), strings.Join(slow, "\n"))
	judge(t, seen)
}

// judge tells of the differences that are not on the list, and of those on the
// list that have gone.
func judge(t *testing.T, seen map[gridFound][]int16) {
	t.Helper()
	used := make(map[int]bool)
	lines := make(map[string][]string) // what each request has of differences
	for f, versions := range seen {
		at := slices.IndexFunc(gridDifferences, func(d gridDifference) bool { return d.holds(f) })
		if at >= 0 {
			used[at] = true
			continue
		}
		slices.Sort(versions)
		of := fmt.Sprintf("%s, %s, versions %d", f.what, f.edge, versions)
		lines[of] = append(lines[of], fmt.Sprintf("%s is %s, and %s from the JVM broker", f.path, f.a, f.b))
	}
	for _, of := range slices.Sorted(maps.Keys(lines)) {
		slices.Sort(lines[of])
		t.Errorf("%s: %s", of, strings.Join(lines[of], "; "))
	}
	if *gridOnly != "" {
		return
	}
	for i, d := range gridDifferences {
		if !used[i] && d.why != chance && d.why != sizes {
			t.Errorf("the known difference %q has gone: take it off the list", d)
		}
	}
}

// startGrid starts two brokers of the grid's own.
func startGrid(t *testing.T) []*gridBroker {
	t.Helper()
	apis, err := gridAPIs()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "grid")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	processes := make([]*systems.Process, 2)
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i, start := range []func(string, ...string) (*systems.Process, error){systems.Klamm, systems.JVM} {
		wg.Go(func() {
			processes[i], errs[i] = start(filepath.Join(dir, fmt.Sprint(i)), append(slices.Clone(overrides), "offsets.topic.num.partitions=5", "max.incremental.fetch.session.cache.slots=20000", "log.index.size.max.bytes=4096", "transaction.state.log.num.partitions=1")...)
		})
	}
	wg.Wait()
	var out []*gridBroker
	for i, p := range processes {
		if errs[i] != nil {
			t.Error(errs[i])
			continue
		}
		t.Cleanup(func() {
			if i > 0 {
				p.Kill() // it would take long, for as many topics as there are
			} else if err := p.Stop(); err != nil {
				t.Errorf("klamm ended: %v\n%s", err, p.Output())
			}
		})
		out = append(out, &gridBroker{name: p.Name, addr: p.Addr, apis: apis, ids: make(map[string]uuid)})
	}
	if t.Failed() {
		t.FailNow()
	}
	return out
}

// gridCases returns all cases. Every API that klamm serves must have one.
func gridCases(t *testing.T, pair []*gridBroker) (out []gridCase) {
	t.Helper()
	only := regexp.MustCompile(*gridOnly)
	ranges := gridVersions(t, pair)
	covered := make(map[int16]bool)
	for i := range gridBases {
		base := &gridBases[i]
		r, ok := ranges[base.key]
		if !ok {
			continue
		}
		covered[base.key] = true
		a := pair[0].apis[base.key]
		low := max(r[0], base.from)
		versions := a.changes(low, r[1])
		if *exhaustive {
			versions = nil
			for v := low; v <= r[1]; v++ {
				versions = append(versions, v)
			}
		}
		for _, v := range versions {
			sample := base.request(&scene{gridBroker: pair[0], name: "sample"}, v)
			all := edges(a.request, v, versions, sample)
			if base.few {
				all = all[:1]
			}
			fields := make(map[string]bool)
			for _, e := range all {
				fields[e.field] = true
			}
			for _, e := range base.extra {
				if fields[e.field] {
					all = append(all, e)
				}
			}
			for _, e := range all {
				c := gridCase{base: base, api: a, version: v, edge: e, name: fmt.Sprintf("grid.%05d", len(out))}
				if !slices.Contains(base.skip, e.what) && !slices.Contains(base.skip, e.String()) && !racing(a, e) && !breaking(a, e) && only.MatchString(c.what()+" "+e.String()) {
					out = append(out, c)
				}
			}
		}
	}
	for key := range ranges {
		if !covered[key] {
			t.Errorf("the grid has no request of %s", pair[0].apis[key].name)
		}
	}
	return out
}

// racing reports whether an edge gives the controller little time: whether it has done
// something by then, and does it later, is a matter of luck.
func racing(a *gridAPI, e edge) bool {
	return e.field == "TimeoutMs" && a.key >= 19 && e.what != "the highest"
}

// breaking reports whether an edge makes the JVM broker's controller fail with an
// exception that it has no code for. It then gives up its leadership, and until
// it is elected again no request of any case is decided.
func breaking(a *gridAPI, e edge) bool {
	switch a.name {
	case "CreateTopics", "AlterConfigs", "IncrementalAlterConfigs", "CreatePartitions", "ElectLeaders", "AlterPartitionReassignments", "UpdateFeatures":
	default:
		return false
	}
	known := map[string]bool{"0": true, "1": true, "2": true, "3": true}
	return e.what == "of 32767 letters" || strings.HasSuffix(e.field, "ConfigOperation") && !known[e.what]
}

// gridVersions returns the versions of each API that both brokers advertise.
func gridVersions(t *testing.T, pair []*gridBroker) map[int16][2]int16 {
	t.Helper()
	var all [2]map[int16][2]int16
	for i, b := range pair {
		o, err := b.ask(18, 0, object{})
		if err != nil {
			t.Fatal(err)
		}
		all[i] = make(map[int16][2]int16)
		for _, k := range o["ApiKeys"].(list) {
			k := k.(object)
			all[i][int16(k["ApiKey"].(int64))] = [2]int16{int16(k["MinVersion"].(int64)), int16(k["MaxVersion"].(int64))}
		}
	}
	out := make(map[int16][2]int16)
	for key, r := range all[0] {
		if o, ok := all[1][key]; ok {
			out[key] = [2]int16{max(r[0], o[0]), min(r[1], o[1])}
		}
	}
	return out
}

// play asks both brokers and returns what differs.
func (c *gridCase) play(pair []*gridBroker) (found []gridFound, err error) {
	var scenes [2]*scene
	var answers [2]any
	c.both(pair, func(i int, b *gridBroker) error {
		s := &scene{gridBroker: b, name: c.name, version: c.version}
		scenes[i] = s
		if c.base.prepare != nil {
			c.base.prepare(s)
		}
		o := clone(c.base.request(s, c.version)).(object)
		c.edge.apply(o, s)
		answers[i] = normalAnswer(answerOf(b.ask(c.api.key, c.version, o)), s)
		return nil
	}, &err)
	if err != nil {
		return nil, err
	}
	found = gridDiff("", answers[0], answers[1])
	if c.base.after == nil {
		return found, nil
	}
	// What the JVM broker's controller has decided reaches its other half later.
	for deadline := time.Now().Add(20 * time.Second); ; {
		c.both(pair, func(i int, b *gridBroker) error {
			answers[i] = normalAnswer(c.base.after(scenes[i]), scenes[i])
			return nil
		}, &err)
		later := gridDiff("afterwards", answers[0], answers[1])
		if len(later) == 0 || err != nil || time.Now().After(deadline) {
			return append(found, later...), err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// both runs a function for each broker at the same time.
func (c *gridCase) both(pair []*gridBroker, f func(i int, b *gridBroker) error, err *error) {
	var wg sync.WaitGroup
	errs := make([]error, len(pair))
	for i, b := range pair {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					e, ok := r.(error)
					if !ok {
						panic(r)
					}
					errs[i] = e
				}
			}()
			errs[i] = f(i, b)
		})
	}
	wg.Wait()
	for _, e := range errs {
		if e != nil && *err == nil {
			*err = e
		}
	}
}

// prepareGrid makes the topics that cases share, and those that each has for
// itself.
func prepareGrid(t *testing.T, pair []*gridBroker, cases []gridCase) {
	t.Helper()
	names, filled := []string{"shared"}, []string{"shared"}
	for _, c := range cases {
		if c.base.topics {
			names = append(names, c.name)
		}
		if c.base.records {
			filled = append(filled, c.name)
		}
	}
	var wg sync.WaitGroup
	for _, b := range pair {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("%s: %v", b.name, r)
				}
			}()
			s := &scene{gridBroker: b, name: "shared.group"}
			for some := range slices.Chunk(names, 200) {
				s.create(some)
			}
			for some := range slices.Chunk(filled, 200) {
				s.fill(some)
			}
			s.await(func() bool { return s.must(22, 4, object{"TransactionalId": nil})["ErrorCode"] == int64(0) })
			for i := range 100 { // every coordinator
				g := &scene{gridBroker: b, name: fmt.Sprintf("shared.%d", i)}
				g.awaitCoordinator()
			}
		})
	}
	wg.Wait()
}

// create makes topics, shared with two partitions, and waits until they are served.
func (s *scene) create(names []string) {
	var topics, asked list
	for _, n := range names {
		partitions := int64(1)
		if n == "shared" {
			partitions = 2
		}
		topics = append(topics, object{"Name": n, "NumPartitions": partitions, "ReplicationFactor": int64(1)})
		asked = append(asked, object{"Name": n, "Partitions": list{object{"PartitionIndex": partitions - 1, "Timestamp": int64(-1)}}})
	}
	r := s.must(19, 7, object{"Topics": topics, "TimeoutMs": int64(60000)})
	for _, o := range r["Topics"].(list) {
		o := o.(object)
		s.expect("CreateTopics", o["ErrorCode"])
		s.ids[o["Name"].(string)] = o["TopicId"].(uuid)
	}
	s.await(func() bool {
		for _, o := range s.must(2, 6, object{"ReplicaId": int64(-1), "Topics": asked})["Topics"].(list) {
			for _, p := range o.(object)["Partitions"].(list) {
				if p.(object)["ErrorCode"] != int64(0) {
					return false
				}
			}
		}
		return true
	})
}

// await waits until a condition holds.
func (s *scene) await(holds func() bool) {
	for deadline := time.Now().Add(30 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			panic("the broker did not come so far")
		}
		time.Sleep(5 * time.Millisecond) // nobody tells
	}
}

// fill produces ten records to the first partition of topics.
func (s *scene) fill(names []string) {
	for range 10 {
		var topics list
		for _, n := range names {
			topics = append(topics, object{"Name": n, "PartitionData": list{object{"Index": int64(0), "Records": batch(2, false, 1, -1)}}})
		}
		r := s.must(0, 9, object{"Acks": int64(-1), "TimeoutMs": int64(5000), "TopicData": topics})
		for _, o := range r["Responses"].(list) {
			s.expect("Produce", o.(object)["PartitionResponses"].(list)[0].(object)["ErrorCode"])
		}
	}
}

// awaitCoordinator waits until the coordinator of the group answers.
func (s *scene) awaitCoordinator() {
	s.await(func() bool {
		if s.must(10, 2, object{"Key": s.name})["ErrorCode"] != int64(0) {
			return false
		}
		return s.must(12, 3, object{"GroupId": s.name, "MemberId": "nobody"})["ErrorCode"] == int64(25) && s.must(9, 5, object{"GroupId": s.name})["ErrorCode"] == int64(0)
	})
}
