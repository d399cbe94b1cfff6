package retention_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/retention"
)

const (
	day    = 24 * time.Hour
	kept   = 90 * day
	repeat = time.Hour
)

// store is a database of its own.
type store struct{ pool *pgxpool.Pool }

func newStore(t *testing.T) *store {
	t.Helper()
	return &store{pool: dbtest.New(t)}
}

func (s *store) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
}

func column[T any](t *testing.T, s *store, query string, args ...any) []T {
	t.Helper()
	found, err := s.pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	all, err := pgx.CollectRows(found, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	return all
}

func (s *store) same(t *testing.T, what string, want []string, query string, args ...any) {
	t.Helper()
	if diff := cmp.Diff(want, column[string](t, s, query, args...)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// event is what came so long ago, and ended so long ago; 0: it has not.
type event struct {
	name, status    string
	received, ended time.Duration
}

// store stores events, each of a record of its own, with its body and one run.
func (s *store) store(t *testing.T, events ...event) {
	t.Helper()
	for _, e := range events {
		s.exec(t, `
			WITH told AS (
				INSERT INTO events (source, event_id, digest, module, operation, record_id, status, received_at, processed_at, account_id, revision)
				VALUES ('zoho', $1, sha256('body'), 'Contacts', 'update', $1, $2, now() - $3::interval, CASE WHEN $4::interval > '0' THEN now() - $4::interval END,
				        CASE WHEN $2 IN ('routed', 'processed') THEN '77' END, CASE WHEN $2 IN ('routed', 'processed') THEN 1 END)
				RETURNING id, received_at),
			bodies AS (
				INSERT INTO event_bodies (event_id, received_at, body_id, body, record) SELECT id, received_at, id, convert_to($1, 'UTF8'), '{}' FROM told)
			INSERT INTO event_runs (event_id, replay_id) SELECT id, gen_random_uuid() FROM told`,
			e.name, e.status, e.received, e.ended)
	}
}

// many stores so many events that ended as long ago as they came.
func (s *store) many(t *testing.T, n int, status string, age time.Duration) {
	t.Helper()
	s.exec(t, `
		WITH told AS (
			INSERT INTO events (source, event_id, digest, module, operation, record_id, status, account_id, revision, received_at, processed_at)
			SELECT 'zoho', $2 || ' ' || i, sha256('body'), 'Contacts', 'update', i::text, $2, '77', i, now() - $3::interval, now() - $3::interval FROM generate_series(1, $1::int) AS i
			RETURNING id, received_at)
		INSERT INTO event_bodies (event_id, received_at, body_id, body, record) SELECT id, received_at, id, 'body', '{}' FROM told`, n, status, age)
}

func (s *store) retention(t *testing.T) *retention.Retention {
	t.Helper()
	return retention.New(s.pool, retention.Settings{Events: kept, Repeats: repeat}, time.Now, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func forget(t *testing.T, r *retention.Retention) retention.Forgotten {
	t.Helper()
	f, err := r.Forget(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What is left, whatever it hangs on.
const (
	names  = `SELECT event_id FROM events ORDER BY event_id COLLATE "C"`
	bodies = `SELECT coalesce(e.event_id, 'nobody''s') FROM event_bodies b LEFT JOIN events e ON e.id = b.event_id ORDER BY e.event_id COLLATE "C"`
	runs   = `SELECT e.event_id FROM event_runs r JOIN events e ON e.id = r.event_id ORDER BY e.event_id COLLATE "C"`
)

func TestWhatGoesAndWhatStays(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	// Received so long ago, and ended, where it has ended.
	ages := []struct {
		name            string
		received, ended time.Duration
		old             bool
	}{
		{"long ago", 400 * day, 400 * day, true},
		{"just too old", kept + time.Minute, kept + time.Minute, true},
		{"of the last day", kept - time.Minute, kept - time.Minute, false},
		{"ended lately", 400 * day, day, false},
		{"new", time.Minute, time.Minute, false},
	}
	ends := map[string]bool{ // whether it ends the life of an event
		"received": false, "routed": false, "retrying": false, "dead": false, "processed": true, "ignored": true, "discarded": true,
	}
	var stay []string
	deleted := int64(0)
	for _, age := range ages { // ids are in order of arrival
		for status, final := range ends {
			e := event{name: status + " " + age.name, status: status, received: age.received}
			if final || status == "dead" {
				e.ended = age.ended
			}
			s.store(t, e)
			if final && age.old {
				deleted++
			} else {
				stay = append(stay, e.name)
			}
		}
	}
	// What was stored without an end counts from when it came.
	s.store(t, event{"ignored at once", "ignored", kept + time.Minute, 0}, event{"ignored lately", "ignored", kept - time.Minute, 0})
	stay = append(stay, "ignored lately")
	slices.Sort(stay)
	counters := `SELECT to_jsonb(c)::text FROM counters c ORDER BY 1`
	s.exec(t, `INSERT INTO counters (process, slot, name, value) VALUES ($1, 0, 'stored', 42), ($1, 0, 'processed', 40)`, "00000000-0000-0000-0000-000000000000")
	before := column[string](t, s, counters)

	f := forget(t, s.retention(t))
	if f.Events != deleted+1 {
		t.Errorf("%d events were deleted, want %d", f.Events, deleted+1)
	}
	s.same(t, "events", stay, names)
	s.same(t, "bodies", stay, bodies)
	s.same(t, "runs", stay, runs)
	s.same(t, "counters", before, counters)
	if f := forget(t, s.retention(t)); f.Events > 0 {
		t.Errorf("%d more were deleted in a second run", f.Events)
	}
}

func TestWhatFollowedFromAnEventOutlivesIt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.store(t, event{"old", "processed", 100 * day, 100 * day})
	s.exec(t, `
		WITH told AS (INSERT INTO outbox (id, event, user_id, payload) VALUES (gen_random_uuid(), 'memory_added', 'zoho:77', '{}') RETURNING id)
		INSERT INTO memory_history (memory_id, user_id, module, record_id, operation, after, event_id, outbox_id, created_at)
		SELECT gen_random_uuid(), 'zoho:77', n.module, n.record_id, 'added', '{"content":"Jane"}', e.id, told.id, e.processed_at
		FROM told, events e, (VALUES ('Contacts', 'old'), (NULL, NULL)) AS n (module, record_id)`)
	s.exec(t, `INSERT INTO records (module, record_id, account_id, life_event_id) SELECT 'Contacts', 'old', '77', id FROM events`)
	const facts = `SELECT 'history ' || to_jsonb(h)::text FROM memory_history h UNION ALL SELECT 'webhook ' || to_jsonb(o)::text FROM outbox o
		UNION ALL SELECT 'record ' || to_jsonb(r)::text FROM records r ORDER BY 1`
	before := column[string](t, s, facts)
	if n := forget(t, s.retention(t)).Events; n != 1 {
		t.Fatalf("%d events were deleted, want 1", n)
	}
	s.same(t, "facts", before, facts)
	// The view of its life has nothing to begin with any more, and can be asked all the same.
	s.same(t, "timeline", []string{}, `SELECT what FROM event_timeline WHERE station IN ('inbound', 'process')`)
	s.same(t, "dead letters", []string{}, `SELECT id FROM dead_letters`)
}

func TestALifeIsDeletedInSlices(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.many(t, 2500, "processed", 100*day)
	s.many(t, 10, "ignored", day)
	if n := forget(t, s.retention(t)).Events; n != 2500 {
		t.Errorf("%d events were deleted, want 2500", n)
	}
	if n := column[int](t, s, `SELECT count(*) FROM events e JOIN event_bodies b ON b.event_id = e.id`)[0]; n != 10 {
		t.Errorf("%d are left, want 10", n)
	}
}

func TestASliceThatFailsLeavesNothingHalf(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.many(t, 1500, "processed", 100*day)
	s.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'cut off'; END $$`)
	s.exec(t, `CREATE TRIGGER refuse BEFORE DELETE ON events FOR EACH ROW WHEN (OLD.event_id = 'processed 1400') EXECUTE FUNCTION refuse()`)
	r := s.retention(t)
	f, err := r.Forget(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("the error is %v, want the database's", err)
	}
	if f.Events != 1000 {
		t.Errorf("%d events were deleted, want the first slice's 1000", f.Events)
	}
	whole := func(want int) {
		t.Helper()
		for _, n := range column[int](t, s, `SELECT count(*) FROM events UNION ALL SELECT count(*) FROM event_bodies
			UNION ALL SELECT count(*) FROM events e JOIN event_bodies b ON b.event_id = e.id AND b.received_at = e.received_at`) {
			if n != want {
				t.Errorf("there are %d, want %d events, each with its body", n, want)
			}
		}
	}
	whole(500)
	s.exec(t, `DROP TRIGGER refuse ON events`)
	if n := forget(t, r).Events; n != 500 {
		t.Errorf("the next run deleted %d events, want the rest", n)
	}
	whole(0)
}

func TestOneProcessDeletesAtATime(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.many(t, 5000, "processed", 100*day)
	var g errgroup.Group
	deleted := make([]int64, 4)
	for i := range deleted {
		g.Go(func() error {
			f, err := s.retention(t).Forget(t.Context())
			deleted[i] = f.Events
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	// Who finds another at work leaves it to that one; one may have left before.
	total := forget(t, s.retention(t)).Events
	for _, n := range deleted {
		total += n
	}
	if total != 5000 {
		t.Errorf("%d events were deleted, want 5000", total)
	}

	s.many(t, 5, "ignored", 100*day)
	hold(t, s, `SELECT pg_advisory_xact_lock(hashtextextended('memrelay retention', 0))`, func() {
		if n := forget(t, s.retention(t)).Events; n != 0 {
			t.Errorf("%d events were deleted beside another process", n)
		}
		if n := column[int](t, s, `SELECT count(*) FROM events`)[0]; n != 5 {
			t.Errorf("%d of 5 events are left beside another process", n)
		}
	})
}

// hold does something while another transaction has done a statement and not ended.
func hold(t *testing.T, s *store, statement string, do func()) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(ctx); err != nil {
			t.Error(err)
		}
	}()
	if _, err := tx.Exec(ctx, statement); err != nil {
		t.Fatal(err)
	}
	do()
}

func TestWhatSomebodyHoldsIsDeletedLater(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.store(t, event{"held", "processed", 100 * day, 100 * day}, event{"free", "processed", 100 * day, 100 * day})
	hold(t, s, `SELECT FROM events WHERE event_id = 'held' FOR NO KEY UPDATE`, func() {
		forget(t, s.retention(t))
		s.same(t, "events", []string{"held"}, names)
	})
	forget(t, s.retention(t))
	s.same(t, "events", []string{}, names)
}

// What stays at the old end is not looked at each time, and still goes once somebody has decided.
func TestWhatStayedIsLookedAtNowAndThen(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.store(t, event{"first", "dead", 100 * day, 100 * day}, event{"last", "processed", kept - time.Minute, kept - time.Minute})
	r := s.retention(t)
	forget(t, r)
	s.exec(t, `UPDATE events SET status = 'discarded' WHERE event_id = 'first'`)
	s.exec(t, `UPDATE events SET processed_at = now() - interval '91 days', received_at = now() - interval '90 days 1 minute' WHERE event_id = 'last'`)
	s.exec(t, `UPDATE event_bodies b SET received_at = e.received_at FROM events e WHERE e.id = b.event_id`)
	forget(t, r)
	s.same(t, "events after the next run", []string{"first"}, names)
	for range 58 {
		forget(t, r)
	}
	s.same(t, "events after an hour of runs", []string{"first"}, names)
	forget(t, r)
	s.same(t, "events after the whole run", []string{}, names)
}

func TestOldRedeliveries(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout) VALUES (gen_random_uuid(), 'a', 'https://receiver.invalid/', '{memory_added}', '10s')`)
	for name, r := range map[string]struct {
		state string
		ended time.Duration // 0: it has not
	}{
		"done long ago": {"done", kept + time.Minute}, "cancelled long ago": {"cancelled", kept + time.Minute},
		"kept: done": {"done", kept - time.Minute}, "kept: runs": {"running", 0},
	} {
		s.exec(t, `INSERT INTO redeliveries (id, endpoint_id, kind, since, until, found, state, actor, created_at, finished_at)
			SELECT gen_random_uuid(), id, 'replay', now(), now(), 0, $2, $1, now() - interval '1 year', CASE WHEN $3::interval > '0' THEN now() - $3::interval END FROM endpoints`,
			name, r.state, r.ended)
	}
	if n := forget(t, s.retention(t)).Redeliveries; n != 2 {
		t.Errorf("%d redeliveries were deleted, want 2", n)
	}
	s.same(t, "redeliveries", []string{"kept: done", "kept: runs"}, `SELECT actor FROM redeliveries ORDER BY actor COLLATE "C"`)
}
