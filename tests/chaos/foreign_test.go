package chaos_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klamm-io/klamm/tests/conformance/driver"
	"github.com/klamm-io/klamm/tests/history"
	"github.com/klamm-io/klamm/tests/systems"
)

// foreign are clients of other languages that produce in a run too, as the conformance suite
// drives them.
var foreign = map[string]func(addr string) (driver.Driver, error){
	"java": func(addr string) (driver.Driver, error) {
		classpath, err := systems.Classpath()
		if err != nil {
			return nil, err
		}
		return driver.Java(classpath, addr)
	},
	"librdkafka": func(addr string) (driver.Driver, error) {
		return driver.Librdkafka(filepath.Join("..", "conformance"), addr)
	},
}

// produceForeign is produce with a client of another language, a few records and a partition at
// a time.
func (l *load) produceForeign(name string) func(context.Context, *random) {
	return func(ctx context.Context, r *random) {
		d, err := foreign[name](strings.Join(l.s.bootstrap(), ","))
		if err != nil {
			l.t.Errorf("%s: %v", name, err)
			return
		}
		defer d.Close()
		process, acknowledged := l.rec.Process(), 0
		for ctx.Err() == nil {
			at := l.target(r)
			op := driver.Op{Op: "produce", Topic: at.Topic, Codec: "none", Acks: "all", Idempotent: true}
			var all []history.Pending
			var values []int64
			for range 1 + r.IntN(5) {
				v := l.rec.Value()
				values = append(values, v)
				all = append(all, l.rec.Begin(event(process, at, v, true)))
				op.Records = append(op.Records, driver.Record{Topic: at.Topic, Partition: at.Index, Key: key(v), Value: payload(v), Timestamp: -1})
			}
			got := d.Do(op)
			for i, pending := range all {
				if got.Error != "" || len(got.Records) != len(all) {
					pending.End(history.Info, errors.New(got.Error), nil)
					continue
				}
				acknowledged++
				pending.End(history.OK, nil, []history.Op{{Topic: at.Topic, Partition: at.Index, Value: values[i], Offset: got.Records[i].Offset}})
			}
			l.pause(ctx, r)
		}
		if acknowledged == 0 {
			l.t.Errorf("%s: not one record was acknowledged", name)
		}
	}
}

// TestForeign has clients of other languages produce while leaders are killed and paused, and
// brokers are stopped one after the other, if asked to.
func TestForeign(t *testing.T) {
	if !*others {
		t.Skip("-chaos.foreign asks for it")
	}
	of, err := systems.KlammCommands()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range rows {
		if w.name != "F1" && w.name != "F10" && w.name != "F30" {
			continue
		}
		w.foreign = []string{"java", "librdkafka"}
		t.Run(w.name, func(t *testing.T) { inProcesses(t, of, w, *first, time.Duration(3)) })
	}
}
