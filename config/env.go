package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// notKeys are the KAFKA_ variables of Kafka's scripts and images, and of our own
// command line, that name no key.
var notKeys = []string{
	"KAFKA_BOOTSTRAP_SERVERS", "KAFKA_DEBUG", "KAFKA_GC_LOG_OPTS", "KAFKA_HEAP_OPTS", "KAFKA_HOME",
	"KAFKA_JDK_COMPATIBILITY_OPTS", "KAFKA_JMX_HOSTNAME", "KAFKA_JMX_OPTS", "KAFKA_JMX_PORT",
	"KAFKA_JVM_PERFORMANCE_OPTS", "KAFKA_OPTS", "KAFKA_VERSION",
}

var notKeyPrefixes = []string{"KAFKA_LOG4J_", "KAFKA_TOOLS_", "KAFKA_DEBUG_", "KAFKA_JAVA_"}

// EnvName returns the key that an environment variable stands for in Kafka's
// container images: KAFKA_ is dropped, then _ reads ".", __ reads "_" and ___
// reads "-", in lower case. ok is false if the variable stands for none.
func EnvName(variable string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(variable, "KAFKA_")
	if !ok || rest == "" || slices.Contains(notKeys, variable) {
		return "", false
	}
	for _, p := range notKeyPrefixes {
		if strings.HasPrefix(variable, p) {
			return "", false
		}
	}
	rest = strings.ToLower(rest)
	return strings.NewReplacer("___", "-", "__", "_", "_", ".").Replace(rest), true
}

// secretsDir is where Kafka's image expects the files that variables name.
const secretsDir = "/etc/kafka/secrets/"

// secretFiles are the variables of Kafka's image that name a file in secretsDir,
// and the key that takes its path.
var secretFiles = map[string]string{
	"KAFKA_SSL_KEYSTORE_FILENAME":   "ssl.keystore.location",
	"KAFKA_SSL_TRUSTSTORE_FILENAME": "ssl.truststore.location",
}

// secretContents are those that name a file in secretsDir, and the key that takes
// what is in it.
var secretContents = map[string]string{
	"KAFKA_SSL_KEY_CREDENTIALS":        "ssl.key.password",
	"KAFKA_SSL_KEYSTORE_CREDENTIALS":   "ssl.keystore.password",
	"KAFKA_SSL_TRUSTSTORE_CREDENTIALS": "ssl.truststore.password",
}

// loadEnviron takes CLUSTER_ID and the KAFKA_ variables, as Kafka's image does.
// One that names no key is a warning: an image's environment holds more than
// configuration.
func (s *Static) loadEnviron(environ []string) (warnings []Warning, err error) {
	var advertised string
	for _, e := range environ {
		variable, value, _ := strings.Cut(e, "=")
		key, ok := EnvName(variable)
		switch {
		case variable == "CLUSTER_ID":
			if err := s.putClusterID(value); err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", variable, err)
			}
		case variable == "KAFKA_ADVERTISED_LISTENERS":
			advertised = value
		case secretFiles[variable] != "":
			key, value = secretFiles[variable], secretsDir+value
		case secretContents[variable] != "":
			text, err := os.ReadFile(secretsDir + value)
			if err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", variable, err)
			}
			key, value = secretContents[variable], strings.TrimRight(string(text), "\r\n")
		}
		if !ok {
			continue
		}
		err := s.put(key, value, SourceEnvironment)
		var u *UnknownKeyError
		switch {
		case errors.As(err, &u):
			warnings = append(warnings, Warning{variable, u.Error()})
		case err != nil:
			return nil, fmt.Errorf("environment variable %s: %w", variable, err)
		}
	}
	if advertised != "" && !s.Explicit("listeners") {
		if err := s.put("listeners", everyInterface(advertised), SourceEnvironment); err != nil {
			return nil, fmt.Errorf("environment variable KAFKA_ADVERTISED_LISTENERS: %w", err)
		}
	}
	return warnings, nil
}

// everyInterface returns listeners with the ports of the advertised ones, on every
// interface: in Kafka's image those stand in for the listeners that are not given.
func everyInterface(advertised string) string {
	list := strings.Split(advertised, ",")
	for i, l := range list {
		name, address, ok := strings.Cut(l, "://")
		if port := strings.LastIndexByte(address, ':'); ok && port >= 0 {
			list[i] = name + "://0.0.0.0" + address[port:]
		}
	}
	return strings.Join(list, ",")
}

// putClusterID takes an id that can stand in meta.properties as it is.
func (s *Static) putClusterID(id string) error {
	for _, c := range id {
		if !strings.ContainsRune("_-.", c) && (c < '0' || c > 'z' || c > '9' && c < 'A' || c > 'Z' && c < 'a') {
			return fmt.Errorf("%w: cluster id %q: want letters, digits, '_', '-' and '.'", ErrInvalid, id)
		}
	}
	s.clusterID = id
	return nil
}
