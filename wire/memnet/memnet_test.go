package memnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// connect returns both ends of a connection from host "c" to "b:9092".
func connect(t *testing.T, n *Network) (client, server net.Conn) {
	t.Helper()
	l, err := n.Listen("tcp", "b:9092")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = n.Host("c").Dial(context.Background(), "tcp", "b:9092")
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := c.Write([]byte(s)); n != len(s) || err != nil {
		t.Fatalf("write %q: %d, %v", s, n, err)
	}
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q after %d bytes, %v; want %q", b[:n], n, err, want)
	}
}

func readError(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if n, err := c.Read(make([]byte, 10)); n != 0 || !errors.Is(err, want) {
		t.Fatalf("read = %d, %v; want %v", n, err, want)
	}
}

func writeError(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if _, err := c.Write([]byte("x")); !errors.Is(err, want) {
		t.Fatalf("write: %v; want %v", err, want)
	}
}

func TestAddresses(t *testing.T) {
	n := New()
	l, err := n.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.Dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if c.RemoteAddr() != l.Addr() || s.LocalAddr() != l.Addr() || c.LocalAddr() != s.RemoteAddr() {
		t.Errorf("ends %v-%v and %v-%v on listener %v", c.LocalAddr(), c.RemoteAddr(), s.LocalAddr(), s.RemoteAddr(), l.Addr())
	}
	if _, err := n.Listen("tcp", l.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: %v", err)
	}
	if _, err := n.Dial(context.Background(), "tcp", "127.0.0.1:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial to nobody: %v", err)
	}
	for _, bad := range []string{"b", "b:x", "b:70000", "b:-1"} {
		if _, err := n.Listen("tcp", bad); err == nil {
			t.Errorf("listened on %q", bad)
		}
	}
	if _, err := n.Listen("udp", "b:1"); err == nil {
		t.Error("listened on udp")
	}
}

func TestWildcardListenerSeesTheDialledHost(t *testing.T) {
	n := New()
	l, err := n.Listen("tcp", ":9092")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Dial(context.Background(), "tcp", "kafka.example:9092"); err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.LocalAddr().String(); got != "kafka.example:9092" {
		t.Errorf("local address %s", got)
	}
}

func TestCloseSemantics(t *testing.T) {
	t.Run("peer reads the rest, then EOF", func(t *testing.T) {
		c, s := connect(t, New())
		write(t, c, "abc")
		c.Close()
		read(t, s, "abc")
		readError(t, s, io.EOF)
		writeError(t, s, syscall.EPIPE)
		readError(t, c, net.ErrClosed)
		writeError(t, c, net.ErrClosed)
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
	})
	t.Run("closing over unread bytes resets", func(t *testing.T) {
		c, s := connect(t, New())
		write(t, s, "unread")
		write(t, c, "abc")
		c.Close()
		read(t, s, "abc")
		readError(t, s, syscall.ECONNRESET)
	})
	t.Run("half close leaves the other direction", func(t *testing.T) {
		c, s := connect(t, New())
		write(t, c, "abc")
		if err := c.(*Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		read(t, s, "abc")
		readError(t, s, io.EOF)
		write(t, s, "still")
		read(t, c, "still")
		writeError(t, c, syscall.EPIPE)
	})
	t.Run("close read fails the peer's writes", func(t *testing.T) {
		c, s := connect(t, New())
		if err := c.(*Conn).CloseRead(); err != nil {
			t.Fatal(err)
		}
		readError(t, c, io.EOF)
		writeError(t, s, syscall.EPIPE)
	})
	t.Run("close wakes a reader and a writer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := New()
			n.SetBuffer(10)
			c, _ := connect(t, n)
			errs := make(chan error, 2)
			go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
			go func() { _, err := c.Write(make([]byte, 11)); errs <- err }()
			synctest.Wait()
			c.Close()
			for range 2 {
				if err := <-errs; !errors.Is(err, net.ErrClosed) {
					t.Errorf("got %v, want closed", err)
				}
			}
		})
	})
	t.Run("nothing stays behind", func(t *testing.T) {
		n := New()
		c, s := connect(t, n)
		if n.Conns() != 1 {
			t.Errorf("%d connections", n.Conns())
		}
		c.Close()
		s.Close()
		if n.Conns() != 0 {
			t.Errorf("%d connections after close", n.Conns())
		}
	})
}

func TestListenerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		l, _ := n.Listen("tcp", "b:1")
		accepted := make(chan error)
		go func() {
			for {
				if _, err := l.Accept(); err != nil {
					accepted <- err
					return
				}
			}
		}()
		synctest.Wait()
		l.Close()
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
		l, err := n.Listen("tcp", "b:1")
		if err != nil {
			t.Fatalf("address not free again: %v", err)
		}
		c, err := n.Dial(context.Background(), "tcp", "b:1")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		readError(t, c, syscall.ECONNRESET) // it was never accepted
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.SetBuffer(4)
		c, s := connect(t, n)
		start := time.Now()
		c.SetReadDeadline(start.Add(time.Second))
		readError(t, c, os.ErrDeadlineExceeded)
		if got := time.Since(start); got != time.Second {
			t.Errorf("read waited %v", got)
		}
		var ne net.Error
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Second))
		if k, err := c.Write([]byte("123456")); k != 4 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write = %d, %v; want 4 and a timeout", k, err)
		}
		c.SetDeadline(time.Time{})
		read(t, s, "1234")
		go func() { time.Sleep(time.Hour); s.Write([]byte("late")) }()
		read(t, c, "late")

		// A deadline moved while a read waits counts from then on.
		go func() { time.Sleep(time.Minute); c.SetReadDeadline(time.Now()) }()
		start = time.Now()
		readError(t, c, os.ErrDeadlineExceeded)
		if got := time.Since(start); got != time.Minute {
			t.Errorf("read waited %v after its deadline was moved", got)
		}
	})
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.Latency("*", "b", 30*time.Millisecond)
		n.Latency("b:9092", "c", 10*time.Millisecond)
		start := time.Now()
		c, s := connect(t, n)
		if got := time.Since(start); got != 40*time.Millisecond {
			t.Errorf("connected after %v", got)
		}
		start = time.Now()
		write(t, c, "ab")
		time.Sleep(10 * time.Millisecond)
		write(t, c, "cd")
		c.Close()
		read(t, s, "ab")
		if got := time.Since(start); got != 30*time.Millisecond {
			t.Errorf("first bytes after %v", got)
		}
		if k, err := s.Read(make([]byte, 8)); k != 2 || err != nil || time.Since(start) != 40*time.Millisecond {
			t.Errorf("next read = %d, %v after %v", k, err, time.Since(start))
		}
		readError(t, s, io.EOF)
	})
}

func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		c, s := connect(t, n)
		write(t, c, "before")
		n.Block("c", "b")
		write(t, c, "held")
		write(t, s, "back")
		read(t, c, "back")
		read(t, s, "before") // had arrived
		s.SetReadDeadline(time.Now().Add(time.Minute))
		readError(t, s, os.ErrDeadlineExceeded)
		s.SetReadDeadline(time.Time{})

		l, _ := n.Listen("tcp", "b:1")
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := n.Host("c").Dial(ctx, "tcp", "b:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial across a partition: %v", err)
		}
		if _, err := n.Host("d").Dial(context.Background(), "tcp", "b:1"); err != nil {
			t.Errorf("dial from elsewhere: %v", err)
		}
		l.Close()

		c.Close() // the end of the stream is held as well
		s.SetReadDeadline(time.Now().Add(time.Minute))
		readError(t, s, os.ErrDeadlineExceeded)
		write(t, s, "into the void") // nobody told it
		s.SetReadDeadline(time.Time{})
		go func() { time.Sleep(time.Second); n.Unblock("c", "b") }()
		read(t, s, "held")
		readError(t, s, io.EOF)
		writeError(t, s, syscall.EPIPE)
	})
}

func TestDialWaitsForHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.Partition("*", "b")
		start := time.Now()
		go func() { time.Sleep(time.Minute); n.Heal() }()
		connect(t, n)
		if got := time.Since(start); got != time.Minute {
			t.Errorf("connected after %v", got)
		}
	})
}

func TestReset(t *testing.T) {
	n := New()
	c, s := connect(t, n)
	write(t, c, "lost")
	if k := n.Reset("b", "c"); k != 1 {
		t.Errorf("reset %d connections", k)
	}
	readError(t, s, syscall.ECONNRESET)
	writeError(t, s, syscall.ECONNRESET)
	readError(t, c, syscall.ECONNRESET)
	if n.Conns() != 0 {
		t.Errorf("%d connections left", n.Conns())
	}
}

func TestBreakAfter(t *testing.T) {
	n := New()
	c, s := connect(t, n)
	n.BreakAfter("c", "b", 5)
	write(t, c, "abc")
	write(t, c, "defg") // told that all was written
	read(t, s, "abcde")
	readError(t, s, syscall.ECONNRESET)
	writeError(t, c, syscall.ECONNRESET)
	readError(t, c, syscall.ECONNRESET)
}

func TestHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		c, s := connect(t, n)
		n.HalfOpen("b", "*")
		n.Heal()
		s.Close()
		write(t, c, "anybody?")
		c.SetReadDeadline(time.Now().Add(time.Hour))
		readError(t, c, os.ErrDeadlineExceeded)
		c2, s2 := connect(t, n)
		write(t, c2, "new")
		read(t, s2, "new")
	})
}

func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.SetBuffer(100)
		c, s := connect(t, n)
		done := make(chan struct{})
		go func() { c.Write(make([]byte, 250)); close(done) }()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("wrote more than the buffer holds")
		default:
		}
		if _, err := io.ReadFull(s, make([]byte, 250)); err != nil {
			t.Fatal(err)
		}
		<-done
	})
}

// TestStreamKeepsOrder moves random amounts both ways, with concurrent writers
// whose writes must not mix.
func TestStreamKeepsOrder(t *testing.T) {
	n := New()
	n.SetBuffer(3000)
	c, s := connect(t, n)
	const size, writes, writers = 4000, 50, 4
	var wg sync.WaitGroup
	for _, end := range []struct{ from, to net.Conn }{{c, s}, {s, c}} {
		for w := range writers {
			wg.Go(func() {
				b := bytes.Repeat([]byte{byte('a' + w)}, size)
				for range writes {
					if _, err := end.from.Write(b); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, 2))
			var got []byte
			for len(got) < size*writes*writers {
				b := make([]byte, 1+rng.IntN(5000))
				k, err := end.to.Read(b)
				if err != nil {
					t.Error(err)
					return
				}
				got = append(got, b[:k]...)
			}
			for i := 0; i < len(got); i += size {
				if !bytes.Equal(got[i:i+size], bytes.Repeat(got[i:i+1], size)) {
					t.Errorf("write at byte %d is mixed with another", i)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNetworkClose(t *testing.T) {
	n := New()
	c, _ := connect(t, n)
	n.Close()
	readError(t, c, syscall.ECONNRESET)
	if _, err := n.Listen("tcp", "b:1"); err == nil {
		t.Error("listened on a closed network")
	}
	if _, err := n.Dial(context.Background(), "tcp", "b:1"); err == nil {
		t.Error("dialled on a closed network")
	}
}

func BenchmarkThroughput(b *testing.B) {
	n := New()
	l, _ := n.Listen("tcp", "b:1")
	c, _ := n.Dial(context.Background(), "tcp", "b:1")
	s, _ := l.Accept()
	go io.Copy(io.Discard, s)
	buf := make([]byte, 64<<10)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		c.Write(buf)
	}
}
