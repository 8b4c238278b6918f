package dirs

import "time"

// SteadyClock has the time for what must not be done too early, such as
// removing old records. A clock that jumps ahead is not followed until it has
// run evenly for a while: records would look old that are not. The zero value is
// ready; it is owned by one goroutine.
type SteadyClock struct {
	wall   time.Time     // as the clock showed it at the last call that was believed
	at     time.Duration // what had passed then
	jumped time.Duration // what had passed when the clock was first seen ahead; 0 if it is not
}

const (
	// jumpTolerance is how much a clock may gain between two calls: for drift,
	// and for corrections as they are usual.
	jumpTolerance = time.Minute
	// longAbsence is how long a broker may have been away for its clock to be
	// believed at once when it comes back.
	longAbsence = 24 * time.Hour
	// jumpHold is how long a clock must run evenly after a jump to be believed.
	jumpHold = time.Hour
)

// Before takes when the clock was last known to be right, before the start; it
// shows wall now. A broker that was away for long cannot tell that from a clock
// that is wrong.
func (s *SteadyClock) Before(known, wall time.Time) {
	if wall.Sub(known) > longAbsence {
		s.wall = known.Round(0)
	}
}

// Now returns the time to go by when the clock shows wall and passed has passed
// since the start, as a clock that cannot be set has counted it. ahead is by how
// much wall is ahead of what that says.
func (s *SteadyClock) Now(wall time.Time, passed time.Duration) (now time.Time, ahead time.Duration) {
	wall = wall.Round(0)
	if !s.wall.IsZero() {
		expected := s.wall.Add(passed - s.at)
		if ahead = wall.Sub(expected); ahead > jumpTolerance {
			if s.jumped == 0 {
				s.jumped = passed
			}
			if passed-s.jumped < jumpHold {
				return expected, ahead
			}
		}
	}
	s.wall, s.at, s.jumped = wall, passed, 0
	return wall, 0
}
