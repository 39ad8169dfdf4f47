package main

import (
	"bytes"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/cupwriter"
)

// sized is a terminal of a test.
type sized interface {
	io.Writer
	size() (width, height int)
}

// isTerminal reports whether the writer is a terminal that bars can be drawn on.
func isTerminal(w io.Writer) bool {
	switch w := w.(type) {
	case sized:
		return true
	case *os.File:
		return os.Getenv("TERM") != "dumb" && cupwriter.New(w, false).IsTerminal()
	}
	return false
}

// screen is a terminal with progress bars at its end, above which other lines
// are printed. It is the mpb.ConsoleWriter of the bars: mpb's own holds lines
// back until the next time that it draws, and loses those that it has not drawn
// when the last bar ends.
type screen struct {
	w     io.Writer
	frame bytes.Buffer // what mpb is about to show; only its goroutine uses it

	mu    sync.Mutex
	cup   *cupwriter.Writer
	bars  []byte // what the terminal shows of the bars
	lines int    // how many lines these are
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	s.leave()
	return s
}

// leave leaves the bars that are shown where they are: what comes next goes
// below them.
func (s *screen) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, pretended := s.w.(sized)
	s.cup, s.bars, s.lines = cupwriter.New(s.w, pretended), nil, 0
}

// over returns a writer for what writes lines to w, which is this terminal, too.
func (s *screen) over(w io.Writer) io.Writer { return &aboveBars{s, w} }

// aboveBars writes lines to a terminal that may have bars.
type aboveBars struct {
	screen *screen
	w      io.Writer
}

// Write implements io.Writer.
func (a *aboveBars) Write(p []byte) (int, error) {
	s := a.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == 0 {
		return a.w.Write(p)
	}
	if err := s.cup.Flush(0); err != nil { // takes the bars away
		return 0, err
	}
	n, err := a.w.Write(p)
	if err == nil && !bytes.HasSuffix(p, []byte{'\n'}) {
		_, err = a.w.Write([]byte{'\n'})
	}
	_, _ = s.cup.Write(s.bars) // to memory
	if flushErr := s.cup.Flush(s.lines); err == nil {
		err = flushErr
	}
	return n, err
}

// Write implements mpb.ConsoleWriter.
func (s *screen) Write(p []byte) (int, error) { return s.frame.Write(p) }

// ReadFrom implements mpb.ConsoleWriter.
func (s *screen) ReadFrom(r io.Reader) (int64, error) { return s.frame.ReadFrom(r) }

// IsTerminal implements mpb.ConsoleWriter.
func (s *screen) IsTerminal() bool { return true }

// GetTermSize implements mpb.ConsoleWriter. A terminal that does not know its
// size, as some programs make them, is taken for a usual one.
func (s *screen) GetTermSize() (width, height int, err error) {
	if pretended, ok := s.w.(sized); ok {
		width, height = pretended.size()
	} else {
		s.mu.Lock()
		defer s.mu.Unlock()
		width, height, err = s.cup.GetTermSize()
	}
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	return width, height, nil
}

// Flush implements mpb.ConsoleWriter: it shows the frame, whose last lines will
// be drawn anew. Those before stay.
func (s *screen) Flush(lines int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.frame.Bytes()
	start := len(text)
	for range lines {
		start = bytes.LastIndexByte(text[:max(start-1, 0)], '\n') + 1
	}
	s.bars, s.lines = bytes.Clone(text[start:]), lines
	_, _ = s.cup.Write(text) // to memory
	s.frame.Reset()
	return s.cup.Flush(lines)
}
