package quorum

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/klamm-io/klamm/wire/prim"
)

// Peer is a node as the configuration of the quorum has it. Raft's address of it is
// id[/directory]: where it listens is for the metadata and the configuration of the nodes to
// say. So it never changes, which raft would not bear while it replicates to the node.
type Peer struct {
	ID int32
	// Directory is the directory.id of its metadata, zero if that is not known.
	Directory prim.UUID
}

// String names a voter as KRaft does.
func (p Peer) String() string {
	return fmt.Sprintf("ReplicaKey(id=%d, directoryId=%s)", p.ID, p.Directory)
}

// is reports whether o names the node that p is in the configuration.
func (p Peer) is(o Peer) bool {
	return p.ID == o.ID && (p.Directory.IsZero() || p.Directory == o.Directory)
}

// address returns what raft takes for the address of a node.
func (p Peer) address() raft.ServerAddress {
	s := strconv.Itoa(int(p.ID))
	if !p.Directory.IsZero() {
		s += "/" + p.Directory.String()
	}
	return raft.ServerAddress(s)
}

func serverID(node int32) raft.ServerID { return raft.ServerID(strconv.Itoa(int(node))) }

// Servers returns the first voters of a new quorum as raft has them.
func Servers(voters []Peer) (out []raft.Server) {
	for _, p := range voters {
		out = append(out, raft.Server{ID: serverID(p.ID), Address: p.address()})
	}
	return out
}

// parsePeer reads an address of raft's configuration.
func parsePeer(address raft.ServerAddress) (p Peer, err error) {
	id, directory, named := strings.Cut(string(address), "/")
	if named {
		if p.Directory, err = prim.ParseUUID(directory); err != nil {
			return p, fmt.Errorf("raft address %q: %w", address, err)
		}
	}
	n, err := strconv.ParseInt(id, 10, 32)
	if err != nil {
		return p, fmt.Errorf("raft address %q names no node: %w", address, err)
	}
	p.ID = int32(n)
	return p, nil
}

// peerOf returns a server of raft's configuration. A quorum of one node may have an address
// that names no node.
func peerOf(s raft.Server) (p Peer, ok bool) {
	id, err := strconv.ParseInt(string(s.ID), 10, 32)
	if err != nil {
		return p, false
	}
	if p, err = parsePeer(s.Address); err != nil || p.ID != int32(id) {
		p = Peer{ID: int32(id)}
	}
	return p, true
}
