package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/wire/kerr"
)

// producing is one run of produce.
type producing struct {
	f       *produceFlags
	g       *globals
	cmd     *cobra.Command
	p       *client.Producer
	servers []string // that the producer asks first
	out     *printer
	base    client.Record

	sent, told atomic.Int64 // records given to the producer, and whose outcome is known

	mu       sync.Mutex // guards the fields below
	written  int
	failed   int
	byPart   map[string]int
	failures []string // the first few
	results  rows
	printErr error // of results
}

// close ends the producer, and waits a little for what it has sent.
func (r *producing) close(ctx context.Context) error {
	last, stop := closing(ctx)
	defer stop()
	if err := r.p.Close(last); err != nil && ctx.Err() == nil {
		return fmt.Errorf("close the producer: %w", err)
	}
	return nil
}

// watch looks at the topic when nothing comes of what was sent: with all of its
// partitions offline, which they are until their broker is restarted, it cancels
// rather than to have the producer try for its two minutes. It ends when the
// function that it returns is called.
func (r *producing) watch(ctx context.Context, cancel context.CancelCauseFunc) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(patience)
		defer tick.Stop()
		last := 0
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			sent, told := r.sent.Load(), r.told.Load()
			if sent > told && int(told) == last {
				if err := r.offline(ctx); err != nil {
					cancel(err)
					return
				}
			}
			last = int(told)
		}
	}()
	return func() {
		end()
		<-done
	}
}

// offline returns why no partition of the topic takes records, nil if one does
// or nobody says.
func (r *producing) offline(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	a, err := client.NewAdmin(client.AdminOptions{Options: client.Options{BootstrapServers: r.servers, ClientID: "klamm-cli", Dial: r.g.reach.dial}})
	if err != nil {
		return nil
	}
	defer a.Close()
	found, err := a.DescribeTopics(ctx, r.base.Topic)
	if err != nil || len(found) == 0 {
		return nil
	}
	if errors.Is(found[0].Err, kerr.UnknownTopicOrPartition) {
		// Metadata of a topic that is not there do not say why it was not made.
		tried, err := a.CreateTopics(ctx, []client.NewTopic{{Name: r.base.Topic}}, true)
		if err == nil && errors.Is(tried[r.base.Topic], kerr.KafkaStorageError) {
			return tried[r.base.Topic]
		}
		return nil
	}
	if len(found[0].Partitions) == 0 {
		return nil
	}
	for _, p := range found[0].Partitions {
		if !offline(p) {
			return nil
		}
	}
	return allOffline(r.base.Topic)
}

// finish makes the value of a record what the flags say: null, with --tombstone,
// or empty where there is none. An input may have said itself that it is null.
func (r *producing) finish(rec *client.Record, null bool) {
	switch {
	case r.f.tombstone && len(rec.Value) == 0 || null:
		rec.Value = nil
	case rec.Value == nil:
		rec.Value = []byte{}
	}
}

var resultColumns = []string{"topic", "partition", "offset", "timestamp"}

// whole reads --value-file.
func (r *producing) whole(ctx context.Context) ([]byte, error) {
	source, _, err := r.source(ctx, r.f.valueFile)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	b, err := io.ReadAll(io.LimitReader(newInterruptible(ctx, source), maxRecord+1))
	if err == nil && len(b) > maxRecord {
		err = fmt.Errorf("%s is larger than %d bytes", r.f.valueFile, maxRecord)
	}
	return b, r.g.waited(ctx, err, "the end of the input")
}

// one writes the record that the flags tell.
func (r *producing) one(ctx context.Context) error {
	rec := r.base
	r.finish(&rec, false)
	what := "the record to be written to " + rec.Topic
	defer r.g.patient(r.cmd, what)()
	r.sent.Add(1)
	sent := r.p.Send(ctx, &rec)
	m, err := sent.Get(ctx)
	r.told.Add(1)
	if ctx.Err() != nil { // it may be on its way
		r.close(ctx)
		if m, err = sent.Get(ctx); err != nil {
			if cause := context.Cause(ctx); errors.Is(cause, kerr.KafkaStorageError) {
				return said(cause, "not written: %v", cause)
			}
			return r.g.waited(ctx, said(err, "it may not have been written"), what)
		}
	}
	if err != nil {
		return said(err, "not written to %s: %s", rec.Topic, short(err))
	}
	if r.g.quiet {
		return nil
	}
	if r.g.format == "table" {
		_, err := fmt.Fprintf(r.out.w, "%s/%d@%d\n", m.Topic, m.Partition, m.Offset)
		return err
	}
	res := &rows{columns: resultColumns}
	res.add(m.Topic, m.Partition, m.Offset, m.Timestamp.UnixMilli())
	return r.out.print("", res)
}

// many writes the records of an input.
func (r *producing) many(ctx context.Context) error {
	source, size, err := r.source(ctx, r.f.file)
	if err != nil {
		return err
	}
	defer source.Close()
	in, err := newInput(newInterruptible(ctx, source), r.f.format)
	if err != nil {
		return usagef("--read-format: %w", err)
	}
	r.byPart = make(map[string]int)
	r.results.columns = resultColumns
	bar := r.bar(size)
	var stopped error
	for stopped == nil && ctx.Err() == nil && (!r.f.results || r.printed()) {
		rec := r.base
		rec.Headers = append([]client.Header(nil), r.base.Headers...)
		if err := in.next(&rec); err == io.EOF {
			break
		} else if err != nil {
			stopped = err
			break
		}
		r.finish(&rec, in.null)
		n := in.n
		r.sent.Add(1)
		err := r.p.SendFunc(ctx, &rec, func(m client.RecordMetadata, err error) { r.done(ctx, n, m, err) })
		if errors.Is(err, client.ErrMaxBlock) && rec.Topic == r.base.Topic || errors.Is(err, client.ErrClosed) {
			stopped = err // the next ones would wait as long for the same
		}
		if bar != nil {
			bar.Set64(in.bytes)
		}
	}
	if err := r.p.Flush(ctx); err != nil && ctx.Err() == nil {
		stopped = errors.Join(stopped, err)
	}
	stopped = errors.Join(stopped, r.close(ctx))
	if bar != nil {
		bar.Finish()
	}
	if ctx.Err() != nil {
		stopped = context.Cause(ctx)
	}
	return r.summary(ctx, in.n, stopped)
}

// source opens a file, "" and "-" being standard input, and returns its size, -1
// if that is not known.
func (r *producing) source(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if name == "" || name == "-" {
		if terminal(r.cmd.InOrStdin()) {
			what := "records from the terminal, one a line"
			if r.f.valueFile != "" {
				what = "the value from the terminal"
			}
			r.g.say(r.cmd, "reading %s; end with Ctrl-D", what)
		}
		return io.NopCloser(r.cmd.InOrStdin()), -1, nil
	}
	f, err := await(ctx, func() (*os.File, error) { return os.Open(name) }) // a FIFO waits for its writer
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, usageError{err}
	}
	if err != nil {
		return nil, 0, r.g.waited(ctx, err, name+" to be opened")
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = usagef("%s is a directory", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return f, -1, nil
	}
	return f, info.Size(), nil
}

// bar returns a progress bar if somebody is there to see it.
func (r *producing) bar(size int64) *progressbar.ProgressBar {
	if r.g.quiet || !terminal(r.cmd.ErrOrStderr()) || terminal(r.cmd.InOrStdin()) && size < 0 {
		return nil
	}
	return progressbar.NewOptions64(size, progressbar.OptionSetWriter(r.cmd.ErrOrStderr()), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("producing"))
}

// keepFailures is how many failures are printed one by one.
const keepFailures = 10

// done notes what became of record n of the input.
func (r *producing) done(ctx context.Context, n int, m client.RecordMetadata, err error) {
	r.told.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed++
		if ctx.Err() == nil && len(r.failures) < keepFailures {
			r.failures = append(r.failures, fmt.Sprintf("record %d: %s", n, short(err)))
		}
		return
	}
	r.written++
	r.byPart[fmt.Sprintf("%s/%d", m.Topic, m.Partition)]++
	switch {
	case !r.f.results:
	case r.g.format != "table":
		r.results.add(m.Topic, m.Partition, m.Offset, m.Timestamp.UnixMilli())
	case r.printErr == nil:
		_, r.printErr = fmt.Fprintf(r.out.w, "%s/%d@%d\n", m.Topic, m.Partition, m.Offset)
	}
}

// printed reports whether all results could be printed so far.
func (r *producing) printed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.printErr == nil
}

// summary says what became of the records that were read, and why no more were,
// if stopped says that.
func (r *producing) summary(ctx context.Context, read int, stopped error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.f.results && r.g.format != "table" {
		r.printErr = r.out.print("", &r.results)
	}
	stopped = errors.Join(r.printErr, stopped)
	lost := read - r.written
	if lost == 0 && stopped == nil {
		switch {
		case read > 0:
			r.g.say(r.cmd, "%s written to %s", plural(r.written, "record"), plural(len(r.byPart), "partition"))
		case r.f.keyed:
			r.g.say(r.cmd, "0 records written: the input is empty; give a VALUE for the key, or -Z to delete it")
		default:
			r.g.say(r.cmd, "0 records written: the input is empty")
		}
		return nil
	}
	for _, f := range r.failures {
		fmt.Fprintln(r.cmd.ErrOrStderr(), f)
	}
	if more := r.failed - len(r.failures); more > 0 && ctx.Err() == nil {
		fmt.Fprintf(r.cmd.ErrOrStderr(), "and %s more\n", thousands(more))
	}
	what := fmt.Sprintf("%s written, %d not", plural(r.written, "record"), lost)
	switch {
	case readerGone(r.printErr):
		return said(stopped, "%s", what)
	case errors.Is(stopped, kerr.KafkaStorageError):
		return said(stopped, "%s: %s", what, short(stopped))
	case ctx.Err() != nil:
		return r.g.waited(ctx, said(stopped, "%s", what), "the end of the input")
	case errors.Is(stopped, client.ErrMaxBlock):
		return said(stopped, "%s; the rest of the input is not read", what)
	case stopped != nil:
		return said(stopped, "%s: %s", what, short(stopped))
	}
	return said(stopped, "%s", what)
}

// saidError is an error in words of ours.
type saidError struct {
	text string
	err  error // may be nil
}

func said(err error, format string, args ...any) error {
	return &saidError{fmt.Sprintf(format, args...), err}
}

func (e *saidError) Error() string { return e.text }
func (e *saidError) Unwrap() error { return e.err }

// shortText is how many bytes of an error are printed for one record.
const shortText = 300

// noAnswer is what is said of an error that only says that its time was over.
const noAnswer = "no answer in time"

// short returns the text of an error on one line of bounded length.
func short(err error) string {
	text := plain(err)
	if text == "" {
		return noAnswer
	}
	line := []byte(oneLine.Replace(text))
	if len(line) > shortText {
		return string(line[:shortText]) + "…"
	}
	return string(line)
}

// plural returns a number of things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// thousands returns a number with a comma between groups of three digits.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for at := len(s) - 3; at > 0; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}
