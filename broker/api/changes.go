package api

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/replication/control"
)

// changeLog logs, a line each, what clients have changed and who they were. Of
// a burst only the first lines are written, and one that counts the others.
type changeLog struct {
	lg    *zap.Logger
	clock clock.Clock

	mu      sync.Mutex // guards the fields below
	began   time.Time  // of the current second
	lines   int        // written in it
	unsaid  int
	pending bool // a line that counts the unsaid is to come
}

const (
	linesPerSecond = 20
	// What a line quotes of a client's words is cut.
	maxQuoted, maxKeys = 200, 10
)

// allow reports whether a line may be written. One that may not is counted.
func (l *changeLog) allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if since := now.Sub(l.began); since < 0 || since >= time.Second {
		l.began, l.lines = now, 0
	}
	if l.lines < linesPerSecond {
		l.lines++
		return true
	}
	l.unsaid++
	if !l.pending {
		l.pending = true
		l.clock.AfterFunc(time.Second, l.count)
	}
	return false
}

// count writes how many changes went unsaid.
func (l *changeLog) count() {
	l.mu.Lock()
	n := l.unsaid
	l.unsaid, l.pending = 0, false
	l.mu.Unlock()
	l.lg.Info("more was changed than is logged", zap.Int("changes", n))
}

// changed logs one change. c is nil where no client asked for it by itself.
func (h *Handlers) changed(c *Call, what string, fields ...zap.Field) {
	if !h.changes.lg.Core().Enabled(zap.InfoLevel) || !h.changes.allow() {
		return
	}
	if c != nil {
		fields = append(fields, zap.String("client_id", quoted(c.Header.ClientID)), zap.String("remote", c.Session.RemoteHost))
		if c.Session.Principal != "" {
			fields = append(fields, zap.String("principal", c.Session.Principal))
		}
	}
	h.changes.lg.Info(what, fields...)
}

// changedTopic logs that a topic was made.
func (h *Handlers) changedTopic(c *Call, what string, r control.TopicResult) {
	h.changed(c, what, zap.String("topic", r.Name), zap.Int32("partitions", r.Partitions), zap.Int16("replication_factor", r.ReplicationFactor))
}

// changedConfigs logs the keys of a resource that were changed.
func (h *Handlers) changedConfigs(c *Call, r control.ResourceChange) {
	var keys []string
	for i, change := range r.Changes {
		if i == maxKeys {
			keys = append(keys, "...")
			break
		}
		keys = append(keys, describeChange(r, change))
	}
	h.changed(c, "changed configs", zap.Stringer("resource_type", r.Resource.Type), zap.String("resource", quoted(r.Resource.Name)), zap.Strings("keys", keys), zap.Bool("replaced", r.Replace))
}

// describeChange returns a change as key=value. The value is left out where it
// may be a secret.
func describeChange(r control.ResourceChange, c control.ConfigChange) string {
	name := quoted(c.Name)
	if c.Op == control.DeleteConfig || c.Value == nil {
		return name + " deleted"
	}
	value := config.Password(*c.Value).String()
	if control.Shown(r.Resource.Type, c.Name) {
		value = quoted(*c.Value)
	}
	return name + map[control.ConfigOp]string{control.SetConfig: "=", control.AppendConfig: "+=", control.SubtractConfig: "-="}[c.Op] + value
}

// quoted returns the beginning of a long string.
func quoted(s string) string {
	if len(s) > maxQuoted {
		return s[:maxQuoted] + "..."
	}
	return s
}
