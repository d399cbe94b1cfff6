package process

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
)

// A sync takes at most so many events and bytes of records at a time; what is
// left is the lane's next job, so that a huge account neither fills memory nor
// keeps a worker from others.
const (
	maxTakenEvents = 100
	maxTakenBytes  = 1 << 20
)

// claim asks for what a lane has to do.
type claim struct {
	accountID string
	jobID     int64
}

// taken is what a lane's job has to do now.
type taken struct {
	mine   bool      // false: the lane names another job, this one has nothing to do
	notYet time.Time // not zero: the lane is not due before
	now    time.Time // the database's
	upTo   int64     // the lane's wanted when its work was taken
	cut    bool      // there is more than was taken
	events []Event
	// whole is the read of the whole account that is due besides; nil: none is.
	whole *wholeRead
}

// take is the transaction in which lanes' jobs take what is due: from here on
// they answer for it. A job whose first attempt took it already takes it again.
func (s *Syncer) take(ctx context.Context, tx pgx.Tx, _ int, units []claim) ([]group.Answer[taken], error) {
	q := db.New(tx)
	ids := map[string]bool{}
	for _, u := range units {
		ids[u.accountID] = true
	}
	rows, err := q.LockAccounts(ctx, sortedKeys(ids))
	if err != nil {
		return nil, fmt.Errorf("lock accounts: %w", err)
	}
	lanes := make(map[string]*accountLane, len(rows))
	var now time.Time
	for _, r := range rows {
		lanes[r.AccountID], now = newLane(r), r.Now
	}
	answers := make([]group.Answer[taken], len(units))
	due := map[string]bool{} // once each, also when two attempts of a job meet in one group
	for i, u := range units {
		l, ok := lanes[u.accountID]
		switch {
		case !ok:
			// Held by another transaction, or not there: the next try tells, for a
			// lane is never deleted while it has a job.
			answers[i].Err = group.ErrHeld
		case l.jobID == nil || *l.jobID != u.jobID:
		case l.due != nil && l.due.After(now):
			answers[i].Value = taken{mine: true, now: now, notYet: *l.due}
		default:
			answers[i].Value = taken{mine: true, now: now, upTo: l.wanted}
			due[u.accountID] = true
		}
	}
	if len(due) == 0 {
		return answers, nil
	}
	accountIDs := sortedKeys(due)
	if err := q.TakeAccounts(ctx, accountIDs); err != nil {
		return nil, fmt.Errorf("take accounts: %w", err)
	}
	work, err := listWork(ctx, q, accountIDs)
	if err != nil {
		return nil, err
	}
	for i, u := range units {
		if v := &answers[i].Value; v.mine && v.notYet.IsZero() {
			v.events, v.cut = work[u.accountID].events, work[u.accountID].cut
			for n := range v.events {
				// This transaction may have begun before the event was routed that it finds.
				v.events[n].TakenAt = later(v.now, v.events[n].RoutedAt)
			}
		}
	}
	if s.reads == nil {
		return answers, nil
	}
	return answers, s.planWhole(ctx, q, units, lanes, answers)
}

type laneWork struct {
	events []Event
	cut    bool
}

func listWork(ctx context.Context, q *db.Queries, accountIDs []string) (map[string]laneWork, error) {
	rows, err := q.ListLaneEvents(ctx, db.ListLaneEventsParams{AccountIds: accountIDs, MaxEvents: maxTakenEvents, MaxBytes: maxTakenBytes})
	if err != nil {
		return nil, fmt.Errorf("list lane events: %w", err)
	}
	work := map[string]laneWork{}
	for _, r := range rows {
		w := work[r.AccountID]
		e := Event{
			ID: r.ID, Source: r.Source, AccountID: r.AccountID, Revision: r.Revision, Module: r.Module, Operation: r.Operation, RecordID: r.RecordID,
			ReceivedAt: r.ReceivedAt, Failures: int(r.Failures), Record: r.Record,
		}
		if r.OccurredAt != nil {
			e.OccurredAt = *r.OccurredAt
		}
		if r.RoutedAt != nil {
			e.RoutedAt = *r.RoutedAt
		}
		w.events, w.cut = append(w.events, e), w.cut || r.Cut
		work[r.AccountID] = w
	}
	return work, nil
}
