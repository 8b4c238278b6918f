package quorum_test

import (
	"context"
	"net"

	"github.com/klamm-io/klamm/replication/quorum"
)

// piped returns the streams of nodes that reach each other over pipes, by their ids from 1 on, and
// the nodes as the voters of a quorum.
func piped(nodes int) (streams []*quorum.Streams, voters []quorum.Peer) {
	streams = make([]*quorum.Streams, nodes+1)
	for id := int32(1); id <= int32(nodes); id++ {
		voters = append(voters, quorum.Peer{ID: id})
		streams[id] = quorum.NewStreams(id, func(_ context.Context, to quorum.Peer) (net.Conn, error) {
			here, there := net.Pipe()
			go streams[to.ID].Take(there, id)
			return here, nil
		})
	}
	return streams, voters
}
