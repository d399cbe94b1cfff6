package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
)

// station is all workers on a database of its own. Nothing works by itself: a
// test begins and ends jobs by hand, as River does, and moves the time.
type station struct {
	pool   *pgxpool.Pool
	jobs   *river.Client[pgx.Tx]
	router *Router
	syncer *Syncer
	waker  *Waker
	here   *lane.Here // nil: lanes go through the queue
}

// sourceFunc is a source made of a function.
type sourceFunc func(ctx context.Context, events []Event) ([]Observation, error)

func (f sourceFunc) Observe(ctx context.Context, events []Event) ([]Observation, error) {
	return f(ctx, events)
}

// Long enough that no test is overtaken by the clock.
const testDebounce = time.Minute

func testRetry() Retry {
	return Retry{MaxAttempts: 3, Base: 20 * time.Second, GiveUpAfter: 24 * time.Hour}
}

// newStation believes source. One endpoint wants to be told of everything.
func newStation(t *testing.T, source Source) *station {
	t.Helper()
	s := stationOn(t, dbtest.New(t), source)
	s.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		VALUES ($1, 'all', 'https://example.com', $2, '30s', '{1s,2s}')`, uuid.New(), memory.Events())
	return s
}

// stationOn is one process on a database that others may use too.
func stationOn(t *testing.T, pool *pgxpool.Pool, source Source) *station {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: log, MaxAttempts: testRetry().MaxAttempts})
	if err != nil {
		t.Fatal(err)
	}
	counts := counter.New(pool, uuid.New(), "test", 0, log)
	// One clock for both, which a test may set.
	var s *station
	clock := func() time.Time { return s.syncer.now() }
	sender := memory.Sender{Source: "memrelay", BotVersion: "1.2.3"}
	writer, teller := memory.NewWriter(jobs, sender, "", clock), memory.NewTeller(jobs, sender, clock)
	s = &station{
		pool: pool, jobs: jobs,
		router: NewRouter(pool, jobs, counts, testRetry(), testDebounce, teller, slog.New(slog.NewTextHandler(t.Output(), nil))),
		syncer: NewSyncer(pool, jobs, source, counts, testRetry(), writer, time.Now, log),
		waker:  NewWaker(pool, jobs, log),
	}
	return s
}

// handOver has lanes worked as soon as they are woken, at most so many at one time.
func (s *station) handOver(t *testing.T, room int) {
	t.Helper()
	s.here = lane.NewHere(s.pool, uuid.New(), room, func() bool { return false }, slog.New(slog.NewTextHandler(t.Output(), nil)))
	s.router.HandTo(s.syncer, s.here)
	t.Cleanup(func() { s.here.Stop(context.Background()) })
}

// settle waits for what was handed over.
func (s *station) settle() {
	if s.here != nil {
		s.router.Wait()
		s.here.Wait()
	}
}

// sent is one event as inbound stores it.
type sent struct {
	id        int64  // 0: the next
	source    string // "": zoho
	module    string
	operation string
	recordID  string
	record    string // "": the event has no body
	modified  []string
	occurred  time.Time // zero: not said
	received  time.Time // zero: now
}

// receive stores an event with its body and its job, and returns their ids.
func (s *station) receive(t *testing.T, e sent) (eventID, jobID int64) {
	t.Helper()
	if e.modified == nil {
		e.modified = []string{}
	}
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(t.Context(), `
			INSERT INTO events (id, source, event_id, digest, module, operation, record_id, modified_fields, occurred_at, received_at)
			VALUES (coalesce(nullif($1::bigint, 0), nextval(pg_get_serial_sequence('events', 'id'))), coalesce(nullif($10, ''), 'zoho'), $2, $3, $4, $5, $6, $7,
			        nullif($8::timestamptz, '0001-01-01 00:00:00+00'), coalesce(nullif($9::timestamptz, '0001-01-01 00:00:00+00'), now()))
			RETURNING id`,
			e.id, uuid.NewString(), make([]byte, 32), e.module, e.operation, e.recordID, e.modified, e.occurred, e.received, e.source).Scan(&eventID)
		if err != nil {
			return err
		}
		if e.record != "" {
			if _, err := tx.Exec(t.Context(), `INSERT INTO event_bodies (event_id, received_at, body_id, record)
				SELECT id, received_at, id, $2 FROM events WHERE id = $1`, eventID, []byte(e.record)); err != nil {
				return err
			}
		}
		inserted, err := s.jobs.InsertTx(t.Context(), tx, job.ProcessEvent{EventID: eventID}, nil)
		if err != nil {
			return err
		}
		jobID = inserted.Job.ID
		return counter.AddOnce(t.Context(), tx, counter.Changes{counter.Queued: 1, counter.Backlog: 1})
	})
	if err != nil {
		t.Fatalf("store an event: %v", err)
	}
	return eventID, jobID
}

// route stores an event and routes it; it returns the event's id.
func (s *station) route(t *testing.T, e sent) int64 {
	t.Helper()
	eventID, jobID := s.receive(t, e)
	if err := s.work(t, jobID); err != nil {
		t.Fatalf("route event %d: %v", eventID, err)
	}
	return eventID
}

// sync works the one job of an account's lane.
func (s *station) sync(t *testing.T, accountID string) error {
	t.Helper()
	return s.work(t, s.lane(t, accountID).job(t))
}

// live are the states in which a job still runs or will.
const live = `('available', 'pending', 'retryable', 'running', 'scheduled')`

// begin lets a job run, as River does when it fetches one. A job that runs
// already runs once more: so it is after a rescue.
func (s *station) begin(t *testing.T, jobID int64) *rivertype.JobRow {
	t.Helper()
	if n := s.exec(t, `UPDATE river_job SET state = 'running', attempt = attempt + 1, attempted_at = now()
		WHERE id = $1 AND state IN `+live, jobID); n != 1 {
		t.Fatalf("job %d is not live", jobID)
	}
	row, err := s.jobs.JobGet(t.Context(), jobID)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// attempt calls the worker of a job that runs.
func (s *station) attempt(ctx context.Context, row *rivertype.JobRow) error {
	switch row.Kind {
	case job.ProcessEvent{}.Kind():
		j := &river.Job[job.ProcessEvent]{JobRow: row}
		if err := json.Unmarshal(row.EncodedArgs, &j.Args); err != nil {
			return err
		}
		return s.router.Work(ctx, j)
	case job.SyncAccount{}.Kind():
		j := &river.Job[job.SyncAccount]{JobRow: row}
		if err := json.Unmarshal(row.EncodedArgs, &j.Args); err != nil {
			return err
		}
		return s.syncer.Work(ctx, j)
	case job.WakeAccount{}.Kind():
		j := &river.Job[job.WakeAccount]{JobRow: row}
		if err := json.Unmarshal(row.EncodedArgs, &j.Args); err != nil {
			return err
		}
		return s.waker.Work(ctx, j)
	default:
		return fmt.Errorf("a job of kind %s is nobody's here", row.Kind)
	}
}

// end does with a job what River does after Work, whoever's attempt it was.
func (s *station) end(t *testing.T, row *rivertype.JobRow, err error) {
	t.Helper()
	var snooze *river.JobSnoozeError
	var cancel *river.JobCancelError
	const running = ` WHERE id = $1 AND state = 'running'`
	switch {
	case err == nil:
		s.exec(t, `UPDATE river_job SET state = 'completed', finalized_at = now()`+running, row.ID)
	case errors.As(err, &snooze):
		s.exec(t, `UPDATE river_job SET state = 'available', attempt = attempt - 1, scheduled_at = now() + $2::interval`+running, row.ID, snooze.Duration)
	case errors.As(err, &cancel):
		s.exec(t, `UPDATE river_job SET state = 'cancelled', finalized_at = now()`+running, row.ID)
	case row.Attempt >= row.MaxAttempts:
		s.exec(t, `UPDATE river_job SET state = 'discarded', finalized_at = now()`+running, row.ID)
	default:
		s.exec(t, `UPDATE river_job SET state = 'retryable', scheduled_at = now() + interval '1 minute'`+running, row.ID)
	}
}

// work begins, attempts and ends one job.
func (s *station) work(t *testing.T, jobID int64) error {
	t.Helper()
	row := s.begin(t, jobID)
	err := s.attempt(t.Context(), row)
	s.settle()
	s.end(t, row, err)
	return err
}

// together works jobs side by side.
func (s *station) together(t *testing.T, jobIDs []int64) {
	t.Helper()
	rows := make([]*rivertype.JobRow, len(jobIDs))
	for i, id := range jobIDs {
		rows[i] = s.begin(t, id)
	}
	errs := make([]error, len(rows))
	var wg sync.WaitGroup
	for i, row := range rows {
		wg.Go(func() { errs[i] = s.attempt(t.Context(), row) })
	}
	wg.Wait()
	s.settle()
	for i, row := range rows {
		s.end(t, row, errs[i])
	}
}

// later moves the time on until everything that waits is due.
func (s *station) later(t *testing.T) {
	t.Helper()
	s.exec(t, `UPDATE events SET retry_at = now() WHERE retry_at > now()`)
	s.exec(t, `UPDATE accounts SET due_at = now() WHERE due_at > now()`)
	s.exec(t, `UPDATE river_job SET scheduled_at = now(), state = 'available' WHERE state IN ('available', 'scheduled', 'retryable')`)
}

// waiting are the jobs of this station that wait, in their order.
func (s *station) waiting(t *testing.T) []int64 {
	t.Helper()
	return rows[int64](t, s.pool, `SELECT id FROM river_job
		WHERE kind IN ('process_event', 'sync_account', 'wake_account') AND state IN ('available', 'scheduled', 'retryable') ORDER BY id`)
}

// finish works, side by side and however long it takes, all that is left to do,
// and checks that nothing is left lying.
func (s *station) finish(t *testing.T) {
	t.Helper()
	for range 200 {
		s.later(t)
		ids := s.waiting(t)
		if len(ids) == 0 {
			s.closed(t)
			cataloguetest.Outbox(t, s.pool)
			return
		}
		s.together(t, ids)
	}
	t.Fatal("there is no end of work")
}

// closed checks that no event waits, and that each lane is closed.
func (s *station) closed(t *testing.T) {
	t.Helper()
	open := rows[string](t, s.pool, `
		SELECT format('event %s is %s', id, status) FROM events WHERE status NOT IN ('processed', 'ignored', 'dead', 'discarded')
		UNION ALL SELECT format('lane %s: %s of %s, due %s, job %s', account_id, done, wanted, due_at, job_id) FROM accounts
		WHERE wanted <> done OR due_at IS NOT NULL OR job_id IS NOT NULL
		UNION ALL SELECT format('job %s %s is %s', id, kind, state) FROM river_job
		WHERE kind <> 'relay' AND state IN `+live)
	if diff := cmp.Diff([]string(nil), open); diff != "" {
		t.Errorf("left lying (-want +got):\n%s", diff)
	}
	s.noOrphans(t)
}

// noOrphans checks that what waits has a job which will do it.
func (s *station) noOrphans(t *testing.T) {
	t.Helper()
	orphans := rows[string](t, s.pool, `
		SELECT format('%s event %s of lane %s', e.status, e.id, e.account_id) FROM events e JOIN accounts a USING (account_id)
		WHERE e.status IN ('routed', 'retrying')
		  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = a.job_id AND j.state IN `+live+`)`)
	if diff := cmp.Diff([]string(nil), orphans); diff != "" {
		t.Errorf("waits and has no job (-want +got):\n%s", diff)
	}
}

// laneRow is a row of accounts.
type laneRow struct {
	Wanted, Done int64
	Due          *time.Time
	JobID        *int64
	LastError    string
}

func (s *station) lane(t *testing.T, accountID string) laneRow {
	t.Helper()
	var l laneRow
	err := s.pool.QueryRow(t.Context(), `SELECT wanted, done, due_at, job_id, last_error FROM accounts WHERE account_id = $1`, accountID).
		Scan(&l.Wanted, &l.Done, &l.Due, &l.JobID, &l.LastError)
	if err != nil {
		t.Fatalf("read lane %s: %v", accountID, err)
	}
	return l
}

func (l laneRow) job(t *testing.T) int64 {
	t.Helper()
	if l.JobID == nil {
		t.Fatal("the lane has no job")
	}
	return *l.JobID
}

// jobState is what River knows of a job.
type jobState struct {
	State       string
	ScheduledAt time.Time
}

func (s *station) jobState(t *testing.T, jobID int64) jobState {
	t.Helper()
	var j jobState
	if err := s.pool.QueryRow(t.Context(), `SELECT state, scheduled_at FROM river_job WHERE id = $1`, jobID).Scan(&j.State, &j.ScheduledAt); err != nil {
		t.Fatalf("read job %d: %v", jobID, err)
	}
	return j
}

func (s *station) exec(t *testing.T, query string, args ...any) int64 {
	t.Helper()
	tag, err := s.pool.Exec(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return tag.RowsAffected()
}

// count is the number of rows of a table.
func (s *station) count(t *testing.T, table string) int64 {
	t.Helper()
	return rows[int64](t, s.pool, `SELECT count(*) FROM `+pgx.Identifier{table}.Sanitize())[0]
}

// counters are the sums over all processes.
func (s *station) counters(t *testing.T, names ...counter.Name) []int64 {
	t.Helper()
	values := make([]int64, len(names))
	for i, name := range names {
		values[i] = rows[int64](t, s.pool, `SELECT coalesce(sum(value), 0)::bigint FROM counters WHERE name = $1`, name)[0]
	}
	return values
}

// told are the changes of memory and the webhooks that tell of them, in their order.
func (s *station) told(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `
		SELECT concat_ws(' ', h.operation, h.module, h.record_id, h.user_id, 'by event', h.event_id, coalesce(o.event, 'untold'))
		FROM memory_history h LEFT JOIN outbox o ON o.id = h.outbox_id ORDER BY h.id`)
}

// remembered are the memories, by record.
func (s *station) remembered(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT concat_ws(' ', user_id, account_id, module, record_id, content) FROM memories ORDER BY module, record_id`)
}

// snapshot is all that is in the database, by table, and what the sequences
// gave out is not: a number that was skipped is nothing left behind.
func (s *station) snapshot(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, table := range rows[string](t, s.pool, `SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY relname`) {
		all[table] = rows[string](t, s.pool, `SELECT to_jsonb(x)::text FROM `+pgx.Identifier{table}.Sanitize()+` x ORDER BY 1`)
	}
	return all
}

// routeGroup routes events in one transaction.
func (s *station) routeGroup(t *testing.T, units ...arrival) []group.Answer[bool] {
	t.Helper()
	return inGroup(t, s.pool, s.router.route, units)
}

// inGroup is one transaction of a committer.
func inGroup[T, R any](t *testing.T, pool *pgxpool.Pool, write group.Write[T, R], units []T) []group.Answer[R] {
	t.Helper()
	var answers []group.Answer[R]
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		answers, err = write(t.Context(), tx, 0, units)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return answers
}

// rows reads the one column of a query.
func rows[T any](t *testing.T, pool *pgxpool.Pool, query string, args ...any) []T {
	t.Helper()
	r, err := pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	all, err := pgx.CollectRows(r, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// isSnooze reports whether a job is to wait, which costs it no attempt.
func isSnooze(err error) bool {
	var snooze *river.JobSnoozeError
	return errors.As(err, &snooze)
}

// account, contact and task are records as Zoho sends them.
func account(id, name, status string) string {
	return fmt.Sprintf(`{"id":%q,"Account_Name":%q,"Account_Status":%q}`, id, name, status)
}

func contact(id, accountID, email string) string {
	return fmt.Sprintf(`{"id":%q,"Last_Name":"Doe","Email":%q,"Account_Name":{"id":%q,"name":"Acme"}}`, id, email, accountID)
}
