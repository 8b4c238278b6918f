package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
	"github.com/klamm-io/klamm/wire/prim"
	"github.com/klamm-io/klamm/wire/record"
)

const (
	persistFor   = 6 * time.Second  // how long a fault lasts that nothing in the client treats apart
	persistLong  = 22 * time.Second // and how long the others
	persistStart = 2 * time.Second  // what a client may need to begin
	persistMost  = 19               // requests and dials a second after that
)

// TestPersistentFaults has a broker answer one API with one fault for ever: each
// error code, at the top of the answer and below, and answers that are none.
// Whatever the client, it sends less than 20 requests a second after its start,
// and its user gets to see the fault: returned if trying again does not mend it,
// at least logged if it may.
func TestPersistentFaults(t *testing.T) {
	sent, apart := inSources(t)
	for _, name := range sent {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(persistent)), func(k wire.Key) bool { return apiName(k) == name }) {
			t.Errorf("the client sends %s, and no case has a broker that always refuses it", name)
		}
	}
	keys := slices.Sorted(maps.Keys(persistent))
	for _, k := range keys {
		for _, work := range persistent[k] {
			t.Run(apiName(k)+"/"+work.name, func(t *testing.T) {
				t.Parallel()
				applied := 0
				for _, fault := range faultsOf(k, apart) {
					if work.name == hasty.name && fault.odd == "" && !apart[fault.code] {
						continue // like the others, and slow
					}
					t.Run(fault.String(), func(t *testing.T) { applied += persist(t, k, work, fault, apart) })
				}
				if applied == 0 {
					t.Error("no answer had a code to set")
				}
			})
		}
	}
}

func apiName(k wire.Key) string {
	api, _ := wire.Lookup(k)
	return api.Name
}

// inSources returns the APIs whose requests are made somewhere in the client or
// its connection, and the error codes that are named there, besides one for each
// way to answer "is it retriable" and "what to look up anew".
func inSources(t *testing.T) (names []string, codes map[kerr.Code]bool) {
	codes = map[kerr.Code]bool{12345: true}
	type class struct {
		retriable bool
		refresh   kerr.Refresh
	}
	classes := map[class]bool{}
	byName := map[string]kerr.Code{}
	for _, c := range kerr.Codes() {
		byName[strings.ToLower(strings.ReplaceAll(c.Name(), "_", ""))] = c
		if k := (class{c.Retriable(), c.Refresh()}); !classes[k] {
			classes[k], codes[c] = true, true
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../wire/conn/*.go")
	if err != nil || len(more) == 0 {
		t.Fatalf("sources of connections: %v, %v", more, err)
	}
	known := map[string]string{}
	for k := wire.Key(0); k < 93; k++ {
		if api, ok := wire.Lookup(k); ok {
			known[msg.NewRequest(int16(k)).MessageName()] = api.Name
		}
	}
	for _, file := range append(files, more...) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, src, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "msg" && known[s.Sel.Name] != "" {
					names = append(names, known[s.Sel.Name])
				} else if ok && x.Name == "kerr" {
					if c, ok := byName[strings.ToLower(s.Sel.Name)]; ok {
						codes[c] = true
					}
				}
			}
			return true
		})
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 20 || len(codes) < 20 {
		t.Fatalf("the sources name only %v and %v", names, codes)
	}
	return names, codes
}

// fault is what is wrong with the answers to an API.
type fault struct {
	code  kerr.Code // if not None
	level int       // where the code is: 0 at the top of the answer, 1 in the entries of a list, 2 in lists in those
	odd   string    // another fault: of fake's drop, or one that refuse knows
}

func (f fault) String() string {
	switch {
	case f.odd != "":
		return f.odd
	case f.level > 0:
		return fmt.Sprint(f.code.Name(), " in list ", f.level)
	}
	return f.code.Name()
}

// notFaults are codes that an answer may have though all is well.
var notFaults = map[wire.Key]kerr.Code{
	wire.Produce:  kerr.DuplicateSequenceNumber, // the records are there
	wire.Metadata: kerr.ReplicaNotAvailable,     // the leader is
}

func faultsOf(k wire.Key, apart map[kerr.Code]bool) (all []fault) {
	levels := make(map[int]bool)
	errorLevels(reflect.TypeOf(msg.NewResponse(int16(k))).Elem(), 0, levels)
	for level := range levels {
		for _, c := range append(kerr.Codes(), 12345, -77) {
			if c != kerr.None && c != notFaults[k] && (apart[c] || !underRace) {
				all = append(all, fault{code: c, level: level})
			}
		}
	}
	for _, odd := range []string{"before", "after", "silent", "garbage", "correlation", "huge", "empty"} {
		all = append(all, fault{odd: odd})
	}
	if k == wire.ApiVersions {
		all = append(all, fault{odd: "refused"}) // the connection
	}
	if k == wire.Fetch {
		all = append(all, fault{odd: "partial"}, fault{odd: "old records"}, fault{odd: "corrupt"}, fault{odd: "at once"})
	}
	return all
}

// errorLevels notes in how many lists below a response there are error codes.
func errorLevels(r reflect.Type, depth int, levels map[int]bool) {
	for i := range r.NumField() {
		f, d := r.Field(i), depth
		t := f.Type
		for t.Kind() == reflect.Slice {
			t = t.Elem()
			d++
		}
		if f.Name == "ErrorCode" {
			levels[depth] = true
		} else if t.Kind() == reflect.Struct {
			errorLevels(t, d, levels)
		}
	}
}

// poison sets the error codes of an answer at one level.
func poison(v reflect.Value, f fault, depth int) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			poison(v.Elem(), f, depth)
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), f, depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			switch {
			case v.Type().Field(i).Name != "ErrorCode":
				poison(v.Field(i), f, depth)
			case f.level == depth:
				v.Field(i).SetInt(int64(f.code))
			}
		}
	}
}

// world is one fake broker, what it was asked, and what the user saw.
type world struct {
	t   *testing.T
	key wire.Key // of the API with the fault
	f   *fake
	o   Options

	lasts time.Duration
	parts int // partitions of topic t

	log  bytes.Buffer // guarded by mu, as what follows
	mu   sync.Mutex
	at   []time.Time // of requests
	dial []time.Time
	errs []error // returned to the user
	hit  int     // faulty answers
	set  int     // those with a code

	rejoins  bool // the client joins its group again when it is thrown out
	onlyLogs bool // the fault comes when the user is gone
}

func (w *world) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(b)
}

// Sync makes world a zapcore.WriteSyncer.
func (w *world) Sync() error { return nil }

// tick counts a request or a dial. It slows a client down that does not pause
// at all: the virtual clock would stand still otherwise.
func (w *world) tick(what *[]time.Time) {
	w.mu.Lock()
	*what = append(*what, time.Now())
	n := len(*what)
	w.mu.Unlock()
	if n > 1000 {
		time.Sleep(time.Millisecond)
	}
}

// saw notes what a call returned.
func (w *world) saw(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.errs = append(w.errs, err)
	}
}

// persist returns how many answers had the fault's code.
func persist(t *testing.T, k wire.Key, work workload, fault fault, apart map[kerr.Code]bool) (applied int) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, key: k, f: newFake(t)}
		w.lasts, w.parts = persistFor, 4
		if fault.code == kerr.None || apart[fault.code] {
			w.lasts = persistLong
		}
		if k == wire.Produce || k == wire.Fetch || k == wire.ListOffsets { // for each partition by itself
			w.parts = 12
		}
		w.f.topic("t", slices.Repeat([]int32{1}, w.parts)...)
		for i := range w.parts {
			w.f.fill("t", i, record.None, 2, 3)
		}
		w.f.script = func(id int32, h wire.RequestHeader, req msg.Request) (msg.Response, string) {
			w.tick(&w.at)
			if h.Key != k {
				return nil, ""
			}
			w.mu.Lock()
			w.hit++
			w.mu.Unlock()
			return w.refuse(id, h, req, fault)
		}
		w.o = w.f.options()
		w.o.RequestTimeout = 4 * time.Second
		w.o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			w.tick(&w.dial)
			if fault.odd == "refused" {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.hit++
				return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("refused")}
			}
			return w.f.n.Dial(ctx, network, addr)
		}
		w.o.Logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"}), w, zapcore.InfoLevel))
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), w.lasts)
		defer cancel()
		work.run(w, ctx)
		w.judge(fault, began)
		w.mu.Lock()
		defer w.mu.Unlock()
		applied = w.set
	})
	return applied
}

// refuse makes the faulty answer, at once: a broker that waits is kinder.
func (w *world) refuse(id int32, h wire.RequestHeader, req msg.Request, fault fault) (msg.Response, string) {
	var resp msg.Response
	switch r := req.(type) {
	case *msg.FetchRequest:
		resp = w.f.fetch(id, r)
	case *msg.JoinGroupRequest:
		resp = &msg.JoinGroupResponse{GenerationId: -1, MemberId: "m0"}
	case *msg.SyncGroupRequest:
		w.f.mu.Lock()
		w.f.remove(r.GroupId, r.MemberId) // it joins again, alone
		w.f.mu.Unlock()
		resp = new(msg.SyncGroupResponse)
	case *msg.HeartbeatRequest:
		w.f.mu.Lock()
		w.f.remove(r.GroupId, r.MemberId)
		w.f.mu.Unlock()
		resp = new(msg.HeartbeatResponse)
	case *msg.OffsetDeleteRequest:
		d := new(msg.OffsetDeleteResponse)
		for _, t := range r.Topics {
			d.Topics = append(d.Topics, msg.OffsetDeleteResponseTopic{Name: t.Name, Partitions: make([]msg.OffsetDeleteResponsePartition, len(t.Partitions))})
		}
		resp = d
	case *msg.OffsetFetchRequest:
		resp = w.f.committed(r)
	default:
		resp = w.f.handle(id, h, req)
	}
	switch fault.odd {
	case "":
		well, _ := resp.AppendTo(nil, h.Version)
		poison(reflect.ValueOf(resp), fault, 0)
		ill, err := resp.AppendTo(nil, h.Version)
		if err != nil || bytes.Equal(well, ill) { // this version has no such field, or the answer no such entry
			return w.f.handle(id, h, req), ""
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.set++
		return resp, ""
	case "silent":
		return nil, "silent"
	case "empty":
		resp = msg.NewResponse(int16(h.Key))
		resp.SetDefaults()
		return resp, ""
	case "partial", "old records", "corrupt", "at once":
		for _, t := range resp.(*msg.FetchResponse).Responses {
			for i := range t.Partitions {
				b := slices.Clone(t.Partitions[i].Records.B)
				switch fault.odd {
				case "partial":
					b = b[:min(40, len(b))]
				case "old records":
					b = slices.Clone([]byte(w.f.topics["t"][0].batches[0]))
				case "corrupt":
					b[len(b)-1] ^= 1
				case "at once":
					b = nil
				}
				t.Partitions[i].Records = prim.Records{B: b}
			}
		}
		return resp, ""
	}
	return resp, fault.odd
}

// judge looks at what was sent and what the user saw.
func (w *world) judge(fault fault, began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for what, times := range map[string][]time.Time{"requests": w.at, "dials": w.dial} {
		perSecond := make([]int, w.lasts/time.Second)
		for _, at := range times {
			if s := int(at.Sub(began) / time.Second); s < len(perSecond) {
				perSecond[s]++
			}
		}
		if most := slices.Max(perSecond[persistStart/time.Second:]); most > persistMost {
			w.t.Errorf("%d %s in a second: %v", most, what, perSecond)
		}
	}
	if w.hit == 0 {
		w.t.Fatal("the request was not sent")
	}
	if fault.code == kerr.None {
		if fault.odd != "empty" && fault.odd != "at once" && len(w.errs) == 0 && w.log.Len() == 0 {
			w.t.Errorf("nothing was returned and nothing logged")
		}
		return
	}
	if w.set == 0 {
		return // the answer has no such entries
	}
	returned := slices.ContainsFunc(w.errs, func(err error) bool { return errors.Is(err, fault.code) })
	if !returned && !strings.Contains(w.log.String(), fault.code.Name()) {
		w.t.Errorf("not in any error or log; returned %v", brief(w.errs))
	}
	leads := w.key == wire.Metadata && fault.level == 2 // the partition has a leader all the same
	if !returned && !fault.code.Retriable() && !w.mends(fault.code) && !leads {
		w.t.Errorf("only logged; returned %v", brief(w.errs))
	}
	for _, err := range w.errs {
		if strings.TrimSpace(err.Error()) == context.DeadlineExceeded.Error() {
			w.t.Errorf("an error says only %q", err)
		}
	}
}

// mends reports whether the client itself does something about a code that is
// not retriable: it joins its group again, or has left it for good.
func (w *world) mends(code kerr.Code) bool {
	return w.rejoins && slices.Contains([]kerr.Code{kerr.UnknownMemberId, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.MemberIdRequired}, code) || w.onlyLogs
}

// brief returns the different errors.
func brief(errs []error) []string {
	var all []string
	for _, err := range errs {
		all = append(all, err.Error())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestFlappingLeader has every answer to Metadata, or every refusal (KIP-951),
// name another leader, with a newer epoch, and every broker refuse: news each
// time, and no progress.
func TestFlappingLeader(t *testing.T) {
	for _, c := range []struct {
		work workload
		hint bool
	}{{producing, false}, {plain, false}, {consuming, false}, {producing, true}, {plain, true}} {
		work := c.work
		t.Run(fmt.Sprint(work.name, " hinted ", c.hint), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{t: t, key: wire.Metadata, f: newFake(t, 1, 2), lasts: 20 * time.Second, parts: 3, hit: 1}
				w.f.topic("t", 1, 1, 1)
				move := func() {
					for i := range int32(3) {
						w.f.mu.Lock()
						leader := 3 - w.f.topics["t"][i].leader
						w.f.mu.Unlock()
						w.f.move("t", i, leader)
					}
				}
				w.f.script = func(id int32, h wire.RequestHeader, req msg.Request) (msg.Response, string) {
					w.tick(&w.at)
					fault := fault{code: kerr.NotLeaderOrFollower, level: 2}
					switch req.(type) {
					case *msg.MetadataRequest:
						if !c.hint {
							move()
						}
					case *msg.ProduceRequest, *msg.FetchRequest, *msg.ListOffsetsRequest:
						if c.hint {
							w.f.mu.Lock()
							leads := w.f.topics["t"][0].leader == id
							w.f.mu.Unlock()
							if leads {
								move()
							}
							return nil, "" // the broker tells who leads now
						}
						return w.refuse(id, h, req, fault)
					}
					return nil, ""
				}
				w.o = w.f.options()
				began := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), w.lasts)
				defer cancel()
				work.run(w, ctx)
				w.judge(fault{odd: "at once"}, began)
			})
		})
	}
}
