package broker

import (
	"context"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/config"
	"github.com/klamm-io/klamm/log/vfs"
	"github.com/klamm-io/klamm/wire/memnet"
)

// A node that cannot be a member of its cluster says why, and what to do about it, before it
// has written anything.
func TestCannotJoin(t *testing.T) {
	common := []string{"log.dirs=/klamm", "controller.listener.names=CONTROLLER", "inter.broker.listener.name=PLAINTEXT"}
	const both = "listeners=PLAINTEXT://broker-1:0,CONTROLLER://broker-1:0"
	for _, c := range []struct {
		name, clusterID string
		overrides       []string
		want            string
	}{
		{"no cluster id", "", []string{both, "controller.quorum.voters=1@broker-1:9093,2@broker-2:9093"}, "klamm storage format"},
		{"no voters", "5L6g3nShT-eMCtK--X86sw", []string{both, "controller.quorum.bootstrap.servers=broker-1:9093"}, "--initial-controllers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			static, _, err := config.Load(config.Sources{Overrides: append(append([]string{}, common...), c.overrides...)})
			if err != nil {
				t.Fatal(err)
			}
			fs := vfs.NewMem()
			b, err := Start(context.Background(), Options{Config: static, ClusterID: c.clusterID, FS: fs, Listen: memnet.New().Listen, Logger: zap.NewNop()})
			if err == nil {
				b.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
			if _, err := fs.Stat("/klamm/__cluster_metadata-0"); err == nil {
				t.Error("it has begun a quorum")
			}
		})
	}
}

// A start that fails says why, even before the broker belongs to a cluster; and a broker that
// is alone can be killed.
func TestStartFailsWithItsReason(t *testing.T) {
	static := load(t, nil)
	o := Options{Config: static, FS: vfs.NewMem(), Listen: memnet.New().Listen, Logger: zap.NewNop()}
	b, err := Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	b.Kill()
	if err := vfs.WriteFileAtomic(o.FS, "/klamm/__cluster_metadata-0/raft-start", []byte("x y\n")); err != nil {
		t.Fatal(err)
	}
	if _, err = Start(context.Background(), o); err == nil || !strings.Contains(err.Error(), "raft-start") {
		t.Errorf("with a damaged file: %v", err)
	}
}
