package broker

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/replication/meta"
)

// addresses are where controllers listen. What controller.quorum.voters says counts, or else
// what the metadata say, or else what was heard before: from the storage as it was formatted,
// in the file of the last process, and from other controllers. It is safe for concurrent use.
type addresses struct {
	listener string     // of controllers, that this node uses
	storing  sync.Mutex // held while the file is written

	mu         sync.Mutex // guards the fields below
	fixed      map[int32]string
	registered map[int32]string
	heard      map[int32]string
}

func newAddresses(listener string) *addresses {
	return &addresses{listener: strings.ToUpper(listener), fixed: make(map[int32]string), registered: make(map[int32]string), heard: make(map[int32]string)}
}

// fix notes what controller.quorum.voters says.
func (a *addresses) fix(id int32, address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fixed[id] = address
}

// learn notes what was heard.
func (a *addresses) learn(id int32, address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard[id] = address
}

// of returns where a controller listens, as host:port.
func (a *addresses) of(id int32) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, known := range []map[int32]string{a.fixed, a.registered, a.heard} {
		if address, ok := known[id]; ok {
			return address, true
		}
	}
	return "", false
}

// others returns all addresses that are known of nodes other than one.
func (a *addresses) others(than int32) (out []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, known := range []map[int32]string{a.fixed, a.registered, a.heard} {
		for id, address := range known {
			if id != than {
				out = append(out, address)
			}
		}
	}
	return out
}

// hostPort is of in two parts.
func (a *addresses) hostPort(id int32) (host string, port int32, ok bool) {
	address, ok := a.of(id)
	if !ok {
		return "", 0, false
	}
	host, p, err := net.SplitHostPort(address)
	n, err2 := strconv.ParseUint(p, 10, 16)
	return host, int32(n), err == nil && err2 == nil
}

// follow notes what the metadata say, and reports whether that is news.
func (a *addresses) follow(old, image *meta.Image) bool {
	now := image.Controllers()
	if slices.Equal(old.Controllers(), now) {
		return false
	}
	registered := make(map[int32]string)
	for _, c := range now {
		for _, e := range c.EndPoints {
			if strings.ToUpper(e.Name) == a.listener || len(c.EndPoints) == 1 {
				registered[c.ControllerId] = net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if maps.Equal(a.registered, registered) {
		return false
	}
	a.registered = registered
	return true
}

// store writes what the metadata say to a file.
func (a *addresses) store(fs vfs.FS, name string) error {
	a.storing.Lock()
	defer a.storing.Unlock()
	a.mu.Lock()
	registered := maps.Clone(a.registered)
	a.mu.Unlock()
	var text strings.Builder
	for _, id := range slices.Sorted(maps.Keys(registered)) {
		fmt.Fprintf(&text, "%d@%s\n", id, registered[id])
	}
	return vfs.WriteFileAtomic(fs, name, []byte(text.String()))
}

// load reads what an earlier process has stored.
func (a *addresses) load(fs vfs.FS, name string) error {
	text, err := vfs.ReadFile(fs, name)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		v, err := config.ParseVoter(strings.TrimSpace(line))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		a.learn(v.ID, v.Address())
	}
	return nil
}
