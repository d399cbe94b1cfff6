package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// completes says what bash makes of a line whose last word is begun.
func completes(t *testing.T, script, line string) []string {
	t.Helper()
	// As readline has it: a word ends at "=", too.
	words := strings.Split(strings.ReplaceAll(line, "=", " = "), " ")
	words = append(slices.DeleteFunc(words[:len(words)-1], func(w string) bool { return w == "" }), words[len(words)-1])
	cmd := exec.CommandContext(t.Context(), "bash", "--norc", "-c", `source "$1"; shift
		COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }
		_memrelay; printf '%s\n' "${COMPREPLY[@]}"`, "bash", script)
	cmd.Args = append(cmd.Args, words...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || said.Len() > 0 {
		t.Fatalf("%s: %v\n%s", line, err, said.String())
	}
	return strings.Fields(string(out))
}

func TestBashCompletes(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("needs bash")
	}
	script := filepath.Join(t.TempDir(), "memrelay.bash")
	if err := os.WriteFile(script, []byte(command(t, "", "completion", "bash").done(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string][]string{
		"memrelay ev":                                  {"events"},
		"memrelay s":                                   {"serve", "sync", "stats", "settings", "sql", "send", "secret"},
		"memrelay migrate ":                            {"up", "down", "status"},
		"memrelay events re":                           {"replay", "replays", "resume"},
		"memrelay --json events sh":                    {"show"},
		"memrelay events list --st":                    {"--status="},
		"memrelay events list --status=de":             {"dead"},
		"memrelay events list --status=":               {"received", "routed", "retrying", "processed", "ignored", "dead", "discarded"},
		"memrelay events list --status de":             {"dead"},
		"memrelay events list --status=dead --operati": {"--operation="},
		"memrelay events list --module=sync ":          {},
		"memrelay events --module events li":           {"list"},
		"memrelay events list --limit=":                {},
		"memrelay endpoints update crm --no-o":         {"--no-ordered"},
		"memrelay endpoints delete crm --y":            {"--yes"},
		"memrelay completion ":                         {"bash", "zsh", "fish"},
		"memrelay stats --window=":                     {"5m", "1h", "24h"},
		"memrelay nothing ":                            completes(t, script, "memrelay "),
		"memrelay version --insec":                     {"--insecure-http"},
	} {
		if diff := cmp.Diff(want, completes(t, script, line)); diff != "" && len(want)+len(completes(t, script, line)) > 0 {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

// What a shell reads must be something that it can read.
func TestCompletionsAreScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := command(t, "", "completion", shell).done(t)
		for _, want := range []string{"events list", "insecure-http", "received routed"} {
			if !strings.Contains(script, want) {
				t.Errorf("that of %s does not say %q", shell, want)
			}
		}
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("not read, for there is no %s here", shell)
			continue
		}
		cmd := exec.CommandContext(t.Context(), shell, "-n", "/dev/stdin")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s does not read it: %v\n%s", shell, err, out)
		}
	}
	if got := command(t, "", "completion", "tcsh"); got.code != exitUsage {
		t.Errorf("exit code %d", got.code)
	}
}

// Help texts are anybody's words; in a script they are one.
func TestHelpIsQuoted(t *testing.T) {
	t.Parallel()
	const help = "the sender's \\ `date` $HOME"
	if got, want := fishQuoted(help), `'the sender\'s \\ `+"`date`"+` $HOME'`; got != want {
		t.Errorf("fish: %s, want %s", got, want)
	}
	if got, want := zshQuoted(help), `'the sender'\''s \ `+"`date`"+` $HOME'`; got != want {
		t.Errorf("zsh: %s, want %s", got, want)
	}
}
