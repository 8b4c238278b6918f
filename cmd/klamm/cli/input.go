package cli

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/klamm-io/klamm/client"
)

// input reads records in a percent format: a verb takes what stands before the
// literal behind it, or as many bytes as a %K or %V before it said; JSON ends
// where it ends. A format that ends with a verb has one record a line.
type input struct {
	r     *bufio.Reader
	verbs []verb
	n     int // records read
	bytes int64
	null  bool // the last record says that its value is null
}

// maxRecord bounds what is read for one verb.
const maxRecord = 100 << 20

func newInput(r io.Reader, format string) (*input, error) {
	verbs, err := parseFormat(format)
	if err != nil {
		return nil, err
	}
	if n := len(verbs); n == 0 || verbs[n-1].kind != 0 {
		verbs = append(verbs, verb{literal: "\n"})
	}
	if err := checkInput(verbs); err != nil {
		return nil, err
	}
	return &input{r: bufio.NewReaderSize(r, 64<<10), verbs: verbs}, nil
}

func checkInput(verbs []verb) error {
	sized := make(map[byte]bool)
	for i, v := range verbs {
		switch v.kind {
		case 'K', 'V', 'H':
			sized[v.kind] = true
		case 'o', 'e', 'T':
			return fmt.Errorf("%%%c cannot be read: a broker gives it", v.kind)
		case 'h':
			if !sized['H'] {
				return errors.New("%h{} can be read only behind their number %H")
			}
			if err := checkInput(v.inner); err != nil {
				return err
			}
		}
		if v.kind == 0 || v.kind == 'h' {
			continue
		}
		if v.how == "json" {
			if i+1 == len(verbs) || verbs[i+1].kind != 0 || strings.ContainsRune(bare, rune(verbs[i+1].literal[0])) {
				return fmt.Errorf("%%%c{json} needs a separator behind it that is no part of a number or word, such as a blank", v.kind)
			}
			continue
		}
		if bytesVerb := v.kind == 'k' || v.kind == 'v'; bytesVerb && sized[v.kind-32] {
			if v.how == "tsv" {
				return fmt.Errorf("%%%c{tsv} has no size: it ends at a separator", v.kind)
			}
			continue
		}
		if i+1 == len(verbs) || verbs[i+1].kind != 0 {
			return fmt.Errorf("%%%c needs a separator behind it, such as a blank, or its size before", v.kind)
		}
	}
	return nil
}

// next fills r with the next record. io.EOF means that there is none.
func (in *input) next(r *client.Record) error {
	if _, err := in.r.Peek(1); err != nil {
		return err
	}
	in.n++
	in.null = false
	if err := in.read(in.verbs, r, true); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("record %d of the input: %w", in.n, err)
	}
	return nil
}

func (in *input) read(verbs []verb, r *client.Record, outer bool) error {
	sizes := make(map[byte]int) // -1 for null
	for i := 0; i < len(verbs); i++ {
		v := verbs[i]
		if v.kind == 0 {
			if err := in.literal(v.literal, outer && i == len(verbs)-1); err != nil {
				return err
			}
			continue
		}
		if v.kind == 'h' {
			for range sizes['H'] {
				var h client.Record
				if err := in.read(v.inner, &h, false); err != nil {
					return err
				}
				r.Headers = append(r.Headers, client.Header{Key: string(h.Key), Value: h.Value})
			}
			continue
		}
		text, err := in.piece(verbs, &i, sizes)
		if err != nil {
			return err
		}
		if err := in.store(v, text, r, sizes); err != nil {
			return err
		}
		if outer && (v.kind == 'v' || v.kind == 'V') {
			in.null = r.Value == nil
		}
	}
	return nil
}

// piece reads what a verb takes. Where a literal ends it, that is read too.
func (in *input) piece(verbs []verb, i *int, sizes map[byte]int) ([]byte, error) {
	kind, how := verbs[*i].kind, verbs[*i].how
	if kind == 'k' || kind == 'v' || kind == 't' {
		if how == "json" {
			b, err := readJSON(in.r)
			in.bytes += int64(len(b))
			return b, err
		}
		if n, ok := sizes[kind-32]; ok && kind != 't' {
			switch how {
			case "hex":
				n = hex.EncodedLen(max(n, 0))
			case "base64":
				n = base64.StdEncoding.EncodedLen(max(n, 0))
			}
			b := make([]byte, max(n, 0))
			got, err := io.ReadFull(in.r, b)
			in.bytes += int64(got)
			return b, err
		}
	}
	last := *i+1 == len(verbs)-1
	end := []byte(verbs[*i+1].literal)
	*i++
	var b []byte
	for {
		part, err := in.r.ReadSlice(end[len(end)-1])
		b = append(b, part...)
		in.bytes += int64(len(part))
		switch {
		case bytes.HasSuffix(b, end):
			return b[:len(b)-len(end)], nil
		case len(b) > maxRecord:
			return nil, fmt.Errorf("no %q within %d bytes", end, maxRecord)
		case err == io.EOF && last && string(end) == "\n":
			return b, nil // the last line need not end
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

func (in *input) literal(s string, last bool) error {
	b := make([]byte, len(s))
	n, err := io.ReadFull(in.r, b)
	in.bytes += int64(n)
	if err != nil && last && s == "\n" && n == 0 {
		return nil
	}
	if err == nil && string(b) != s {
		err = fmt.Errorf("found %q where the format has %q", b, s)
	}
	return err
}

func (in *input) store(v verb, text []byte, r *client.Record, sizes map[byte]int) error {
	number := func() (int64, error) {
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%%%c: %q is no number", v.kind, text)
		}
		return n, nil
	}
	var err error
	switch v.kind {
	case 'k', 'v':
		if text, err = decodeText(text, v.how); err != nil {
			return fmt.Errorf("%%%c: %w", v.kind, err)
		}
		if n, ok := sizes[v.kind-32]; ok && n < 0 {
			text = nil
		}
		if v.kind == 'k' {
			r.Key = text
		} else {
			r.Value = text
		}
	case 't':
		if text, err = decodeText(text, v.how); err != nil {
			return fmt.Errorf("%%t: %w", err)
		}
		r.Topic = string(text)
	case 'p':
		n, err := number()
		if err != nil {
			return err
		}
		r.Partition, r.Explicit = int32(n), true
	case 'd':
		if r.Timestamp, err = parseTime(string(text)); err != nil {
			return err
		}
	case 'K', 'V', 'H':
		n, err := number()
		if err != nil {
			return err
		}
		if n < -1 || n < 0 && v.kind == 'H' || n > maxRecord {
			return fmt.Errorf("%%%c: size %d out of range", v.kind, n)
		}
		sizes[v.kind] = int(n)
		if n == -1 { // the size may stand behind what it is of
			return setNull(v.kind, r)
		}
	}
	return nil
}

// setNull makes the key (K) or the value (V) null, if nothing else was read of it.
func setNull(kind byte, r *client.Record) error {
	b := &r.Key
	if kind == 'V' {
		b = &r.Value
	}
	if len(*b) > 0 {
		return fmt.Errorf("%%%c: size -1 of %d bytes", kind, len(*b))
	}
	*b = nil
	return nil
}

// decodeText returns the bytes that a text stands for, nil for null.
func decodeText(b []byte, how string) ([]byte, error) {
	switch how {
	case "hex":
		return hex.DecodeString(string(b))
	case "base64":
		return base64.StdEncoding.DecodeString(string(b))
	case "json":
		return decodeJSON(b)
	case "tsv":
		return decodeTSV(b)
	}
	return append([]byte{}, b...), nil
}

// timestamp parses --timestamp.
func timestamp(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	return parseTime(strings.TrimPrefix(s, "@"))
}
