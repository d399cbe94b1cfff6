package memory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// recentEvents is how many of an account's events are shown.
const recentEvents = 20

// Account is an account of the CRM as it is remembered.
type Account struct {
	ID     string `json:"id"`
	UserID string `json:"user_id"` // under which it is remembered
	// Overview is the memory of the account's own record; nil: none is known.
	Overview *Row `json:"overview"`
	// Memories are the others, what changed last first, at most MaxPage.
	Memories []Row `json:"memories"`
	// More says that there are others still: a list of the user's memories has all.
	More bool `json:"more"`
	// Relationships is how many lines of the graph there are.
	Relationships int64          `json:"relationships_count"`
	Events        []AccountEvent `json:"events"` // the newest first
}

// AccountEvent is something that the CRM told of an account.
type AccountEvent struct {
	ID         int64     `json:"id"`
	EventID    string    `json:"event_id"` // as its sender calls it
	Module     string    `json:"module"`
	Operation  string    `json:"operation"` // create, update, delete or restore
	RecordID   string    `json:"record_id"`
	Status     string    `json:"status"` // of its processing
	ReceivedAt time.Time `json:"received_at"`
}

// Account returns what is remembered about an account; ErrNotFound when nothing is
// known of it that the caller may see, for which it may see the account's user.
func (s *Store) Account(ctx context.Context, c Caller, accountID string) (Account, error) {
	a := Account{ID: accountID, UserID: UserOfAccount(accountID), Memories: []Row{}, Events: []AccountEvent{}}
	if checkText("id", accountID, MaxName) != nil || !c.May(a.UserID) {
		return Account{}, ErrNotFound
	}
	q := db.New(s.pool)
	var err error
	if a.Overview, err = overview(ctx, q, accountID); err != nil {
		return Account{}, err
	}
	if err := a.readMemories(ctx, q); err != nil {
		return Account{}, err
	}
	if a.Relationships, err = q.CountRelationshipsOfUser(ctx, a.UserID); err != nil {
		return Account{}, fmt.Errorf("count relationships: %w", err)
	}
	events, err := q.ListEventsOfAccount(ctx, db.ListEventsOfAccountParams{AccountID: accountID, MaxRows: recentEvents})
	if err != nil {
		return Account{}, fmt.Errorf("list events of account: %w", err)
	}
	for _, e := range events {
		a.Events = append(a.Events, AccountEvent(e))
	}
	if a.Overview == nil && len(a.Memories) == 0 && a.Relationships == 0 && len(a.Events) == 0 {
		return Account{}, ErrNotFound
	}
	return a, nil
}

// overview is the memory of the account's own record, nil where there is none.
func overview(ctx context.Context, q *db.Queries, accountID string) (*Row, error) {
	r, err := q.GetOverview(ctx, accountID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get overview of account: %w", err)
	}
	row, err := rowFrom(db.GetMemoryRow(r))
	if err != nil {
		return nil, err
	}
	return &row, nil
}

func (a *Account) readMemories(ctx context.Context, q *db.Queries) error {
	// Two more than are shown: the overview is left out, and one says that there are more.
	rows, err := q.ListMemoriesOfAccount(ctx, db.ListMemoriesOfAccountParams{AccountID: a.ID, MaxRows: MaxPage + 2})
	if err != nil {
		return fmt.Errorf("list memories of account: %w", err)
	}
	for _, r := range rows {
		if a.Overview != nil && r.ID == a.Overview.ID {
			continue
		}
		if len(a.Memories) == MaxPage {
			a.More = true
			break
		}
		row, err := rowFrom(db.GetMemoryRow(r))
		if err != nil {
			return err
		}
		a.Memories = append(a.Memories, row)
	}
	return nil
}

// UserOfLink returns whose a line of the graph is; ErrNotFound when there is none
// that the caller may see.
func (s *Store) UserOfLink(ctx context.Context, c Caller, id uuid.UUID) (string, error) {
	userID, err := db.New(s.pool).GetRelationshipUser(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && !c.May(userID)) {
		return "", ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("get relationship: %w", err)
	}
	return userID, nil
}
