package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var isoDuration = regexp.MustCompile(`(?i)^([-+]?)P(?:([-+]?[0-9]+)D)?(T(?:([-+]?[0-9]+)H)?(?:([-+]?[0-9]+)M)?(?:([-+]?[0-9]+(?:[.,][0-9]{0,9})?)S)?)?$`)

// ParseISODuration reads a duration such as P1DT2H3M4.5S, as java.time.Duration
// does. Negative ones are refused: no key takes one.
func ParseISODuration(s string) (time.Duration, error) {
	m := isoDuration.FindStringSubmatch(s)
	if m == nil || m[2] == "" && m[4] == "" && m[5] == "" && m[6] == "" || strings.EqualFold(m[3], "T") {
		return 0, fmt.Errorf("%q is not an ISO 8601 duration such as P1DT12H", s)
	}
	var total float64 // seconds
	for i, unit := range map[int]float64{2: 86400, 4: 3600, 5: 60, 6: 1} {
		if m[i] == "" {
			continue
		}
		f, err := strconv.ParseFloat(strings.Replace(m[i], ",", ".", 1), 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not an ISO 8601 duration: %w", s, err)
		}
		total += f * unit
	}
	if m[1] == "-" {
		total = -total
	}
	if total < 0 {
		return 0, fmt.Errorf("duration %q is negative", s)
	}
	if total >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64, nil
	}
	return time.Duration(total * float64(time.Second)), nil
}
