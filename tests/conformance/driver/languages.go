package driver

import "path/filepath"

// Java starts the driver of the Java client, with the classpath that it is on.
func Java(classpath, addr string) (Driver, error) {
	return Start(".", "java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath, "io.klamm.conformance.Driver", addr)
}

// Librdkafka starts the driver of librdkafka in the directory of the conformance suite, which has
// its Python environment.
func Librdkafka(suite, addr string) (Driver, error) {
	return Start(suite, filepath.Join(".venv", "bin", "python"), "-u", filepath.Join("drivers", "librdkafka", "main.py"), addr)
}
