package compact

import "math"

// Segment is what grouping and measuring ask about a segment.
type Segment struct {
	Base           int64 // offset
	Size           int64 // bytes of batches
	IndexSize      int64 // bytes of its offset index
	TimeIndexSize  int64 // bytes of its time index
	FirstTimestamp int64 // ms; of its first batch, not positive if there is none
	LastTimestamp  int64 // ms; largest of its records, or of the last modification if they have none
}

// Group splits segments, which follow each other, into runs that each become one
// cleaned segment: of at most maxBytes (segment.bytes) and maxIndexBytes in either
// index (segment.index.bytes), and of offsets that fit in 31 bits after the first
// base offset. A segment that is too large by itself is a group. firstUncleanable
// bounds the offsets of the last segment. The groups are slices of segments.
//
// It corresponds to Kafka's Cleaner.groupSegmentsBySize.
func Group(segments []Segment, maxBytes, maxIndexBytes, firstUncleanable int64) [][]Segment {
	var groups [][]Segment
	for len(segments) > 0 {
		base := segments[0].Base
		bytes, indexBytes, timeIndexBytes := segments[0].Size, segments[0].IndexSize, segments[0].TimeIndexSize
		n := 1
		for ; n < len(segments); n++ {
			s := segments[n]
			bytes += s.Size
			indexBytes += s.IndexSize
			timeIndexBytes += s.TimeIndexSize
			if bytes > maxBytes || indexBytes > maxIndexBytes || timeIndexBytes > maxIndexBytes {
				break
			}
			end := firstUncleanable
			if n+1 < len(segments) {
				end = segments[n+1].Base
			}
			// An empty segment has no offsets: were it refused, each 2^31 offsets
			// would leave one behind.
			if s.Size > 0 && end-1-base > math.MaxInt32 {
				break
			}
		}
		groups = append(groups, segments[:n:n])
		segments = segments[n:]
	}
	return groups
}
