package conformance_test

import (
	"testing"

	"github.com/klamm-io/klamm/tests/conformance/driver"
)

// TestCross has every client read what every client wrote, in each codec that
// the writer has.
func TestCross(t *testing.T) {
	for _, b := range brokers() {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			var sessions []*session
			for _, c := range clients {
				d, err := c.start(b.Addr)
				if err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
				t.Cleanup(func() {
					if err := d.Close(); err != nil {
						t.Errorf("%s: %v", c.name, err)
					}
				})
				sessions = append(sessions, &session{T: t, broker: b, client: c.name, scenario: "cross", driver: d, lacks: d.Lacks()})
			}
			for _, w := range sessions {
				topic := w.create("t", 1)
				var want []driver.Record
				for _, codec := range codecs {
					if !w.has(codec) {
						continue
					}
					batch := recs(0, len(want), 5)
					for i := range batch {
						batch[i].Timestamp = past + int64(len(want)+i)
						batch[i].Headers = []driver.Header{{Key: "codec", Value: []byte(codec)}, {Key: "by", Value: []byte(w.client)}}
					}
					batch[3].Key, batch[4].Value = nil, nil
					w.produce(driver.Op{Topic: topic, Codec: codec}, batch...)
					want = append(want, batch...)
				}
				for _, r := range sessions {
					r.Run(r.client+" reads "+w.client, func(t *testing.T) {
						reader := *r
						reader.T = t
						reader.reads(topic, 0, 0, want)
					})
				}
			}
		})
	}
}
