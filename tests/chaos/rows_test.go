package chaos_test

import "time"

// row is a row of the failure matrix: a kind of fault, and when it comes.
type row struct {
	name   string
	about  string
	rounds int // 0 means 3
	round  func(r *random) plan
	// config is that of the brokers, beside what all runs have.
	config map[string]string
	// loses are topics without flush.messages=1 when all power is lost: they may lose what was
	// acknowledged, and the committed offsets may go back.
	loses bool
	fills bool // disks run full
	storm int  // producers more than usual
	alone bool // is for disks in memory only
	links bool // needs links that can be cut
	// foreign are the clients of other languages that produce too.
	foreign []string
}

// seconds is a random time.
func seconds(r *random, from, to float64) time.Duration {
	return time.Duration((from + r.Float64()*(to-from)) * float64(time.Second))
}

// once is a round of one fault: it comes, and lasts, and goes.
func once(do action, to whom, from, upTo float64) func(r *random) plan {
	return func(r *random) plan {
		return plan{{do, to, seconds(r, from, upTo)}, {settle, "", seconds(r, 0.5, 3)}}
	}
}

// sessionTimeout is broker.session.timeout.ms, in seconds.
const sessionTimeout = 9

var rows = []row{
	{name: "F1", about: "the leader is killed under load", rounds: 5, round: once(kill, leader, 0, 12)},
	{name: "F2", about: "a follower is killed under load", round: once(kill, follower, 0, 12)},
	{name: "F3", about: "the active controller is killed", round: once(kill, controller, 0, 12)},
	{name: "F5", about: "the group's coordinator is killed", round: once(kill, coordinator, 0, 12)},
	{name: "F6", about: "all are killed at once", round: once(kill, all, 0, 5)},
	{name: "F7", about: "one loses power", rounds: 4, alone: true, round: func(r *random) plan {
		return once(powerOff, []whom{leader, follower, controller}[r.IntN(3)], 0, 12)(r)
	}},
	{name: "F8-flushed", about: "all lose power, and every topic has flush.messages=1", alone: true,
		config: map[string]string{"log.flush.interval.messages": "1"}, round: once(powerOff, all, 0, 5)},
	{name: "F8", about: "all lose power, and only one topic has flush.messages=1", alone: true, loses: true, round: once(powerOff, all, 0, 5)},
	{name: "F10", about: "the leader is paused for two sessions", rounds: 2, round: once(pause, leader, 1.5*sessionTimeout, 2.5*sessionTimeout)},
	{name: "F12", about: "a broker is cut off from the others", links: true, round: func(r *random) plan {
		return once(isolate, []whom{leader, controller, follower}[r.IntN(3)], 1, 20)(r)
	}},
	{name: "F13", about: "a broker is cut off in one direction", links: true, round: func(r *random) plan {
		return once([]action{mute, deafen}[r.IntN(2)], []whom{leader, controller, follower}[r.IntN(3)], 1, 40)(r)
	}},
	{name: "F14", about: "two brokers do not reach each other, the third reaches both", links: true, round: func(r *random) plan {
		return once(bridge, []whom{leader, controller, follower}[r.IntN(3)], 1, 30)(r)
	}},
	{name: "F16", about: "a follower has a slow link", links: true, rounds: 2, round: once(slow, follower, 20, 45)},
	{name: "F20", about: "a disk is full", alone: true, fills: true, round: func(r *random) plan {
		to := broker(1 + r.Int32N(3))
		return plan{{fill, to, seconds(r, 1, 10)}, {kill, to, seconds(r, 0, 2)}, {settle, "", seconds(r, 0.5, 3)}}
	}},
	{name: "F30", about: "each broker is stopped and started, one after the other", round: func(r *random) (p plan) {
		for _, i := range r.Perm(len(brokers)) {
			p = append(p, step{stop, broker(brokers[i]), seconds(r, 0, 3)}, step{settle, "", seconds(r, 0, 1)})
		}
		return p
	}},
	{name: "F33", about: "a broker comes back with an empty disk", alone: true, round: func(r *random) plan {
		return once(wipe, []whom{leader, follower}[r.IntN(2)], 0, 12)(r)
	}},
	{name: "F34", about: "two of three are dead", round: once(kill, two, 1, 15)},
	{name: "F42", about: "many producers try again at once when the leader moves", storm: 60, rounds: 2, round: once(kill, leader, 1, 5)},
	{name: "mix", about: "faults of every kind, some before the one before has gone", links: true, rounds: 6, round: func(r *random) (p plan) {
		for range 1 + r.IntN(3) {
			do := []action{kill, stop, pause, isolate, mute, deafen, bridge, slow}[r.IntN(8)]
			to := []whom{leader, follower, controller, coordinator, broker(1 + r.Int32N(3))}[r.IntN(5)]
			p = append(p, step{do, to, seconds(r, 0, 8)})
			switch r.IntN(3) {
			case 0:
				p = append(p, step{mend, "", seconds(r, 0, 2)})
			case 1:
				p = append(p, step{mend, "", 0}, step{start, "", seconds(r, 0, 2)})
			}
		}
		return append(p, step{settle, "", seconds(r, 0, 3)})
	}},
}

// plan is what the nemesis does in a run of a seed.
func (w row) plan(seed uint64) (p plan) {
	r := stream(seed, "plan of "+w.name)
	n := w.rounds
	if n == 0 {
		n = 3
	}
	if *many > 0 {
		n = *many
	}
	for range n {
		p = append(p, w.round(r)...)
	}
	return p
}
