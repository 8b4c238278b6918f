package compact

// markChunk is how many offsets one piece of marks covers.
const markChunk = 1 << 16

// marks is a set of the offsets in [start, end): a bit each, so that what a round
// has read once need not be looked up again. The zero value is empty and covers
// nothing.
type marks struct {
	start, end int64
	chunks     []*[markChunk / 64]uint64 // nil where no offset is in use
	used       int                       // chunks that are not nil
	full       bool                      // end stays where it is
}

func (m *marks) bytes() int { return cap(m.chunks)*8 + m.used*markChunk/8 }

// reach makes the set cover offset, and those before it, in at most room more
// bytes. Once there is none, it covers no more.
func (m *marks) reach(offset int64, room int) {
	if offset < m.start || m.full {
		return
	}
	at := (offset - m.start) / markChunk
	if at < int64(len(m.chunks)) && m.chunks[at] != nil {
		return
	}
	if 16*(at+2)+markChunk/8 > int64(room) { // the list may double
		m.full = true
		return
	}
	for int64(len(m.chunks)) <= at {
		m.chunks = append(m.chunks, nil)
	}
	m.chunks[at] = new([markChunk / 64]uint64)
	m.used++
	m.end = m.start + int64(len(m.chunks))*markChunk
}

// covers reports whether the offsets [first, last] are all in the set's range.
func (m *marks) covers(first, last int64) bool { return first >= m.start && last < m.end }

// mark puts offset into the set, if it is covered and in use.
func (m *marks) mark(offset int64) {
	if m.covers(offset, offset) {
		at := offset - m.start
		if c := m.chunks[at/markChunk]; c != nil {
			c[at%markChunk/64] |= 1 << (at % 64)
		}
	}
}

// has reports whether offset, which must be covered, is in the set.
func (m *marks) has(offset int64) bool {
	at := offset - m.start
	c := m.chunks[at/markChunk]
	return c != nil && c[at%markChunk/64]&(1<<(at%64)) != 0
}
