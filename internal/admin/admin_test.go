package admin_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/outbound"
)

var ada = admin.Actor{Name: "ada", RequestID: "request-7"}

// office is an operator's desk on a database of its own.
type office struct {
	pool  *pgxpool.Pool
	jobs  lane.Inserter
	admin *admin.Admin
}

func newOffice(t *testing.T) *office {
	t.Helper()
	pool := dbtest.New(t)
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return &office{pool: pool, jobs: jobs, admin: admin.New(pool, jobs, outbound.Retry)}
}

// event stores an event of that status with its body, counted as it would be.
func (o *office) event(t *testing.T, status string) int64 {
	t.Helper()
	routed := status == "routed" || status == "processed" || status == "dead"
	id := one[int64](t, o, `
		INSERT INTO events (source, event_id, digest, module, operation, record_id, status, account_id, revision, routed_at, failures, last_error, retry_at, processed_at)
		SELECT 'zoho', gen_random_uuid()::text, sha256('body'), 'Contacts', 'update', '1', $1, CASE WHEN $2 THEN '77' END, CASE WHEN $2 THEN 5 END,
		       CASE WHEN $2 THEN now() END, CASE WHEN $1 IN ('dead', 'retrying') THEN 3 ELSE 0 END, CASE WHEN $1 IN ('dead', 'retrying') THEN 'why' ELSE '' END,
		       CASE WHEN $1 = 'retrying' THEN now() END, CASE WHEN $1 IN ('processed', 'dead') THEN now() END
		RETURNING id`, status, routed)
	o.exec(t, `INSERT INTO event_bodies (event_id, received_at, body_id, body, record) SELECT id, received_at, id, 'body', '{}' FROM events WHERE id = $1`, id)
	return id
}

// delivery makes a delivery of that status, to an endpoint of its own.
func (o *office) delivery(t *testing.T, status string) int64 {
	t.Helper()
	webhook, endpoint := uuid.New(), uuid.New()
	o.exec(t, `INSERT INTO outbox (id, event, user_id, payload, relayed_at) VALUES ($1, 'memory_added', 'zoho:77', '{}', now())`, webhook)
	o.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule) VALUES ($1, $2, 'https://receiver.invalid/', '{memory_added}', '10s', '{1s,2s}')`, endpoint, endpoint.String())
	return one[int64](t, o, `INSERT INTO deliveries (outbox_id, endpoint_id, status, attempts, failures, last_error) VALUES ($1, $2, $3, 3, 3, 'answered 400') RETURNING id`, webhook, endpoint, status)
}

// picture is everything that operators change, to be compared with a later one.
func (o *office) picture(t *testing.T) []string {
	t.Helper()
	return column[string](t, o, `
		SELECT 'event ' || to_jsonb(e)::text FROM events e
		UNION ALL SELECT 'run ' || to_jsonb(r)::text FROM event_runs r
		UNION ALL SELECT 'endpoint ' || to_jsonb(p)::text FROM endpoints p
		UNION ALL SELECT 'delivery ' || to_jsonb(d)::text FROM deliveries d
		UNION ALL SELECT 'job ' || to_jsonb(j)::text FROM river_job j
		UNION ALL SELECT 'counter ' || to_jsonb(c)::text FROM counters c
		UNION ALL SELECT 'audit ' || to_jsonb(a)::text FROM audit_log a
		ORDER BY 1`)
}

// wantSame fails when anything differs from the picture taken before.
func (o *office) wantSame(t *testing.T, before []string) {
	t.Helper()
	if diff := cmp.Diff(before, o.picture(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

func (o *office) wantAudit(t *testing.T, want ...string) {
	t.Helper()
	got := column[string](t, o, `SELECT format('%s %s %s %s %s', actor, request_id, action, object, details - 'replay_id') FROM audit_log ORDER BY id`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

func (o *office) wantJobs(t *testing.T, want ...string) {
	t.Helper()
	got := column[string](t, o, `SELECT format('%s %s %s', kind, coalesce(args ->> 'event_id', 'of an endpoint'), state) FROM river_job ORDER BY id`)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
}

func (o *office) wantCounted(t *testing.T, want counter.Changes) {
	t.Helper()
	got, err := counter.Read(t.Context(), db.New(o.pool))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

// wantNew fails unless the event stands as it did when it arrived.
func (o *office) wantNew(t *testing.T, id int64) {
	t.Helper()
	got := one[string](t, o, `SELECT format('%s %s %s %s %s %s %s %s', status, account_id, revision, routed_at, failures, last_error, retry_at, processed_at) FROM events WHERE id = $1`, id)
	if want := "received    0   "; got != want {
		t.Errorf("the event is %q, want %q", got, want)
	}
}

func TestReplayRunsAFinalEventAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"processed", "ignored", "dead", "discarded"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			id := o.event(t, status)
			replay, err := o.admin.Replay(t.Context(), ada, id, "the mapping was wrong")
			if err != nil {
				t.Fatal(err)
			}
			o.wantNew(t, id)
			o.wantJobs(t, fmt.Sprintf("process_event %d available", id))
			o.wantAudit(t, fmt.Sprintf(`ada request-7 event.replay event/%d {"reason": "the mapping was wrong"}`, id))
			want := counter.Changes{counter.Backlog: 1}
			if status == "dead" {
				want[counter.Dead] = -1
			}
			o.wantCounted(t, want)
			if run := one[uuid.UUID](t, o, `SELECT replay_id FROM event_runs WHERE event_id = $1`, id); run != replay {
				t.Errorf("the run is of replay %s, want %s", run, replay)
			}
			if logged := one[string](t, o, `SELECT details ->> 'replay_id' FROM audit_log`); logged != replay.String() {
				t.Errorf("the audit log names replay %s, want %s", logged, replay)
			}

			// The next one has to wait until this one is over.
			if _, err := o.admin.Replay(t.Context(), ada, id, ""); !errors.Is(err, admin.ErrNotFinal) {
				t.Errorf("a second replay: %v, want ErrNotFinal", err)
			}
		})
	}
}

func TestReplayIsRefused(t *testing.T) {
	t.Parallel()
	withoutBody := func(t *testing.T, o *office) int64 {
		id := o.event(t, "processed")
		o.exec(t, `DELETE FROM event_bodies`)
		return id
	}
	of := func(status string) func(*testing.T, *office) int64 {
		return func(t *testing.T, o *office) int64 { return o.event(t, status) }
	}
	for name, c := range map[string]struct {
		event func(*testing.T, *office) int64
		want  error
	}{
		"of an event that was received":     {of("received"), admin.ErrNotFinal},
		"of an event that is routed":        {of("routed"), admin.ErrNotFinal},
		"of an event that is tried again":   {of("retrying"), admin.ErrNotFinal},
		"of an event that is not there":     {func(*testing.T, *office) int64 { return 4711 }, admin.ErrNotFound},
		"of an event whose body is deleted": {withoutBody, admin.ErrNoBody},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			id := c.event(t, o)
			before := o.picture(t)
			_, err := o.admin.Replay(t.Context(), ada, id, "")
			if want := fmt.Sprintf("event %d %v", id, c.want); !errors.Is(err, c.want) || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			o.wantSame(t, before)
		})
	}
}

// Two operators press the button at the same moment: the event runs once.
func TestReplayOfTwoOperatorsRunsOnce(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := o.event(t, "dead")
	errs := make([]error, 8)
	var g errgroup.Group
	for i := range errs {
		g.Go(func() error {
			_, errs[i] = o.admin.Replay(t.Context(), ada, id, "")
			return nil
		})
	}
	_ = g.Wait()
	replayed := 0
	for _, err := range errs {
		switch {
		case err == nil:
			replayed++
		case !errors.Is(err, admin.ErrNotFinal):
			t.Errorf("got %v, want ErrNotFinal", err)
		}
	}
	if replayed != 1 {
		t.Errorf("%d replays, want 1", replayed)
	}
	o.wantJobs(t, fmt.Sprintf("process_event %d available", id))
	o.wantCounted(t, counter.Changes{counter.Backlog: 1, counter.Dead: -1})
}

func TestRetryDeadGivesAnEventAllItsAttemptsAgain(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := o.event(t, "dead")
	if err := o.admin.RetryDead(t.Context(), ada, admin.Letter{Kind: "event", ID: id}); err != nil {
		t.Fatal(err)
	}
	o.wantNew(t, id)
	o.wantJobs(t, fmt.Sprintf("process_event %d available", id))
	o.wantAudit(t, fmt.Sprintf(`ada request-7 dead.retry event/%d {}`, id))
	o.wantCounted(t, counter.Changes{counter.Backlog: 1, counter.Dead: -1})
	if n := one[int](t, o, `SELECT count(*) FROM event_runs WHERE event_id = $1`, id); n != 1 {
		t.Errorf("%d runs on record, want 1", n)
	}
}

func TestRetryDeadOpensADeliveryAgain(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := o.delivery(t, "dead")
	if err := o.admin.RetryDead(t.Context(), ada, admin.Letter{Kind: "delivery", ID: id}); err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, o, `SELECT format('%s %s %s', status, attempts, failures) FROM deliveries`); got != "pending 3 0" {
		t.Errorf("the delivery is %s, want it open with all its attempts", got)
	}
	if !one[bool](t, o, `SELECT wanted = 1 AND done = 0 AND due_at <= now() AND job_id IS NOT NULL FROM endpoints`) {
		t.Error("the endpoint's lane is not woken")
	}
	o.wantJobs(t, "deliver_endpoint of an endpoint available")
	o.wantAudit(t, fmt.Sprintf(`ada request-7 dead.retry delivery/%d {}`, id))
}

func TestDiscardDead(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	event, delivery := o.event(t, "dead"), o.delivery(t, "dead")
	for _, l := range []admin.Letter{{Kind: "event", ID: event}, {Kind: "delivery", ID: delivery}} {
		if err := o.admin.DiscardDead(t.Context(), ada, l, "a test contact"); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"events", "deliveries"} {
		if got := one[string](t, o, `SELECT status FROM `+table); got != "discarded" {
			t.Errorf("%s: %s, want discarded", table, got)
		}
	}
	o.wantJobs(t)
	o.wantCounted(t, counter.Changes{counter.Dead: -1})
	o.wantAudit(t,
		fmt.Sprintf(`ada request-7 dead.discard event/%d {"reason": "a test contact"}`, event),
		fmt.Sprintf(`ada request-7 dead.discard delivery/%d {"reason": "a test contact"}`, delivery))
	if n := one[int](t, o, `SELECT count(*) FROM dead_letters`); n != 0 {
		t.Errorf("%d dead letters are left", n)
	}
}

func TestOnlyTheDeadAreDecidedAbout(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	letters := map[admin.Letter]error{
		{Kind: "event", ID: 4711}:    admin.ErrNotFound,
		{Kind: "delivery", ID: 4711}: admin.ErrNotDead,
	}
	for _, status := range []string{"received", "routed", "retrying", "processed", "ignored", "discarded"} {
		letters[admin.Letter{Kind: "event", ID: o.event(t, status)}] = admin.ErrNotDead
	}
	for _, status := range []string{"pending", "retrying", "delivered", "cancelled", "discarded"} {
		letters[admin.Letter{Kind: "delivery", ID: o.delivery(t, status)}] = admin.ErrNotDead
	}
	before := o.picture(t)
	for l, want := range letters {
		if err := o.admin.RetryDead(t.Context(), ada, l); !errors.Is(err, want) {
			t.Errorf("retry %s: %v, want %v", l, err, want)
		}
		if err := o.admin.DiscardDead(t.Context(), ada, l, ""); !errors.Is(err, admin.ErrNotDead) {
			t.Errorf("discard %s: %v, want ErrNotDead", l, err)
		}
	}
	o.wantSame(t, before)
}

func TestRetryDeadNeedsTheBody(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	id := o.event(t, "dead")
	o.exec(t, `DELETE FROM event_bodies`)
	before := o.picture(t)
	if err := o.admin.RetryDead(t.Context(), ada, admin.Letter{Kind: "event", ID: id}); !errors.Is(err, admin.ErrNoBody) {
		t.Errorf("got %v, want ErrNoBody", err)
	}
	o.wantSame(t, before)
}

func TestParseLetter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]admin.Letter{
		"event/42":   {Kind: "event", ID: 42},
		"delivery/7": {Kind: "delivery", ID: 7},
	} {
		got, err := admin.ParseLetter(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "42", "event", "event/", "event/x", "event/4/2", "events/42", "Event/42", "/42", "delivery/9223372036854775808"} {
		if got, err := admin.ParseLetter(text); !errors.Is(err, admin.ErrLetter) {
			t.Errorf("%q: %v, %v; want ErrLetter", text, got, err)
		}
	}
}

// Whichever statement of a decision fails, the last one above all, nothing of
// the decision stands.
func TestDecisionsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	processed, dead, delivery := o.event(t, "processed"), o.event(t, "dead"), o.delivery(t, "dead")
	o.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$`)
	ofEvent, ofDelivery := admin.Letter{Kind: "event", ID: dead}, admin.Letter{Kind: "delivery", ID: delivery}
	before := o.picture(t)
	for name, c := range map[string]struct {
		decide func() error
		writes []string // the tables, in turn
	}{
		"replay": {
			func() error { _, err := o.admin.Replay(t.Context(), ada, processed, ""); return err },
			[]string{"events", "event_runs", "river_job", "counters", "audit_log"},
		},
		"retry an event": {
			func() error { return o.admin.RetryDead(t.Context(), ada, ofEvent) },
			[]string{"events", "event_runs", "river_job", "counters", "audit_log"},
		},
		"retry a delivery": {
			func() error { return o.admin.RetryDead(t.Context(), ada, ofDelivery) },
			[]string{"deliveries", "river_job", "endpoints", "audit_log"},
		},
		"discard an event": {
			func() error { return o.admin.DiscardDead(t.Context(), ada, ofEvent, "") },
			[]string{"events", "counters", "audit_log"},
		},
		"discard a delivery": {
			func() error { return o.admin.DiscardDead(t.Context(), ada, ofDelivery, "") },
			[]string{"deliveries", "audit_log"},
		},
	} {
		for _, table := range c.writes {
			o.exec(t, `CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON `+table+` FOR EACH ROW EXECUTE FUNCTION refuse()`)
			if err := c.decide(); err == nil || !strings.Contains(err.Error(), "refused by the test") {
				t.Errorf("%s, %s cannot be written: %v, want that error", name, table, err)
			}
			o.exec(t, `DROP TRIGGER refuse ON `+table)
			o.wantSame(t, before)
		}
	}
	// They were refused for nothing else.
	_, err := o.admin.Replay(t.Context(), ada, processed, "")
	if err := errors.Join(err, o.admin.RetryDead(t.Context(), ada, ofEvent), o.admin.RetryDead(t.Context(), ada, ofDelivery)); err != nil {
		t.Error(err)
	}
}

func (o *office) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := o.pool.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
}

func column[T any](t *testing.T, o *office, query string, args ...any) []T {
	t.Helper()
	rows, err := o.pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	return all
}

func one[T any](t *testing.T, o *office, query string, args ...any) T {
	t.Helper()
	all := column[T](t, o, query, args...)
	if len(all) != 1 {
		t.Fatalf("%d rows, want 1\n%s", len(all), query)
	}
	return all[0]
}
