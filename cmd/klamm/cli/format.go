package cli

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/klamm-io/klamm/client"
)

// formatHelp tells the verbs of -f.
const formatHelp = `Verbs of a FORMAT:
  %t topic   %p partition   %o offset   %e leader epoch   %d timestamp (Unix ms)
  %k key     %K its size    %v value    %V its size       %T size of the topic; the size of null is -1
  %H number of headers      %h{...} what to print of each header, in terms of %k %v %K %V
  %% a percent sign         \n \t \r \\ \xHH as in Go
A verb for bytes takes {hex}, {base64}, {json} or {tsv}, as in %v{json}; %d takes {rfc3339}, {s}, {ms}, or a Go layout {go[2006-01-02]}.
{json} is the JSON that a record holds, a string for other text, {"base64":"..."} for what is no text, and null; {tsv} is text with
\t, \n, \r and \\ for these characters, and \N for null. What is printed of bytes in a format is read in the same one.`

// verb is one piece of a format: a literal, or what to print of a record.
type verb struct {
	literal string
	kind    byte // 0 for a literal
	how     string
	inner   []verb // of %h
}

// parseFormat parses a percent format.
func parseFormat(s string) ([]verb, error) {
	s, err := unescape(s)
	if err != nil {
		return nil, err
	}
	out, rest, err := parseVerbs(s, false)
	if err == nil && rest != "" {
		err = fmt.Errorf("unexpected %q", rest)
	}
	return out, err
}

// parseVerbs parses up to the end, or inside of %h{...} to the closing brace.
func parseVerbs(s string, inner bool) ([]verb, string, error) {
	var out []verb
	literal := strings.Builder{}
	flush := func() {
		if literal.Len() > 0 {
			out = append(out, verb{literal: literal.String()})
			literal.Reset()
		}
	}
	for s != "" {
		switch {
		case inner && s[0] == '}':
			flush()
			return out, s[1:], nil
		case s[0] != '%':
			literal.WriteByte(s[0])
			s = s[1:]
			continue
		case len(s) == 1:
			return nil, "", errors.New("a percent sign stands at the end; write %% for one")
		}
		kind := s[1]
		s = s[2:]
		switch {
		case kind == '%' || kind == '{' || kind == '}':
			literal.WriteByte(kind)
			continue
		case kind == 'h':
			if inner {
				return nil, "", errors.New("%h inside of %h{}")
			}
			if !strings.HasPrefix(s, "{") {
				return nil, "", errors.New("%h needs {...}, such as %h{%k=%v }")
			}
			flush()
			sub, rest, err := parseVerbs(s[1:], true)
			if err != nil {
				return nil, "", err
			}
			out = append(out, verb{kind: kind, inner: sub})
			s = rest
			continue
		case inner && !strings.ContainsRune("kvKV", rune(kind)):
			return nil, "", fmt.Errorf("%%%c inside of %%h{}: only %%k %%v %%K %%V", kind)
		case !strings.ContainsRune("tpoedkvKVTH", rune(kind)):
			return nil, "", fmt.Errorf("unknown verb %%%c", kind)
		}
		flush()
		v := verb{kind: kind}
		if strings.HasPrefix(s, "{") && strings.ContainsRune("kvtd", rune(kind)) {
			end := strings.IndexByte(s, '}')
			if end < 0 {
				return nil, "", fmt.Errorf("%%%c{ has no end", kind)
			}
			v.how, s = s[1:end], s[end+1:]
			if err := v.check(); err != nil {
				return nil, "", err
			}
		}
		out = append(out, v)
	}
	if inner {
		return nil, "", errors.New("%h{ has no end")
	}
	flush()
	return out, "", nil
}

func (v verb) check() error {
	if v.kind == 'd' {
		if v.how == "rfc3339" || v.how == "s" || v.how == "ms" || strings.HasPrefix(v.how, "go[") && strings.HasSuffix(v.how, "]") {
			return nil
		}
		return fmt.Errorf("%%d{%s}: want rfc3339, s, ms or go[LAYOUT]", v.how)
	}
	switch v.how {
	case "hex", "base64", "json", "tsv", "string":
		return nil
	}
	return fmt.Errorf("%%%c{%s}: want hex, base64, json or tsv", v.kind, v.how)
}

// unescape resolves backslashes.
func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", errors.New(`a backslash stands at the end`)
		}
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", errors.New(`\x needs two digits`)
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf(`\x%s: want two hexadecimal digits`, s[i+1:i+3])
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			return "", fmt.Errorf(`unknown escape \%c`, s[i])
		}
	}
	return b.String(), nil
}

// appendRecord appends a record in a format.
func appendRecord(b []byte, f []verb, r *client.Record) []byte {
	for i := range f {
		v := &f[i]
		switch v.kind {
		case 0:
			b = append(b, v.literal...)
		case 't':
			b = appendBytes(b, []byte(r.Topic), v.how)
		case 'T':
			b = strconv.AppendInt(b, int64(len(r.Topic)), 10)
		case 'p':
			b = strconv.AppendInt(b, int64(r.Partition), 10)
		case 'o':
			b = strconv.AppendInt(b, r.Offset, 10)
		case 'e':
			b = strconv.AppendInt(b, int64(r.LeaderEpoch), 10)
		case 'd':
			b = appendTime(b, r.Timestamp, v.how)
		case 'k':
			b = appendBytes(b, r.Key, v.how)
		case 'K':
			b = appendSize(b, r.Key)
		case 'v':
			b = appendBytes(b, r.Value, v.how)
		case 'V':
			b = appendSize(b, r.Value)
		case 'H':
			b = strconv.AppendInt(b, int64(len(r.Headers)), 10)
		case 'h':
			for _, h := range r.Headers {
				b = appendRecord(b, v.inner, &client.Record{Key: []byte(h.Key), Value: h.Value})
			}
		}
	}
	return b
}

// appendSize appends the number of bytes, -1 for null.
func appendSize(b, x []byte) []byte {
	if x == nil {
		return append(b, "-1"...)
	}
	return strconv.AppendInt(b, int64(len(x)), 10)
}

func appendBytes(b, x []byte, how string) []byte {
	switch how {
	case "hex":
		return hex.AppendEncode(b, x)
	case "base64":
		return base64.StdEncoding.AppendEncode(b, x)
	case "json":
		return appendJSON(b, x)
	case "tsv":
		return appendTSV(b, x)
	}
	return append(b, x...)
}

func appendTime(b []byte, t time.Time, how string) []byte {
	switch {
	case how == "rfc3339":
		return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	case how == "s":
		return strconv.AppendInt(b, t.Unix(), 10)
	case strings.HasPrefix(how, "go["):
		return t.UTC().AppendFormat(b, how[3:len(how)-1])
	}
	return strconv.AppendInt(b, t.UnixMilli(), 10)
}

// recordJSON is a record as consume --format json prints it, one a line.
func recordJSON(b []byte, r *client.Record) []byte {
	o := object{{"topic", r.Topic}, {"partition", r.Partition}, {"offset", r.Offset}, {"timestamp", r.Timestamp.UnixMilli()},
		{"key", json.RawMessage(appendText(nil, r.Key))}, {"value", json.RawMessage(appendText(nil, r.Value))}}
	headers := []object{}
	for _, h := range r.Headers {
		headers = append(headers, object{{"key", h.Key}, {"value", json.RawMessage(appendText(nil, h.Value))}})
	}
	o = append(o, field{"headers", headers})
	line, err := o.MarshalJSON()
	if err != nil {
		line, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	return append(append(b, line...), '\n')
}
