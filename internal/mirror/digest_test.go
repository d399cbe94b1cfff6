package mirror

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
)

// fakeDigester runs as a test says.
type fakeDigester struct {
	mu       sync.Mutex
	started  int
	asked    int
	progress Progress
	err      error // of either call
	over     bool
}

func (f *fakeDigester) Start(context.Context) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.started++
	if f.err == nil {
		f.progress = ProgressRunning
	}
	return f.over, f.err
}

func (f *fakeDigester) Progress(context.Context) (Progress, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.progress, f.err
}

// digesting is a station whose remote works up what was copied.
func digesting(t *testing.T) (*station, *fakeDigester) {
	t.Helper()
	d := &fakeDigester{progress: ProgressNone}
	return newStation(t, func(o *Options) { o.Digester = d }), d
}

// step works the digest's job once, whatever time it waits for, and returns for how
// long it then is put off; 0: it has ended.
func (s *station) step(t *testing.T) time.Duration {
	t.Helper()
	s.exec(t, `UPDATE digests SET due_at = now() WHERE due_at > now()`)
	return s.tryStep(t)
}

func (s *station) tryStep(t *testing.T) time.Duration {
	t.Helper()
	id := one[int64](t, s, `SELECT coalesce(job_id, 0) FROM digests`)
	s.run(t, id)
	w := &digestWorker{m: s.m}
	err := w.Work(t.Context(), &river.Job[job.Cognify]{JobRow: &rivertype.JobRow{ID: id}, Args: job.Cognify{Backend: "cognee"}})
	s.end(t, id, err)
	var snooze *river.JobSnoozeError
	switch {
	case errors.As(err, &snooze):
		return snooze.Duration
	case err != nil:
		t.Fatalf("the worker returned %v", err)
	}
	return 0
}

func (s *station) wantDigest(t *testing.T, state string, waiting int64, lastError string) {
	t.Helper()
	d, err := digestState(t.Context(), db.New(s.pool), "cognee")
	if err != nil || d == nil || d.State != state || d.Waiting != waiting || d.LastError != lastError {
		t.Errorf("the digest is %+v, %v; want %s with %d waiting, %q", d, err, state, waiting, lastError)
	}
}

func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s is %s, want %s to %s", what, got, low, high)
	}
}

// dueIn is how long the digest waits.
func (s *station) dueIn(t *testing.T) time.Duration {
	t.Helper()
	return time.Duration(one[float64](t, s, `SELECT extract(epoch FROM due_at - now())::float8 FROM digests`) * float64(time.Second))
}

func TestARunFollowsTheLastChange(t *testing.T) {
	t.Parallel()
	s, d := digesting(t)
	s.copied(t, "one")
	s.wantDigest(t, "waiting", 1, "")
	between(t, "the wait", s.dueIn(t), 9*time.Second, 10*time.Second)
	between(t, "too early", s.tryStep(t), 4*time.Second, 5*time.Second)

	// Further changes put it off, and not for ever.
	s.exec(t, `UPDATE digests SET due_at = due_at - interval '8 seconds', changed_at = changed_at - interval '8 seconds'`)
	two := s.copied(t, "two")
	between(t, "the wait", s.dueIn(t), 9*time.Second, 10*time.Second)
	s.exec(t, `UPDATE digests SET changed_at = changed_at - interval '50 seconds'`)
	three := s.copied(t, "three")
	between(t, "the wait", s.dueIn(t), 0, 2*time.Second)
	s.wantDigest(t, "waiting", 3, "")

	// One run at a time; what changes meanwhile has another.
	between(t, "the first look", s.step(t), time.Second, 2*time.Second)
	s.wantDigest(t, "running", 3, "")
	s.remove(t, two)
	s.work(t, two)
	s.wantDigest(t, "running", 4, "")
	between(t, "the next look", s.step(t), time.Second, 2*time.Second)
	s.exec(t, `UPDATE digests SET started_at = started_at - interval '1 minute'`)
	between(t, "a later look", s.step(t), 14*time.Second, 15*time.Second)
	if d.started != 1 || d.asked != 2 {
		t.Errorf("started %d times, asked %d times", d.started, d.asked)
	}
	d.progress = ProgressCompleted
	between(t, "the wait for the next run", s.step(t), 9*time.Second, 10*time.Second)
	s.wantDigest(t, "waiting", 1, "")
	s.step(t)
	d.progress = ProgressCompleted
	if wait := s.step(t); wait != 0 {
		t.Errorf("the job waits for %s", wait)
	}
	s.wantDigest(t, "idle", 0, "")
	if d.started != 2 {
		t.Errorf("%d runs, want 2", d.started)
	}

	// It goes on with the next change, with a job of its own.
	d.over = true
	s.update(t, three, "four")
	s.work(t, three)
	s.wantDigest(t, "waiting", 1, "")
	if wait := s.step(t); wait != 0 {
		t.Errorf("a run that is over at once waits for %s", wait)
	}
	s.wantDigest(t, "idle", 0, "")
}

// What changes nothing there is nothing to work up.
func TestNothingIsWorkedUpWhereNothingChanged(t *testing.T) {
	t.Parallel()
	s, _ := digesting(t)
	r := s.add(t, "one")
	s.f.Refuse("one")
	s.work(t, r)
	s.remove(t, r)
	s.work(t, r)
	if n := one[int](t, s, `SELECT count(*) FROM digests`); n != 0 {
		t.Error("a run is due")
	}
	plain := newStation(t)
	plain.copied(t, "one")
	if n := one[int](t, plain, `SELECT count(*) FROM digests`); n != 0 {
		t.Error("a run is due where nobody runs")
	}
}

func TestARunThatErrsIsTriedAgain(t *testing.T) {
	t.Parallel()
	s, d := digesting(t)
	s.copied(t, "one")
	s.step(t)
	d.progress = ProgressErrored
	between(t, "the wait", s.step(t), 30*time.Second, 30*time.Second)
	s.wantDigest(t, "retrying", 1, errRun.Error())
	s.copied(t, "two") // does not hasten it
	between(t, "the wait", s.dueIn(t), 29*time.Second, 30*time.Second)
	d.err = &memory.RemoteError{Kind: memory.RemoteRefused, Message: "no datasets"}
	between(t, "the second wait", s.step(t), time.Minute, time.Minute)
	s.wantDigest(t, "retrying", 2, "refused: no datasets")
	s.exec(t, `UPDATE digests SET failures = 400`)
	between(t, "the last wait", s.step(t), time.Hour, time.Hour)
	d.err = nil
	s.step(t)
	d.progress = ProgressCompleted
	s.step(t)
	s.wantDigest(t, "idle", 0, "")
	if n := one[int](t, s, `SELECT failures FROM digests`); n != 0 {
		t.Errorf("%d failures", n)
	}
}

// The program died between asking for a run and writing that down.
func TestARunWhoseBeginningIsNotKnown(t *testing.T) {
	t.Parallel()
	s, d := digesting(t)
	s.copied(t, "one")
	for _, under := range []bool{true, false} {
		s.exec(t, `UPDATE digests SET state = 'starting', taken = wanted, due_at = NULL, started_at = now()`)
		d.started, d.progress = 0, ProgressCompleted // of the run before
		if under {
			d.progress = ProgressRunning
		}
		s.step(t)
		s.wantDigest(t, "running", 1, "")
		if (d.started == 0) != under {
			t.Errorf("under way: %t; begun %d times", under, d.started)
		}
	}
}

// An outage in the middle of a run is not the run's.
func TestAnOutageDuringARun(t *testing.T) {
	t.Parallel()
	s, d := digesting(t)
	s.copied(t, "one")
	s.step(t)
	d.err = &memory.RemoteError{Kind: memory.RemoteUnavailable, Message: "down"}
	between(t, "the wait", s.step(t), 14*time.Second, 15*time.Second)
	s.wantDigest(t, "running", 1, "unavailable: down")
	s.outage(t)
	asked := d.asked
	between(t, "the wait for the breaker", s.step(t), 6*time.Second, 8*time.Second)
	if d.asked != asked {
		t.Error("asked although the breaker is open")
	}
	s.over(t)
	d.err, d.progress = nil, ProgressCompleted
	s.step(t)
	s.wantDigest(t, "idle", 0, "")

	// One of which nothing is heard for hours has died.
	s.copied(t, "two")
	s.step(t)
	s.exec(t, `UPDATE digests SET started_at = now() - interval '3 hours'`)
	s.step(t)
	s.wantDigest(t, "retrying", 1, errLost.Error())
}

func TestAnotherJobDoesNothingForTheDigest(t *testing.T) {
	t.Parallel()
	s, d := digesting(t)
	s.copied(t, "one")
	s.exec(t, `UPDATE digests SET due_at = now()`)
	w := &digestWorker{m: s.m}
	for name, j := range map[string]*river.Job[job.Cognify]{
		"another job":     {JobRow: &rivertype.JobRow{ID: 4711}, Args: job.Cognify{Backend: "cognee"}},
		"another backend": {JobRow: &rivertype.JobRow{ID: 4712}, Args: job.Cognify{Backend: "mem0"}},
	} {
		if err := w.Work(t.Context(), j); err != nil || d.started+d.asked > 0 {
			t.Errorf("%s: %v, %d calls", name, err, d.started+d.asked)
		}
	}
	s.wantDigest(t, "waiting", 1, "")
}
