package config

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Voter is a controller that controller.quorum.voters names.
type Voter struct {
	ID   int32
	Host string
	Port int
}

// Address returns host:port.
func (v Voter) Address() string { return net.JoinHostPort(v.Host, strconv.Itoa(v.Port)) }

// String returns id@host:port.
func (v Voter) String() string { return fmt.Sprintf("%d@%s", v.ID, v.Address()) }

// The values of replica.selector.class.
const (
	LeaderSelector    = "org.apache.kafka.common.replica.LeaderSelector"
	RackAwareSelector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
)

// IsBroker reports whether the node serves clients.
func (b *Broker) IsBroker() bool { return slices.Contains(b.ProcessRoles, "broker") }

// IsController reports whether the node may be a voter of the metadata quorum.
func (b *Broker) IsController() bool { return slices.Contains(b.ProcessRoles, "controller") }

// ControllerListenerName returns the name of the listener that controllers are reached by, the
// first of controller.listener.names; "" where there is none.
func (b *Broker) ControllerListenerName() string {
	if len(b.ControllerListenerNames) == 0 {
		return ""
	}
	return b.ControllerListenerNames[0]
}

// Lone reports whether the configuration names no other node, and has none come: the node is
// the only broker of its cluster, and its own controller. One that says at which of its
// listeners its controller is to be found is not alone: brokers may join it there.
func (b *Broker) Lone() bool {
	return b.IsBroker() && b.IsController() && len(b.QuorumBootstrap) == 0 && (len(b.QuorumVoters) == 0 || len(b.ControllerListeners) == 0) &&
		!slices.ContainsFunc(b.QuorumVoters, func(v Voter) bool { return v.ID != b.NodeID })
}

// cluster fills in what concerns other nodes, and checks it as KafkaConfig does.
// The listeners are there already. A lone node needs no controller.quorum key,
// no listener of the controller and no listener between brokers.
func (s *Static) cluster(b *Broker) error {
	b.ControllerListenerNames = s.List("controller.listener.names")
	b.BrokerSessionTimeout = s.Duration("broker.session.timeout.ms")
	b.BrokerHeartbeatInterval = s.Duration("broker.heartbeat.interval.ms")
	b.InitialRegistrationTimeout = s.Duration("initial.broker.registration.timeout.ms")
	b.ControlledShutdown = s.Bool("controlled.shutdown.enable")
	b.QuorumElectionTimeout = s.Duration("controller.quorum.election.timeout.ms")
	b.QuorumFetchTimeout = s.Duration("controller.quorum.fetch.timeout.ms")
	b.QuorumRequestTimeout = s.Duration("controller.quorum.request.timeout.ms")
	b.AutoLeaderRebalance = s.Bool("auto.leader.rebalance.enable")
	b.LeaderImbalanceInterval = seconds(s.Long("leader.imbalance.check.interval.seconds"))
	b.UncleanElectionInterval = s.Duration("unclean.leader.election.interval.ms")
	b.ReplicaFetchers = s.Int("num.replica.fetchers")
	b.ReplicaFetchMinBytes = s.Int("replica.fetch.min.bytes")
	b.ReplicaFetchMaxBytes = s.Int("replica.fetch.max.bytes")
	b.ReplicaFetchResponseMaxBytes = s.Int("replica.fetch.response.max.bytes")
	b.ReplicaFetchWait = s.Duration("replica.fetch.wait.max.ms")
	b.ReplicaFetchBackoff = s.Duration("replica.fetch.backoff.ms")
	b.ReplicationQuotaSamples = s.Int("replication.quota.window.num")
	b.ReplicationQuotaSample = seconds(int64(s.Int("replication.quota.window.size.seconds")))
	b.ReplicaLagTimeMax = s.Duration("replica.lag.time.max.ms")
	b.ReplicaSocketTimeout = s.Duration("replica.socket.timeout.ms")
	for _, fill := range []func(*Broker) error{s.quorum, s.roles, s.interBroker, s.selector, s.clusterLimits} {
		if err := fill(b); err != nil {
			return err
		}
	}
	return nil
}

// quorum reads where the controllers are.
func (s *Static) quorum(b *Broker) error {
	const voters, bootstrap = "controller.quorum.voters", "controller.quorum.bootstrap.servers"
	for _, item := range s.List(voters) {
		v, err := ParseVoter(item)
		if err != nil {
			return fmt.Errorf("%s: %w", voters, err)
		}
		if slices.ContainsFunc(b.QuorumVoters, func(o Voter) bool { return o.ID == v.ID }) {
			return fmt.Errorf("%s: %w: two voters have the id %d", voters, ErrInvalid, v.ID)
		}
		b.QuorumVoters = append(b.QuorumVoters, v)
	}
	for _, item := range s.List(bootstrap) {
		host, port, ok := parseHostPort(item)
		if !ok {
			return fmt.Errorf("%s: %w %q: want host:port", bootstrap, ErrInvalid, item)
		}
		b.QuorumBootstrap = append(b.QuorumBootstrap, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return nil
}

// ParseVoter reads id@host:port.
func ParseVoter(item string) (Voter, error) {
	id, addr, _ := strings.Cut(item, "@")
	n, err := strconv.ParseInt(id, 10, 32)
	host, port, ok := parseHostPort(addr)
	if err != nil || n < 0 || !ok {
		return Voter{}, fmt.Errorf("%w %q: want id@host:port", ErrInvalid, item)
	}
	if host == "0.0.0.0" || host == "::" {
		return Voter{}, fmt.Errorf("%w %q: nobody can connect to every interface", ErrInvalid, item)
	}
	return Voter{int32(n), host, port}, nil
}

// hostPattern is what Kafka takes for the name or address of a host.
var hostPattern = regexp.MustCompile(`^[0-9a-zA-Z\-%._:]+$`)

// parseHostPort reads host:port of an address to connect to; an IPv6 address is in
// brackets.
func parseHostPort(s string) (host string, port int, ok bool) {
	host, p, err := net.SplitHostPort(s)
	n, err2 := strconv.ParseUint(p, 10, 16)
	return host, int(n), err == nil && err2 == nil && n > 0 && hostPattern.MatchString(host)
}

// roles checks process.roles against the voters and the listeners.
func (s *Static) roles(b *Broker) error {
	const names = "controller.listener.names"
	voter := slices.ContainsFunc(b.QuorumVoters, func(v Voter) bool { return v.ID == b.NodeID })
	switch {
	case !(b.IsBroker() && b.IsController()) && len(b.QuorumVoters)+len(b.QuorumBootstrap) == 0:
		return fmt.Errorf("%w: process.roles is %s, so controller.quorum.bootstrap.servers or controller.quorum.voters must name the controllers", ErrInvalid, strings.Join(b.ProcessRoles, ","))
	case !b.IsController() && voter:
		return fmt.Errorf("node.id: %w %d: process.roles is broker, so it must not be among controller.quorum.voters %v", ErrInvalid, b.NodeID, b.QuorumVoters)
	case !b.IsController() && len(b.ControllerListeners) > 0:
		return fmt.Errorf("%s: %w: %s is among listeners, though process.roles is broker", names, ErrInvalid, b.ControllerListeners[0].Name)
	case b.IsController() && len(b.QuorumVoters) > 0 && !voter:
		return fmt.Errorf("node.id: %w %d: process.roles has controller, so it must be among controller.quorum.voters %v", ErrInvalid, b.NodeID, b.QuorumVoters)
	case !b.IsBroker() && len(b.Listeners) > 0:
		return fmt.Errorf("listeners: %w: %s is not among %s, though process.roles is controller", ErrInvalid, b.Listeners[0].Name, names)
	case b.IsController() && len(b.ControllerListeners) == 0 && !(b.IsBroker() && b.Lone()):
		return fmt.Errorf("%s: %w: none of %s is among listeners, though process.roles has controller", names, ErrInvalid, strings.Join(b.ControllerListenerNames, ","))
	}
	for _, name := range b.ControllerListenerNames {
		listens := slices.ContainsFunc(b.ControllerListeners, func(l Listener) bool { return strings.EqualFold(l.Name, name) })
		if b.IsController() && !listens && !b.Lone() {
			return fmt.Errorf("%s: %w: %s is not among listeners, though process.roles has controller", names, ErrInvalid, name)
		}
		if _, ok := b.SecurityProtocols[strings.ToUpper(name)]; !ok && !b.IsController() {
			return fmt.Errorf("%s: %w: listener.security.protocol.map has no protocol for %s", names, ErrInvalid, name)
		}
	}
	return nil
}

// interBroker finds the listener that brokers use among themselves: the one that
// is named, else the one whose name is the protocol between brokers. A lone node
// may have neither, and then it is one with that protocol, or the first.
func (s *Static) interBroker(b *Broker) error {
	const byName, byProtocol = "inter.broker.listener.name", "security.inter.broker.protocol"
	name, protocol := strings.ToUpper(s.Str(byName)), s.Str(byProtocol)
	if s.Explicit(byName) && s.Explicit(byProtocol) {
		return fmt.Errorf("%s: %w %q: %s is set too, and only one of them may be", byName, ErrInvalid, name, byProtocol)
	}
	if !b.IsBroker() {
		if slices.ContainsFunc(b.ControllerListeners, func(l Listener) bool { return l.Name == name }) {
			return fmt.Errorf("%s: %w %q: it is among controller.listener.names", byName, ErrInvalid, name)
		}
		if b.InterBroker = name; name == "" { // where the controller looks for brokers
			b.InterBroker = protocol
		}
		return nil
	}
	var told []Listener // clients and brokers are told of these
	for _, l := range b.Listeners {
		advertised := func(a Listener) bool { return a.Name == l.Name }
		if len(b.Advertised) == 0 || slices.ContainsFunc(b.Advertised, advertised) {
			told = append(told, l)
		}
	}
	find := func(match func(l Listener) bool) bool {
		i := slices.IndexFunc(told, match)
		if i >= 0 {
			b.InterBroker = told[i].Name
		}
		return i >= 0
	}
	named := s.Explicit(byName)
	switch {
	case named && find(func(l Listener) bool { return l.Name == name }):
	case !named && find(func(l Listener) bool { return l.Name == protocol }):
	case named:
		return fmt.Errorf("%s: %w %q: brokers are told of the listeners %v", byName, ErrInvalid, name, told)
	case s.Explicit(byProtocol) || !b.Lone():
		return fmt.Errorf("%s: %w: it is not set, and no listener that brokers are told of is named %s (%s): they are %v", byName, ErrInvalid, protocol, byProtocol, told)
	case find(func(l Listener) bool { return l.Protocol == protocol }):
	case len(told) > 0:
		b.InterBroker = told[0].Name
	default:
		return fmt.Errorf("advertised.listeners: %w: none is for clients", ErrInvalid)
	}
	return nil
}

// selector reads which replica a consumer is sent to.
func (s *Static) selector(b *Broker) error {
	switch b.ReplicaSelector = s.Str("replica.selector.class"); b.ReplicaSelector {
	case "":
		b.ReplicaSelector = LeaderSelector
	case LeaderSelector, RackAwareSelector:
	default:
		return fmt.Errorf("replica.selector.class: %w %q: klamm has no classes of others, only %s and %s", ErrInvalid, b.ReplicaSelector, LeaderSelector, RackAwareSelector)
	}
	return nil
}

// clusterLimits checks keys against each other as KafkaConfig does, and refuses
// times that Kafka takes though nothing works with them.
func (s *Static) clusterLimits(b *Broker) error {
	for _, m := range []struct {
		name string
		min  int64
	}{
		{"broker.heartbeat.interval.ms", 1}, {"broker.session.timeout.ms", 1}, {"initial.broker.registration.timeout.ms", 1},
		{"replica.lag.time.max.ms", 1}, {"replica.fetch.wait.max.ms", 0},
	} {
		if v := s.Long(m.name); v < m.min {
			return fmt.Errorf("%s: %w %d: must be at least %d", m.name, ErrInvalid, v, m.min)
		}
	}
	for _, longer := range []string{"replica.socket.timeout.ms", "replica.lag.time.max.ms"} {
		if wait := s.Long("replica.fetch.wait.max.ms"); wait > s.Long(longer) {
			return fmt.Errorf("replica.fetch.wait.max.ms: %w %d: more than %s %d", ErrInvalid, wait, longer, s.Long(longer))
		}
	}
	return nil
}

// heartbeats warns of heartbeats so rare that one which is lost costs a broker its
// place in the cluster. The two keys may be of different nodes, so that Kafka does
// not refuse them either.
func (s *Static) heartbeats() []Warning {
	const interval, session = "broker.heartbeat.interval.ms", "broker.session.timeout.ms"
	if every, within := s.Long(interval), s.Long(session); 2*every > within {
		return []Warning{{interval, fmt.Sprintf("%d is more than half of %s %d: one lost heartbeat fences a broker", every, session, within)}}
	}
	return nil
}
