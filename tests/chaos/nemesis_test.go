package chaos_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/client"
)

// action is what the nemesis does in a step.
type action string

const (
	kill     action = "kill"
	powerOff action = "power off"
	stop     action = "stop"
	pause    action = "pause"
	isolate  action = "isolate"       // both directions, to all other brokers
	mute     action = "mute"          // it hears the others, and they do not hear it
	deafen   action = "deafen"        // they hear it, and it does not hear them
	bridge   action = "bridge"        // it and the next broker do not reach each other; the third reaches both
	slow     action = "slow"          // both directions
	fill     action = "fill"          // its disk
	wipe     action = "kill and wipe" // its disk
	start    action = "start"         // all that do not run
	mend     action = "mend"          // all but what does not run
	settle   action = "settle"        // mend, start, and wait until all replicas are in sync
	wait     action = "wait"
)

// whom names a broker by what it is when the step comes.
type whom string

const (
	leader      whom = "the leader"
	follower    whom = "a follower"
	controller  whom = "the controller"
	coordinator whom = "the coordinator"
	all         whom = "all"
	two         whom = "two"
)

func broker(id int32) whom { return whom(fmt.Sprint("broker ", id)) }

// step is one thing that the nemesis does, and how long it waits after that.
type step struct {
	do   action
	to   whom
	then time.Duration
}

func (s step) String() string {
	out := string(s.do)
	if s.to != "" {
		out += " " + string(s.to)
	}
	if s.then > 0 {
		out += fmt.Sprintf(", %.1f s", s.then.Seconds())
	}
	return out
}

// plan is what the nemesis does in a run.
type plan []step

func (p plan) String() string {
	var b strings.Builder
	for i, s := range p {
		fmt.Fprintf(&b, "  %2d %s\n", i+1, s)
	}
	return b.String()
}

// faster is the plan with waits that are n times shorter.
func (p plan) faster(n time.Duration) (out plan) {
	for _, s := range p {
		s.then /= n
		out = append(out, s)
	}
	return out
}

// nemesis carries out a plan.
type nemesis struct {
	t     testing.TB
	s     system
	l     *load
	a     *client.Admin
	r     *random
	began time.Time
	log   strings.Builder // what it did, and to whom
}

func (n *nemesis) run(p plan) {
	for i, s := range p {
		n.do(i, s)
		time.Sleep(s.then)
	}
}

// targets are the brokers that a step is for, of those that run. It may find none: then there is
// no leader, say, and the step does nothing.
func (n *nemesis) targets(w whom) (out []int32) {
	running := slices.DeleteFunc(slices.Clone(brokers), func(id int32) bool { return !n.s.running(id) })
	var id int32
	switch w {
	case "":
		return nil
	case all:
		return running
	case two:
		n.r.Shuffle(len(running), func(i, j int) { running[i], running[j] = running[j], running[i] })
		return running[:min(2, len(running))]
	case leader:
		id = n.s.leader(n.l.topics[0].name, 0)
	case controller:
		id = n.s.controller()
	case coordinator:
		id = n.s.leader("__consumer_offsets", offsetsPartition(group))
	case follower:
		lead := n.s.leader(n.l.topics[0].name, 0)
		others := slices.DeleteFunc(running, func(id int32) bool { return id == lead })
		if len(others) == 0 {
			return nil
		}
		return []int32{others[n.r.IntN(len(others))]}
	default:
		if _, err := fmt.Sscanf(string(w), "broker %d", &id); err != nil {
			n.t.Fatalf("nobody is called %q", w)
		}
	}
	if slices.Contains(running, id) {
		return []int32{id}
	}
	return nil
}

// offsetsPartition is the partition of a group among the 50 of __consumer_offsets, by the hash
// of a Java string.
func offsetsPartition(group string) int32 {
	h := int32(0)
	for _, c := range []byte(group) {
		h = 31*h + int32(c)
	}
	return h & 0x7fffffff % 50
}

func (n *nemesis) do(i int, s step) {
	n.t.Helper()
	to := n.targets(s.to)
	fmt.Fprintf(&n.log, "%8.3f s: step %d: %s", time.Since(n.began).Seconds(), i+1, s)
	if s.to != "" {
		fmt.Fprintf(&n.log, " (%v)", to)
	}
	n.log.WriteByte('\n')
	switch s.do {
	case wait:
	case mend:
		n.s.mend()
	case start:
		n.start()
	case settle:
		n.settle()
	case powerOff:
		n.s.(disks).powerOff(to...)
	default:
		for _, id := range to {
			n.harm(s.do, id)
		}
	}
}

// harm does something to one broker that runs.
func (n *nemesis) harm(do action, id int32) {
	n.t.Helper()
	others := slices.DeleteFunc(slices.Clone(brokers), func(b int32) bool { return b == id })
	link := func(one func(from, to int32), in, out bool) {
		for _, o := range others {
			if in {
				one(o, id)
			}
			if out {
				one(id, o)
			}
		}
	}
	switch do {
	case kill:
		n.s.kill(id)
	case stop:
		n.s.stop(id)
	case pause:
		n.s.pause(id)
	case isolate:
		link(n.s.cut, true, true)
	case mute:
		link(n.s.cut, false, true)
	case deafen:
		link(n.s.cut, true, false)
	case bridge:
		others = []int32{id%int32(len(brokers)) + 1}
		link(n.s.cut, true, true)
	case slow:
		link(n.s.slow, true, true)
	case fill:
		n.s.(disks).fill(id)
	case wipe:
		n.s.kill(id)
		n.s.(disks).wipe(id)
	default:
		n.t.Fatalf("nobody knows how to %s a broker", do)
	}
}

// start starts the brokers that do not run.
func (n *nemesis) start() {
	n.t.Helper()
	n.s.start(slices.DeleteFunc(slices.Clone(brokers), n.s.running)...)
}

// settle makes all well, and waits until it is.
func (n *nemesis) settle() {
	n.t.Helper()
	n.s.mend()
	n.start()
	n.l.settle(n.a)
	fmt.Fprintf(&n.log, "%8.3f s: all is well\n", time.Since(n.began).Seconds())
}
