package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/replication/control"
)

// assignment is which replicas partitions are to have.
type assignment map[client.TopicPartition][]int32

// add adds a partition, which no assignment names twice.
func (a assignment) add(tp client.TopicPartition, replicas []int32) error {
	if _, twice := a[tp]; twice {
		return fmt.Errorf("%s-%d is there twice", tp.Topic, tp.Partition)
	}
	if tp.Partition < 0 {
		return fmt.Errorf("partition %d of %s is no partition", tp.Partition, tp.Topic)
	}
	if len(replicas) == 0 {
		return fmt.Errorf("%s-%d has no replicas", tp.Topic, tp.Partition)
	}
	for i, id := range replicas {
		if id < 0 {
			return fmt.Errorf("%s-%d: %d is no broker", tp.Topic, tp.Partition, id)
		}
		if slices.Contains(replicas[:i], id) {
			return fmt.Errorf("%s-%d has broker %d twice", tp.Topic, tp.Partition, id)
		}
	}
	a[tp] = replicas
	return nil
}

// parseReplicas parses PARTITION:BROKER,BROKER...;PARTITION:... for a topic.
func parseReplicas(topic, s string) (assignment, error) {
	out := make(assignment)
	for part := range strings.SplitSeq(s, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		index, list, ok := strings.Cut(part, ":")
		n, err := strconv.ParseInt(strings.TrimSpace(index), 10, 32)
		if !ok || err != nil {
			return nil, fmt.Errorf("%q: want PARTITION:BROKER[,BROKER...]", part)
		}
		var replicas []int32
		for word := range strings.SplitSeq(list, ",") {
			id, err := strconv.ParseInt(strings.TrimSpace(word), 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%q: %q is no broker", part, word)
			}
			replicas = append(replicas, int32(id))
		}
		if err := out.add(client.TopicPartition{Topic: topic, Partition: int32(n)}, replicas); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, errors.New("want PARTITION:BROKER[,BROKER...][;PARTITION:...]")
	}
	return out, nil
}

// reassignmentFile is the JSON that kafka-reassign-partitions reads and writes. What it
// does not name is left alone.
type reassignmentFile struct {
	Version    int                     `json:"version"`
	Partitions []reassignmentPartition `json:"partitions"`
}

type reassignmentPartition struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Replicas  []int32  `json:"replicas"`
	LogDirs   []string `json:"log_dirs,omitempty"`
}

// anyLogDir leaves the choice of a data directory to the broker.
const anyLogDir = "any"

func readReassignment(name string) (assignment, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var f reassignmentFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("%s: version %d, want 1", name, f.Version)
	}
	out := make(assignment)
	for _, p := range f.Partitions {
		if err := control.CheckTopicName(p.Topic); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if i := slices.IndexFunc(p.LogDirs, func(d string) bool { return d != anyLogDir }); i >= 0 {
			return nil, fmt.Errorf("%s: %s-%d is to be in %s: a data directory cannot be chosen, want %q", name, p.Topic, p.Partition, p.LogDirs[i], anyLogDir)
		}
		if err := out.add(client.TopicPartition{Topic: p.Topic, Partition: p.Partition}, p.Replicas); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no partitions", name)
	}
	return out, nil
}

// fileOf is moves as kafka-reassign-partitions reads them: where they go, or with back
// where they come from.
func fileOf(moves []move, back bool) reassignmentFile {
	f := reassignmentFile{Version: 1, Partitions: []reassignmentPartition{}}
	for _, m := range moves {
		replicas := m.to
		if back {
			replicas = m.from
		}
		f.Partitions = append(f.Partitions, reassignmentPartition{Topic: m.tp.Topic, Partition: m.tp.Partition, Replicas: replicas})
	}
	return f
}

// moves returns an assignment as moves, as the cluster stands. A partition or a broker that
// is not there is an error.
func (a assignment) moves(l *layout) (out []move, err error) {
	brokers := l.registered()
	for tp, to := range a {
		from := l.target(tp)
		switch {
		case l.topic(tp.Topic) == nil:
			return nil, fmt.Errorf("there is no topic %s", tp.Topic)
		case from == nil:
			return nil, fmt.Errorf("topic %s has no partition %d: it has %d", tp.Topic, tp.Partition, len(l.topic(tp.Topic).Partitions))
		}
		for _, id := range to {
			if !slices.ContainsFunc(brokers, func(b client.BrokerInfo) bool { return b.ID == id }) {
				return nil, fmt.Errorf("%s-%d: %w", tp.Topic, tp.Partition, l.has("broker", id))
			}
		}
		out = append(out, move{tp, from, to})
	}
	slices.SortFunc(out, func(x, y move) int { return comparePartitions(x.tp, y.tp) })
	return out, nil
}
