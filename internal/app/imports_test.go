package app_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/memrelay/memrelay/"

// stations are what data passes through, in the order of the walk, and what people
// and agents talk to.
var stations = []string{
	"internal/inbound", "internal/process", "internal/mirror", "internal/outbound", "internal/channel", "internal/reconcile",
	"internal/admin", "internal/api", "internal/mcp",
}

// importRules say who may import whom. Packages of ours are written without the
// module's name; one that ends in "/..." stands for everything below it, too.
var importRules = []struct {
	why    string
	of     []string // importers the rule is for; nil: all of ours
	except []string // importers it is not for
	not    []string // what they must not import
}{
	{
		why: "job, group and respond are the floor: whoever imports them gets nothing else with them",
		of:  []string{"internal/job", "internal/group", "internal/respond"}, not: []string{"..."},
	},
	{
		why: "Zoho's API as Go knows nothing of us, and a Zoho for tests knows nothing of that client",
		of:  []string{"internal/zoho", "internal/zoho/zohotest"}, not: []string{"..."},
	},
	{
		why: "the memory knows none of the systems that follow it",
		of:  []string{"internal/memory"}, not: []string{"internal/memory/..."},
	},
	{
		why: "a Cognee and a mem0 for tests know nothing of the clients they test",
		of:  []string{"internal/memory/cognee/cogneetest", "internal/memory/mem0/mem0test"},
		not: []string{"internal/memory", "internal/memory/cognee", "internal/memory/mem0", "internal/memory/exchange", "db"},
	},
	{
		why: "a breaker does not know what it stands before",
		of:  []string{"internal/breaker"}, not: []string{"internal/zoho", "internal/memory/...", "internal/memory"},
	},
	{
		why: "what seals secrets is the floor, too",
		of:  []string{"internal/seal"}, not: []string{"..."},
	},
	{
		why: "what reads a body knows how its errors are answered, and not what it is for",
		of:  []string{"internal/body"}, not: []string{"db", "internal/access", "internal/endpoint", "internal/memory", "internal/memory/..."},
	},
	{
		why: "a filter knows nothing of what it looks at",
		of:  []string{"internal/match"}, not: []string{"..."},
	},
	{
		why: "whoever asks the API knows no more of us than anybody who asks it",
		of:  []string{"internal/client"}, not: []string{"..."},
	},
	{
		why: "who webhooks go to is below those who send them, and whoever shows or changes it",
		of:  []string{"internal/endpoint"}, not: stations,
	},
	{
		why: "the generated queries are the floor, too",
		of:  []string{"db"}, not: []string{"..."},
	},
	{
		why: "stations meet in rows and jobs, never in calls",
		of:  stations,
		not: stations,
	},
	{
		why: "imports go down only: a station is built by app, from settings that app hands it",
		of: append([]string{
			"internal/memory", "internal/memory/...", "internal/endpoint", "internal/body", "internal/access", "internal/catalogue", "internal/breaker", "internal/connection", "internal/lane", "internal/counter", "internal/health", "internal/postgres", "internal/retention", "migrations",
		}, stations...),
		not: []string{"internal/app", "internal/config", "internal/telemetry", "cmd/..."},
	},
	{
		why:    "a private Postgres is for memrelay dev, for tests and for measuring: one leaf each starts it",
		except: []string{"internal/devdb", "internal/dbtest", "internal/bench"}, not: []string{"internal/localpg"},
	},
	{
		why:    "testcontainers brings a hundred modules: one leaf links it",
		except: []string{"internal/dbtest/container"}, not: []string{"github.com/testcontainers/..."},
	},
	{
		why:    "Redis is what others leave behind: one leaf reads it",
		except: []string{"internal/importer"}, not: []string{"github.com/redis/..."},
	},
	{
		why:    "dbtest is for tests",
		except: []string{"internal/dbtest"}, not: []string{"internal/dbtest/..."},
	},
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestImportsGoDownOnly(t *testing.T) {
	t.Parallel()
	packages := goList(t, "../../...")
	if len(packages) < 10 {
		t.Fatalf("go list names %d packages: it looked in the wrong place", len(packages))
	}
	for _, rule := range importRules {
		for _, p := range packages {
			importer := strings.TrimPrefix(p.ImportPath, module)
			if (rule.of != nil && !matches(rule.of, importer)) || matches(rule.except, importer) {
				continue
			}
			for _, path := range p.Imports {
				imported := strings.TrimPrefix(path, module)
				ours := imported != path
				if forbidden(rule.not, imported, ours) {
					t.Errorf("%s imports %s: %s", importer, imported, rule.why)
				}
			}
		}
	}
}

// Tests may import what they like, but not what would make everybody download it.
func TestOneLeafLinksTestcontainers(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "../../...") {
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if strings.HasPrefix(path, "github.com/testcontainers/") && p.ImportPath != module+"internal/dbtest/container" {
				t.Errorf("the tests of %s import %s", p.ImportPath, path)
			}
		}
	}
}

// TestProgramLinksNoTests keeps what is for tests out of what people run.
func TestProgramLinksNoTests(t *testing.T) {
	t.Parallel()
	for _, p := range goList(t, "-deps", "../../cmd/memrelay") {
		if p.ImportPath == "testing" || strings.HasPrefix(p.ImportPath, "github.com/testcontainers/") ||
			strings.HasPrefix(p.ImportPath, module+"internal/dbtest") {
			t.Errorf("cmd/memrelay links %s", p.ImportPath)
		}
	}
}

// forbidden reports whether path is among not; "..." there means all of ours.
func forbidden(not []string, path string, ours bool) bool {
	return (ours && slices.Contains(not, "...")) || matches(not, path)
}

func matches(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		above, below := strings.CutSuffix(p, "/...")
		return path == above || (below && strings.HasPrefix(path, above+"/"))
	})
}

func goList(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,TestImports,XTestImports"}, args...)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, said.String())
	}
	var packages []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
