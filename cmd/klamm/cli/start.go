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

func newStart() *cobra.Command {
	var (
		file, listen, dataDir, level string
		overrides                    []string
		inMemory                     bool
	)
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Start a broker",
		Long: `Start a broker and serve until SIGINT or SIGTERM.

Values come from, the first that has one: --listen and --data-dir, --override, the environment (KAFKA_*), the --config file, Kafka's
defaults. When the broker serves, one line goes to stdout:

    ready bootstrap=HOST:PORT[,HOST:PORT...] cluster=ID

Logs go to stderr. CLUSTER_ID, KAFKA_LOG4J_ROOT_LOGLEVEL and KAFKA_LOG4J_LOGGERS mean what they mean to Kafka's container image, and
with KAFKA_ADVERTISED_LISTENERS alone the broker listens on its ports on every interface.

Exit codes: 0 a signal came and all is on disk, 1 a log directory had failed, or the broker could not start or go on, 2 wrong usage,
130 a signal came before it served.`,
		Example: `  klamm start
  klamm start --listen 127.0.0.1:0 --in-memory
  klamm start --config server.properties --override num.partitions=6`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if inMemory && dataDir != "" {
				return usagef("--in-memory and --data-dir exclude each other")
			}
			lg, err := newLogger(level, os.Getenv("KAFKA_LOG4J_ROOT_LOGLEVEL"), os.Getenv("KAFKA_LOG4J_LOGGERS"))
			if err != nil {
				return err
			}
			defer lg.Sync()
			if listen != "" {
				if _, _, err := net.SplitHostPort(listen); err != nil {
					return usagef("--listen %q: want HOST:PORT: %w", listen, err)
				}
				overrides = append(overrides, "listeners=PLAINTEXT://"+listen)
			}
			o := broker.Options{Logger: lg, Fatal: func(err error) { lg.Fatal("cannot go on", zap.Error(err)) }}
			switch {
			case inMemory:
				o.FS = vfs.NewMem()
				overrides = append(overrides, "log.dirs=/memory")
			case dataDir != "":
				overrides = append(overrides, "log.dirs="+dataDir)
			}
			static, warnings, err := config.Load(config.Sources{File: file, Environ: os.Environ(), Overrides: overrides})
			if err != nil {
				return usageError{err}
			}
			for _, w := range warnings {
				lg.Warn("config", zap.String("key", w.Key), zap.String("warning", w.Message))
			}
			o.Config, o.ClusterID = static, static.ClusterID()
			opening := openingBar{w: cmd.ErrOrStderr()}
			o.Progress = opening.at
			b, err := broker.Start(cmd.Context(), o)
			opening.finish()
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "ready bootstrap=%s cluster=%s\n", strings.Join(b.Bootstrap(), ","), b.ClusterID()); err != nil {
				lg.Warn("cannot say that the broker is ready", zap.Error(err))
			}
			<-cmd.Context().Done()
			lg.Info("stopping")
			if err := b.Close(); err != nil {
				return stopError{err}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "server.properties to read")
	f.StringArrayVar(&overrides, "override", nil, "set a broker key, as key=value; may be repeated")
	f.StringVar(&listen, "listen", "", "address to listen on, as HOST:PORT; port 0 picks a free one")
	f.StringVar(&dataDir, "data-dir", "", "directory to keep the data in (log.dirs)")
	f.BoolVar(&inMemory, "in-memory", false, "keep the data in memory; it ends with the broker")
	f.StringVar(&level, "log-level", "", "debug, info, warn or error; unset, KAFKA_LOG4J_ROOT_LOGLEVEL or else info")
	return cmd
}

// stopError says, in one line, what was not well when a broker stopped. The
// signal that stopped it did not interrupt anything.
type stopError struct{ error }

func (e stopError) Error() string {
	return "the broker stopped, but not all is on disk: " + strings.ReplaceAll(e.error.Error(), "\n", "; ")
}

func (e stopError) Unwrap() error { return e.error }

// openingBar shows on a terminal how far a broker has come with opening its
// partitions, if that takes long enough to be seen.
type openingBar struct {
	w io.Writer

	mu    sync.Mutex // guards the fields below
	began time.Time
	bar   *progressbar.ProgressBar
}

func (o *openingBar) at(p replication.Progress) {
	if !terminal(o.w) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.began.IsZero():
		o.began = time.Now()
	case o.bar == nil && time.Since(o.began) > 300*time.Millisecond:
		o.bar = progressbar.NewOptions(p.Total, progressbar.OptionSetWriter(o.w), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	if o.bar != nil {
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
