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
	"github.com/memrelay/memrelay/internal/group"
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
	nudge  func() // nil: the relay's job is all there is
}

// unnudged is after how long a relay's job runs although somebody was nudged, for he
// may be gone by then.
const unnudged = time.Second

// Nudge has do called as soon as webhooks are committed that were told in a group, by
// whoever relays them in this process. It must not block.
func (t *Teller) Nudge(do func()) { t.nudge = do }

// relay inserts the job that sees to it that what was told in tx is relayed.
func (t *Teller) relay(ctx context.Context, tx pgx.Tx) error {
	var err error
	if t.nudge != nil && group.OnCommit(ctx, t.nudge) {
		o := job.Relay{}.InsertOpts()
		err = db.New(tx).InsertRelayJob(ctx, db.InsertRelayJobParams{
			Kind: job.Relay{}.Kind(), MaxAttempts: int16(o.MaxAttempts), Queue: o.Queue, After: unnudged,
		})
	} else {
		_, err = t.jobs.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: job.Relay{}}})
	}
	if err != nil {
		return fmt.Errorf("insert relay job: %w", err)
	}
	return nil
}

// insert stores webhooks with the job that relays them. Where somebody is nudged the
// job is there for his death alone: nobody is told of it.
func (t *Teller) insert(ctx context.Context, tx pgx.Tx, p db.InsertOutboxParams) error {
	q := db.New(tx)
	if t.nudge == nil || !group.OnCommit(ctx, t.nudge) {
		if err := q.InsertOutbox(ctx, p); err != nil {
			return fmt.Errorf("insert outbox: %w", err)
		}
		return t.relay(ctx, tx)
	}
	o := job.Relay{}.InsertOpts()
	err := q.InsertOutboxAndRelay(ctx, db.InsertOutboxAndRelayParams{
		Ids: p.Ids, Events: p.Events, UserIds: p.UserIds, Payloads: p.Payloads,
		Kind: job.Relay{}.Kind(), MaxAttempts: int16(o.MaxAttempts), Queue: o.Queue, After: unnudged,
	})
	if err != nil {
		return fmt.Errorf("insert outbox and the job that relays it: %w", err)
	}
	return nil
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
	return t.tell(ctx, tx, all, nil)
}

// tell is Tell for who knows which events are asked for, when names is not nil.
func (t *Teller) tell(ctx context.Context, tx pgx.Tx, all []Announcement, names []string) (map[int]uuid.UUID, error) {
	if !slices.ContainsFunc(all, func(a Announcement) bool { return a.Event != "" }) {
		return nil, nil
	}
	if names == nil {
		var err error
		if names, err = db.New(tx).ListWantedEvents(ctx); err != nil {
			return nil, fmt.Errorf("list wanted events: %w", err)
		}
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
	return told, t.insert(ctx, tx, p)
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
