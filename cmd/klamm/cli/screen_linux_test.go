package cli

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen is a terminal that a command runs on, and what it shows. It knows the sequences that
// move, write and erase; any other is an error, so that nothing is drawn that it does not see.
type screen struct {
	t    *testing.T
	user *os.File
	cmd  *exec.Cmd
	done chan struct{} // closed once the command has gone
	read sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	rows      [][]rune
	x, y      int
	alternate bool
	colored   bool   // a color was set
	odd       string // a sequence that it does not know
	left      []byte // that is no whole sequence yet
	changed   chan struct{}
}

// openScreen runs a command on a terminal.
func openScreen(t *testing.T, columns, rows int, env []string, args ...string) *screen {
	t.Helper()
	user, command := openTerminal(t, columns)
	s := &screen{t: t, user: user, done: make(chan struct{}), changed: make(chan struct{}, 1)}
	s.resize(columns, rows)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(exe, args...)
	s.cmd.Env = append([]string{asCommand + "=1", "HOME=/", "TZ=UTC", "TERM=xterm-256color"}, env...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = command, command, command
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.read.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, err := user.Read(b)
			if err != nil {
				return // the command has gone
			}
			s.draw(b[:n])
		}
	})
	go func() {
		s.cmd.Wait()
		command.Close()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.done
		s.read.Wait()
		user.Close()
	})
	return s
}

// resize makes the terminal as large, and tells the command so.
func (s *screen) resize(columns, rows int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make([][]rune, rows)
	for y := range next {
		next[y] = []rune(strings.Repeat(" ", columns))
		if y < len(s.rows) {
			copy(next[y], s.rows[y])
		}
	}
	s.rows, s.x, s.y = next, min(s.x, columns-1), min(s.y, rows-1)
	if err := unix.IoctlSetWinsize(int(s.user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)}); err != nil {
		s.t.Fatal(err)
	}
}

// press types keys.
func (s *screen) press(keys string) {
	if _, err := s.user.WriteString(keys); err != nil {
		s.t.Errorf("type %q: %v", keys, err)
	}
}

// shows returns what is on the screen.
func (s *screen) shows() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, row := range s.rows {
		b.WriteString(strings.TrimRight(string(row), " ") + "\n")
	}
	return b.String()
}

// await waits until the screen is so.
func (s *screen) await(what string, ok func(shown string) bool) {
	s.t.Helper()
	over := time.NewTimer(hung)
	defer over.Stop()
	for {
		shown := s.shows()
		if ok(shown) {
			break
		}
		select {
		case <-s.changed:
		case <-s.done:
			s.t.Fatalf("%s: the command has ended\n%s", what, shown)
		case <-over.C:
			s.t.Fatalf("%s: the screen shows\n%s", what, shown)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.odd != "" {
		s.t.Fatalf("the terminal does not know %q", s.odd)
	}
}

// awaitText waits until all words are on the screen.
func (s *screen) awaitText(words ...string) {
	s.t.Helper()
	s.await(strings.Join(words, ", "), func(shown string) bool {
		for _, w := range words {
			if !strings.Contains(shown, w) {
				return false
			}
		}
		return true
	})
}

// exits returns the exit code.
func (s *screen) exits() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(hung):
		s.t.Fatalf("it does not end\n%s", s.shows())
	}
	s.read.Wait()
	return s.cmd.ProcessState.ExitCode()
}

func (s *screen) draw(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = append(s.left, b...)
	for len(s.left) > 0 {
		n := s.step(s.left)
		if n == 0 {
			break
		}
		s.left = s.left[n:]
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// step draws what stands first and returns how long it is, 0 if it is not whole.
func (s *screen) step(b []byte) int {
	switch b[0] {
	case '\x1b':
		return s.escape(b)
	case '\r':
		s.x = 0
	case '\n':
		s.down()
	case '\b':
		s.x = max(s.x-1, 0)
	case '\t':
		s.x = min(s.x/8*8+8, len(s.rows[0])-1)
	case '\a':
	default:
		if !utf8.FullRune(b) {
			return 0
		}
		r, n := utf8.DecodeRune(b)
		s.put(r)
		return n
	}
	return 1
}

func (s *screen) down() {
	if s.y++; s.y == len(s.rows) {
		s.y--
		first := s.rows[0]
		copy(s.rows, s.rows[1:])
		blank(first)
		s.rows[s.y] = first
	}
}

func blank(row []rune) {
	for i := range row {
		row[i] = ' '
	}
}

func (s *screen) put(r rune) {
	if s.x >= len(s.rows[s.y]) {
		s.x = 0
		s.down()
	}
	s.rows[s.y][s.x] = r
	s.x++
}

func (s *screen) escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '[':
	case ']', 'P', '_': // the title, and other words to the terminal, up to BEL or ST
		for i := 2; i < len(b); i++ {
			if b[i] == '\a' {
				return i + 1
			}
			if b[i] == '\x1b' && i+1 < len(b) && b[i+1] == '\\' {
				return i + 2
			}
		}
		return 0
	case 'M':
		s.y = max(s.y-1, 0)
		return 2
	case '7', '8', '=', '>':
		return 2
	default:
		s.odd = string(b[:2])
		return 2
	}
	end := 2
	for end < len(b) && (b[end] < '@' || b[end] > '~') {
		end++
	}
	if end == len(b) {
		return 0
	}
	s.control(string(b[2:end]), b[end])
	return end + 1
}

// control does what a control sequence says.
func (s *screen) control(params string, do byte) {
	if params != "" && strings.ContainsAny(params[:1], "?><=") {
		if params == "?1049" {
			s.alternate = do == 'h'
			for _, row := range s.rows {
				blank(row)
			}
		}
		return // modes and questions
	}
	if strings.HasSuffix(params, " ") || strings.HasSuffix(params, "$") {
		return // the shape of the cursor, questions
	}
	var n []int
	for part := range strings.SplitSeq(params, ";") {
		v, _ := strconv.Atoi(part)
		n = append(n, v)
	}
	arg := func(i int) int {
		if i < len(n) && n[i] > 0 {
			return n[i]
		}
		return 1
	}
	row := s.rows[s.y]
	s.x = min(s.x, len(row)) // behind the last column until something is written
	switch do {
	case 'A':
		s.y -= arg(0)
	case 'B', 'e':
		s.y += arg(0)
	case 'C', 'a':
		s.x += arg(0)
	case 'D':
		s.x -= arg(0)
	case 'G', '`':
		s.x = arg(0) - 1
	case 'd':
		s.y = arg(0) - 1
	case 'H', 'f':
		s.y, s.x = arg(0)-1, arg(1)-1
	case 'Z':
		s.x = (s.x - 1) / 8 * 8
	case 'I':
		s.x = s.x/8*8 + 8*arg(0)
	case 'J':
		s.erase(n[0])
	case 'K':
		switch n[0] {
		case 0:
			blank(row[min(s.x, len(row)):])
		case 1:
			blank(row[:min(s.x+1, len(row))])
		default:
			blank(row)
		}
	case 'X':
		blank(row[min(s.x, len(row)):min(s.x+arg(0), len(row))])
	case 'P':
		copy(row[s.x:], row[min(s.x+arg(0), len(row)):])
		blank(row[max(len(row)-arg(0), s.x):])
	case '@':
		copy(row[min(s.x+arg(0), len(row)):], row[s.x:])
		blank(row[s.x:min(s.x+arg(0), len(row))])
	case 'b':
		for range arg(0) {
			s.put(row[max(s.x-1, 0)])
		}
	case 'L', 'M', 'S', 'T':
		s.shift(do, arg(0))
	case 'm':
		for _, v := range n {
			s.colored = s.colored || v >= 30 && v <= 49 && v != 39 && v != 49
		}
	case 'h', 'l', 'r', 't', 'n', 'c', 'u', 'q', 'p':
	default:
		s.odd = "CSI " + params + string(do)
	}
	s.x, s.y = max(min(s.x, len(row)), 0), max(min(s.y, len(s.rows)-1), 0)
}

// erase erases the screen from the cursor on, up to it, or all.
func (s *screen) erase(how int) {
	for y, row := range s.rows {
		switch {
		case how >= 2, how == 0 && y > s.y, how == 1 && y < s.y:
			blank(row)
		case how == 0 && y == s.y:
			blank(row[min(s.x, len(row)):])
		case how == 1 && y == s.y:
			blank(row[:min(s.x+1, len(row))])
		}
	}
}

// shift inserts (L, T) or deletes (M, S) lines: from the cursor on, or of the whole screen.
func (s *screen) shift(do byte, n int) {
	from := 0
	if do == 'L' || do == 'M' {
		from = s.y
	}
	part := s.rows[from:]
	for range min(n, len(part)) {
		if do == 'L' || do == 'T' {
			last := part[len(part)-1]
			copy(part[1:], part)
			blank(last)
			part[0] = last
			continue
		}
		first := part[0]
		copy(part, part[1:])
		blank(first)
		part[len(part)-1] = first
	}
}
