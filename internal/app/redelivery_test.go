package app_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/config"
)

const (
	quietEndpoint = `INSERT INTO endpoints (id, name, url, events, timeout, status) VALUES ('00000000-0000-0000-0000-000000000001', 'quiet', 'https://receiver.invalid/', '{}', '10s', 'paused')`
	oldWebhooks   = `INSERT INTO outbox (id, event, user_id, payload, relayed_at, created_at) SELECT gen_random_uuid(), 'memory_added', 'ann', '{}', now(), now() - n * interval '1 day' FROM generate_series(1, $1) AS n`
)

// A redelivery goes on, whatever became of the job that was to do it.
func TestSweepGivesEachOrphanedRedeliveryOneJob(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	p.exec(t, quietEndpoint)
	orphans := 0
	redelivery := func(name, state string) {
		p.exec(t, `WITH j AS (INSERT INTO river_job (kind, args, queue, max_attempts, state) VALUES ('redeliver', '{}', 'redeliver', 10000, 'available') RETURNING id)
			INSERT INTO redeliveries (id, endpoint_id, kind, since, until, found, state, job_id, actor)
			SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'recover', now(), now(), 0, $2, id, $1 FROM j`, name, state)
	}
	for name, fate := range fates() {
		redelivery(name, "running")
		p.exec(t, fate.change, rows[int64](t, p.pool, `SELECT max(id) FROM river_job`)[0])
		if fate.orphan {
			orphans++
		}
	}
	redelivery("done", "done")
	p.exec(t, `UPDATE redeliveries SET job_id = NULL WHERE actor = 'done'`)
	p.sweep(t, orphans)
	p.sweep(t, 0)
	const jobs = `SELECT format('%s: %s', r.actor, j.state) FROM redeliveries r JOIN river_job j ON j.id = r.job_id
		WHERE j.kind = 'redeliver' AND (j.args = '{}' OR (j.args ->> 'redelivery_id')::uuid = r.id) ORDER BY r.actor COLLATE "C"`
	want := []string{
		"available in an hour: available", "cancelled: available", "completed: available", "deleted: available", "discarded: available",
		"pending: pending", "retryable: retryable", "running: running", "scheduled: scheduled",
	}
	if diff := cmp.Diff(want, rows[string](t, p.pool, jobs)); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	// Those whose job is due are worked: there is nothing to be sent again.
	start(t, setup{url: p.url})
	p.waitFor(t, "the orphans are done", `SELECT count(*) = $1 FROM redeliveries WHERE state = 'done'`, orphans+1)
}

func TestSweepForgetsOldPayloads(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*config.Config)
		want   int
	}{
		"after ninety days":     {nil, 89},
		"after a while":         {func(c *config.Config) { c.OutboundPayloadRetention = 3_000_000_000_000_000 }, 34},
		"never, when it is off": {func(c *config.Config) { c.OutboundPayloadRetention = 0 }, 1200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, setup{noWork: true, change: c.change})
			p.exec(t, quietEndpoint)
			p.exec(t, oldWebhooks, 1200)
			p.sweep(t, 0)
			got := rows[string](t, p.pool, `SELECT format('%s payloads of %s webhooks', count(payload), count(*)) FROM outbox`)[0]
			if want := fmt.Sprintf("%d payloads of 1200 webhooks", c.want); got != want {
				t.Errorf("%s are kept, want %s", got, want)
			}
		})
	}
}
