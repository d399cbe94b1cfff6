package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
)

// overlap is how far an incremental sync looks back behind the start of the one
// before: clocks differ, and Zoho does not show a change at once.
const overlap = 10 * time.Minute

// Actor is who asked for something, and in which request.
type Actor struct {
	Name      string
	RequestID string // "" outside of one
}

// Start starts a sync of a kind. When one is active it returns that one's id and
// true. An incremental sync before any other has completed becomes a full one,
// for there is nothing that changes could be held against.
func (r *Reconciler) Start(ctx context.Context, kind string, who Actor) (id uuid.UUID, already bool, err error) {
	var begun started
	err = r.inTx(ctx, func(tx pgx.Tx) (err error) {
		if begun, err = r.start(ctx, tx, kind, who.Name); err != nil || begun.already {
			return err
		}
		return audit(ctx, tx, who, "sync.start", "sync/"+begun.id.String(), map[string]any{"kind": begun.kind})
	})
	return begun.id, begun.already, err
}

// started is a sync that was started, or that one which is active already.
type started struct {
	id      uuid.UUID
	kind    string
	already bool
}

// start makes the rows of a sync and its job, in tx.
func (r *Reconciler) start(ctx context.Context, tx pgx.Tx, kind, by string) (started, error) {
	if len(r.modules) == 0 {
		return started{}, ErrNoModules
	}
	q := db.New(tx)
	before, err := q.NewestCompletedSync(ctx)
	first := errors.Is(err, pgx.ErrNoRows)
	if err != nil && !first {
		return started{}, fmt.Errorf("look for the sync before: %w", err)
	}
	p := db.InsertSyncParams{ID: uuid.Must(uuid.NewV7()), Kind: kind, RequestedBy: by, CountsMissed: !first}
	switch {
	case kind == Incremental && first:
		p.Kind = Full
	case kind == Incremental:
		p.Since = before.StartedAt.Add(-overlap)
	}
	id, err := q.InsertSync(ctx, p)
	if errors.Is(err, pgx.ErrNoRows) {
		active, err := q.GetActiveSync(ctx, p.Kind)
		if err != nil {
			// Only when it has ended just now: whoever asks again gets a new one.
			return started{}, fmt.Errorf("get the active sync: %w", err)
		}
		return started{id: active.ID, kind: active.Kind, already: true}, nil
	}
	if err != nil {
		return started{}, fmt.Errorf("insert sync: %w", err)
	}
	if err := q.InsertSyncParts(ctx, db.InsertSyncPartsParams{SyncID: id, Modules: r.modules}); err != nil {
		return started{}, fmt.Errorf("insert the parts of the sync: %w", err)
	}
	return started{id: id, kind: p.Kind}, r.giveJob(ctx, tx, id)
}

// giveJob inserts a job of a sync, which any other of its jobs is to leave alone.
func (r *Reconciler) giveJob(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	inserted, err := r.jobs.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: job.Reconcile{SyncID: id}}})
	if err != nil {
		return fmt.Errorf("insert job: %w", err)
	}
	if err := db.New(tx).SetSyncJob(ctx, db.SetSyncJobParams{ID: id, JobID: inserted[0].Job.ID}); err != nil {
		return fmt.Errorf("set the sync's job: %w", err)
	}
	return nil
}

// Pause stops a sync for the time being, after the page that is under way. which
// is its id, or its kind: then the active one's. It returns the sync's id, and
// ErrNotFound, ErrEnded or ErrNotRunning.
func (r *Reconciler) Pause(ctx context.Context, which string, who Actor) (uuid.UUID, error) {
	return r.change(ctx, which, who, "sync.pause", ErrNotRunning, func(_ pgx.Tx, q *db.Queries, id uuid.UUID) error {
		_, err := q.PauseSync(ctx, id)
		return err
	})
}

// Resume lets a paused sync go on where it stands. It returns the sync's id, and
// ErrNotFound, ErrEnded or ErrNotPaused.
func (r *Reconciler) Resume(ctx context.Context, which string, who Actor) (uuid.UUID, error) {
	return r.change(ctx, which, who, "sync.resume", ErrNotPaused, func(tx pgx.Tx, q *db.Queries, id uuid.UUID) error {
		if _, err := q.ResumeSync(ctx, id); err != nil {
			return err
		}
		return r.giveJob(ctx, tx, id)
	})
}

// Cancel ends a sync for good; what it found is worked. It returns the sync's id,
// and ErrNotFound or ErrEnded.
func (r *Reconciler) Cancel(ctx context.Context, which string, who Actor) (uuid.UUID, error) {
	return r.change(ctx, which, who, "sync.cancel", ErrEnded, func(_ pgx.Tx, q *db.Queries, id uuid.UUID) error {
		_, err := q.CancelSync(ctx, id)
		return err
	})
}

// change does something to a sync that has not ended. do returns pgx.ErrNoRows
// when the sync is not in a state for it, which then is refused.
func (r *Reconciler) change(ctx context.Context, which string, who Actor, action string, refused error, do func(pgx.Tx, *db.Queries, uuid.UUID) error) (uuid.UUID, error) {
	var id uuid.UUID
	err := r.inTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		run, err := lookUp(ctx, q, which)
		if err != nil {
			return err
		}
		id = run.ID
		locked, err := q.LockSync(ctx, id)
		if err != nil {
			return fmt.Errorf("lock sync: %w", err)
		}
		if locked.State != Running && locked.State != Paused {
			return fmt.Errorf("sync %s: %w", id, ErrEnded)
		}
		if err := do(tx, q, id); errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("sync %s: %w", id, refused)
		} else if err != nil {
			return fmt.Errorf("%s %s: %w", action, id, err)
		}
		return audit(ctx, tx, who, action, "sync/"+id.String(), nil)
	})
	return id, err
}

// lookUp finds a sync by its id, or the active one of a kind.
func lookUp(ctx context.Context, q *db.Queries, which string) (db.Sync, error) {
	var run db.Sync
	var err error
	if which == Full || which == Incremental {
		run, err = q.GetActiveSync(ctx, which)
	} else {
		id, parseErr := uuid.Parse(which)
		if parseErr != nil {
			return run, fmt.Errorf("%q: %w", which, ErrNotFound)
		}
		run, err = q.GetSync(ctx, id)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return run, fmt.Errorf("%q: %w", which, ErrNotFound)
	}
	if err != nil {
		return run, fmt.Errorf("get sync: %w", err)
	}
	return run, nil
}

// SyncAccounts asks for a read of whole accounts: their records and all that
// hangs on them. The accounts' lanes do it; AccountReads says how far they are.
// Ids that cannot be an account's are ErrAccountID, and then nothing is asked.
func (r *Reconciler) SyncAccounts(ctx context.Context, ids []string, who Actor) error {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	for _, id := range ids {
		if id == "" || strings.Trim(id, "0123456789") != "" || len(id) > maxID {
			return fmt.Errorf("%q %w", id, ErrAccountID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		// One by one: whoever holds one account must not wait for another.
		if err := r.inTx(ctx, func(tx pgx.Tx) error { return r.askWhole(ctx, tx, id, who) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) askWhole(ctx context.Context, tx pgx.Tx, id string, who Actor) error {
	q := db.New(tx)
	if _, err := q.InsertAccounts(ctx, []string{id}); err != nil {
		return fmt.Errorf("insert account %s: %w", id, err)
	}
	if err := q.AskAccountWhole(ctx, id); err != nil {
		return fmt.Errorf("ask for the whole account %s: %w", id, err)
	}
	if _, err := r.jobs.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: job.WakeAccount{AccountID: id}}}); err != nil {
		return fmt.Errorf("insert job: %w", err)
	}
	return audit(ctx, tx, who, "sync.account", "account/"+id, nil)
}

func (r *Reconciler) inTx(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, r.pool, do)
}

// audit writes down who did what, in the transaction of what they did.
func audit(ctx context.Context, tx pgx.Tx, who Actor, action, object string, details map[string]any) error {
	if details == nil {
		details = map[string]any{}
	}
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("render the details of %s: %w", action, err)
	}
	err = db.New(tx).InsertAudit(ctx, db.InsertAuditParams{Actor: who.Name, Action: action, Object: object, Details: text, RequestID: who.RequestID})
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}
