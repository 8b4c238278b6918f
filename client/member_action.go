package client

// action is what a member wants to have done. Requests name the broker; their
// answers go to the method of the same event, with the id.
type action interface{ isAction() }

type (
	// findRequest asks any broker for the coordinator; found has the answer.
	findRequest struct{ id uint64 }
	// joinRequest is a JoinGroup; groupJoined has the answer.
	joinRequest struct {
		id      uint64
		broker  int32
		member  string // "" if it has no id yet
		topics  []string
		owned   []TopicPartition // for the sticky assignor
		ownedIn int32            // the generation of owned
	}
	// shareRequest asks the own process to share the partitions out among the
	// members, which needs fresh metadata; shared has the outcome.
	shareRequest struct {
		id     uint64
		answer joinAnswer
	}
	// syncRequest is a SyncGroup; groupSynced has the answer.
	syncRequest struct {
		id       uint64
		broker   int32
		who      groupIdentity
		protocol string
		shares   []memberShare
	}
	// beatRequest is a Heartbeat; beaten has the answer.
	beatRequest struct {
		id     uint64
		broker int32
		who    groupIdentity
	}
	// commitRequest is an OffsetCommit; committed has the answer. who is noGroup
	// for offsets that are no member's.
	commitRequest struct {
		id      uint64
		broker  int32
		who     groupIdentity
		offsets map[TopicPartition]Offset
	}
	// placeRequest is an OffsetFetch; located has the answer.
	placeRequest struct {
		id     uint64
		broker int32
		tps    []TopicPartition
	}
	// leaveRequest is a LeaveGroup; left has the answer. With aside it must not
	// go over the connection of the group's other requests: one of them is held
	// back by the broker.
	leaveRequest struct {
		id     uint64
		broker int32
		who    groupIdentity
		reason string
		aside  bool
	}
	// forget says that the answer to a request is of no more use.
	forget struct{ id uint64 }

	// dropAssignment takes all partitions from the application.
	dropAssignment struct{}
	// giveAssignment gives the application partitions that are not read before
	// beginAt says from where.
	giveAssignment struct{ tps []TopicPartition }
	// beginAt has assigned partitions read: from their committed offset, or as
	// auto.offset.reset says where there is none.
	beginAt struct {
		tps       []TopicPartition
		committed map[TopicPartition]Offset
	}
	// storedOffsets says what the coordinator has stored.
	storedOffsets struct{ offsets map[TopicPartition]Offset }

	// tellPoll gives Poll an error.
	tellPoll struct{ err error }
	// wakePoll has a Poll that waits look again.
	wakePoll struct{}
	// answerCommit ends a commit of the application.
	answerCommit struct {
		waiter uint64
		err    error
	}
	// groupClosed ends a close; nothing follows it.
	groupClosed struct{ err error }
	// logged is for the log: a change of state, or what went wrong and need not
	// concern the application.
	logged struct {
		what   string
		err    error
		change bool
	}
)

func (findRequest) isAction()    {}
func (joinRequest) isAction()    {}
func (shareRequest) isAction()   {}
func (syncRequest) isAction()    {}
func (beatRequest) isAction()    {}
func (commitRequest) isAction()  {}
func (placeRequest) isAction()   {}
func (leaveRequest) isAction()   {}
func (forget) isAction()         {}
func (dropAssignment) isAction() {}
func (giveAssignment) isAction() {}
func (beginAt) isAction()        {}
func (storedOffsets) isAction()  {}
func (tellPoll) isAction()       {}
func (wakePoll) isAction()       {}
func (answerCommit) isAction()   {}
func (groupClosed) isAction()    {}
func (logged) isAction()         {}

// joinAnswer is what a JoinGroup was answered.
type joinAnswer struct {
	who      groupIdentity
	protocol string
	leads    bool // this member shares the partitions out
	members  []joinedMember
}

// joinedMember is a member as JoinGroup names it to the leader.
type joinedMember struct {
	id, instance string
	subscription []byte
}

// memberShare is a member's part of the partitions, as SyncGroup carries it.
type memberShare struct {
	member     string
	assignment []byte
}
