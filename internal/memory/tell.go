package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// Announcement is a webhook that tells of something.
type Announcement struct {
	Event     string // "": nobody is told
	UserID    string
	Data      any
	RequestID string // of the request that was the cause; "": the webhook's own id
}

// SystemUser is the user_id of what is told of the program itself.
const SystemUser = "system"

// Sender is what webhooks say of who sends them.
type Sender struct {
	Source     string // "memrelay" unless set
	BotVersion string
}

// Teller stores webhooks in the outbox, with the job that relays them.
type Teller struct {
	jobs   lane.Inserter
	sender Sender
	now    func() time.Time
	newID  func() uuid.UUID
}

// NewTeller makes a Teller.
func NewTeller(jobs lane.Inserter, sender Sender, now func() time.Time) *Teller {
	return &Teller{jobs: jobs, sender: sender, now: now, newID: newID}
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// Tell stores, in tx, those webhooks that an endpoint asks for, in the order given,
// with one job that relays whatever waits. It returns the ids of those it stored, by
// their position.
func (t *Teller) Tell(ctx context.Context, tx pgx.Tx, all []Announcement) (map[int]uuid.UUID, error) {
	if !slices.ContainsFunc(all, func(a Announcement) bool { return a.Event != "" }) {
		return nil, nil
	}
	q := db.New(tx)
	names, err := q.ListWantedEvents(ctx)
	if err != nil {
		return nil, fmt.Errorf("list wanted events: %w", err)
	}
	told := map[int]uuid.UUID{}
	var p db.InsertOutboxParams
	now := t.now()
	for i, a := range all {
		if a.Event == "" || !wants(names, a.Event) {
			continue
		}
		id := t.newID()
		payload, err := t.render(id, a, now)
		if err != nil {
			return nil, err
		}
		told[i] = id
		p.Ids = append(p.Ids, id)
		p.Events = append(p.Events, a.Event)
		p.UserIds = append(p.UserIds, a.UserID)
		p.Payloads = append(p.Payloads, payload)
	}
	if len(p.Ids) == 0 {
		return told, nil
	}
	if err := q.InsertOutbox(ctx, p); err != nil {
		return nil, fmt.Errorf("insert outbox: %w", err)
	}
	if _, err := t.jobs.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: job.Relay{}}}); err != nil {
		return nil, fmt.Errorf("insert relay job: %w", err)
	}
	return told, nil
}

// wants reports whether somebody asks for the event: by its name, or by * where it
// tells of memory.
func wants(names []string, event string) bool {
	return slices.Contains(names, event) || (!IsOperational(event) && slices.Contains(names, "*"))
}

func (t *Teller) render(id uuid.UUID, a Announcement, now time.Time) ([]byte, error) {
	requestID := a.RequestID
	if requestID == "" {
		requestID = id.String()
	}
	return Envelope{
		Event: a.Event, UserID: a.UserID, Data: a.Data, Timestamp: now,
		Source: t.sender.Source, BotVersion: t.sender.BotVersion, RequestID: requestID,
	}.Render()
}
