package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/log/scrub"
)

// errDamaged ends log verify where something is damaged.
var errDamaged = errors.New("damage found")

func newLogVerify(g *globals) *cobra.Command {
	var threads int
	cmd := &cobra.Command{
		Use: "verify DIR...", Short: "Check log directories, partitions or files from end to end; no broker is needed",
		Long: `Check the files of a log directory, a partition directory or a single segment, of klamm's or of Kafka's, without changing them:

  batches       sizes, version, CRC, offsets that rise, leader epochs that do not fall; every record, decompressed where it must be
  segments      names, and holes between and in them
  indexes       every entry of .index, .timeindex and .txnindex, against the batches
  snapshots     CRC, and the sequences, offsets, epochs and open transactions of producers, against the batches
  checkpoints   leader epochs, recovery points, high watermarks, log starts, against the logs; partition.metadata and meta.properties
  leftovers     of interrupted changes

A note is good to know. A warning is what the next start puts right or only a person can judge: a torn tail, which a crash leaves, or
offsets that no batch holds, which compaction leaves too. They are damage where a record without a key lies below, since compaction would
have dropped it, and nothing is said where the partition is known to be compacted, but a note. Damage is what reads wrong or is lost.

A broker may run meanwhile; then the ends of its files may move while they are read, and a note says so.

Exit codes: 0 notes and warnings at most, 1 damage, 2 wrong usage.`,
		Example: `  klamm log verify data
  klamm log verify data/orders-0 --format json
  klamm log verify data/orders-0/00000000000000000000.log`,
		Args: atLeast(1, "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return verifyLogs(cmd, g, args, threads) },
	}
	cmd.Flags().IntVar(&threads, "threads", 2, "partitions to check at once")
	return cmd
}

func verifyLogs(cmd *cobra.Command, g *globals, dirs []string, threads int) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	if threads < 1 {
		return usagef("--threads %d: want at least 1", threads)
	}
	report, err := scrubLogs(cmd, g, scrub.Options{Threads: threads}, dirs)
	if err != nil {
		return err
	}
	r := &rows{columns: []string{"severity", "partition", "file", "byte", "offset", "finding", "advice"}}
	for _, f := range report.Findings {
		r.add(f.Severity.String(), textOrNil(f.Partition), f.File, known(f.Byte), known(f.Offset), f.What, textOrNil(f.Advice))
	}
	if len(r.values) > 0 || g.format != "table" {
		if err := p.print("", r); err != nil {
			return err
		}
	}
	g.say(cmd, "%d partitions, %d segments, %d batches, %d records, %d bytes: %d damaged, %d warnings, %d notes", report.Partitions, report.Segments,
		report.Batches, report.Records, report.Bytes, report.Damages, report.Warnings, report.Notes)
	if report.Damages > 0 {
		return errDamaged
	}
	return nil
}

// scrubLogs checks, with a progress bar if there is somebody to see it.
func scrubLogs(cmd *cobra.Command, g *globals, o scrub.Options, dirs []string) (*scrub.Report, error) {
	if !g.quiet && terminal(cmd.ErrOrStderr()) {
		bar := progressbar.NewOptions64(-1, progressbar.OptionSetWriter(cmd.ErrOrStderr()), progressbar.OptionShowBytes(true),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("checking"))
		defer bar.Finish()
		o.Progress = func(read, total int64) {
			if bar.GetMax64() != total {
				bar.ChangeMax64(total)
			}
			bar.Set64(min(read, total))
		}
	}
	clean := make([]string, len(dirs))
	for i, d := range dirs {
		clean[i] = filepath.Clean(d)
	}
	report, err := scrub.Check(cmd.Context(), o, clean...)
	if errors.Is(err, scrub.ErrNoLog) || errors.Is(err, os.ErrNotExist) {
		return nil, usageError{err}
	}
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	return report, nil
}

// known is a position, nil for none.
func known(n int64) any {
	if n < 0 {
		return nil
	}
	return n
}

func textOrNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}
