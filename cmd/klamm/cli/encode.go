package cli

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The texts of bytes that are read back as the bytes they were, null included.

// appendJSON appends bytes as JSON that decodeJSON turns back: as they are if
// they are an object, an array, a number or a boolean; else as appendText does.
func appendJSON(b, x []byte) []byte {
	if embeds(x) {
		return append(b, x...)
	}
	return appendText(b, x)
}

// embeds reports whether bytes are JSON that cannot be taken for what stands for
// other bytes: a string, null, or {"base64": ...}.
func embeds(x []byte) bool {
	if len(x) == 0 || x[0] == '"' || x[0] == 'n' || x[0] <= ' ' || x[len(x)-1] <= ' ' || !utf8.Valid(x) || !json.Valid(x) {
		return false
	}
	_, is := base64Object(x)
	return !is
}

// appendText appends bytes as a JSON string, or where they are not UTF-8 as
// {"base64": "..."}; null for nil.
func appendText(b, x []byte) []byte {
	if x != nil && !utf8.Valid(x) {
		return append(base64.StdEncoding.AppendEncode(append(b, `{"base64":"`...), x), `"}`...)
	}
	if x == nil {
		return append(b, "null"...)
	}
	s, _ := json.Marshal(string(x))
	return append(b, s...)
}

// base64Object returns the text of {"base64": "..."}, if x is that.
func base64Object(x []byte) (text string, is bool) {
	if x[0] != '{' {
		return "", false
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(x, &fields) != nil || len(fields) != 1 {
		return "", false
	}
	return text, fields["base64"] != nil && json.Unmarshal(fields["base64"], &text) == nil
}

// decodeJSON returns the bytes that appendJSON and appendText print so.
func decodeJSON(x []byte) ([]byte, error) {
	if !json.Valid(x) {
		return nil, fmt.Errorf("%.100q is no JSON", x)
	}
	switch x[0] {
	case 'n':
		return nil, nil
	case '"':
		var s string
		if err := json.Unmarshal(x, &s); err != nil {
			return nil, err
		}
		return []byte(s), nil
	}
	if text, is := base64Object(x); is {
		return base64.StdEncoding.DecodeString(text)
	}
	return append([]byte{}, x...), nil
}

// bare are the characters of JSON that is neither in quotes nor in brackets.
const bare = "+-.0123456789abcdefghijklmnopqrstuvwxyzE"

// readJSON reads one JSON value, up to where it ends. It is not checked here.
func readJSON(r *bufio.Reader) (b []byte, err error) {
	depth, quoted, escaped := 0, false, false
	for {
		c, err := r.ReadByte()
		if err == io.EOF && depth == 0 && !quoted && len(b) > 0 {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if b = append(b, c); len(b) > maxRecord {
			return b, fmt.Errorf("no end of a JSON value within %d bytes", maxRecord)
		}
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = c == '\\', c != '"'
		case depth == 0 && len(b) > 1 && !strings.ContainsRune(bare, rune(c)):
			return b[:len(b)-1], r.UnreadByte()
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case depth == 0 && !strings.ContainsRune(bare, rune(c)):
			return nil, fmt.Errorf("found %q where JSON should be", c)
		}
		if depth == 0 && !quoted && (c == '"' || c == '}' || c == ']') {
			return b, nil
		}
	}
}

// toTSV escapes what would end a cell or a line of TSV, and what escapes.
var toTSV = strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`)

// appendTSV appends bytes as a cell of TSV, \N for nil.
func appendTSV(b, x []byte) []byte {
	if x == nil {
		return append(b, `\N`...)
	}
	return append(b, toTSV.Replace(string(x))...)
}

// decodeTSV returns the bytes that appendTSV prints so.
func decodeTSV(x []byte) ([]byte, error) {
	if string(x) == `\N` {
		return nil, nil
	}
	out := make([]byte, 0, len(x))
	for i := 0; i < len(x); i++ {
		if x[i] != '\\' {
			out = append(out, x[i])
			continue
		}
		if i++; i == len(x) {
			return nil, errors.New(`a backslash stands at the end`)
		}
		at := strings.IndexByte(`tnr\`, x[i])
		if at < 0 {
			return nil, fmt.Errorf(`unknown escape \%c`, x[i])
		}
		out = append(out, "\t\n\r\\"[at])
	}
	return out, nil
}
