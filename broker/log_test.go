package broker

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// A client that is closed over a request, or refused for good, is named in the
// log: once, and not each time that it tries again.
func TestRefusedClientsAreNamedOnce(t *testing.T) {
	bubble(t, nil, func(t *testing.T, r *rig) {
		for range 5 {
			p := r.dial(t)
			p.ask(&msg.ApiVersionsRequest{ClientSoftwareName: "some-client", ClientSoftwareVersion: "1.2"}, 3, new(msg.ApiVersionsResponse))
			p.send(p.frame(wire.Metadata, 12, []byte{9}))
			if err := p.closed(); err != nil {
				t.Fatal(err)
			}
			q := r.dial(t)
			q.ask(&msg.FindCoordinatorRequest{Key: "t", KeyType: 1}, 2, new(msg.FindCoordinatorResponse))
		}
		synctest.Wait()
		lines := r.logs.FilterMessage("closed a connection over a bad request").All()
		if len(lines) != 1 {
			t.Fatalf("%d lines for a client that is closed again and again", len(lines))
		}
		got := lines[0].ContextMap()
		if got["client_id"] != "test" || got["software"] != "some-client" || got["software_version"] != "1.2" || got["peer"] == nil {
			t.Errorf("the line says %v", got)
		}
		refused := r.logs.FilterMessage("refused to coordinate: not supported yet").All()
		if len(refused) != 1 || refused[0].ContextMap()["client_id"] != "test" || refused[0].ContextMap()["kind"] != "transaction" {
			t.Errorf("refused coordinators: %v", refused)
		}
		// A minute later it is said again, with how often it happened.
		time.Sleep(time.Minute)
		q := r.dial(t)
		q.ask(&msg.FindCoordinatorRequest{Key: "t", KeyType: 1}, 2, new(msg.FindCoordinatorResponse))
		if refused = r.logs.FilterMessage("refused to coordinate: not supported yet").All(); len(refused) != 2 || fmt.Sprint(refused[1].ContextMap()["not_logged_before"]) != "4" {
			t.Errorf("a minute later: %v", refused)
		}
	})
}

// A rebalance is one line that says who came, who went and how long it took.
func TestRebalancesAreLogged(t *testing.T) {
	bubble(t, []string{"group.initial.rebalance.delay.ms=3000"}, func(t *testing.T, r *rig) {
		p := groupPeer(t, r)
		req := &msg.JoinGroupRequest{GroupId: "g", ProtocolType: "consumer", SessionTimeoutMs: 10000, RebalanceTimeoutMs: 60000, Protocols: []msg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{}}}}
		var joined msg.JoinGroupResponse
		p.ask(req, 3, &joined)
		p.ask(&msg.LeaveGroupRequest{GroupId: "g", MemberId: joined.MemberId}, 2, new(msg.LeaveGroupResponse))
		synctest.Wait()
		lines := r.logs.FilterMessage("group rebalanced").All()
		if len(lines) != 2 {
			t.Fatalf("%d lines", len(lines))
		}
		came, went := lines[0].ContextMap(), lines[1].ContextMap()
		id := "[" + joined.MemberId + "]"
		if came["group"] != "g" || fmt.Sprint(came["joined"]) != id || fmt.Sprint(came["members"]) != "1" || came["took"] != 3*time.Second {
			t.Errorf("after a join: %v", came)
		}
		if fmt.Sprint(went["left"]) != id || fmt.Sprint(went["members"]) != "0" || fmt.Sprint(went["joined"]) != "[]" {
			t.Errorf("after a leave: %v", went)
		}
	})
}

// A peer that sends what is no request of Kafka, each time something else, is one
// line too.
func TestAPeerThatSendsAnythingIsNamedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, nil, handlers{})
		for i := range 100 {
			p := r.dial(t)
			p.send([]byte{0x7f, 0, 0, byte(i)}) // a port scanner, another protocol, a client that is broken
			if err := p.closed(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := r.logs.FilterMessage("closed a connection over a bad request").Len(); n != 1 {
			t.Errorf("%d lines in a second about one peer", n)
		}
	})
}
