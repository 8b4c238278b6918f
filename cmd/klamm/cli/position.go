package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/klamm-io/klamm/client"
)

// span is where a consumer starts and, for a range of times, where it ends.
type span struct {
	from client.Position
	to   *client.Position // nil: no end of its own
	kind boundKind
}

// boundKind says what a position is relative to.
type boundKind uint8

const (
	named    boundKind = iota // start, end or a time: it exists
	atOffset                  // N
	behind                    // +N
	before                    // -N
)

// parseSpan parses start|end|N|+N|-N|@TIMESTAMP[:@TIMESTAMP]: the start, the end,
// an offset, N behind the start, N before the end, or a time.
func parseSpan(s string) (span, error) {
	if strings.HasPrefix(s, "@") {
		from, to, ranged := strings.Cut(s, ":@")
		at, err := parseTime(from[1:])
		if err != nil {
			return span{}, err
		}
		out := span{from: client.AtTime(at)}
		if ranged {
			until, err := parseTime(to)
			if err != nil {
				return span{}, err
			}
			if !until.After(at) {
				return span{}, errors.New("the second time must be after the first")
			}
			end := client.AtTime(until)
			out.to = &end
		}
		return out, nil
	}
	from, err := parseBound(s)
	out := span{from: from}
	if _, e := strconv.ParseInt(s, 10, 64); e == nil {
		switch s[0] {
		case '+':
			out.kind = behind
		case '-':
			out.kind = before
		default:
			out.kind = atOffset
		}
	}
	return out, err
}

// parseBound parses one position.
func parseBound(s string) (client.Position, error) {
	switch {
	case s == "start" || s == "oldest" || s == "earliest":
		return client.AtStart(0), nil
	case s == "end" || s == "newest" || s == "latest":
		return client.AtEnd(0), nil
	case strings.HasPrefix(s, "@"):
		at, err := parseTime(s[1:])
		return client.AtTime(at), err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil || n == math.MinInt64:
		return client.Position{}, errors.New("want start, end, N, +N, -N or @TIMESTAMP")
	case s[0] == '+':
		return client.AtStart(n), nil
	case s[0] == '-':
		return client.AtEnd(-n), nil
	}
	return client.AtOffset(n), nil
}

// layouts are the forms of a time, besides Unix seconds and milliseconds and a
// distance from now such as -1h.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"}

func parseTime(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		if len(s) >= 13 {
			return time.UnixMilli(n), nil
		}
		return time.Unix(n, 0), nil
	}
	if d, err := time.ParseDuration(s); err == nil && (strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+")) {
		return time.Now().Add(d), nil
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: want Unix seconds or milliseconds, 2006-01-02[T15:04[:05]], RFC 3339, or a distance such as -1h", s)
}
