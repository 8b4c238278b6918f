package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is set by the linker.
var Version = "dev"

// protocol is the version of Kafka whose protocol klamm speaks.
const protocol = "4.3"

func newVersion(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			revision := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = s.Value
					}
				}
			}
			return printVersion(cmd, g, revision)
		},
	}
}

func printVersion(cmd *cobra.Command, g *globals, revision string) error {
	p, err := newPrinter(cmd.OutOrStdout(), g.format)
	if err != nil {
		return err
	}
	r := &rows{columns: []string{"version", "revision", "kafka_protocol", "go", "os", "arch"}}
	r.add(Version, textOrNil(revision), protocol, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	switch p.format {
	case "json":
		return p.json(r.objects()[0])
	case "yaml":
		return p.yaml(r.objects()[0])
	case "tsv":
		return p.print("", r)
	}
	name := Version
	if revision != "" {
		name += " " + revision
	}
	_, err = fmt.Fprintf(p.w, "klamm %s (Kafka %s protocol, %s, %s/%s)\n", name, protocol, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
