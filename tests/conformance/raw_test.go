package conformance_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/klamm-io/klamm/tests/conformance/driver"
	"github.com/klamm-io/klamm/tests/systems"
)

// rawConn is a connection that sends what it is told to.
type rawConn struct {
	net.Conn
	correlation int32
}

func dialRaw(b *systems.Process) (*rawConn, error) {
	c, err := net.Dial("tcp", b.Addr)
	return &rawConn{Conn: c}, err
}

// errClosed means that the broker closed the connection instead of answering.
var errClosed = errors.New("connection closed")

// exchange sends a frame without its size and returns the one that comes back.
func (c *rawConn) exchange(frame []byte) ([]byte, error) {
	c.SetDeadline(time.Now().Add(driver.Limit))
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		return nil, errClosed
	}
	return c.read()
}

func (c *rawConn) read() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, closedOr(err)
	}
	out := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(c, out)
	return out, closedOr(err)
}

// closedOr tells a closed connection from one that is only silent.
func closedOr(err error) error {
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return errClosed
}

// header returns a request header: version 2 where flexible.
func header(key, version int16, correlation int32, flexible bool) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(correlation))
	b = append(b, 0, 3, 'r', 'a', 'w')
	if flexible {
		b = append(b, 0)
	}
	return b
}

// ask sends a request in the version that it is set to and decodes the answer.
func (c *rawConn) ask(req kmsg.Request) (kmsg.Response, error) {
	c.correlation++
	frame, err := c.exchange(req.AppendTo(header(req.Key(), req.GetVersion(), c.correlation, req.IsFlexible())))
	if err != nil {
		return nil, err
	}
	if len(frame) < 4 || int32(binary.BigEndian.Uint32(frame)) != c.correlation {
		return nil, fmt.Errorf("answer %x to request %d", frame[:min(len(frame), 16)], c.correlation)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	body := frame[4:]
	if resp.IsFlexible() && req.Key() != 18 {
		if body[0] != 0 {
			return nil, fmt.Errorf("header has %d tagged fields", body[0])
		}
		body = body[1:]
	}
	if req.Key() == 18 && len(body) >= 2 && binary.BigEndian.Uint16(body) == 35 {
		resp.SetVersion(0) // the answer to a version that is not supported
	}
	return resp, resp.ReadFrom(body)
}

// world is what requests refer to on one broker.
type world struct {
	broker *systems.Process
	topic  [16]byte // id of topic raw
	dir    string   // a log directory
	words  bool     // compare what errors say
}

// rawCase is a request, made anew for each version and broker.
type rawCase struct {
	name  string
	build func(w world, version int16) kmsg.Request // nil where the version cannot say it
}

// difference is one that is known, at a path of an answer, and why.
type difference struct{ name, path, why string }

// TestRaw asks both brokers the same requests in every version that both and
// kmsg know, and compares the answers field by field.
func TestRaw(t *testing.T) {
	worlds := []world{build(t, klamm), build(t, jvm)}
	ranges := versions(t)
	t.Run("clients", func(t *testing.T) { compareAnswers(t, worlds, ranges, rawCases, differences) })
	for i := range worlds {
		worlds[i].words = true
	}
	t.Run("admin", func(t *testing.T) { compareAnswers(t, worlds, ranges, adminCases, adminDifferences) })
	t.Run("configs", func(t *testing.T) { compareAnswers(t, worlds, ranges, configCases, configDifferences) })
}

// compareAnswers asks the requests of cases. Of the differences each must be found.
func compareAnswers(t *testing.T, worlds []world, ranges map[int16][2]int16, cases []rawCase, differences []difference) {
	used := make(map[difference]bool)
	asked := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			probe := c.build(worlds[0], maxVersion(c, worlds[0]))
			if probe == nil {
				t.Fatal("no version can say it")
			}
			r, ok := ranges[probe.Key()]
			if !ok {
				t.Fatalf("klamm does not advertise %s", kmsg.NameForKey(probe.Key()))
			}
			seen := make(map[found][]int16) // the versions of each difference
			for v := r[0]; v <= min(r[1], probe.MaxVersion()); v++ {
				var answers [2]any
				said := true
				for i, w := range worlds {
					req := c.build(w, v)
					if req == nil {
						said = false
						break
					}
					req.SetVersion(v)
					answers[i] = answer(t, w, req)
				}
				if !said {
					continue
				}
				asked++
				for _, d := range diff("", answers[0], answers[1]) {
					if k, ok := known(differences, c.name, d.path); ok {
						used[k] = true
						continue
					}
					seen[d] = append(seen[d], v)
				}
			}
			for d, at := range seen {
				t.Errorf("versions %d: %s is %s, and %s from the JVM broker", at, d.path, d.a, d.b)
			}
		})
	}
	t.Logf("%d pairs of answers compared", asked)
	whole := !t.Failed()
	for _, d := range differences {
		if whole && !used[d] {
			t.Errorf("the known difference %+v has gone: take it off the list", d)
		}
	}
}

func maxVersion(c rawCase, w world) int16 {
	for v := int16(20); v >= 0; v-- {
		if req := c.build(w, v); req != nil {
			return v
		}
	}
	return 0
}

// known returns the entry of differences that a difference falls under.
func known(differences []difference, name, at string) (difference, bool) {
	for _, d := range differences {
		if n, err := path.Match(d.name, name); err != nil || !n {
			continue
		}
		if m, err := path.Match(d.path, at); err == nil && m {
			return d, true
		}
	}
	return difference{}, false
}

// answer asks on a connection of its own and returns what came, as plain values.
func answer(t *testing.T, w world, req kmsg.Request) any {
	t.Helper()
	c, err := dialRaw(w.broker)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, err := c.ask(req)
	if errors.Is(err, errClosed) {
		return "connection closed"
	}
	if err != nil {
		t.Fatalf("%s version %d of %s: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), w.broker.Name, err)
	}
	text, err := json.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&plain); err != nil {
		t.Fatal(err)
	}
	return normal("", plain, w)
}

// normal hides what cannot be the same on two brokers and sorts lists, whose
// order says nothing in any answer that is asked for.
func normal(field string, v any, w world) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "Documentation") // each broker has its own words, and not for every key
		for k := range v {
			v[k] = normal(k, v[k], w)
		}
		if keys, ok := v["ApiKeys"].([]any); ok {
			v["ApiKeys"] = slices.DeleteFunc(keys, func(k any) bool {
				n, _ := k.(map[string]any)["ApiKey"].(json.Number).Int64()
				return notYet[int16(n)] != ""
			})
		}
		if name, ok := v["Name"].(string); ok && strings.HasPrefix(name, "log.dir") || ok && hostKeys[name] {
			delete(v, "Value")
			delete(v, "ConfigSynonyms")
		}
	case []any:
		for i := range v {
			v[i] = normal("", v[i], w)
		}
		if field == "TopicID" {
			for i := range v {
				if fmt.Sprint(v[i]) != "0" {
					return "an id"
				}
			}
			return "no id"
		}
		sort.SliceStable(v, func(i, j int) bool { return order(v[i]) < order(v[j]) })
	case string:
		switch field {
		case "Host", "ClusterID":
			return "hidden"
		case "MemberID", "LeaderID":
			if v != "" {
				return "a member"
			}
		case "ErrorMessage":
			if w.words {
				return strings.ReplaceAll(strings.ReplaceAll(v, w.dir, "DIR"), w.broker.Addr, "ADDR")
			}
			if v != "" {
				return "a text" // null and empty are the same to a client only by luck
			}
		}
	case json.Number:
		n, _ := v.Int64()
		switch {
		case field == "Port", field == "ProducerID" && n >= 0:
			return "hidden"
		case n >= began && n <= began+3600_000:
			return "now"
		}
	}
	return v
}

// order is what an element is sorted by: what names it.
func order(v any) string {
	if m, ok := v.(map[string]any); ok {
		var b strings.Builder
		for _, k := range []string{"Name", "Topic", "Group", "Key", "ApiKey", "Partition", "ResourceName", "Source", "User", "Type"} {
			fmt.Fprintf(&b, "%v|", m[k])
		}
		return b.String()
	}
	return fmt.Sprint(v)
}

// found is a difference between two values at a path.
type found struct{ path, a, b string }

// diff compares plain values. A path is made of field names; an element of a
// list is named by what sorts it.
func diff(at string, a, b any) (out []found) {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			break
		}
		for k := range a {
			out = append(out, diff(at+"/"+k, a[k], b[k])...)
		}
		for k := range b {
			if _, ok := a[k]; !ok {
				out = append(out, found{at + "/" + k, "absent", brief(b[k])})
			}
		}
		return out
	case []any:
		b, ok := b.([]any)
		if !ok {
			break
		}
		other := make(map[string]any)
		for i, l := range labels(b) {
			other[l] = b[i]
		}
		for i, l := range labels(a) {
			e := a[i]
			if o, ok := other[l]; ok {
				out = append(out, diff(at+"/"+l, e, o)...)
				delete(other, l)
			} else {
				out = append(out, found{at + "/" + l, brief(e), "absent"})
			}
		}
		for l, o := range other {
			out = append(out, found{at + "/" + l, "absent", brief(o)})
		}
		return out
	}
	if fmt.Sprint(a) != fmt.Sprint(b) {
		out = append(out, found{at, brief(a), brief(b)})
	}
	return out
}

// labels names the elements of a list; those of one name are numbered.
func labels(list []any) (out []string) {
	count := make(map[string]int)
	for i, e := range list {
		l := label(e, i)
		if count[l]++; count[l] > 1 {
			l = fmt.Sprintf("%s#%d", l, count[l])
		}
		out = append(out, l)
	}
	return out
}

// label names an element of a list.
func label(v any, i int) string {
	m, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprint(i)
	}
	for _, k := range []string{"Name", "ApiKey", "Group", "ResourceName", "Partition", "User"} {
		if n, ok := m[k]; ok && fmt.Sprint(n) != "" {
			return strings.ReplaceAll(fmt.Sprint(n), "/", ":")
		}
	}
	if n, ok := m["Topic"].(string); ok && n != "" {
		return strings.ReplaceAll(n, "/", ":")
	}
	return fmt.Sprint(i)
}

func brief(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	if len(text) > 300 {
		text = append(text[:300], "..."...)
	}
	return string(text)
}

// versions returns the versions of each API that klamm advertises. They must be
// those of the JVM broker, and what klamm leaves out must be on the list.
func versions(t *testing.T) map[int16][2]int16 {
	t.Helper()
	var all [2]map[int16][2]int16
	for i, b := range brokers() {
		c, err := dialRaw(b)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		req := kmsg.NewPtrApiVersionsRequest()
		req.SetVersion(0)
		resp, err := c.ask(req)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = make(map[int16][2]int16)
		for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
			all[i][k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
		}
	}
	for key, r := range all[0] {
		if all[1][key] != r {
			t.Errorf("%s: klamm advertises versions %v, the JVM broker %v", kmsg.NameForKey(key), r, all[1][key])
		}
	}
	for key, r := range all[1] {
		if _, ok := all[0][key]; !ok && notYet[key] == "" {
			t.Errorf("%s versions %v are not advertised, and not on the list of what is to come", kmsg.NameForKey(key), r)
		}
	}
	for key := range notYet {
		if _, ok := all[0][key]; ok {
			t.Errorf("%s is advertised: take it off the list of what is to come", kmsg.NameForKey(key))
		}
	}
	return all[0]
}

// TestFutureApiVersions asks both brokers for ApiVersions in a version that
// neither knows. They answer in version 0, with error 35 and the versions that
// the client can ask again with (KIP-511).
func TestFutureApiVersions(t *testing.T) {
	var got [2]string
	for i, b := range brokers() {
		c, err := dialRaw(b)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		req := kmsg.NewPtrApiVersionsRequest()
		req.SetVersion(99)
		resp, err := c.ask(req)
		if err != nil {
			t.Fatalf("%s: %v", b.Name, err)
		}
		r := resp.(*kmsg.ApiVersionsResponse)
		got[i] = fmt.Sprintf("error %d %+v", r.ErrorCode, r.ApiKeys)
		if r.ErrorCode != 35 {
			t.Errorf("%s answers error %d, want 35", b.Name, r.ErrorCode)
		}
	}
	if got[0] != got[1] {
		t.Errorf("klamm: %s, the JVM broker: %s", got[0], got[1])
	}
}
