package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/importer"
)

// queued is an element of a queue to be taken over.
func queued(id string) string {
	return fmt.Sprintf(`{"event_id":%q,"operation":"update","module":"Accounts","record_id":"7","data":{"Phone":"1"}}`, id)
}

func TestImportRedis(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.RequireAuth("hush")
	redisURL := "redis://:hush@" + server.Addr()
	environ := []string{"DATABASE_URL=" + dbtest.URL(t), "REDIS_URL=" + redisURL}
	for _, id := range []string{"e1", "e2"} {
		if _, err := server.Lpush("webhook:queue", queued(id)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := server.Lpush("webhook:dead_letter", `{"event":`+queued("d1")+`,"error":"went wrong"}`); err != nil {
		t.Fatal(err)
	}

	// Looking first, with a URL of its own.
	looked := commandWith(t, environ[:1], "import", "redis", "--url", redisURL, "--dry-run")
	for _, want := range []string{"Nothing was written.", "webhook:queue        list  2         0          0        0     0           2\n"} {
		if !strings.Contains(looked.done(t), want) {
			t.Errorf("does not say %q:\n%s", want, looked.out)
		}
	}

	// Nobody sits here to say yes.
	if asked := commandWith(t, environ, "import", "redis"); asked.code != exitUsage || !strings.Contains(asked.err, "say --yes") {
		t.Errorf("exit code %d: %s", asked.code, asked.err)
	}

	args := []string{"import", "redis", "--yes", "--dead-as=dead", "--json"}
	first := commandWith(t, environ, args...)
	if first.code != exitDone || !strings.Contains(first.err, "Nobody works") {
		t.Errorf("exit code %d: %s", first.code, first.err)
	}
	ignore := cmp.Options{cmpopts.IgnoreUnexported(importer.Key{}), cmpopts.EquateEmpty()}
	want := []importer.Key{{Name: "webhook:queue", Type: "list", Accepted: 2}, {Name: "webhook:dead_letter", Type: "list", Dead: 1}}
	if diff := cmp.Diff(want, decode[importer.Report](t, first).Keys, ignore); diff != "" {
		t.Error(diff)
	}
	if dead := commandWith(t, environ, "dead", "list"); !strings.Contains(dead.done(t), "went wrong") {
		t.Errorf("dead letters:\n%s", dead.out)
	}

	// What cannot be read is an error, and says where it stands.
	for _, e := range []string{"junk", queued("e2")} {
		if _, err := server.Lpush("webhook:queue", e); err != nil {
			t.Fatal(err)
		}
	}
	second := commandWith(t, environ, "import", "redis", "--yes", "--dead=")
	if second.code != exitFailed || !strings.Contains(second.err, "1 elements could not be read") || !strings.Contains(second.out, "webhook:queue -1: is not a JSON object\n") {
		t.Errorf("exit code %d\n%s%s", second.code, second.out, second.err)
	}
	if left, err := server.List("webhook:queue"); err != nil || len(left) != 1 || left[0] != "junk" {
		t.Errorf("left is %q, %v", left, err)
	}
	if audit := commandWith(t, environ, "events", "list", "--json"); !strings.Contains(audit.out, `"e1"`) || strings.Contains(audit.out, "junk") {
		t.Errorf("events:\n%s", audit.out)
	}

	// Somebody pressed Ctrl-C before it began.
	ctx, stop := context.WithCancel(t.Context())
	stop()
	var out, errOut strings.Builder
	if code := run(ctx, []string{"import", "redis", "--yes"}, environ, &out, &errOut); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

func TestImportRedisRefuses(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.RequireAuth("hush")
	url := dbtest.URL(t)
	for name, c := range map[string]struct {
		args string
		code int
		says string
	}{
		"no URL":                  {"", exitUsage, "missing flags: --url=URL, or REDIS_URL"},
		"no URL of a Redis":       {"--url=http://:hush@localhost", exitUsage, "is not the URL of a Redis"},
		"no URL at all":           {"--url=redis://:hush@local%host", exitUsage, "is not the URL of a Redis"},
		"no key":                  {"--url=redis://x --queue= --dead=", exitUsage, "want --queue or --dead"},
		"one key twice":           {"--url=redis://x --queue=a --dead=a", exitUsage, "the same key"},
		"another kind of dead":    {"--url=redis://x --dead-as=alive", exitUsage, "--dead-as must be one of"},
		"a source of other words": {"--url=redis://x --source=memory", exitUsage, "is no sender of records"},
		"two minds":               {"--url=redis://x --dry-run --follow", exitUsage, "want --dry-run or --follow"},
		"nobody there":            {"--url=redis://:hush@127.0.0.1:1 --yes", exitFailed, "ask Redis for the type of webhook:queue"},
		"a wrong password":        {"--url=redis://:hushhush@" + server.Addr() + " --dry-run", exitFailed, "WRONGPASS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := command(t, url, append([]string{"import", "redis"}, strings.Fields(c.args)...)...)
			if got.code != c.code || !strings.Contains(got.err, c.says) {
				t.Errorf("exit code %d, want %d:\n%s", got.code, c.code, got.err)
			}
			if strings.Contains(got.out+got.err, "hush") {
				t.Errorf("says a secret:\n%s%s", got.out, got.err)
			}
		})
	}
}
