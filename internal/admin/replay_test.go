package admin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// replays are those of this office; jobs are nil for its own.
func (o *office) replays(jobs lane.Inserter) *admin.Replays {
	if jobs == nil {
		jobs = o.jobs
	}
	return admin.NewReplays(o.pool, o.pool, jobs)
}

// work works a replay's job once, as River would, and returns what it returned.
func (o *office) work(ctx context.Context, t *testing.T, all *admin.Replays, id uuid.UUID) error {
	t.Helper()
	jobID := one[int64](t, o, `SELECT coalesce(job_id, 0) FROM replays WHERE id = $1`, id)
	o.exec(t, `UPDATE river_job SET state = 'running' WHERE id = $1`, jobID)
	replayer := admin.NewReplayer(all, slog.New(slog.NewTextHandler(t.Output(), nil)))
	return replayer.Work(ctx, &river.Job[job.Replay]{JobRow: &rivertype.JobRow{ID: jobID}, Args: job.Replay{ReplayID: id}})
}

// route makes the events of the backlog as if they had been worked.
func (o *office) route(t *testing.T) {
	t.Helper()
	o.exec(t, `UPDATE events SET status = 'ignored' WHERE status = 'received'`)
	o.exec(t, `UPDATE counters SET value = 0 WHERE name = 'backlog'`)
}

// slice works a replay's job until one slice is written and the next one is cut off in
// its middle, and then what was run again.
func (o *office) slice(t *testing.T, id uuid.UUID) {
	t.Helper()
	ctx, cut := context.WithCancel(t.Context())
	defer cut()
	slices := 0
	jobs := hooked{o.jobs, func(context.Context, pgx.Tx) error {
		if slices++; slices == 2 {
			cut()
		}
		return nil
	}}
	if err := o.work(ctx, t, o.replays(jobs), id); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	o.route(t)
}

// workAll works a replay, slice by slice, until it has ended.
func (o *office) workAll(t *testing.T, id uuid.UUID) admin.Replay {
	t.Helper()
	for range 100 {
		o.slice(t, id)
		r, err := o.replays(nil).Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if r.Ended() {
			return r
		}
	}
	t.Fatal("a replay without end")
	return admin.Replay{}
}

// hooked does something before jobs are inserted, in the same transaction.
type hooked struct {
	lane.Inserter
	before func(context.Context, pgx.Tx) error
}

func (h hooked) InsertManyTx(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) ([]*rivertype.JobInsertResult, error) {
	if err := h.before(ctx, tx); err != nil {
		return nil, err
	}
	return h.Inserter.InsertManyTx(ctx, tx, params)
}

// pausing pauses all replays with the slice that is written first.
func (o *office) pausing() lane.Inserter {
	return hooked{o.jobs, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE replays SET state = 'paused'`)
		return err
	}}
}

// many stores so many dead events, each with its body.
func (o *office) many(t *testing.T, n int) {
	t.Helper()
	o.exec(t, `WITH e AS (
			INSERT INTO events (source, event_id, digest, module, operation, record_id, status, failures, last_error, processed_at, received_at)
			SELECT 'zoho', gen_random_uuid()::text, sha256('body'), 'Contacts', 'update', n::text, 'dead', 3, 'why', now(), now() - interval '1 hour'
			FROM generate_series(1, $1) AS n RETURNING id, received_at)
		INSERT INTO event_bodies (event_id, received_at, body_id, body, record) SELECT id, received_at, id, 'body', '{}' FROM e`, n)
}

// Ten thousand are stopped half-way by a person, go on, are cut off in the middle of a
// slice, lose their job, and yet each of them runs again exactly once, oldest first.
func TestAReplayIsResumedAndRunsNothingTwice(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.many(t, 10_000)
	all := o.replays(nil)
	r, err := all.Start(t.Context(), ada, admin.ReplaySettings{Filter: admin.EventFilter{Status: "dead"}, Reason: "Zoho was away"})
	if err != nil || r.Matched != 10_000 {
		t.Fatalf("%+v, %v; want 10,000 matched", r, err)
	}
	o.many(t, 5) // they came after it was asked for
	for one[int64](t, o, `SELECT replayed FROM replays`) < 3000 {
		o.slice(t, r.ID)
	}
	if r, err = all.Pause(t.Context(), ada, r.ID); err != nil || r.State != admin.ReplayPaused || r.Replayed < 3000 || r.Replayed == 10_000 {
		t.Fatalf("paused: %+v, %v", r, err)
	}
	o.slice(t, r.ID)
	if n := one[int64](t, o, `SELECT replayed FROM replays`); n != r.Replayed {
		t.Fatalf("%d run again, %d when it was paused", n, r.Replayed)
	}
	oldest := one[bool](t, o, `SELECT max(event_id) - min(event_id) + 1 = count(*) FROM event_runs`)
	if !oldest {
		t.Error("not the oldest first")
	}
	if _, err = all.Resume(t.Context(), ada, r.ID); err != nil {
		t.Fatal(err)
	}
	// A crash in the middle of a slice: everything of it is undone.
	o.exec(t, `UPDATE river_job SET state = 'running' WHERE kind = 'replay'`)
	before := o.picture(t)
	broken := hooked{o.jobs, func(context.Context, pgx.Tx) error { return errors.New("the queue is broken") }}
	if err := o.work(t.Context(), t, o.replays(broken), r.ID); err == nil {
		t.Fatal("a slice without jobs went well")
	}
	o.wantSame(t, before)
	// Its job is lost.
	o.exec(t, `DELETE FROM river_job WHERE kind = 'replay'`)
	err = pgx.BeginFunc(t.Context(), o.pool, func(tx pgx.Tx) error {
		n, err := all.Mend(t.Context(), tx, 10)
		if n != 1 {
			t.Errorf("%d replays got a job", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r = o.workAll(t, r.ID)
	if r.State != admin.ReplayDone || r.Replayed != 10_000 || r.Refused != 0 || r.FinishedAt == nil {
		t.Errorf("%+v", r)
	}
	if got := column[string](t, o, `SELECT format('%s runs of %s events, %s jobs', count(*), count(DISTINCT event_id), (SELECT count(DISTINCT args) FROM river_job WHERE kind = 'process_event')) FROM event_runs`); got[0] != "10000 runs of 10000 events, 10000 jobs" {
		t.Error(got[0])
	}
	if n := one[int64](t, o, `SELECT count(*) FROM events WHERE status = 'dead'`); n != 5 {
		t.Errorf("%d are dead, want the 5 that came later", n)
	}
	if n := one[int64](t, o, `SELECT sum(value)::bigint FROM counters WHERE name = 'dead'`); n != -10_000 {
		t.Errorf("the counter of dead events changed by %d", n)
	}
	if got := column[string](t, o, `SELECT action FROM audit_log ORDER BY id`); fmt.Sprint(got) != "[replay.start replay.pause replay.resume]" {
		t.Errorf("audit: %v", got)
	}
	if err := o.work(t.Context(), t, all, r.ID); err != nil {
		t.Errorf("a job of a replay that is done: %v", err)
	}
}

func TestWhatAReplayRefuses(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	good := o.give(t, given{status: "processed"})
	gone := o.give(t, given{status: "processed"})
	o.exec(t, `DELETE FROM event_bodies WHERE event_id = $1`, gone)
	open := o.give(t, given{status: "routed"})
	o.give(t, given{status: "ignored", module: "Deals"})
	all := o.replays(nil)
	r, err := all.Start(t.Context(), ada, admin.ReplaySettings{Filter: admin.EventFilter{Module: "Contacts"}})
	if err != nil || r.Matched != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r = o.workAll(t, r.ID); r.Replayed != 1 || r.Refused != 1 || r.State != admin.ReplayDone {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff([]int64{good}, column[int64](t, o, `SELECT event_id FROM event_runs`)); diff != "" {
		t.Errorf("run again (-want +got):\n%s", diff)
	}
	if got := one[string](t, o, fmt.Sprintf(`SELECT status FROM events WHERE id = %d`, open)); got != "routed" {
		t.Errorf("what was being worked is %s", got)
	}
}

// What is waiting already is not overtaken by what is run again, and the door stays open.
func TestAReplayLeavesRoomInTheBacklog(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.many(t, 3000)
	all := o.replays(nil)
	r, err := all.Start(t.Context(), ada, admin.ReplaySettings{Filter: admin.EventFilter{Status: "dead"}})
	if err != nil {
		t.Fatal(err)
	}
	o.exec(t, `INSERT INTO counters (process, slot, name, value) VALUES (gen_random_uuid(), 1, 'backlog', 800)`)
	if err := o.work(t.Context(), t, o.replays(o.pausing()), r.ID); err != nil {
		t.Fatal(err)
	}
	counts, err := counter.Read(t.Context(), db.New(o.pool))
	if err != nil || counts[counter.Backlog] != 1000 {
		t.Errorf("a backlog of %d, %v; want 1000", counts[counter.Backlog], err)
	}
}

func TestAReplayKeepsItsPace(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.many(t, 100)
	all := o.replays(nil)
	r, err := all.Start(t.Context(), ada, admin.ReplaySettings{Filter: admin.EventFilter{Status: "dead"}, PerSecond: 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = all.Pause(t.Context(), ada, r.ID); err != nil {
		t.Fatal(err)
	}
	// However long it has rested, it does not make up for it.
	o.exec(t, `UPDATE replays SET created_at = now() - interval '1 hour', paced_at = now() - interval '1 hour'`)
	if _, err = all.Resume(t.Context(), ada, r.ID); err != nil {
		t.Fatal(err)
	}
	if err := o.work(t.Context(), t, o.replays(o.pausing()), r.ID); err != nil {
		t.Fatal(err)
	}
	if n := one[int64](t, o, `SELECT replayed FROM replays`); n != 10 {
		t.Errorf("%d at once, want 10", n)
	}
	if wait := one[float64](t, o, `SELECT extract(epoch FROM paced_at - now())::float8 FROM replays`); wait < 0.5 || wait > 1.1 {
		t.Errorf("the next in %f s, want one", wait)
	}
}

func TestReplaysOverHTTP(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.many(t, 12)
	h.give(t, given{status: "processed", module: "Deals"})

	found := decode[admin.Found](t, h.do(t, 200, "POST", "/admin/replays", `{"error":"WHY","dry_run":true}`))
	if found.Matched != 12 || len(found.Sample) != 10 || found.Sample[0].RecordID != "1" || !found.DryRun {
		t.Errorf("%+v", found)
	}
	if n := one[int64](t, h.office, `SELECT count(*) FROM replays`); n != 0 {
		t.Fatalf("a dry run made %d", n)
	}
	a := h.do(t, 202, "POST", "/admin/replays", `{"module":"Deals","since":"2020-01-01T00:00:00Z","per_second":5,"reason":"wrong filter"}`)
	r := decode[admin.Replay](t, a)
	if a.header.Get("Location") != "/admin/replays/"+r.ID.String() || r.Matched != 1 || r.PerSecond != 5 || r.State != "running" || r.Filter.Module != "Deals" || r.Actor != "token/writer" {
		t.Errorf("%+v", r)
	}
	path := "/admin/replays/" + r.ID.String()
	for _, c := range []struct{ do, want string }{
		{"pause", "paused"}, {"pause", "paused"}, {"resume", "running"}, {"resume", "running"}, {"cancel", "cancelled"}, {"cancel", "cancelled"},
	} {
		if got := decode[admin.Replay](t, h.do(t, 200, "POST", path+"/"+c.do, "")); got.State != c.want {
			t.Errorf("after %s it is %s", c.do, got.State)
		}
	}
	wantProblem(t, h.as(t, "writer", "POST", path+"/resume", ""), 409, "replay_ended", "")
	wantProblem(t, h.as(t, "writer", "POST", path+"/pause", ""), 409, "replay_ended", "")
	wantProblem(t, h.as(t, "writer", "POST", "/admin/replays/"+uuid.NewString()+"/pause", ""), 404, "not_found", "")
	wantProblem(t, h.as(t, "reader", "GET", "/admin/replays/x", ""), 404, "not_found", "")

	second := decode[admin.Replay](t, h.do(t, 202, "POST", "/admin/dead/retry", ""))
	if second.Filter.Status != "dead" || second.Matched != 12 {
		t.Errorf("%+v", second)
	}
	type page struct {
		Replays    []admin.Replay `json:"replays"`
		NextCursor string         `json:"next_cursor"`
	}
	first := decode[page](t, h.do(t, 200, "GET", "/admin/replays?limit=1", ""))
	next := decode[page](t, h.do(t, 200, "GET", "/admin/replays?limit=1&cursor="+first.NextCursor, ""))
	if len(first.Replays) != 1 || first.Replays[0].ID != second.ID || len(next.Replays) != 1 || next.Replays[0].ID != r.ID || next.NextCursor != "" {
		t.Errorf("%+v, %+v", first, next)
	}
	if of := decode[page](t, h.do(t, 200, "GET", "/admin/replays?state=cancelled", "")); len(of.Replays) != 1 || of.Replays[0].ID != r.ID {
		t.Errorf("%+v", of)
	}
	for body, field := range map[string]string{
		`{}`: "since", `{"status":"received"}`: "status", `{"status":"x"}`: "status", `{"module":1}`: "module", `{"per_second":-1,"status":"dead"}`: "per_second",
		`{"per_second":10001,"status":"dead"}`: "per_second", `{"since":"yesterday"}`: "since", `{"since":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}`: "since",
		`{"limit":5}`: "limit", `{"reason":"\u0007","status":"dead"}`: "reason", `{"error":"\u0000"}`: "error",
	} {
		wantProblem(t, h.as(t, "writer", "POST", "/admin/replays", body), 422, "invalid_field", field)
	}
	wantProblem(t, h.as(t, "writer", "POST", "/admin/dead/retry", `{"status":"processed"}`), 422, "invalid_field", "status")
	wantProblem(t, h.as(t, "writer", "GET", "/admin/replays?state=x", ""), 422, "invalid_field", "state")
	wantProblem(t, h.as(t, "writer", "GET", "/admin/replays?cursor=x", ""), 422, "invalid_field", "cursor")
}

// Who sends the same twice, at the same time, too, starts one.
func TestTheKeyOfAReplay(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.many(t, 3)
	all := o.replays(nil)
	asked := admin.ReplaySettings{Filter: admin.EventFilter{Status: "dead", Since: time.Now().Add(-24 * time.Hour)}, Key: "k", Reason: "x"}
	ids := make(chan uuid.UUID)
	for range 4 {
		go func() {
			r, err := all.Start(t.Context(), ada, asked)
			if err != nil {
				t.Error(err)
			}
			ids <- r.ID
		}()
	}
	first := <-ids
	for range 3 {
		if id := <-ids; id != first {
			t.Errorf("%s and %s", first, id)
		}
	}
	if n := one[int64](t, o, `SELECT count(*) FROM river_job WHERE kind = 'replay'`); n != 1 {
		t.Errorf("%d jobs", n)
	}
	asked.Reason = "y"
	if _, err := all.Start(t.Context(), ada, asked); !errors.Is(err, admin.ErrKeyReused) {
		t.Errorf("another one under the same key: %v", err)
	}
	if r, err := all.Start(t.Context(), admin.Actor{Name: "bob"}, asked); err != nil || r.ID == first {
		t.Errorf("somebody else's key: %v, %v", r.ID, err)
	}
	_, err := all.Start(t.Context(), ada, admin.ReplaySettings{})
	var invalid *body.Invalid
	if !errors.As(err, &invalid) {
		t.Errorf("a replay of everything: %v", err)
	}
}
