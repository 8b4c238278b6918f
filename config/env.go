package config

import (
	"errors"
	"fmt"
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

// loadEnviron takes the KAFKA_ variables. One that names no key is a warning:
// an image's environment holds more than configuration.
func (s *Static) loadEnviron(environ []string) (warnings []Warning, err error) {
	for _, e := range environ {
		variable, value, _ := strings.Cut(e, "=")
		key, ok := EnvName(variable)
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
	return warnings, nil
}
