// Command klamm is a Kafka-compatible broker, producer, consumer and admin tool
// in one binary.
package main

import (
	"os"

	"github.com/klamm-io/klamm/cmd/klamm/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
