package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
)

// station is a Mirror on a database of its own, with a remote in memory. Nothing
// works by itself: a test begins jobs by hand, as River does, and moves the time.
type station struct {
	pool   *pgxpool.Pool
	jobs   *river.Client[pgx.Tx]
	writer *memory.Writer
	f      *fake
	m      *Mirror
}

func newStation(t *testing.T, change ...func(*Options)) *station {
	t.Helper()
	pool := dbtest.New(t)
	o := optionsOf(t, "cognee")
	o.Random = func() float64 { return 0.5 }
	for _, c := range change {
		c(&o)
	}
	f, jobs := newFake(), clientOn(t, pool)
	return &station{pool: pool, jobs: jobs, writer: writerOn(t, pool, o.Backend), f: f, m: New(pool, jobs, f, o)}
}

// node is another process on the same database with the same remote.
func (s *station) node(t *testing.T) *Mirror {
	t.Helper()
	return New(s.pool, s.jobs, s.f, s.m.o)
}

func fact(text string) *memory.Row {
	return &memory.Row{ID: uuid.Must(uuid.NewV7()), UserID: "user-1", Kind: "fact", Content: text, Metadata: map[string]any{}}
}

func saying(r *memory.Row, text string) *memory.Row {
	changed := *r
	changed.Content = text
	return &changed
}

func (s *station) write(t *testing.T, changes ...memory.Change) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		return s.writer.Write(t.Context(), tx, memory.Work{Changes: changes})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// add writes a memory that says text.
func (s *station) add(t *testing.T, text string) *memory.Row {
	t.Helper()
	r := fact(text)
	s.write(t, memory.Change{After: r})
	return r
}

// copied writes a memory and has it copied.
func (s *station) copied(t *testing.T, text string) *memory.Row {
	t.Helper()
	r := s.add(t, text)
	s.work(t, r)
	s.wantLane(t, r, "synced")
	s.f.asked()
	return r
}

// update has r say text, and returns it so.
func (s *station) update(t *testing.T, r *memory.Row, text string) *memory.Row {
	t.Helper()
	changed := saying(r, text)
	s.write(t, memory.Change{Before: r, After: changed})
	return changed
}

func (s *station) remove(t *testing.T, r *memory.Row) {
	t.Helper()
	s.write(t, memory.Change{Before: r})
}

// begin hands the lane's one job to a worker, as River does.
func (s *station) begin(t *testing.T, r *memory.Row) *river.Job[job.SyncMemory] {
	t.Helper()
	return s.run(t, one[int64](t, s, `SELECT coalesce(job_id, 0) FROM mirrors WHERE memory_id = $1`, r.ID))
}

// run hands a job to a worker. One that runs already runs once more, as after a rescue.
func (s *station) run(t *testing.T, id int64) *river.Job[job.SyncMemory] {
	t.Helper()
	if n := s.exec(t, `UPDATE river_job SET state = 'running', attempt = attempt + 1, attempted_at = now()
		WHERE id = $1 AND state IN ('available', 'retryable', 'running', 'scheduled')`, id); n != 1 {
		t.Fatalf("job %d is not live", id)
	}
	row, err := s.jobs.JobGet(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	j := &river.Job[job.SyncMemory]{JobRow: row}
	if err := json.Unmarshal(row.EncodedArgs, &j.Args); err != nil {
		t.Fatal(err)
	}
	return j
}

// end does with a job what River does after Work.
func (s *station) end(t *testing.T, id int64, err error) {
	t.Helper()
	var snooze *river.JobSnoozeError
	switch {
	case err == nil:
		s.exec(t, `UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = $1 AND state = 'running'`, id)
	case errors.As(err, &snooze):
		s.exec(t, `UPDATE river_job SET state = 'available', scheduled_at = now() + $2::interval WHERE id = $1 AND state = 'running'`, id, snooze.Duration)
	default:
		s.exec(t, `UPDATE river_job SET state = 'retryable' WHERE id = $1 AND state = 'running'`, id)
	}
}

// work works the lane's one job, whatever time it waits for.
func (s *station) work(t *testing.T, r *memory.Row) {
	t.Helper()
	s.hasten(t)
	j := s.begin(t, r)
	err := s.m.Work(t.Context(), j)
	s.end(t, j.ID, err)
	if err != nil {
		t.Fatalf("the worker returned %v", err)
	}
}

// settle works everything until nothing is left to do.
func (s *station) settle(t *testing.T) {
	t.Helper()
	for range 50 {
		s.hasten(t)
		ids := column[uuid.UUID](t, s, `SELECT memory_id FROM mirrors WHERE status IN ('pending', 'retrying') ORDER BY memory_id`)
		if len(ids) == 0 {
			return
		}
		for _, id := range ids {
			s.work(t, &memory.Row{ID: id})
		}
	}
	t.Fatal("there is no end of work")
}

// hasten lets the time pass that lanes wait for.
func (s *station) hasten(t *testing.T) {
	t.Helper()
	s.exec(t, `UPDATE mirrors SET due_at = now() WHERE due_at > now()`)
}

// wantLane compares how a lane stands, and that it has a live job just when it is open.
func (s *station) wantLane(t *testing.T, r *memory.Row, want string) {
	t.Helper()
	got := column[string](t, s, `SELECT m.status || CASE WHEN m.adding_since IS NOT NULL THEN ', adding' ELSE '' END FROM mirrors m WHERE memory_id = $1`, r.ID)
	if want == "" && len(got) == 0 {
		return
	}
	if len(got) != 1 || got[0] != want {
		t.Errorf("the lane is %q, want %q", got, want)
	}
	if diff := column[string](t, s, `
		SELECT format('%s: due %s, job %s is %s', m.status, m.due_at, m.job_id, j.state) FROM mirrors m LEFT JOIN river_job j ON j.id = m.job_id
		WHERE (m.status IN ('pending', 'retrying')) <> coalesce(j.state IN ('available', 'running', 'scheduled', 'retryable'), false)`); len(diff) > 0 {
		t.Errorf("lanes and jobs: %v", diff)
	}
}

// wantCopies compares what the remote has, in any order.
func (s *station) wantCopies(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, c := range s.f.Copies() {
		got = append(got, c.Text)
	}
	less := func(a, b string) bool { return a < b }
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(less), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("copies (-want +got):\n%s", diff)
	}
}

func (s *station) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.f.asked(), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func (s *station) exec(t *testing.T, query string, args ...any) int64 {
	t.Helper()
	tag, err := s.pool.Exec(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	return tag.RowsAffected()
}

func column[T any](t *testing.T, s *station, query string, args ...any) []T {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	return all
}

func one[T any](t *testing.T, s *station, query string, args ...any) T {
	t.Helper()
	all := column[T](t, s, query, args...)
	if len(all) != 1 {
		t.Fatalf("%d rows, want 1\n%s", len(all), query)
	}
	return all[0]
}

// aside runs do beside the test and returns its answer when asked for it.
func aside[T any](do func() T) func() T {
	answer := make(chan T, 1)
	go func() { answer <- do() }()
	return func() T { return <-answer }
}

// arrives waits for a call that stands still.
func arrives(t *testing.T, at <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-at:
	case <-ctx.Done():
		t.Fatal("waited a minute in vain for a call")
	}
}
