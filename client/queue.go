package client

// activeList is the partitions of a node that have batches queued, in the order
// to serve them. Taking one out costs the same wherever it stands, so that many
// partitions can change their leader at once.
type activeList struct {
	first, last *partition
}

// push puts a partition that is on no list at the end.
func (l *activeList) push(part *partition) {
	part.active, part.next, part.prev = true, nil, l.last
	if l.last == nil {
		l.first = part
	} else {
		l.last.next = part
	}
	l.last = part
}

// remove takes a partition of the list out of it.
func (l *activeList) remove(part *partition) {
	if part.prev == nil {
		l.first = part.next
	} else {
		part.prev.next = part.next
	}
	if part.next == nil {
		l.last = part.prev
	} else {
		part.next.prev = part.prev
	}
	part.active, part.next, part.prev = false, nil, nil
}
