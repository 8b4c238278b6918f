package broker

import (
	"bufio"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
)

// goldenRequest is a request of the golden vectors: every field set, or null
// where it may be, or at its default.
type goldenRequest struct {
	API     *int16 `json:"api"`
	Name    string `json:"name"`
	Version int16  `json:"version"`
	Variant string `json:"variant"`
	Hex     string `json:"hex"`
}

func goldenRequests(t *testing.T) (out []goldenRequest) {
	t.Helper()
	f, err := os.Open("../wire/msg/testdata/vectors.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var g goldenRequest
		if err := json.Unmarshal(lines.Bytes(), &g); err != nil {
			t.Fatal(err)
		}
		if m, ok := msg.NewByName(g.Name).(msg.Request); ok && g.Name[len(g.Name)-len("Request"):] == "Request" {
			g.API = new(m.APIKey())
			out = append(out, g)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEveryRequestIsAnswered sends every version of every request that is
// served, with every field set, null, or at its default. What it asks for is
// mostly nonsense, but it is answered, in its version, and nothing breaks.
func TestEveryRequestIsAnswered(t *testing.T) {
	all := goldenRequests(t)
	synctest.Test(t, func(t *testing.T) {
		r := start(t, "auto.create.topics.enable=false")
		r.dial(t).create("orders", 1)
		answered := make(map[string]bool)
		for _, g := range all {
			key := wire.Key(*g.API)
			if r.server.tables[api.Broker].Lookup(key) == nil {
				continue
			}
			what := fmt.Sprintf("%s v%d %s", g.Name, g.Version, g.Variant)
			body, err := hex.DecodeString(g.Hex)
			if err != nil {
				t.Fatal(err)
			}
			req := msg.NewRequest(int16(key))
			if err := req.Decode(body, g.Version); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			switch q := req.(type) {
			case *msg.FetchRequest:
				q.MaxWaitMs = 100
			case *msg.DescribeAclsRequest: // 0 stands for what the client does not know
				for _, code := range []*int8{&q.ResourceTypeFilter, &q.PatternTypeFilter, &q.Operation, &q.PermissionType} {
					*code = max(*code, 1)
				}
			case *msg.ProduceRequest:
				if q.Acks == 0 {
					q.Acks = -1 // or there is no answer
				}
			}
			p := r.dial(t)
			p.send(p.request(req, g.Version))
			if _, err := p.tryAnswer(msg.NewResponse(int16(key)), g.Version); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			p.Close()
			answered[fmt.Sprint(key, g.Version)] = true
		}
		for key, row := range r.server.tables[api.Broker] {
			if row == nil {
				continue
			}
			for v := row.API.Min; v <= row.API.Max; v++ {
				if !answered[fmt.Sprint(wire.Key(key), v)] {
					t.Errorf("%s v%d was not asked", row.API.Name, v)
				}
			}
		}
		if got := r.dial(t).produce("orders", 0, "after"); got != 0 {
			t.Errorf("after all that: offset %d", got)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for _, e := range r.logs.All() {
			if e.Level > zap.InfoLevel {
				t.Errorf("%s: %s %v", e.Level, e.Message, e.ContextMap())
			}
		}
	})
}
