package client

import (
	"errors"
	"testing"
	"time"
)

// TestHealth goes through what a broker's connections can teach, and what follows.
func TestHealth(t *testing.T) {
	zero := time.Unix(1000, 0)
	at := func(s int) time.Time { return zero.Add(time.Duration(s) * time.Second) }
	why := errors.New("refused")
	double := func(n int) time.Duration { return time.Duration(n) * time.Second }
	type event func(h *health)
	greeted := func(s int) event { return func(h *health) { h.greeted(at(s)) } }
	answered := func(s int) event { return func(h *health) { h.answered(at(s)) } }
	failed := func(s int) event { return func(h *health) { h.fail(at(s), why, double) } }
	ended := func(s int) event { return func(h *health) { h.fail(at(s), why, nil) } }
	for _, c := range []struct {
		name   string
		events []event
		want   standing
		fails  int
		until  int // no dial before
	}{
		{"nothing was heard", nil, isUntried, 0, 0},
		{"it took a connection", []event{greeted(1)}, isAnswering, 0, 0},
		{"a dial failed", []event{failed(1)}, isLostNow, 1, 2},
		{"pauses grow", []event{failed(1), failed(2), failed(4)}, isLostNow, 3, 7},
		{"a connection that lived ends: lost, and no pause", []event{greeted(1), answered(2), ended(9)}, isLostNow, 0, 0},
		{"it is back, and has answered nothing yet", []event{failed(1), greeted(2)}, isDoubtful, 1, 2},
		{"it answers again, though the next failure is one more", []event{failed(1), greeted(2), answered(3)}, isAnswering, 1, 2},
		{"each connection ends soon: answers between do not shorten the pause", []event{failed(1), greeted(2), answered(2), failed(3), greeted(5), answered(5), failed(6)}, isLostNow, 3, 9},
		{"a connection lived between failures: the pauses start again", []event{failed(1), failed(2), greeted(4), answered(5), ended(90), failed(91)}, isLostNow, 1, 92},
		{"news of an answer from before the failure comes late", []event{greeted(1), failed(5), answered(4)}, isLostNow, 1, 6},
		{"and a late greeting", []event{failed(5), greeted(4)}, isLostNow, 1, 6},
	} {
		var h health
		for _, e := range c.events {
			e(&h)
		}
		if h.standing() != c.want || h.fails != c.fails {
			t.Errorf("%s: standing %d, %d failures, want %d, %d", c.name, h.standing(), h.fails, c.want, c.fails)
		}
		if (h.why != nil) != (c.want == isLostNow) {
			t.Errorf("%s: the reason is %v", c.name, h.why)
		}
		if c.until == 0 && !h.until.IsZero() || c.until > 0 && !h.until.Equal(at(c.until)) {
			t.Errorf("%s: no dial before %v, want second %d", c.name, h.until, c.until)
		}
	}
}

// TestSilentSince: silence is about all that was heard, in whatever order it is told.
func TestSilentSince(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	var h health
	if !h.silentSince(at(1)) {
		t.Error("a broker that was never heard is not silent")
	}
	h.greeted(at(3))
	h.answered(at(7))
	h.answered(at(5)) // of another connection
	if h.silentSince(at(6)) || !h.silentSince(at(7)) {
		t.Errorf("heard last at %v", h.heard)
	}
}
