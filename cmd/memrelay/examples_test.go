package main

import (
	"strings"
	"testing"
)

// Whoever asks for help is shown something to type, and it can be typed.
func TestEveryCommandHasExamples(t *testing.T) {
	t.Parallel()
	parser, err := newParser(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	all := examples()
	for _, leaf := range parser.Model.Leaves(true) {
		path := strings.TrimPrefix(leaf.FullPath(), "memrelay ")
		lines := all[path]
		delete(all, path)
		if len(lines) == 0 {
			t.Errorf("memrelay %s has no example", path)
		}
		help := command(t, "", append(strings.Fields(path), "--help")...).done(t)
		for _, line := range lines {
			if !strings.Contains(help, "\n    memrelay "+line+"\n") {
				t.Errorf("the help of memrelay %s does not show %q:\n%s", path, line, help)
			}
			var c commands
			typed, err := newParser(&c)
			if err != nil {
				t.Fatal(err)
			}
			at, err := typed.Parse(shellWords(line))
			if err != nil {
				t.Errorf("memrelay %s: %v", line, err)
			} else if got := strings.TrimPrefix(at.Selected().FullPath(), "memrelay "); got != path {
				t.Errorf("memrelay %s is an example of %s, not of %s", line, got, path)
			}
		}
	}
	for path := range all {
		t.Errorf("there are examples of memrelay %s, which does not exist", path)
	}
}
