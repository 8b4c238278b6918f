package client

import "math/rand/v2"

// murmur2 is the hash of keyed records, with Kafka's seed.
func murmur2(b []byte) uint32 {
	const m, r = 0x5bd1e995, 24
	h := uint32(0x9747b28c) ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// PartitionForKey returns the partition of a record with that key, which is the
// Java producer's.
func PartitionForKey(key []byte, partitions int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % partitions
}

// sticky chooses the partition of records without a key: the same until about a
// batch has gone there (KIP-794). Partitions whose queues are long are chosen
// less often.
type sticky struct {
	current  int32 // -1 before the first choice
	produced int   // bytes since the choice
}

// candidate is a partition to choose.
type candidate struct {
	partition int32
	queue     int  // batches waiting
	available bool // its leader takes records
}

// choose picks the next partition. Without adaptive every candidate is as good.
func (s *sticky) choose(all []candidate, adaptive bool, random func(n int) int) int32 {
	usable, equal, longest, excluded := 0, true, 0, false
	for i := range all {
		if !all[i].available {
			excluded = true
			continue
		}
		if usable > 0 && all[i].queue != longest {
			equal = false
		}
		longest = max(longest, all[i].queue)
		usable++
	}
	s.produced = 0
	if usable == 0 {
		s.current = all[random(len(all))].partition
		return s.current
	}
	uniform := !adaptive || usable < 2 || equal && !excluded
	weight := func(c *candidate) int {
		switch {
		case !c.available:
			return 0
		case uniform:
			return 1
		}
		return longest + 1 - c.queue
	}
	total := 0
	for i := range all {
		total += weight(&all[i])
	}
	pick := random(total)
	for i := range all {
		if pick -= weight(&all[i]); pick < 0 {
			s.current = all[i].partition
			break
		}
	}
	return s.current
}

// wrote notes bytes given to the current partition and reports whether it is
// time to choose another: after a batch's worth once its newest batch is full,
// and after two in any case.
func (s *sticky) wrote(bytes, batchSize int, newestFull bool) bool {
	s.produced += bytes
	return s.produced >= batchSize && newestFull || s.produced >= 2*batchSize
}

func randomInt(n int) int { return rand.IntN(n) }
