package dirs

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/wire/prim"
)

// What ends the names of partition directories that are none any more.
const (
	DeleteSuffix = "-delete"
	StraySuffix  = "-stray"
)

// Name returns the name of a partition's directory.
func Name(topic string, partition int32) string {
	return topic + "-" + strconv.Itoa(int(partition))
}

// ParseName is the inverse of Name.
func ParseName(name string) (topic string, partition int32, ok bool) {
	at := strings.LastIndexByte(name, '-')
	if at <= 0 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(name[at+1:], 10, 32)
	if err != nil || n < 0 {
		return "", 0, false
	}
	return name[:at], int32(n), true
}

// DeletedName returns the name that a partition's directory has while it waits
// to be removed. A long topic name is cut, since the whole must fit a file name.
func DeletedName(topic string, partition int32) string {
	u := prim.RandomUUID()
	suffix := fmt.Sprintf("-%d.%s%s", partition, hex.EncodeToString(u[:]), DeleteSuffix)
	return topic[:min(len(topic), 255-len(suffix))] + suffix
}

// StrayName returns the name that a partition's directory has once it is set aside.
func StrayName(topic string, index int32) string {
	u := prim.RandomUUID()
	suffix := fmt.Sprintf("-%d.%x%s", index, u[:], StraySuffix)
	return topic[:min(len(topic), 255-len(suffix))] + suffix
}
