package compact

import "github.com/klamm-io/klamm/wire/record"

// aheadRecords is how many records are read before the first of them is looked
// up: enough for their cache misses to overlap.
const aheadRecords = 32

// lookahead holds the next records of a batch, and has warmed the map for them.
type lookahead struct {
	n      int
	row    [aheadRecords]row
	hashes [aheadRecords]uint64
}

// row is what the passes ask of a record; see record.Scanner.
type row struct {
	start, end     int
	timestampDelta int64
	key            []byte
	offsetDelta    int32
	nullValue      bool
}

// read takes the next records of s and reports whether there are any. m is where
// they will be looked up, nil if they will not be.
func (l *lookahead) read(s *record.Scanner, m *Map) bool {
	l.n = 0
	for l.n < aheadRecords && s.Next() {
		l.row[l.n] = row{s.Start, s.End, s.TimestampDelta, s.Key, s.OffsetDelta, s.NullValue}
		if m != nil {
			l.hashes[l.n] = m.hashOf(s.Key)
		}
		l.n++
	}
	if m != nil {
		m.warm(l.hashes[:l.n])
	}
	return l.n > 0
}

func (l *lookahead) rows() []row { return l.row[:l.n] }
