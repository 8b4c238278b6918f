package broker

import (
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/record"
)

// held returns the memory that lives in heap and stacks, in bytes.
func held() int64 {
	var m runtime.MemStats
	for range 3 { // a stack shrinks by half at each collection
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// startTCP starts a broker on a socket of the operating system, with its data in
// memory.
func startTCP(t *testing.T) *Broker {
	t.Helper()
	static, _, err := config.Load(config.Sources{Overrides: []string{"listeners=PLAINTEXT://127.0.0.1:0", "log.dirs=/klamm"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Start(t.Context(), Options{Config: static, FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A connection that waits for its next request holds no buffer, and nothing of
// the requests that it has sent, however large they were.
func TestAnIdleConnectionIsSmall(t *testing.T) {
	b := startTCP(t)
	defer b.Close()
	var all []net.Conn
	defer func() {
		for _, nc := range all {
			nc.Close()
		}
	}()
	dial := func() *peer {
		nc, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, nc)
		return &peer{t: t, Conn: nc}
	}
	first := dial()
	first.create("orders", 100)
	talk := func(p *peer) {
		var versions msg.ApiVersionsResponse
		p.ask(new(msg.ApiVersionsRequest), 3, &versions)
		var metadata msg.MetadataResponse
		p.ask(&msg.MetadataRequest{Topics: []msg.MetadataRequestTopic{{Name: new("orders")}}}, 9, &metadata)
		p.ask(produceTo("none", 0, -1, batch(record.None, string(make([]byte, 100_000)))), 9, new(msg.ProduceResponse))
		var fetched msg.FetchResponse
		p.ask(fetchFrom("orders", 0, 0, make([]int64, 100)...), 12, &fetched)
	}
	for range 4 { // what the broker itself gets ready
		talk(dial())
	}
	const peers = 200
	before := held()
	for range peers {
		talk(dial())
	}
	eventually(t, "a connection holds less than 6 KiB", func() bool {
		each := (held() - before) / peers
		t.Logf("%d bytes a connection", each)
		return each < 6<<10
	})
}

// A connection that is told to rest at any moment, between two requests, in the
// middle of one or while one is handled, answers every request all the same.
func TestConnectionsThatRest(t *testing.T) {
	b := startTCP(t)
	defer b.Close()
	stop := make(chan struct{})
	var rouser, clients sync.WaitGroup
	rouser.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			b.server.mu.Lock()
			for c := range b.server.conns {
				c.rested.Store(true)
				c.frames.rouse()
			}
			b.server.mu.Unlock()
			runtime.Gosched()
		}
	})
	for i := range 4 {
		clients.Go(func() {
			nc, err := net.Dial("tcp", b.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			p := &peer{t: t, Conn: nc}
			large := string(make([]byte, 40_000))
			for j := range 100 {
				var req []byte
				switch j % 3 {
				case 0:
					req = p.request(new(msg.ApiVersionsRequest), 2)
				case 1:
					req = p.request(produceTo("none", 0, -1, batch(record.None, large)), 9)
				case 2:
					wait := fetchFrom("none", 1, 1, 0)
					req = p.request(wait, 12)
				}
				cut := (i*37 + j*91) % len(req)
				p.send(req[:cut])
				runtime.Gosched()
				p.send(req[cut:])
				resp := []msg.Response{new(msg.ApiVersionsResponse), new(msg.ProduceResponse), new(msg.FetchResponse)}[j%3]
				if id, err := p.tryAnswer(resp, []int16{2, 9, 12}[j%3]); err != nil || id != p.id {
					t.Errorf("request %d: answer to %d, %v", p.id, id, err)
					return
				}
			}
		})
	}
	clients.Wait()
	close(stop)
	rouser.Wait()
}
