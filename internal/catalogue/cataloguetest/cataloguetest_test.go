package cataloguetest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// recorder is a test whose failing is the subject of another one.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	if events := cataloguetest.Outbox(t, pool); events != nil {
		t.Errorf("an empty outbox has %v", events)
	}
	const payload = `{"event":"memory_error","user_id":"ada","data":{"operation":"add","error":"e","items_count":%s},"timestamp":"2026-11-22T05:03:44Z","source":"s","bot_version":"1","request_id":"r"}`
	for _, row := range []struct{ event, user, payload string }{
		{"memory_error", "ada", fmt.Sprintf(payload, "1")},
		{"memory_error", "ada", fmt.Sprintf(payload, "-1")},
		{"memory_added", "ada", fmt.Sprintf(payload, "1")},
		{"memory_error", "bob", fmt.Sprintf(payload, "1")},
	} {
		if _, err := pool.Exec(t.Context(), `INSERT INTO outbox (id, event, user_id, payload) VALUES (gen_random_uuid(), $1, $2, $3)`,
			row.event, row.user, []byte(row.payload)); err != nil {
			t.Fatal(err)
		}
	}
	r := &recorder{TB: t}
	events := cataloguetest.Outbox(r, pool)
	if diff := cmp.Diff([]string{"memory_error", "memory_error", "memory_added", "memory_error"}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if len(r.said) != 3 || !strings.HasPrefix(r.said[0], "webhook 2: payload of memory_error") || !strings.Contains(r.said[0], "items_count") ||
		!strings.HasPrefix(r.said[1], `webhook 3 is kept as memory_added of "ada"`) || !strings.HasPrefix(r.said[2], `webhook 4 is kept as memory_error of "bob"`) {
		t.Errorf("complained:\n%s", strings.Join(r.said, "\n"))
	}
}
