package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/klamm-io/klamm/tests/systems"
)

// never are what differs from one cluster to the next: ids, offsets of the metadata, and times.
var never = []struct {
	re *regexp.Regexp
	as string
}{
	{regexp.MustCompile(`TopicId: \S+`), "TopicId: ID"},
	{regexp.MustCompile(`(LeaderEpoch|HighWatermark|MaxFollowerLag|MaxFollowerLagTimeMs|LeaderId):(\s+)-?\d+`), "$1: N"},
	{regexp.MustCompile(`"directoryId": "[^"]*"`), `"directoryId": "ID"`},
	{regexp.MustCompile(`Epoch: \d+`), "Epoch: N"},
	{regexp.MustCompile(`127\.0\.0\.1[: \t]+\d+`), "HOST:PORT"},
	{regexp.MustCompile(`"[^"]*/(klamm|jvm)/node`), `"node`},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// tool runs one of Kafka's command line tools, and returns what it says, without what differs
// from one cluster to the next.
func (c *cluster) tool(class string, args ...string) string {
	c.Helper()
	classpath, err := systems.Classpath()
	if err != nil {
		c.Fatal(err)
	}
	all := append([]string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", classpath, "org.apache.kafka.tools." + class}, args...)
	out, err := exec.Command("java", all...).CombinedOutput()
	text := string(out)
	for i, at := range c.Seeds() {
		text = strings.ReplaceAll(text, at, fmt.Sprint("node-", i+1))
	}
	for _, x := range never {
		text = x.re.ReplaceAllString(text, x.as)
	}
	if err != nil {
		text += err.Error()
	}
	return text
}

// lines says the lines of a text in order of the alphabet, for tools that say them in none.
func (c *cluster) lines(text string) {
	all := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(all)
	for _, l := range all {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "at ") && !strings.HasPrefix(l, "SLF4J") {
			c.say("%s", l)
		}
	}
}

// Kafka's own tools say the same of both clusters.
func TestTools(t *testing.T) {
	file := func(c *cluster, text string) string {
		name := filepath.Join(c.TempDir(), "file.json")
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			c.Fatal(err)
		}
		return name
	}
	run := func(name, class string, args func(c *cluster) []string) step {
		return step{name, func(c *cluster) {
			c.lines(c.tool(class, append([]string{"--bootstrap-server", strings.Join(c.Seeds(), ",")}, args(c)...)...))
		}}
	}
	of := func(args ...string) func(*cluster) []string { return func(*cluster) []string { return args } }
	const move = `{"version":1,"partitions":[{"topic":"tools.one","partition":0,"replicas":[3,2]}]}`
	play(t,
		run("topics: create", "TopicCommand", of("--create", "--topic", "tools.one", "--replica-assignment", "1:2,2:3,3:1", "--config", "min.insync.replicas=1")),
		run("topics: create again", "TopicCommand", of("--create", "--topic", "tools.one", "--partitions", "1")),
		run("topics: create with too many replicas", "TopicCommand", of("--create", "--topic", "tools.two", "--partitions", "1", "--replication-factor", "4")),
		step{"topics: known", func(c *cluster) { c.everywhere("tools.one", 1, 1, 2) }},
		run("topics: describe", "TopicCommand", of("--describe", "--topic", "tools.one")),
		run("topics: describe what is under-replicated", "TopicCommand", of("--describe", "--under-replicated-partitions")),
		run("topics: describe what is below min.insync.replicas", "TopicCommand", of("--describe", "--under-min-isr-partitions")),
		run("topics: more partitions", "TopicCommand", of("--alter", "--topic", "tools.one", "--partitions", "4", "--replica-assignment", "1:2,2:3,3:1,1:3")),
		run("topics: fewer partitions", "TopicCommand", of("--alter", "--topic", "tools.one", "--partitions", "2")),
		run("reassign: execute", "reassign.ReassignPartitionsCommand", func(c *cluster) []string {
			return []string{"--reassignment-json-file", file(c, move), "--execute", "--throttle", "10000000"}
		}),
		step{"reassign: done", func(c *cluster) { c.everywhere("tools.one", 3, 2, 3) }},
		run("reassign: verify", "reassign.ReassignPartitionsCommand", func(c *cluster) []string {
			return []string{"--reassignment-json-file", file(c, move), "--verify"}
		}),
		run("reassign: list", "reassign.ReassignPartitionsCommand", of("--list")),
		run("elect: preferred", "LeaderElectionCommand", of("--election-type", "preferred", "--topic", "tools.one", "--partition", "1")),
		run("elect: unclean", "LeaderElectionCommand", of("--election-type", "unclean", "--topic", "tools.one", "--partition", "1")),
		run("elect: no such topic", "LeaderElectionCommand", of("--election-type", "preferred", "--topic", "tools.none", "--partition", "1")),
		step{"cluster: id", func(c *cluster) {
			c.lines(c.tool("ClusterTool", "cluster-id", "--bootstrap-server", c.Seeds()[0]))
		}},
		step{"cluster: endpoints", func(c *cluster) {
			c.lines(c.tool("ClusterTool", "list-endpoints", "--bootstrap-server", c.Seeds()[0]))
		}},
		step{"cluster: unregister who is not there", func(c *cluster) {
			c.lines(c.tool("ClusterTool", "unregister", "--bootstrap-server", c.Seeds()[0], "--id", "77"))
		}},
		step{"features", func(c *cluster) {
			for _, l := range strings.Split(c.tool("FeatureCommand", "--bootstrap-server", c.Seeds()[0], "describe"), "\n") {
				// The others are not there yet.
				if strings.Contains(l, "metadata.version") || strings.Contains(l, "eligible.leader") {
					c.say("%s", l)
				}
			}
		}},
		step{"quorum: status", func(c *cluster) {
			c.lines(c.tool("MetadataQuorumCommand", "--bootstrap-server", c.Seeds()[0], "describe", "--status"))
		}},
		step{"quorum: replication", func(c *cluster) {
			var who []string
			for _, l := range strings.Split(c.tool("MetadataQuorumCommand", "--bootstrap-server", c.Seeds()[0], "describe", "--replication"), "\n") {
				if f := strings.Fields(l); len(f) > 1 {
					who = append(who, f[0]+" "+strings.NewReplacer("Leader", "Voter", "Follower", "Voter").Replace(f[len(f)-1]))
				}
			}
			slices.Sort(who)
			c.say("%s", strings.Join(who, "\n"))
		}},
		run("offsets", "GetOffsetShell", of("--topic", "tools.one")),
		run("log directories", "LogDirsCommand", func(c *cluster) []string {
			return []string{"--describe", "--topic-list", "tools.none", "--broker-list", "1"}
		}),
		run("groups", "consumer.group.ConsumerGroupCommand", of("--describe", "--group", "tools.none")),
		run("topics: delete", "TopicCommand", of("--delete", "--topic", "tools.one")),
		run("topics: delete again", "TopicCommand", of("--delete", "--topic", "tools.one")),
	)
}
