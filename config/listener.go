package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Listener is an address to listen on or to tell clients.
type Listener struct {
	Name     string // upper case
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	Host     string // "" for every interface
	Port     int    // 0 picks one
}

// Address returns host:port.
func (l Listener) Address() string { return net.JoinHostPort(l.Host, strconv.Itoa(l.Port)) }

// String returns NAME://host:port.
func (l Listener) String() string { return l.Name + "://" + l.Address() }

var securityProtocols = map[string]bool{"PLAINTEXT": true, "SSL": true, "SASL_PLAINTEXT": true, "SASL_SSL": true}

// parseListener reads NAME://host:port; host may be empty or in brackets.
func parseListener(s string, protocols map[string]string) (Listener, error) {
	name, addr, ok := strings.Cut(s, "://")
	host, port, err := net.SplitHostPort(addr)
	if !ok || name == "" || err != nil {
		return Listener{}, fmt.Errorf("%w %q: want NAME://host:port", ErrInvalid, s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Listener{}, fmt.Errorf("%w %q: port %q", ErrInvalid, s, port)
	}
	l := Listener{Name: strings.ToUpper(name), Host: host, Port: int(n)}
	if l.Protocol, ok = protocols[l.Name]; !ok {
		return Listener{}, fmt.Errorf("%w %q: listener.security.protocol.map has no protocol for %s", ErrInvalid, s, l.Name)
	}
	return l, nil
}

// parseListeners reads a list whose names must differ, and whose addresses must
// unless they are only advertised to clients.
func parseListeners(key string, items []string, protocols map[string]string, bind bool) ([]Listener, error) {
	var all []Listener
	for _, item := range items {
		l, err := parseListener(item, protocols)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		for _, o := range all {
			if o.Name == l.Name {
				return nil, fmt.Errorf("%s: %w: two listeners are named %s", key, ErrInvalid, l.Name)
			}
			if bind && l.Port != 0 && o.Port == l.Port && o.Host == l.Host {
				return nil, fmt.Errorf("%s: %w: two listeners on %s", key, ErrInvalid, l.Address())
			}
		}
		if !bind && (l.Host == "" || l.Host == "0.0.0.0" || l.Host == "::") {
			return nil, fmt.Errorf("%s: %w %q: clients cannot connect to every interface", key, ErrInvalid, item)
		}
		all = append(all, l)
	}
	return all, nil
}

// parseProtocolMap reads NAME:PROTOCOL pairs. Unless there is a map, Kafka's
// four names stand for themselves, and those of the controller's listeners for
// PLAINTEXT.
func parseProtocolMap(v string, explicit bool, controllers []string) (map[string]string, error) {
	m := make(map[string]string)
	if !explicit {
		m["CONTROLLER"] = "PLAINTEXT"
		for _, name := range controllers {
			m[strings.ToUpper(name)] = "PLAINTEXT"
		}
	}
	for _, item := range splitList(v) {
		name, protocol, ok := strings.Cut(item, ":")
		name, protocol = strings.ToUpper(strings.TrimSpace(name)), strings.ToUpper(strings.TrimSpace(protocol))
		if !ok || name == "" || !securityProtocols[protocol] {
			return nil, fmt.Errorf("listener.security.protocol.map: %w %q: want NAME:PROTOCOL", ErrInvalid, item)
		}
		if _, twice := m[name]; twice && explicit {
			return nil, fmt.Errorf("listener.security.protocol.map: %w: %s comes twice", ErrInvalid, name)
		}
		m[name] = protocol
	}
	return m, nil
}
