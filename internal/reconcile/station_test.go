package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/zoho"
)

// fakeZoho is a Zoho in memory.
type fakeZoho struct {
	mu      sync.Mutex
	modules map[string]map[string]zoho.Record // by module and id
	deleted map[string][]zoho.DeletedRecord
	calls   []string
	// fault is asked before every call, and answers for it with an error.
	fault func(call, module string) error
	// listedAs is what a list shows in the place of a record.
	listedAs func(zoho.Record) zoho.Record
	hidden   string // a module whose lists show nothing, though it is counted
}

// hide lets the lists of a module show nothing.
func (z *fakeZoho) hide(module string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.hidden = module
}

func newFakeZoho() *fakeZoho {
	return &fakeZoho{modules: map[string]map[string]zoho.Record{}, deleted: map[string][]zoho.DeletedRecord{}}
}

// put stores a record made of JSON.
func (z *fakeZoho) put(t *testing.T, module, text string) {
	t.Helper()
	var r zoho.Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.modules[module] == nil {
		z.modules[module] = map[string]zoho.Record{}
	}
	z.modules[module][r.ID()] = r
}

func (z *fakeZoho) drop(module, id string, at time.Time) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.modules[module], id)
	z.deleted[module] = append(z.deleted[module], zoho.DeletedRecord{ID: id, DeletedAt: at})
}

func (z *fakeZoho) call(ctx context.Context, call, module string) error {
	z.mu.Lock()
	z.calls = append(z.calls, call+" "+module)
	fault := z.fault
	z.mu.Unlock()
	if fault != nil {
		if err := fault(call, module); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// fail makes Zoho answer with err; nil: properly.
func (z *fakeZoho) fail(fault func(call, module string) error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fault = fault
}

func (z *fakeZoho) List(ctx context.Context, module string, o zoho.ListOptions) (zoho.Page, error) {
	if err := z.call(ctx, "list", module); err != nil {
		return zoho.Page{}, err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	var ids []string
	for id, r := range z.modules[module] {
		if module == z.hidden {
			break
		}
		if o.Since.IsZero() || !modifiedTime(r).Before(o.Since) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, byID)
	from, size := 0, 200
	if o.PerPage > 0 {
		size = o.PerPage
	}
	if o.Cursor != "" {
		from, _ = strconv.Atoi(string(o.Cursor))
	}
	page := zoho.Page{}
	for _, id := range ids[min(from, len(ids)):min(from+size, len(ids))] {
		r := z.modules[module][id]
		if z.listedAs != nil {
			r = z.listedAs(r)
		}
		page.Records = append(page.Records, r)
	}
	if from+size < len(ids) {
		page.Next = zoho.Cursor(strconv.Itoa(from + size))
	}
	return page, nil
}

func (z *fakeZoho) Deleted(ctx context.Context, module string, since time.Time, _ zoho.Cursor) (zoho.DeletedPage, error) {
	if err := z.call(ctx, "deleted", module); err != nil {
		return zoho.DeletedPage{}, err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	page := zoho.DeletedPage{}
	for _, d := range z.deleted[module] {
		if !d.DeletedAt.Before(since) {
			page.Records = append(page.Records, d)
		}
	}
	return page, nil
}

func (z *fakeZoho) Get(ctx context.Context, module, id string) (zoho.Record, error) {
	if err := z.call(ctx, "get", module); err != nil {
		return nil, err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.modules[module][id], nil
}

func (z *fakeZoho) Count(ctx context.Context, module string) (int64, error) {
	if err := z.call(ctx, "count", module); err != nil {
		return 0, err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	return int64(len(z.modules[module])), nil
}

func (z *fakeZoho) Calls() int64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	return int64(len(z.calls))
}

// station is a Reconciler on a database of its own. Nothing works by itself: a
// test begins and ends jobs by hand, as River does.
type station struct {
	*Reconciler
	pool *pgxpool.Pool
	zoho *fakeZoho
	jobs *river.Client[pgx.Tx]
}

// newStation works the modules with a page of three records for each job.
func newStation(t *testing.T, modules ...string) *station {
	t.Helper()
	return stationOn(t, dbtest.New(t), newFakeZoho(), Options{Modules: modules, FullAt: "off"})
}

func stationOn(t *testing.T, pool *pgxpool.Pool, z *fakeZoho, o Options) *station {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := New(pool, jobs, z, counter.New(pool, uuid.New(), "test", 0, o.Log), o)
	r.perPage, r.slice = 3, 0
	return &station{Reconciler: r, pool: pool, zoho: z, jobs: jobs}
}

var nobody = Actor{Name: "a test"}

// start starts a sync and returns its id.
func (s *station) start(t *testing.T, kind string) uuid.UUID {
	t.Helper()
	id, already, err := s.Start(t.Context(), kind, nobody)
	if err != nil || already {
		t.Fatalf("start a sync: already %v, %v", already, err)
	}
	return id
}

const live = `('available', 'pending', 'retryable', 'running', 'scheduled')`

// begin lets a sync's job run, as River does when it fetches one. One that runs
// already runs once more: so it is after a rescue.
func (s *station) begin(t *testing.T, id uuid.UUID) *river.Job[job.Reconcile] {
	t.Helper()
	jobs := rows[int64](t, s.pool, `UPDATE river_job j SET state = 'running', attempt = attempt + 1, attempted_at = now()
		FROM syncs s WHERE s.id = $1 AND j.id = s.job_id AND j.state IN `+live+` RETURNING j.id`, id)
	if len(jobs) != 1 {
		t.Fatalf("sync %s has %d live jobs", id, len(jobs))
	}
	row, err := s.jobs.JobGet(t.Context(), jobs[0])
	if err != nil {
		t.Fatal(err)
	}
	return &river.Job[job.Reconcile]{JobRow: row, Args: job.Reconcile{SyncID: id}}
}

// end does with a job what River does after Work.
func (s *station) end(t *testing.T, row *rivertype.JobRow, err error) {
	t.Helper()
	var snooze *river.JobSnoozeError
	const running = ` WHERE id = $1 AND state = 'running'`
	switch {
	case err == nil:
		s.exec(t, `UPDATE river_job SET state = 'completed', finalized_at = now()`+running, row.ID)
	case errors.As(err, &snooze):
		s.exec(t, `UPDATE river_job SET state = 'available', scheduled_at = now() + $2::interval`+running, row.ID, snooze.Duration)
	default:
		s.exec(t, `UPDATE river_job SET state = 'retryable'`+running, row.ID)
	}
}

// work works one job of a sync.
func (s *station) work(t *testing.T, id uuid.UUID) {
	t.Helper()
	j := s.begin(t, id)
	err := s.Work(t.Context(), j)
	s.end(t, j.JobRow, err)
	if err != nil {
		t.Fatalf("work a sync: %v", err)
	}
}

// finish works a sync to its end, and returns how it went.
func (s *station) finish(t *testing.T, id uuid.UUID) Status {
	t.Helper()
	for range 200 {
		if st := s.status(t, id); st.Ended() {
			return st
		}
		s.work(t, id)
	}
	t.Fatalf("there is no end of it: %+v", s.status(t, id))
	return Status{}
}

// sync starts a sync, works it to its end, and expects it to complete.
func (s *station) sync(t *testing.T, kind string) Status {
	t.Helper()
	st := s.finish(t, s.start(t, kind))
	if st.State != Completed {
		t.Fatalf("the sync is %s: %s", st.State, st.LastError)
	}
	return st
}

func (s *station) status(t *testing.T, id uuid.UUID) Status {
	t.Helper()
	st, err := s.Status(t.Context(), id.String())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// process does with all events what the station of that name does when Zoho is
// connected.
func (s *station) process(t *testing.T) {
	t.Helper()
	s.exec(t, `
		INSERT INTO records (module, record_id, account_id, data, read_at, modified_at, updated_at)
		SELECT DISTINCT ON (e.module, e.record_id) e.module, e.record_id, 'a', r.data - '$read_at', (r.data->>'$read_at')::timestamptz,
		       (r.data->>'Modified_Time')::timestamptz, clock_timestamp()
		FROM events e JOIN event_bodies b ON b.event_id = e.id, LATERAL (SELECT convert_from(b.record, 'UTF8')::jsonb AS data) AS r
		WHERE e.status = 'received' AND r.data ? '$read_at'
		ORDER BY e.module, e.record_id, e.id DESC
		ON CONFLICT (module, record_id) DO UPDATE
		SET data = excluded.data, read_at = excluded.read_at, modified_at = excluded.modified_at, deleted_at = NULL, updated_at = excluded.updated_at`)
	s.exec(t, `UPDATE records r SET deleted_at = clock_timestamp(), read_at = clock_timestamp(), updated_at = clock_timestamp()
		FROM events e WHERE e.status = 'received' AND e.operation = 'delete' AND e.module = r.module AND e.record_id = r.record_id`)
	s.exec(t, `UPDATE events SET status = 'processed', account_id = 'a', revision = id, processed_at = clock_timestamp() WHERE status = 'received'`)
}

// know stores a record as if it had been read long ago.
func (s *station) know(t *testing.T, module, text string) {
	t.Helper()
	s.exec(t, `INSERT INTO records (module, record_id, account_id, data, read_at, updated_at, created_at)
		VALUES ($1, $2::jsonb->>'id', 'a', $2::jsonb, now() - interval '1 day', now() - interval '1 day', now() - interval '1 day')`, module, text)
}

// webhook stores an event that another source told us of.
func (s *station) webhook(t *testing.T, module, operation, id string, received time.Time) {
	t.Helper()
	s.exec(t, `INSERT INTO events (source, event_id, digest, module, operation, record_id, received_at, status, account_id, revision)
		VALUES ('zoho', $1, $2, $3, $4, $5, $6, 'processed', 'a', 1)`, uuid.NewString(), make([]byte, 32), module, operation, id, received)
}

// events are the events made here, in the order of their ids.
func (s *station) events(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT concat_ws(' ', operation, module, record_id) FROM events WHERE source = 'reconcile' ORDER BY id`)
}

// sorted are the events made here, in the order of what they say.
func (s *station) sorted(t *testing.T) []string {
	t.Helper()
	return slices.Sorted(slices.Values(s.events(t)))
}

func (s *station) counters(t *testing.T, names ...counter.Name) []int64 {
	t.Helper()
	values := make([]int64, len(names))
	for i, name := range names {
		values[i] = rows[int64](t, s.pool, `SELECT coalesce(sum(value), 0)::bigint FROM counters WHERE name = $1`, name)[0]
	}
	return values
}

func (s *station) exec(t *testing.T, query string, args ...any) int64 {
	t.Helper()
	tag, err := s.pool.Exec(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return tag.RowsAffected()
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

// contact is a record as Zoho lists it.
func contact(id, name string, modified time.Time) string {
	return fmt.Sprintf(`{"id":%q,"Last_Name":%q,"Modified_Time":%q}`, id, name, modified.UTC().Format(time.RFC3339))
}

// long ago, and far from all that counts as fresh.
func yesterday() time.Time { return time.Now().Add(-24 * time.Hour).Truncate(time.Second) }
