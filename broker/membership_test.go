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
	const both, brokers = "listeners=PLAINTEXT://broker-1:0,CONTROLLER://broker-1:0", "listeners=PLAINTEXT://broker-1:0"
	for _, c := range []struct {
		name, clusterID string
		overrides       []string
		want            string
	}{
		{"no cluster id", "", []string{both, "controller.quorum.voters=1@broker-1:9093,2@broker-2:9093"}, "klamm storage format"},
		{"no voters", "5L6g3nShT-eMCtK--X86sw", []string{both, "controller.quorum.bootstrap.servers=broker-1:9093"}, "--initial-controllers"},
		{"a broker alone", "5L6g3nShT-eMCtK--X86sw", []string{brokers, "process.roles=broker", "controller.quorum.voters=2@broker-2:9093"}, "not supported yet"},
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
