package lane

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/job"
)

func newHere(t *testing.T, pool *pgxpool.Pool, room int) *Here {
	t.Helper()
	h := NewHere(pool, uuid.New(), room, func() bool { return room < 0 }, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() { h.Stop(context.Background()) })
	return h
}

// claimed makes the job of a lane that h works.
func claimed(t *testing.T, pool *pgxpool.Pool, h *Here, account string) int64 {
	t.Helper()
	c := h.Claim(false)
	ids, err := ensure(t, pool, jobs(t, pool), time.Now(), Wake{Due: time.Now().Add(-time.Second), Args: job.SyncAccount{AccountID: account}, Claim: c})
	if err != nil {
		t.Fatal(err)
	}
	if c.JobID == 0 || c.JobID != ids[0] {
		t.Fatalf("claimed job %d, made job %d", c.JobID, ids[0])
	}
	return c.JobID
}

func TestClaim(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Microsecond)
	for _, tt := range []struct {
		name    string
		job     string // state of the job that the lane has; "": none
		due     time.Time
		room    int
		behind  bool
		claimed bool
		want    string // state of its job afterwards
	}{
		{"a lane that is due", "", now, 1, false, true, "running"},
		{"one whose job is over", "completed", now, 1, false, true, "running"},
		{"one that is due later", "", now.Add(time.Minute), 1, false, false, "available"},
		{"no room", "", now, 0, false, false, "available"},
		{"a queue that is paused", "", now, -1, false, false, "available"},
		{"half of the room for one that stands behind", "", now, 2, true, true, "running"},
		{"no half of the room for it", "", now, 1, true, false, "available"},
		{"one whose job waits", "available", now, 1, false, false, "available"},
		{"one whose job runs", "running", now, 1, false, false, "running"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			client := jobs(t, pool)
			w := Wake{Due: tt.due, Args: job.SyncAccount{AccountID: "77"}, Claim: newHere(t, pool, tt.room).Claim(tt.behind)}
			if tt.job != "" {
				id := insert(t, client, "77")
				exec(t, pool, `UPDATE river_job SET state = $1::river_job_state, finalized_at = CASE WHEN $1 = 'completed' THEN now() END`, tt.job)
				w.JobID = &id
			}
			ids, err := ensure(t, pool, client, now, w)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.Claim.JobID == ids[0]; got != tt.claimed {
				t.Errorf("claimed: %t, want %t", got, tt.claimed)
			}
			if got := read(t, pool, ids[0]).State; got != tt.want {
				t.Errorf("its job is %s, want %s", got, tt.want)
			}
		})
	}
}

// A claimed job is what the queue would have made of it, and handed to this process.
func TestClaimedJobIsLikeOneOfTheQueue(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	h := newHere(t, pool, 1)
	insert(t, jobs(t, pool), "77")
	claimed(t, pool, h, "77")
	// What the queue does with the first.
	exec(t, pool, `UPDATE river_job SET state = 'running', attempt = attempt + 1, attempted_at = now(), attempted_by = array_append(attempted_by, $1)
		WHERE state = 'available'`, h.process.String())
	rows, err := pool.Query(t.Context(), `SELECT to_jsonb(j) - ARRAY['id', 'created_at', 'scheduled_at', 'attempted_at'] FROM river_job j ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[json.RawMessage])
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		t.Fatalf("%d jobs, want 2", len(all))
	}
	if diff := cmp.Diff(string(all[0]), string(all[1])); diff != "" {
		t.Errorf("(-of the queue +claimed):\n%s", diff)
	}
}

func TestClaimsAnswerInTheOrderOfTheLanes(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	h := newHere(t, pool, 1)
	due := time.Now().Add(-time.Second)
	var wakes []Wake
	for i, account := range []string{"5", "1", "4", "2", "3"} {
		w := Wake{Due: due, Args: job.SyncAccount{AccountID: account}}
		if i%2 == 0 {
			w.Claim = h.Claim(false)
		}
		wakes = append(wakes, w)
	}
	ids, err := ensure(t, pool, jobs(t, pool), time.Now(), wakes...)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range wakes {
		var account string
		if err := pool.QueryRow(t.Context(), `SELECT args ->> 'account_id' FROM river_job WHERE id = $1`, ids[i]).Scan(&account); err != nil {
			t.Fatal(err)
		}
		if want := w.Args.(job.SyncAccount).AccountID; account != want {
			t.Errorf("job %d is of account %s, want %s", ids[i], account, want)
		}
	}
}

// errWorld is why a lane's work could not be done.
var errWorld = errors.New("the world is away")

func TestBegin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		work func(context.Context, *db.Queries, int64) error
		want string
	}{
		{"work that ends its job", func(ctx context.Context, q *db.Queries, id int64) error { return q.CompleteJobs(ctx, []int64{id}) }, "completed"},
		{"work that finds nothing to do", func(context.Context, *db.Queries, int64) error { return ErrNothing }, "completed"},
		{"work that fails", func(context.Context, *db.Queries, int64) error { return errWorld }, "available"},
		{"work that panics", func(context.Context, *db.Queries, int64) error { panic("no") }, "available"},
		{"work that lasts too long", func(ctx context.Context, _ *db.Queries, _ int64) error { <-ctx.Done(); return ctx.Err() }, "available"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			h := newHere(t, pool, 1)
			id := claimed(t, pool, h, "77")
			began := time.Now()
			timeout := time.Minute
			if tt.name == "work that lasts too long" {
				timeout = time.Millisecond
			}
			h.Begin(id, timeout, func(ctx context.Context) error { return tt.work(ctx, db.New(pool), id) })
			h.Wait()
			got := read(t, pool, id)
			if got.State != tt.want {
				t.Errorf("the job is %s, want %s", got.State, tt.want)
			}
			if tt.want == "available" && got.ScheduledAt.Before(began) {
				t.Errorf("it runs again at %v, before it failed", got.ScheduledAt)
			}
			if !h.Claim(false).Ready() {
				t.Error("there is no room for others afterwards")
			}
		})
	}
}

// One that was rescued meanwhile is another's: its failure here says nothing.
func TestJobOfAnotherIsNotGivenBack(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	h := newHere(t, pool, 1)
	id := claimed(t, pool, h, "77")
	h.Begin(id, time.Minute, func(context.Context) error {
		exec(t, pool, `UPDATE river_job SET attempted_by = '{another}'`)
		return errWorld
	})
	h.Wait()
	if got := read(t, pool, id).State; got != "running" {
		t.Errorf("the job is %s, want running", got)
	}
}

func TestRoom(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	h := newHere(t, pool, 2)
	first, second := claimed(t, pool, h, "1"), claimed(t, pool, h, "2")
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	for _, id := range []int64{first, second} {
		if !h.Claim(false).Ready() {
			t.Fatalf("no room for job %d", id)
		}
		h.Begin(id, time.Minute, func(context.Context) error { <-gate; return ErrNothing })
	}
	if h.Claim(false).Ready() {
		t.Error("there is room for a third")
	}
	open()
	h.Wait()
	if !h.Claim(false).Ready() {
		t.Error("there is no room when all has ended")
	}
}

// Stop lets what is at work end, and cuts it off when its own time is up.
func TestStop(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	h := newHere(t, pool, 1)
	id := claimed(t, pool, h, "77")
	began := make(chan struct{})
	h.Begin(id, time.Minute, func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.Stop(ctx)
	if got := read(t, pool, id).State; got != "available" {
		t.Errorf("the job is %s, want available", got)
	}
}
