package client

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ErrNoReset means that a partition has no valid position and auto.offset.reset
// is none.
var ErrNoReset = errors.New("no position, and auto.offset.reset is none")

// places reports whether committed offsets are to be asked for. The membership
// does not depend on them.
func (m *member) places() bool { return m.state == memberStable && len(m.unplaced) > 0 && !m.held }

// stepPlace asks for committed offsets.
func (m *member) stepPlace(now time.Time) {
	if m.places() && m.place.due(now) {
		m.do(placeRequest{id: m.begin(&m.place), broker: m.coordinator, tps: sorted(maps.Keys(m.unplaced))})
	}
}

// seeked says that the application has chosen where to begin in a partition.
func (m *member) seeked(tp TopicPartition) {
	delete(m.unplaced, tp)
	if len(m.unplaced) == 0 {
		m.drop(&m.place)
	}
}

// located has committed offsets. Partitions whose offset is not to be had yet
// are asked for again after a pause; the others begin. An error that trying
// again does not mend is for Poll, and after it has returned it the next try
// follows: the topic may be made, or a right given.
func (m *member) located(now time.Time, id uint64, have map[TopicPartition]Offset, failed map[TopicPartition]error, err error) {
	if !m.place.ended(id) || m.state != memberStable {
		return
	}
	if err == nil {
		m.begun(have, failed)
		for _, tp := range sorted(maps.Keys(m.unplaced)) {
			e := failed[tp]
			if e == nil {
				e = ErrNoReset
			}
			if err == nil || retriable(err) && !retriable(e) { // first those that the application must know
				err = fmt.Errorf("%v: %w", tp, e)
			}
		}
	}
	if err == nil {
		m.place = attempt{}
		m.lastErr = nil
		m.step(now)
		return
	}
	err = fmt.Errorf("committed offsets of group %s: %w", m.o.group, err)
	m.failed(&m.place, now)
	m.lastErr = err
	switch {
	case ofCoordinator(err):
		m.lostCoordinator(now, m.place.broker, err)
	case retriable(err):
		m.note("committed offsets not known, try again", err)
	default:
		m.held = true
		m.tell(err)
	}
	m.step(now)
}

// begun lets the partitions begin that can.
func (m *member) begun(have map[TopicPartition]Offset, failed map[TopicPartition]error) {
	var tps []TopicPartition
	for _, tp := range sorted(maps.Keys(m.unplaced)) {
		if _, ok := have[tp]; failed[tp] == nil && (ok || m.o.reset) {
			tps = append(tps, tp)
			delete(m.unplaced, tp)
		}
	}
	if len(tps) > 0 {
		m.do(beginAt{tps, have})
		m.do(wakePoll{})
	}
}

// sorted returns partitions by topic and number.
func sorted(tps func(yield func(TopicPartition) bool)) []TopicPartition {
	return slices.SortedFunc(tps, compareTopicPartitions)
}
