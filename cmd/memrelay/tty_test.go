package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestAScreenIsToldText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"event 7\tdead\nrefused\r\n":         "event 7\tdead\nrefused\r\n",
		"\x1b]0;owned\a\x1b[2J":              "?]0;owned??[2J",
		"Größe 数 \U0001F600":                 "Größe 数 \U0001F600",
		"one\u009b31mbyte":                   "one?31mbyte",
		"\x00\x08\x7f":                       "???",
		"not UTF-8: \x9b, and of two bytes:": "not UTF-8: \uFFFD, and of two bytes:",
	} {
		var out bytes.Buffer
		if n, err := io.WriteString(tty{&out}, text); err != nil || n != len(text) {
			t.Errorf("%q: wrote %d bytes, %v", text, n, err)
		}
		if out.String() != want {
			t.Errorf("%q: shown as %q, want %q", text, out.String(), want)
		}
	}
}

func TestFilesGetEveryByte(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, guarded := onScreen(f).(tty); guarded {
		t.Error("a file is taken for a terminal")
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Logf("there is no terminal to try: %v", err)
		return
	}
	defer terminal.Close()
	if _, guarded := onScreen(terminal).(tty); !guarded {
		t.Error("a terminal is taken for a file")
	}
}
