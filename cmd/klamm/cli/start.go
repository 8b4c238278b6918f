package cli

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/klamm-io/klamm/broker"
	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/config/levels"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication"
)

// startFlags are the flags of klamm start.
type startFlags struct {
	file, listen, dataDir, level string
	overrides                    []string
	inMemory                     bool
	brokers                      int
}

func newStart() *cobra.Command {
	var s startFlags
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Start a broker, or a cluster of them",
		Long: `Start a broker and serve until SIGINT or SIGTERM. With --brokers several are started in this process: true brokers of one cluster,
each with its own port, data directory, controller and replicas, of which any may fail.

Values come from, the first that has one: --listen and --data-dir, --override, the environment (KAFKA_*), the --config file, Kafka's
defaults. Topics of a cluster have 3 replicas, of which 2 must be in sync, unless default.replication.factor and min.insync.replicas say
otherwise. The brokers' ports follow that of --listen, and their data are in broker-1, broker-2 and so on below --data-dir; started
again on it, as many start as there were. When all serve, one line goes to stdout:

    ready bootstrap=HOST:PORT[,HOST:PORT...] cluster=ID

Logs go to stderr. CLUSTER_ID, KAFKA_LOG4J_ROOT_LOGLEVEL and KAFKA_LOG4J_LOGGERS mean what they mean to Kafka's container image, and
with KAFKA_ADVERTISED_LISTENERS alone the broker listens on its ports on every interface.

Exit codes: 0 a signal came and all is on disk, 1 a log directory had failed, or the broker could not start or go on, 2 wrong usage,
130 a signal came before it served.`,
		Example: `  klamm start --brokers 3
  klamm start --listen 127.0.0.1:0 --in-memory
  klamm start --config server.properties --override num.partitions=6`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&s.file, "config", "", "server.properties to read")
	f.StringArrayVar(&s.overrides, "override", nil, "set a broker key, as key=value; may be repeated")
	f.StringVar(&s.listen, "listen", "", "address to listen on, as HOST:PORT; port 0 picks a free one")
	f.StringVar(&s.dataDir, "data-dir", "", "directory to keep the data in (log.dirs)")
	f.BoolVar(&s.inMemory, "in-memory", false, "keep the data in memory; it ends with the broker")
	f.IntVar(&s.brokers, "brokers", 0, "how many brokers to start; unset, as many as --data-dir has, or else 1")
	f.StringVar(&s.level, "log-level", "", "debug, info, warn or error; unset, KAFKA_LOG4J_ROOT_LOGLEVEL or else info")
	return cmd
}

func (s *startFlags) run(cmd *cobra.Command) error {
	if s.inMemory && s.dataDir != "" {
		return usagef("--in-memory and --data-dir exclude each other")
	}
	if s.brokers < 0 || cmd.Flags().Changed("brokers") && s.brokers == 0 {
		return usagef("--brokers %d: want 1 or more", s.brokers)
	}
	lg, err := newLogger(s.level, os.Getenv("KAFKA_LOG4J_ROOT_LOGLEVEL"), os.Getenv("KAFKA_LOG4J_LOGGERS"))
	if err != nil {
		return err
	}
	defer lg.Sync()
	if s.listen != "" {
		if _, _, err := net.SplitHostPort(s.listen); err != nil {
			return usagef("--listen %q: want HOST:PORT: %w", s.listen, err)
		}
		s.overrides = append(s.overrides, "listeners=PLAINTEXT://"+s.listen)
	}
	o := broker.Options{Logger: lg}
	switch {
	case s.inMemory:
		o.FS = vfs.NewMem()
		s.overrides = append(s.overrides, "log.dirs=/memory")
	case s.dataDir != "":
		s.overrides = append(s.overrides, "log.dirs="+s.dataDir)
	}
	sources := config.Sources{File: s.file, Environ: os.Environ(), Overrides: s.overrides}
	static, warnings, err := config.Load(sources)
	if err != nil {
		return usageError{err}
	}
	for _, w := range warnings {
		lg.Warn("config", zap.String("key", w.Key), zap.String("warning", w.Message))
	}
	o.Config, o.ClusterID = static, static.ClusterID()
	n, err := s.count(static)
	if err != nil {
		return err
	}
	var running running
	if n == 1 {
		running, err = startOne(cmd, o)
	} else {
		running, err = startSeveral(cmd, o, sources, n)
	}
	if err != nil {
		return err
	}
	what, at := "bootstrap", running.Bootstrap()
	if len(at) == 0 {
		what, at = "controller", running.Controllers()
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "ready %s=%s cluster=%s\n", what, strings.Join(at, ","), running.ClusterID()); err != nil {
		lg.Warn("cannot say that the node is ready", zap.Error(err))
	}
	<-cmd.Context().Done()
	lg.Info("stopping")
	if err := running.Close(); err != nil {
		return stopError{err}
	}
	return nil
}

// running is a broker, or a cluster of them.
type running interface {
	Bootstrap() []string
	Controllers() []string
	ClusterID() string
	Close() error
}

func startOne(cmd *cobra.Command, o broker.Options) (running, error) {
	opening := openingBar{w: cmd.ErrOrStderr()}
	o.Fatal = func(err error) { o.Logger.Fatal("cannot go on", zap.Error(err)) }
	o.Progress = func(p replication.Progress) { opening.at(0, p) }
	b, err := broker.Start(cmd.Context(), o)
	opening.finish()
	return b, err
}

// stopError says, in one line, what was not well when a broker stopped. The
// signal that stopped it did not interrupt anything.
type stopError struct{ error }

func (e stopError) Error() string {
	return "the broker stopped, but not all is on disk: " + strings.ReplaceAll(e.error.Error(), "\n", "; ")
}

func (e stopError) Unwrap() error { return e.error }

// openingBar shows on a terminal how far brokers have come with opening their
// partitions, if that takes long enough to be seen.
type openingBar struct {
	w io.Writer

	mu    sync.Mutex // guards the fields below
	began time.Time
	bar   *progressbar.ProgressBar
	of    map[int32]replication.Progress // by broker
}

func (o *openingBar) at(id int32, one replication.Progress) {
	if !terminal(o.w) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil {
		o.of = make(map[int32]replication.Progress)
	}
	o.of[id] = one
	var p replication.Progress
	for _, of := range o.of {
		p.Opened, p.Total, p.Checked = p.Opened+of.Opened, p.Total+of.Total, p.Checked+of.Checked
	}
	switch {
	case o.began.IsZero():
		o.began = time.Now()
	case o.bar == nil && time.Since(o.began) > 300*time.Millisecond:
		o.bar = progressbar.NewOptions(p.Total, progressbar.OptionSetWriter(o.w), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	if o.bar != nil {
		o.bar.ChangeMax(p.Total)
		what := "opening partitions"
		if p.Checked > 0 {
			what = fmt.Sprintf("opening partitions, %.1f GB checked", float64(p.Checked)/1e9)
		}
		o.bar.Describe(what)
		o.bar.Set(p.Opened)
	}
}

func (o *openingBar) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bar != nil {
		o.bar.Finish()
	}
}

// newLogger logs to stderr: lines to read on a terminal, JSON otherwise. level is
// what the user gave, "" for nothing; then root, of the environment, counts. of
// are the levels of single loggers, as NAME=LEVEL,NAME=LEVEL.
func newLogger(level, root, of string) (*zap.Logger, error) {
	from := "--log-level"
	switch {
	case level != "":
	case root != "":
		from, level = "KAFKA_LOG4J_ROOT_LOGLEVEL", root
	default:
		level = "info"
	}
	core, registry := levels.Of(levels.New(zapcore.NewCore(logEncoder(), zapcore.Lock(os.Stderr), zapcore.DebugLevel), zapcore.InfoLevel))
	if !registry.Set(levels.Root, logLevel(level)) {
		return nil, usagef("%s %q: want one of %s", from, level, strings.ToLower(strings.Join(levels.Names(), ", ")))
	}
	for item := range strings.SplitSeq(of, ",") {
		name, own, ok := strings.Cut(strings.TrimSpace(item), "=")
		if of != "" && (!ok || name == "" || !registry.Set(name, logLevel(own))) {
			return nil, usagef("KAFKA_LOG4J_LOGGERS: %q: want NAME=LEVEL, a level is one of %s", item, strings.ToLower(strings.Join(levels.Names(), ", ")))
		}
	}
	return zap.New(core), nil
}

// logLevel returns the name of a level as Kafka has it. Log4j has two more.
func logLevel(name string) string {
	switch name = strings.ToUpper(name); name {
	case "ALL":
		return "TRACE"
	case "OFF":
		return "FATAL"
	}
	return name
}

func logEncoder() zapcore.Encoder {
	if term.IsTerminal(int(os.Stderr.Fd())) {
		c := zap.NewDevelopmentEncoderConfig()
		c.EncodeLevel = zapcore.CapitalColorLevelEncoder
		c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		return zapcore.NewConsoleEncoder(c)
	}
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	return zapcore.NewJSONEncoder(c)
}
