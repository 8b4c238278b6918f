package conformance_test

import (
	"maps"
	"slices"
	"testing"
)

// askEarly asks what concerns groups before there is a topic for their offsets:
// the answers are the same, and none of them makes that topic. Only who looks for
// a coordinator does.
func askEarly(t *testing.T, pair []*gridBroker) {
	t.Helper()
	ranges := gridVersions(t, pair)
	bases := make(map[int16]*gridBase)
	for i := range gridBases {
		if b := &gridBases[i]; b.key >= 8 && b.key <= 16 && b.key != 10 || b.key == 42 || b.key == 47 {
			if bases[b.key] == nil {
				bases[b.key] = b
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(bases)) {
		for v := ranges[key][0]; v <= ranges[key][1]; v++ {
			var answers [2]any
			for i, b := range pair {
				s := &scene{gridBroker: b, name: "early", member: "nobody", version: v}
				answers[i] = normalAnswer(answerOf(b.ask(key, v, bases[key].request(s, v))), s)
			}
			for _, f := range gridDiff("", answers[0], answers[1]) {
				t.Errorf("%s version %d before there is a coordinator: %s is %s, and %s from the JVM broker", pair[0].apis[key].name, v, f.path, f.a, f.b)
			}
		}
	}
	for _, b := range pair {
		topics, err := b.ask(3, 9, object{"Topics": list{object{"Name": "__consumer_offsets"}}, "AllowAutoTopicCreation": false})
		if err != nil {
			t.Fatal(err)
		}
		if code := topics["Topics"].(list)[0].(object)["ErrorCode"]; code != int64(3) {
			t.Errorf("%s has made the topic of the offsets: error %v of its metadata, want 3", b.name, code)
		}
	}
}
