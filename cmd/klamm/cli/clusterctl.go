package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/config"
)

// newClusterControl returns the commands that need the control of a local cluster.
func newClusterControl(g *globals) []*cobra.Command {
	return []*cobra.Command{
		controlCommand(g, "kill", "Kill one broker of a local cluster, as kill -9 does",
			"Kill one broker of a cluster that klamm start --brokers runs on this machine, at once: its connections are reset, nobody takes over\nfrom it in an orderly way, and nothing is synced. resume starts it again."),
		controlCommand(g, "pause", "Pause one broker of a local cluster, as SIGSTOP does",
			"Pause one broker of a cluster that klamm start --brokers runs on this machine: it reads and writes nothing until resume, while its\nconnections stay open."),
		controlCommand(g, "resume", "Resume one broker of a local cluster, or start a killed one again",
			"Have a broker go on that pause has paused, or start one again that kill has killed, of a cluster that klamm start --brokers runs on\nthis machine."),
	}
}

func controlCommand(g *globals, do, short, long string) *cobra.Command {
	var dataDir string
	cmd := &cobra.Command{
		Use: do + " ID", Short: short, Args: between(1, 1, "the ID of a broker"),
		Long:    long + "\n\nThe cluster is found by its data directory, and by nothing else: --bootstrap is not used. One that keeps its data in memory cannot be found.",
		Example: "  klamm cluster " + do + " 2 --data-dir data", ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseBrokerID(args[0])
			if err != nil {
				return err
			}
			dir, err := controlDir(dataDir)
			if err != nil {
				return err
			}
			ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
			if g.timeout == 0 {
				ctx, cancel = context.WithTimeoutCause(ctx, adminTimeout, &timeoutError{after: adminTimeout})
			}
			defer cancel()
			what := fmt.Sprintf("the cluster on %s", dir)
			answer, err := askControl(ctx, dir, controlRequest{do, id})
			if err != nil {
				return g.waited(ctx, err, what)
			}
			if answer.Unknown {
				var ids []string
				for _, id := range answer.Brokers {
					ids = append(ids, strconv.Itoa(int(id)))
				}
				return usagef("broker %d: there is no such broker; %s has %s", id, what, strings.Join(ids, ", "))
			}
			if answer.Error != "" {
				return errors.New(answer.Error)
			}
			p, err := newPrinter(cmd.OutOrStdout(), g.format)
			if err != nil {
				return err
			}
			r := &rows{columns: []string{"broker", "state"}}
			r.add(id, answer.State)
			return p.print("", r)
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "data directory of the cluster, as klamm start has it (log.dirs)")
	return cmd
}

// controlDir returns the data directory that klamm start has with the same --data-dir.
func controlDir(dataDir string) (string, error) {
	sources := config.Sources{Environ: os.Environ()}
	if dataDir != "" {
		sources.Overrides = []string{"log.dirs=" + dataDir}
	}
	static, _, err := config.Load(sources)
	if err != nil {
		return "", usageError{err}
	}
	dirs := static.List("log.dirs")
	if len(dirs) != 1 {
		return "", usagef("log.dirs has %d directories, and a cluster in one process has one: give --data-dir", len(dirs))
	}
	return dirs[0], nil
}

// askControl asks the cluster that runs on a directory.
func askControl(ctx context.Context, dir string, req controlRequest) (answer controlAnswer, err error) {
	name, err := socketPath(dir)
	if err != nil {
		return answer, err
	}
	nc, err := new(net.Dialer).DialContext(ctx, "unix", name)
	if err != nil {
		return answer, noControl(dir, err)
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	if err := json.NewEncoder(nc).Encode(req); err != nil {
		return answer, err
	}
	line, err := bufio.NewReader(nc).ReadBytes('\n')
	if ctx.Err() != nil {
		return answer, context.Cause(ctx)
	}
	if err != nil {
		return answer, fmt.Errorf("the cluster on %s ended before it answered: %w", dir, err)
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return answer, fmt.Errorf("the answer of the cluster on %s: %w", dir, err)
	}
	return answer, nil
}

// noControl says why there is no cluster to ask on a directory.
func noControl(dir string, err error) error {
	absent := errors.Is(err, iofs.ErrNotExist)
	if !absent && !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	if absent {
		switch n, err := brokersIn(dir); {
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("there is no cluster on %s: klamm start --brokers 3 --data-dir %s starts one", dir, dir)
		case n == 1:
			return fmt.Errorf("%s is that of a single broker, and not of a cluster in one process: kill, stop and continue its process", dir)
		}
	}
	return fmt.Errorf("the cluster on %s does not run: klamm start --data-dir %s starts it", dir, dir)
}
