package broker

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// TestAnswerThatCannotBeEncoded has handlers give answers that their versions
// cannot say, at once and in their turn: the client is cut off, and the log says
// over what.
func TestAnswerThatCannotBeEncoded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := strings.Repeat("x", 1<<15) // a string of these versions ends at 32767 bytes
		ready := make(chan struct{})
		r := serve(t, nil, handlers{
			wire.Metadata: func(*api.Call, []byte) (api.Answer, error) {
				return api.Answer{Response: &msg.MetadataResponse{ClusterId: &long}}, nil
			},
			wire.Produce: func(*api.Call, []byte) (api.Answer, error) {
				resp := new(msg.ProduceResponse)
				resp.Responses = []msg.ProduceResponseTopicProduceResponse{{Name: long}}
				return api.Answer{Response: resp, Wait: func() { <-ready }}, nil
			},
		})
		now, turn := r.dial(t), r.dial(t)
		now.send(now.request(&msg.MetadataRequest{Topics: []msg.MetadataRequestTopic{}}, 4))
		if err := now.closed(); err != nil {
			t.Error(err)
		}
		turn.send(turn.request(produceTo("t", 0, -1, nil), 8))
		synctest.Wait()
		close(ready)
		if err := turn.closed(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		logged := r.logs.FilterMessage("closed a connection over an answer that cannot be encoded").All()
		if len(logged) != 2 {
			t.Fatalf("%d answers are logged, want 2", len(logged))
		}
		for i, want := range []struct {
			key     string
			version int16
		}{{wire.Metadata.String(), 4}, {wire.Produce.String(), 8}} {
			fields := logged[i].ContextMap()
			if fields["api_key"] != want.key || fields["version"] != want.version {
				t.Errorf("logged is %v version %v, want %s version %d", fields["api_key"], fields["version"], want.key, want.version)
			}
			if logged[i].Level.String() != "error" {
				t.Errorf("%s is logged at %s", want.key, logged[i].Level)
			}
		}
	})
}
