package conn

import (
	"encoding/binary"
	"strings"
	"testing"
)

// TestOtherProtocols: an answer that is no broker's says whose it looks like.
func TestOtherProtocols(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 400 Bad Request":     "HTTP server",
		"\x15\x03\x01\x00\x02\x02\x16": "TLS server",
		"\x7f\xff\xff\xff":             "",
	} {
		e := &AnswerTooLargeError{API: "ApiVersions", Addr: "a:1", Size: int(binary.BigEndian.Uint32([]byte(answer))), Limit: 5}
		if said := e.Error(); !strings.Contains(said, want) || want == "" && strings.Contains(said, "server") {
			t.Errorf("%q: %s", answer, said)
		}
	}
}
