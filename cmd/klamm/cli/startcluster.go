package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
	"github.com/klamm-io/klamm/replication/dirs"
)

// count returns how many brokers to start: as many as were asked for, if the data directory
// is that of as many, or else as it has.
func (s *startFlags) count(static *config.Static) (int, error) {
	asked := s.brokers
	if s.inMemory {
		return max(asked, 1), nil
	}
	dirs := static.List("log.dirs")
	if len(dirs) != 1 {
		if asked > 1 {
			return 0, usagef("--brokers %d: log.dirs has %d directories, and each broker has its data below the only one", asked, len(dirs))
		}
		return 1, nil
	}
	has, err := brokersIn(dirs[0])
	switch {
	case err != nil:
		return 0, err
	case has == 0 || asked == has:
		return max(asked, 1), nil
	case asked == 0:
		return has, nil
	case has == 1:
		return 0, fmt.Errorf("%s has the data of a single broker, so that %d cannot start on it: choose another --data-dir", dirs[0], asked)
	}
	return 0, fmt.Errorf("%s has the data of a cluster of %d brokers, so that %d cannot start on it: leave --brokers out, or choose another --data-dir", dirs[0], has, asked)
}

// brokersIn returns how many brokers have their data in a directory.
func brokersIn(dir string) (int, error) {
	if _, err := os.Stat(filepath.Join(dir, log.PropertiesFile)); err == nil {
		return 1, nil
	}
	for n := 0; ; n++ {
		// If one broker's directory is claimed, those whose claim was cut short are others'.
		claimed, err := dirs.Claimed(vfs.OS(), filepath.ToSlash(filepath.Join(dir, broker.BrokerDir(int32(n+1)))), n > 0)
		if err != nil {
			return 0, err
		}
		if !claimed {
			return n, nil
		}
	}
}

// clusterKeys are set for each broker of a cluster in one process.
var clusterKeys = []string{"node.id", "broker.id", "process.roles", "advertised.listeners", "controller.quorum.voters", "controller.quorum.bootstrap.servers", "inter.broker.listener.name"}

// startSeveral starts a cluster of n brokers in this process.
func startSeveral(cmd *cobra.Command, o broker.Options, sources config.Sources, n int) (running, error) {
	static, lg := o.Config, o.Logger
	for _, key := range clusterKeys {
		if static.Explicit(key) {
			return nil, usagef("--brokers %d: %s is set for each of them, and cannot be in the config", n, key)
		}
	}
	conf, err := static.Broker()
	if err != nil {
		return nil, usageError{err}
	}
	if len(conf.Listeners) != 1 || conf.Listeners[0].Protocol != "PLAINTEXT" {
		return nil, usagef("--brokers %d: want one listener without security, as --listen HOST:PORT has it", n)
	}
	// What many copies are for is that some may be lost.
	factor := min(n, 3)
	for key, value := range map[string]int{"default.replication.factor": factor, "min.insync.replicas": max(factor-1, 1)} {
		if !static.Explicit(key) {
			sources.Overrides = append(slices.Clone(sources.Overrides), fmt.Sprintf("%s=%d", key, value))
			lg.Info("set for a cluster", zap.String("key", key), zap.Int("value", value))
		}
	}
	at := conf.Listeners[0]
	opening := openingBar{w: cmd.ErrOrStderr()}
	o.Progress = nil
	c, err := broker.StartCluster(cmd.Context(), broker.ClusterOptions{Brokers: n, Of: o, Sources: sources, Dir: conf.LogDirs[0], Port: at.Port,
		Host: func(int32) string { return at.Host }, Progress: func(id int32, p replication.Progress) { opening.at(id, p) }})
	opening.finish()
	if err != nil {
		return nil, withPorts(err, at, n)
	}
	if o.FS != nil { // it is in memory, and nobody could find its socket
		return c, nil
	}
	ctl, err := startControl(conf.LogDirs[0], c, lg)
	if err != nil {
		lg.Warn("klamm cluster kill, pause and resume cannot be used", zap.Error(err))
		return c, nil
	}
	return controlled{c, ctl}, nil
}

// withPorts says which ports brokers want that could not start.
func withPorts(err error, at config.Listener, n int) error {
	var e *net.OpError
	if errors.As(err, &e) && e.Op == "listen" && at.Port > 0 {
		return fmt.Errorf("%w (%d brokers want the ports %d to %s)", err, n, at.Port, strconv.Itoa(at.Port+n-1))
	}
	return err
}
