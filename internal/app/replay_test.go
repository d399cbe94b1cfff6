package app_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/config"
)

func withAdminToken(c *config.Config) { c.AdminToken = adminToken }

// A replay goes on, whatever became of the job that was to do it.
func TestSweepGivesEachOrphanedReplayOneJob(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	orphans := 0
	replay := func(name, state string) {
		p.exec(t, `WITH j AS (INSERT INTO river_job (kind, args, queue, max_attempts, state) VALUES ('replay', '{}', 'replay', 10000, 'available') RETURNING id)
			INSERT INTO replays (id, filter, newest, position, matched, state, job_id, actor) SELECT gen_random_uuid(), '{}', 0, 0, 0, $2, id, $1 FROM j`, name, state)
	}
	for name, fate := range fates() {
		replay(name, "running")
		p.exec(t, fate.change, rows[int64](t, p.pool, `SELECT max(id) FROM river_job`)[0])
		if fate.orphan {
			orphans++
		}
	}
	for _, state := range []string{"paused", "done", "cancelled"} {
		replay(state+", rests", state)
		p.exec(t, `UPDATE replays SET job_id = NULL WHERE state = $1`, state)
	}
	p.sweep(t, orphans)
	p.sweep(t, 0)
	const jobs = `SELECT format('%s: %s', r.actor, j.state) FROM replays r JOIN river_job j ON j.id = r.job_id
		WHERE j.kind = 'replay' AND (j.args = '{}' OR (j.args ->> 'replay_id')::uuid = r.id) ORDER BY r.actor COLLATE "C"`
	want := []string{
		"available in an hour: available", "cancelled: available", "completed: available", "deleted: available", "discarded: available",
		"pending: pending", "retryable: retryable", "running: running", "scheduled: scheduled",
	}
	if diff := cmp.Diff(want, rows[string](t, p.pool, jobs)); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	// Those whose job is due are worked: there is nothing to be run again.
	start(t, setup{url: p.url})
	p.waitFor(t, "the orphans are done", `SELECT count(*) = $1 FROM replays WHERE state = 'done'`, orphans+1)
}

// What was dead is run again by one request and becomes memory, and who follows is told.
func TestDeadEventsAreRunAgainAndFollowed(t *testing.T) {
	t.Parallel()
	p := start(t, setup{change: withAdminToken})
	for _, id := range []string{"1", "2", "3"} {
		p.send(t, contact(id, "77", "jane@example.com"), "evt-"+id)
	}
	p.waitFor(t, "all are processed", `SELECT count(*) = 3 FROM events WHERE status = 'processed'`)
	p.exec(t, `DELETE FROM memories`)
	p.exec(t, `DELETE FROM records`)
	p.exec(t, `UPDATE events SET status = 'dead', last_error = 'of the test', failures = 3`)

	ask := func(method, path, body string) (int, io.Reader) {
		req, err := http.NewRequestWithContext(t.Context(), method, p.base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp.StatusCode, resp.Body
	}
	_, stream := ask("GET", "/admin/events/stream?status=processed", "")
	if status, _ := ask("POST", "/admin/replays", `{"status":"dead","error":"OF THE TEST"}`); status != http.StatusAccepted {
		t.Fatalf("answered %d", status)
	}
	told := map[string]bool{}
	for lines := bufio.NewScanner(stream); len(told) < 3 && lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var change struct {
				EventID string `json:"event_id"`
			}
			if err := json.Unmarshal([]byte(data), &change); err != nil {
				t.Fatal(err)
			}
			told[change.EventID] = true
		}
	}
	if len(told) != 3 {
		t.Errorf("told of %v", told)
	}
	p.waitFor(t, "the replay is done", `SELECT state = 'done' AND replayed = 3 AND matched = 3 FROM replays`)
	p.waitFor(t, "all are remembered again", `SELECT count(*) = 3 FROM memories WHERE record_id IN ('1', '2', '3')`)
	// Who listens does not hold up a stop.
	stopped := make(chan struct{})
	go func() { p.stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(4 * time.Second):
		t.Error("the stop waits for who listens")
	}
}
