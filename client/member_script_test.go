package client

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/klamm-io/klamm/wire/kerr"
)

var update = flag.Bool("update", false, "write what the commands in testdata print anew")

// TestMemberScripts runs the scripts in testdata/member: one command a line, and
// below ---- what comes of it: what the member has done, and the member (=) where
// it has changed. Each file begins with a new member of group g, unless it only
// has codes. Time stands still but for advance.
//
//	new [instance=i] [auto] [noreset]   another member
//	subscribe t u / assign / close / abort
//	poll / return             the application comes into Poll, or goes on in it; leaves it
//	moved t-0=5               what Poll has returned, to be committed
//	commit t-0=5 / cancel     the application commits; it does not wait any longer
//	seek t-0
//	partitions 3              the topics have so many
//	advance 3s                time passes
//	ok Heartbeat              the answer to it, or to those named, is well
//	fail Heartbeat CODE       it is that code; lost stands for no answer; with partition=t-0 only
//	                          that partition has it
//	codes Heartbeat in stable what becomes of each code that a broker gives, in a member of its
//	                          own with all requests under way, in Poll, and a second after it
func TestMemberScripts(t *testing.T) {
	if *update {
		if err := flag.Set("rewrite", "true"); err != nil {
			t.Fatal(err)
		}
	}
	datadriven.Walk(t, "testdata/member", func(t *testing.T, path string) {
		s := &memberScript{b: newMemberBench(t, memberOptions{reset: true})}
		s.state = s.show()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			s.t, s.b.t, s.pos = t, t, d.Pos
			s.out.Reset()
			for line := range strings.Lines(d.String()) {
				if d.Input != "" {
					fmt.Fprintf(&s.out, "> %s\n", strings.TrimSpace(line))
				}
				s.run(strings.Fields(line))
			}
			return s.out.String()
		})
	})
}

type memberScript struct {
	t     *testing.T
	pos   string
	b     *memberBench
	state string // as it was shown last
	out   strings.Builder
}

// brokerCodes are the codes that brokers and the client's connections give.
var brokerCodes = map[string][]kerr.Code{
	"FindCoordinator": {kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.GroupAuthorizationFailed, kerr.InvalidGroupId, kerr.InvalidRequest, kerr.UnknownServerError},
	"JoinGroup": {kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnknownMemberId, kerr.MemberIdRequired, kerr.RebalanceInProgress, kerr.IllegalGeneration,
		kerr.FencedInstanceId, kerr.InconsistentGroupProtocol, kerr.InvalidSessionTimeout, kerr.InvalidGroupId, kerr.GroupAuthorizationFailed, kerr.GroupMaxSizeReached, kerr.UnsupportedVersion, kerr.UnknownServerError},
	"SyncGroup": {kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnknownMemberId, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.FencedInstanceId,
		kerr.InconsistentGroupProtocol, kerr.InvalidGroupId, kerr.GroupAuthorizationFailed, kerr.UnknownServerError},
	"Heartbeat": {kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnknownMemberId, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.FencedInstanceId,
		kerr.InvalidGroupId, kerr.GroupAuthorizationFailed, kerr.UnknownServerError},
	"OffsetCommit": {kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.RequestTimedOut, kerr.UnknownMemberId, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.FencedInstanceId,
		kerr.UnknownTopicOrPartition, kerr.OffsetMetadataTooLarge, kerr.InvalidCommitOffsetSize, kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.InvalidGroupId, kerr.UnknownServerError},
	"OffsetFetch": {kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnstableOffsetCommit, kerr.UnknownTopicOrPartition, kerr.UnknownMemberId, kerr.StaleMemberEpoch,
		kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.InvalidGroupId, kerr.UnknownServerError},
	"LeaveGroup": {kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.UnknownMemberId, kerr.FencedInstanceId, kerr.GroupAuthorizationFailed, kerr.UnknownServerError},
	"share":      {kerr.InconsistentGroupProtocol, kerr.UnknownServerError},
}

func (s *memberScript) run(words []string) {
	b := s.b
	b.done = nil
	var plain []string
	args := map[string]string{}
	offsets := map[TopicPartition]Offset{}
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		switch at, err := strconv.ParseInt(value, 10, 64); {
		case ok && err == nil:
			offsets[s.partition(key)] = Offset{At: at}
		case ok:
			args[key] = value
		default:
			plain = append(plain, w)
		}
	}
	switch words[0] {
	case "new":
		*b = *newMemberBench(s.t, memberOptions{instance: args["instance"], auto: slices.Contains(plain, "auto"), reset: !slices.Contains(plain, "noreset")})
	case "subscribe":
		b.subscribe(plain...)
	case "assign":
		b.assign()
	case "close":
		b.close()
	case "abort":
		b.abort()
	case "poll":
		b.poll()
	case "return":
		b.finish()
	case "moved":
		b.moved = offsets
	case "commit":
		b.waiters++
		b.waiting[b.waiters] = true
		b.do("commit", func() { b.m.commit(b.now, b.waiters, offsets) })
	case "cancel":
		b.cancel()
	case "seek":
		b.seek(s.partition(plain[0]))
	case "partitions":
		n, err := strconv.Atoi(plain[0])
		if err != nil {
			s.t.Fatalf("%s: %v", s.pos, err)
		}
		b.repartition(int32(n))
	case "advance":
		s.advance(s.duration(plain[0]))
		b.done = nil
	case "ok":
		for _, kind := range plain {
			b.answer(b.next(kind), nil)
			s.actions("")
		}
		b.done = nil
	case "fail":
		err := s.fault(plain[1])
		if of := args["partition"]; of != "" {
			b.partly(b.next(plain[0]), err)
		} else {
			b.answer(b.next(plain[0]), err)
		}
	case "codes":
		s.codes(plain[0], plain[2])
		return
	default:
		s.t.Fatalf("%s: %v", s.pos, words)
	}
	s.actions("")
	if now := s.show(); now != s.state {
		s.state = now
		s.out.WriteString(now + "\n")
	}
}

func (s *memberScript) partition(word string) TopicPartition {
	topic, n, _ := strings.Cut(word, "-")
	i, err := strconv.Atoi(n)
	if err != nil {
		s.t.Fatalf("%s: %s: %v", s.pos, word, err)
	}
	return TopicPartition{topic, int32(i)}
}

func (s *memberScript) duration(word string) time.Duration {
	d, err := time.ParseDuration(word)
	if err != nil {
		s.t.Fatalf("%s: %v", s.pos, err)
	}
	return d
}

func (s *memberScript) fault(word string) error {
	if word == "lost" {
		return errLost
	}
	code, ok := kerr.ByName(word)
	if !ok {
		s.t.Fatalf("%s: no code %s", s.pos, word)
	}
	return code
}

// actions prints what the last event has done.
func (s *memberScript) actions(indent string) {
	for _, a := range s.b.done {
		fmt.Fprintf(&s.out, "%s%s\n", indent, show(a))
	}
}

// advance prints what is done at each deadline.
func (s *memberScript) advance(d time.Duration) {
	b := s.b
	began, end := b.now, b.now.Add(d)
	for {
		at := b.m.deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		b.advance(at.Sub(b.now))
		if len(b.done) > 0 {
			s.actions(fmt.Sprintf("+%v ", b.now.Sub(began)))
		}
	}
	b.now = end
}

// show is the member's state in a line.
func (s *memberScript) show() string {
	m := s.b.m
	line := "= " + m.state.String()
	if m.who.member != "" {
		line += " as " + m.who.member
	}
	if m.who.generation >= 0 {
		line += fmt.Sprintf(" in %d", m.who.generation)
	}
	if m.coordinator >= 0 {
		line += fmt.Sprintf(", coordinator %d", m.coordinator)
	}
	if len(m.unplaced) > 0 {
		line += fmt.Sprintf(", %d partitions to begin", len(m.unplaced))
	}
	if len(m.errands) > 0 {
		line += fmt.Sprintf(", %d errands", len(m.errands))
	}
	return line
}

// codes prints what becomes of each code that an answer can carry; codes of the
// same outcome together.
func (s *memberScript) codes(kind, state string) {
	was := s.b
	var order []string
	groups := map[string][]string{}
	var faults []error
	for _, c := range brokerCodes[kind] {
		faults = append(faults, c)
	}
	for _, err := range append(faults, errLost) {
		b := newMemberBench(s.t, memberOptions{auto: true, reset: true})
		s.b = b
		i := slices.IndexFunc(allStates, func(x memberState) bool { return x.String() == state })
		if i < 0 {
			s.t.Fatalf("%s: no state %s", s.pos, state)
		}
		b.reach(allStates[i])
		a := b.late[kind]
		if a == nil {
			s.t.Fatalf("%s: no %s was sent before %s", s.pos, kind, state)
		}
		before := s.show()
		mark := s.out.Len()
		b.answer(a, err)
		s.actions("    ")
		if now := s.show(); now != before {
			fmt.Fprintf(&s.out, "    %s\n", now)
		}
		if s.out.Len() > mark && b.m.state < memberClosing {
			if b.m.polling {
				b.poll() // what wakes Poll comes here
				s.actions("    in Poll ")
			}
			s.advance(time.Second)
		}
		all := s.out.String()
		outcome := all[mark:]
		s.out.Reset()
		s.out.WriteString(all[:mark])
		outcome = strings.ReplaceAll(outcome, err.Error(), "<error>")
		outcome = strings.ReplaceAll(outcome, "+", "    +")
		outcome = cmp.Or(outcome, "    nothing\n")
		if groups[outcome] == nil {
			order = append(order, outcome)
		}
		groups[outcome] = append(groups[outcome], errorName(err))
	}
	for _, outcome := range order {
		fmt.Fprintf(&s.out, "%s\n%s", strings.Join(groups[outcome], " "), outcome)
	}
	s.b = was
}
