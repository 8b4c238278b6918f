package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashPolicy says what a crash does to what was not synced.
type CrashPolicy struct {
	// KeepData keeps bytes that were written but not synced, as after the death
	// of the process alone. Otherwise they are gone.
	KeepData bool
	// KeepEntries keeps directory changes that were not synced. Otherwise files
	// created since are gone, removed ones are back and renames undone.
	KeepEntries bool
	// Torn, if not nil, decides at random which unsynced sectors of 512 bytes
	// reached the disk, and how far the file grew; it overrides KeepData.
	Torn *rand.Rand
}

// CrashClone returns a copy of the file system as a crash now might leave it.
// The copy has no open files, no locks and everything in it is durable. m may
// be in use meanwhile.
func (m *Mem) CrashClone(p CrashPolicy) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.clock.Store(m.clock.Load())
	c.root = c.cloneDir(m.root, p, make(map[*inode]*inode))
	return c
}

func (m *Mem) cloneDir(d *memDir, p CrashPolicy, done map[*inode]*inode) *memDir {
	entries := make(map[string]any, len(d.entries))
	for name, node := range d.entries {
		entries[name] = node
	}
	if !p.KeepEntries {
		for name, was := range d.undo {
			if was == nil {
				delete(entries, name)
			} else {
				entries[name] = was
			}
		}
	}
	out := newDir()
	for _, name := range slices.Sorted(maps.Keys(entries)) { // Torn decides in this order
		switch node := entries[name].(type) {
		case *memDir:
			out.entries[name] = m.cloneDir(node, p, done)
		case *inode:
			n := done[node]
			if n == nil {
				n = m.cloneFile(node, p)
				done[node] = n
			}
			n.links++
			out.entries[name] = n
		}
	}
	return out
}

func (m *Mem) cloneFile(n *inode, p CrashPolicy) *inode {
	now, synced := n.bytes()
	content := synced
	switch {
	case p.Torn != nil:
		content = tear(now, synced, p.Torn)
	case p.KeepData:
		content = now
	}
	out := &inode{fs: m}
	if len(content) > 0 {
		if _, err := out.writeAt(content, 0); err != nil {
			panic(err) // a clone has no capacity to exceed
		}
	}
	out.sync()
	out.mtime = n.modified()
	return out
}

// tear mixes the sectors of two contents.
func tear(now, synced []byte, r *rand.Rand) []byte {
	const sector = 512
	size := len(synced)
	switch r.IntN(3) {
	case 0:
		size = len(now)
	case 1:
		lo, hi := min(len(now), len(synced)), max(len(now), len(synced))
		size = lo + r.IntN(hi-lo+1)
	}
	out := make([]byte, size)
	for at := 0; at < size; at += sector {
		from := synced
		if r.IntN(2) == 0 {
			from = now
		}
		if at < len(from) {
			copy(out[at:min(at+sector, size)], from[at:])
		}
	}
	return out
}
