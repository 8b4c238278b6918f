package scrub

// fix is what a repair can do about a finding.
type fix int8

const (
	fixNone        fix = iota
	fixRemove          // remove a derived file
	fixTxnIndex        // remove a transaction index and the snapshots after it
	fixLeftover        // remove a file that is left over
	fixSwap            // finish a compaction
	fixCutTail         // cut a torn tail off
	fixCutAtDamage     // cut, and lose valid batches
)
