package replication_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

var (
	modelSteps = flag.Int("model.steps", 3000, "random operations of TestModel")
	modelSeed  = flag.Uint64("model.seed", 0, "seed of TestModel; 0 takes one at random")
	modelFault = flag.Bool("model.faults", true, "TestModel has directories fail, the power too, and crashes in the middle of an operation")
)

// modelDirs are the log directories of the model.
const modelDirs = "/a,/b"

// model is a broker's replicas and what they must hold. Goroutines of the broker
// run beside the operations, so that a seed repeats the operations but not always
// what comes of them.
type model struct {
	*testing.T
	r      *rand.Rand
	clk    *clock.Virtual
	s      *store
	topics map[string]*modelTopic
	step   int
	op     string
	counts map[string]int
	made   int64 // values
	said   lastLines

	disk    *modelDisk
	stopped []*modelDisk // of brokers that were stopped
	failed  bool         // a directory has failed since the start
	lenient bool         // check takes holes that a power cut has made
	trace   []string
}

type modelTopic struct {
	name       string
	id         prim.UUID
	configs    map[string]string
	compacted  bool // at any time
	partitions []*modelPartition
}

// modelPartition is what was acknowledged. Records may be missing from the log
// where newer ones have their key and the topic is compacted, below the log start
// offset, and from durable on after a power cut.
type modelPartition struct {
	records   []modelRecord // by offset
	end       int64
	start     int64 // the largest that DeleteRecords has answered
	top       int64 // log start offset as it was seen, durable or not
	durable   int64 // what is below is on disk
	maybe     []modelRecord
	producers [3]modelProducer
}

type modelRecord struct {
	offset     int64
	key, value string
}

// modelProducer is an idempotent producer of one partition.
type modelProducer struct {
	epoch   int16
	next    int32
	batches []modelBatch // the last five
}

type modelBatch struct {
	seq     int32
	base    int64
	records []modelRecord
	ts      int64
}

// The replicas of a broker, over two log directories, against what was
// acknowledged, over random operations: topics that come and go, appends,
// truncations, retention, compaction, restarts, dead processes, power cuts, and directories
// that fail.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-model.seed %d", seed)
	m := &model{T: t, r: rand.New(rand.NewPCG(seed, 0)), clk: clock.NewVirtual(time.Now()), topics: make(map[string]*modelTopic), counts: make(map[string]int)}
	m.open(vfs.NewMem())
	for m.step = range *modelSteps {
		m.one()
		m.note()
		m.counts[m.op[:strings.IndexAny(m.op+":", ":,")]]++
		if m.r.IntN(20) == 0 {
			m.check()
		}
	}
	m.restart()
	if err := m.stop(); err != nil {
		t.Error(err)
	}
	m.forgetStopped(0)
	t.Logf("%d operations: %v", *modelSteps, m.counts)
}

// note puts the state of all partitions into the trace.
func (m *model) note() {
	line := m.String()
	for _, name := range slices.Sorted(maps.Keys(m.topics)) {
		for i, mp := range m.topics[name].partitions {
			p := m.s.r.Get(name, int32(i))
			if p == nil {
				line += fmt.Sprintf(" %s-%d: none", name, i)
				continue
			}
			l := p.Log()
			line += fmt.Sprintf(" %s-%d: %s[%d,%d)%d", name, i, p.Dir.Path, l.StartOffset(), l.EndOffset(), l.RecoveryPoint())
			if mp.end != l.EndOffset() {
				line += fmt.Sprintf(" not %d", mp.end)
			}
			if l.Err() != nil {
				line += " failed"
			}
		}
	}
	m.trace = append(m.trace, line)
	m.trace = m.trace[max(0, len(m.trace)-60):]
}

// files tells of the files in the log directories.
func (m *model) files(what string, mem *vfs.Mem) {
	line := "  " + what + ":"
	for _, dir := range strings.Split(modelDirs, ",") {
		names, _ := mem.List(dir)
		for _, name := range names {
			line += "\n    " + dir + "/" + name
			if sub, err := mem.List(dir + "/" + name); err == nil {
				for _, f := range sub {
					info, _ := mem.Stat(dir + "/" + name + "/" + f)
					line += fmt.Sprintf(" %s(%d)", strings.TrimLeft(f, "0"), info.Size())
				}
			} else if text, err := vfs.ReadFile(mem, dir+"/"+name); err == nil {
				line += fmt.Sprintf(" %q", text)
			}
		}
	}
	m.trace = append(m.trace, line)
}

func (m *model) String() string { return fmt.Sprintf("step %d, %s", m.step, m.op) }

// must ends the test for an error, unless a log directory has failed: then
// operations may.
func (m *model) must(err error) (ok bool) {
	m.Helper()
	if err != nil && !m.failed {
		m.Fatalf("%s: %v", m, err)
	}
	return err == nil
}

// open starts a broker on what mem holds.
func (m *model) open(mem *vfs.Mem) { m.openUntil(mem, 0, vfs.CrashPolicy{}) }

// openUntil is open. Before change number crashAt the disk is cloned, as a crash
// would leave it then.
func (m *model) openUntil(mem *vfs.Mem, crashAt int64, p vfs.CrashPolicy) (crashed *vfs.Mem) {
	lg := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"}), zapcore.AddSync(&m.said), zap.InfoLevel))
	m.disk = &modelDisk{mem: mem, policy: p}
	m.files("opens", mem)
	m.said.mark(m.String())
	m.disk.crashAt.Store(crashAt)
	mem.SetNow(m.clk.Now)
	fs := m.disk.FS()
	if m.r.IntN(2) == 0 {
		fs = vfs.Bounded(fs, 10)
	}
	m.s = openStoreLogging(m.T, fs, m.clk, lg, modelDirs, "log.cleaner.dedupe.buffer.size=1048576", "log.cleaner.threads=1", "producer.id.expiration.ms=2147483647",
		"log.cleaner.delete.retention.ms=3600000")
	m.failed = false
	m.disk.crashAt.Store(0)
	return m.disk.crashed.Load()
}

// stop ends the broker, which may be one that has crashed. Whatever of it runs
// after that is a mistake.
func (m *model) stop() (err error) {
	if m.s != nil {
		err = m.s.close()
		m.disk.late.Store(nil)
		m.disk.kill("the broker stopped")
		m.stopped = append(m.stopped, m.disk)
		m.forgetStopped(10)
	}
	m.s = nil
	return err
}

// forgetStopped drops all but the last few disks of brokers that were stopped, and
// fails if a broker wrote there after that.
func (m *model) forgetStopped(but int) {
	for ; len(m.stopped) > but; m.stopped = m.stopped[1:] {
		if late := m.stopped[0].late.Load(); late != nil {
			m.Error(*late)
		}
	}
}

// lastLines keeps the end of what is written to it.
type lastLines struct {
	mu   sync.Mutex
	text []byte
}

func (l *lastLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	l.text = l.text[max(0, len(l.text)-30000):]
	return len(b), nil
}

func (l *lastLines) mark(s string) { l.Write([]byte("-- " + s + "\n")) }

// Fatalf ends the test and shows what the broker has logged.
func (m *model) Fatalf(format string, args ...any) {
	m.Helper()
	m.said.mu.Lock()
	defer m.said.mu.Unlock()
	m.T.Fatalf(format+"\n%s\n%s", append(args, strings.Join(m.trace, "\n"), m.said.text)...)
}

func (m *model) one() {
	op := m.r.IntN(1000)
	if !*modelFault && (op >= 900 && op < 920 || op >= 960) {
		op = m.r.IntN(600)
	}
	switch {
	case op < 570:
		m.op = "append"
		m.append()
	case op < 600:
		m.op = "follow and truncate"
		m.follow()
	case op < 640:
		m.op = "roll"
		if _, _, p := m.pick(); p != nil {
			m.must(p.Log().Roll())
		}
	case op < 660:
		m.op = "flush"
		if _, mp, p := m.pick(); p != nil {
			end := mp.end
			if m.must(p.Log().Flush()) {
				mp.durable = max(mp.durable, end)
			}
		}
	case op < 700:
		m.op = "delete records"
		m.deleteRecords()
	case op < 780:
		m.op = "upkeep"
		m.upkeep()
	case op < 800:
		m.op = "time passes"
		m.clk.Advance(time.Duration(m.r.Int64N(int64(10 * time.Minute))))
	case op < 840:
		m.op = "create topic"
		m.create()
	case op < 860:
		m.op = "delete topic"
		m.delete()
	case op < 870:
		m.op = "delete and create topic"
		if name := m.delete(); name != "" {
			m.createNamed(name)
		}
	case op < 900:
		m.op = "change configs"
		m.configure()
	case op < 920:
		m.op = "a directory fails"
		m.fail()
	case op < 940:
		m.op = "clean restart"
		m.restart()
	case op < 960:
		m.op = "the process dies"
		m.die()
	case op < 980:
		m.op = "the power fails"
		m.crash(m.powerCut())
	default:
		m.op = "crash in the middle"
		m.crashInTheMiddle()
	}
}

// powerCut returns what a power cut leaves.
func (m *model) powerCut() vfs.CrashPolicy {
	p := vfs.CrashPolicy{KeepData: m.r.IntN(3) == 0, KeepEntries: m.r.IntN(2) == 0}
	if m.r.IntN(2) == 0 {
		p.Torn = rand.New(rand.NewPCG(m.r.Uint64(), 0))
	}
	return p
}

// pick returns a partition, or nil if it is none that is well.
func (m *model) pick() (*modelTopic, *modelPartition, *replication.Partition) {
	if len(m.topics) == 0 {
		return nil, nil, nil
	}
	names := slices.Sorted(maps.Keys(m.topics))
	t := m.topics[names[m.r.IntN(len(names))]]
	i := m.r.IntN(len(t.partitions))
	p := m.s.r.Get(t.name, int32(i))
	if p == nil || p.Log().Err() != nil {
		if !m.failed {
			m.Fatalf("%s: %s-%d is offline", m, t.name, i)
		}
		return nil, nil, nil
	}
	return t, t.partitions[i], p
}

func (m *model) append() {
	t, mp, p := m.pick()
	if p == nil {
		return
	}
	if len(mp.records) > 400 {
		m.op = "delete records"
		m.deleteRecords()
		return
	}
	n := 1 + m.r.IntN(5)
	b := modelBatch{base: mp.end, ts: m.clk.Now().UnixMilli()}
	for i := range n {
		m.made++
		b.records = append(b.records, modelRecord{mp.end + int64(i), fmt.Sprint("key", m.r.IntN(30)), fmt.Sprintf("v%d-%0*d", m.made, m.r.IntN(300), 0)})
	}
	id := min(m.r.IntN(2*len(mp.producers)), len(mp.producers))
	producer, repeat := record.NoProducer, false
	var known *modelProducer
	if id < len(mp.producers) {
		known = &mp.producers[id]
		if repeat = len(known.batches) > 0 && m.r.IntN(4) == 0; repeat {
			b = known.batches[m.r.IntN(len(known.batches))]
		} else {
			b.seq = known.next
		}
		producer = record.Producer{ID: int64(1000 + id), Epoch: known.epoch, Sequence: b.seq}
	}
	m.send(t, mp, p, b, producer, repeat)
	if id == len(mp.producers) || repeat {
		return
	}
	if mp.end == b.base { // nobody knows what became of the batch
		*known = modelProducer{epoch: known.epoch + 1}
		return
	}
	known.next += int32(n)
	known.batches = append(known.batches, b)
	known.batches = known.batches[max(0, len(known.batches)-5):]
}

// send appends a batch and enters it into the model.
func (m *model) send(t *modelTopic, mp *modelPartition, p *replication.Partition, b modelBatch, producer record.Producer, repeat bool) {
	m.op += fmt.Sprintf(", %s-%d [%d, %d) of producer %d/%d from %d", t.name, p.Index, b.base, b.base+int64(len(b.records)), producer.ID, producer.Epoch, b.seq)
	builder := record.NewBuilder(record.None, 0)
	for _, x := range b.records {
		builder.Append(b.ts, []byte(x.key), []byte(x.value), nil)
	}
	out, err := builder.Finish(producer)
	if err != nil {
		m.Fatal(err)
	}
	acks := replication.AcksAll
	if m.r.IntN(3) == 0 {
		acks = replication.AcksLeader
	}
	info, commit, err := p.Append(out, acks, log.AppendOptions{})
	if err == nil && commit != nil {
		<-commit.Done()
		err = commit.Err()
	}
	if err != nil && !m.failed {
		m.Fatalf("%s: %s-%d: batch at %d with sequence %d of %d records, repeated %t: %v\n%+v", m, t.name, p.Index, b.base, b.seq, len(b.records), repeat, err, p.Log().Producers())
	}
	if err != nil {
		if !repeat {
			mp.maybe = b.records
		}
		return
	}
	if info.BaseOffset != b.base || info.LastOffset != b.base+int64(len(b.records))-1 || info.Duplicate != repeat {
		m.Fatalf("%s: %s-%d: batch %+v of producer %+v, repeated %t, is answered with %+v", m, t.name, p.Index, b, producer, repeat, info)
	}
	if !repeat {
		mp.records = append(mp.records, b.records...)
		mp.end = info.LastOffset + 1
	}
	if t.configs["flush.messages"] == "1" && !repeat {
		if on := p.Log().RecoveryPoint(); on <= info.LastOffset {
			m.Fatalf("%s: %s-%d: answered for offset %d, but only what is below %d is on disk", m, t.name, p.Index, info.LastOffset, on)
		}
		mp.durable = max(mp.durable, info.LastOffset+1)
	}
}

func (m *model) deleteRecords() {
	t, mp, p := m.pick()
	if p == nil {
		return
	}
	l := p.Log()
	m.settle(l)
	to := l.StartOffset() + m.r.Int64N(l.EndOffset()-l.StartOffset()+1)
	m.op += fmt.Sprintf(", %s-%d up to %d", t.name, p.Index, to)
	low, err := p.DeleteRecords(to)
	if !m.must(err) {
		return
	}
	if low < to {
		m.Fatalf("%s: %s-%d: low watermark %d after deleting up to %d", m, t.name, p.Index, low, to)
	}
	mp.start = max(mp.start, low)
	mp.records = slices.DeleteFunc(mp.records, func(x modelRecord) bool { return x.offset < low })
}

// upkeep is what the broker does by its timers.
func (m *model) upkeep() {
	r, now := m.s.r, m.clk.Now()
	switch m.r.IntN(7) {
	case 0:
		m.op += ": retention"
		m.must(r.Retain(now))
	case 1, 2:
		m.op += ": cleaner"
		m.must(r.Clean(m.s.c.Image()))
	case 3:
		m.op += ": checkpoint"
		m.must(r.Checkpoint())
	case 4:
		m.op += ": checkpoint if moved"
		m.must(r.CheckpointIfMoved())
	case 5:
		m.op += ": flush.ms"
		m.must(r.FlushDue(now))
	case 6:
		m.op += ": producers"
		r.ExpireProducers()
	}
}

func (m *model) create() {
	if len(m.topics) < 5 {
		m.createNamed(fmt.Sprint("t", m.r.IntN(7)))
	}
}

func (m *model) createNamed(name string) {
	if m.topics[name] != nil {
		return
	}
	t := &modelTopic{name: name, configs: make(map[string]string)}
	for range m.r.IntN(4) {
		k, v, _ := strings.Cut(m.config(), "=")
		t.configs[k] = v
	}
	var configs []string
	for k, v := range t.configs {
		configs = append(configs, k+"="+v)
	}
	n := 1 + m.r.IntN(3)
	m.s.create(name, int32(n), configs...)
	t.id = m.s.c.Image().Topic(name).ID
	t.compacted = strings.Contains(t.configs["cleanup.policy"], "compact")
	for i := range n {
		t.partitions = append(t.partitions, new(modelPartition))
		if p := m.s.r.Get(name, int32(i)); p != nil && (p.Log().StartOffset() != 0 || p.Log().EndOffset() != 0) {
			m.Fatalf("%s: %s-%d begins with [%d, %d)", m, name, i, p.Log().StartOffset(), p.Log().EndOffset())
		}
	}
	m.topics[name] = t
}

// config returns a random config of a topic.
func (m *model) config() string {
	all := []string{"cleanup.policy=compact", "cleanup.policy=delete", "cleanup.policy=compact,delete", "retention.bytes=20000", "retention.ms=3600000", "flush.messages=1", "flush.messages=10",
		"flush.ms=1000", "min.cleanable.dirty.ratio=0.01", "min.cleanable.dirty.ratio=0.5", "file.delete.delay.ms=0", "file.delete.delay.ms=1000", "index.interval.bytes=100", "compression.type=zstd",
		"segment.ms=600000", "delete.retention.ms=1000", "preallocate=true"}
	return all[m.r.IntN(len(all))]
}

func (m *model) configure() {
	if len(m.topics) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(m.topics))
	t := m.topics[names[m.r.IntN(len(names))]]
	k, v, _ := strings.Cut(m.config(), "=")
	errs, err := m.s.c.ChangeConfigs(m.Context(), []control.ResourceChange{{Resource: meta.Resource{Type: meta.TopicResource, Name: t.name},
		Changes: []control.ConfigChange{{Name: k, Op: control.SetConfig, Value: &v}}}}, static(m.T), false)
	if err != nil || errs[0] != nil {
		m.Fatal(m, errs, err)
	}
	t.configs[k] = v
	t.compacted = t.compacted || strings.Contains(t.configs["cleanup.policy"], "compact")
}

func (m *model) delete() string {
	if len(m.topics) == 0 {
		return ""
	}
	names := slices.Sorted(maps.Keys(m.topics))
	return m.deleteNamed(names[m.r.IntN(len(names))])
}

func (m *model) deleteNamed(name string) string {
	results, err := m.s.c.DeleteTopics(m.Context(), []prim.UUID{m.topics[name].id})
	if err != nil || results[0].Err != nil {
		m.Fatal(m, results, err)
	}
	delete(m.topics, name)
	for i := range int32(3) {
		if m.s.r.Get(name, i) != nil {
			m.Fatalf("%s: %s-%d is still there", m, name, i)
		}
	}
	return name
}

// fail has a directory fail from now on, or once.
func (m *model) fail() {
	dirs := strings.Split(modelDirs, ",")
	dir := dirs[m.r.IntN(len(dirs))] + "/"
	m.failed = true
	mode := []vfs.Op{"", vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpRename}[m.r.IntN(5)]
	m.disk.broken.Store(&brokenDir{dir, mode, m.r.IntN(2) == 0})
	for range m.r.IntN(30) {
		switch op := m.r.IntN(1000); {
		case op < 600:
			m.append()
		case op < 700:
			m.deleteRecords()
		case op < 750:
			if _, _, p := m.pick(); p != nil {
				p.Log().Roll()
			}
		case op < 850:
			m.upkeep()
		case op < 900:
			m.create()
		case op < 950:
			m.delete()
		default:
			if name := m.delete(); name != "" {
				m.createNamed(name)
			}
		}
	}
	switch m.r.IntN(3) {
	case 0:
		m.op = "restart of a directory that failed"
		m.restart()
	case 1:
		m.op = "the process dies after a directory failed"
		m.die()
	default:
		m.op = "the power fails after a directory did"
		m.crash(m.powerCut())
	}
}
