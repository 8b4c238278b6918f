package api

import (
	"context"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/coordinator/group"
	"github.com/klamm-io/klamm/replication/control"
	"github.com/klamm-io/klamm/replication/meta"
	"github.com/klamm-io/klamm/wire/kerr"
)

// Groups coordinates consumer groups.
type Groups = *group.Service

// groupTopic is what __consumer_offsets looks like.
func (h *Handlers) groupTopic() control.TopicSpec {
	text := func(s string) *string { return &s }
	live := int16(max(len(h.Controller.Image().Live()), 1))
	return control.TopicSpec{Name: meta.GroupTopic, Partitions: int32(h.Broker.OffsetsTopicPartitions),
		// A cluster that is smaller than the factor that Kafka defaults to works all the same.
		ReplicationFactor: min(int16(h.Broker.OffsetsTopicReplicationFactor), live),
		Configs: map[string]*string{"cleanup.policy": text("compact"), "compression.type": text("producer"),
			"segment.bytes": text(strconv.Itoa(h.Broker.OffsetsTopicSegmentBytes))}}
}

// ensureGroups creates __consumer_offsets if it is not there. It returns at the
// latest when the topic is ready.
func (h *Handlers) ensureGroups(c *Call) {
	if h.Controller.Image().Topic(meta.GroupTopic) == nil {
		h.create(c, []control.TopicSpec{h.groupTopic()})
	}
}

// Types of coordinators.
const (
	groupCoordinator       = 0
	transactionCoordinator = 1
	shareCoordinator       = 2
)

func (h *Handlers) coordinator(c *Call, kind int8, key string) (node int32, host string, port int32, err error) {
	none := int32(-1)
	switch kind {
	case groupCoordinator:
	case transactionCoordinator:
		h.noCoordinator(c, "transaction")
		return none, "", none, kerr.Refuse(kerr.InvalidRequest, "this broker does not coordinate transactions")
	case shareCoordinator:
		h.noCoordinator(c, "share")
		return none, "", none, kerr.Refuse(kerr.InvalidRequest, "this broker does not coordinate share groups")
	default:
		return none, "", none, kerr.InvalidRequest
	}
	h.ensureGroups(c)
	image := h.Controller.Image()
	p := image.Partition(meta.GroupTopic, h.Groups.Partition(key))
	if p == nil || p.Leader == meta.NoLeader {
		return none, "", none, kerr.CoordinatorNotAvailable
	}
	b := image.Broker(p.Leader)
	if b == nil {
		return none, "", none, kerr.CoordinatorNotAvailable
	}
	host, port, ok := h.endpoint(c.Session, b)
	if !ok {
		return none, "", none, kerr.CoordinatorNotAvailable
	}
	return b.ID, host, port, nil
}

// noCoordinator logs that a client asked for a coordinator which this broker does
// not have: it may try for ever, and its user sees no more than a timeout.
func (h *Handlers) noCoordinator(c *Call, kind string) {
	if skipped, ok := h.repeats.Allow(kind + " " + c.Header.ClientID); ok {
		h.Logger.Warn("refused to coordinate: not supported yet", zap.String("kind", kind), zap.String("client_id", c.Header.ClientID),
			zap.String("peer", c.Session.RemoteHost), zap.String("software", c.Session.SoftwareName), zap.String("software_version", c.Session.SoftwareVersion),
			zap.Int("not_logged_before", skipped))
	}
}

// groupTimeout bounds a group request that does not wait for other members.
func (h *Handlers) groupContext(c *Call) (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.Context, max(h.Broker.OffsetsCommitTimeout, time.Second))
}

// run runs a command on the shard of a group, and returns once what it decided is
// committed.
func (h *Handlers) run(c *Call, groupID string, f coordinator.Command[*group.Machine]) error {
	sh, err := h.Groups.Find(groupID)
	if err != nil {
		return err
	}
	return runOn(h, c, sh, f)
}

// runOn runs a command on a shard, and returns once what it decided is committed, with
// the code that the client is sent.
func runOn[M coordinator.Machine](h *Handlers, c *Call, sh *coordinator.Shard[M], f coordinator.Command[M]) error {
	ctx, cancel := h.groupContext(c)
	defer cancel()
	err := sh.Do(ctx, f)
	switch {
	case err == nil && h.Replicas.Suspended():
		// Another broker may coordinate, and what is known here may be old: a process that
		// stood still has not learned it yet.
		return kerr.NotCoordinator
	case err != nil && ctx.Err() == nil:
		return coordinator.Code(err)
	}
	return err
}

// answer is where one answer is waited for. A second one, which a coordinator
// that panics may give, is dropped.
type answer[T any] chan *T

func (a answer[T]) give(r *T) {
	select {
	case a <- r:
	default:
	}
}

// await waits for an answer without holding the call's slot; nil if the call
// ends first.
func await[T any](c *Call, answer answer[T]) (r *T, err error) {
	select {
	case r = <-answer:
		return r, nil
	default:
	}
	err = c.Park(func() {
		select {
		case r = <-answer:
		case <-c.Context.Done():
		}
	})
	return r, err
}
