package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// member are the keys of a combined node of a cluster of three.
var member = []string{"node.id=1", "listeners=PLAINTEXT://:9092,CONTROLLER://:9093", "controller.quorum.voters=1@a:9093,2@b:9093,3@[::3]:9093"}

func TestCluster(t *testing.T) {
	alone := []string{}
	with := func(base []string, more ...string) []string { return slices.Concat(base, more) }
	worker := []string{"node.id=4", "process.roles=broker", "controller.quorum.voters=1@a:9093"}
	keeper := []string{"process.roles=controller", "listeners=CONTROLLER://:9093"}
	for _, c := range []struct {
		name      string
		overrides []string
		want      string // roles, lone, voters, bootstrap, listener between brokers; or the error after !
	}{
		{"nothing is set", alone, "broker controller lone [] [] PLAINTEXT"},
		{"a lone node that is its own voter", with(alone, "controller.quorum.voters=1@a:9093"), "broker controller lone [1@a:9093] [] PLAINTEXT"},
		{"a combined node", member, "broker controller [1@a:9093 2@b:9093 3@[::3]:9093] [] PLAINTEXT"},
		{"a broker", worker, "broker [1@a:9093] [] PLAINTEXT"},
		{"a broker with bootstrap servers", []string{"process.roles=broker", "controller.quorum.bootstrap.servers=a:9093, [::1]:9093"}, "broker [] [a:9093 [::1]:9093] PLAINTEXT"},
		{"one with a listener for a controller", with(alone, "listeners=PLAINTEXT://:9092,CONTROLLER://:9093"), "broker controller lone [] [] PLAINTEXT"},
		{"one that says where its controller is", with(alone, "listeners=PLAINTEXT://:9092,CONTROLLER://:9093", "controller.quorum.voters=1@a:9093"), "broker controller [1@a:9093] [] PLAINTEXT"},
		{"the only controller", with(keeper, "controller.quorum.voters=1@a:9093"), "controller [1@a:9093] [] PLAINTEXT"},
		{"a controller of three", with(keeper, "controller.quorum.voters=1@a:9093,2@b:9093"), "controller [1@a:9093 2@b:9093] [] PLAINTEXT"},
		{"a controller that joins", with(keeper, "controller.quorum.bootstrap.servers=a:9093"), "controller [] [a:9093] PLAINTEXT"},
		{"a controller looks for brokers where they say", with(keeper, "controller.quorum.bootstrap.servers=a:9093", "inter.broker.listener.name=inside"), "controller [] [a:9093] INSIDE"},
		{"a broker knows the protocol of controllers", with(worker, "controller.listener.names=QUORUM"), "broker [1@a:9093] [] PLAINTEXT"},

		{"a controller that names none", keeper, "!process.roles is controller, so controller.quorum.bootstrap.servers or controller.quorum.voters must name"},
		{"a broker with none but a controller's listener to tell of", with(member, "advertised.listeners=CONTROLLER://a:9093"), "!they are []"},
		{"a broker alone", []string{"process.roles=broker"}, "!controller.quorum.bootstrap.servers or controller.quorum.voters must name"},
		{"a broker among the voters", with(worker, "node.id=1"), "!must not be among controller.quorum.voters [1@a:9093]"},
		{"a controller not among the voters", with(member, "node.id=7"), "!node.id: invalid value 7: process.roles has controller, so it must be among"},
		{"voters without a listener for them", with(member, "listeners=PLAINTEXT://:9092"), "!none of CONTROLLER is among listeners"},
		{"bootstrap servers without a listener for them", with(alone, "controller.quorum.bootstrap.servers=a:9093"), "!none of CONTROLLER is among listeners"},
		{"a controller without a listener", with(keeper, "controller.quorum.voters=1@a:9093", "listeners=PLAINTEXT://:9092"), "!PLAINTEXT is not among controller.listener.names"},
		{"a second listener of controllers is missing", with(member, "controller.listener.names=CONTROLLER,OTHER"), "!OTHER is not among listeners"},
		{"a broker that listens for controllers", with(worker, "listeners=PLAINTEXT://:9092,CONTROLLER://:9093"), "!CONTROLLER is among listeners, though process.roles is broker"},
		{"no protocol of the controllers", with(worker, "listener.security.protocol.map=PLAINTEXT:PLAINTEXT"), "!has no protocol for CONTROLLER"},

		{"a voter without an id", with(alone, "controller.quorum.voters=1@a:9093,b:9093"), `!controller.quorum.voters: invalid value "b:9093": want id@host:port`},
		{"a voter with a negative id", with(alone, "controller.quorum.voters=-1@a:9093"), `!"-1@a:9093": want`},
		{"a voter without a port", with(alone, "controller.quorum.voters=1@a"), `!"1@a": want`},
		{"a voter with port 0", with(alone, "controller.quorum.voters=1@a:0"), `!"1@a:0": want`},
		{"a voter with a port that is too high", with(alone, "controller.quorum.voters=1@a:65536"), `!"1@a:65536": want`},
		{"a voter without a host", with(alone, "controller.quorum.voters=1@:9093"), `!"1@:9093": want`},
		{"a voter with two ids", with(alone, "controller.quorum.voters=1@2@a:9093"), `!"1@2@a:9093": want`},
		{"a voter that is everywhere", with(alone, "controller.quorum.voters=1@0.0.0.0:9093"), `!nobody can connect`},
		{"two voters of one id", with(alone, "controller.quorum.voters=1@a:9093,1@b:9093"), "!two voters have the id 1"},
		{"a bootstrap server without a port", with(alone, "controller.quorum.bootstrap.servers=a:9093,b"), `!controller.quorum.bootstrap.servers: invalid value "b": want host:port`},
		{"a bootstrap server that is a voter", with(alone, "controller.quorum.bootstrap.servers=1@a:9093"), `!"1@a:9093": want host:port`},

		{"the listener between brokers by name", with(member, "listeners=PLAINTEXT://:9092,INSIDE://:9094,CONTROLLER://:9093", "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT", "inter.broker.listener.name=inside"),
			"broker controller [1@a:9093 2@b:9093 3@[::3]:9093] [] INSIDE"},
		{"the listener between brokers by protocol", with(member, "listeners=PLAINTEXT://:9092,SSL://:9094,CONTROLLER://:9093", "security.inter.broker.protocol=SSL"), "broker controller [1@a:9093 2@b:9093 3@[::3]:9093] [] SSL"},
		{"a lone node has the first one of the protocol", with(alone, "listeners=A://:1,B://:2,C://:3", "listener.security.protocol.map=A:SSL,B:PLAINTEXT,C:PLAINTEXT"), "broker controller lone [] [] B"},
		{"a lone node has the first one", with(alone, "listeners=A://:1,B://:2", "listener.security.protocol.map=A:SSL,B:SSL"), "broker controller lone [] [] A"},
		{"name and protocol", with(member, "inter.broker.listener.name=PLAINTEXT", "security.inter.broker.protocol=PLAINTEXT"), "!only one of them may be"},
		{"no listener of that name", with(alone, "inter.broker.listener.name=INSIDE"), `!inter.broker.listener.name: invalid value "INSIDE": brokers are told of the listeners [PLAINTEXT://127.0.0.1:9092]`},
		{"brokers do not talk to the controllers' one", with(member, "inter.broker.listener.name=CONTROLLER"), `!inter.broker.listener.name: invalid value "CONTROLLER"`},
		{"nor does a controller", with(keeper, "controller.quorum.voters=1@a:9093", "inter.broker.listener.name=CONTROLLER"), "!it is among controller.listener.names"},
		{"no listener of that protocol", with(alone, "security.inter.broker.protocol=SSL"), "!is named SSL"},
		{"a cluster needs one of that name", with(member, "listeners=A://:1,CONTROLLER://:9093", "listener.security.protocol.map=A:PLAINTEXT,CONTROLLER:PLAINTEXT"), "!is named PLAINTEXT"},
		{"brokers are not told of it", with(member, "listeners=PLAINTEXT://:9092,SSL://:9094,CONTROLLER://:9093", "advertised.listeners=SSL://a:9094"), "!they are [SSL://:9094]"},

		{"a selector of others", with(alone, "replica.selector.class=com.example.Mine"), `!replica.selector.class: invalid value "com.example.Mine"`},
		{"followers wait longer than they may lag", with(alone, "replica.fetch.wait.max.ms=501", "replica.lag.time.max.ms=500"), "!501: more than replica.lag.time.max.ms 500"},
		{"followers wait longer than the socket", with(alone, "replica.fetch.wait.max.ms=501", "replica.socket.timeout.ms=500"), "!501: more than replica.socket.timeout.ms 500"},
		{"heartbeats without a pause", with(alone, "broker.heartbeat.interval.ms=0"), "!must be at least 1"},
	} {
		b, err := load(t, Sources{Overrides: c.overrides}).Broker()
		if want, isErr := strings.CutPrefix(c.want, "!"); isErr {
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q in it", c.name, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var words []string
		for _, w := range []struct {
			word string
			is   bool
		}{{"broker", b.IsBroker()}, {"controller", b.IsController()}, {"lone", b.Lone()}} {
			if w.is {
				words = append(words, w.word)
			}
		}
		got := fmt.Sprint(strings.Join(words, " "), " ", b.QuorumVoters, " ", b.QuorumBootstrap, " ", b.InterBroker)
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestClusterValues: every key has its field, and Kafka's default.
func TestClusterValues(t *testing.T) {
	values := func(b *Broker) string {
		return fmt.Sprint(b.ControllerListenerNames, b.BrokerSessionTimeout, b.BrokerHeartbeatInterval, b.InitialRegistrationTimeout, b.ControlledShutdown,
			b.QuorumElectionTimeout, b.QuorumFetchTimeout, b.QuorumRequestTimeout, b.AutoLeaderRebalance, b.LeaderImbalanceInterval, b.UncleanElectionInterval,
			b.ReplicaFetchers, b.ReplicaFetchMinBytes, b.ReplicaFetchMaxBytes, b.ReplicaFetchResponseMaxBytes, b.ReplicaFetchWait, b.ReplicaFetchBackoff,
			b.ReplicaLagTimeMax, b.ReplicaSocketTimeout, b.ReplicaSelector)
	}
	b, err := load(t, Sources{}).Broker()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint([]string{"CONTROLLER"}, 9*time.Second, 2*time.Second, time.Minute, true, time.Second, 2*time.Second, 2*time.Second, true, 5*time.Minute, 5*time.Minute,
		1, 1, 1048576, 10485760, 500*time.Millisecond, time.Second, 30*time.Second, 30*time.Second, LeaderSelector)
	if got := values(b); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	overrides := []string{"broker.session.timeout.ms=20", "broker.heartbeat.interval.ms=3", "initial.broker.registration.timeout.ms=4", "controlled.shutdown.enable=false",
		"controller.quorum.election.timeout.ms=5", "controller.quorum.fetch.timeout.ms=6", "controller.quorum.request.timeout.ms=7", "auto.leader.rebalance.enable=false",
		"leader.imbalance.check.interval.seconds=8", "unclean.leader.election.interval.ms=9", "num.replica.fetchers=10", "replica.fetch.min.bytes=11", "replica.fetch.max.bytes=12",
		"replica.fetch.response.max.bytes=13", "replica.fetch.wait.max.ms=14", "replica.fetch.backoff.ms=15", "replica.lag.time.max.ms=16", "replica.socket.timeout.ms=17",
		"replica.selector.class=" + RackAwareSelector, "controller.listener.names=A,B"}
	_, warnings, err := Load(Sources{Overrides: slices.Concat(overrides, member, []string{"inter.broker.listener.name=PLAINTEXT", "controller.quorum.bootstrap.servers=a:1"})})
	if err != nil || len(warnings) > 0 {
		t.Errorf("%v, warned of keys that are acted on: %v", err, warnings)
	}
	if b, err = load(t, Sources{Overrides: overrides}).Broker(); err != nil {
		t.Fatal(err)
	}
	const ms = time.Millisecond
	want = fmt.Sprint([]string{"A", "B"}, 20*ms, 3*ms, 4*ms, false, 5*ms, 6*ms, 7*ms, false, 8*time.Second, 9*ms, 10, 11, 12, 13, 14*ms, 15*ms, 16*ms, 17*ms, RackAwareSelector)
	if got := values(b); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestRareHeartbeatsAreWarnedOf(t *testing.T) {
	for every, want := range map[string]int{"4500": 0, "4501": 1} {
		_, warnings, err := Load(Sources{Overrides: []string{"broker.heartbeat.interval.ms=" + every}})
		if err != nil || len(warnings) != want {
			t.Errorf("every %s ms: %v, warnings %v, want %d", every, err, warnings, want)
		}
	}
}
