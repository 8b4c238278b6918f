package conn

import (
	"bytes"
	"errors"
	"net"
	"testing"
)

// counting is a connection that is no socket. It fails after some writes.
type counting struct {
	net.Conn
	got    bytes.Buffer
	writes int
	fails  int // the write that fails, 0 for none
}

var errCounting = errors.New("planned")

func (c *counting) Write(b []byte) (int, error) {
	if c.writes++; c.writes == c.fails {
		return 0, errCounting
	}
	return c.got.Write(b)
}

// TestPiecesAreGathered: a connection that is no socket gets the bytes in their
// order in few writes, however many pieces they lie in.
func TestPiecesAreGathered(t *testing.T) {
	piece := func(n int, with byte) []byte { return bytes.Repeat([]byte{with}, n) }
	many := func(n, size int) (all net.Buffers) {
		for i := range n {
			all = append(all, piece(size, byte(i)))
		}
		return all
	}
	for _, c := range []struct {
		name   string
		pieces net.Buffers
		writes int
	}{
		{"nothing", nil, 0},
		{"empty pieces", many(5, 0), 0},
		{"100 small batches and what is between them", many(201, 100), 1},
		{"100 batches of 16 KB", many(100, 16<<10), 25},
		{"one large batch is not copied", net.Buffers{piece(40, 1), piece(1<<20, 2), piece(10, 3)}, 3},
		{"just as large as what is gathered", net.Buffers{piece(gatherSize, 1)}, 1},
		{"a small one fills the rest", net.Buffers{piece(gatherSize-1, 1), piece(1, 2), piece(1, 3)}, 2},
	} {
		nc := new(counting)
		g := newGatherer(nc)
		for range 2 { // what is kept between two requests does not come again
			nc.got.Reset()
			nc.writes = 0
			if err := g.write(c.pieces); err != nil {
				t.Fatal(err)
			}
			if want := bytes.Join(c.pieces, nil); !bytes.Equal(nc.got.Bytes(), want) {
				t.Errorf("%s: %d bytes arrived, want %d, or they differ", c.name, nc.got.Len(), len(want))
			}
			if nc.writes != c.writes {
				t.Errorf("%s: %d writes, want %d", c.name, nc.writes, c.writes)
			}
		}
		for fails := 1; fails <= c.writes; fails++ {
			if err := newGatherer(&counting{fails: fails}).write(c.pieces); err != errCounting {
				t.Errorf("%s: write %d failed and %v was returned", c.name, fails, err)
			}
		}
	}
}

// TestSocketsTakePieces: a socket is written to in one call of the system, also
// where somebody has put something around it that embeds it.
func TestSocketsTakePieces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for name, c := range map[string]struct {
		nc     net.Conn
		vector bool
	}{
		"a socket":              {nc, true},
		"what embeds one":       {struct{ *net.TCPConn }{nc.(*net.TCPConn)}, true},
		"another connection":    {struct{ net.Conn }{nc}, false},
		"a counting connection": {new(counting), false},
	} {
		if got := newGatherer(c.nc).vector; got != c.vector {
			t.Errorf("%s: pieces go in one call: %t", name, got)
		}
	}
}
