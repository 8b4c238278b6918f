// Package chaos_test runs real clients against clusters of klamm whose brokers are killed, stopped,
// cut off and filled up, and has the history of what the clients saw checked (tests/history).
//
// There are two kinds of clusters. In memory, three brokers run inside a synctest bubble on an
// in-memory network and on disks in memory: an hour of faults takes minutes, and a broker can
// lose what it had not synced. As processes, three brokers run as klamm start --config does them.
package chaos_test

import (
	"context"
	"net"
	"testing"

	"github.com/klamm-io/klamm/client"
	"github.com/klamm-io/klamm/tests/history"
)

// brokers are the ids of the brokers of every cluster.
var brokers = []int32{1, 2, 3}

// system is a cluster of three brokers whose nemesis may do anything with them. Its methods are
// for one goroutine. A method that fails ends the test.
type system interface {
	// Of clients.
	bootstrap() []string
	dial() func(ctx context.Context, network, address string) (net.Conn, error)

	// Faults. A broker that runs is killed, stopped, or paused; one that does not is started.
	// start serves when it returns, unless too few brokers run for that.
	running(id int32) bool
	kill(id int32)
	stop(id int32)
	start(ids ...int32)
	pause(id int32)
	cut(from, to int32)  // what one broker sends to another
	slow(from, to int32) // the same, but it arrives, late
	// mend resumes what is paused and lifts what is cut or slow.
	mend()

	// Whom a fault is for.
	leader(topic string, partition int32) int32
	controller() int32
}

// disks is a system whose disks are in memory.
type disks interface {
	powerOff(ids ...int32) // at once; what was not synced is lost
	wipe(id int32)         // the data of a broker that does not run
	fill(id int32)         // has no room for records left; mend gives it back
}

// options are those of klamm's clients.
func options(s system) client.Options {
	return client.Options{BootstrapServers: s.bootstrap(), Dial: s.dial()}
}

// admin returns an admin client that ends with the test.
func admin(t testing.TB, s system) *client.Admin {
	t.Helper()
	a, err := client.NewAdmin(client.AdminOptions{Options: options(s)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// topicOf names a partition as history does.
func partition(topic string, index int32) history.Partition {
	return history.Partition{Topic: topic, Index: index}
}
