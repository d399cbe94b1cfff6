package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
)

// Caller is who asks for something, and in which request.
type Caller struct {
	Actor     string   // as "token/bot"; keys are the actor's own
	UserIDs   []string // whose memories it may see and change
	All       bool     // it may see and change everybody's
	RequestID string
	// Key is the Idempotency-Key of a write, "" for none; Digest is of what was asked.
	Key    string
	Digest [32]byte
}

// May reports whether the caller may see and change what this user's is.
func (c Caller) May(userID string) bool {
	if c.All {
		return true
	}
	for _, id := range c.UserIDs {
		if id == userID {
			return true
		}
	}
	return false
}

// Store is the memory as agents use it. Its writes go through group commits: many
// requests share a transaction, and each has its own answer. Beside the errors
// named at each, all return what the database said, and writes group.ErrFull when
// too much waits.
type Store struct {
	pool   *pgxpool.Pool
	writer *Writer
	writes *group.Committer[operation, answer]
}

// NewStore makes a Store.
func NewStore(pool *pgxpool.Pool, writer *Writer) *Store {
	s := &Store{pool: pool, writer: writer}
	s.writes = group.New(pool, s.write, operation.size, group.Options{})
	return s
}

// Wait returns when no write is under way any more.
func (s *Store) Wait() { s.writes.Wait() }

// Batch is what became of a batch.
type Batch struct {
	IDs []uuid.UUID `json:"ids"` // in the order of the items
}

// Removed is what became of everything of a user.
type Removed struct {
	Deleted int `json:"deleted"`
	// Kept follow records of the CRM, and go when those do.
	Kept int `json:"kept"`
}

// Add stores a memory and tells of it. It returns an *Invalid, ErrNotFound for a
// user that the caller may not see, or ErrKeyReused.
func (s *Store) Add(ctx context.Context, c Caller, n New) (Row, error) {
	row, err := n.row(s.writer.newID(), s.writer.now())
	if err != nil {
		return Row{}, err
	}
	return s.add(ctx, c, row, Announcement{})
}

// AddPreference stores what a user likes and tells of it as preference_stored.
// Errors are those of Add.
func (s *Store) AddPreference(ctx context.Context, c Caller, p Preference) (Row, error) {
	n, err := p.new()
	if err != nil {
		return Row{}, err
	}
	row, err := n.row(s.writer.newID(), s.writer.now())
	if err != nil {
		return Row{}, err
	}
	return s.add(ctx, c, row, Announcement{Event: PreferenceStored, UserID: row.UserID, Data: PreferenceData{
		Preference: p.Preference, Category: p.Category, Result: Reference{ID: row.ID},
	}})
}

// AddCorrection stores what a user put right and tells of it as correction_stored.
// Errors are those of Add.
func (s *Store) AddCorrection(ctx context.Context, c Caller, k Correction) (Row, error) {
	n, err := k.new()
	if err != nil {
		return Row{}, err
	}
	row, err := n.row(s.writer.newID(), s.writer.now())
	if err != nil {
		return Row{}, err
	}
	return s.add(ctx, c, row, Announcement{Event: CorrectionStored, UserID: row.UserID, Data: CorrectionData{
		Original: k.Original, Corrected: k.Corrected, Context: k.Context, Result: Reference{ID: row.ID},
	}})
}

// add stores one memory; told without an event is memory_added.
func (s *Store) add(ctx context.Context, c Caller, row Row, told Announcement) (Row, error) {
	if !c.May(row.UserID) {
		return Row{}, ErrNotFound
	}
	change := Change{After: &row, Actor: c.Actor, Told: told}
	if told.Event == "" {
		change.Told = change.Usual()
	}
	change.Told.RequestID = c.RequestID
	return do[Row](ctx, s, operation{caller: c, adds: []Change{change}, bytes: len(row.Content)})
}

// AddBatch stores all items or none, and tells of the batch as one. It returns an
// *Invalid that names the item, and else what Add does.
func (s *Store) AddBatch(ctx context.Context, c Caller, userID string, items []New) (Batch, error) {
	if err := CheckUserID(userID); err != nil {
		return Batch{}, err
	}
	if !c.May(userID) {
		return Batch{}, ErrNotFound
	}
	if len(items) == 0 || len(items) > MaxBatch {
		return Batch{}, invalid("items", "want 1 to %d", MaxBatch)
	}
	op := operation{caller: c, batch: true}
	data := BatchData{Operation: "add", ItemsCount: len(items)}
	for i, n := range items {
		n.UserID = userID
		row, err := n.item(s.writer.newID(), s.writer.now())
		if err != nil {
			return Batch{}, within(fmt.Sprintf("items[%d]", i), err)
		}
		op.adds = append(op.adds, Change{After: &row, Actor: c.Actor})
		op.bytes += len(row.Content)
		data.IDs = append(data.IDs, row.ID)
	}
	op.told = []Announcement{{Event: BatchOperationCompleted, UserID: userID, Data: data, RequestID: c.RequestID}}
	return do[Batch](ctx, s, op)
}

// within puts a field's name behind that of what it is part of.
func within(outer string, err error) error {
	var wrong *Invalid
	if errors.As(err, &wrong) {
		return &Invalid{Field: outer + "." + wrong.Field, Problem: wrong.Problem}
	}
	return err
}

// Update changes a memory and tells of it; a change of nothing is none, and nobody
// is told. It returns an *Invalid, ErrNotFound, ErrReadOnly or ErrKeyReused.
func (s *Store) Update(ctx context.Context, c Caller, id uuid.UUID, p Patch) (Row, error) {
	if p.Content == nil && p.Metadata == nil {
		return Row{}, invalid("content", "want content, metadata or both")
	}
	bytes := 0
	if p.Content != nil {
		if err := checkText("content", *p.Content, MaxContent); err != nil {
			return Row{}, err
		}
		bytes = len(*p.Content)
	}
	if err := CheckMetadata(p.Metadata); err != nil {
		return Row{}, err
	}
	return do[Row](ctx, s, operation{caller: c, patch: &p, ids: []uuid.UUID{id}, bytes: bytes})
}

// Delete removes a memory, tells of it, and returns what it was. It returns
// ErrNotFound, ErrReadOnly or ErrKeyReused.
func (s *Store) Delete(ctx context.Context, c Caller, id uuid.UUID) (Row, error) {
	return do[Row](ctx, s, operation{caller: c, remove: true, ids: []uuid.UUID{id}})
}

// DeleteAll removes all that a user's memory holds but what follows the CRM, some
// hundred in a transaction, and tells of each. What is not removed when it fails
// is when it is asked for again. Its answer is kept under the key with the last of
// them. It returns an *Invalid, ErrNotFound or ErrKeyReused.
func (s *Store) DeleteAll(ctx context.Context, c Caller, userID string) (Removed, error) {
	var r Removed
	if err := CheckUserID(userID); err != nil {
		return r, err
	}
	if !c.May(userID) {
		return r, ErrNotFound
	}
	q := db.New(s.pool)
	if before, err := s.answered(ctx, q, c); before != nil || err != nil {
		return readAnswer[Removed](before, err)
	}
	keyed := c
	c.Key = ""
	for {
		ids, err := q.ListOwnMemoryIDs(ctx, db.ListOwnMemoryIDsParams{UserID: userID, MaxRows: MaxBatch})
		if err != nil {
			return r, fmt.Errorf("list memories: %w", err)
		}
		if len(ids) == 0 {
			break
		}
		n, err := do[int](ctx, s, operation{caller: c, remove: true, some: true, ids: ids})
		if err != nil {
			return r, err
		}
		r.Deleted += n
	}
	kept, err := q.CountMemoriesOfRecords(ctx, userID)
	if err != nil {
		return r, fmt.Errorf("count memories: %w", err)
	}
	r.Kept = int(kept)
	return do[Removed](ctx, s, operation{caller: keyed, removed: &r})
}

// answered returns the answer that is kept under the caller's key; nil when there
// is none.
func (s *Store) answered(ctx context.Context, q *db.Queries, c Caller) ([]byte, error) {
	if c.Key == "" {
		return nil, nil
	}
	rows, err := q.ListIdempotencyKeys(ctx, db.ListIdempotencyKeysParams{Actors: []string{c.Actor}, Keys: []string{c.Key}})
	if err != nil {
		return nil, fmt.Errorf("list idempotency keys: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	if !bytes.Equal(rows[0].Digest, c.Digest[:]) {
		return nil, ErrKeyReused
	}
	return rows[0].Answer, nil
}

// Expire removes memories whose time is up, tells of each, and returns how many.
// It removes at most MaxBatch at a time.
func (s *Store) Expire(ctx context.Context) (int, error) {
	ids, err := db.New(s.pool).ListExpiredMemoryIDs(ctx, MaxBatch)
	if err != nil {
		return 0, fmt.Errorf("list expired memories: %w", err)
	}
	if len(ids) == 0 {
		return 0, nil
	}
	return do[int](ctx, s, operation{caller: Caller{Actor: "expiry", All: true}, remove: true, some: true, expired: true, ids: ids})
}

// Relate draws a line of the graph, and tells of it where it is new or says
// something else now. It returns an *Invalid, ErrNotFound or ErrKeyReused.
func (s *Store) Relate(ctx context.Context, c Caller, n NewLink) (Link, error) {
	l, err := n.link(s.writer.newID(), s.writer.now())
	if err != nil {
		return Link{}, err
	}
	if !c.May(l.UserID) {
		return Link{}, ErrNotFound
	}
	return do[Link](ctx, s, operation{caller: c, link: &l})
}

// Unrelate removes a line of the graph that an agent drew, tells of it, and
// returns what it was. It returns ErrNotFound, ErrReadOnly or ErrKeyReused.
func (s *Store) Unrelate(ctx context.Context, c Caller, id uuid.UUID) (Link, error) {
	return do[Link](ctx, s, operation{caller: c, unlink: true, ids: []uuid.UUID{id}})
}

// Tell tells of what changed nothing: a search, an operation that failed.
func (s *Store) Tell(ctx context.Context, c Caller, a Announcement) error {
	a.RequestID = c.RequestID
	c.Key = ""
	_, err := do[struct{}](ctx, s, operation{caller: c, told: []Announcement{a}})
	return err
}

// do commits op together with others, also when ctx ends meanwhile, and reads its
// answer.
func do[T any](ctx context.Context, s *Store, op operation) (T, error) {
	var value T
	a, err := s.writes.Do(ctx, op)
	if err != nil {
		return value, err
	}
	return readAnswer[T](a.json, nil)
}

func readAnswer[T any](answer []byte, err error) (T, error) {
	var value T
	if err != nil {
		return value, err
	}
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber() // ids in metadata are greater than a float can hold
	if err := decoder.Decode(&value); err != nil {
		return value, fmt.Errorf("read the answer of a write: %w", err)
	}
	return value, nil
}

// Get returns a memory; ErrNotFound when there is none that the caller may see.
func (s *Store) Get(ctx context.Context, c Caller, id uuid.UUID) (Row, error) {
	r, err := db.New(s.pool).GetMemory(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && !c.May(r.UserID)) {
		return Row{}, ErrNotFound
	}
	if err != nil {
		return Row{}, fmt.Errorf("get memory: %w", err)
	}
	return rowFrom(r)
}

// List says which memories to list, newest first.
type List struct {
	UserID string
	Kind   string // "": any
	Limit  int    // 1 to MaxPage
	Cursor string // Page.Next of the page before; "": from the newest
}

// Page is some of what there is.
type Page struct {
	Memories []Row  `json:"memories"`
	Next     string `json:"next_cursor,omitempty"` // "": that was the last
}

// List returns a page. It returns an *Invalid, or ErrNotFound for a user that the
// caller may not see.
func (s *Store) List(ctx context.Context, c Caller, l List) (Page, error) {
	if err := CheckUserID(l.UserID); err != nil {
		return Page{}, err
	}
	if err := CheckLimit(l.Limit); err != nil {
		return Page{}, err
	}
	if err := CheckKind(l.Kind); err != nil {
		return Page{}, err
	}
	p := db.ListMemoriesParams{UserID: l.UserID, Kind: l.Kind, CreatedAt: lastMoment(), MaxRows: int32(l.Limit + 1)} //nolint:gosec // at most MaxPage
	if l.Cursor != "" {
		var err error
		if p.CreatedAt, p.ID, err = readCursor(l.Cursor, l.UserID); err != nil {
			return Page{}, err
		}
	}
	if !c.May(l.UserID) {
		return Page{}, ErrNotFound
	}
	rows, err := db.New(s.pool).ListMemories(ctx, p)
	if err != nil {
		return Page{}, fmt.Errorf("list memories: %w", err)
	}
	page := Page{Memories: []Row{}}
	for _, r := range rows {
		row, err := rowFrom(db.GetMemoryRow(r))
		if err != nil {
			return Page{}, err
		}
		page.Memories = append(page.Memories, row)
	}
	if len(rows) > l.Limit {
		page.Memories = page.Memories[:l.Limit]
		last := page.Memories[l.Limit-1]
		page.Next = writeCursor(l.UserID, last.CreatedAt, last.ID)
	}
	return page, nil
}

// Version is one change of a memory.
type Version struct {
	Operation  string          `json:"operation"` // added, updated or deleted
	Before     json.RawMessage `json:"before"`    // {"content", "metadata"}, or null
	After      json.RawMessage `json:"after"`
	Actor      string          `json:"actor,omitempty"`
	MergedInto *uuid.UUID      `json:"merged_into,omitempty"`
	EventID    *int64          `json:"event_id,omitempty"`   // of the webhook from the CRM
	WebhookID  *uuid.UUID      `json:"webhook_id,omitempty"` // that told of it
	At         time.Time       `json:"at"`
}

// History returns what became of a memory, newest first, at most MaxPage changes;
// also of one that is gone. It returns ErrNotFound when there never was one that
// the caller may see.
func (s *Store) History(ctx context.Context, c Caller, id uuid.UUID) ([]Version, error) {
	rows, err := db.New(s.pool).ListMemoryHistory(ctx, db.ListMemoryHistoryParams{MemoryID: id, MaxRows: MaxPage})
	if err != nil {
		return nil, fmt.Errorf("list history: %w", err)
	}
	if len(rows) == 0 || !c.May(rows[0].UserID) {
		return nil, ErrNotFound
	}
	versions := make([]Version, len(rows))
	for i, r := range rows {
		versions[i] = Version{
			Operation: r.Operation, Before: orNull(r.Before), After: orNull(r.After), Actor: r.Actor, MergedInto: r.MergedInto,
			EventID: r.EventID, WebhookID: r.OutboxID, At: r.CreatedAt.UTC(),
		}
	}
	return versions, nil
}

func orNull(raw []byte) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}
