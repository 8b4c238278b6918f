// Package wire compares the messages of this project with those of franz-go,
// which were written from the same protocol by other people.
package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/schema"
)

// theirMessage is a request or a response of kmsg.
type theirMessage interface {
	Key() int16
	MaxVersion() int16
	SetVersion(int16)
	AppendTo([]byte) []byte
	ReadFrom([]byte) error
}

// pair is one message as both know it.
type pair struct {
	name   string
	schema *schema.Message
	low    int16
	high   int16
	theirs func() theirMessage
}

func pairs(t testing.TB) []pair {
	t.Helper()
	files, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	var out []pair
	for _, f := range files {
		if f.API == nil {
			continue
		}
		key := int16(f.API.Key)
		for _, m := range f.Messages {
			p := pair{name: m.Name, schema: m}
			switch m.Kind {
			case "request":
				if kmsg.RequestForKey(key) == nil {
					continue
				}
				p.theirs = func() theirMessage { return kmsg.RequestForKey(key) }
			case "response":
				if kmsg.ResponseForKey(key) == nil {
					continue
				}
				p.theirs = func() theirMessage { return kmsg.ResponseForKey(key) }
			default:
				continue
			}
			p.low, p.high = m.Versions.Min, min(m.Versions.Max, p.theirs().MaxVersion())
			out = append(out, p)
		}
	}
	return out
}

// rounds is how many random values each version of each message gets, in each
// direction.
const rounds = 30

// TestOursReadByTheirs writes random messages here, has kmsg read and write
// them, and wants the same bytes back.
func TestOursReadByTheirs(t *testing.T) {
	versions := 0
	for i, p := range pairs(t) {
		for v := p.low; v <= p.high; v++ {
			versions++
			for round := range rounds {
				seed := uint64(i)<<32 | uint64(v)<<16 | uint64(round)
				r := random{rand.New(rand.NewPCG(1, seed)), v}
				m := msg.NewByName(p.name)
				r.ours(reflect.ValueOf(m).Elem(), p.schema.Root)
				want, err := m.AppendTo(nil, v)
				if err != nil {
					t.Errorf("%s v%d, seed %d: %v", p.name, v, seed, err)
					break
				}
				k := p.theirs()
				k.SetVersion(v)
				if err := k.ReadFrom(want); err != nil {
					t.Errorf("%s v%d, seed %d: kmsg cannot read it: %v\n%x", p.name, v, seed, err, want)
					break
				}
				if got := k.AppendTo(nil); !bytes.Equal(got, want) {
					t.Errorf("%s v%d, seed %d: %s", p.name, v, seed, firstDifference(got, want))
					break
				}
			}
		}
	}
	t.Logf("%d versions of messages", versions)
	if versions < 400 {
		t.Errorf("%d versions were compared", versions)
	}
}

// TestTheirsReadByOurs is the other way round.
func TestTheirsReadByOurs(t *testing.T) {
	for i, p := range pairs(t) {
		used := msg.NewByName(p.name)
		for v := p.low; v <= p.high; v++ {
			for round := range rounds {
				seed := uint64(i)<<32 | uint64(v)<<16 | uint64(round)
				r := random{rand.New(rand.NewPCG(2, seed)), v}
				k := p.theirs()
				r.theirs(reflect.ValueOf(k).Elem())
				k.SetVersion(v)
				want := k.AppendTo(nil)
				for _, m := range []msg.Message{msg.NewByName(p.name), used} {
					if err := m.Decode(want, v); err != nil {
						t.Errorf("%s v%d, seed %d: cannot read kmsg's: %v\n%x", p.name, v, seed, err, want)
						break
					}
					got, err := m.AppendTo(nil, v)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s v%d, seed %d: %v: %s", p.name, v, seed, err, firstDifference(got, want))
						break
					}
				}
				if t.Failed() {
					break
				}
			}
		}
	}
}

// TestBothKnowTheSameVersions lists what only one of the two knows, so that the
// comparison is known to cover the protocol.
func TestBothKnowTheSameVersions(t *testing.T) {
	compared := make(map[wire.Key]bool)
	for _, p := range pairs(t) {
		if p.high >= p.low {
			compared[wire.Key(p.theirs().Key())] = true
		}
		if p.high < p.schema.Versions.Max {
			t.Logf("%s: kmsg knows versions up to %d of %d", p.name, p.high, p.schema.Versions.Max)
		}
	}
	if len(compared) < 70 {
		t.Errorf("%d APIs are compared", len(compared))
	}
}

func firstDifference(got, want []byte) string {
	n := 0
	for n < len(got) && n < len(want) && got[n] == want[n] {
		n++
	}
	return fmt.Sprintf("differs at byte %d\n got %x\nwant %x", n, got, want)
}
