// Package admin is what operators do: look at rows, run events again, decide
// about dead letters. In go decisions with the name of who made them, out come
// changed rows, fresh jobs, and a line in audit_log in the same transaction.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("not found")
	// ErrNotFinal is returned for an event that is still being worked.
	ErrNotFinal = errors.New("is still being worked: only what has ended can be run again")
	// ErrNotDead is returned for a letter that nobody has to decide about.
	ErrNotDead = errors.New("is not dead")
	// ErrNoBody is returned for an event whose body retention has removed.
	ErrNoBody = errors.New("cannot be run again: its body is no longer stored")
	// ErrBodyGone is returned for a body that retention has removed.
	ErrBodyGone = errors.New("its body is no longer stored")
	// ErrLetter is returned for an id that names no dead letter.
	ErrLetter = errors.New("want event/ID or delivery/ID")
)

// Admin acts for operators.
type Admin struct {
	pool  *pgxpool.Pool
	jobs  lane.Inserter
	retry RetryDelivery
}

// RetryDelivery opens a dead delivery again, in tx, and wakes its endpoint:
// outbound knows how. It returns pgx.ErrNoRows when the delivery is not dead.
type RetryDelivery func(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, deliveryID int64) error

// New makes an Admin. jobs may be a client that works none.
func New(pool *pgxpool.Pool, jobs lane.Inserter, retry RetryDelivery) *Admin {
	return &Admin{pool: pool, jobs: jobs, retry: retry}
}

// Actor is who did something, and in which request.
type Actor struct {
	Name      string
	RequestID string // "" outside of one
}

// Replay runs a final event again: the same row, as it was when it arrived. It
// returns ErrNotFound, ErrNotFinal or ErrNoBody, and then changed nothing.
func (a *Admin) Replay(ctx context.Context, who Actor, eventID int64, reason string) (uuid.UUID, error) {
	replay := uuid.Must(uuid.NewV7())
	err := a.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := a.reset(ctx, tx, eventID, replay, false); err != nil {
			return err
		}
		return audit(ctx, tx, who, "event.replay", fmt.Sprintf("event/%d", eventID), map[string]any{"replay_id": replay, "reason": reason})
	})
	return replay, err
}

// reset makes the event as new and inserts its job.
func (a *Admin) reset(ctx context.Context, tx pgx.Tx, eventID int64, replay uuid.UUID, onlyDead bool) error {
	q := db.New(tx)
	row, err := q.ResetEvent(ctx, db.ResetEventParams{ID: eventID, OnlyDead: onlyDead})
	if errors.Is(err, pgx.ErrNoRows) {
		return a.whyNot(ctx, q, eventID, onlyDead)
	}
	if err != nil {
		return fmt.Errorf("reset event %d: %w", eventID, err)
	}
	hasBody, err := q.HasEventBody(ctx, eventID)
	if err != nil {
		return fmt.Errorf("look for the body of event %d: %w", eventID, err)
	}
	if !hasBody {
		return fmt.Errorf("event %d %w", eventID, ErrNoBody)
	}
	if err := q.InsertEventRun(ctx, db.InsertEventRunParams{EventID: eventID, ReplayID: replay}); err != nil {
		return fmt.Errorf("insert event run: %w", err)
	}
	if _, err := a.jobs.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: job.ProcessEvent{EventID: eventID}}}); err != nil {
		return fmt.Errorf("insert job: %w", err)
	}
	changes := counter.Changes{counter.Backlog: 1}
	if row.WasDead {
		changes[counter.Dead] = -1
	}
	return counter.AddOnce(ctx, tx, changes)
}

// whyNot says why an event was not reset.
func (a *Admin) whyNot(ctx context.Context, q *db.Queries, eventID int64, onlyDead bool) error {
	_, err := q.GetEvent(ctx, eventID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("event %d %w", eventID, ErrNotFound)
	case err != nil:
		return fmt.Errorf("get event %d: %w", eventID, err)
	case onlyDead:
		return fmt.Errorf("event %d %w", eventID, ErrNotDead)
	}
	return fmt.Errorf("event %d %w", eventID, ErrNotFinal)
}

// Letter names a dead letter.
type Letter struct {
	Kind string // event or delivery
	ID   int64
}

// ParseLetter reads "event/42" or "delivery/7"; ErrLetter otherwise.
func ParseLetter(s string) (Letter, error) {
	kind, id, _ := strings.Cut(s, "/")
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || (kind != "event" && kind != "delivery") {
		return Letter{}, fmt.Errorf("%q: %w", s, ErrLetter)
	}
	return Letter{Kind: kind, ID: n}, nil
}

// String is what ParseLetter reads.
func (l Letter) String() string { return l.Kind + "/" + strconv.FormatInt(l.ID, 10) }

// RetryDead gives a dead letter all its attempts again. It returns ErrNotDead,
// ErrNotFound or ErrNoBody, and then changed nothing.
func (a *Admin) RetryDead(ctx context.Context, who Actor, l Letter) error {
	return a.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		if l.Kind == "event" {
			err = a.reset(ctx, tx, l.ID, uuid.Must(uuid.NewV7()), true)
		} else if err = a.retry(ctx, tx, a.jobs, l.ID); errors.Is(err, pgx.ErrNoRows) {
			err = fmt.Errorf("%s %w", l, ErrNotDead)
		}
		if err != nil {
			return err
		}
		return audit(ctx, tx, who, "dead.retry", l.String(), nil)
	})
}

// DiscardDead decides that a dead letter needs no more. It returns ErrNotDead,
// also for what is not there, and then changed nothing.
func (a *Admin) DiscardDead(ctx context.Context, who Actor, l Letter, reason string) error {
	return a.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		if l.Kind == "event" {
			_, err = q.DiscardEvent(ctx, l.ID)
		} else {
			_, err = q.DiscardDelivery(ctx, l.ID)
		}
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%s %w", l, ErrNotDead)
		}
		if err != nil {
			return fmt.Errorf("discard %s: %w", l, err)
		}
		if l.Kind == "event" {
			if err := counter.AddOnce(ctx, tx, counter.Changes{counter.Dead: -1}); err != nil {
				return err
			}
		}
		return audit(ctx, tx, who, "dead.discard", l.String(), map[string]any{"reason": reason})
	})
}

func (a *Admin) inTx(ctx context.Context, do func(context.Context, pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error { return do(ctx, tx) })
}

func audit(ctx context.Context, tx pgx.Tx, who Actor, action, object string, details map[string]any) error {
	if details == nil {
		details = map[string]any{}
	}
	encoded, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("encode audit details: %w", err)
	}
	err = db.New(tx).InsertAudit(ctx, db.InsertAuditParams{Actor: who.Name, Action: action, Object: object, Details: encoded, RequestID: who.RequestID})
	if err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	return nil
}
