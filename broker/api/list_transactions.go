package api

import (
	"regexp"

	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// What the versions of ListTransactions add to version 0:
//
//	v1   request: DurationFilter
//	v2   request: TransactionalIdPattern

// listTransactions answers ListTransactions (key 66, v0-v2). There are no
// transactions: of a filter only what is wrong with it is answered.
func (h *Handlers) listTransactions(_ *Call, req *msg.ListTransactionsRequest) (*msg.ListTransactionsResponse, error) {
	resp := new(msg.ListTransactionsResponse)
	if p := req.TransactionalIdPattern; p != nil && *p != "" {
		if _, err := regexp.Compile(*p); err != nil || len(*p) > maxPattern {
			resp.ErrorCode = int16(kerr.InvalidRegularExpression)
			return resp, nil
		}
	}
	said := make(map[string]bool)
	for _, s := range req.StateFilters {
		if !transactionStates[s] && !said[s] {
			said[s] = true
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, s)
		}
	}
	return resp, nil
}

// transactionStates are the names of the states that a transaction can be in.
var transactionStates = map[string]bool{"Empty": true, "Ongoing": true, "PrepareCommit": true, "PrepareAbort": true,
	"CompleteCommit": true, "CompleteAbort": true, "Dead": true, "PrepareEpochFence": true}

// maxPattern is the length in bytes of the longest pattern that is taken: a class of
// Unicode takes thousands of times its length once it is compiled.
const maxPattern = 1000
