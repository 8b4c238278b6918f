package segment

import (
	"bytes"
	"errors"
	"testing"
)

// One bad sector may damage the end of a batch and the beginning of the next one.
// The batches behind them show that this is no torn tail.
func TestTwoDamagedNeighboursAreNoTornTail(t *testing.T) {
	var all []byte
	all = append(all, batch(t, 100, 20, 1, 2)...)
	all = append(all, batch(t, 102, 20, 3, 4)...)
	at2 := len(all)
	all = append(all, batch(t, 104, 20, 5, 6)...)
	for i := int64(0); i < 50; i++ { // hundred good records behind
		all = append(all, batch(t, 106+2*i, 20, 7, 8)...)
	}
	c := bytes.Clone(all)
	// one bad sector over the end of one batch and the beginning of the next
	for i := at2 - 10; i < at2+10; i++ {
		c[i] ^= 0x55
	}
	s, cut, err := recoverBytes(t, c, 0)
	var d *DamagedError
	if !errors.As(err, &d) {
		t.Errorf("50 valid batches behind the damage were cut: %d bytes of %d, log end %d, err %v", cut, len(c), s.Next(), err)
	}
}

// A record whose value is a batch with the offset that comes after it.
func TestTornBatchHoldingTheNextOffsetIsCut(t *testing.T) {
	first := batch(t, 100, 20, 1, 2)
	torn := holding(t, 102, batch(t, 103, 30, 1), make([]byte, 50))
	c := append(bytes.Clone(first), torn[:len(torn)-20]...)
	_, cut, err := recoverBytes(t, c, 0)
	if err != nil || cut == 0 {
		t.Errorf("quarantined: cut %d, %v", cut, err)
	}
}

// As many kinds of local damage as there are: a run of bytes somewhere in a log of
// small batches is never taken for a torn tail.
func TestDamagedRunsAreNotCut(t *testing.T) {
	var all []byte
	for i := int64(0); i < 200; i++ {
		all = append(all, batch(t, 100+i, 40, i)...)
	}
	lost, kept := 0, 0
	for _, n := range []int{1, 64, 512, 4096} {
		cut, total := 0, 0
		for at := 300; at+n < len(all)/2; at += 97 {
			c := bytes.Clone(all)
			for i := at; i < at+n; i++ {
				c[i] ^= 0x55
			}
			_, gone, _ := recoverBytes(t, c, 0)
			total++
			if gone > 0 {
				cut++
			}
		}
		t.Logf("runs of %d bytes: %d of %d cut the rest of the log", n, cut, total)
		lost, kept = lost+cut, kept+total
	}
	if lost > 0 {
		t.Errorf("%d of %d damages in the middle were cut", lost, kept)
	}
}

// No byte of a batch in the middle of a log is such that damage to it makes the
// rest be cut.
func TestNoDamagedByteIsCut(t *testing.T) {
	var all []byte
	var first int
	for i := int64(0); i < 60; i++ {
		first = len(batch(t, 100+i, 40, i))
		all = append(all, batch(t, 100+i, 40, i)...)
	}
	for i := 0; i < first; i++ {
		for _, x := range []byte{0x55, 1, 0x80, 0xff} {
			c := bytes.Clone(all)
			c[first*10+i] ^= x
			_, cut, err := recoverBytes(t, c, 0)
			if cut > 0 {
				t.Errorf("byte %d of a batch xor %x: cut %d of %d, %v", i, x, cut, len(c), err)
			}
		}
	}
}
