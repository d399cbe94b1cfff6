package app_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/config"
)

// oldEvents stores events that were ignored when they came, one a day for so many days.
const oldEvents = `INSERT INTO events (source, event_id, digest, module, operation, record_id, status, received_at)
	SELECT 'zoho', 'day ' || d, sha256('body'), 'Leads', 'update', d::text, 'ignored', now() - d * interval '1 day' FROM generate_series($1::int, 1, -1) AS d`

func TestEventsAreKeptAsLongAsIsSet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*config.Config)
		want   int
	}{
		"for ninety days":       {nil, 89},
		"for a while":           {func(c *config.Config) { c.Inbound.EventRetention = 10*24*time.Hour + time.Hour }, 10},
		"for ever, with it off": {func(c *config.Config) { c.Inbound.EventRetention = 0 }, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, setup{noWork: true, change: c.change})
			p.send(t, contact("1", "77", "jane@example.com"), "evt-1")
			p.exec(t, oldEvents, 100)
			before := p.metrics(t)
			if _, err := p.app.Retain(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := rows[int](t, p.pool, `SELECT count(*) FROM events WHERE status = 'ignored'`)[0]; n != c.want {
				t.Errorf("%d events are kept, want %d", n, c.want)
			}
			if diff := cmp.Diff(before, p.metrics(t)); diff != "" {
				t.Errorf("figures (-before +after):\n%s", diff)
			}
		})
	}
}

// metrics are the figures of /webhooks/metrics, without the time.
func (p *program) metrics(t *testing.T) string {
	t.Helper()
	body := p.get(t, "/webhooks/metrics").body
	delete(body, "timestamp")
	return fmt.Sprint(body)
}

func TestWhoWorksDeletesWhatWasKeptLongEnough(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	p.exec(t, oldEvents, 100)
	start(t, setup{url: p.url})
	p.waitFor(t, "old events are deleted", `SELECT count(*) = $1 FROM events`, 89)
}
