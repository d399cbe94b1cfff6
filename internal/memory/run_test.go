package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

func TestStart(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run, err := o.runs.Start(t.Context(), clerk(), Optimize, "ada", false)
	if err != nil {
		t.Fatal(err)
	}
	want := Run{ID: run.ID, Kind: Optimize, UserID: "ada", State: RunQueued, CreatedAt: run.CreatedAt}
	if diff := cmp.Diff(want, run); diff != "" || run.CreatedAt.IsZero() {
		t.Errorf("started (-want +got):\n%s", diff)
	}
	got, err := o.runs.Get(t.Context(), clerk(), run.ID)
	if diff := cmp.Diff(run, got); err != nil || diff != "" {
		t.Errorf("what was answered and what is there, %v (-answered +there):\n%s", err, diff)
	}
	if text := encoded(t, run.Progress); text != `{"done":0,"total":0}` {
		t.Errorf("progress before it began: %s", text)
	}
	if jobs := o.texts(t, `SELECT j.kind || ' ' || j.queue || ' ' || j.args::text FROM river_job j JOIN memory_runs r ON r.job_id = j.id`); !cmp.Equal(jobs,
		[]string{fmt.Sprintf(`run_memory memory {"run_id": "%s"}`, run.ID)}) {
		t.Errorf("jobs: %q", jobs)
	}
	again, err := o.runs.Start(t.Context(), clerk(), Optimize, "ada", false)
	if err != nil || again.ID != run.ID {
		t.Errorf("one like it waits, and %s was started beside it, %v", again.ID, err)
	}
	for name, other := range map[string]Run{
		"a dry run":       o.ask(t, Optimize, "ada", true),
		"another kind":    o.ask(t, GraphBuild, "ada", false),
		"of another user": o.ask(t, Optimize, "bob", false),
	} {
		if other.ID == run.ID {
			t.Errorf("%s is the same run", name)
		}
	}
	o.work(t, run.ID)
	if next := o.ask(t, Optimize, "ada", false); next.ID == run.ID {
		t.Error("a run that has ended was started once more")
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for name, tc := range map[string]struct {
		kind, userID string
		dryRun       bool
		field        string
	}{
		"another kind":   {"compress", "ada", false, "kind"},
		"a dry build":    {GraphBuild, "ada", true, "dry_run"},
		"no user":        {Optimize, "", false, "user_id"},
		"somebody else":  {Optimize, "bob", false, ""},
		"a NUL":          {Optimize, "a\x00", false, "user_id"},
		"another's, dry": {Optimize, "bob", true, ""},
	} {
		_, err := o.runs.Start(t.Context(), clerk(), tc.kind, tc.userID, tc.dryRun)
		var wrong *Invalid
		switch {
		case tc.field == "" && !errors.Is(err, ErrNotFound):
			t.Errorf("%s: %v, want not found", name, err)
		case tc.field != "" && (!errors.As(err, &wrong) || wrong.Field != tc.field):
			t.Errorf("%s: %v, want a word about %s", name, err, tc.field)
		}
	}
	if n := o.texts(t, `SELECT id::text FROM memory_runs UNION ALL SELECT id::text FROM river_job`); len(n) > 0 {
		t.Errorf("%d rows were stored", len(n))
	}
	bobs := o.ask(t, Optimize, "bob", false)
	for _, id := range []uuid.UUID{bobs.ID, uuid.New()} {
		if _, err := o.runs.Get(t.Context(), clerk(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("get of another's run or none: %v", err)
		}
	}
}

func TestStartUnderAKey(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	c := clerk()
	c.Key, c.Digest = "k1", [32]byte{1}
	first, err := o.runs.Start(t.Context(), c, Optimize, "ada", false)
	if err != nil {
		t.Fatal(err)
	}
	o.work(t, first.ID)
	second, err := o.runs.Start(t.Context(), c, Optimize, "ada", false)
	if diff := cmp.Diff(first, second); err != nil || diff != "" {
		t.Errorf("the same question, %v (-first +second):\n%s", err, diff)
	}
	other := c
	other.Digest = [32]byte{2}
	if _, err := o.runs.Start(t.Context(), other, GraphBuild, "ada", false); !errors.Is(err, ErrKeyReused) {
		t.Errorf("another question under the key: %v", err)
	}
	other.Actor = "token/other"
	if run, err := o.runs.Start(t.Context(), other, Optimize, "ada", false); err != nil || run.ID == first.ID {
		t.Errorf("somebody else's key: %v", err)
	}
	if n := o.texts(t, `SELECT id::text FROM memory_runs`); len(n) != 2 {
		t.Errorf("%d runs", len(n))
	}
}

func TestStartsAtOneTime(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	var mu sync.Mutex
	ids := map[uuid.UUID]bool{}
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			c := clerk()
			if i%2 == 0 {
				c.Key = "k"
			}
			run, err := o.runs.Start(t.Context(), c, Optimize, "ada", false)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[run.ID] = true
		})
	}
	all.Wait()
	if n := o.texts(t, `SELECT id::text FROM river_job`); len(ids) != 1 || len(n) != 1 {
		t.Errorf("%d runs, %d jobs, want one", len(ids), len(n))
	}
}

// The last statement of a start fails: there is neither run nor job nor key.
func TestStartLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$`)
	o.exec(t, `CREATE TRIGGER refuse BEFORE UPDATE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION refuse()`)
	c := clerk()
	c.Key = "k"
	if _, err := o.runs.Start(t.Context(), c, Optimize, "ada", false); err == nil {
		t.Fatal("it was started all the same")
	}
	if n := o.texts(t, `SELECT id::text FROM memory_runs UNION ALL SELECT id::text FROM river_job UNION ALL SELECT key FROM idempotency_keys`); len(n) > 0 {
		t.Errorf("left behind: %q", n)
	}
}

// A job that its run does not name, or that comes after the end, changes nothing.
func TestAStaleJob(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.remember(t, Row{Content: "likes tea"})
	o.remember(t, Row{Content: "likes tea"})
	run := o.ask(t, Optimize, "ada", false)
	stale := o.job(t, run.ID)
	o.exec(t, `UPDATE memory_runs SET job_id = job_id + 1`)
	before := o.everything(t)
	state := o.texts(t, `SELECT r::text FROM memory_runs r`)
	if err := o.runner.Work(t.Context(), stale); err != nil {
		t.Errorf("a job that was overtaken: %v", err)
	}
	if diff := cmp.Diff(before, o.everything(t)); diff != "" {
		t.Errorf("it changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(state, o.texts(t, `SELECT r::text FROM memory_runs r`)); diff != "" {
		t.Errorf("it changed the run (-before +after):\n%s", diff)
	}
	last := o.job(t, run.ID)
	o.work(t, run.ID)
	before = o.everything(t)
	for _, j := range []int64{stale.ID, last.ID} {
		again := *last
		row := *last.JobRow
		row.ID, again.JobRow = j, &row
		if err := o.runner.Work(t.Context(), &again); err != nil {
			t.Errorf("a job after the end: %v", err)
		}
	}
	if diff := cmp.Diff(before, o.everything(t)); diff != "" {
		t.Errorf("a job after the end changed (-before +after):\n%s", diff)
	}
	last.Args.RunID = uuid.New()
	if err := o.runner.Work(t.Context(), last); err != nil {
		t.Errorf("a job of no run: %v", err)
	}
}

// Two workers that hold the same job at the same time do the work of one.
func TestTwoWorkersOfOneRun(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.runner.page = 5
	for i := range 60 {
		o.remember(t, Row{Content: fmt.Sprintf("likes tea no %d", i%30)})
	}
	run := o.ask(t, Optimize, "ada", false)
	j := o.job(t, run.ID)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := o.runner.Work(t.Context(), j); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if diff := cmp.Diff(&OptimizedData{Before: 60, After: 30, Removed: 30, Merged: 30}, o.get(t, run.ID).Progress.Optimized); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if told := o.told(t); len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
	if n := o.texts(t, `SELECT id::text FROM memory_history WHERE operation = 'deleted'`); len(n) != 30 {
		t.Errorf("%d in the history", len(n))
	}
}

// When its turn is over a run gets another job, behind those of others.
func TestARunTakesTurns(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.runner.turn = 0
	o.remember(t, Row{Content: "likes tea"})
	run := o.ask(t, Optimize, "ada", false)
	jobs := map[int64]bool{}
	for o.get(t, run.ID).EndedAt == nil {
		j := o.job(t, run.ID)
		if jobs[j.ID] {
			t.Fatal("it has the same job again")
		}
		jobs[j.ID] = true
		if err := o.runner.Work(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	if n := o.texts(t, `SELECT id::text FROM river_job WHERE kind = 'run_memory'`); len(jobs) < 4 || len(n) != len(jobs) {
		t.Errorf("%d turns and %d jobs", len(jobs), len(n))
	}
}

// What a slice holds may be at fault: after some tries the run has failed, and that
// is told once.
func TestARunThatCannotGoOn(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.remember(t, Row{Content: "likes tea"})
	o.remember(t, Row{Content: "likes tea"})
	o.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by the test' USING ERRCODE = '22000'; END $$`)
	o.exec(t, `CREATE TRIGGER refuse BEFORE DELETE ON memories FOR EACH ROW EXECUTE FUNCTION refuse()`)
	run := o.ask(t, Optimize, "ada", false)
	if err := o.runner.Work(t.Context(), o.job(t, run.ID)); err != nil {
		t.Fatal(err)
	}
	is := o.get(t, run.ID)
	if is.State != RunRunning || is.LastError == "" || is.Progress.Optimized.Removed != 0 {
		t.Errorf("after the first failure: %+v", is)
	}
	if due := o.texts(t, `SELECT (j.scheduled_at > now() + interval '1 s')::text FROM memory_runs r JOIN river_job j ON j.id = r.job_id`); !cmp.Equal(due, []string{"true"}) {
		t.Errorf("it waits: %q", due)
	}
	is = o.work(t, run.ID)
	if is.State != RunFailed || is.LastError == "" {
		t.Errorf("in the end: %+v", is)
	}
	if diff := cmp.Diff([]string{"likes tea", "likes tea"}, o.contents(t, "ada")); diff != "" {
		t.Errorf("memories (-want +got):\n%s", diff)
	}
	want := fmt.Sprintf(`memory_error ada {"operation":"optimize","error":%s,"items_count":0}`, encoded(t, is.LastError))
	if diff := cmp.Diff([]string{want}, o.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// What is the database's fault is nobody's failure, for a day.
func TestARunWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.remember(t, Row{Content: "likes tea"})
	o.remember(t, Row{Content: "likes tea"})
	o.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by the test' USING ERRCODE = '53100'; END $$`)
	o.exec(t, `CREATE TRIGGER refuse BEFORE DELETE ON memories FOR EACH ROW EXECUTE FUNCTION refuse()`)
	run := o.ask(t, Optimize, "ada", false)
	for range 2 * runFailures {
		if err := o.runner.Work(t.Context(), o.job(t, run.ID)); err != nil {
			t.Fatal(err)
		}
	}
	if is := o.get(t, run.ID); is.State != RunRunning || is.LastError == "" {
		t.Errorf("while the disk is full: %+v", is)
	}
	o.exec(t, `DROP TRIGGER refuse ON memories`)
	if is := o.work(t, run.ID); is.State != RunCompleted || is.LastError != "" || is.Progress.Optimized.Merged != 1 {
		t.Errorf("afterwards: %+v", is)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	other := o.ask(t, Optimize, "bob", false)
	if err := o.runner.Work(stopped, o.job(t, other.ID)); !errors.Is(err, context.Canceled) {
		t.Errorf("a stop: %v", err)
	}
	o.exec(t, `UPDATE memory_runs SET updated_at = now() - interval '25 hours', failures = $2 WHERE id = $1`, other.ID, runFailures-1)
	o.exec(t, `CREATE TRIGGER refuse BEFORE UPDATE OF phase ON memory_runs FOR EACH ROW WHEN (new.phase <> '') EXECUTE FUNCTION refuse()`)
	if is := o.work(t, other.ID); is.State != RunFailed {
		t.Errorf("after a day: %+v", is)
	}
}

func TestMend(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	mend := func() int {
		t.Helper()
		n := 0
		err := pgx.BeginFunc(t.Context(), o.pool, func(tx pgx.Tx) (err error) {
			n, err = o.runs.Mend(t.Context(), tx, 100)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	waits, lost, discarded, ended := o.ask(t, Optimize, "a", false), o.ask(t, Optimize, "b", false), o.ask(t, GraphBuild, "c", false), o.ask(t, Optimize, "d", false)
	o.work(t, ended.ID)
	o.exec(t, `DELETE FROM river_job WHERE id = $1`, o.job(t, lost.ID).ID)
	o.exec(t, `UPDATE river_job SET state = 'discarded', finalized_at = now() WHERE id = $1`, o.job(t, discarded.ID).ID)
	was := o.job(t, waits.ID).ID
	if n := mend(); n != 2 {
		t.Errorf("mended %d, want 2", n)
	}
	if n := mend(); n != 0 {
		t.Errorf("mended %d once more", n)
	}
	if is := o.job(t, waits.ID).ID; is != was {
		t.Error("a run whose job lives got another")
	}
	for _, run := range []Run{waits, lost, discarded} {
		if is := o.work(t, run.ID); is.State != RunCompleted {
			t.Errorf("%+v", is)
		}
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	old, young, open := o.ask(t, Optimize, "a", false), o.ask(t, Optimize, "b", false), o.ask(t, Optimize, "c", false)
	o.work(t, old.ID)
	o.work(t, young.ID)
	o.exec(t, `UPDATE memory_runs SET ended_at = now() - interval '91 days' WHERE id = $1`, old.ID)
	o.exec(t, `UPDATE memory_runs SET created_at = now() - interval '91 days' WHERE id = $1`, open.ID)
	err := pgx.BeginFunc(t.Context(), o.pool, func(tx pgx.Tx) error {
		if n, err := o.runs.Forget(t.Context(), tx, 100); err != nil || n != 1 {
			return fmt.Errorf("forgot %d, %w", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if left := o.texts(t, `SELECT user_id FROM memory_runs ORDER BY 1`); !cmp.Equal(left, []string{"b", "c"}) {
		t.Errorf("left: %q", left)
	}
}
