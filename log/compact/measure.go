package compact

// Facts are what Measure asks about a log.
type Facts struct {
	LogStart   int64     // offset
	LogEnd     int64     // offset
	FirstDirty int64     // offset where the last round ended; -1 if there was none
	LastStable int64     // offset, at most the high watermark
	Segments   []Segment // all, in order; the last is the active one
	Now        int64     // ms

	MinLag   int64   // ms (min.compaction.lag.ms)
	MaxLag   int64   // ms (max.compaction.lag.ms)
	MinRatio float64 // min.cleanable.dirty.ratio; no ratio is above NaN
}

// Dirtiness says how much of a log a round could clean, and whether it should.
type Dirtiness struct {
	FirstDirty       int64   // offset where an Indexer starts
	FirstUncleanable int64   // offset where it ends; base of a segment
	Reset            bool    // FirstDirty as given was outside the log and must be stored again
	CleanBytes       int64   // in segments that begin below FirstDirty
	CleanableBytes   int64   // in segments from that of FirstDirty to FirstUncleanable
	Ratio            float64 // cleanable of clean and cleanable bytes
	Delay            int64   // ms by which the maximum lag is exceeded
	Must             bool    // it is
	Due              bool    // the log should be cleaned
}

// Measure returns how dirty a log is. Of several logs that are due, the one with
// the highest ratio comes first.
//
// A round does not touch the active segment, the segment of the last stable
// offset and what follows it, nor, from the first such segment on, what is younger
// than the minimum lag. The maximum lag counts from the first batch of the
// earliest dirty segment. It corresponds to cleanableOffsets, maxCompactionDelay
// and grabFilthiestCompactedLog in Kafka's LogCleanerManager, and to LogToClean.
func Measure(f Facts) Dirtiness {
	d := Dirtiness{FirstDirty: f.FirstDirty}
	switch {
	case f.FirstDirty < 0:
		d.FirstDirty = f.LogStart
	case f.FirstDirty < f.LogStart, f.FirstDirty > f.LogEnd:
		d.FirstDirty, d.Reset = f.LogStart, true
	}
	if len(f.Segments) == 0 {
		d.FirstUncleanable = d.FirstDirty
		return d
	}
	active := f.Segments[len(f.Segments)-1].Base
	bound := min(f.LastStable, active)
	earliest := int64(-1)
	for _, s := range between(f.Segments, d.FirstDirty, active) {
		if f.MinLag > 0 && s.LastTimestamp > f.Now-f.MinLag {
			bound = min(bound, s.Base)
		}
		if t := s.FirstTimestamp; t > 0 && (earliest < 0 || t < earliest) {
			earliest = t
		}
	}
	if until := f.Now - max(f.MaxLag, 0); earliest >= 0 && earliest < until {
		d.Delay, d.Must = until-earliest, true
	}
	// A bound inside a segment spares the whole segment.
	d.FirstUncleanable = active
	if s := between(f.Segments, max(d.FirstDirty, bound), active); len(s) > 0 {
		d.FirstUncleanable = s[0].Base
	}
	for _, s := range between(f.Segments, d.FirstDirty, d.FirstUncleanable) {
		d.CleanableBytes += s.Size
	}
	for _, s := range f.Segments {
		if s.Base < d.FirstDirty {
			d.CleanBytes += s.Size
		}
	}
	if total := d.CleanBytes + d.CleanableBytes; total > 0 {
		d.Ratio = float64(d.CleanableBytes) / float64(total)
		d.Due = d.Must && d.CleanableBytes > 0 || d.Ratio > f.MinRatio
	}
	return d
}

// between returns the segments with offsets in [from, to), the first of which
// may begin below from.
func between(segments []Segment, from, to int64) []Segment {
	if from >= to {
		return nil
	}
	first, end := 0, 0
	for i, s := range segments {
		if s.Base <= from {
			first = i
		}
		if s.Base < to {
			end = i + 1
		}
	}
	return segments[first:max(first, end)]
}
