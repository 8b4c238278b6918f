package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A broker takes the variables of Kafka's container image: the id of a new
// cluster, and the levels of its log.
func TestStartTakesTheImagesVariables(t *testing.T) {
	const id = "5L6g3nShT-eMCtK--X86sw"
	dir := filepath.Join(t.TempDir(), "data")
	t.Setenv("CLUSTER_ID", id)
	s := serve(t, dir)
	s.stop()
	if r := <-s.done; r.code != exitOK {
		t.Fatalf("exit %d: %s", r.code, r.err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "meta.properties"))
	if err != nil || !strings.Contains(string(text), "cluster.id="+id+"\n") {
		t.Errorf("meta.properties %q, %v", text, err)
	}

	for _, c := range []struct{ variable, value, want string }{
		{"CLUSTER_ID", "AAAAAAAAAAAAAAAAAAAAAA", "belongs to cluster " + id + ", not AAAAAAAAAAAAAAAAAAAAAA"},
		{"CLUSTER_ID", "a\nb", "CLUSTER_ID"},
		{"KAFKA_LOG4J_ROOT_LOGLEVEL", "LOUD", "KAFKA_LOG4J_ROOT_LOGLEVEL"},
		{"KAFKA_LOG4J_LOGGERS", "broker", "KAFKA_LOG4J_LOGGERS"},
	} {
		t.Run(c.variable, func(t *testing.T) {
			t.Setenv(c.variable, c.value)
			var out, errs bytes.Buffer
			code := run(t.Context(), []string{"start", "--listen", "127.0.0.1:0", "--data-dir", dir}, nil, &out, &errs)
			if code == exitOK || !strings.Contains(errs.String(), c.want) || out.Len() > 0 {
				t.Errorf("%s=%q: exit %d, %s%s; want %q", c.variable, c.value, code, &out, &errs, c.want)
			}
		})
	}
}
