package main

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/go-chi/chi/v5"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// root is the folder of the README, seen from this one.
const root = "../.."

// What people type first is the README, and then what the docs say: every command
// in them is run or checked here, and one that this test knows nothing about fails it.
func TestEveryCommandOfTheReadmeWorks(t *testing.T) {
	t.Parallel()
	base := startProgram(t)
	for _, page := range pages(t) {
		for _, block := range fences(t, page, "sh") {
			if strings.Contains(block, "curl ") || strings.Contains(block, "openssl ") {
				runBlock(t, strings.ReplaceAll(block, "localhost:8000", base))
				continue
			}
			for line := range strings.Lines(block) {
				line, _, _ = strings.Cut(line, " #")
				if line = strings.TrimSpace(line); line != "" {
					checkCommand(t, line)
				}
			}
		}
	}
}

func TestEveryQueryOfTheDocsWorks(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	for _, page := range pages(t) {
		for _, block := range fences(t, page, "sql") {
			if _, err := pool.Exec(t.Context(), block); err != nil {
				t.Errorf("%s: %v\n%s", page, err, block)
			}
		}
	}
}

// pages are the README and the docs, seen from the root.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	pages := []string{"README.md", "CHANGELOG.md"}
	for _, d := range docs {
		pages = append(pages, filepath.Join("docs", filepath.Base(d)))
	}
	return pages
}

func checkCommand(t *testing.T, line string) {
	t.Helper()
	words := shellWords(line)
	switch words[0] {
	case "make":
		if !regexp.MustCompile(`(?m)^` + words[1] + `:`).MatchString(read(t, "Makefile")) {
			t.Errorf("%q: the Makefile makes no %s", line, words[1])
		}
	case "memrelay", "bin/memrelay":
		var out bytes.Buffer
		if code := run(t.Context(), append(words[1:], "--help"), nil, &out, &out); code != exitDone {
			t.Errorf("%q: exit code %d\n%s", line, code, out.String())
		}
	case "export":
		name, value, _ := strings.Cut(words[1], "=")
		if settings()[name] == nil && !slices.Contains(ofCommands, name) {
			t.Errorf("%q: there is no setting %s", line, name)
		}
		if command, ok := strings.CutPrefix(value, "$("); ok {
			checkCommand(t, strings.TrimSuffix(strings.Join(append([]string{command}, words[2:]...), " "), ")"))
		}
	case "cp":
		read(t, words[1])
	case "docker":
		if line != "docker compose up" || !strings.Contains(read(t, "compose.yaml"), "\nservices:\n") {
			t.Errorf("%q: no such service", line)
		}
	default:
		t.Errorf("%q: this test does not know how to run or check it", line)
	}
}

// shellWords are the words of a line as a shell takes them: what stands between quotes
// is in one.
func shellWords(line string) []string {
	words := regexp.MustCompile(`('[^']*'|"[^"]*"|[^\s'"])+`).FindAllString(line, -1)
	for i, w := range words {
		words[i] = strings.NewReplacer(`'`, "", `"`, "").Replace(w)
	}
	return words
}

// runBlock runs a block as it stands, but that an answer which is an error fails it.
func runBlock(t *testing.T, block string) {
	t.Helper()
	for _, program := range []string{"sh", "curl", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("not run, for there is no %s here:\n%s", program, block)
			return
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", "curl() { command curl -sS --fail-with-body \"$@\"; }\n"+block)
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET=the-secret-of-the-readme", "TOKEN=the-token-of-the-readme",
		"ADMIN_TOKEN=the-token-of-the-readme", "NO_PROXY=*")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, block, out)
	}
}

// What exists and what the README says exists are the same.
func TestReadmeListsWhatThereIs(t *testing.T) {
	t.Parallel()
	readme := read(t, "README.md")

	var want []string
	err := chi.Walk(newProgram(t).Handler().(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		want = append(want, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	checkFirstColumn(t, readme, "route", want)

	want = nil
	for _, leaf := range kong.Must(&commands{}, kong.Name("memrelay")).Model.Leaves(true) {
		want = append(want, leaf.FullPath())
	}
	checkFirstColumn(t, readme, "command", want)

	want = nil
	for name := range settings() {
		want = append(want, name)
	}
	checkFirstColumn(t, readme, "name", want)
}

// checkFirstColumn compares the first column of the table that is headed so.
func checkFirstColumn(t *testing.T, text, head string, want []string) {
	t.Helper()
	_, table, found := strings.Cut(text, "| "+head+" |")
	table, _, _ = strings.Cut(table, "\n\n")
	if !found {
		t.Fatalf("README.md has no table of %s", head)
	}
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(table, -1) {
		listed[row[1]] = true
	}
	for _, w := range want {
		if !listed[w] {
			t.Errorf("README.md does not list the %s %s", head, w)
		}
		delete(listed, w)
	}
	for l := range listed {
		t.Errorf("README.md lists the %s %s, which does not exist", head, l)
	}
}

// Wherever a setting stands with its default, the default is the program's.
func TestDefaultsAreTheProgramsOwn(t *testing.T) {
	t.Parallel()
	example, page, readme := read(t, ".env.example"), read(t, "docs/configuration.md"), read(t, "README.md")
	for name, byDefault := range settings() {
		if !regexp.MustCompile(`(?m)^(# )?` + name + `=`).MatchString(example) {
			t.Errorf(".env.example does not name %s", name)
		}
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/configuration.md does not name %s", name)
		}
		if *byDefault == "" {
			continue
		}
		if !strings.Contains(example, "\n# "+name+"="+*byDefault+"\n") {
			t.Errorf(".env.example: the default of %s is %s", name, *byDefault)
		}
		for file, text := range map[string]string{"docs/configuration.md": page, "README.md": readme} {
			if !strings.Contains(text, "| `"+name+"` | `"+*byDefault+"` |") {
				t.Errorf("%s: the default of %s is %s", file, name, *byDefault)
			}
		}
	}
}

// ofCommands are the names of the environment that only commands look at.
var ofCommands = []string{"MEMRELAY_URL", "MEMRELAY_TOKEN"}

func TestWhatOnlyCommandsLookAt(t *testing.T) {
	t.Parallel()
	for _, name := range ofCommands {
		for _, file := range []string{".env.example", "docs/configuration.md", "docs/operating.md"} {
			if !strings.Contains(read(t, file), name) {
				t.Errorf("%s does not name %s", file, name)
			}
		}
		if _, unknown, _ := config.FromEnv([]string{name + "=x"}); len(unknown) > 0 {
			t.Errorf("serve warns of %v", unknown)
		}
	}
}

// settings are the names of the environment, each with its default.
func settings() map[string]*string {
	all := map[string]*string{}
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for i := range t.NumField() {
			f := t.Field(i)
			if name := f.Tag.Get("env"); name != "" {
				byDefault := f.Tag.Get("envDefault")
				all[prefix+name] = &byDefault
			} else if f.Type.Kind() == reflect.Struct {
				walk(f.Type, prefix+f.Tag.Get("envPrefix"))
			}
		}
	}
	walk(reflect.TypeFor[config.Config](), "")
	return all
}

// A link to a file that has moved leads nowhere.
func TestLinksLeadToFiles(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), link[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, link[1])
			}
		}
	}
}

func newProgram(t *testing.T) *app.App {
	t.Helper()
	cfg, _, err := config.FromEnv([]string{"DATABASE_URL=" + dbtest.URL(t), "WEBHOOK_SECRET=the-secret-of-the-readme", "ADMIN_TOKEN=the-token-of-the-readme",
		"MEMRELAY_KEY=the-key-of-the-readme-that-is-long-enough"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg, app.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Version: "test", Work: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// startProgram runs the program until the test ends, and returns where it listens.
func startProgram(t *testing.T) (addr string) {
	t.Helper()
	a := newProgram(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the program ended with: %v", err)
		}
	})
	return ln.Addr().String()
}

// fences returns the blocks of a page that are fenced as of that language.
func fences(t *testing.T, file, language string) []string {
	t.Helper()
	var blocks []string
	var block *strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(read(t, file))); lines.Scan(); {
		switch line := lines.Text(); {
		case block != nil && line == "```":
			blocks, block = append(blocks, block.String()), nil
		case block != nil:
			block.WriteString(line + "\n")
		case line == "```"+language:
			block = &strings.Builder{}
		}
	}
	if block != nil {
		t.Fatalf("%s: a block fenced as %s is not closed", file, language)
	}
	return blocks
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
