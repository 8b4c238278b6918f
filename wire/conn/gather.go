package conn

import (
	"net"
	"syscall"
)

// gatherSize is how many bytes of small pieces are written at once where the
// connection cannot take many pieces in one call.
const gatherSize = 64 << 10

// gatherer writes the pieces of requests. A socket takes them where they lie, in one
// call of the system, and so does what embeds a net.TCPConn. On any other connection, such as TLS, each
// Write is a record and a packet of its own, so that small pieces are copied
// together first. It is used by one goroutine at a time.
type gatherer struct {
	nc      net.Conn
	vector  bool   // nc takes many pieces in one call
	scratch []byte // empty between two calls of write
}

func newGatherer(nc net.Conn) *gatherer {
	_, socket := nc.(syscall.Conn)
	return &gatherer{nc: nc, vector: socket}
}

// write writes pieces in their order. It does not keep them.
func (g *gatherer) write(pieces net.Buffers) error {
	if g.vector {
		tmp := pieces // WriteTo eats its receiver
		_, err := tmp.WriteTo(g.nc)
		return err
	}
	for _, piece := range pieces {
		if len(g.scratch)+len(piece) > gatherSize {
			if err := g.flush(); err != nil {
				return err
			}
		}
		if len(piece) >= gatherSize {
			if _, err := g.nc.Write(piece); err != nil {
				return err
			}
			continue
		}
		g.scratch = append(g.scratch, piece...)
	}
	return g.flush()
}

func (g *gatherer) flush() error {
	if len(g.scratch) == 0 {
		return nil
	}
	_, err := g.nc.Write(g.scratch)
	if g.scratch = g.scratch[:0]; cap(g.scratch) > gatherSize {
		g.scratch = nil
	}
	return err
}
