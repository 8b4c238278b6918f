// Package levels lets the level of a logger be changed by its name while the
// program runs, as Kafka does with those of log4j (KIP-412).
package levels

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// Root is the name of the logger that every other takes its level from.
const Root = "root"

// byName are the levels that a logger can be given, by Kafka's names. Nothing is
// logged below debug, so TRACE is DEBUG.
var byName = map[string]zapcore.Level{"TRACE": zapcore.DebugLevel, "DEBUG": zapcore.DebugLevel, "INFO": zapcore.InfoLevel,
	"WARN": zapcore.WarnLevel, "ERROR": zapcore.ErrorLevel, "FATAL": zapcore.FatalLevel}

// Names returns the names of the levels that a logger can be given, sorted.
func Names() []string { return slices.Sorted(maps.Keys(byName)) }

// Registry holds the levels of loggers. It is safe for concurrent use.
type Registry struct {
	lowest atomic.Int32            // of all
	table  atomic.Pointer[loggers] // replaced as a whole
	mu     sync.Mutex              // held by who replaces it
}

// loggers are the levels of those that have their own, by name; the root always
// has one. It never changes.
type loggers map[string]string

// Logger is a logger and the level that applies to it.
type Logger struct{ Name, Level string }

// New returns a core that passes on to inner what a logger's level lets through,
// and the registry of these levels. Root begins at level, the loggers named take
// theirs from the one above them: server.pool from server, that from the root.
func New(inner zapcore.Core, level zapcore.Level) zapcore.Core {
	r := new(Registry)
	r.store(loggers{Root: nameOf(level)})
	return core{inner, r}
}

// Of returns a core whose levels can be changed, and their registry: c itself, or
// one that wraps it.
func Of(c zapcore.Core) (zapcore.Core, *Registry) {
	own, ok := c.(core)
	if !ok {
		own = New(c, zapcore.LevelOf(c)).(core)
	}
	return own, own.registry
}

func nameOf(l zapcore.Level) string {
	switch {
	case l < zapcore.InfoLevel:
		return "DEBUG"
	case l > zapcore.ErrorLevel:
		return "FATAL"
	}
	return l.CapitalString()
}

// store replaces the table.
func (r *Registry) store(t loggers) {
	lowest := zapcore.FatalLevel
	for _, name := range t {
		lowest = min(lowest, byName[name])
	}
	r.table.Store(&t)
	r.lowest.Store(int32(lowest))
}

// Level returns the name of the level of a logger.
func (r *Registry) Level(name string) string {
	t := *r.table.Load()
	for name != "" {
		if level, ok := t[name]; ok {
			return level
		}
		name = name[:max(strings.LastIndexByte(name, '.'), 0)]
	}
	return t[Root]
}

// Set gives a logger a level, or none of its own if level is "". The root keeps
// its level then. It reports whether there is such a level.
func (r *Registry) Set(name, level string) bool {
	if _, ok := byName[level]; !ok && level != "" {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := maps.Clone(*r.table.Load())
	switch {
	case level != "":
		t[name] = level
	case name != Root:
		delete(t, name)
	}
	r.store(t)
	return true
}

// core is a zapcore.Core that asks the registry by the name of the logger.
type core struct {
	zapcore.Core
	registry *Registry
}

// Enabled reports whether any logger logs at that level.
func (c core) Enabled(l zapcore.Level) bool {
	return l >= zapcore.Level(c.registry.lowest.Load()) && c.Core.Enabled(l)
}

// With implements zapcore.Core.
func (c core) With(fields []zapcore.Field) zapcore.Core { return core{c.Core.With(fields), c.registry} }

// Check implements zapcore.Core. What ends the program is always logged.
func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Level < zapcore.FatalLevel && e.Level < byName[c.registry.Level(e.LoggerName)] {
		return ce
	}
	return c.Core.Check(e, ce)
}
