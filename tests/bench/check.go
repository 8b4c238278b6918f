package main

import (
	"hash/crc32"
	"os"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkFile reads a file and computes the checksum that batches have.
func checkFile(name string, buf []byte) (n int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	for n < info.Size() {
		piece := buf[:min(int64(len(buf)), info.Size()-n)]
		if _, err := f.ReadAt(piece, n); err != nil {
			return n, err
		}
		crc32.Update(0, castagnoli, piece)
		n += int64(len(piece))
	}
	return n, nil
}
