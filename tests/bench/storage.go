package main

// storage lists the measurements of logs on disk. Those with "bare" measure the
// package itself, without a broker, beside a loop that only moves the bytes.
func storage() []measurement {
	beside := func(what, reference string) []string { return []string{what, reference} }
	return []measurement{
		{name: "storage: append 1 MB batches of 1 KB records", run: appends(1, 1000, 1000), fresh: true, instead: beside("log", "bare")},
		{name: "storage: append 1 MB batches of 100 B records", run: appends(1, 9000, 100), fresh: true, instead: beside("log", "bare")},
		{name: "storage: append 4 KB batches to 1,000 partitions in turn", run: appends(1000, 4, 1000), fresh: true, instead: beside("log", "bare")},
		{name: "storage: read 1 MB at a time and sendfile", run: sendLog, fresh: true, instead: beside("log", "bare")},
		{name: "storage: append 16 KB at 500/s while old segments are read", run: interference, fresh: true, instead: []string{"Each", "alone", "bare read"}},
		{name: "storage: append 16 KB at 500/s while old segments are sent", run: interference, fresh: true, instead: []string{"sendfile", "alone", "bare sendfile"}},
		{name: "storage: 64 producers, flush.messages=1", run: produceDurable(1), small: true},
		{name: "storage: 64 producers, flush.messages=1, 6 partitions", run: produceDurable(6), small: true},
		{name: "storage: idle partitions, ulimit -n 1024", run: idlePartitions, fresh: true, most: 1, instead: []string{"klamm"}},
		{name: "storage: unclean start", run: uncleanStart, fresh: true, instead: beside("klamm", "bare")},
		{name: "storage: compaction of 200 B records, five of a key", run: compaction, fresh: true, most: 3},
	}
}
