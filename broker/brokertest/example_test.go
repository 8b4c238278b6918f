package brokertest_test

import (
	"testing"

	"github.com/klamm-io/klamm/broker/brokertest"
	"github.com/klamm-io/klamm/client"
)

// TestOrders is the whole of a test that needs Kafka.
func TestOrders(t *testing.T) {
	b := brokertest.Start(t, brokertest.Options{}) // a real broker in memory, on a free loopback port
	p, err := client.NewProducer(client.ProducerOptions{Options: client.Options{BootstrapServers: []string{b.Bootstrap()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(t.Context())
	at, err := p.Send(t.Context(), &client.Record{Topic: "orders", Value: []byte("hello")}).Get(t.Context())
	if err != nil || at.Offset != 0 {
		t.Fatalf("offset %d: %v", at.Offset, err)
	}
}
