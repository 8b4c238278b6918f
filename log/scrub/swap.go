package scrub

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/segment"
	"github.com/klamm-io/klamm/wire/record"
)

// swap plans to finish a compaction, as Kafka's LogLoader does: a .log.swap is
// the whole result for the offsets that it covers, and takes the place of the
// segments that begin within them. Beside a .cleaned file at or below it, it is
// one of several results that are not all there, and is given up, since its
// sources still are.
func (p *planner) swap(dir string, f Finding) {
	name := strings.TrimSuffix(path.Base(f.File), segment.SwapSuffix)
	base, suffix, ok := parseFileName(name)
	s := Step{Partition: f.Partition, File: f.File, Byte: -1, Why: f.What}
	names, err := p.fs.List(dir)
	if err != nil || !ok || p.done[f.File] {
		return
	}
	p.done[f.File] = true
	unfinished := slices.ContainsFunc(names, func(n string) bool {
		rest, cleaned := strings.CutSuffix(n, segment.CleanedSuffix)
		b, _, ok := parseFileName(rest)
		return cleaned && ok && b <= base
	})
	data := path.Base(segment.FileName(dir, base, segment.LogSuffix)) + segment.SwapSuffix
	switch {
	case unfinished || !slices.Contains(names, data) && !slices.Contains(names, strings.TrimSuffix(data, segment.SwapSuffix)):
		s.Do, s.run = "remove it: the compaction was not finished", func() error { return remove(p.fs, f.File) }
	case !slices.Contains(names, data): // which was put in place already
		s.Do, s.run = "put it in place", func() error {
			if err := p.fs.Rename(f.File, strings.TrimSuffix(f.File, segment.SwapSuffix)); err != nil {
				return err
			}
			return p.fs.SyncDir(dir)
		}
	case suffix != segment.LogSuffix:
		return // goes with its data file
	default:
		end, err := swapEnd(p.fs, dir, base)
		if err != nil {
			s.Do, s.Needs = "nothing", "move it away: "+err.Error()
			break
		}
		s.Do = fmt.Sprintf("put it in the place of the segments from offset %d to %d", base, end-1)
		s.run = func() error { return finishSwap(p.fs, dir, base, end) }
	}
	p.steps = append(p.steps, s)
}

// swapEnd checks a .log.swap and returns the offset after its last batch.
func swapEnd(fs vfs.FS, dir string, base int64) (int64, error) {
	file := segment.FileName(dir, base, segment.LogSuffix) + segment.SwapSuffix
	w, err := openWindow(fs, file, dataWindow)
	if err != nil {
		return 0, err
	}
	defer w.close()
	p := &partition{c: &checker{fs: fs, ctx: context.Background()}, d: &directory{fs: fs}, segments: []int64{base}, next: base, single: true}
	r := &reading{p: p, base: base, limit: fits(base) + 1, file: file, w: w}
	for r.at < w.size {
		b, err := r.batch(r.at)
		if err != nil {
			return 0, fmt.Errorf("byte %d: %w", r.at, err)
		}
		d := segment.Describe(b)
		if d.Base < p.next || d.Last < d.Base {
			return 0, fmt.Errorf("byte %d: offsets %d to %d after %d", r.at, d.Base, d.Last, p.next-1)
		}
		if b.Magic() >= record.Magic {
			if err := r.contents(b); err != nil {
				return 0, fmt.Errorf("byte %d: %w", r.at, err)
			}
		}
		p.next = d.Last + 1
		r.at += int64(len(b))
	}
	return p.next, nil
}

// finishSwap puts a .log.swap in place. Until it is, it is there to do so again.
func finishSwap(fs vfs.FS, dir string, base, end int64) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	if !slices.Contains(names, path.Base(segment.FileName(dir, base, segment.TxnSuffix))+segment.SwapSuffix) {
		// Aborted transactions are found again by reading the log from here on.
		if err := rebuild(fs, segment.FileName(dir, base, segment.TxnSuffix), base, true); err != nil {
			return err
		}
	}
	for _, name := range slices.Backward(names) {
		b, suffix, ok := parseFileName(name)
		if !ok || suffix == log.QuorumSnapshotSuffix || suffix == segment.SnapshotSuffix || b < base || b != base && b >= end {
			continue
		}
		if b == base && suffix == segment.LogSuffix {
			continue // is replaced
		}
		if err := removeOnly(fs, path.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	data := segment.FileName(dir, base, segment.LogSuffix)
	if err := fs.Rename(data+segment.SwapSuffix, data); err != nil {
		return err
	}
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	for _, suffix := range []string{segment.IndexSuffix, segment.TimeSuffix, segment.TxnSuffix} {
		name := segment.FileName(dir, base, suffix)
		if slices.Contains(names, path.Base(name)+segment.SwapSuffix) {
			if err := fs.Rename(name+segment.SwapSuffix, name); err != nil {
				return err
			}
		}
	}
	return fs.SyncDir(dir)
}
