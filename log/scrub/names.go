package scrub

import (
	"path"
	"strconv"
	"strings"

	"github.com/klamm-io/klamm/log"
	"github.com/klamm-io/klamm/segment"
)

const (
	metadataTopic = "__cluster_metadata"

	tmpSuffix = ".tmp"
	// DamagedSuffix ends the names of files that keep what a repair cut off.
	DamagedSuffix = ".damaged"
)

// isDirectoryFile reports whether a file belongs to the log directory itself.
func isDirectoryFile(name string) bool {
	switch name {
	case log.PropertiesFile, log.NewPropertiesFile, log.CleanFile, log.RecoveryPointFile, log.HighWatermarkFile, log.LogStartFile, log.CleanerFile, log.BootstrapFile:
		return true
	}
	return false
}

// isPartitionFile reports whether a file can only be in a partition directory.
func isPartitionFile(name string) bool {
	_, _, ok := parseFileName(name)
	return ok || name == log.EpochFile || name == log.MetadataFile || name == log.QuorumStateFile
}

// parseFileName splits the name of a file of a segment. The suffix is one of
// those in package segment, or log.QuorumSnapshotSuffix.
func parseFileName(name string) (base int64, suffix string, ok bool) {
	digits, rest, _ := strings.Cut(name, ".")
	suffix = "." + rest
	switch suffix {
	case segment.LogSuffix, segment.IndexSuffix, segment.TimeSuffix, segment.TxnSuffix, segment.SnapshotSuffix:
		ok = len(digits) == 20
	case log.QuorumSnapshotSuffix: // END-EPOCH
		digits, _, ok = strings.Cut(digits, "-")
	}
	if !ok {
		return 0, "", false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, suffix, err == nil && base >= 0
}

// leftover returns the suffix of a file that an interrupted change left behind,
// or that waits to be removed.
func leftover(name string) (suffix string, ok bool) {
	switch suffix = path.Ext(name); suffix {
	case segment.DeletedSuffix, segment.CleanedSuffix, segment.SwapSuffix, tmpSuffix, DamagedSuffix, ".part":
		return suffix, true
	}
	return "", false
}

// dirKind distinguishes partition directories.
type dirKind int8

const (
	liveDir dirKind = iota
	futureDir
	deletedDir
	strayDir
)

func (k dirKind) what() string {
	if k == deletedDir {
		return "a deleted partition that waits to be removed; not checked"
	}
	return "a partition that was set aside, as no topic owned it; not checked"
}

func (k dirKind) advice() string {
	if k == deletedDir {
		return "none: the broker removes it"
	}
	return "remove the directory once nothing in it is missed"
}

// parseDirName parses what the name of a partition directory says: TOPIC-N,
// TOPIC-N.HEX-future, TOPIC-N.HEX-delete or TOPIC-N.HEX-stray.
func parseDirName(name string) (dirKind, bool) {
	kind := liveDir
	for suffix, k := range map[string]dirKind{"-future": futureDir, "-delete": deletedDir, "-stray": strayDir} {
		if rest, ok := strings.CutSuffix(name, suffix); ok {
			kind = k
			if i := strings.LastIndexByte(rest, '.'); i > 0 {
				rest = rest[:i]
			}
			name = rest
			break
		}
	}
	_, _, ok := splitPartition(name)
	return kind, ok
}

// splitPartition splits TOPIC-N.
func splitPartition(name string) (topic string, n int32, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 {
		return name, 0, false
	}
	p, err := strconv.ParseInt(name[i+1:], 10, 32)
	return name[:i], int32(p), err == nil && p >= 0
}
