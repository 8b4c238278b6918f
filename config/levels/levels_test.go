package levels_test

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/klamm-io/klamm/config/levels"
)

// TestLevels changes levels by name and looks at what comes through: I is info,
// D debug, W a warning.
func TestLevels(t *testing.T) {
	inner, logs := observer.New(zapcore.DebugLevel)
	core := levels.New(inner, zapcore.InfoLevel)
	_, r := levels.Of(core)
	lg := zap.New(core)
	for _, c := range []struct{ what, name, level, broker, server string }{
		{"as begun", "", "", "IW", "IW"},
		{"one logger is louder", "broker", "DEBUG", "DIW", "DIW"},
		{"the one below is quieter", "broker.server", "WARN", "DIW", "W"},
		{"the root does not reach those that have their own", levels.Root, "ERROR", "DIW", "W"},
		{"one takes the root's again", "broker", "", "", "W"},
		{"both do", "broker.server", "", "", ""},
		{"the root alone", levels.Root, "TRACE", "DIW", "DIW"},
		{"the root keeps its own", levels.Root, "", "DIW", "DIW"},
	} {
		if c.name != "" && !r.Set(c.name, c.level) {
			t.Errorf("%s: refused", c.what)
		}
		for name, want := range map[string]string{"broker": c.broker, "broker.server": c.server} {
			l := lg.Named(name).With(zap.Int("n", 1))
			l.Debug("D")
			l.Info("I")
			l.Warn("W")
			var got strings.Builder
			for _, e := range logs.TakeAll() {
				got.WriteString(e.Message)
			}
			if got.String() != want {
				t.Errorf("%s: %s logs %q, want %q", c.what, name, got.String(), want)
			}
		}
	}
	if r.Set("broker", "LOUD") || r.Set("broker", "info") {
		t.Error("a level that there is not was taken")
	}
	if got := r.Level("broker"); got != "TRACE" {
		t.Errorf("level %s, want TRACE", got)
	}
}

func TestACoreThatIsWrappedKeepsItsLevel(t *testing.T) {
	inner, logs := observer.New(zapcore.WarnLevel)
	core, r := levels.Of(inner)
	if got := r.Level("any"); got != "WARN" {
		t.Errorf("level %s, want WARN", got)
	}
	if again, other := levels.Of(core); again != core || other != r {
		t.Error("a core was wrapped twice")
	}
	zap.New(core).Info("quiet")
	if logs.Len() != 0 {
		t.Error("a line below the level came through")
	}
}
