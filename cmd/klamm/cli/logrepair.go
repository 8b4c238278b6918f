package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/log/scrub"
	"github.com/klamm-io/klamm/log/vfs"
)

// repairFlags are those of log repair.
type repairFlags struct {
	dryRun bool
	plan   scrub.PlanOptions
}

func newLogRepair(g *globals) *cobra.Command {
	var f repairFlags
	cmd := &cobra.Command{
		Use: "repair DIR", Short: "Repair a log directory or a partition while its broker is stopped",
		Long: `Check a log directory, or a partition directory in one, as log verify does, and repair what was found.

Without other flags no valid record is lost: torn tails are cut off; indexes, producer snapshots and leader epochs that are wrong are
removed, since the next start of klamm makes them anew from the batches; what interrupted changes left behind is finished or removed.

Damage in the middle of a log is left alone unless a flag says what to do:

  --cut-at-damage  ends the log there. What is cut off, and the later segments, are kept in files named *.damaged, which no broker reads
  --set-aside      renames the partition directory to *-stray, so that the next start begins an empty one, to be filled by its leader

The step tells how many valid batches and records that takes away. A broker that was repaired so starts as after an unclean stop.

--dry-run prints the steps and takes none. Every step is durable when it is done; a repair that was interrupted can be started again.

Exit codes: 0 all is repaired, 1 something is left, or a broker runs, 2 wrong usage.`,
		Example: `  klamm log repair data --dry-run
  klamm log repair data
  klamm log repair data/orders-0 --cut-at-damage`,
		Args: between(1, 1, "one DIR"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, g, filepath.Clean(args[0])) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.dryRun, "dry-run", false, "only print the steps")
	fl.BoolVar(&f.plan.CutAtDamage, "cut-at-damage", false, "end logs at their first damaged batch")
	fl.BoolVar(&f.plan.SetAside, "set-aside", false, "set partitions aside that are damaged in the middle")
	return cmd
}

func (f *repairFlags) run(cmd *cobra.Command, g *globals, dir string) (err error) {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	if f.plan.CutAtDamage && f.plan.SetAside {
		return usagef("--cut-at-damage and --set-aside exclude each other")
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usagef("%s: not a directory", dir)
	}
	fs := vfs.OS()
	if !f.dryRun {
		home, err := scrub.LogDir(fs, dir)
		if err != nil {
			return err
		}
		lock, err := scrub.Lock(fs, home)
		if errors.Is(err, vfs.ErrLocked) {
			return fmt.Errorf("a broker has %s open: stop it first: %w", home, err)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	report, err := scrubLogs(cmd, g, scrub.Options{Locked: !f.dryRun}, []string{dir})
	if err != nil {
		return err
	}
	r := &rows{columns: []string{"partition", "file", "byte", "finding", "step", "loses_batches", "loses_records", "state"}}
	left, failed := 0, error(nil)
	for _, s := range scrub.Plan(fs, report, f.plan) {
		state := "done"
		switch {
		case s.Needs != "":
			left++
			state = "needs " + s.Needs
		case f.dryRun:
			state = "planned"
		case failed != nil:
			state = "not tried"
		case cmd.Context().Err() != nil:
			failed, state = context.Cause(cmd.Context()), "not tried"
		default:
			if failed = s.Run(); failed != nil {
				state = "failed"
			}
		}
		r.add(textOrNil(s.Partition), s.File, known(s.Byte), s.Why, s.Do, s.LostBatches, s.LostRecords, state)
	}
	if len(r.values) > 0 || g.format != "table" {
		if err := p.print("", r); err != nil {
			return err
		}
	}
	g.say(cmd, "%d findings, %d steps, %d left alone", len(report.Findings), len(r.values)-left, left)
	if failed == nil && left > 0 {
		failed = errors.New("not all of it can be repaired without a flag or a person")
	}
	return failed
}
