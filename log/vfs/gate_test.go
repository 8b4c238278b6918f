package vfs

import (
	"errors"
	"os"
	"path"
	"reflect"
	"testing"
)

// TestGate closes a gate: every operation of the file system, of a file and of a Syncer is
// refused, but that an open file can be closed. While it is open, files of the system are
// given to who asks.
func TestGate(t *testing.T) {
	dir := t.TempDir()
	shut := errors.New("shut")
	var closed error
	fs := Gate(OS(), func() error { return closed })
	f, err := fs.Create(path.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if of, release := f.OSFile(); of == nil {
		t.Error("no file of the system")
	} else {
		release()
	}
	if _, err := f.WriteAt([]byte("abc"), 0); err != nil {
		t.Error(err)
	}
	if b, err := ReadFile(fs, path.Join(dir, "f")); err != nil || string(b) != "abc" {
		t.Errorf("%q, %v", b, err)
	}
	s, err := NewSyncer(fs, dir)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	if s != nil {
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
	}
	closed = shut
	refused := func(name string, v any) {
		t.Helper()
		m := reflect.ValueOf(v).MethodByName(name)
		var args []reflect.Value
		for i := range m.Type().NumIn() {
			arg := reflect.Zero(m.Type().In(i))
			if arg.Kind() == reflect.String {
				arg = reflect.ValueOf(path.Join(dir, "g"))
			}
			args = append(args, arg)
		}
		out := m.Call(args)
		if err, _ := out[len(out)-1].Interface().(error); !errors.Is(err, shut) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range reflect.TypeFor[FS]().NumMethod() {
		refused(reflect.TypeFor[FS]().Method(i).Name, fs)
	}
	for i := range reflect.TypeFor[File]().NumMethod() {
		if name := reflect.TypeFor[File]().Method(i).Name; name != "OSFile" && name != "Close" {
			refused(name, f)
		}
	}
	if s != nil {
		refused("Sync", s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := ReadFile(fs, path.Join(dir, "f")); !errors.Is(err, shut) {
		t.Errorf("read a file: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path.Join(dir, "g")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was done: %v", err)
	}
}
