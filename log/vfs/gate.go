package vfs

import "os"

// Gate returns a file system that asks pass before each operation of inner but Close. An
// error of pass is that of the operation, which then does not happen; pass may also wait. It
// is what Inject is, for a file system that serves for real: sendfile, Syncers and short
// reads of small files are those of inner. Pass may be called concurrently.
func Gate(inner FS, pass func() error) FS {
	return &gated{injected{inner, func(op Op, _ string) error {
		if op == OpClose {
			return nil
		}
		return pass()
	}}}
}

type gated struct{ injected }

func (g *gated) readFile(name string) (b []byte, err error) {
	err = g.do(OpRead, name, func() error { b, err = ReadFile(g.FS, name); return err })
	return b, err
}

func (g *gated) newSyncer(dir string) (Syncer, error) {
	s, err := NewSyncer(g.FS, dir)
	if err != nil {
		return nil, err
	}
	return gatedSyncer{s, dir, g}, nil
}

type gatedSyncer struct {
	Syncer
	dir string
	g   *gated
}

func (s gatedSyncer) Sync() error { return s.g.do(OpSync, s.dir, s.Syncer.Sync) }

func (g *gated) open(name string, open func() (File, error)) (f File, err error) {
	err = g.do(OpOpen, name, func() error { f, err = open(); return err })
	if err != nil {
		return nil, err
	}
	return &gatedFile{injectedFile{f, name, g.hook}}, nil
}

func (g *gated) Create(name string) (File, error) {
	return g.open(name, func() (File, error) { return g.FS.Create(name) })
}

func (g *gated) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	return g.open(name, func() (File, error) { return g.FS.OpenFile(name, flag, perm) })
}

func (g *gated) Open(name string) (File, error) {
	return g.open(name, func() (File, error) { return g.FS.Open(name) })
}

type gatedFile struct{ injectedFile }

func (f *gatedFile) OSFile() (*os.File, func()) { return f.File.OSFile() }
