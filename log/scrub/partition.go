package scrub

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"math"
	"path"
	"slices"
	"strconv"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

// partition checks one partition directory. One goroutine owns it while it runs.
type partition struct {
	c      *checker
	d      *directory
	path   string
	name   string // of the directory
	topic  string
	names  []string
	single bool  // only the files of one segment are looked at
	bytes  int64 // of data files

	segments []int64 // base offsets
	id       prim.UUID
	logStart int64 // as checkpointed, 0 none
	epochs   []epochStart
	hasEpoch bool // there is a readable leader-epoch-checkpoint
	findings []Finding

	// What the batches read so far say.
	next       int64 // offset after the last batch
	epoch      int32 // of the last batch, -1 none
	batches    int64
	records    int64
	damaged    bool // something was passed over: what follows is not all
	partial    bool // that, or batches are missing that may have been there
	nullKeys   bool // a record without a key was seen
	compacted  string
	holes      holes
	producers  producers
	snapshots  []snapshotFile
	cuts       []cut // places where a cut would lose what follows
	walk       record.Walk
	it         record.Iterator
	saidEpochs map[string]bool // runs of batches whose epoch was found fault with
}

// epochStart is a line of leader-epoch-checkpoint.
type epochStart struct {
	epoch int32
	start int64
}

// cut is a place of damage: a finding, and what had been read before it.
type cut struct {
	finding                 int
	batches, records, bytes int64
}

// holes are offsets that no batch holds.
type holes struct {
	n, offsets int64
	first      Finding
	proven     []int // findings of holes that compaction cannot have left
}

func newPartition(c *checker, d *directory, dir string, names []string) *partition {
	p := &partition{c: c, d: d, path: dir, name: path.Base(dir), names: names, epoch: -1}
	p.topic, _, _ = splitPartition(p.name)
	p.logStart = d.start[p.name]
	for _, name := range names {
		base, suffix, ok := parseFileName(name)
		if ok && suffix == segment.LogSuffix {
			p.segments = append(p.segments, base)
		}
	}
	slices.Sort(p.segments)
	return p
}

// measure adds the sizes of the data files up.
func (p *partition) measure() error {
	for _, base := range p.segments {
		info, err := p.c.fs.Stat(p.segmentFile(base, segment.LogSuffix))
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		if err == nil {
			p.bytes += info.Size()
		}
	}
	return nil
}

func (p *partition) file(name string) string { return path.Join(p.path, name) }

func (p *partition) segmentFile(base int64, suffix string) string {
	return segment.FileName(p.path, base, suffix)
}

// find adds a finding and returns it for what else is to be said.
func (p *partition) find(s Severity, file string, at, offset int64, what, advice string) *Finding {
	p.findings = append(p.findings, Finding{Severity: s, Partition: p.name, File: file, Byte: at, Offset: offset, What: what, Advice: advice})
	return &p.findings[len(p.findings)-1]
}

// derived is how bad it is that a file derived from the batches of segment i is
// wrong: a broker that runs may not have written all of it, and after an unclean
// stop the next start rebuilds it.
func (p *partition) derived(i int) (Severity, string) {
	switch {
	case p.d.running && i == len(p.segments)-1:
		return Note, "none: the broker is writing it"
	case p.recovers(i):
		return Warning, "none: the next start makes it anew"
	}
	return Damage, "klamm log repair removes it, so that the next start makes it anew"
}

// recovers reports whether the next start checks segment i and makes its indexes
// anew, as it does after an unclean stop from the recovery point on.
func (p *partition) recovers(i int) bool {
	if p.d.clean || p.d.running || !p.d.known || p.single {
		return false
	}
	return i == len(p.segments)-1 || p.segments[i+1] > p.d.recovery[p.name]
}

// check checks everything. The error is that of the context.
func (p *partition) check() error {
	p.leftovers()
	p.readMetadata()
	p.readEpochs()
	p.openSnapshots()
	p.startCompacted()
	for i := range p.segments {
		if err := p.segment(i); err != nil {
			return err
		}
	}
	p.orphans()
	p.endSnapshots()
	p.endHoles()
	p.endEpochs()
	p.endCuts()
	p.checkpoints()
	return p.kraft()
}

// leftovers notes files that an interrupted change left behind.
func (p *partition) leftovers() {
	for _, name := range p.names {
		suffix, ok := leftover(name)
		if !ok {
			if path.Ext(name) == segment.LogSuffix && !isPartitionFile(name) {
				p.find(Damage, p.file(name), -1, -1, "not the name of a segment, which is 20 digits; the broker does not open such a partition", "rename it to the offset of its first record, or move it away")
			}
			continue
		}
		file := p.file(name)
		switch suffix {
		case DamagedSuffix:
			p.find(Note, file, -1, -1, "what a repair cut off", "remove it once nothing in it is missed")
		case segment.SwapSuffix:
			p.find(Warning, file, -1, -1, "compaction was interrupted when its result was whole", "klamm log repair finishes it").fix = fixSwap
		case segment.DeletedSuffix:
			p.find(Note, file, -1, -1, "deleted, and waits to be removed", "none: the broker removes it").fix = fixLeftover
		default:
			p.find(Note, file, -1, -1, "left over from a change that was interrupted", "none: the next start removes it").fix = fixLeftover
		}
	}
}

func (p *partition) readMetadata() {
	if p.topic == metadataTopic || p.single || p.d.only != "" {
		return
	}
	file := p.file(log.MetadataFile)
	id, err := log.ReadTopicID(p.c.fs, p.path)
	switch {
	case err != nil && len(p.segments) == 0:
		p.find(Warning, file, 0, -1, err.Error(), "none: the next start writes it anew")
	case err != nil:
		p.find(Damage, file, 0, -1, err.Error(), "write the two lines 'version: 0' and 'topic_id: ID', with the id that klamm topic describe tells")
	case id.IsZero() && len(p.segments) > 0:
		p.find(Warning, file, -1, -1, "missing, so that these records could be taken for another topic's", "none: the next start writes it")
	}
	p.id = id
}

func (p *partition) readEpochs() {
	if p.single || !slices.Contains(p.names, log.EpochFile) {
		return
	}
	at, err := readCheckpoint(p.c.fs, p.file(log.EpochFile), 2, func(words []string) error {
		epoch, err := strconv.ParseInt(words[0], 10, 32)
		start, err2 := strconv.ParseInt(words[1], 10, 64)
		if errors.Join(err, err2) != nil || epoch < 0 || start < 0 {
			return errors.New("want EPOCH START")
		}
		if n := len(p.epochs); n > 0 && (p.epochs[n-1].epoch >= int32(epoch) || p.epochs[n-1].start >= start) {
			return fmt.Errorf("after epoch %d from offset %d", p.epochs[n-1].epoch, p.epochs[n-1].start)
		}
		p.epochs = append(p.epochs, epochStart{int32(epoch), start})
		return nil
	})
	if info, e := p.c.fs.Stat(p.file(log.EpochFile)); e == nil && info.Size() == 0 && !p.d.clean {
		p.epochs = nil
		p.find(Warning, p.file(log.EpochFile), -1, -1, "empty, as a power cut leaves it", "none: the next start makes it anew")
		return
	}
	if err != nil {
		p.epochs = nil
		p.find(Damage, p.file(log.EpochFile), at, -1, err.Error(), "klamm log repair removes it, so that the next start makes it anew").fix = fixRemove
		return
	}
	p.hasEpoch = true
}

// checkEpoch compares the leader epoch of a batch with the batches before and
// with the checkpoint.
func (p *partition) checkEpoch(file string, at int64, d segment.Info) {
	if d.Epoch < 0 {
		return
	}
	if d.Epoch < p.epoch {
		p.find(Damage, file, at, d.Base, fmt.Sprintf("leader epoch %d after epoch %d", d.Epoch, p.epoch), "compare with the other replicas from this offset on")
	}
	p.epoch = max(p.epoch, d.Epoch)
	if !p.hasEpoch || d.Last < p.logStart {
		return
	}
	i := len(p.epochs) - 1
	for i >= 0 && p.epochs[i].start > d.Base {
		i--
	}
	what, severity := "", Damage
	switch {
	case i < 0 && len(p.epochs) > 0 && p.epochs[0].start <= d.Last && p.epochs[0].epoch == d.Epoch: // the log starts inside of the batch
	case i < 0:
		// Kafka trims the checkpoint before the new log start is on disk.
		what, severity = "no leader epoch before offset %[4]d, but the batch of offset %[1]d has epoch %[2]d", Warning
	case p.d.running && i == len(p.epochs)-1 && d.Epoch > p.epochs[i].epoch: // it began since
	case p.epochs[i].epoch != d.Epoch:
		what = "leader epoch %[3]d from offset %[4]d on, but the batch of offset %[1]d has epoch %[2]d"
	}
	key := fmt.Sprint(what, i, d.Epoch) // once for each run of batches
	if what == "" || p.saidEpochs[key] {
		return
	}
	if p.saidEpochs == nil {
		p.saidEpochs = make(map[string]bool)
	}
	p.saidEpochs[key] = true
	e := epochStart{-1, 0}
	if i >= 0 {
		e = p.epochs[i]
	} else if len(p.epochs) > 0 {
		e.start = p.epochs[0].start
	}
	f := p.find(severity, p.file(log.EpochFile), -1, d.Base, fmt.Sprintf(what, d.Base, d.Epoch, e.epoch, e.start), "klamm log repair removes it, so that the next start makes it anew")
	if f.fix = fixRemove; severity < Damage {
		f.fix, f.Advice = fixNone, "none if records were deleted up to there; else remove the file, and the next start makes it anew"
	}
}

func (p *partition) endEpochs() {
	if !p.hasEpoch || p.single || len(p.segments) == 0 {
		return
	}
	if n := len(p.epochs); n > 0 && p.epochs[n-1].start > p.next && !p.d.running {
		p.find(Warning, p.file(log.EpochFile), -1, p.epochs[n-1].start, fmt.Sprintf("epoch %d begins at offset %d, the log ends at %d", p.epochs[n-1].epoch, p.epochs[n-1].start, p.next), "none: the next start takes it off")
	}
}

// startCompacted looks for signs that the partition is compacted, so that there
// may be holes.
func (p *partition) startCompacted() {
	switch p.topic {
	case "__consumer_offsets", "__transaction_state", "__share_group_state":
		p.compacted = "it is a compacted topic"
	}
	if _, ok := p.d.cleaner[p.name]; ok {
		p.compacted = "it stands in " + log.CleanerFile
	}
	for _, name := range p.names {
		if s, _ := leftover(name); s == segment.SwapSuffix || s == segment.CleanedSuffix {
			p.compacted = "files of a compaction are left"
		}
	}
}

// hole notes that no batch holds the offsets [from, to). Compaction passes over
// everything from the start of the log on and drops records without a key, so a
// hole above such a record is none of its making.
func (p *partition) hole(file string, at, from, to int64) {
	if p.damaged || from < p.logStart && to <= p.logStart {
		return
	}
	what := fmt.Sprintf("offsets %d to %d are missing", from, to-1)
	p.partial = p.partial || p.compacted == ""
	if (p.nullKeys || p.topic == metadataTopic) && p.compacted == "" {
		if len(p.holes.proven) < maxRepeated {
			p.holes.proven = append(p.holes.proven, len(p.findings))
			p.find(Damage, file, at, from, what+", and the partition was never compacted", "restore the segment before it from a replica or a backup")
		}
		return
	}
	if p.holes.n++; p.holes.n == 1 {
		p.holes.first = Finding{Severity: Warning, Partition: p.name, File: file, Byte: at, Offset: from, What: what,
			Advice: "none if the topic is or was compacted, which leaves holes; else records are lost: compare with a replica or a backup"}
	}
	p.holes.offsets += to - from
}

// maxRepeated bounds how often one file is found fault with for the same reason.
const maxRepeated = 20

func (p *partition) endHoles() {
	if p.holes.n == 0 {
		return
	}
	f := p.holes.first
	if p.holes.n > 1 {
		f.What += fmt.Sprintf("; %d holes with %d offsets in all", p.holes.n, p.holes.offsets)
	}
	if p.compacted != "" {
		f.Severity, f.Advice = Note, "none: compaction leaves holes, and "+p.compacted
	}
	p.findings = append(p.findings, f)
}

// endCuts says of each damaged place what a cut there loses.
func (p *partition) endCuts() {
	for _, c := range p.cuts {
		f := &p.findings[c.finding]
		f.lost = &lost{p.batches - c.batches, p.records - c.records, 0}
		for _, base := range p.segments {
			if info, err := p.c.fs.Stat(p.segmentFile(base, segment.LogSuffix)); err == nil {
				f.lost.bytes += info.Size()
			}
		}
		f.lost.bytes -= c.bytes
		f.Advice = fmt.Sprintf("restore the partition from a replica or a backup; or klamm log repair --cut-at-damage, which loses %d valid batches with %d records after it", f.lost.batches, f.lost.records)
	}
}

// orphans are derived files of segments that do not exist.
func (p *partition) orphans() {
	if p.single && len(p.segments) > 0 {
		return
	}
	for _, name := range p.names {
		base, suffix, ok := parseFileName(name)
		if !ok || suffix == segment.LogSuffix || suffix == segment.SnapshotSuffix || suffix == log.QuorumSnapshotSuffix || slices.Contains(p.segments, base) {
			continue
		}
		if len(p.segments) == 0 || base >= p.next { // the next segment, which has no batch yet
			continue
		}
		if slices.Contains(p.names, path.Base(p.segmentFile(base, segment.LogSuffix))+segment.SwapSuffix) {
			continue
		}
		p.find(Note, p.file(name), -1, base, "its segment has no data file", "none: nothing reads it").fix = fixLeftover
	}
}

// checkpoints compares what the log directory says of the partition with the log.
func (p *partition) checkpoints() {
	d := p.d
	if p.single || !d.known || kindOf(p.name) != liveDir {
		return
	}
	say := func(s Severity, file string, offset int64, what, advice string) {
		p.findings = append(p.findings, Finding{Severity: s, Partition: p.name, File: d.file(file), Byte: -1, Offset: offset, What: what, Advice: advice})
	}
	end := p.next
	if len(p.segments) == 0 {
		// Nothing was ever written, or all was removed up to the log start.
		end = max(p.logStart, d.recovery[p.name])
	}
	base := int64(0)
	if len(p.segments) > 0 {
		base = p.segments[0]
	}
	start := max(base, p.logStart)
	restore := "records are lost: restore the partition from a replica or a backup"
	if v, ok := d.recovery[p.name]; ok && v > end {
		say(Damage, log.RecoveryPointFile, end, fmt.Sprintf("offsets below %d were on disk, the log ends at %d", v, end), restore)
	}
	if v, ok := d.start[p.name]; ok && v > end && !d.clean {
		// A power cut may take records that were not synced, and all of these were
		// to be deleted.
		say(Warning, log.LogStartFile, end, fmt.Sprintf("the log starts at %d and ends at %d", v, end), "none: the next start begins an empty log there")
	} else if ok && v > end {
		say(Damage, log.LogStartFile, end, fmt.Sprintf("the log starts at %d and ends at %d: the next start drops all of it", v, end), restore)
	} else if ok && v < base {
		say(Note, log.LogStartFile, v, fmt.Sprintf("log start %d is below the first segment, %d", v, base), "none: the log starts with its first segment")
	}
	switch v, ok := d.high[p.name]; {
	case ok && v > end:
		say(Damage, log.HighWatermarkFile, end, fmt.Sprintf("offsets below %d were acknowledged, the log ends at %d", v, end), restore)
	case ok && v < start && start <= end && v > 0:
		say(Note, log.HighWatermarkFile, v, fmt.Sprintf("high watermark %d is below the log start %d", v, start), "none: the next start raises it")
	}
	if v, ok := d.cleaner[p.name]; ok && v > end {
		say(Warning, log.CleanerFile, v, fmt.Sprintf("compacted up to %d, the log ends at %d", v, end), "none: the next compaction begins at the log start")
	}
}

func kindOf(name string) dirKind {
	kind, _ := parseDirName(name)
	return kind
}

// fits is the largest offset that a segment can hold.
func fits(base int64) int64 {
	if base > math.MaxInt64-math.MaxInt32 {
		return math.MaxInt64
	}
	return base + math.MaxInt32
}
