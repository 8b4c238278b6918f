package compact

import (
	"fmt"
	"math"
	"testing"
)

func TestGroupFillsSegments(t *testing.T) {
	sized := func(sizes ...int64) (segments []Segment) {
		for i, n := range sizes {
			segments = append(segments, Segment{Base: int64(i) * 100, Size: n, IndexSize: n / 10, TimeIndexSize: n / 20})
		}
		return segments
	}
	at := func(segments []Segment, bases ...int64) []Segment {
		for i, b := range bases {
			segments[i].Base = b
		}
		return segments
	}
	for _, c := range []struct {
		name            string
		segments        []Segment
		bytes, index    int64
		uncleanable     int64
		wantGroupLength string
	}{
		{"no segments", nil, 100, 100, 0, "[]"},
		{"all fit", sized(30, 30, 30), 100, 100, 300, "[3]"},
		{"exactly", sized(50, 50, 50), 100, 100, 300, "[2 1]"},
		{"a large one is alone", sized(10, 500, 10, 10), 100, 100, 400, "[1 1 2]"},
		{"by offset index", sized(50, 50, 50, 50), 1000, 10, 400, "[2 2]"},
		{"by time index", []Segment{{TimeIndexSize: 6}, {Base: 1, TimeIndexSize: 6, Size: 1}}, 1000, 10, 400, "[1 1]"},
		{"offsets fit in 31 bits", at(sized(1, 1, 1), 0, 10, math.MaxInt32+1), 100, 100, math.MaxInt32 + 2, "[2 1]"},
		{"the next base bounds a segment", at(sized(1, 1, 1), 0, 10, math.MaxInt32+2), 100, 100, math.MaxInt32 + 3, "[1 2]"},
		{"the uncleanable offset bounds the last", at(sized(1, 1), 0, 10), 100, 100, math.MaxInt32 + 1, "[2]"},
		{"and one more is too much", at(sized(1, 1), 0, 10), 100, 100, math.MaxInt32 + 2, "[1 1]"},
		{"an empty segment has no offsets", at(sized(1, 0, 0), 0, 1<<33, 1<<34), 100, 100, 1 << 35, "[3]"},
	} {
		n := []int{}
		for _, g := range Group(c.segments, c.bytes, c.index, c.uncleanable) {
			n = append(n, len(g))
		}
		if got := fmt.Sprint(n); got != c.wantGroupLength {
			t.Errorf("%s: groups of %s, want %s", c.name, got, c.wantGroupLength)
		}
	}
}

func TestMeasureTellsWhatIsDirty(t *testing.T) {
	// Four segments of 100 bytes, of timestamps 1000-1099, ..., 4000-4099.
	log := func(change func(f *Facts)) Facts {
		f := Facts{LogEnd: 400, FirstDirty: -1, LastStable: 400, Now: 10_000, MaxLag: math.MaxInt64, MinRatio: 0.5}
		for i := range int64(4) {
			f.Segments = append(f.Segments, Segment{Base: i * 100, Size: 100, FirstTimestamp: 1000 * (i + 1), LastTimestamp: 1000*(i+1) + 99})
		}
		change(&f)
		return f
	}
	for _, c := range []struct {
		name   string
		change func(f *Facts)
		want   Dirtiness
	}{
		{"a log that was never cleaned", func(f *Facts) {},
			Dirtiness{FirstDirty: 0, FirstUncleanable: 300, CleanableBytes: 300, Ratio: 1, Due: true}},
		{"half of it is clean", func(f *Facts) { f.FirstDirty = 200 },
			Dirtiness{FirstDirty: 200, FirstUncleanable: 300, CleanBytes: 200, CleanableBytes: 100, Ratio: 1. / 3}},
		{"at the minimum ratio it is not due", func(f *Facts) { f.FirstDirty, f.MinRatio = 200, 1./3 },
			Dirtiness{FirstDirty: 200, FirstUncleanable: 300, CleanBytes: 200, CleanableBytes: 100, Ratio: 1. / 3}},
		{"above it, it is", func(f *Facts) { f.FirstDirty, f.MinRatio = 200, 0.3 },
			Dirtiness{FirstDirty: 200, FirstUncleanable: 300, CleanBytes: 200, CleanableBytes: 100, Ratio: 1. / 3, Due: true}},
		{"a segment that is partly clean counts twice", func(f *Facts) { f.FirstDirty = 150 },
			Dirtiness{FirstDirty: 150, FirstUncleanable: 300, CleanBytes: 200, CleanableBytes: 200, Ratio: 0.5}},
		{"all is clean", func(f *Facts) { f.FirstDirty = 300 },
			Dirtiness{FirstDirty: 300, FirstUncleanable: 300, CleanBytes: 300}},
		{"clean into the active segment", func(f *Facts) { f.FirstDirty = 350 },
			Dirtiness{FirstDirty: 350, FirstUncleanable: 300, CleanBytes: 400}},
		{"the last stable offset spares its segment", func(f *Facts) { f.LastStable = 250 },
			Dirtiness{FirstDirty: 0, FirstUncleanable: 200, CleanableBytes: 200, Ratio: 1, Due: true}},
		{"young segments are spared", func(f *Facts) { f.MinLag = 7901 },
			Dirtiness{FirstDirty: 0, FirstUncleanable: 200, CleanableBytes: 200, Ratio: 1, Due: true}},
		{"at the minimum lag they are not young", func(f *Facts) { f.MinLag = 6901 },
			Dirtiness{FirstDirty: 0, FirstUncleanable: 300, CleanableBytes: 300, Ratio: 1, Due: true}},
		{"too old to wait for the ratio", func(f *Facts) { f.FirstDirty, f.MaxLag = 200, 6000 },
			Dirtiness{FirstDirty: 200, FirstUncleanable: 300, CleanBytes: 200, CleanableBytes: 100, Ratio: 1. / 3, Delay: 1000, Must: true, Due: true}},
		{"at the maximum lag it may wait", func(f *Facts) { f.FirstDirty, f.MaxLag = 200, 7000 },
			Dirtiness{FirstDirty: 200, FirstUncleanable: 300, CleanBytes: 200, CleanableBytes: 100, Ratio: 1. / 3}},
		{"no ratio is above NaN", func(f *Facts) { f.MinRatio = math.NaN() },
			Dirtiness{FirstDirty: 0, FirstUncleanable: 300, CleanableBytes: 300, Ratio: 1}},
		{"too old, whatever the ratio", func(f *Facts) { f.MinRatio, f.MaxLag = math.NaN(), 8000 },
			Dirtiness{FirstDirty: 0, FirstUncleanable: 300, CleanableBytes: 300, Ratio: 1, Delay: 1000, Must: true, Due: true}},
		{"too old, but nothing can be cleaned", func(f *Facts) { f.FirstDirty, f.MaxLag, f.LastStable = 200, 1, 200 },
			Dirtiness{FirstDirty: 200, FirstUncleanable: 200, CleanBytes: 200, Delay: 6999, Must: true}},
		{"a dirty offset below the log start", func(f *Facts) { f.FirstDirty, f.LogStart = 50, 100; f.Segments = f.Segments[1:] },
			Dirtiness{FirstDirty: 100, FirstUncleanable: 300, Reset: true, CleanableBytes: 200, Ratio: 1, Due: true}},
		{"a dirty offset beyond the log", func(f *Facts) { f.FirstDirty = 401 },
			Dirtiness{FirstDirty: 0, FirstUncleanable: 300, Reset: true, CleanableBytes: 300, Ratio: 1, Due: true}},
		{"one segment", func(f *Facts) { f.Segments = f.Segments[:1] }, Dirtiness{}},
		{"no bytes", func(f *Facts) {
			for i := range f.Segments {
				f.Segments[i].Size = 0
			}
		}, Dirtiness{FirstUncleanable: 300}},
	} {
		if got := Measure(log(c.change)); got != c.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", c.name, got, c.want)
		}
	}
}
