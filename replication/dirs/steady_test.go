package dirs

import (
	"testing"
	"time"
)

func TestSteadyClock(t *testing.T) {
	start := time.UnixMilli(1_700_000_000_000)
	const year = 365 * 24 * time.Hour
	type look struct {
		passed, wall, want time.Duration // since the start; want is the time to go by
	}
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"runs evenly", []look{{time.Minute, time.Minute, time.Minute}, {time.Hour, time.Hour, time.Hour}}},
		{"drifts by a twentieth", []look{{5 * time.Minute, 5*time.Minute + 15*time.Second, 5*time.Minute + 15*time.Second}, {10 * time.Minute, 10*time.Minute + 30*time.Second, 10*time.Minute + 30*time.Second}}},
		{"jumps a year ahead and back", []look{{time.Minute, year, time.Minute}, {10 * time.Minute, year + 9*time.Minute, 10 * time.Minute}, {20 * time.Minute, 20 * time.Minute, 20 * time.Minute}, {2 * time.Hour, 2 * time.Hour, 2 * time.Hour}}},
		{"jumps a year ahead and stays", []look{{time.Minute, year, time.Minute}, {time.Hour, year + time.Hour, time.Hour}, {62 * time.Minute, year + 61*time.Minute, year + 61*time.Minute}, {70 * time.Minute, year + 69*time.Minute, year + 69*time.Minute}}},
		{"goes back an hour", []look{{time.Minute, -time.Hour, -time.Hour}, {2 * time.Minute, -59 * time.Minute, -59 * time.Minute}}},
		{"stands still", []look{{time.Hour, 0, 0}, {2 * time.Hour, 0, 0}}},
	} {
		var s SteadyClock
		s.Now(start, 0)
		for i, l := range c.looks {
			now, ahead := s.Now(start.Add(l.wall), l.passed)
			if got := now.Sub(start); got != l.want || (ahead > 0) != (l.want < l.wall) {
				t.Errorf("%s: look %d: %v, ahead %v, want %v", c.name, i, got, ahead, l.want)
			}
		}
	}
	// After a long absence the clock is not believed at once, after a short one it is.
	for _, away := range []time.Duration{time.Hour, 100 * time.Hour} {
		var s SteadyClock
		s.Before(start, start.Add(away))
		now, ahead := s.Now(start.Add(away+time.Minute), time.Minute)
		long := away > longAbsence
		if (ahead > 0) != long || now.Equal(start.Add(away+time.Minute)) == long {
			t.Errorf("away for %v: %v, ahead %v", away, now.Sub(start), ahead)
		}
		if now, ahead := s.Now(start.Add(away+2*time.Hour), 2*time.Hour); ahead > 0 || !now.Equal(start.Add(away+2*time.Hour)) {
			t.Errorf("away for %v, two hours later: %v, ahead %v", away, now.Sub(start), ahead)
		}
	}
}
