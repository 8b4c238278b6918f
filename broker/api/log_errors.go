package api

import (
	"errors"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/wire/kerr"
)

// logCodes maps the errors of a log to what a client is sent.
var logCodes = []struct {
	err  error
	code kerr.Code
}{
	{log.ErrStorage, kerr.KafkaStorageError},
	{log.ErrClosed, kerr.NotLeaderOrFollower},
	{log.ErrCorrupt, kerr.CorruptMessage},
	{log.ErrTooLarge, kerr.MessageTooLarge},
	{log.ErrListTooLarge, kerr.RecordListTooLarge},
	{log.ErrInvalidRecord, kerr.InvalidRecord},
	{log.ErrInvalidTimestamp, kerr.InvalidTimestamp},
	{log.ErrUnsupportedCompression, kerr.UnsupportedCompressionType},
	{log.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{log.ErrProducerEpoch, kerr.InvalidProducerEpoch},
	{log.ErrTxnState, kerr.InvalidTxnState},
	{log.ErrCoordinatorFenced, kerr.TransactionCoordinatorFenced},
}

func logCode(err error) (kerr.Code, bool) {
	var outside *log.OutOfRangeError
	if errors.As(err, &outside) {
		return kerr.OffsetOutOfRange, true
	}
	for _, c := range logCodes {
		if errors.Is(err, c.err) {
			return c.code, true
		}
	}
	return 0, false
}
