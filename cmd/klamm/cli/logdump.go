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
	"regexp"
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

	rows func(columns ...string) *rows // begins the output of the file at hand
}

func newLog(g *globals) *cobra.Command {
	return group("log", "Look into the data directories of brokers, check and repair them", newLogDirs(g), newLogDump(g), newLogVerify(g), newLogRepair(g))
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
  leader-epoch-checkpoint, *-checkpoint, partition.metadata, meta.properties, quorum-state, raft-start, .kafka_cleanshutdown

and each with .deleted, .cleaned, .swap, .part or .tmp behind its name, or .N.damaged, which log repair cut off.

Positions and sizes are in bytes, timestamps in Unix milliseconds. Bytes that are no text are printed as base64:...

JSON and TSV are printed while a file is read; tables and YAML hold all rows in memory first, so use --from and -n, or another format, for
large files.

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

func (f *dumpFlags) run(cmd *cobra.Command, g *globals, files []string) (err error) {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	for _, name := range files {
		if _, read := fileKind(name); read == nil {
			return usagef("%s: not a file of a log directory that klamm knows", name)
		}
	}
	d := newDumper(p, len(files) > 1)
	var failed error
	for _, name := range files {
		kind, read := fileKind(name)
		f.rows = func(columns ...string) *rows { return d.begin(name, kind, columns) }
		if err := read(f, name, p.format == "table" || p.format == "tsv"); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
		}
		if err := d.end(); err != nil {
			return errors.Join(failed, err)
		}
	}
	return errors.Join(failed, d.close())
}

// reader reads a file and adds what it holds to what f.rows returns, up to where
// it fails. With flat, values are text rather than objects.
type reader func(f *dumpFlags, name string, flat bool) error

// fileKind finds by its name what a file is.
func fileKind(path string) (kind string, read reader) {
	name, _ := splitLeftover(filepath.Base(path))
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
	case name == "raft-start":
		return "start of the metadata log", dumpRaftStart
	}
	return "", nil
}

var damagedPart = regexp.MustCompile(`\.\d+\.damaged$`)

// splitLeftover splits off what the name of a file says of its state: deleted,
// not finished, to be put in place, or cut off by a repair.
func splitLeftover(name string) (base, suffix string) {
	for _, s := range []string{".deleted", ".cleaned", ".swap", ".part", ".tmp"} {
		if base, ok := strings.CutSuffix(name, s); ok {
			return base, s
		}
	}
	if at := damagedPart.FindStringIndex(name); at != nil {
		return name[:at[0]], name[at[0]:]
	}
	return name, ""
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

// sibling opens the data file beside an index, in the same state, nil if there
// is none.
func sibling(path string) *os.File {
	dir, name := filepath.Split(path)
	name, suffix := splitLeftover(name)
	digits, _, _ := strings.Cut(name, ".")
	f, err := os.Open(filepath.Join(dir, digits+".log"+suffix))
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

func dumpOffsetIndex(f *dumpFlags, path string, _ bool) error {
	base, err := baseOffset(path)
	if err != nil {
		return err
	}
	data := sibling(path)
	if data != nil {
		defer data.Close()
	}
	r := f.rows("offset", "position")
	lastOffset, lastPosition := int64(-1), int64(-1)
	return entries(path, 8, func(at int64, e []byte) error {
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

func dumpTimeIndex(f *dumpFlags, path string, _ bool) error {
	base, err := baseOffset(path)
	if err != nil {
		return err
	}
	r := f.rows("timestamp", "offset")
	last, lastOffset := int64(-1), int64(-1)
	return entries(path, 12, func(at int64, e []byte) error {
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

func dumpTxnIndex(f *dumpFlags, path string, _ bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	r := f.rows("producer_id", "first_offset", "last_offset", "last_stable_offset")
	for at := 0; at < len(b); at += index.TxnEntrySize {
		// With the entry before it, which tells whether they rise; what is before
		// the first wrong one is printed.
		list, err := index.ParseTxns(b[max(0, at-index.TxnEntrySize):min(at+index.TxnEntrySize, len(b))])
		if err != nil {
			return corrupt(int64(at), "%v", err)
		}
		if t := list[len(list)-1]; t.LastOffset >= f.from {
			r.add(t.ProducerID, t.FirstOffset, t.LastOffset, t.LastStableOffset)
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func dumpProducers(f *dumpFlags, path string, _ bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	r := f.rows("producer_id", "producer_epoch", "last_sequence", "last_offset", "offset_delta", "timestamp", "coordinator_epoch", "txn_start_offset")
	if len(b) < 6 || binary.BigEndian.Uint16(b) != 1 {
		return corrupt(0, "not a producer snapshot of version 1")
	}
	if got, want := crc32.Checksum(b[6:], castagnoli), binary.BigEndian.Uint32(b[2:]); got != want {
		return corrupt(2, "crc %08x, want %08x", got, want)
	}
	var m msg.ProducerSnapshot
	if err := m.Decode(b[2:], 1); err != nil {
		return corrupt(2, "%v", err)
	}
	for _, e := range m.ProducerEntries {
		r.add(e.ProducerId, e.Epoch, e.LastSequence, e.LastOffset, e.OffsetDelta, e.Timestamp, e.CoordinatorEpoch, e.CurrentTxnFirstOffset)
	}
	return nil
}

// checkpoint reads a text file of version 0: a count, and so many lines of n
// words.
func checkpoint(path string, n int, line func(words []string) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) == 0 { // as the JVM broker makes them
		return nil
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

func dumpEpochs(f *dumpFlags, path string, _ bool) error {
	r := f.rows("leader_epoch", "start_offset")
	return checkpoint(path, 2, func(words []string) error {
		epoch, err := strconv.ParseInt(words[0], 10, 32)
		start, err2 := strconv.ParseInt(words[1], 10, 64)
		r.add(epoch, start)
		return errors.Join(err, err2)
	})
}

func dumpCheckpoint(f *dumpFlags, path string, _ bool) error {
	r := f.rows("topic", "partition", "offset")
	return checkpoint(path, 3, func(words []string) error {
		partition, err := strconv.ParseInt(words[1], 10, 32)
		offset, err2 := strconv.ParseInt(words[2], 10, 64)
		r.add(words[0], partition, offset)
		return errors.Join(err, err2)
	})
}

// dumpRaftStart reads which raft index, and so which offset, the metadata log
// begins with.
func dumpRaftStart(f *dumpFlags, path string, _ bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	r := f.rows("index", "offset")
	words := strings.Fields(string(b))
	if len(words) != 2 {
		return corrupt(0, "%q, want INDEX OFFSET", b)
	}
	i, err := strconv.ParseUint(words[0], 10, 64)
	offset, err2 := strconv.ParseInt(words[1], 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return corrupt(0, "%q, want INDEX OFFSET: %v", b, err)
	}
	r.add(i, offset)
	return nil
}

func dumpProperties(f *dumpFlags, path string, _ bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	r := f.rows("key", "value")
	at := int64(0)
	for line := range strings.Lines(string(b)) {
		text := strings.TrimSpace(line)
		if text != "" && text[0] != '#' {
			i := strings.IndexAny(text, "=:")
			if i < 0 {
				return corrupt(at, "line %q, want key=value", text)
			}
			r.add(strings.TrimSpace(text[:i]), strings.TrimSpace(text[i+1:]))
		}
		at += int64(len(line))
	}
	return nil
}

func dumpJSON(f *dumpFlags, path string, _ bool) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	r := f.rows("key", "value")
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return corrupt(syntax.Offset, "%v", err)
		}
		return corrupt(0, "%v", err)
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		r.add(k, string(m[k]))
	}
	return nil
}
