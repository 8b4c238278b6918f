package broker

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/klamm-io/klamm/broker/api"
	"github.com/klamm-io/klamm/wire"
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// TestAdminAnswers asks for what tools ask for when they start, and for what is
// wrong. An answer is told by the codes and words that must be in it.
func TestAdminAnswers(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.create("orders", 2)
	null := (*string)(nil)
	name := "alice"
	for _, c := range []struct {
		name    string
		req     msg.Request
		version int16
		resp    msg.Response
		want    string
	}{
		{"every config resource", &msg.ListConfigResourcesRequest{}, 1, new(msg.ListConfigResourcesResponse), "0 [orders:2 1:4 1:8]"},
		{"client metrics", &msg.ListConfigResourcesRequest{}, 0, new(msg.ListConfigResourcesResponse), "0 []"},
		{"an unknown kind of resource", &msg.ListConfigResourcesRequest{ResourceTypes: []int8{2, 9}}, 1, new(msg.ListConfigResourcesResponse), "35 []"},
		{"an election that is not needed", &msg.ElectLeadersRequest{TimeoutMs: 1000, TopicPartitions: []msg.ElectLeadersRequestTopicPartitions{{Topic: "orders", Partitions: []int32{1, 2}}}}, 2, new(msg.ElectLeadersResponse), "0 [1:84 2:3]"},
		{"an election of all", &msg.ElectLeadersRequest{TimeoutMs: 1000}, 2, new(msg.ElectLeadersResponse), "0 []"},
		{"an unknown election", &msg.ElectLeadersRequest{TimeoutMs: 1000, ElectionType: 7, TopicPartitions: []msg.ElectLeadersRequestTopicPartitions{{Topic: "orders", Partitions: []int32{1}}}}, 2, new(msg.ElectLeadersResponse), "42 [1:42]"},
		{"the quorum", &msg.DescribeQuorumRequest{Topics: []msg.DescribeQuorumRequestTopicData{{TopicName: "__cluster_metadata", Partitions: []msg.DescribeQuorumRequestPartitionData{{}}}}}, 2, new(msg.DescribeQuorumResponse), "0 leader 1 voters 1"},
		{"another quorum", &msg.DescribeQuorumRequest{Topics: []msg.DescribeQuorumRequestTopicData{{TopicName: "orders", Partitions: []msg.DescribeQuorumRequestPartitionData{{}}}}}, 2, new(msg.DescribeQuorumResponse), "3 leader 0 voters 0"},
		{"a feature to its level", &msg.UpdateFeaturesRequest{TimeoutMs: 1000, FeatureUpdates: []msg.UpdateFeaturesRequestFeatureUpdateKey{{Feature: "metadata.version", MaxVersionLevel: 30, UpgradeType: 1}}}, 1, new(msg.UpdateFeaturesResponse), "0 [metadata.version]"},
		{"a feature that is not served", &msg.UpdateFeaturesRequest{TimeoutMs: 1000, FeatureUpdates: []msg.UpdateFeaturesRequestFeatureUpdateKey{{Feature: "group.version", MaxVersionLevel: 1, UpgradeType: 1}}}, 1, new(msg.UpdateFeaturesResponse), "95 []"},
		{"this broker", &msg.UnregisterBrokerRequest{BrokerId: 1}, 0, new(msg.UnregisterBrokerResponse), "42"},
		{"another broker", &msg.UnregisterBrokerRequest{BrokerId: 2}, 0, new(msg.UnregisterBrokerResponse), "102"},
		{"transactions", &msg.ListTransactionsRequest{StateFilters: []string{"Ongoing", "Lost"}}, 2, new(msg.ListTransactionsResponse), "0 [Lost]"},
		{"a transaction", &msg.DescribeTransactionsRequest{TransactionalIds: []string{"a", ""}}, 0, new(msg.DescribeTransactionsResponse), "[105 42]"},
		{"a directory", &msg.AlterReplicaLogDirsRequest{Dirs: []msg.AlterReplicaLogDirsRequestAlterReplicaLogDir{{Path: "/klamm", Topics: []msg.AlterReplicaLogDirsRequestAlterReplicaLogDirTopic{{Name: "orders", Partitions: []int32{0, 5}}}}}}, 2, new(msg.AlterReplicaLogDirsResponse), "[0:0 5:3]"},
		{"another directory", &msg.AlterReplicaLogDirsRequest{Dirs: []msg.AlterReplicaLogDirsRequestAlterReplicaLogDir{{Path: "/else", Topics: []msg.AlterReplicaLogDirsRequestAlterReplicaLogDirTopic{{Name: "orders", Partitions: []int32{0}}}}}}, 2, new(msg.AlterReplicaLogDirsResponse), "[0:57]"},
		{"quotas", &msg.DescribeClientQuotasRequest{Components: []msg.DescribeClientQuotasRequestComponentData{{EntityType: "user", Match: &name}}}, 1, new(msg.DescribeClientQuotasResponse), "0 "},
		{"a quota of no name", &msg.DescribeClientQuotasRequest{Components: []msg.DescribeClientQuotasRequestComponentData{{EntityType: "user", Match: null}}}, 1, new(msg.DescribeClientQuotasResponse), "42 Request specified MATCH_TYPE_EXACT, but set match string to null."},
		{"a quota by an unknown match", &msg.DescribeClientQuotasRequest{Components: []msg.DescribeClientQuotasRequestComponentData{{EntityType: "user", MatchType: 9}}}, 1, new(msg.DescribeClientQuotasResponse), "42 Unknown match type 9"},
		{"credentials", &msg.DescribeUserScramCredentialsRequest{Users: []msg.DescribeUserScramCredentialsRequestUserName{{Name: "a"}, {Name: "b"}, {Name: "a"}}}, 0, new(msg.DescribeUserScramCredentialsResponse), "0 [a:92 b:91]"},
		{"ACLs", &msg.DescribeAclsRequest{ResourceTypeFilter: 1, PatternTypeFilter: 1, Operation: 1, PermissionType: 1}, 3, new(msg.DescribeAclsResponse), "54"},
		{"a handshake", &msg.SaslHandshakeRequest{Mechanism: "PLAIN"}, 1, new(msg.SaslHandshakeResponse), "34"},
		{"an authentication", &msg.SaslAuthenticateRequest{}, 2, new(msg.SaslAuthenticateResponse), "34"},
		{"a reassignment", &msg.AlterPartitionReassignmentsRequest{TimeoutMs: 1000, Topics: []msg.AlterPartitionReassignmentsRequestReassignableTopic{{Name: "orders", Partitions: []msg.AlterPartitionReassignmentsRequestReassignablePartition{{Replicas: []int32{1}}, {PartitionIndex: 1}, {PartitionIndex: 9}}}}}, 1, new(msg.AlterPartitionReassignmentsResponse), "0 [0:0 1:85 9:3]"},
		{"reassignments", &msg.ListPartitionReassignmentsRequest{}, 0, new(msg.ListPartitionReassignmentsResponse), "0 0"},
		{"telemetry", new(msg.GetTelemetrySubscriptionsRequest), 0, new(msg.GetTelemetrySubscriptionsResponse), "0 300000 []"},
		{"controllers of a broker", &msg.DescribeClusterRequest{EndpointType: 2}, 1, new(msg.DescribeClusterResponse), "114 1"},
	} {
		p.ask(c.req, c.version, c.resp)
		if got := told(c.resp); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestMovesBetweenDirectories sends partitions to log directories. One may go to
// where it is; other moves are refused, and change nothing.
func TestMovesBetweenDirectories(t *testing.T) {
	r := start(t, "log.dirs=/one,/two")
	p := r.dial(t)
	p.create("orders", 2)
	for i := range int32(2) {
		at := r.replicas.Get("orders", i).Dir.Path
		for _, dir := range []string{"/one", "/two", "/two/"} {
			want := kerr.InvalidReplicaAssignment
			if strings.TrimSuffix(dir, "/") == at {
				want = kerr.None
			}
			topics := []msg.AlterReplicaLogDirsRequestAlterReplicaLogDirTopic{{Name: "orders", Partitions: []int32{i}}}
			var resp msg.AlterReplicaLogDirsResponse
			p.ask(&msg.AlterReplicaLogDirsRequest{Dirs: []msg.AlterReplicaLogDirsRequestAlterReplicaLogDir{{Path: dir, Topics: topics}}}, 2, &resp)
			if got := kerr.Code(resp.Results[0].Partitions[0].ErrorCode); got != want {
				t.Errorf("partition %d from %s to %s: %v, want %v", i, at, dir, got, want)
			}
		}
		if now := r.replicas.Get("orders", i).Dir.Path; now != at {
			t.Errorf("partition %d is in %s, and was in %s", i, now, at)
		}
	}
}

// told puts what matters of an answer into a line.
func told(resp msg.Response) string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	switch r := resp.(type) {
	case *msg.ListConfigResourcesResponse:
		for _, c := range r.ConfigResources {
			add("%s:%d", c.ResourceName, c.ResourceType)
		}
		return fmt.Sprint(r.ErrorCode, " ", list)
	case *msg.ElectLeadersResponse:
		for _, t := range r.ReplicaElectionResults {
			for _, p := range t.PartitionResult {
				add("%d:%d", p.PartitionId, p.ErrorCode)
			}
		}
		return fmt.Sprint(r.ErrorCode, " ", list)
	case *msg.DescribeQuorumResponse:
		p := r.Topics[0].Partitions[0]
		return fmt.Sprintf("%d leader %d voters %d", p.ErrorCode, p.LeaderId, len(p.CurrentVoters))
	case *msg.UpdateFeaturesResponse:
		for _, f := range r.Results {
			add("%s", f.Feature)
		}
		return fmt.Sprint(r.ErrorCode, " ", list)
	case *msg.UnregisterBrokerResponse:
		return fmt.Sprint(r.ErrorCode)
	case *msg.ListTransactionsResponse:
		return fmt.Sprint(r.ErrorCode, " ", r.UnknownStateFilters)
	case *msg.DescribeTransactionsResponse:
		for _, s := range r.TransactionStates {
			add("%d", s.ErrorCode)
		}
	case *msg.AlterReplicaLogDirsResponse:
		for _, p := range r.Results[0].Partitions {
			add("%d:%d", p.PartitionIndex, p.ErrorCode)
		}
	case *msg.DescribeClientQuotasResponse:
		return fmt.Sprint(r.ErrorCode, " ", *r.ErrorMessage)
	case *msg.DescribeUserScramCredentialsResponse:
		for _, u := range r.Results {
			add("%s:%d", u.User, u.ErrorCode)
		}
		return fmt.Sprint(r.ErrorCode, " ", list)
	case *msg.DescribeAclsResponse:
		return fmt.Sprint(r.ErrorCode)
	case *msg.SaslHandshakeResponse:
		return fmt.Sprint(r.ErrorCode)
	case *msg.SaslAuthenticateResponse:
		return fmt.Sprint(r.ErrorCode)
	case *msg.AlterPartitionReassignmentsResponse:
		for _, p := range r.Responses[0].Partitions {
			add("%d:%d", p.PartitionIndex, p.ErrorCode)
		}
		return fmt.Sprint(r.ErrorCode, " ", list)
	case *msg.ListPartitionReassignmentsResponse:
		return fmt.Sprint(r.ErrorCode, " ", len(r.Topics))
	case *msg.GetTelemetrySubscriptionsResponse:
		return fmt.Sprint(r.ErrorCode, " ", r.PushIntervalMs, " ", r.RequestedMetrics)
	case *msg.DescribeClusterResponse:
		return fmt.Sprint(r.ErrorCode, " ", r.EndpointType)
	}
	return fmt.Sprint(list)
}

// lengthen sets every string in v that is not empty to one as long as the protocol allows.
func lengthen(v reflect.Value, long string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			lengthen(v.Elem(), long)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				lengthen(v.Field(i), long)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			lengthen(v.Index(i), long)
		}
	case reflect.String:
		if v.Len() > 0 { // or the version may not have it
			v.SetString(long)
		}
	}
}

// TestLongStrings sends every request with every string of it as long as can be.
// It is answered, or its connection closed, and the broker goes on.
func TestLongStrings(t *testing.T) {
	all := goldenRequests(t)
	long := strings.Repeat("x", 32767)
	synctest.Test(t, func(t *testing.T) {
		r := start(t, "auto.create.topics.enable=false")
		for _, g := range all {
			key := wire.Key(*g.API)
			if row := r.server.tables[api.Broker].Lookup(key); row == nil || g.Version != row.API.Max {
				continue
			}
			body, err := hex.DecodeString(g.Hex)
			if err != nil {
				t.Fatal(err)
			}
			req := msg.NewRequest(int16(key))
			if err := req.Decode(body, g.Version); err != nil {
				t.Fatal(err)
			}
			lengthen(reflect.ValueOf(req), long)
			switch q := req.(type) {
			case *msg.FetchRequest:
				q.MaxWaitMs = 100
			case *msg.ProduceRequest:
				if q.Acks == 0 {
					q.Acks = -1
				}
			case *msg.DescribeAclsRequest:
				q.ResourceTypeFilter, q.PatternTypeFilter, q.Operation, q.PermissionType = 1, 1, 1, 1
			}
			p := r.dial(t)
			p.send(p.request(req, g.Version))
			if _, err := p.tryAnswer(msg.NewResponse(int16(key)), g.Version); err != nil {
				t.Errorf("%s version %d: %v", g.Name, g.Version, err)
			}
			p.Close()
		}
		r.alive(t)
		for _, e := range r.logs.All() {
			if e.Level > zap.InfoLevel {
				t.Errorf("%s: %s %v", e.Level, e.Message, e.ContextMap())
			}
		}
	})
}

// TestAutoCreationIsBounded names topics that together have too many partitions.
// Not one is made.
func TestAutoCreationIsBounded(t *testing.T) {
	r := start(t, "num.partitions=4000")
	p := r.dial(t)
	ask := func(names ...string) (codes []int16) {
		req := &msg.MetadataRequest{AllowAutoTopicCreation: true}
		for _, n := range names {
			req.Topics = append(req.Topics, msg.MetadataRequestTopic{Name: &n})
		}
		var resp msg.MetadataResponse
		p.ask(req, 9, &resp)
		for _, topic := range resp.Topics {
			codes = append(codes, topic.ErrorCode)
		}
		return codes
	}
	if got, want := ask("a", "b", "c"), []int16{3, 3, 3}; !slices.Equal(got, want) {
		t.Errorf("three of 4,000 partitions: %v, want %v", got, want)
	}
	if got := r.controller.Image().TopicCount(); got != 0 {
		t.Errorf("%d topics were made", got)
	}
	if got, want := ask("a", "a", "b"), []int16{0, 0}; !slices.Equal(got, want) {
		t.Errorf("two, one of them twice: %v, want %v", got, want)
	}
}

func alterBroker(kind int8, resource string, configs ...msg.IncrementalAlterConfigsRequestAlterableConfig) *msg.IncrementalAlterConfigsRequest {
	return &msg.IncrementalAlterConfigsRequest{Resources: []msg.IncrementalAlterConfigsRequestAlterConfigsResource{{ResourceType: kind, ResourceName: resource, Configs: configs}}}
}

// TestLoggers changes the level of a logger: what is logged follows, and the
// other loggers do not.
func TestLoggers(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	const loggers = 8
	levels := func() map[string]string {
		var resp msg.DescribeConfigsResponse
		p.ask(&msg.DescribeConfigsRequest{Resources: []msg.DescribeConfigsRequestDescribeConfigsResource{{ResourceType: loggers, ResourceName: "1"}}}, 4, &resp)
		out := make(map[string]string)
		for _, c := range resp.Results[0].Configs {
			out[c.Name] = *c.Value
		}
		return out
	}
	set := func(want kerr.Code, name, level string, op int8) {
		t.Helper()
		c := msg.IncrementalAlterConfigsRequestAlterableConfig{Name: name, Value: &level, ConfigOperation: op}
		if op == 1 {
			c.Value = nil
		}
		var resp msg.IncrementalAlterConfigsResponse
		p.ask(alterBroker(loggers, "1", c), 1, &resp)
		if got := kerr.Code(resp.Responses[0].ErrorCode); got != want {
			t.Errorf("%s to %q: %v, want %v", name, level, got, want)
		}
	}
	begun := levels()
	if len(begun) != 8 || begun["root"] != "INFO" || begun["broker.api"] != "INFO" {
		t.Errorf("at first: %v", begun)
	}
	p.create("loud", 1)
	set(kerr.None, "broker.api", "WARN", 0)
	p.create("quiet", 1)
	set(kerr.None, "broker.api", "", 1)
	p.create("again", 1)
	var made []any
	for _, e := range r.logs.FilterMessage("created topic").All() {
		made = append(made, e.ContextMap()["topic"])
	}
	if fmt.Sprint(made) != "[loud again]" {
		t.Errorf("logged: %v", made)
	}
	set(kerr.InvalidConfig, "broker.api", "LOUD", 0)
	set(kerr.InvalidConfig, "nobody", "INFO", 0)
	set(kerr.InvalidRequest, "root", "", 1)
	set(kerr.InvalidRequest, "root", "INFO", 2)
	set(kerr.None, "root", "ERROR", 0)
	if got := levels(); got["broker.server"] != "ERROR" {
		t.Errorf("at last: %v", got)
	}
}

// TestLoggersAreListed finds each logger that the source names among those of a broker, and
// nothing that says which broker is meant by the name of the field that says which one logs.
func TestLoggersAreListed(t *testing.T) {
	listed := start(t).loggers()
	for _, dir := range []string{".", "../replication", "../coordinator", "../isr", "../log"} {
		err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			text, err := os.ReadFile(name)
			if filepath.Dir(name) != "." && bytes.Contains(text, []byte(`("broker", `)) {
				t.Errorf("%s has a field named broker, which each line has already", name)
			}
			for _, m := range regexp.MustCompile(`\.Named\("(\w+)"\)`).FindAllSubmatch(text, -1) {
				if part := string(m[1]); part != "broker" && !slices.Contains(listed, "broker."+part) {
					t.Errorf("%s logs as broker.%s, which is not among %v", name, part, listed)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestChangesAreLogged tells who changed what, and does not go on about it.
func TestChangesAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t)
		p := r.dial(t)
		p.create("orders", 3)
		retention, secret := "5000", "hush"
		var resp msg.IncrementalAlterConfigsResponse
		p.ask(alterBroker(2, "orders", msg.IncrementalAlterConfigsRequestAlterableConfig{Name: "retention.ms", Value: &retention}), 1, &resp)
		p.ask(alterBroker(4, "1", msg.IncrementalAlterConfigsRequestAlterableConfig{Name: "unknown.password", Value: &secret}), 1, &resp)
		var parts msg.CreatePartitionsResponse
		p.ask(&msg.CreatePartitionsRequest{TimeoutMs: 1000, Topics: []msg.CreatePartitionsRequestCreatePartitionsTopic{{Name: "orders", Count: 5}}}, 3, &parts)
		var deleted msg.DeleteTopicsResponse
		p.ask(&msg.DeleteTopicsRequest{TimeoutMs: 1000, TopicNames: []string{"orders"}}, 5, &deleted)
		var got []string
		for _, e := range r.logs.FilterField(zap.String("remote", "client")).All() {
			m := e.ContextMap()
			got = append(got, strings.ReplaceAll(fmt.Sprintf("%s: %v %v %v %v", e.Message, m["topic"], m["resource"], m["keys"], m["partitions"]), " <nil>", ""))
		}
		want := []string{"created topic: orders 3", "changed configs: orders [retention.ms=5000]", "changed configs: 1 [unknown.password=[hidden]]",
			"added partitions: orders 5", "deleted topic: orders"}
		if !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
		time.Sleep(2 * time.Second)
		r.logs.TakeAll()
		for i := range 100 {
			p.create(fmt.Sprint("burst-", i), 1)
		}
		time.Sleep(2 * time.Second)
		lines := r.logs.FilterMessage("created topic").Len()
		unsaid := int64(0)
		for _, e := range r.logs.FilterMessage("more was changed than is logged").All() {
			unsaid += e.ContextMap()["changes"].(int64)
		}
		if lines > 40 || lines+int(unsaid) != 100 {
			t.Errorf("%d lines, and %d unsaid, of 100 topics", lines, unsaid)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
