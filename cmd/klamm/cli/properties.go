package cli

import (
	"github.com/spf13/cobra"

	"github.com/klamm-io/klamm/config"
)

// warnUnused says which client keys are known and do nothing. A key that no client
// has was typed here, and so is no plug-in's: it is refused.
func (g *globals) warnUnused(cmd *cobra.Command, kind config.Kind, unused []string) error {
	for _, name := range unused {
		if !config.OfClient(name) {
			return usageError{config.Validate(kind, name, "")}
		}
		g.say(cmd, "warning: klamm does not act on %s yet", name)
	}
	return nil
}
