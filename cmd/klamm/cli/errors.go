package cli

import (
	"errors"

	"github.com/klamm-io/klamm/wire/kerr"
)

const topicExists = kerr.TopicAlreadyExists

func isCode(err error, code kerr.Code) bool { return errors.Is(err, code) }
