package kerr

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestTableIsTheProtocols compares every column with the protocol's table.
func TestTableIsTheProtocols(t *testing.T) {
	f, err := os.Open("testdata/errors.tsv.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(z)
	s.Scan() // header
	rows := 0
	for s.Scan() {
		col := strings.Split(s.Text(), "\t")
		n, err := strconv.Atoi(col[0])
		if err != nil {
			t.Fatal(err)
		}
		c := Code(n)
		refresh := col[3]
		if refresh == "no" {
			refresh = "none"
		}
		got := fmt.Sprintln(c.Known(), c.Name(), c.Retriable(), c.Refresh(), c.Message())
		want := fmt.Sprintln(true, col[1], col[2] == "yes", refresh, col[6])
		if got != want {
			t.Errorf("code %d: got %s, want %s", n, got, want)
		}
		if back, ok := ByName(col[1]); !ok || back != c {
			t.Errorf("ByName(%s) = %d %t, want %d", col[1], back, ok, c)
		}
		rows++
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if got := len(Codes()); got != rows || rows < 130 {
		t.Errorf("%d codes in the package, %d in the protocol", got, rows)
	}
}

func TestErrorValues(t *testing.T) {
	if err := None.Err(); err != nil {
		t.Errorf("None.Err() = %v, want nil", err)
	}
	wrapped := fmt.Errorf("fetch of orders-0: %w", NotLeaderOrFollower.Err())
	if !errors.Is(wrapped, NotLeaderOrFollower) || errors.Is(wrapped, NotCoordinator) {
		t.Errorf("errors.Is does not tell codes apart in %v", wrapped)
	}
	var c Code
	if !errors.As(wrapped, &c) || c != 6 {
		t.Errorf("errors.As found %d, want 6", c)
	}
	if got, want := UnknownTopicOrPartition.Error(), "UNKNOWN_TOPIC_OR_PARTITION: "; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want prefix %q", got, want)
	}
}

// TestUnknownCodes: a newer or hostile peer may send any int16.
func TestUnknownCodes(t *testing.T) {
	for _, c := range []Code{-32768, -2, 134, 32767} {
		if c.Known() || c.Retriable() || c.Refresh() != RefreshNone || c.Name() != fmt.Sprintf("CODE_%d", int16(c)) {
			t.Errorf("code %d: known %t, retriable %t, name %s", int16(c), c.Known(), c.Retriable(), c.Name())
		}
	}
	if _, ok := ByName("NO_SUCH"); ok {
		t.Error("ByName found NO_SUCH")
	}
}
