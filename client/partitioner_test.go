package client

import (
	"bufio"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

func TestMurmur2(t *testing.T) {
	file, err := os.Open("testdata/primitives.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for s := bufio.NewScanner(z); s.Scan(); {
		var v struct {
			Fn, In string
			Out    int32
		}
		if json.Unmarshal(s.Bytes(), &v) != nil {
			continue
		}
		partitions, partition := strings.CutPrefix(v.Fn, "partition/")
		if v.Fn != "murmur2" && !partition {
			continue
		}
		n++
		in, err := hex.DecodeString(v.In)
		if err != nil {
			t.Fatal(err)
		}
		if partition {
			of, err := strconv.Atoi(partitions)
			if err != nil {
				t.Fatal(err)
			}
			if got := PartitionForKey(in, int32(of)); got != v.Out {
				t.Errorf("partition of key %x of %d: %d, want %d", in, of, got, v.Out)
			}
			continue
		}
		if got := int32(murmur2(in)); got != v.Out {
			t.Errorf("murmur2(%x) = %d, want %d", in, got, v.Out)
		}
	}
	if n < 100 {
		t.Errorf("%d vectors", n)
	}
}

func TestSticky(t *testing.T) {
	all := []candidate{{0, 0, true}, {1, 3, true}, {2, 1, false}}
	for _, c := range []struct {
		name     string
		adaptive bool
		total    int   // what random is asked for
		pick     int   // what it says
		want     int32 // partition
	}{
		{"short queues are likelier: weights 4 and 1", true, 5, 3, 0},
		{"but long ones get their share", true, 5, 4, 1},
		{"without adaptive all are equal", false, 2, 1, 1},
	} {
		s := sticky{current: -1}
		got := s.choose(all, c.adaptive, func(n int) int {
			if n != c.total {
				t.Errorf("%s: random of %d, want %d", c.name, n, c.total)
			}
			return c.pick
		})
		if got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	none := []candidate{{0, 0, false}, {1, 0, false}}
	s := sticky{}
	if got := s.choose(none, true, func(int) int { return 1 }); got != 1 {
		t.Errorf("with no leader: %d", got)
	}
	if s.wrote(60, 100, true) || !s.wrote(40, 100, true) {
		t.Error("switches at a batch's worth, once the batch is full")
	}
	s.produced = 0
	if s.wrote(150, 100, false) || !s.wrote(50, 100, false) {
		t.Error("switches at two batches' worth in any case")
	}
}

// TestUnkeyedSpread: records without key reach every partition, in runs.
func TestUnkeyedSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, 1)
		f.topic("t", 1, 1, 1)
		p := newProducer(t, f, ProducerOptions{BatchSize: 200})
		for i := range 2000 {
			if err := p.SendFunc(background(t), &Record{Topic: "t", Value: []byte(fmt.Sprint(i))}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.Flush(background(t)); err != nil {
			t.Fatal(err)
		}
		total := 0
		for i := range 3 {
			n := len(f.values("t", i))
			total += n
			if n < 200 {
				t.Errorf("partition %d has %d of 2000", i, n)
			}
		}
		if total != 2000 {
			t.Errorf("%d records", total)
		}
	})
}
