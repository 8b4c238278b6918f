package conformance_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"sort"
	"strings"
)

// gridDifference is one that is known: of which requests, of which fields of the
// answer, and why. Each of the first three is a pattern, as of package path.
type gridDifference struct{ what, edge, path, why string }

func (d gridDifference) holds(f gridFound) bool {
	for _, p := range [][2]string{{d.what, f.what}, {d.edge, f.edge}, {d.path, f.path}} {
		if ok, err := path.Match(p[0], p[1]); err != nil || !ok {
			return false
		}
	}
	return true
}

// gridFound is a difference between two answers: the request, the edge, and the
// field. The elements of a list are not told apart in it.
type gridFound struct{ what, edge, path, a, b string }

// gridOthers are the names that belong to cases, and what else stands in lists
// of all that there is.
var gridOthers = regexp.MustCompile(`^(grid\.\d{5}|shared)`)

// memberID is what a broker makes the id of a member of.
var memberID = regexp.MustCompile(`(?s)^.*-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$|^[A-Za-z0-9_-]{22}-[a-z]*$`)

// normalAnswer hides what cannot be the same on two brokers.
func normalAnswer(v any, s *scene) any { return s.normal("", v) }

func (s *scene) normal(field string, v any) any {
	switch v := v.(type) {
	case object:
		out := make(object, len(v))
		for k, e := range v {
			out[k] = s.normal(k, e)
		}
		delete(out, "ThrottleTimeMs")
		delete(out, "ConfigDocumentation")
		delete(out, "Documentation")
		return out
	case list:
		out := make(list, 0, len(v))
		for _, e := range v {
			if !s.foreign(e) {
				out = append(out, s.normal(field, e))
			}
		}
		if field == "" { // what was asked afterwards, in order
			return out
		}
		sort.SliceStable(out, func(i, j int) bool { return identity(out[i]) < identity(out[j]) })
		return out
	case uuid:
		return s.id(v)
	case []byte:
		return hex.EncodeToString(v)
	case string:
		switch field {
		case "Host", "ClientHost", "ClusterId", "LogDir", "Rack", "RackId":
			return "hidden"
		case "ErrorMessage", "BatchIndexErrorMessage":
			return strings.ReplaceAll(string([]rune(v)), s.name, "NAME")
		}
		if memberID.MatchString(v) {
			return "a member id"
		}
		// klamm keeps bytes that are no text, and the JVM broker replaces them.
		v = string([]rune(v))
		if rest, ok := strings.CutPrefix(v, s.name); ok && s.name != "" {
			v = fmt.Sprintf("NAME%+q", rest)
		}
		return v
	case int64:
		switch field {
		case "Port", "TotalBytes", "UsableBytes", "CordonedBytes":
			return "hidden"
		case "ProducerId", "SessionId":
			if v > 0 || v == 0 && field == "ProducerId" {
				return "hidden"
			}
		}
		if v >= began && v <= began+3600_000 {
			return "now"
		}
	}
	return v
}

// id names the id of a topic.
func (s *scene) id(v uuid) string {
	for _, n := range []string{s.name, "shared"} {
		if s.ids[n] == v && v != (uuid{}) {
			return "the id of " + n
		}
	}
	if v == (uuid{}) || bytes.Count(v[:], []byte{0}) > 10 { // those that requests name
		return hex.EncodeToString(v[:])
	}
	return "an id"
}

// foreign reports whether an element of a list belongs to another case.
func (s *scene) foreign(v any) bool {
	o, ok := v.(object)
	if !ok {
		return false
	}
	for _, k := range nameFields {
		n, ok := o[k].(string)
		if !ok {
			continue
		}
		if gridOthers.MatchString(n) && !strings.HasPrefix(n, s.name) && n != "shared" {
			return true
		}
	}
	return false
}

var nameFields = []string{"Name", "Topic", "TopicName", "GroupId", "ResourceName", "Key", "Group", "TransactionalId"}

// identity is what an element of a list is found by in the other list.
func identity(v any) string {
	o, ok := v.(object)
	if !ok {
		return fmt.Sprint(v)
	}
	var b strings.Builder
	for _, k := range append(nameFields, "TopicId", "ApiKey", "PartitionIndex", "Partition", "Index", "MemberId", "MemberAssignment", "ResourceType", "NodeId", "BrokerId", "Source", "ConfigSource", "ErrorCode") {
		if e, ok := o[k]; ok {
			fmt.Fprintf(&b, "%v|", e)
		}
	}
	return b.String()
}

// gridDiff compares two values that are normal.
func gridDiff(at string, a, b any) (out []gridFound) {
	switch a := a.(type) {
	case object:
		b, ok := b.(object)
		if !ok {
			break
		}
		for k := range a {
			out = append(out, gridDiff(strings.TrimPrefix(at+"."+k, "."), a[k], b[k])...)
		}
		return out
	case list:
		b, ok := b.(list)
		if !ok {
			break
		}
		if len(a) != len(b) {
			return append(out, gridFound{path: at, a: fmt.Sprintf("%d elements %s", len(a), short(a)), b: fmt.Sprintf("%d elements %s", len(b), short(b))})
		}
		for i := range a {
			here := at
			if strings.HasSuffix(at, "Configs") || strings.HasSuffix(at, "Features") {
				if o, ok := a[i].(object); ok {
					here += " " + fmt.Sprint(o["Name"])
				}
			}
			out = append(out, gridDiff(here, a[i], b[i])...)
		}
		return out
	}
	if fmt.Sprint(a) != fmt.Sprint(b) {
		out = append(out, gridFound{path: strings.TrimPrefix(at, "."), a: short(a), b: short(b)})
	}
	return out
}

func short(v any) string {
	text := brief(v)
	if len(text) > 200 {
		text = text[:200] + "..."
	}
	return text
}
