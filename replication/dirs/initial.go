package dirs

import (
	"fmt"
	"strings"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/wire/prim"
)

// InitialControllersFile is the file of the directory with the metadata, beside
// meta.properties, that holds the first voters of the quorum: one a line, as
// [InitialController.String] writes it. Formatting makes it; the first start of the
// quorum reads it.
const InitialControllersFile = "initial-controllers"

// KnownControllersFile is the file beside it where a node keeps the addresses of controllers
// that it has heard of, one a line as ID@HOST:PORT: it may have to vote before it has the
// metadata, which say them.
const KnownControllersFile = "known-controllers"

// InitialController is one of the voters that a metadata quorum begins with.
type InitialController struct {
	config.Voter
	Directory prim.UUID // directory.id of the directory with its metadata
}

// String returns id@host:port:directory.
func (c InitialController) String() string { return c.Voter.String() + ":" + c.Directory.String() }

// ParseInitialControllers reads id@host:port:directory, several of them divided by
// commas or newlines. Their ids differ, and there is one at least.
func ParseInitialControllers(text string) ([]InitialController, error) {
	var all []InitialController
	ids, dirs := make(map[int32]bool), make(map[prim.UUID]bool)
	for _, item := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		at := max(strings.LastIndexByte(item, ':'), 0)
		v, err := config.ParseVoter(item[:at])
		if err != nil {
			return nil, fmt.Errorf("%w %q: want id@host:port:directory-id", config.ErrInvalid, item)
		}
		c := InitialController{Voter: v}
		if c.Directory, err = prim.ParseUUID(item[at+1:]); err != nil {
			return nil, fmt.Errorf("%w %q: directory id: %w", config.ErrInvalid, item, err)
		}
		switch {
		case ids[c.ID]:
			return nil, fmt.Errorf("%w: node id %d was specified more than once", config.ErrInvalid, c.ID)
		case dirs[c.Directory] || c.Directory.IsZero():
			return nil, fmt.Errorf("%w: directory id %s is not that of one controller", config.ErrInvalid, c.Directory)
		}
		ids[c.ID], dirs[c.Directory] = true, true
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no voters given", config.ErrInvalid)
	}
	return all, nil
}
