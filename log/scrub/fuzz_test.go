package scrub

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/klamm-io/klamm/index"
	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/record"
)

// FuzzCheck checks and repairs partitions of arbitrary bytes: neither panics, and
// a repair leaves nothing that it could repair.
func FuzzCheck(f *testing.F) {
	clean := fixture(f, "")
	all := batches(f, clean)
	// Small ones, as a fuzzer spends its time on making large ones smaller.
	data := read(f, clean, all[0].file)[all[1].at:all[3].at]
	f.Add(data, []byte{0, 0, 0, 6, 0, 0, 0, byte(all[2].at - all[1].at)}, []byte(nil), []byte(nil), []byte(nil), []byte("0\n1\n0 0\n"), false)
	marker := record.BuildEndTxn(nil, false, 8, 0, 1, t0)
	aborted := index.AppendTxn(nil, index.AbortedTxn{ProducerID: 8, FirstOffset: 0, LastOffset: 0, LastStableOffset: 1})
	f.Add(marker, []byte(nil), binary.BigEndian.AppendUint64(nil, t0), aborted, []byte{0, 1}, []byte("0\n"), true)
	f.Fuzz(func(t *testing.T, data, offsets, times, txns, snapshot, epochs []byte, unclean bool) {
		m := vfs.NewMem()
		must(t, m.MkdirAll(dir, 0o755))
		write(t, m, "/data/meta.properties", "version=1\ncluster.id=x\nnode.id=1\n")
		if !unclean {
			write(t, m, "/data/.kafka_cleanshutdown", "{}")
		}
		for name, b := range map[string][]byte{
			"00000000000000000000.log": data, "00000000000000000000.index": offsets, "00000000000000000000.timeindex": times,
			"00000000000000000000.txnindex": txns, "00000000000000000021.snapshot": snapshot, log.EpochFile: epochs,
			"00000000000000000000.log.swap": nil, log.RecoveryPointFile: epochs,
		} {
			write(t, m, dir+"/"+name, string(b))
		}
		write(t, m, "/data/"+log.RecoveryPointFile, string(epochs))
		for _, p := range []string{"/data", dir + "/00000000000000000000.log"} {
			if _, err := Check(context.Background(), Options{FS: m, Threads: 1}, p); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 { // what is behind a damage may be damaged too
			steps, err := repair(t, m, PlanOptions{CutAtDamage: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(steps) == 0 {
				return
			}
		}
		steps, err := repair(t, m, PlanOptions{CutAtDamage: true})
		for _, s := range steps {
			if s.Needs == "" || err != nil {
				t.Fatalf("%+v is still to be done: %v", s, err)
			}
		}
	})
}
