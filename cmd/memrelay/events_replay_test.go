package main

import (
	"strings"
	"testing"

	"github.com/memrelay/memrelay/internal/admin"
)

// What died is counted, run again by one command, and remembered.
func TestManyEventsAreRunAgain(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	for _, id := range []string{"1", "2"} {
		d.send(t, "evt-"+id, `{"operation":"create","module":"Contacts","data":[{"id":"`+id+`","Last_Name":"Doe","Account_Name":{"id":"77"}}]}`).done(t)
	}
	d.settled(t)
	execute(t, d.url, `UPDATE events SET status = 'dead', last_error = 'of the test' WHERE event_id = 'evt-2'`)

	found := decode[admin.Found](t, command(t, d.url, "events", "replay", "--error=OF THE TEST", "--dry-run", "--json"))
	if found.Matched != 1 || len(found.Sample) != 1 || found.Sample[0].EventID != "evt-2" {
		t.Errorf("found %+v", found)
	}
	if text := command(t, d.url, "events", "replay", "--status=dead", "--dry-run").done(t); !strings.HasPrefix(text, "1 would run again.\n2 ") {
		t.Errorf("printed:\n%s", text)
	}
	text := command(t, d.url, "events", "replay", "--status=dead", "--wait", "--reason=x").done(t)
	if !strings.Contains(text, "\n1 of 1 run again, 0 refused, done") {
		t.Errorf("printed:\n%s", text)
	}
	d.settled(t)
	all := decode[[]admin.Replay](t, command(t, d.url, "events", "replays", "--json"))
	if len(all) != 1 || all[0].State != admin.ReplayDone || all[0].Replayed != 1 {
		t.Fatalf("listed %+v", all)
	}
	if got := command(t, d.url, "events", "pause", all[0].ID.String()); got.code != exitFailed || !strings.Contains(got.err, "has ended") {
		t.Errorf("pause of one that has ended: exit code %d\n%s", got.code, got.err)
	}
	if text := command(t, d.url, "events", "cancel", all[0].ID.String()).done(t); !strings.Contains(text, "is done: 1 of 1") {
		t.Errorf("printed:\n%s", text)
	}
	for _, args := range [][]string{
		{"replay"}, {"replay", "1", "--status=dead"}, {"replay", "1", "--dry-run"}, {"replay", "--status=routed"}, {"replay", "--status=dead", "--per-second=-1"},
	} {
		if got := command(t, d.url, append([]string{"events"}, args...)...); got.code != exitUsage {
			t.Errorf("%v: exit code %d, want %d\n%s", args, got.code, exitUsage, got.err)
		}
	}
	execute(t, d.url, `INSERT INTO events (source, event_id, digest, module, operation, record_id, status)
		SELECT 'zoho', 'many-' || n, sha256('x'), 'Leads', 'update', n::text, 'discarded' FROM generate_series(1, 101) AS n`)
	if got := command(t, d.url, "events", "replay", "--status=discarded"); got.code != exitUsage || !strings.Contains(got.err, "say --yes") {
		t.Errorf("101 without a question: exit code %d\n%s", got.code, got.err)
	}
}
