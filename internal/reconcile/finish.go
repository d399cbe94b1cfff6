package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/zoho"
)

// wholeAccounts is how many accounts one transaction marks as read whole.
const wholeAccounts = 500

// heldPause is how long accounts are left to those that hold them.
const heldPause = 200 * time.Millisecond

// conclude ends a sync whose parts are closed: what could not be taken is tried
// again, accounts are marked as read, and those who asked are told.
func (r *Reconciler) conclude(ctx context.Context, s *slice, parts []db.SyncPart) (finished bool, err error) {
	if done, err := r.tryBroken(ctx, s); err != nil || !done {
		return false, err
	}
	skipped, reasons := 0, []string{}
	for _, p := range parts {
		if p.Phase == phaseSkipped {
			skipped++
		}
		if p.LastError != "" {
			reasons = append(reasons, p.Module+": "+p.LastError)
		}
	}
	state := Completed
	if len(parts) > 0 && skipped == len(parts) {
		state = Failed
	}
	if state == Completed && readsWhole(s.sync.Kind, parts) {
		if done, err := r.markWhole(ctx, s); err != nil || !done {
			return false, err
		}
	}
	err = r.inSync(ctx, s, func(tx pgx.Tx, _ *db.Queries, run db.LockSyncRow) error {
		return r.finish(ctx, tx, s, run, state, strings.Join(reasons, "; "))
	})
	return err == nil, err
}

// tryBroken reads records singly that could not be taken with their page. It
// reports whether it came to an end before the slice did.
func (r *Reconciler) tryBroken(ctx context.Context, s *slice) (done bool, err error) {
	q := db.New(r.pool)
	for {
		e, err := q.NextSyncError(ctx, db.NextSyncErrorParams{SyncID: s.sync.ID, MaxAttempts: tries})
		if errors.Is(err, pgx.ErrNoRows) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("look for records to be tried again: %w", err)
		}
		if err := r.tryAgain(ctx, s, e); err != nil {
			return false, err
		}
		if r.over(s) {
			return false, nil
		}
	}
}

// tryAgain reads one record and stores what it finds, or why it cannot.
func (r *Reconciler) tryAgain(ctx context.Context, s *slice, e db.NextSyncErrorRow) error {
	if r.crowded() {
		return errBacklog
	}
	readAt, err := db.New(r.pool).ReadClock(ctx)
	if err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	record, fault := r.zoho.Get(ctx, e.Module, e.RecordID)
	switch zoho.KindOf(fault) {
	case zoho.KindForbidden, zoho.KindInvalid, zoho.KindTooLarge:
	default:
		if fault != nil {
			return fmt.Errorf("read %s %s: %w", e.Module, e.RecordID, fault)
		}
	}
	var taken []listedRecord
	if fault == nil && record != nil {
		var l listedRecord
		if l, fault = take(record); fault == nil {
			l.cut = false // a record that is read singly has its texts whole
			taken = append(taken, l)
		}
	}
	gone := fault == nil && record == nil
	var stored int64
	err = r.inSync(ctx, s, func(tx pgx.Tx, q *db.Queries, run db.LockSyncRow) error {
		part, err := q.GetSyncPart(ctx, db.GetSyncPartParams{SyncID: run.ID, Module: e.Module})
		if err != nil {
			return fmt.Errorf("get part %s: %w", e.Module, err)
		}
		findings, err := findChanged(ctx, q, e.Module, readAt, taken)
		if gone {
			findings, err = findGone(ctx, q, e.Module, e.RecordID, run.ID)
		}
		if err != nil {
			return err
		}
		t, err := r.tell(ctx, tx, run, findings, readAt)
		if err != nil {
			return err
		}
		stored = t.stored()
		p := db.MarkSyncErrorParams{SyncID: run.ID, Module: e.Module, RecordID: e.RecordID, Attempts: e.Attempts, Resolved: fault == nil}
		if fault != nil {
			p.Error = reason(fault)
		}
		n, err := q.MarkSyncError(ctx, p)
		if err != nil {
			return fmt.Errorf("mark a sync error: %w", err)
		}
		if n == 0 {
			return errOvertaken
		}
		return advance(ctx, q, s, part, t)
	})
	if err == nil {
		r.counts.Settle(0, stored)
	}
	return err
}

// findGone returns the deletion of a record that Zoho does not have any more, if
// we take it for alive.
func findGone(ctx context.Context, q *db.Queries, module, id string, syncID uuid.UUID) ([]finding, error) {
	known, err := knownRecords(ctx, q, module, []string{id})
	if err != nil || known[id] == nil || known[id].DeletedAt != nil {
		return nil, err
	}
	return []finding{deletionOf(module, id, syncID.String(), time.Time{}, known[id].UpdatedAt)}, nil
}

// readsWhole reports whether a sync has read all that Zoho lets us read. A module
// that it broke off in is better read account by account.
func readsWhole(kind string, parts []db.SyncPart) bool {
	return kind == Full && !slices.ContainsFunc(parts, func(p db.SyncPart) bool { return p.Phase == phaseSkipped && p.Read > 0 })
}

// markWhole says of all accounts that they were read whole when the sync began.
// It reports whether it came to an end before the slice did.
func (r *Reconciler) markWhole(ctx context.Context, s *slice) (done bool, err error) {
	after := ""
	for {
		var ids []string
		left := false
		err := r.inSync(ctx, s, func(_ pgx.Tx, q *db.Queries, run db.LockSyncRow) (err error) {
			ids, err = q.MarkAccountsWhole(ctx, db.MarkAccountsWholeParams{WholeAt: run.StartedAt, AfterID: after, MaxAccounts: wholeAccounts})
			if err != nil {
				return fmt.Errorf("mark accounts as read whole: %w", err)
			}
			if len(ids) == wholeAccounts {
				return nil
			}
			if left, err = q.HasAccountsNotWhole(ctx, run.StartedAt); err != nil {
				return fmt.Errorf("look for accounts that were held: %w", err)
			}
			return nil
		})
		switch {
		case err != nil:
			return false, err
		case len(ids) == wholeAccounts:
			after = slices.Max(ids)
		case !left:
			return true, nil
		default:
			after = ""
			if err := pause(ctx, heldPause); err != nil {
				return false, err
			}
		}
		if r.over(s) {
			return false, nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish ends a sync, in tx, and tells whoever asked for it.
func (r *Reconciler) finish(ctx context.Context, tx pgx.Tx, s *slice, run db.LockSyncRow, state, lastError string) error {
	q := db.New(tx)
	err := q.FinishSync(ctx, db.FinishSyncParams{ID: run.ID, State: state, LastError: lastError, Calls: s.takeCalls()})
	if err != nil {
		return fmt.Errorf("finish the sync: %w", err)
	}
	parts, err := q.ListSyncParts(ctx, []uuid.UUID{run.ID})
	if err != nil {
		return fmt.Errorf("list parts of the sync: %w", err)
	}
	open, err := q.CountSyncErrors(ctx, []uuid.UUID{run.ID})
	if err != nil {
		return fmt.Errorf("count errors of the sync: %w", err)
	}
	data := memory.SyncData{SyncID: run.ID, Kind: run.Kind, Seconds: run.Now.Sub(run.StartedAt).Seconds(), Error: lastError}
	for _, p := range parts {
		data.Read, data.Changed, data.Gone, data.Missed = data.Read+p.Read, data.Changed+p.Changed, data.Gone+p.Gone, data.Missed+p.Missed
	}
	if len(open) > 0 {
		data.Errors = open[0].Open
	}
	name := memory.SyncCompleted
	if state == Failed {
		name = memory.SyncFailed
	}
	if _, err := r.teller.Tell(ctx, tx, []memory.Announcement{{Event: name, UserID: memory.SystemUser, Data: data}}); err != nil {
		return err
	}
	r.o.Log.InfoContext(ctx, "sync ended", "sync_id", run.ID, "kind", run.Kind, "state", state, "read", data.Read, "changed", data.Changed,
		"gone", data.Gone, "missed", data.Missed, "errors", data.Errors, "seconds", data.Seconds, "last_error", lastError)
	return nil
}
