package config

import (
	_ "embed"
	"strings"
)

// docs has one sentence on each important key: kind, key and sentence.
//
//go:embed docs.txt
var docs string

func docsOf(kind Kind) map[string]string {
	all := make(map[string]string)
	for line := range strings.Lines(docs) {
		rest, ok := strings.CutPrefix(line, kind.String()+"\t")
		if !ok {
			continue
		}
		name, sentence, _ := strings.Cut(strings.TrimSuffix(rest, "\n"), "\t")
		all[name] = sentence
	}
	return all
}
