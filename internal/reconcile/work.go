package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/zoho"
)

const (
	// The waits for a Zoho that is away, or for a fault that nobody knows: doubled each time.
	leastWait = 5 * time.Second
	mostWait  = 5 * time.Minute
	// creditsWait is between two looks whether the day's credits are there again.
	creditsWait = 15 * time.Minute
	// longestWait bounds what Zoho may ask for.
	longestWait = time.Hour
	// backlogWait is between two looks whether there is room for more events.
	backlogWait = 2 * time.Second
	// giveUpAfter is how long a fault that is nobody's may keep a sync from going on.
	giveUpAfter = 24 * time.Hour
)

// slice is the work of one job.
type slice struct {
	sync  db.Sync
	jobID int64
	ends  time.Time

	total func() int64 // API requests so far
	calls atomic.Int64 // of them those that are counted

	mu  sync.Mutex
	err error // why it ends before its time
}

// takeCalls returns the API requests since it was last asked.
func (s *slice) takeCalls() int64 {
	now := s.total()
	return max(0, now-s.calls.Swap(now))
}

// stop ends the slice: what is under way goes on to its page's end.
func (s *slice) stop(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// That another works the sync is said before all else.
	if s.err == nil || errors.Is(err, errOvertaken) {
		s.err = err
	}
}

func (s *slice) stopped() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Timeout bounds one job: a slice, and what it has begun.
func (r *Reconciler) Timeout(*river.Job[job.Reconcile]) time.Duration { return jobTime }

// NextRetry is when a job runs again that was taken from its worker.
func (r *Reconciler) NextRetry(*river.Job[job.Reconcile]) time.Time {
	return r.o.Now().Add(time.Second)
}

// Work goes on with a sync where it stands, for some seconds, and sees to its
// next job. A sync that names another job is left alone. The failures of Zoho
// make it wait, for as long as they last; they are never its end.
func (r *Reconciler) Work(ctx context.Context, j *river.Job[job.Reconcile]) error {
	run, err := db.New(r.pool).GetSync(ctx, j.Args.SyncID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return r.later(ctx, j.Args.SyncID, fmt.Errorf("get sync: %w", err))
	case run.State != Running || run.JobID == nil || *run.JobID != j.ID:
		return nil
	}
	s := &slice{sync: run, jobID: j.ID, ends: r.o.Now().Add(r.slice), total: r.zoho.Calls}
	s.calls.Store(r.zoho.Calls())
	finished, err := r.goOn(ctx, s)
	switch {
	case ctx.Err() != nil:
		return ended(ctx)
	case errors.Is(err, errOvertaken), finished && err == nil:
		return nil
	}
	if err := r.handOver(ctx, s, err); err != nil && !errors.Is(err, errOvertaken) {
		return r.later(ctx, run.ID, err)
	}
	return nil
}

// later is what a job returns that the database keeps from its end: it is tried
// again, which costs no attempt.
func (r *Reconciler) later(ctx context.Context, id uuid.UUID, err error) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	r.o.Log.WarnContext(ctx, "sync waits for the database", "sync_id", id, "error", err)
	return river.JobSnooze(backlogWait)
}

// ended is what a job returns whose context has ended: by its time limit, or for
// a stop, when River gives it back as it was.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return river.JobSnooze(backlogWait)
	}
	return ctx.Err()
}

// goOn works a sync until it is finished, its time is up, or something keeps it.
func (r *Reconciler) goOn(ctx context.Context, s *slice) (finished bool, err error) {
	parts, err := r.parts(ctx, s)
	if err != nil {
		return false, err
	}
	if err := r.expect(ctx, s, parts); err != nil {
		return false, err
	}
	if parts, err = r.parts(ctx, s); err != nil {
		return false, err
	}
	for {
		due := turn(parts)
		if len(due) == 0 {
			break
		}
		r.sideBySide(ctx, s, due)
		if err := s.stopped(); err != nil || r.over(s) {
			return false, err
		}
		if parts, err = r.parts(ctx, s); err != nil {
			return false, err
		}
	}
	return r.conclude(ctx, s, parts)
}

func (r *Reconciler) over(s *slice) bool { return !r.o.Now().Before(s.ends) }

func (r *Reconciler) parts(ctx context.Context, s *slice) ([]db.SyncPart, error) {
	parts, err := db.New(r.pool).ListSyncParts(ctx, []uuid.UUID{s.sync.ID})
	if err != nil {
		return nil, fmt.Errorf("list parts of the sync: %w", err)
	}
	return parts, nil
}

// turn are the parts whose turn it is: all that are open, accounts only after
// all others.
func turn(parts []db.SyncPart) []db.SyncPart {
	open := slices.DeleteFunc(slices.Clone(parts), func(p db.SyncPart) bool { return closed(p) })
	if len(open) <= 1 {
		return open
	}
	return slices.DeleteFunc(open, func(p db.SyncPart) bool { return p.Module == accounts })
}

func closed(p db.SyncPart) bool { return p.Phase == phaseDone || p.Phase == phaseSkipped }

// sideBySide works parts, a few at a time. What keeps one of them stops all.
func (r *Reconciler) sideBySide(ctx context.Context, s *slice, parts []db.SyncPart) {
	var g errgroup.Group
	g.SetLimit(sideBySide)
	for i, p := range parts {
		// A slice that has no time at all still brings those that begin it a page on.
		if i >= sideBySide && (s.stopped() != nil || r.over(s)) {
			break
		}
		g.Go(func() error {
			if err := r.workPart(ctx, s, p); err != nil {
				s.stop(err)
			}
			return nil
		})
	}
	_ = g.Wait() // what went wrong stands in the slice
}

// workPart works a part page by page.
func (r *Reconciler) workPart(ctx context.Context, s *slice, p db.SyncPart) (err error) {
	defer func() {
		// It would end the program: nobody else recovers here.
		if fault := recover(); fault != nil {
			err = fmt.Errorf("panic in %s: %v", p.Module, fault)
		}
	}()
	for !closed(p) {
		if p, err = r.step(ctx, s, p); err != nil {
			return err
		}
		if s.stopped() != nil || r.over(s) {
			return nil
		}
	}
	return nil
}

// expect asks Zoho how many records there are, before anything else of a full
// sync is done, so that its progress can be told. Where Zoho does not say, it is not.
func (r *Reconciler) expect(ctx context.Context, s *slice, parts []db.SyncPart) error {
	if s.sync.Kind != Full || slices.ContainsFunc(parts, begun) {
		return nil
	}
	p := db.SetSyncExpectedParams{SyncID: s.sync.ID}
	for _, part := range parts {
		n, err := r.zoho.Count(ctx, part.Module)
		switch zoho.KindOf(err) {
		case zoho.KindForbidden, zoho.KindInvalid, zoho.KindTooLarge:
			continue
		}
		if broken(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("count %s: %w", part.Module, err)
		}
		p.Modules, p.Expected = append(p.Modules, part.Module), append(p.Expected, n)
	}
	return r.inSync(ctx, s, func(_ pgx.Tx, q *db.Queries, _ db.LockSyncRow) error {
		if err := q.SetSyncExpected(ctx, p); err != nil {
			return fmt.Errorf("say how many records there are: %w", err)
		}
		return nil
	})
}

func begun(p db.SyncPart) bool {
	return p.Phase != phaseRecords || p.Cursor != "" || p.AfterID != "" || p.Read > 0 || p.Expected > 0
}

// crowded reports whether events wait in such number that a sync must not add to them.
func (r *Reconciler) crowded() bool {
	return r.o.MaxBacklog > 0 && 2*r.counts.Backlog() > r.o.MaxBacklog
}

// handOver ends a job of a sync that is not at its end: it writes what the sync
// waits for, and inserts its next job.
func (r *Reconciler) handOver(ctx context.Context, s *slice, cause error) error {
	return r.inSync(ctx, s, func(tx pgx.Tx, q *db.Queries, run db.LockSyncRow) error {
		h := standstill(run, cause)
		if h.hopeless {
			return r.finish(ctx, tx, s, run, Failed, h.lastError)
		}
		if cause != nil {
			r.o.Log.WarnContext(ctx, "sync waits", "sync_id", run.ID, "kind", run.Kind, "for", h.waitsFor, "wait", h.wait, "error", cause)
		}
		due := run.Now.Add(h.wait)
		ids, err := lane.Ensure(ctx, tx, r.jobs, run.Now, []lane.Wake{{Due: due, Args: job.Reconcile{SyncID: run.ID}}})
		if err != nil {
			return err
		}
		p := db.HandOverSyncParams{
			ID: run.ID, JobID: ids[0], WaitsFor: h.waitsFor, Failures: h.failures, LastError: h.lastError, Calls: s.takeCalls(), KeepsTime: h.keepsTime,
		}
		if h.waitsFor != "" {
			p.WaitsUntil = due
		}
		if err := q.HandOverSync(ctx, p); err != nil {
			return fmt.Errorf("hand the sync over: %w", err)
		}
		return nil
	})
}

// still is why a sync stands still, and for how long.
type still struct {
	waitsFor  string // "": it goes on at once
	wait      time.Duration
	failures  int32
	lastError string
	// keepsTime leaves updated_at as it is: that is when the sync last went on, or
	// when a fault first kept it.
	keepsTime bool
	hopeless  bool
}

// standstill says what follows from what kept a sync; nil: nothing did, its time
// was up.
func standstill(run db.LockSyncRow, cause error) still {
	if cause == nil {
		return still{failures: run.Failures, lastError: run.LastError}
	}
	if errors.Is(cause, errBacklog) {
		return still{waitsFor: "events to be routed", wait: backlogWait, failures: run.Failures}
	}
	h := still{failures: run.Failures + 1, lastError: reason(cause), wait: backoff(run.Failures)}
	switch zoho.KindOf(cause) {
	case zoho.KindUnavailable:
		h.waitsFor = "Zoho, which does not answer"
		// One module that Zoho fails on is left out after a time.
		h.keepsTime = broken(cause) && run.Failures > 0
	case zoho.KindThrottled:
		h.waitsFor = "Zoho, which asks for fewer calls"
	case zoho.KindCreditsSpent:
		h.waitsFor, h.wait = "the day's API credits", creditsWait
	case zoho.KindUnauthorized:
		h.waitsFor = "Zoho to be connected anew"
	default:
		h.waitsFor, h.keepsTime = "a fault to pass", run.Failures > 0
		h.hopeless = run.Failures > 0 && run.Now.Sub(run.UpdatedAt) >= giveUpAfter
		return h
	}
	if asked := zoho.RetryAfter(cause); asked > 0 {
		h.wait = min(asked, longestWait)
	}
	return h
}

// backoff is how long to wait after so many failures before this one.
func backoff(failures int32) time.Duration {
	wait := leastWait
	for range min(failures, 10) {
		wait = min(2*wait, mostWait)
	}
	return wait
}

// maxReason bounds what is kept of an error, in bytes.
const maxReason = 500

// reason is an error as a row keeps it: short, and text that Postgres takes.
func reason(err error) string {
	text := cleanText(err.Error())
	if len(text) <= maxReason {
		return text
	}
	return strings.ToValidUTF8(text[:maxReason], "")
}
