package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/client"
)

// mayHarm asks before something is done to topics that the cluster keeps its own
// state in, such as committed offsets. Where nobody can be asked, it wants --yes.
func (g *globals) mayHarm(cmd *cobra.Command, do string, yes bool, topics ...string) error {
	if yes {
		return nil
	}
	var internal []string
	err := g.admin(cmd, func(ctx context.Context, a *client.Admin) error {
		found, err := a.DescribeTopics(ctx, topics...)
		for _, t := range found {
			if t.Internal {
				internal = append(internal, t.Name)
			}
		}
		return err
	})
	if err != nil || len(internal) == 0 {
		return err
	}
	what := strings.Join(internal, ", ")
	if !terminal(cmd.InOrStdin()) || !terminal(cmd.ErrOrStderr()) {
		return usagef("%s is the cluster's own, and there is nobody to ask: say --yes to %s it", what, do)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s is the cluster's own: its groups, offsets or transactions would be lost. Really %s it? [y/N] ", what, do)
	line, err := bufio.NewReader(newInterruptible(cmd.Context(), cmd.InOrStdin())).ReadString('\n')
	if cmd.Context().Err() != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return fmt.Errorf("%s is left alone", what)
}
