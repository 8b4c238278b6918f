package api

import (
	"github.com/klamm-io/klamm/wire/kerr"
	"github.com/klamm-io/klamm/wire/msg"
)

// DescribeTransactions has one version, 0.

// describeTransactions answers DescribeTransactions (key 65, v0): there are none.
func (h *Handlers) describeTransactions(_ *Call, req *msg.DescribeTransactionsRequest) (*msg.DescribeTransactionsResponse, error) {
	resp := new(msg.DescribeTransactionsResponse)
	for _, id := range req.TransactionalIds {
		code := kerr.TransactionalIdNotFound
		if id == "" {
			code = kerr.InvalidRequest
		}
		resp.TransactionStates = append(resp.TransactionStates, msg.DescribeTransactionsResponseTransactionState{ErrorCode: int16(code), TransactionalId: id})
	}
	return resp, nil
}
