package memory

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// Change is what happens to one memory: Before nil is an addition, After nil a
// deletion.
type Change struct {
	Before, After *Row
	EventID       int64     // the newest event that had a part in it; 0: none had
	Actor         string    // who did it, as "token/bot"; "" for what follows from an event
	MergedInto    uuid.UUID // of a deletion: which memory says it now; zero: none
	Told          Announcement
}

// Usual is the webhook that tells of the change as such.
func (c Change) Usual() Announcement {
	switch {
	case c.Before == nil:
		return Announcement{Event: Added, UserID: c.After.UserID, Data: AddedData{Result: c.After.Snapshot()}}
	case c.After == nil:
		return Announcement{Event: Deleted, UserID: c.Before.UserID, Data: DeletedData{Result: c.Before.Snapshot()}}
	default:
		return Announcement{Event: Updated, UserID: c.After.UserID, Data: UpdatedData{Before: c.Before.Snapshot(), After: c.After.Snapshot()}}
	}
}

// subject is the memory that the change is of.
func (c Change) subject() *Row {
	if c.After != nil {
		return c.After
	}
	return c.Before
}

func (c Change) operation() string {
	switch {
	case c.Before == nil:
		return "added"
	case c.After == nil:
		return "deleted"
	default:
		return "updated"
	}
}

// Work is what one transaction does to the memory, in the order in which it is
// told: changes, lines of the graph, and what is told beside them.
type Work struct {
	Changes       []Change
	Links         []LinkChange
	Announcements []Announcement

	wanted []string // the events that somebody asks for; nil: Write finds out
}

// Writer writes what happens to the memory, with everything that must be true
// together: rows, history, graph, webhooks and the job that relays them, and the
// lanes of the copies elsewhere.
type Writer struct {
	jobs    lane.Inserter
	teller  *Teller
	backend string // of the copies; "": there are none
	now     func() time.Time
	newID   func() uuid.UUID
}

// NewWriter makes a Writer. backend names the memory system that follows, cognee
// or mem0; "" or postgres: none does.
func NewWriter(jobs lane.Inserter, sender Sender, backend string, now func() time.Time) *Writer {
	if backend == "postgres" {
		backend = ""
	}
	return &Writer{jobs: jobs, teller: NewTeller(jobs, sender, now), backend: backend, now: now, newID: newID}
}

// Nudge is that of the Writer's Teller.
func (w *Writer) Nudge(do func()) { w.teller.Nudge(do) }

// Write writes w in tx. The memories and lines of the graph that it changes are
// locked by the caller.
func (w *Writer) Write(ctx context.Context, tx pgx.Tx, work Work) error {
	if len(work.Changes)+len(work.Links)+len(work.Announcements) == 0 {
		return nil
	}
	q := db.New(tx)
	if err := writeChanges(ctx, q, work.Changes); err != nil {
		return err
	}
	if err := writeLinks(ctx, q, work.Links); err != nil {
		return err
	}
	told, err := w.tell(ctx, tx, work)
	if err != nil {
		return err
	}
	if err := writeHistory(ctx, q, work.Changes, told); err != nil {
		return err
	}
	return w.wakeMirrors(ctx, tx, work.Changes)
}

// writeChanges writes what each memory is in the end. It deletes first: a record
// that moved makes room for itself.
func writeChanges(ctx context.Context, q *db.Queries, changes []Change) error {
	var gone []uuid.UUID
	var added db.InsertMemoriesParams
	var updated db.UpdateMemoriesParams
	for _, c := range lasting(changes) {
		if c.After == nil {
			gone = append(gone, c.Before.ID)
			continue
		}
		metadata, err := writeMetadata(c.After.Metadata)
		if err != nil {
			return err
		}
		sum := c.After.Checksum()
		if c.Before != nil {
			updated.Ids = append(updated.Ids, c.After.ID)
			updated.Kinds = append(updated.Kinds, c.After.Kind)
			updated.Contents = append(updated.Contents, c.After.Content)
			updated.Metadata = append(updated.Metadata, metadata)
			updated.Checksums = append(updated.Checksums, sum[:])
			updated.ExpiresAt = append(updated.ExpiresAt, orZero(c.After.ExpiresAt))
			continue
		}
		added.Ids = append(added.Ids, c.After.ID)
		added.UserIds = append(added.UserIds, c.After.UserID)
		added.AccountIds = append(added.AccountIds, c.After.AccountID)
		added.Modules = append(added.Modules, c.After.Module)
		added.RecordIds = append(added.RecordIds, c.After.RecordID)
		added.Kinds = append(added.Kinds, c.After.Kind)
		added.Contents = append(added.Contents, c.After.Content)
		added.Metadata = append(added.Metadata, metadata)
		added.Checksums = append(added.Checksums, sum[:])
		added.Origins = append(added.Origins, c.After.Origin)
		added.OriginIds = append(added.OriginIds, c.After.OriginID)
		added.ExpiresAt = append(added.ExpiresAt, orZero(c.After.ExpiresAt))
	}
	if len(gone) > 0 {
		if err := q.DeleteMemories(ctx, gone); err != nil {
			return fmt.Errorf("delete memories: %w", err)
		}
	}
	if len(updated.Ids) > 0 {
		if err := q.UpdateMemories(ctx, updated); err != nil {
			return fmt.Errorf("update memories: %w", err)
		}
	}
	if len(added.Ids) > 0 {
		if err := q.InsertMemories(ctx, added); err != nil {
			return fmt.Errorf("insert memories: %w", err)
		}
	}
	return nil
}

// lasting joins the changes of each memory into one, from what it was to what it
// is; what came and went is left out.
func lasting(changes []Change) []Change {
	last := map[uuid.UUID]int{}
	var joined []Change
	for _, c := range changes {
		id := c.subject().ID
		if i, before := last[id]; before {
			joined[i].After = c.After
			continue
		}
		last[id] = len(joined)
		joined = append(joined, Change{Before: c.Before, After: c.After})
	}
	return slices.DeleteFunc(joined, func(c Change) bool { return c.Before == nil && c.After == nil })
}

// tell tells of the work, in its order. It returns the ids of the webhooks that tell
// of a change, by its position.
func (w *Writer) tell(ctx context.Context, tx pgx.Tx, work Work) (map[int]uuid.UUID, error) {
	var all []Announcement
	for _, c := range work.Changes {
		all = append(all, c.Told)
	}
	for _, l := range work.Links {
		all = append(all, l.Told)
	}
	return w.teller.tell(ctx, tx, append(all, work.Announcements...), work.wanted)
}

func writeHistory(ctx context.Context, q *db.Queries, changes []Change, told map[int]uuid.UUID) error {
	if len(changes) == 0 {
		return nil
	}
	var p db.InsertMemoryHistoryParams
	for i, c := range changes {
		before, err := historyJSON(c.Before)
		if err != nil {
			return err
		}
		after, err := historyJSON(c.After)
		if err != nil {
			return err
		}
		subject := c.subject()
		p.MemoryIds = append(p.MemoryIds, subject.ID)
		p.UserIds = append(p.UserIds, subject.UserID)
		p.AccountIds = append(p.AccountIds, subject.AccountID)
		p.Modules = append(p.Modules, subject.Module)
		p.RecordIds = append(p.RecordIds, subject.RecordID)
		p.Operations = append(p.Operations, c.operation())
		p.Before = append(p.Before, before)
		p.After = append(p.After, after)
		p.EventIds = append(p.EventIds, c.EventID)
		p.OutboxIds = append(p.OutboxIds, told[i])
		p.Actors = append(p.Actors, c.Actor)
		p.MergedInto = append(p.MergedInto, c.MergedInto)
	}
	if err := q.InsertMemoryHistory(ctx, p); err != nil {
		return fmt.Errorf("insert memory history: %w", err)
	}
	return nil
}

// historyJSON is a memory as its history keeps it; JSON's null for none.
func historyJSON(r *Row) ([]byte, error) {
	if r == nil {
		return []byte("null"), nil
	}
	text, err := json.Marshal(map[string]any{"content": r.Content, "metadata": r.Metadata})
	if err != nil {
		return nil, fmt.Errorf("encode memory %s: %w", r.ID, err)
	}
	return text, nil
}

// wakeMirrors brings the changed memories to the lanes of their copies.
func (w *Writer) wakeMirrors(ctx context.Context, tx pgx.Tx, changes []Change) error {
	if w.backend == "" || len(changes) == 0 {
		return nil
	}
	users := map[uuid.UUID]string{}
	own := db.AdoptOriginsParams{Backend: w.backend}
	for _, c := range changes {
		r := c.subject()
		if r.Origin == w.backend {
			if c.EventID != 0 {
				continue // it has told us of this itself
			}
			own.MemoryIds, own.UserIds, own.RemoteIds = append(own.MemoryIds, r.ID), append(own.UserIds, r.UserID), append(own.RemoteIds, r.OriginID)
		}
		users[r.ID] = r.UserID
	}
	if len(own.MemoryIds) > 0 {
		if err := db.New(tx).AdoptOrigins(ctx, own); err != nil {
			return fmt.Errorf("adopt what another system told of: %w", err)
		}
	}
	return WakeMirrors(ctx, tx, w.jobs, w.backend, users)
}

// WakeMirrors sees to it that the copies of memories are made what the memories
// are, or removed where they are gone. users are their user ids, by memory.
func WakeMirrors(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, backend string, users map[uuid.UUID]string) error {
	if len(users) == 0 {
		return nil
	}
	p := db.WakeMirrorsParams{Backend: backend}
	for id, user := range users {
		p.MemoryIds = append(p.MemoryIds, id)
		p.UserIds = append(p.UserIds, user)
	}
	q := db.New(tx)
	rows, err := q.WakeMirrors(ctx, p)
	if err != nil {
		return fmt.Errorf("wake mirrors: %w", err)
	}
	set := db.SetMirrorJobsParams{Backend: backend}
	wakes := make([]lane.Wake, len(rows))
	for i, r := range rows {
		set.MemoryIds = append(set.MemoryIds, r.MemoryID)
		wakes[i] = lane.Wake{JobID: r.JobID, Due: r.DueAt, Args: job.SyncMemory{Backend: backend, MemoryID: r.MemoryID}}
	}
	if set.JobIds, err = lane.Ensure(ctx, tx, jobs, rows[0].Now, wakes); err != nil {
		return err
	}
	if err := q.SetMirrorJobs(ctx, set); err != nil {
		return fmt.Errorf("set the jobs of mirrors: %w", err)
	}
	return nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
