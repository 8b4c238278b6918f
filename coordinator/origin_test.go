package coordinator_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klamm-io/klamm/config/clock"
	"github.com/klamm-io/klamm/coordinator"
	"github.com/klamm-io/klamm/wire/record"
)

// notes is a machine that writes down what it is told of the log.
type notes struct {
	list
	told []string
}

func (n *notes) Replay(r coordinator.Record, from coordinator.Origin) error {
	n.told = append(n.told, fmt.Sprintf("%s at %d by %d/%d", r.Value, from.Offset, from.Producer.ID, from.Producer.Epoch))
	return nil
}

func (n *notes) Ended(m coordinator.Marker) error {
	n.told = append(n.told, fmt.Sprintf("end at %d of %d/%d: %t", m.Offset, m.ProducerID, m.Epoch, m.Commit))
	return nil
}

// TestOrigins: a record comes with its offset and, if it was written in a
// transaction, its producer; the end of a transaction reaches the machine too.
func TestOrigins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(tape)
		write := func(b record.Batch) {
			b.SetBaseOffset(s.end)
			s.end += int64(b.Count())
			s.batches = append(s.batches, slices.Clone(b))
		}
		data := func(p record.Producer, values ...string) {
			b := record.NewBuilder(record.None, 0)
			for _, v := range values {
				b.Append(0, []byte("k"), []byte(v), nil)
			}
			out, err := b.Finish(p)
			if err != nil {
				t.Fatal(err)
			}
			write(out)
		}
		data(record.NoProducer, "a")
		data(record.Producer{ID: 7, Epoch: 2, Transactional: true}, "b", "c")
		data(record.Producer{ID: 8, Epoch: 0}, "d") // idempotent alone: it counts at once
		write(record.BuildControl(nil, record.Control{Type: record.ControlAbort, ProducerID: 7, Epoch: 2}))
		write(record.BuildControl(nil, record.Control{Type: record.ControlCommit, ProducerID: 9, Epoch: 1}))
		n := new(notes)
		sh := coordinator.Start(coordinator.Options[coordinator.Machine]{New: func() coordinator.Machine { return n }, Storage: s, Clock: clock.System()})
		defer sh.Stop()
		synctest.Wait()
		if err := sh.Do(t.Context(), func(coordinator.Machine, time.Time) coordinator.Decision {
			return coordinator.Decision{Records: []coordinator.Record{{Key: []byte("k"), Value: []byte("e")}, {Key: []byte("k"), Value: []byte("f")}}}
		}); err != nil {
			t.Fatal(err)
		}
		want := []string{"a at 0 by -1/-1", "b at 1 by 7/2", "c at 2 by 7/2", "d at 3 by -1/-1", "end at 4 of 7/2: false", "end at 5 of 9/1: true", "e at 6 by -1/-1", "f at 7 by -1/-1"}
		if !slices.Equal(n.told, want) {
			t.Errorf("told\n%v, want\n%v", n.told, want)
		}
	})
}
