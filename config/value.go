package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ErrInvalid means that a value breaks a rule of its key.
var ErrInvalid = errors.New("invalid value")

// InvalidError says why a value breaks a rule of its key, in Kafka's words.
type InvalidError struct {
	Name  string
	Value string // or [hidden]
	Why   string
}

// Error implements error.
func (e *InvalidError) Error() string {
	return fmt.Sprintf("Invalid value %s for configuration %s: %s", e.Value, e.Name, e.Why)
}

// Unwrap returns ErrInvalid.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

// Password is a value that does not show itself.
type Password string

// String returns what Kafka shows in place of a password.
func (Password) String() string { return "[hidden]" }

// GoString hides the password from %#v.
func (Password) GoString() string { return "[hidden]" }

// MarshalText hides the password from encoders.
func (Password) MarshalText() ([]byte, error) { return []byte("[hidden]"), nil }

// Reveal returns the password itself.
func (p Password) Reveal() string { return string(p) }

// Validate reports whether value may be given to a key.
func Validate(kind Kind, name, value string) error {
	k, ok := Lookup(kind, name)
	if !ok {
		return unknown(kind, name)
	}
	return k.Validate(value)
}

// Validate reports whether value may be given to the key. The error names key
// and value, the value of a password left out.
func (k *Key) Validate(value string) error {
	_, err := k.Normalize(value)
	return err
}

// Normalize validates value and returns it in the form in which a broker shows
// it: no blanks around values and list items, numbers as Java prints them.
func (k *Key) Normalize(value string) (string, error) {
	out, err := k.parse(value)
	if err == nil {
		return out, nil
	}
	shown := value
	if k.Sensitive() {
		shown = Password(value).String()
	}
	var item *itemError
	if errors.As(err, &item) {
		shown = item.item
	}
	return "", &InvalidError{k.Name, shown, err.Error()}
}

func (k *Key) parse(value string) (string, error) {
	v := strings.TrimSpace(value)
	c, err := compile(k)
	if err != nil {
		return "", err
	}
	switch k.Type {
	case TypeBoolean:
		b, err := parseBool(v)
		return strconv.FormatBool(b), err
	case TypeInt, TypeShort, TypeLong:
		bits := map[Type]int{TypeShort: 16, TypeInt: 32, TypeLong: 64}[k.Type]
		n, err := strconv.ParseInt(v, 10, bits)
		if err != nil {
			return "", rule("Not a number of type " + strings.ToUpper(k.Type.String()))
		}
		return strconv.FormatInt(n, 10), c.number(float64(n))
	case TypeDouble:
		f, err := strconv.ParseFloat(v, 64)
		// NaN is within all bounds, as none of them is above or below it
		// (ConfigDef.Range).
		if err != nil || math.IsNaN(f) && v != "NaN" || math.IsInf(f, 0) {
			return "", rule("Not a number of type DOUBLE")
		}
		return javaDouble(f), c.number(f)
	case TypeList:
		items := c.distinct(splitList(v))
		return strings.Join(items, ","), c.list(k.Name, items)
	case TypePassword:
		return value, nil
	default:
		return v, c.text(v)
	}
}

func parseBool(v string) (bool, error) {
	switch {
	case strings.EqualFold(v, "true"):
		return true, nil
	case strings.EqualFold(v, "false"):
		return false, nil
	}
	return false, rule("Expected value to be either true or false")
}

// splitList splits at commas, blanks around them dropped.
func splitList(v string) []string {
	if v = strings.TrimSpace(v); v == "" {
		return nil
	}
	items := strings.Split(v, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// javaDouble prints f as java.lang.Double.toString does.
func javaDouble(f float64) string {
	if math.IsNaN(f) {
		return "NaN"
	}
	if a := math.Abs(f); f == 0 || a >= 1e-3 && a < 1e7 {
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	m, e, _ := strings.Cut(strconv.FormatFloat(f, 'E', -1, 64), "E")
	if !strings.Contains(m, ".") {
		m += ".0"
	}
	n, _ := strconv.Atoi(e) // FormatFloat wrote it
	return m + "E" + strconv.Itoa(n)
}

// millis converts milliseconds to a Duration; what does not fit becomes the
// longest one.
func millis(ms int64) time.Duration {
	if ms > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	if ms < math.MinInt64/int64(time.Millisecond) {
		return math.MinInt64
	}
	return time.Duration(ms) * time.Millisecond
}

// seconds converts seconds to a Duration; what does not fit becomes the longest one.
func seconds(n int64) time.Duration {
	if n > math.MaxInt64/int64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Second
}
