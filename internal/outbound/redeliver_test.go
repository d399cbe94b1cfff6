package outbound

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/job"
)

func (s *station) redeliveries() *endpoint.Redeliveries {
	return endpoint.NewRedeliveries(s.pool, s.jobs)
}

// asked starts a redelivery of all that was since yesterday, or what change makes of
// it, and checks that the dry run counted what it found.
func (s *station) asked(t *testing.T, to uuid.UUID, kind string, change ...func(*endpoint.RedeliverySettings)) endpoint.Redelivery {
	t.Helper()
	in := endpoint.RedeliverySettings{Kind: kind, Since: time.Now().Add(-24 * time.Hour), Reason: "the test"}
	for _, c := range change {
		c(&in)
	}
	counted, err := s.redeliveries().Count(t.Context(), to.String(), in)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.redeliveries().Start(t.Context(), endpoint.Actor{Name: "jane"}, to.String(), in)
	if err != nil {
		t.Fatal(err)
	}
	if counted != r.Found {
		t.Errorf("the dry run counted %d, and %d were found", counted, r.Found)
	}
	return r
}

func perSecond(n int) func(*endpoint.RedeliverySettings) {
	return func(in *endpoint.RedeliverySettings) { in.PerSecond = n }
}

func ofEvents(events ...string) func(*endpoint.RedeliverySettings) {
	return func(in *endpoint.RedeliverySettings) { in.Events = events }
}

// redeliverJob hands the job of a redelivery to a worker, as River does.
func (s *station) redeliverJob(t *testing.T, id uuid.UUID) *river.Job[job.Redeliver] {
	t.Helper()
	jobID := one[int64](t, s, `
		UPDATE river_job j SET state = 'running', attempt = attempt + 1, attempted_at = now() FROM redeliveries r
		WHERE r.id = $1 AND j.id = r.job_id RETURNING j.id`, id)
	return &river.Job[job.Redeliver]{JobRow: &rivertype.JobRow{ID: jobID, Attempt: 1}, Args: job.Redeliver{RedeliveryID: id}}
}

// redeliver works a redelivery to its end.
func (s *station) redeliver(t *testing.T, id uuid.UUID) {
	t.Helper()
	w := NewRedeliverer(s.pool, s.jobs, testLog(t))
	j := s.redeliverJob(t, id)
	for err := w.Work(t.Context(), j); err != nil; err = w.Work(t.Context(), j) {
		snoozed(t, err)
	}
	if got := one[string](t, s, `SELECT state::text FROM river_job WHERE id = $1`, j.ID); got != "completed" {
		t.Errorf("the job is %s, want completed", got)
	}
}

// slice works one slice of a redelivery, and returns whether it is over.
func (s *station) slice(t *testing.T, j *river.Job[job.Redeliver]) (over bool, wait time.Duration) {
	t.Helper()
	work := &redelivering{jobs: s.jobs, jobID: j.ID}
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) (err error) {
		over, wait, err = work.slice(t.Context(), tx, j.Args.RedeliveryID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return over, wait
}

func (s *station) wantRedelivery(t *testing.T, id uuid.UUID, want string) {
	t.Helper()
	got := one[string](t, s, `SELECT format('%s: %s found, %s opened, %s skipped', state, found, opened, skipped) FROM redeliveries WHERE id = $1`, id)
	if got != want {
		t.Errorf("the redelivery is %s; want %s", got, want)
	}
}

// watchOpenings has the database note each time that a redelivery opens a delivery.
func (s *station) watchOpenings(t *testing.T) {
	t.Helper()
	s.exec(t, `CREATE TABLE openings (delivery_id bigint, at timestamptz)`)
	s.exec(t, `CREATE FUNCTION note_opening() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO openings VALUES (new.id, clock_timestamp()); RETURN new; END $$`)
	s.exec(t, `CREATE TRIGGER note_opening AFTER INSERT OR UPDATE ON deliveries FOR EACH ROW
		WHEN (new.redelivery_id IS NOT NULL AND new.attempts = 0 AND new.status IN ('pending', 'waiting')) EXECUTE FUNCTION note_opening()`)
}

// wantOpenings checks that so many deliveries were opened, and none of them twice.
func (s *station) wantOpenings(t *testing.T, want int) {
	t.Helper()
	got := one[string](t, s, `SELECT format('%s openings of %s deliveries', count(*), count(DISTINCT delivery_id)) FROM openings`)
	if want := fmt.Sprintf("%d openings of %d deliveries", want, want); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// died makes n webhooks whose deliveries to the endpoint are dead.
func (s *station) died(t *testing.T, n int) {
	t.Helper()
	s.told(t, added, n)
	s.relay(t)
	if n >= relayRows {
		s.relay(t)
	}
	s.exec(t, `UPDATE deliveries SET status = 'dead', finished_at = now()`)
}

func TestRecoverOpensWhatDied(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL, named("mine", added))
	s.endpoint(t, nowhere, named("other", added))
	webhooks := s.told(t, added, 9)
	s.relay(t)
	s.exec(t, `UPDATE deliveries SET status = 'dead', finished_at = now() - interval '1 hour', failures = 3`)
	set := func(n int, change string) {
		s.exec(t, `UPDATE deliveries SET `+change+` WHERE endpoint_id = $1 AND outbox_id = $2`, id, webhooks[n])
	}
	set(1, `finished_at = now() - interval '3 hours'`)
	set(2, `finished_at = now() - interval '1 minute'`)
	set(3, `status = 'delivered'`)
	set(4, `status = 'discarded'`)
	set(5, `status = 'cancelled'`)
	set(6, `status = 'retrying', next_attempt_at = now() + interval '1 hour', finished_at = NULL`)
	s.exec(t, `UPDATE outbox SET payload = NULL WHERE id = $1`, webhooks[7])

	asked := s.asked(t, id, endpoint.Recover, func(in *endpoint.RedeliverySettings) {
		in.Since, in.Until = time.Now().Add(-2*time.Hour), time.Now().Add(-30*time.Minute)
	})
	s.redeliver(t, asked.ID)
	s.wantRedelivery(t, asked.ID, "done: 2 found, 2 opened, 1 skipped")
	s.work(t, id)
	got := []string{r.next(t).id, r.next(t).id}
	slices.Sort(got)
	if diff := cmp.Diff([]string{webhooks[0].String(), webhooks[8].String()}, got); diff != "" {
		t.Errorf("webhooks (-want +got):\n%s", diff)
	}
	if more := r.all(); len(more) != 0 {
		t.Errorf("%d more were sent", len(more))
	}
	if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE endpoint_id <> $1 AND status = 'dead'`, id); n != 9 {
		t.Errorf("%d of the other endpoint are dead, want 9", n)
	}
}

func TestReplayTellsOfAllThereWas(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL, named("mine", added, deleted))
	delivered := s.told(t, added, 2)
	s.relay(t)
	s.exec(t, `UPDATE deliveries SET status = 'delivered', attempts = 1, finished_at = now()`)
	died := s.told(t, deleted, 1)
	s.relay(t)
	s.exec(t, `UPDATE deliveries SET status = 'dead' WHERE outbox_id = $1`, died[0])
	s.told(t, graphing, 1) // nobody wants it
	open := s.told(t, added, 1)
	s.relay(t)
	forgotten := s.told(t, added, 1)
	missing := s.told(t, added, 1)
	s.relay(t)
	s.exec(t, `UPDATE outbox SET payload = NULL WHERE id = $1`, forgotten[0])
	s.exec(t, `DELETE FROM deliveries WHERE outbox_id = $1 OR outbox_id = $2`, missing[0], forgotten[0])
	early := s.told(t, added, 1)
	s.relay(t)
	s.exec(t, `UPDATE outbox SET created_at = now() - interval '2 days' WHERE id = $1`, early[0])
	s.exec(t, `UPDATE deliveries SET status = 'delivered' WHERE outbox_id = $1`, early[0])

	asked := s.asked(t, id, endpoint.Replay)
	s.redeliver(t, asked.ID)
	s.wantRedelivery(t, asked.ID, "done: 4 found, 4 opened, 2 skipped")
	s.work(t, id)
	var want, got []string
	for _, webhook := range slices.Concat(delivered, died, open, missing) {
		want = append(want, webhook.String())
		got = append(got, r.next(t).id)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("webhooks (-want +got):\n%s", diff)
	}
	if more := r.all(); len(more) != 0 {
		t.Errorf("%d more were sent", len(more))
	}
}

func TestReplayKeepsToWhatTheEndpointWants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		endpoint string
		events   []string
		want     []string
	}{
		"its events":                        {`events = '{memory_added}'`, nil, []string{"memory_added ann 1", "memory_added bob 2"}},
		"all events but those of ourselves": {`events = '{*}'`, nil, []string{"memory_added ann 1", "memory_added bob 2", "memory_updated ann 3"}},
		"others, that were asked for":       {`events = '{memory_added}'`, []string{updated, "sync.failed"}, []string{"memory_updated ann 3", "sync.failed ann 4"}},
		"its users":                         {`events = '{*}', user_ids = '{an*}'`, nil, []string{"memory_added ann 1", "memory_updated ann 3"}},
		"its filter":                        {`events = '{*}', filter = '{"n": {"$gte": 2}}'`, nil, []string{"memory_added bob 2", "memory_updated ann 3"}},
		"nothing":                           {`events = '{}'`, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			id := s.endpoint(t, nowhere, named("mine"))
			for i, what := range [][2]string{{added, "ann"}, {added, "bob"}, {updated, "ann"}, {"sync.failed", "ann"}} {
				s.exec(t, `INSERT INTO outbox (id, event, user_id, payload) VALUES ($1, $2, $3, convert_to($4, 'UTF8'))`,
					uuid.Must(uuid.NewV7()), what[0], what[1], fmt.Sprintf(`{"event":%q,"data":{"n":%d}}`, what[0], i+1))
			}
			s.relay(t)
			s.exec(t, `UPDATE endpoints SET `+c.endpoint)
			asked := s.asked(t, id, endpoint.Replay, ofEvents(c.events...))
			s.redeliver(t, asked.ID)
			s.wantRedelivery(t, asked.ID, fmt.Sprintf("done: %d found, %d opened, 0 skipped", len(c.want), len(c.want)))
			got := column[string](t, s, `SELECT format('%s %s %s', o.event, o.user_id, convert_from(o.payload, 'UTF8')::jsonb -> 'data' -> 'n')
				FROM deliveries d JOIN outbox o ON o.id = d.outbox_id ORDER BY d.id`)
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("replayed (-want +got):\n%s", diff)
			}
		})
	}
}

// Whether a filter would let a webhook pass whose payload is gone is not known: it is
// told of, for it may be missed.
func TestReplayTellsOfWhatItCannotSend(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere, named("mine", added))
	for range 3 {
		s.exec(t, `INSERT INTO outbox (id, event, user_id, payload) VALUES ($1, $2, 'ann', '{"data":{"n":1}}')`, uuid.Must(uuid.NewV7()), added)
	}
	s.relay(t)
	s.exec(t, `UPDATE deliveries SET status = 'delivered'`)
	s.exec(t, `UPDATE outbox SET payload = NULL WHERE seq = (SELECT min(seq) + 1 FROM outbox)`)
	s.exec(t, `UPDATE endpoints SET filter = '{"n": 1}'`)
	asked := s.asked(t, id, endpoint.Replay)
	s.redeliver(t, asked.ID)
	s.wantRedelivery(t, asked.ID, "done: 2 found, 2 opened, 1 skipped")
}

// A webhook that is written but not relayed is waited for, so that none is passed by.
func TestReplayWaitsForTheRelay(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere, named("mine", added))
	s.told(t, added, 2)
	s.relay(t)
	s.exec(t, `UPDATE deliveries SET status = 'delivered'`)
	s.exec(t, `UPDATE outbox SET relayed_at = NULL WHERE seq = (SELECT min(seq) FROM outbox)`)
	asked := s.asked(t, id, endpoint.Replay)
	j := s.redeliverJob(t, asked.ID)
	if over, wait := s.slice(t, j); over || wait == 0 {
		t.Errorf("over %t, wait %s", over, wait)
	}
	s.wantRedelivery(t, asked.ID, "running: 1 found, 0 opened, 0 skipped")
	s.relay(t)
	s.redeliver(t, asked.ID)
	s.wantRedelivery(t, asked.ID, "done: 1 found, 2 opened, 0 skipped")
}

// Few webhooks among many of others: a page looks at some thousand, and goes on.
func TestReplayFindsTheFewAmongMany(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere, named("mine", added))
	const many = `INSERT INTO outbox (id, event, user_id, payload, relayed_at) SELECT gen_random_uuid(), 'memory_updated', 'ann', '{}', now() FROM generate_series(1, $1)`
	s.told(t, added, 1)
	s.exec(t, many, reelTest)
	s.told(t, added, 1)
	s.exec(t, many, reelTest)
	s.told(t, added, 1)
	s.relay(t)
	s.exec(t, `DELETE FROM deliveries`)
	asked := s.asked(t, id, endpoint.Replay)
	s.redeliver(t, asked.ID)
	s.wantRedelivery(t, asked.ID, "done: 3 found, 3 opened, 0 skipped")
}

// reelTest is more than a page of a replay looks at.
const reelTest = 25_000

func TestRedeliveryGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	const all = 2*redeliverRows + 300
	for _, kind := range []string{endpoint.Recover, endpoint.Replay} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			id := s.endpoint(t, nowhere)
			s.died(t, all)
			s.watchOpenings(t)
			asked := s.asked(t, id, kind)
			j := s.redeliverJob(t, asked.ID)
			if over, _ := s.slice(t, j); over {
				t.Fatal("over after one slice")
			}
			s.wantRedelivery(t, asked.ID, fmt.Sprintf("running: %d found, %d opened, 0 skipped", all, redeliverRows))
			// Another one is begun, and its worker dies before it can commit.
			tx, err := s.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := (&redelivering{jobs: s.jobs, jobID: j.ID}).slice(t.Context(), tx, asked.ID); err != nil {
				t.Fatal(err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.wantOpenings(t, redeliverRows)
			s.exec(t, `UPDATE deliveries SET status = 'delivered', attempts = 1 WHERE status = 'pending'`)
			s.redeliver(t, asked.ID)
			s.wantRedelivery(t, asked.ID, fmt.Sprintf("done: %d found, %d opened, 0 skipped", all, all))
			s.wantOpenings(t, all)
		})
	}
}

// A job that was taken from its worker runs twice at one time.
func TestTwoWorkersOfOneRedeliveryOpenNothingTwice(t *testing.T) {
	t.Parallel()
	const all = 900
	for _, kind := range []string{endpoint.Recover, endpoint.Replay} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			id := s.endpoint(t, nowhere)
			s.died(t, all)
			s.watchOpenings(t)
			asked := s.asked(t, id, kind, perSecond(300))
			j := s.redeliverJob(t, asked.ID)
			g := together(t)
			for range 2 {
				g.Go(func() error { return NewRedeliverer(s.pool, s.jobs, testLog(t)).Work(t.Context(), j) })
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			s.wantRedelivery(t, asked.ID, fmt.Sprintf("done: %d found, %d opened, 0 skipped", all, all))
			s.wantOpenings(t, all)
			s.wantRate(t, asked.ID, 300)
		})
	}
}

// wantRate checks that at no time more were opened than there were seconds, and one
// second's worth.
func (s *station) wantRate(t *testing.T, id uuid.UUID, perSecond int) {
	t.Helper()
	worst := one[float64](t, s, `
		SELECT max(n - (extract(epoch FROM at - created_at) + 1) * $2)::float8
		FROM (SELECT o.at, r.created_at, row_number() OVER (ORDER BY o.at) AS n FROM openings o, redeliveries r WHERE r.id = $1) AS o`, id, perSecond)
	if worst > 0 {
		t.Errorf("%.0f more were opened than %d a second", worst, perSecond)
	}
}

func TestRedeliveryKeepsToItsRate(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.died(t, 70)
	s.watchOpenings(t)
	asked := s.asked(t, id, endpoint.Recover, perSecond(30))
	began := time.Now()
	s.redeliver(t, asked.ID)
	s.wantRate(t, asked.ID, 30)
	s.wantOpenings(t, 70)
	if took := time.Since(began); took < time.Second || took > 30*time.Second {
		t.Errorf("70 at 30 a second took %s", took)
	}
}

// After a stop what was missed is not made up for at once.
func TestRedeliveryThatStoodStillOpensOneSecondsWorth(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.died(t, 100)
	asked := s.asked(t, id, endpoint.Recover, perSecond(20))
	s.exec(t, `UPDATE redeliveries SET created_at = now() - interval '1 hour'`)
	if over, wait := s.slice(t, s.redeliverJob(t, asked.ID)); over || wait != time.Second {
		t.Errorf("over %t, wait %s, want a second", over, wait)
	}
	s.wantRedelivery(t, asked.ID, "running: 100 found, 20 opened, 0 skipped")
}

// What is sent anew shall not wait behind all that is sent again.
func TestRedeliveryWaitsWhileMuchOfItIsOpen(t *testing.T) {
	t.Parallel()
	const all = redeliverOpen + 200
	for name, state := range map[string]string{
		"due":                `status = 'pending'`,
		"retried":            `status = 'retrying', next_attempt_at = now() + interval '1 hour'`,
		"waiting for others": `status = 'waiting', order_key = 'zoho:1'`,
		"in a batch":         `status = 'batched', batch_id = '00000000-0000-0000-0000-000000000001'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			id := s.endpoint(t, nowhere)
			s.died(t, all)
			s.exec(t, `INSERT INTO deliveries (endpoint_id, batch_id) VALUES ($1, '00000000-0000-0000-0000-000000000001')`, id)
			asked := s.asked(t, id, endpoint.Recover)
			j := s.redeliverJob(t, asked.ID)
			for range 2 {
				if _, wait := s.slice(t, j); wait != 0 {
					t.Fatalf("waits %s although there is room", wait)
				}
			}
			s.exec(t, `UPDATE deliveries SET `+state+` WHERE redelivery_id = $1`, asked.ID)
			if _, wait := s.slice(t, j); wait != redeliverWait {
				t.Errorf("waits %s, want %s", wait, redeliverWait)
			}
			s.wantRedelivery(t, asked.ID, fmt.Sprintf("running: %d found, %d opened, 0 skipped", all, redeliverOpen))
			s.exec(t, `UPDATE deliveries SET status = 'delivered' WHERE redelivery_id = $1`, asked.ID)
			s.redeliver(t, asked.ID)
			s.wantRedelivery(t, asked.ID, fmt.Sprintf("done: %d found, %d opened, 0 skipped", all, all))
		})
	}
}

func TestRedeliveryDoesNotOpenTwiceWhatDiesAgain(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.died(t, redeliverRows+1)
	s.watchOpenings(t)
	asked := s.asked(t, id, endpoint.Recover)
	s.slice(t, s.redeliverJob(t, asked.ID))
	s.exec(t, `UPDATE deliveries SET status = 'dead', finished_at = now() WHERE status = 'pending'`)
	s.redeliver(t, asked.ID)
	s.wantOpenings(t, redeliverRows+1)
	// Neither does it when the clock goes back.
	s.exec(t, `UPDATE deliveries SET status = 'dead', finished_at = now() - interval '1 minute'`)
	s.exec(t, `UPDATE redeliveries SET state = 'running', job_id = $1`, s.running(t, job.Redeliver{RedeliveryID: asked.ID}))
	s.redeliver(t, asked.ID)
	s.wantOpenings(t, redeliverRows+1)
}

func TestRedeliveryThatIsCancelledStops(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.died(t, redeliverRows+1)
	asked := s.asked(t, id, endpoint.Recover)
	j := s.redeliverJob(t, asked.ID)
	s.slice(t, j)
	for range 2 { // the second changes nothing
		got, err := s.redeliveries().Cancel(t.Context(), endpoint.Actor{Name: "jane", RequestID: "r1"}, asked.ID)
		if err != nil || got.State != endpoint.RedeliveryCancelled || got.FinishedAt == nil {
			t.Errorf("cancelled: %+v, %v", got, err)
		}
	}
	if err := NewRedeliverer(s.pool, s.jobs, testLog(t)).Work(t.Context(), j); err != nil {
		t.Error(err)
	}
	s.wantRedelivery(t, asked.ID, fmt.Sprintf("cancelled: %d found, %d opened, 0 skipped", redeliverRows+1, redeliverRows))
	got := column[string](t, s, `SELECT format('%s by %s in %s: %s, %s of %s', action, actor, request_id, details ->> 'reason', details ->> 'opened', details ->> 'found')
		FROM audit_log WHERE object = 'endpoint/' || $1::text ORDER BY id`, id)
	want := []string{"redelivery.start by jane in : the test, 0 of 501", "redelivery.cancel by jane in r1: the test, 500 of 501"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

func TestRedeliveryEndsWithItsEndpoint(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.died(t, redeliverRows+1)
	asked := s.asked(t, id, endpoint.Replay)
	j := s.redeliverJob(t, asked.ID)
	s.slice(t, j)
	s.exec(t, `UPDATE endpoints SET deleted_at = now()`)
	s.redeliver(t, asked.ID)
	s.wantRedelivery(t, asked.ID, fmt.Sprintf("cancelled: %d found, %d opened, 0 skipped", redeliverRows+1, redeliverRows))
}

func TestRedeliveryLeavesAJobThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.died(t, 1)
	asked := s.asked(t, id, endpoint.Recover)
	j := &river.Job[job.Redeliver]{JobRow: &rivertype.JobRow{ID: 4711}, Args: job.Redeliver{RedeliveryID: asked.ID}}
	if err := NewRedeliverer(s.pool, s.jobs, testLog(t)).Work(t.Context(), j); err != nil {
		t.Error(err)
	}
	s.wantRedelivery(t, asked.ID, "running: 1 found, 0 opened, 0 skipped")
	j.Args.RedeliveryID = uuid.New()
	if err := NewRedeliverer(s.pool, s.jobs, testLog(t)).Work(t.Context(), j); err != nil {
		t.Error(err)
	}
}

// A slice that fails is tried again, and nobody has lost an attempt by it.
func TestRedeliveryWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.died(t, 1)
	asked := s.asked(t, id, endpoint.Recover)
	relent := s.refuse(t, "redeliveries", "BEFORE UPDATE", "new.state = 'done'")
	w := NewRedeliverer(s.pool, s.jobs, testLog(t))
	snoozed(t, w.Work(t.Context(), s.redeliverJob(t, asked.ID)))
	relent()
	s.redeliver(t, asked.ID)
	s.wantRedelivery(t, asked.ID, "done: 1 found, 1 opened, 0 skipped")
}

// order returns the numbers of the webhooks that a user's were sent as, in the order
// in which the endpoint's lane sends them: it is worked until nothing is open.
func (s *station) order(t *testing.T, id uuid.UUID, r *subscriber, asked uuid.UUID) map[string][]string {
	t.Helper()
	for open := true; open; {
		if one[bool](t, s, `SELECT state = 'running' FROM redeliveries WHERE id = $1`, asked) {
			s.slice(t, s.redeliverJob(t, asked))
		}
		s.hasten(t)
		if one[bool](t, s, `SELECT due_at IS NOT NULL FROM endpoints WHERE id = $1`, id) {
			s.work(t, id)
		}
		open = one[bool](t, s, `SELECT EXISTS (SELECT FROM redeliveries WHERE state = 'running')
			OR EXISTS (SELECT FROM deliveries WHERE status IN ('pending', 'retrying', 'waiting'))`)
	}
	got := map[string][]string{}
	for _, w := range r.all() {
		user := one[string](t, s, `SELECT user_id FROM outbox WHERE id = $1`, w.id)
		got[user] = append(got[user], one[string](t, s, `SELECT seq::text FROM outbox WHERE id = $1`, w.id))
	}
	return got
}

// An ordered endpoint gets what it gets again in order, too: also where it was told of
// some of it before and of some not, and while it fails now and then.
func TestRedeliveryKeepsTheOrderOfEachUser(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{endpoint.Recover, endpoint.Replay} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			r := subscribe(t)
			id := s.ordered(t, r.URL, added)
			s.exec(t, `INSERT INTO outbox (id, event, user_id, payload, seq)
				SELECT gen_random_uuid(), CASE WHEN n % 3 = 0 THEN 'memory_updated' ELSE 'memory_added' END, CASE n % 2 WHEN 0 THEN 'ann' ELSE 'bob' END, '{}', n
				FROM generate_series(1, 24) AS n`)
			s.relay(t)
			s.exec(t, `UPDATE deliveries SET status = 'delivered'`)
			s.exec(t, `UPDATE endpoints SET events = '{memory_added,memory_updated}'`)
			all := []string{"1", "3", "5", "7", "9", "11", "13", "15", "17", "19", "21", "23"}
			want := map[string][]string{"bob": all, "ann": nil}
			for _, n := range all {
				var i int
				if _, err := fmt.Sscan(n, &i); err != nil {
					t.Fatal(err)
				}
				want["ann"] = append(want["ann"], fmt.Sprint(i+1))
			}
			asked := s.asked(t, id, endpoint.Replay)
			if asked.Found != 24 {
				t.Errorf("found %d, want 24", asked.Found)
			}
			got := s.order(t, id, r, asked.ID)
			if kind == endpoint.Recover {
				// The replay has made deliveries whose ids are not in order. They die.
				s.exec(t, `UPDATE deliveries SET status = 'dead', finished_at = now()`)
				got = s.order(t, id, r, s.asked(t, id, kind).ID)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRedeliveriesAreRefused(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere, named("mine"))
	s.exec(t, `UPDATE endpoints SET deleted_at = now() WHERE id = $1`, s.endpoint(t, nowhere, named("gone")))
	since := time.Now().Add(-time.Hour)
	before := s.picture(t)
	for name, c := range map[string]struct {
		which string
		in    endpoint.RedeliverySettings
		want  error
	}{
		"of no endpoint":          {"none", endpoint.RedeliverySettings{Kind: "recover", Since: since}, endpoint.ErrNotFound},
		"of one that is gone":     {"gone", endpoint.RedeliverySettings{Kind: "recover", Since: since}, endpoint.ErrNotFound},
		"of no kind":              {"mine", endpoint.RedeliverySettings{Since: since}, endpoint.ErrInvalid},
		"of no time":              {"mine", endpoint.RedeliverySettings{Kind: "recover"}, endpoint.ErrInvalid},
		"of the future":           {"mine", endpoint.RedeliverySettings{Kind: "recover", Since: time.Now().Add(time.Hour)}, endpoint.ErrInvalid},
		"that ends before":        {"mine", endpoint.RedeliverySettings{Kind: "recover", Since: since, Until: since.Add(-1)}, endpoint.ErrInvalid},
		"of what is no event":     {"mine", endpoint.RedeliverySettings{Kind: "replay", Since: since, Events: []string{"x"}}, endpoint.ErrInvalid},
		"of what died, by events": {"mine", endpoint.RedeliverySettings{Kind: "recover", Since: since, Events: []string{added}}, endpoint.ErrInvalid},
		"backwards":               {id.String(), endpoint.RedeliverySettings{Kind: "recover", Since: since, PerSecond: -1}, endpoint.ErrInvalid},
		"of what is no name":      {"mi\x00ne", endpoint.RedeliverySettings{Kind: "recover", Since: since}, endpoint.ErrNotFound},
		"for what is no text":     {"mine", endpoint.RedeliverySettings{Kind: "recover", Since: since, Reason: "a\x00b"}, endpoint.ErrInvalid},
		"too fast":                {id.String(), endpoint.RedeliverySettings{Kind: "recover", Since: since, PerSecond: 10_001}, endpoint.ErrInvalid},
	} {
		if _, err := s.redeliveries().Count(t.Context(), c.which, c.in); !errors.Is(err, c.want) {
			t.Errorf("count %s: %v, want %v", name, err, c.want)
		}
		if _, err := s.redeliveries().Start(t.Context(), endpoint.Actor{}, c.which, c.in); !errors.Is(err, c.want) {
			t.Errorf("start %s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := s.redeliveries().Get(t.Context(), id); !errors.Is(err, endpoint.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.redeliveries().Cancel(t.Context(), endpoint.Actor{}, id); !errors.Is(err, endpoint.ErrNotFound) {
		t.Errorf("cancel: %v", err)
	}
	if _, err := s.redeliveries().List(t.Context(), "gone"); !errors.Is(err, endpoint.ErrNotFound) {
		t.Errorf("list: %v", err)
	}
	if diff := cmp.Diff(before, s.picture(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

func TestRedeliveriesAreListed(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere, named("mine", added))
	s.endpoint(t, nowhere, named("other", added))
	first := s.asked(t, id, endpoint.Recover)
	second := s.asked(t, id, endpoint.Replay, perSecond(7), ofEvents(deleted))
	got, err := s.redeliveries().List(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]endpoint.Redelivery{second, first}, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if got, err := s.redeliveries().Get(t.Context(), second.ID); err != nil || !cmp.Equal(got, second) || got.PerSecond != 7 || got.Reason != "the test" {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := s.redeliveries().List(t.Context(), "other"); err != nil || len(got) != 0 {
		t.Errorf("of the other endpoint: %v, %v", got, err)
	}
}
