package broker

import (
	"net"
	"runtime"
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

// A connection that waits for its next request holds no buffer, and nothing of
// the requests that it has sent, however large they were.
func TestAnIdleConnectionIsSmall(t *testing.T) {
	static, _, err := config.Load(config.Sources{Overrides: []string{"listeners=PLAINTEXT://127.0.0.1:0", "log.dirs=/klamm"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Start(t.Context(), Options{Config: static, FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
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
