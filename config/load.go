package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/magiconair/properties"
)

// Sources are where a broker's configuration comes from, lowest first:
// defaults, the file, the environment, the overrides.
type Sources struct {
	File      string   // server.properties; "" for none
	Environ   []string // as os.Environ returns it
	Overrides []string // key=value
}

// Source says where a value came from.
type Source uint8

const (
	SourceDefault Source = iota
	SourceFile
	SourceEnvironment
	SourceOverride
)

// String returns the name of the source.
func (s Source) String() string {
	return [...]string{"default", "file", "environment", "override"}[s]
}

// Warning is about a setting that is accepted but does nothing.
type Warning struct {
	Key     string // or the environment variable
	Message string
}

// String returns one line.
func (w Warning) String() string { return w.Key + ": " + w.Message }

// ourDefaults are klamm's defaults where Kafka has none, or one that does not
// suit a broker started with no file at all.
var ourDefaults = map[string]string{
	"node.id":                   "1",
	"process.roles":             "broker,controller",
	"controller.listener.names": "CONTROLLER",
	"listeners":                 "PLAINTEXT://127.0.0.1:9092",
	"log.dirs":                  "./data",
}

// Static is a broker's configuration as it was started with. It does not change
// and is safe for concurrent use.
type Static struct {
	set       map[string]setting
	clusterID string
}

type setting struct {
	value  string // normalized
	source Source
}

// ClusterID returns the id for a new cluster that the environment names, or "".
func (s *Static) ClusterID() string { return s.clusterID }

// Load reads the sources. It fails on the first invalid value and on a key that
// looks like a slip of the pen, named with its place. It warns of known keys that
// klamm does not act on, and of keys in the file or the environment that are none
// of Kafka's: they may be meant for a plug-in.
func Load(src Sources) (*Static, []Warning, error) {
	s := &Static{set: make(map[string]setting)}
	var warnings []Warning
	if src.File != "" {
		w, err := s.loadFile(src.File)
		if err != nil {
			return nil, nil, err
		}
		warnings = w
	}
	w, err := s.loadEnviron(src.Environ)
	if err != nil {
		return nil, nil, err
	}
	warnings = append(warnings, w...)
	for _, o := range src.Overrides {
		name, value, ok := strings.Cut(o, "=")
		if !ok {
			return nil, nil, fmt.Errorf("override %q: want key=value", o)
		}
		if err := s.put(strings.TrimSpace(name), value, SourceOverride); err != nil {
			return nil, nil, fmt.Errorf("override: %w", err)
		}
	}
	for _, name := range s.names() {
		if k, _ := Lookup(KindBroker, name); k.Acted != ActedYes {
			warnings = append(warnings, Warning{name, "klamm does not act on this key yet (" + k.Acted.String() + ")"})
		}
	}
	return s, append(warnings, s.heartbeats()...), nil
}

func (s *Static) names() []string {
	names := make([]string, 0, len(s.set))
	for n := range s.set {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (s *Static) loadFile(name string) (warnings []Warning, err error) {
	// Latin-1, as java.util.Properties reads a stream; ${} is not expanded.
	l := properties.Loader{Encoding: properties.ISO_8859_1, DisableExpansion: true}
	p, err := l.LoadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	for _, key := range p.Keys() {
		v, _ := p.Get(key)
		err := s.put(key, v, SourceFile)
		var u *UnknownKeyError
		switch {
		case errors.As(err, &u) && !u.Typo():
			warnings = append(warnings, Warning{key, u.Error()})
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return warnings, nil
}

func (s *Static) put(name, value string, source Source) error {
	k, ok := Lookup(KindBroker, name)
	if !ok {
		return unknown(KindBroker, name)
	}
	v, err := k.Normalize(value)
	if err != nil {
		return err
	}
	s.set[name] = setting{v, source}
	return nil
}

// Get returns the value of a broker key and where it came from. ok is false if
// the key is unknown or has no value.
func (s *Static) Get(name string) (value string, source Source, ok bool) {
	if v, ok := s.set[name]; ok {
		return v.value, v.source, true
	}
	v, ok := s.fallback(name)
	return v, SourceDefault, ok
}

// fallback returns the default of a key.
func (s *Static) fallback(name string) (string, bool) {
	switch _, ok := s.set["log.dir"]; {
	case name == "log.dirs" && ok:
		return "", false
	}
	if v, ok := ourDefaults[name]; ok {
		return v, true
	}
	k, ok := Lookup(KindBroker, name)
	if !ok || k.Default == nil {
		return "", false
	}
	return *k.Default, true
}

// Explicit reports whether a key was set by any source.
func (s *Static) Explicit(name string) bool {
	_, ok := s.set[name]
	return ok
}

// Str returns the value of a key, "" if it has none.
func (s *Static) Str(name string) string {
	v, _, _ := s.Get(name)
	return v
}

// Long returns the value of a short, int or long key, 0 if it has none. To ask
// for a key of another type is a mistake in the program.
func (s *Static) Long(name string) int64 {
	v, _, ok := s.Get(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("config: %s is no number: %v", name, err))
	}
	return n
}

// Int is Long for keys of type int.
func (s *Static) Int(name string) int { return int(s.Long(name)) }

// Bool returns the value of a boolean key.
func (s *Static) Bool(name string) bool { return s.Str(name) == "true" }

// Double returns the value of a double key, 0 if it has none.
func (s *Static) Double(name string) float64 {
	v, _, ok := s.Get(name)
	if !ok {
		return 0
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil {
		panic(fmt.Sprintf("config: %s is no number: %v", name, err))
	}
	return f
}

// Duration returns the value of a key in milliseconds.
func (s *Static) Duration(name string) time.Duration { return millis(s.Long(name)) }

// List returns the items of a list key.
func (s *Static) List(name string) []string { return splitList(s.Str(name)) }

// Password returns the value of a password key.
func (s *Static) Password(name string) Password { return Password(s.Str(name)) }
