package main

import (
	"bytes"
	"io"
	"os"
)

// tty is a terminal that is told text: what senders and receivers have written must
// not move its cursor or change its title. Control characters become question marks, but
// for those that our own lines are made of.
type tty struct{ w io.Writer }

// onScreen guards out when it is a terminal; files and pipes get every byte as it is.
func onScreen(out *os.File) io.Writer {
	info, err := out.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return out
	}
	return tty{out}
}

// Write writes p. A control character of two bytes that is split between two writes is
// let pass by neither: the first byte alone is no character.
func (s tty) Write(p []byte) (int, error) {
	text := bytes.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return r
		case r < ' ', r >= 0x7f && r < 0xa0:
			return '?'
		}
		return r
	}, p)
	if _, err := s.w.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}
