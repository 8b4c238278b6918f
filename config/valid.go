package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// constraint is a compiled Key.Valid. The zero value allows everything.
type constraint struct {
	ranged   bool
	min, max *float64
	or       *float64 // also allowed, outside the range

	choices    []string // of a string, or of each list item
	fold       bool     // choices in any case
	byDuration bool     // also by_duration:<ISO 8601 duration>

	notEmpty   bool     // string or list
	noRepeat   bool     // list items differ: what comes again is dropped, and none is empty
	throttled  bool     // partition:broker pairs, or *
	clientKeys []string // items are key=regex of these keys
}

// compile reads Kafka's words for the values that a key allows.
func compile(k *Key) (c constraint, err error) {
	v := k.Valid
	switch {
	case v == "", v == "non-null string", v == "prefixes of metric names":
		return c, nil
	case v == "non-empty string", v == "non-empty list":
		// Kafka's non-empty list means only that null is refused; the default
		// of such a key is the empty list.
		c.notEmpty = v == "non-empty string"
		return c, nil
	case strings.HasPrefix(v, "[partitionId]"):
		c.throttled = true
		return c, nil
	case strings.HasPrefix(v, "key=regex, keys: "):
		c.clientKeys = strings.Fields(strings.TrimPrefix(v, "key=regex, keys: "))
		return c, nil
	case strings.Contains(v, ",...") && k.Type != TypeList:
		return c, c.compileRange(v)
	}
	head, rest, _ := strings.Cut(v, "; ")
	for _, word := range strings.Split(rest, "; ") {
		switch word {
		case "", "may be empty", "may be null":
		case "not empty":
			c.notEmpty = true
		default:
			return c, fmt.Errorf("%s: cannot read %q of %q", k.Name, word, v)
		}
	}
	if head, c.noRepeat = strings.CutSuffix(head, ", no duplicates"); head == "any values" {
		return c, nil
	}
	head, c.fold = strings.CutPrefix(head, "(case insensitive) ")
	head = strings.TrimPrefix(head, "values of ")
	list, ok := strings.CutPrefix(head, "[")
	if list, ok2 := strings.CutSuffix(list, "]"); ok && ok2 {
		c.choices = splitList(list)
	} else {
		return c, fmt.Errorf("%s: cannot read %q", k.Name, v)
	}
	if i := slices.Index(c.choices, "by_duration:PnDTnHnMn.nS"); i >= 0 {
		c.choices, c.byDuration = slices.Delete(c.choices, i, i+1), true
	}
	if d := k.Default; d != nil && len(c.choices) > 0 && k.Type == TypeString && !slices.Contains(c.choices, *d) {
		c.fold = true // share.acquire.mode: the default is in the other case
	}
	return c, nil
}

// compileRange reads "[a,...]", "[a,...,b]" and "[a,...,b] or c".
func (c *constraint) compileRange(v string) error {
	v, or, hasOr := strings.Cut(v, " or ")
	parts := strings.Split(strings.Trim(v, "[]"), ",...")
	if len(parts) != 2 {
		return fmt.Errorf("cannot read range %q", v)
	}
	c.ranged = true
	read := func(s string) (*float64, error) {
		f, err := strconv.ParseFloat(s, 64)
		return &f, err
	}
	var err, err2, err3 error
	c.min, err = read(parts[0])
	if parts[1] != "" {
		c.max, err2 = read(strings.TrimPrefix(parts[1], ","))
	}
	if hasOr {
		c.or, err3 = read(or)
	}
	return errors.Join(err, err2, err3)
}

// rule is the rule that a value breaks, in Kafka's words: clients are sent them.
type rule string

func (r rule) Error() string { return string(r) }

func (c *constraint) number(f float64) error {
	switch {
	case !c.ranged, c.or != nil && f == *c.or:
		return nil
	case f < *c.min:
		return rule("Value must be at least " + strconv.FormatFloat(*c.min, 'f', -1, 64))
	case c.max != nil && f > *c.max:
		return rule("Value must be no more than " + strconv.FormatFloat(*c.max, 'f', -1, 64))
	}
	return nil
}

func (c *constraint) text(v string) error {
	if v == "" && c.notEmpty {
		return rule("String must be non-empty")
	}
	if c.choices == nil || slices.Contains(c.choices, v) {
		return nil
	}
	if c.fold && slices.ContainsFunc(c.choices, func(s string) bool { return strings.EqualFold(s, v) }) {
		return nil
	}
	if d, ok := strings.CutPrefix(v, "by_duration:"); ok && c.byDuration {
		_, err := ParseISODuration(d)
		return err
	}
	return rule("String must be one of: " + strings.Join(c.choices, ", "))
}

var throttledPair = regexp.MustCompile(`^[0-9]+:[0-9]+$`)

// distinct drops list items that came before, if they may not come twice
// (ConfigDef.parseValue).
func (c *constraint) distinct(items []string) []string {
	if !c.noRepeat {
		return items
	}
	var out []string
	for _, item := range items {
		if !slices.Contains(out, item) {
			out = append(out, item)
		}
	}
	return out
}

// itemError is what is wrong with one item of a list, or with more of it.
type itemError struct{ item, why string }

func (e *itemError) Error() string { return e.why }

func (c *constraint) list(name string, items []string) error {
	if len(items) == 0 && c.notEmpty {
		return errors.New("must not be empty")
	}
	if c.throttled && len(items) == 1 && items[0] == "*" {
		return nil
	}
	for _, item := range items {
		switch {
		case c.throttled && !throttledPair.MatchString(item):
			return &itemError{"[" + strings.Join(items, ", ") + "]", name + " must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."}
		case c.noRepeat && item == "":
			return errors.New("an item is empty")
		case c.choices != nil && !slices.Contains(c.choices, item):
			return &itemError{item, "String must be one of: " + strings.Join(c.choices, ", ")}
		case c.clientKeys != nil:
			if err := c.clientMatch(item); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *constraint) clientMatch(item string) error {
	key, pattern, ok := strings.Cut(item, "=")
	if !ok || !slices.Contains(c.clientKeys, strings.TrimSpace(key)) {
		return fmt.Errorf("%q does not begin with one of %s and =", item, strings.Join(c.clientKeys, ", "))
	}
	if _, err := regexp.Compile(strings.TrimSpace(pattern)); err != nil {
		return fmt.Errorf("pattern of %s: %w", key, err)
	}
	return nil
}
