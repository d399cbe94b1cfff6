package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// Status is a sync as people see it.
type Status struct {
	ID          uuid.UUID  `json:"id"`
	Kind        string     `json:"kind"`
	State       string     `json:"state"`
	RequestedBy string     `json:"requested_by"`
	Since       *time.Time `json:"since"` // nil: everything is looked at
	// Percent is how far it is; 100 only when it has completed.
	Percent int `json:"percent"`
	// SecondsLeft is a guess by the time that it took so far; nil: there is none.
	SecondsLeft *int64     `json:"seconds_left"`
	Expected    int64      `json:"expected"` // records, as Zoho counts them; 0: not known
	Read        int64      `json:"read"`     // records looked at
	Changed     int64      `json:"changed"`  // of them: not as we knew them
	Gone        int64      `json:"gone"`     // known to us and gone at Zoho's
	Missed      int64      `json:"missed"`   // changed or gone, and no webhook had told
	OpenErrors  int64      `json:"open_errors"`
	Calls       int64      `json:"calls"` // API requests
	WaitsFor    string     `json:"waits_for"`
	WaitsUntil  *time.Time `json:"waits_until"`
	LastError   string     `json:"last_error"`
	StartedAt   time.Time  `json:"started_at"`
	UpdatedAt   time.Time  `json:"updated_at"` // when it last went on
	FinishedAt  *time.Time `json:"finished_at"`
	Parts       []Part     `json:"parts"`
	// Errors are at most a hundred of the records that could not be taken; only in
	// the answer for a single sync.
	Errors []RecordError `json:"errors,omitempty"`
}

// Ended reports whether nothing more will happen.
func (s Status) Ended() bool { return s.State != Running && s.State != Paused }

// Part is one module of a sync.
type Part struct {
	Module    string `json:"module"`
	Phase     string `json:"phase"` // records, deleted, done or skipped
	Expected  int64  `json:"expected"`
	Read      int64  `json:"read"`
	Changed   int64  `json:"changed"`
	Gone      int64  `json:"gone"`
	Missed    int64  `json:"missed"`
	LastError string `json:"last_error"`
}

// RecordError is a record that could not be taken.
type RecordError struct {
	Module     string     `json:"module"`
	RecordID   string     `json:"record_id"`
	Error      string     `json:"error"`
	Attempts   int32      `json:"attempts"`
	ResolvedAt *time.Time `json:"resolved_at"` // nil: it still cannot be
}

const (
	maxErrors = 100
	// maxList bounds how many syncs a list shows.
	maxList = 1000
)

// Status returns one sync: by its id, or by its kind the active one. It returns
// ErrNotFound when there is none.
func (r *Reconciler) Status(ctx context.Context, which string) (Status, error) {
	q := db.New(r.pool)
	run, err := lookUp(ctx, q, which)
	if err != nil {
		return Status{}, err
	}
	all, err := r.statuses(ctx, q, []db.Sync{run})
	if err != nil {
		return Status{}, err
	}
	errs, err := q.ListSyncErrors(ctx, db.ListSyncErrorsParams{SyncID: run.ID, MaxErrors: maxErrors})
	if err != nil {
		return Status{}, fmt.Errorf("list errors of the sync: %w", err)
	}
	for _, e := range errs {
		all[0].Errors = append(all[0].Errors, RecordError{
			Module: e.Module, RecordID: e.RecordID, Error: e.Error, Attempts: e.Attempts, ResolvedAt: e.ResolvedAt,
		})
	}
	return all[0], nil
}

// List returns syncs, newest first.
func (r *Reconciler) List(ctx context.Context, limit int) ([]Status, error) {
	q := db.New(r.pool)
	runs, err := q.ListSyncs(ctx, int32(min(max(limit, 1), maxList)))
	if err != nil {
		return nil, fmt.Errorf("list syncs: %w", err)
	}
	return r.statuses(ctx, q, runs)
}

func (r *Reconciler) statuses(ctx context.Context, q *db.Queries, runs []db.Sync) ([]Status, error) {
	ids := make([]uuid.UUID, len(runs))
	for i, run := range runs {
		ids[i] = run.ID
	}
	rows, err := q.ListSyncParts(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list parts of syncs: %w", err)
	}
	counts, err := q.CountSyncErrors(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("count errors of syncs: %w", err)
	}
	parts, open := map[uuid.UUID][]db.SyncPart{}, map[uuid.UUID]int64{}
	for _, row := range rows {
		parts[row.SyncID] = append(parts[row.SyncID], row)
	}
	for _, c := range counts {
		open[c.SyncID] = c.Open
	}
	all := make([]Status, len(runs))
	for i, run := range runs {
		all[i] = statusOf(run, parts[run.ID], r.o.Now())
		all[i].OpenErrors = open[run.ID]
	}
	return all, nil
}

func statusOf(run db.Sync, parts []db.SyncPart, now time.Time) Status {
	s := Status{
		ID: run.ID, Kind: run.Kind, State: run.State, RequestedBy: run.RequestedBy, Since: run.Since, Calls: run.Calls,
		WaitsFor: run.WaitsFor, WaitsUntil: run.WaitsUntil, LastError: run.LastError,
		StartedAt: run.StartedAt, UpdatedAt: run.UpdatedAt, FinishedAt: run.FinishedAt, Parts: []Part{},
	}
	for _, p := range parts {
		s.Parts = append(s.Parts, Part{
			Module: p.Module, Phase: p.Phase, Expected: p.Expected, Read: p.Read, Changed: p.Changed, Gone: p.Gone, Missed: p.Missed, LastError: p.LastError,
		})
		s.Expected, s.Read = s.Expected+p.Expected, s.Read+p.Read
		s.Changed, s.Gone, s.Missed = s.Changed+p.Changed, s.Gone+p.Gone, s.Missed+p.Missed
	}
	if run.State == Completed {
		s.Percent = 100
		return s
	}
	share := progress(run.Kind, parts)
	s.Percent = min(int(100*share), 99)
	if elapsed := now.Sub(run.StartedAt).Seconds(); run.State == Running && run.WaitsUntil == nil && share > 0.01 && elapsed > 0 {
		left := int64(math.Ceil(elapsed / share * (1 - share)))
		s.SecondsLeft = &left
	}
	return s
}

// progress is the share of a sync that is done, from 0 to 1: of the records that
// Zoho counts; where it does not, of the modules.
func progress(kind string, parts []db.SyncPart) float64 {
	var done, all, closedParts float64
	for _, p := range parts {
		if closed(p) {
			closedParts++
			done, all = done+float64(p.Read), all+float64(p.Read)
			continue
		}
		done, all = done+float64(min(p.Read, p.Expected)), all+float64(p.Expected)
	}
	switch {
	case kind == Full && all > 0:
		return done / all
	case len(parts) > 0:
		return closedParts / float64(len(parts))
	default:
		return 0
	}
}

// lag is how much older than its time the newest completed sync may be.
const lag = time.Hour

// Staleness says when the sync that completed last did so, and how old what it
// saw is. It is stale when scheduled syncs should have brought something newer by
// now. Before the first has completed, lastSuccess is zero and the age counts
// from when the first one started.
func (r *Reconciler) Staleness(ctx context.Context) (lastSuccess time.Time, age time.Duration, stale bool, err error) {
	q := db.New(r.pool)
	since := time.Time{}
	newest, err := q.NewestCompletedSync(ctx)
	switch {
	case err == nil:
		since = newest.StartedAt
		if newest.FinishedAt != nil {
			lastSuccess = *newest.FinishedAt
		}
	case errors.Is(err, pgx.ErrNoRows):
		since, err = q.OldestSync(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			return time.Time{}, 0, false, nil
		}
	}
	if err != nil {
		return time.Time{}, 0, false, fmt.Errorf("look for the newest completed sync: %w", err)
	}
	age = max(0, r.o.Now().Sub(since))
	return lastSuccess, age, r.tooOld(age), nil
}

func (r *Reconciler) tooOld(age time.Duration) bool {
	if r.o.IncrementalEvery > 0 {
		return age > r.o.IncrementalEvery+lag
	}
	_, daily := r.fullMoment(r.o.Now())
	return daily && age > 24*time.Hour+lag
}

// AccountRead is how far the read of a whole account is.
type AccountRead struct {
	AccountID string `json:"account_id"`
	// WholeAt is when the read began that ended last; nil: none has, or one was asked for since.
	WholeAt   *time.Time `json:"whole_at"`
	Since     *time.Time `json:"since"` // when the one began that is under way; nil: none is
	LastError string     `json:"last_error"`
}

// AccountReads says of accounts how far the read of each is, in the order of
// their ids. One that nobody has heard of is left out.
func (r *Reconciler) AccountReads(ctx context.Context, ids []string) ([]AccountRead, error) {
	rows, err := db.New(r.pool).ListAccountReads(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list reads of accounts: %w", err)
	}
	reads := make([]AccountRead, len(rows))
	for i, row := range rows {
		reads[i] = AccountRead{AccountID: row.AccountID, WholeAt: row.WholeAt, Since: row.WholeSince, LastError: row.LastError}
	}
	return reads, nil
}

// SomebodyWorks reports whether a process is alive that works jobs: without one
// no sync goes on.
func (r *Reconciler) SomebodyWorks(ctx context.Context) (bool, error) {
	n, err := db.New(r.pool).CountWorkingProcesses(ctx, 10*time.Second)
	if err != nil {
		return false, fmt.Errorf("count processes that work: %w", err)
	}
	return n > 0, nil
}
