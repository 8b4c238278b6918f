// Package bugs names faults that can be planted in the code of replication, to show that
// its tests find them: the naive rules that others have used, and what they were mended
// with left out. They are there in a build with the tag klammbugs alone.
package bugs

// Bug is one fault. Its value says what the code does.
type Bug string

// The bugs.
const (
	TruncateToHighWatermark Bug = "a new follower cuts its log to its own high watermark (KIP-101)"
	EndOfNextEpoch          Bug = "a leader that does not know a follower's epoch answers with where the next one begins (KIP-279)"
	EpochNotNoted           Bug = "a leader does not note where its epoch begins (KAFKA-7415)"
	FollowerHighWatermark   Bug = "a follower keeps its high watermark when its log is cut"
	TruncateByOldFetcher    Bug = "an answer of an earlier leader epoch cuts a log"
	LateAnswer              Bug = "an answer to an earlier request of the same leader epoch is followed"
	FetchOfAnyEpoch         Bug = "a leader takes fetches of followers in another leader epoch (KIP-320)"
	CountBeforeDivergence   Bug = "a leader counts a fetch before it looks whether the follower's log is the same"
	AnyBrokerEpoch          Bug = "nobody looks at the epochs of brokers (KIP-903)"
	CommittedISROnly        Bug = "members that are proposed do not hold the high watermark back (KIP-497)"
	GrowAtHighWatermark     Bug = "a follower at the high watermark may join, wherever the leader's epoch began (KIP-320)"
	ShrinkAtOnce            Bug = "members that are to leave do not hold the high watermark back before that is decided"
	ForgetLostProposal      Bug = "a proposal whose answer is lost is taken for refused"
	KeepLostProposal        Bug = "a proposal that is refused after a lost answer stands for ever"
	IgnoreMinISR            Bug = "the high watermark moves with fewer replicas in sync than min.insync.replicas (KIP-966)"
	AckAtAppend             Bug = "a produce with acks=all is answered when it is appended"
	AckAtDemotion           Bug = "produces that wait are answered without an error when the leader is deposed"
	ProducersOfLeaderOnly   Bug = "followers do not know the sequences of producers"
	DuplicateAppended       Bug = "a batch that is sent again is appended again"
	UncleanStaysInSync      Bug = "a broker that may have lost records stays in sync when it registers (KIP-966)"
	UncleanStaysEligible    Bug = "a broker that may have lost records stays eligible (KIP-966)"
	FencedElected           Bug = "a broker that is fenced can be elected"
	AnyReplicaElected       Bug = "any replica can be elected as if it were in sync"
	FencedStaysInSync       Bug = "a broker that is fenced stays in sync (KIP-841)"
	IneligibleJoins         Bug = "the controller lets fenced brokers into the in-sync set (KIP-841)"
	StaleProposal           Bug = "the controller takes proposals that go by an earlier partition epoch"
	SameLeaderEpoch         Bug = "a new leader goes on in the epoch of the old one"
	StrayKept               Bug = "a topic that is created again gets the old one's log"
	StableAtMarker          Bug = "the last stable offset moves when a marker is appended, wherever the high watermark is"
	DecidedAtStart          Bug = "a start takes transactions for decided whose markers are not committed"
	TornTailKept            Bug = "a start after a crash takes a log's end as it is"
	WholeBatchRefused       Bug = "a follower whose log begins in the middle of a batch refuses the batch"
)

// All returns every bug.
func All() []Bug {
	return []Bug{TruncateToHighWatermark, EndOfNextEpoch, EpochNotNoted, FollowerHighWatermark, TruncateByOldFetcher, LateAnswer, FetchOfAnyEpoch, CountBeforeDivergence, AnyBrokerEpoch, CommittedISROnly, GrowAtHighWatermark, ShrinkAtOnce, ForgetLostProposal, KeepLostProposal, IgnoreMinISR, AckAtAppend, AckAtDemotion, ProducersOfLeaderOnly, DuplicateAppended, UncleanStaysInSync, UncleanStaysEligible, FencedElected, AnyReplicaElected, FencedStaysInSync, IneligibleJoins, StaleProposal, SameLeaderEpoch, TornTailKept, DecidedAtStart, StableAtMarker, StrayKept, WholeBatchRefused}
}
