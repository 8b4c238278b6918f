package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Action is what an admin event did to a topic.
type Action string

// The actions. A create, delete or grow of status Fail was refused because of what there was:
// Fail of a create means that the topic exists, of a delete that it does not, and of a grow that
// it does not exist or has that many partitions.
const (
	Create   Action = "create"
	Delete   Action = "delete"
	Grow     Action = "grow"
	Describe Action = "describe" // Count is the partitions, 0 if there is no topic
)

// register is the history of one thing that must be linearizable.
type register struct {
	what  string
	model porcupine.Model
	ops   []porcupine.Operation
}

// Linearizable looks for registers in a history that are not linearizable: the committed offset
// of each group and partition, each topic, and the blocks of producer ids (those with a Count
// above 1). A register that took longer than limit is neither good nor bad, and is told in
// unknown.
func Linearizable(events []Event, limit time.Duration) (bad []Anomaly, unknown []string) {
	for _, r := range registers(events) {
		result := porcupine.CheckOperationsTimeout(r.model, r.ops, limit)
		switch result {
		case porcupine.Illegal:
			a := Anomaly{Name: "not-linearizable", Detail: r.what + ":"}
			for _, op := range r.ops {
				a.Detail += "\n    " + r.model.DescribeOperation(op.Input, op.Output) + fmt.Sprintf(" [%.3f s, %.3f s]", seconds(op.Call), seconds(op.Return))
			}
			bad = append(bad, a)
		case porcupine.Unknown:
			unknown = append(unknown, r.what)
		}
	}
	return bad, unknown
}

func registers(events []Event) (out []register) {
	at := make(map[string]int)
	add := func(what string, model porcupine.Model, e Event, input any) {
		i, ok := at[what]
		if !ok {
			i = len(out)
			at[what] = i
			out = append(out, register{what: what, model: model})
		}
		out[i].ops = append(out[i].ops, porcupine.Operation{ClientId: e.Process, Input: input, Call: e.Invoked, Output: input, Return: e.Returned})
	}
	for _, e := range events {
		switch e.Kind {
		case CommitOffset, FetchOffset:
			if e.Status == Fail || e.Kind == FetchOffset && e.Status != OK {
				continue // it changed nothing, and was told nothing
			}
			for _, op := range e.Ops {
				add(fmt.Sprintf("offset of group %s and %s", e.Group, op.at()), offsetModel, e, offsetOp{e.Kind == CommitOffset, op.Offset})
			}
		case Admin:
			if e.Action != Describe || e.Status == OK {
				add("topic "+e.Name, topicModel, e, topicOp{e.Action, e.Count, e.Status})
			}
		case ProducerID:
			if e.Status == OK && e.Count > 1 {
				add("producer ids", blockModel, e, blockOp{e.First, e.Count})
			}
		}
	}
	// A client of porcupine does one thing at a time, and one whose end nobody saw never returns.
	for _, r := range out {
		slices.SortStableFunc(r.ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		for i := range r.ops {
			r.ops[i].ClientId = i
		}
	}
	return out
}

// offsetOp commits an offset, or is told it.
type offsetOp struct {
	commit bool
	offset int64
}

// offsetModel is a register that starts at -1. Each client reads and writes what it likes.
var offsetModel = porcupine.Model{
	Init: func() any { return int64(-1) },
	Step: func(state, input, _ any) (bool, any) {
		op := input.(offsetOp)
		if op.commit {
			return true, op.offset
		}
		return state.(int64) == op.offset, state
	},
	DescribeOperation: func(input, _ any) string {
		if op := input.(offsetOp); op.commit {
			return fmt.Sprintf("commit %d", op.offset)
		}
		return fmt.Sprintf("fetch -> %d", input.(offsetOp).offset)
	},
}

// topicOp is an action on a topic and how it ended.
type topicOp struct {
	action Action
	count  int64
	status Status
}

// topicModel is a topic by its partitions, 0 if it does not exist. An action whose end nobody
// saw changes the topic where it is allowed, and nothing where it is not; that it never happens
// is the same as that it happens at the end of time.
var topicModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		now, op := state.(int64), input.(topicOp)
		allowed, after := false, now
		switch op.action {
		case Create:
			allowed, after = now == 0, op.count
		case Delete:
			allowed, after = now != 0, 0
		case Grow:
			allowed, after = now != 0 && op.count > now, op.count
		case Describe:
			return now == op.count, now
		}
		if !allowed {
			return op.status != OK, now
		}
		return op.status != Fail, after
	},
	DescribeOperation: func(input, _ any) string {
		op := input.(topicOp)
		return fmt.Sprintf("%s %d: %s", op.action, op.count, op.status)
	},
}

// blockOp is a block of producer ids that was given out.
type blockOp struct{ first, count int64 }

// blockModel is a counter: each block begins where the one before it ended, or after that.
var blockModel = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, _ any) (bool, any) {
		next, op := state.(int64), input.(blockOp)
		return op.first >= next, max(next, op.first+op.count)
	},
	DescribeOperation: func(input, _ any) string {
		op := input.(blockOp)
		return fmt.Sprintf("block [%d,%d)", op.first, op.first+op.count)
	},
}
