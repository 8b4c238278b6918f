package cli

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/wire/msg"
)

// dumpFlags are those of log dump.
type dumpFlags struct {
	records bool
	from    int64
	count   int
}

func newLog(g *globals) *cobra.Command {
	return group("log", "Look into the files of a broker, check and repair them", newLogDump(g), newLogVerify(g), newLogRepair(g))
}

func newLogDump(g *globals) *cobra.Command {
	var f dumpFlags
	cmd := &cobra.Command{
		Use: "dump FILE...", Short: "Print files of a log directory; no broker is needed",
		Long: `Print files of a log directory, of klamm's or of Kafka's, by what their names say that they are:

  .log, .checkpoint     one row a batch; with --records one row a record. The records of __consumer_offsets, __transaction_state,
                        __share_group_state and __cluster_metadata, and control records, are decoded
  .index, .timeindex    one row an entry, checked against the .log beside it
  .txnindex             one row an aborted transaction
  .snapshot             one row an idempotent producer
  leader-epoch-checkpoint, *-checkpoint, partition.metadata, meta.properties, quorum-state, .kafka_cleanshutdown

Positions and sizes are in bytes, timestamps in Unix milliseconds. Bytes that are no text are printed as base64:...

If a file is corrupt, what stands before is printed, stderr names the file and the byte, and the exit code is 1.`,
		Example: `  klamm log dump data/orders-0/00000000000000000000.log
  klamm log dump --records --format json data/__consumer_offsets-12/*.log
  klamm log dump data/orders-0/*`,
		Args: atLeast(1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, g, args) },
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.records, "records", "r", false, "one row a record instead of one a batch")
	fl.Int64Var(&f.from, "from", 0, "leave out what ends before this offset")
	fl.IntVarP(&f.count, "count", "n", 0, "print at most so many batches or records of a file; 0 means all")
	return cmd
}

// dumped is what a file holds.
type dumped struct {
	file, kind string
	rows       *rows
}

func (f *dumpFlags) run(cmd *cobra.Command, g *globals, files []string) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	var all []dumped
	var failed error
	for _, name := range files {
		kind, read := fileKind(name)
		if read == nil {
			return usagef("%s: not a file of a log directory that klamm knows", name)
		}
		r, err := read(f, name, g.format == "table" || g.format == "tsv")
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
		}
		if r != nil {
			all = append(all, dumped{name, kind, r})
		}
	}
	return errors.Join(failed, printDumped(p, all, len(files) > 1))
}

// printDumped prints the rows of one file, or of several with their names.
func printDumped(p *printer, all []dumped, several bool) error {
	if several && (p.format == "json" || p.format == "yaml") {
		out := make([]object, 0, len(all))
		for _, d := range all {
			out = append(out, object{{"file", d.file}, {"kind", d.kind}, {"rows", d.rows.objects()}})
		}
		if p.format == "json" {
			return p.json(out)
		}
		return p.yaml(out)
	}
	for _, d := range all {
		title := ""
		if several {
			title = d.file
			if p.format == "tsv" { // the name is a column
				for i := range d.rows.values {
					d.rows.values[i] = append([]any{d.file}, d.rows.values[i]...)
				}
			}
		}
		if err := p.print(title, d.rows); err != nil {
			return err
		}
	}
	return nil
}

// reader reads a file. With flat, values are text rather than objects. It
// returns the rows that it has found even if it fails.
type reader func(f *dumpFlags, name string, flat bool) (*rows, error)

// fileKind tells by its name what a file is.
func fileKind(path string) (kind string, read reader) {
	name := strings.TrimSuffix(filepath.Base(path), ".deleted")
	switch {
	case strings.HasSuffix(name, ".log"):
		return "log", dumpLog
	case strings.HasSuffix(name, ".checkpoint"):
		return "snapshot of the metadata", dumpLog
	case strings.HasSuffix(name, ".index"):
		return "offset index", dumpOffsetIndex
	case strings.HasSuffix(name, ".timeindex"):
		return "time index", dumpTimeIndex
	case strings.HasSuffix(name, ".txnindex"):
		return "transaction index", dumpTxnIndex
	case strings.HasSuffix(name, ".snapshot"):
		return "producer snapshot", dumpProducers
	case name == "leader-epoch-checkpoint":
		return "leader epochs", dumpEpochs
	case strings.HasSuffix(name, "-checkpoint"):
		return "offset checkpoint", dumpCheckpoint
	case name == "partition.metadata" || name == "meta.properties":
		return "properties", dumpProperties
	case name == "quorum-state" || name == ".kafka_cleanshutdown":
		return "json", dumpJSON
	}
	return "", nil
}

// corruptError says where a file is corrupt.
type corruptError struct {
	at   int64 // byte
	what string
}

func (e *corruptError) Error() string { return fmt.Sprintf("corrupt at byte %d: %s", e.at, e.what) }

func corrupt(at int64, format string, args ...any) error {
	return &corruptError{at, fmt.Sprintf(format, args...)}
}

// baseOffset returns the offset that names a file.
func baseOffset(path string) (int64, error) {
	digits, _, _ := strings.Cut(filepath.Base(path), ".")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("its name %q is no offset", digits)
	}
	return n, nil
}

// sibling opens the data file beside an index, nil if there is none.
func sibling(path string) *os.File {
	dir, name := filepath.Split(path)
	digits, rest, _ := strings.Cut(name, ".")
	data := digits + ".log"
	if strings.HasSuffix(rest, ".deleted") {
		data += ".deleted"
	}
	f, err := os.Open(filepath.Join(dir, data))
	if err != nil {
		return nil
	}
	return f
}

// entries calls f with each entry of an index file. The rest of a file that is
// preallocated is zero and left out.
func entries(path string, size int, f func(at int64, e []byte) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	used := len(bytes.TrimRight(b, "\x00"))
	if used += (size - used%size) % size; used == 0 && len(b) == size {
		used = size // one entry, all of it zero: offset 0 at byte 0
	}
	for at := 0; at < min(used, len(b)); at += size {
		if at+size > len(b) {
			return corrupt(int64(at), "an entry of %d bytes, want %d", len(b)-at, size)
		}
		if err := f(int64(at), b[at:at+size]); err != nil {
			return err
		}
	}
	return nil
}

func dumpOffsetIndex(f *dumpFlags, path string, _ bool) (*rows, error) {
	base, err := baseOffset(path)
	if err != nil {
		return nil, err
	}
	data := sibling(path)
	if data != nil {
		defer data.Close()
	}
	r := &rows{columns: []string{"offset", "position"}}
	lastOffset, lastPosition := int64(-1), int64(-1)
	return r, entries(path, 8, func(at int64, e []byte) error {
		offset, position := base+int64(int32(binary.BigEndian.Uint32(e))), int64(int32(binary.BigEndian.Uint32(e[4:])))
		if offset < base || offset <= lastOffset || position < 0 || position <= lastPosition {
			return corrupt(at, "offset %d at position %d after offset %d at position %d", offset, position, lastOffset, lastPosition)
		}
		if data != nil {
			var head [8]byte
			if _, err := data.ReadAt(head[:], position); err != nil {
				return corrupt(at, "position %d of offset %d is not in the data: %v", position, offset, err)
			}
			if first := int64(binary.BigEndian.Uint64(head[:])); first > offset || first < base {
				return corrupt(at, "at position %d of offset %d begins offset %d", position, offset, first)
			}
		}
		lastOffset, lastPosition = offset, position
		if offset >= f.from {
			r.add(offset, position)
		}
		return nil
	})
}

func dumpTimeIndex(f *dumpFlags, path string, _ bool) (*rows, error) {
	base, err := baseOffset(path)
	if err != nil {
		return nil, err
	}
	r := &rows{columns: []string{"timestamp", "offset"}}
	last, lastOffset := int64(-1), int64(-1)
	return r, entries(path, 12, func(at int64, e []byte) error {
		ts, offset := int64(binary.BigEndian.Uint64(e)), base+int64(int32(binary.BigEndian.Uint32(e[8:])))
		if offset < base || at > 0 && (ts <= last || offset <= lastOffset) {
			return corrupt(at, "timestamp %d of offset %d after timestamp %d of offset %d", ts, offset, last, lastOffset)
		}
		last, lastOffset = ts, offset
		if offset >= f.from {
			r.add(ts, offset)
		}
		return nil
	})
}

func dumpTxnIndex(f *dumpFlags, path string, _ bool) (*rows, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &rows{columns: []string{"producer_id", "first_offset", "last_offset", "last_stable_offset"}}
	for at := 0; at < len(b); at += index.TxnEntrySize {
		// One entry more at a time: what is before the first wrong one is printed.
		end := min(at+index.TxnEntrySize, len(b))
		txns, err := index.ParseTxns(b[:end])
		if err != nil {
			return r, corrupt(int64(at), "%v", err)
		}
		if t := txns[len(txns)-1]; t.LastOffset >= f.from {
			r.add(t.ProducerID, t.FirstOffset, t.LastOffset, t.LastStableOffset)
		}
	}
	return r, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func dumpProducers(f *dumpFlags, path string, _ bool) (*rows, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &rows{columns: []string{"producer_id", "producer_epoch", "last_sequence", "last_offset", "offset_delta", "timestamp", "coordinator_epoch", "txn_start_offset"}}
	if len(b) < 6 || binary.BigEndian.Uint16(b) != 1 {
		return r, corrupt(0, "not a producer snapshot of version 1")
	}
	if got, want := crc32.Checksum(b[6:], castagnoli), binary.BigEndian.Uint32(b[2:]); got != want {
		return r, corrupt(2, "crc %08x, want %08x", got, want)
	}
	var m msg.ProducerSnapshot
	if err := m.Decode(b[2:], 1); err != nil {
		return r, corrupt(2, "%v", err)
	}
	for _, e := range m.ProducerEntries {
		r.add(e.ProducerId, e.Epoch, e.LastSequence, e.LastOffset, e.OffsetDelta, e.Timestamp, e.CoordinatorEpoch, e.CurrentTxnFirstOffset)
	}
	return r, nil
}

// checkpoint reads a text file of version 0: a count, and so many lines of n
// words.
func checkpoint(path string, n int, line func(words []string) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	at, count := int64(0), 0
	for i, text := range lines {
		words := strings.Fields(text)
		switch {
		case i == 0 && text != "0":
			return corrupt(at, "version %q, want 0", text)
		case i == 1:
			if count, err = strconv.Atoi(text); err != nil {
				return corrupt(at, "count %q", text)
			}
		case i > 1 && len(words) != n:
			return corrupt(at, "line %q, want %d words", text, n)
		case i > 1:
			if err := line(words); err != nil {
				return corrupt(at, "line %q: %v", text, err)
			}
		}
		at += int64(len(text)) + 1
	}
	if got := len(lines) - 2; got != count {
		return corrupt(int64(len(b)), "%d lines, the count says %d", got, count)
	}
	return nil
}

func dumpEpochs(_ *dumpFlags, path string, _ bool) (*rows, error) {
	r := &rows{columns: []string{"leader_epoch", "start_offset"}}
	return r, checkpoint(path, 2, func(words []string) error {
		epoch, err := strconv.ParseInt(words[0], 10, 32)
		start, err2 := strconv.ParseInt(words[1], 10, 64)
		r.add(epoch, start)
		return errors.Join(err, err2)
	})
}

func dumpCheckpoint(_ *dumpFlags, path string, _ bool) (*rows, error) {
	r := &rows{columns: []string{"topic", "partition", "offset"}}
	return r, checkpoint(path, 3, func(words []string) error {
		partition, err := strconv.ParseInt(words[1], 10, 32)
		offset, err2 := strconv.ParseInt(words[2], 10, 64)
		r.add(words[0], partition, offset)
		return errors.Join(err, err2)
	})
}

func dumpProperties(_ *dumpFlags, path string, _ bool) (*rows, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &rows{columns: []string{"key", "value"}}
	at := int64(0)
	for line := range strings.Lines(string(b)) {
		text := strings.TrimSpace(line)
		if text != "" && text[0] != '#' {
			i := strings.IndexAny(text, "=:")
			if i < 0 {
				return r, corrupt(at, "line %q, want key=value", text)
			}
			r.add(strings.TrimSpace(text[:i]), strings.TrimSpace(text[i+1:]))
		}
		at += int64(len(line))
	}
	return r, nil
}

func dumpJSON(_ *dumpFlags, path string, _ bool) (*rows, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &rows{columns: []string{"key", "value"}}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return r, corrupt(syntax.Offset, "%v", err)
		}
		return r, corrupt(0, "%v", err)
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		r.add(k, string(m[k]))
	}
	return r, nil
}
