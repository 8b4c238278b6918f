package top

import (
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
)

// Model is the screen of klamm top. Facts come as messages; it asks for nothing.
type Model struct {
	state         *State
	page          Page
	now           func() time.Time
	pause         func(paused bool)
	width, height int // 0 until the terminal has said it
	shownAt       time.Time
}

// NewModel returns the screen of a view. pause is called when the user pauses or goes on.
func NewModel(v View, now func() time.Time, pause func(paused bool)) *Model {
	m := &Model{state: NewState(), now: now, pause: pause, shownAt: now()}
	m.choose(v)
	return m
}

// tick has the clock and the age of what is shown go on.
type tick time.Time

func ticking() tea.Cmd { return tea.Tick(time.Second, func(t time.Time) tea.Msg { return tick(t) }) }

// Init implements tea.Model.
func (m *Model) Init() tea.Cmd { return ticking() }

// Update implements tea.Model.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.key(msg.String())
	case tick:
		if !m.page.Paused {
			m.shownAt = m.now()
		}
		return m, ticking()
	case Metadata, Ends, Dirs, Groups, MinISR:
		if !m.page.Paused { // what was asked for before the pause is not wanted
			m.state.Take(msg)
			m.shownAt = m.now()
		}
	}
	return m, nil
}

// choose shows a view from its top.
func (m *Model) choose(v View) {
	m.page.View, m.page.Sort, m.page.Down, m.page.Scroll, m.page.Help = v, sorts[v].column, sorts[v].down, 0, false
}

func (m *Model) key(key string) tea.Cmd {
	p := &m.page
	rows := max(m.height-6, 1)
	switch key {
	case "q", "ctrl+c":
		return tea.Quit
	case "1", "2", "3", "4":
		m.choose(View(key[0] - '1'))
	case "tab":
		m.choose((p.View + 1) % views)
	case "shift+tab":
		m.choose((p.View + views - 1) % views)
	case "s":
		p.Sort = (p.Sort + 1) % len(m.state.Table(p.View).Columns)
	case "S":
		p.Down = !p.Down
	case "up", "k":
		p.Scroll--
	case "down", "j":
		p.Scroll++
	case "pgup":
		p.Scroll -= rows
	case "pgdown":
		p.Scroll += rows
	case "home":
		p.Scroll = 0
	case "end":
		p.Scroll = len(m.state.Table(p.View).Rows)
	case "p", "space":
		p.Paused = !p.Paused
		m.pause(p.Paused)
	case "?", "h":
		p.Help = !p.Help
	case "esc":
		p.Help = false
	}
	return nil
}

// The colors of lines. The terminal's own palette is used, and bubbletea drops colors where
// NO_COLOR is set or the terminal has none.
var styles = [...]string{Plain: "", Heading: "\x1b[1m", Warning: "\x1b[31m"}

// View implements tea.Model.
func (m *Model) View() tea.View {
	v := tea.NewView("")
	v.AltScreen = true
	v.WindowTitle = "klamm top"
	if m.width == 0 {
		return v
	}
	var b strings.Builder
	for i, l := range m.state.Frame(&m.page, m.shownAt, m.width, m.height) {
		if i > 0 {
			b.WriteByte('\n')
		}
		if on := styles[l.Kind]; on != "" {
			b.WriteString(on + l.Text + "\x1b[m")
			continue
		}
		b.WriteString(l.Text)
	}
	v.Content = b.String()
	return v
}
