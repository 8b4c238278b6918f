package replication_test

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/record"
)

// restart stops the broker in order, if it can, and starts it again.
func (m *model) restart() {
	failed := make(map[int]bool)
	m.noteDurable()
	s := m.s
	m.must(m.stop())
	for i, d := range s.dirs {
		failed[i] = d.Err() != nil
	}
	clean := !failed[0] && !failed[1]
	if clean {
		m.scrub(s)
	}
	m.open(m.disk.mem)
	for i, d := range m.s.dirs {
		if d.Clean() == failed[i] {
			m.Fatalf("%s: %s counts as cleanly shut down: %t", m, d.Path, d.Clean())
		}
	}
	m.afterRestart(clean, false)
}

// scrub verifies the directories after a clean stop.
func (m *model) scrub(s *store) {
	report, err := scrub.Check(context.Background(), scrub.Options{FS: m.disk.mem}, strings.Split(modelDirs, ",")...)
	if err != nil {
		m.Fatalf("%s: verify: %v", m, err)
	}
	for _, f := range report.Findings {
		if f.Severity > scrub.Note && !m.isLeft(s, f) && !m.isHole(f) {
			m.Fatalf("%s: verify: %+v", m, f)
		}
	}
}

// isLeft reports whether a finding is of a partition's directory that nobody uses:
// what is left of a deleted topic in a log directory that had failed then.
func (m *model) isLeft(s *store, f scrub.Finding) bool {
	if strings.HasPrefix(f.What, "topic id ") {
		return true // one of the two it is about may be
	}
	for name, t := range m.topics {
		for i := range t.partitions {
			if p := s.r.Get(name, int32(i)); p != nil && p.Log().Dir() == path.Dir(f.File) {
				return false
			}
		}
	}
	return f.Partition != ""
}

// isHole reports whether a finding is of offsets that are missing from the log of
// a compacted topic.
func (m *model) isHole(f scrub.Finding) bool {
	t := m.topics[f.Partition[:max(0, strings.LastIndexByte(f.Partition, '-'))]]
	return t != nil && t.compacted && strings.Contains(f.What, "are missing")
}

// noteDurable takes note of what is on disk.
func (m *model) noteDurable() {
	for _, t := range m.topics {
		for i, mp := range t.partitions {
			if p := m.s.r.Get(t.name, int32(i)); p != nil {
				mp.durable = max(mp.durable, min(p.Log().RecoveryPoint(), mp.end))
				mp.top = max(mp.top, p.Log().StartOffset())
			}
		}
	}
}

// crash ends the broker, and starts it with what is left.
func (m *model) crash(p vfs.CrashPolicy) {
	m.noteDurable()
	left := m.disk.mem.CrashClone(p)
	m.stop()
	m.reopen(left, p)
}

// die ends the broker at once. What it has written stays in the page cache, as
// little durable as before.
func (m *model) die() {
	m.noteDurable()
	mem := m.disk.mem
	m.disk.kill("it died")
	m.stop()
	m.open(mem)
	m.afterRestart(false, false)
}

// reopen starts the broker with what a crash left.
func (m *model) reopen(left *vfs.Mem, p vfs.CrashPolicy) {
	power := p != vfs.CrashPolicy{KeepData: true, KeepEntries: true}
	if m.r.IntN(4) == 0 { // and again, while it starts
		m.op += ", and again while it starts"
		if again := m.openUntil(left, 1+m.r.Int64N(40), p); again != nil {
			m.stop()
			m.open(again)
		}
	} else {
		m.open(left)
	}
	m.afterRestart(false, power)
}

// crashInTheMiddle has the broker end in an operation that answers nobody.
func (m *model) crashInTheMiddle() {
	m.noteDurable()
	d, policy := m.disk, vfs.CrashPolicy{KeepData: true, KeepEntries: true}
	if m.r.IntN(2) == 0 {
		policy = m.powerCut()
	}
	d.policy = policy
	d.crashAt.Store(1 + m.r.Int64N(30))
	var deleted *modelTopic
	if m.r.IntN(3) == 0 {
		before := maps.Clone(m.topics)
		if name := m.delete(); name != "" {
			deleted = before[name]
			m.op += ": delete " + name
		}
		m.create()
	} else {
		m.upkeep()
		if _, _, p := m.pick(); p != nil {
			m.must(p.Log().Roll())
			m.must(p.Log().Flush())
		}
		m.upkeep()
	}
	d.crashAt.Store(0)
	left := d.crashed.Swap(nil)
	if left == nil {
		return
	}
	for _, t := range m.topics { // retention may have got further
		for i, mp := range t.partitions {
			if p := m.s.r.Get(t.name, int32(i)); p != nil {
				mp.top = max(mp.top, p.Log().StartOffset())
			}
		}
	}
	m.stop()
	again := startControllerIn(m.T, left.CrashClone(vfs.CrashPolicy{KeepData: true, KeepEntries: true}), "/", nil)
	image := again.Image()
	again.Close()
	for name, t := range m.topics {
		if image.TopicByID(t.id) == nil {
			delete(m.topics, name)
		}
	}
	if deleted != nil && image.TopicByID(deleted.id) != nil {
		m.topics[deleted.name] = deleted
	}
	m.reopen(left, policy)
}

// afterRestart checks everything, and takes what was not durable out of the model
// where the power failed.
func (m *model) afterRestart(clean, power bool) {
	image := m.s.c.Image()
	n := 0
	image.Topics("", func(t *meta.Topic) bool {
		n++
		if m.topics[t.Name] == nil || m.topics[t.Name].id != t.ID {
			m.Fatalf("%s: topic %s is there", m, t.Name)
		}
		return true
	})
	if n != len(m.topics) {
		m.Fatalf("%s: %d topics, want %d", m, n, len(m.topics))
	}
	// What is torn in the middle is left to a person, and so is a hole that a power
	// cut made while the topic was compacted, once it is no longer.
	for name, t := range maps.Clone(m.topics) {
		for i := range t.partitions {
			if m.s.r.Get(name, int32(i)) == nil && (power || t.compacted) && m.topics[name] != nil {
				m.counts["quarantined"]++
				m.deleteNamed(name)
			}
		}
	}
	for _, t := range m.topics {
		for i, mp := range t.partitions {
			p := m.s.r.Get(t.name, int32(i))
			if p == nil || p.Log().Err() != nil {
				m.Fatalf("%s: %s-%d is offline", m, t.name, i)
			}
			l := p.Log()
			start, end := l.StartOffset(), l.EndOffset()
			if clean && start != mp.top || start < mp.start || start > max(mp.top, mp.start) {
				m.Fatalf("%s: %s-%d: log start %d, answered %d, was %d", m, t.name, i, start, mp.start, mp.top)
			}
			least, most := max(mp.end, mp.start), max(mp.end, mp.start)
			if power {
				least = max(mp.durable, mp.start)
			}
			if len(mp.maybe) > 0 {
				most = mp.end + int64(len(mp.maybe))
			}
			if end < least || end > most || clean && end != mp.end {
				m.Fatalf("%s: %s-%d: log end %d, want %d to %d (durable %d, answered %d)", m, t.name, i, end, least, most, mp.durable, mp.end)
			}
			if end > mp.end {
				mp.records = append(mp.records, mp.maybe...)
			}
			mp.maybe = nil
			mp.records = slices.DeleteFunc(mp.records, func(x modelRecord) bool { return x.offset >= end })
			mp.end, mp.durable, mp.top = end, min(mp.durable, end), start
			for id := range mp.producers {
				known := &mp.producers[id]
				known.batches = slices.DeleteFunc(known.batches, func(b modelBatch) bool { return b.base >= end || b.base < start && !clean })
				if n := len(known.batches); n > 0 { // a snapshot has the last one
					known.batches = known.batches[n-1:]
					known.next = known.batches[0].seq + int32(len(known.batches[0].records))
				} else {
					*known = modelProducer{epoch: known.epoch + 1}
				}
			}
			if l.HighWatermark() != end {
				m.Fatalf("%s: %s-%d: high watermark %d, log end %d", m, t.name, i, l.HighWatermark(), end)
			}
		}
	}
	m.checkpoints()
	m.lenient = power
	m.check()
	m.lenient = false
	for _, t := range m.topics { // producers are known
		for i, mp := range t.partitions {
			for id, known := range mp.producers {
				for _, b := range known.batches {
					m.send(t, mp, m.s.r.Get(t.name, int32(i)), b, record.Producer{ID: int64(1000 + id), Epoch: known.epoch, Sequence: b.seq}, true)
				}
			}
		}
	}
}

// checkpoints checks that no checkpoint file tells of more than there is.
func (m *model) checkpoints() {
	for _, d := range m.s.dirs {
		for _, name := range []string{log.RecoveryPointFile, log.LogStartFile, log.CleanerFile} {
			text, err := vfs.ReadFile(m.disk.mem, path.Join(d.Path, name))
			if err != nil {
				continue
			}
			for _, line := range strings.Split(string(text), "\n")[2:] {
				f := strings.Fields(line)
				if len(f) != 3 {
					continue
				}
				i, _ := strconv.Atoi(f[1])
				offset, _ := strconv.ParseInt(f[2], 10, 64)
				if p := m.s.r.Get(f[0], int32(i)); p != nil && p.Dir == d && offset > p.Log().EndOffset() {
					m.Fatalf("%s: %s says %d of %s-%d, log end %d", m, path.Join(d.Path, name), offset, f[0], i, p.Log().EndOffset())
				}
			}
		}
	}
}

// check compares every partition that is well with the model.
func (m *model) check() {
	for _, t := range m.topics {
		for i, mp := range t.partitions {
			p := m.s.r.Get(t.name, int32(i))
			if p != nil && p.Log().Err() == nil {
				m.checkPartition(t, mp, p)
			} else if !m.failed {
				m.Fatalf("%s: %s-%d is offline", m, t.name, i)
			}
		}
	}
}

// settle waits for the high watermark, which may wait for a sync that is under way.
func (m *model) settle(l *log.Log) {
	for range 1000 {
		if l.HighWatermark() == l.EndOffset() || m.failed {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (m *model) checkPartition(t *modelTopic, mp *modelPartition, p *replication.Partition) {
	l := p.Log()
	m.settle(l)
	start, high, end := l.StartOffset(), l.HighWatermark(), l.EndOffset()
	if start < mp.start || high < start || high > end || !m.failed && (end != mp.end || high != end) {
		m.Fatalf("%s: %s-%d: log [%d, %d), high watermark %d, want [>=%d, %d)", m, t.name, p.Index, start, end, high, mp.start, mp.end)
	}
	want := make(map[int64]modelRecord)
	newest := make(map[string]int64)
	for _, x := range mp.records {
		if x.offset >= start {
			want[x.offset] = x
			newest[x.key] = x.offset
		}
	}
	last := start - 1
	err := l.Each(start, high, func(b record.Batch) error {
		it := b.Iterate(0)
		defer it.Close()
		for it.Next() {
			offset := b.BaseOffset() + int64(it.Record().OffsetDelta)
			if offset < start {
				continue
			}
			x, ok := want[offset]
			if offset <= last || !ok && offset < mp.end || ok && (x.key != string(it.Record().Key) || x.value != string(it.Record().Value)) {
				return fmt.Errorf("record %d is %s %s after %d, want %+v", offset, it.Record().Key, it.Record().Value, last, x)
			}
			last = offset
			delete(want, offset)
		}
		return it.Err()
	})
	if err != nil {
		m.Fatalf("%s: %s-%d: %v", m, t.name, p.Index, err)
	}
	for _, x := range want {
		if m.lenient && t.compacted && x.offset >= mp.durable {
			// Not a hole that is seen as such, as compaction leaves some.
			mp.records = slices.DeleteFunc(mp.records, func(y modelRecord) bool { return y == x })
			for id := range mp.producers {
				if b := mp.producers[id].batches; len(b) > 0 && slices.Contains(b[len(b)-1].records, x) {
					mp.producers[id] = modelProducer{epoch: mp.producers[id].epoch + 1}
				}
			}
			continue
		}
		if !t.compacted || newest[x.key] == x.offset {
			m.Fatalf("%s: %s-%d: record %d %s is missing from [%d, %d), on disk below %d, configs %v", m, t.name, p.Index, x.offset, x.key, start, end, mp.durable, t.configs)
		}
	}
}
