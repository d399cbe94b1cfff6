package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
)

// operation is one write on its way into a group: what to store, or what to do
// with memories or lines that are there.
type operation struct {
	caller Caller
	adds   []Change
	batch  bool // the answer names the ids alone
	patch  *Patch
	remove bool
	some   bool // remove what is there of ids and may be; the answer is how many
	// expired: remove what has expired alone. Meanwhile it may have got more time.
	expired bool
	ids     []uuid.UUID
	removed *Removed // done already; the answer is kept under the key
	link    *Link
	unlink  bool
	told    []Announcement
	emits   *emitBatch // told at the end of the group, where its answer comes from
	bytes   int
}

func (o operation) size() int { return o.bytes }

// answer is what an operation's caller is told, as JSON: so it is kept with the
// Idempotency-Key, too.
type answer struct{ json []byte }

// claim names an Idempotency-Key.
type claim struct{ actor, key string }

// commit is one transaction's worth of operations on its way through the steps:
// lock, apply in order, write.
type commit struct {
	ops     []operation
	answers []group.Answer[answer]
	now     time.Time

	claims map[claim]int       // operations that took their key
	rows   map[uuid.UUID]*Row  // nil: removed in this group
	links  map[uuid.UUID]*Link // nil: removed in this group
	lines  map[string]*Link    // what agents have drawn, by user and ends
	// By other transactions: memories and lines, and what agents have drawn by user and ends.
	held      map[uuid.UUID]bool
	heldLines map[string]bool

	work Work
}

// write is a group's transaction. Operations of one group see each other in order.
func (s *Store) write(ctx context.Context, tx pgx.Tx, _ int, ops []operation) ([]group.Answer[answer], error) {
	c := &commit{ops: ops, answers: make([]group.Answer[answer], len(ops))}
	q := db.New(tx)
	open, err := c.claim(ctx, q)
	if err != nil {
		return nil, err
	}
	if err := c.lock(ctx, q, open); err != nil {
		return nil, err
	}
	for _, i := range open {
		if c.answers[i].Err != nil || c.ops[i].emits != nil {
			continue
		}
		value, err := c.apply(&c.ops[i])
		if err == nil {
			c.answers[i].Value.json, err = json.Marshal(value)
		}
		c.answers[i].Err = err
	}
	if err := s.writer.Write(ctx, tx, c.work); err != nil {
		if drawnElsewhere(err) {
			return nil, group.ErrConflict
		}
		return nil, err
	}
	if err := s.emit(ctx, tx, c, open); err != nil {
		return nil, err
	}
	if err := c.settle(ctx, q); err != nil {
		return nil, err
	}
	return c.answers, nil
}

// drawnElsewhere reports whether another transaction has drawn a line of the same
// ends since this one looked.
func drawnElsewhere(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.ConstraintName == "relationships_key"
}

// claim takes the operations' keys and answers those that were asked before. It
// returns those that are left to do.
func (c *commit) claim(ctx context.Context, q *db.Queries) ([]int, error) {
	var p db.ClaimIdempotencyKeysParams
	first := map[claim]int{}
	var open, repeats []int
	for i, o := range c.ops {
		k := claim{o.caller.Actor, o.caller.Key}
		switch _, twice := first[k]; {
		case o.caller.Key == "":
			open = append(open, i)
		case twice:
			repeats = append(repeats, i)
		default:
			first[k] = i
			p.Actors, p.Keys, p.Digests = append(p.Actors, k.actor), append(p.Keys, k.key), append(p.Digests, o.caller.Digest[:])
		}
	}
	if len(first) > 0 {
		made, err := q.ClaimIdempotencyKeys(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("claim idempotency keys: %w", err)
		}
		c.claims = map[claim]int{}
		for _, k := range made {
			i := first[claim{k.Actor, k.Key}]
			c.claims[claim{k.Actor, k.Key}] = i
			open = append(open, i)
		}
		if len(made) < len(first) {
			if err := c.repeat(ctx, q, p, first); err != nil {
				return nil, err
			}
		}
	}
	for _, i := range repeats {
		// The first of them is answered when the group is; this one asks again then.
		c.answers[i].Err = group.ErrHeld
	}
	slices.Sort(open)
	return open, nil
}

// repeat gives the answers of before to those whose keys were taken already.
func (c *commit) repeat(ctx context.Context, q *db.Queries, p db.ClaimIdempotencyKeysParams, first map[claim]int) error {
	rows, err := q.ListIdempotencyKeys(ctx, db.ListIdempotencyKeysParams{Actors: p.Actors, Keys: p.Keys})
	if err != nil {
		return fmt.Errorf("list idempotency keys: %w", err)
	}
	answered := map[claim]bool{}
	for _, r := range rows {
		k := claim{r.Actor, r.Key}
		i := first[k]
		answered[k] = true
		if _, ours := c.claims[k]; ours {
			continue
		}
		if digest := c.ops[i].caller.Digest; !bytes.Equal(r.Digest, digest[:]) {
			c.answers[i].Err = ErrKeyReused
			continue
		}
		c.answers[i].Value.json = r.Answer
	}
	for k, i := range first {
		if !answered[k] {
			// Whoever had it has let it go meanwhile.
			c.answers[i].Err = group.ErrHeld
		}
	}
	return nil
}

// lock takes the memories and lines that the open operations are about. What
// others hold sends its operation to the next group.
func (c *commit) lock(ctx context.Context, q *db.Queries, open []int) error {
	begun, err := q.BeginTelling(ctx)
	if err != nil {
		return fmt.Errorf("read the time and what is wanted: %w", err)
	}
	c.now, c.work.wanted = begun.Now.UTC(), begun.Wanted
	c.rows, c.links = map[uuid.UUID]*Row{}, map[uuid.UUID]*Link{}
	c.lines, c.held, c.heldLines = map[string]*Link{}, map[uuid.UUID]bool{}, map[string]bool{}
	var memories []uuid.UUID
	var lines db.LockRelationshipsParams
	for _, i := range open {
		switch o := c.ops[i]; {
		case o.unlink:
			lines.Ids = append(lines.Ids, o.ids...)
		case o.link != nil:
			lines.UserIds, lines.Sources = append(lines.UserIds, o.link.UserID), append(lines.Sources, o.link.Source)
			lines.Relationships, lines.Targets = append(lines.Relationships, o.link.Relationship), append(lines.Targets, o.link.Target)
		case o.remove:
			lines.MemoryIds = append(lines.MemoryIds, o.ids...) // these go with it
			memories = append(memories, o.ids...)
		default:
			memories = append(memories, o.ids...)
		}
	}
	if err := c.lockMemories(ctx, q, memories); err != nil {
		return err
	}
	if err := c.lockLines(ctx, q, lines); err != nil {
		return err
	}
	for _, i := range open {
		if c.isHeld(c.ops[i]) {
			c.answers[i].Err = group.ErrHeld
		}
	}
	return nil
}

func (c *commit) isHeld(o operation) bool {
	return slices.ContainsFunc(o.ids, func(id uuid.UUID) bool { return c.held[id] }) || (o.link != nil && c.heldLines[lineOf(*o.link)])
}

func (c *commit) lockMemories(ctx context.Context, q *db.Queries, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	rows, err := q.LockMemories(ctx, ids)
	if err != nil {
		return fmt.Errorf("lock memories: %w", err)
	}
	for _, r := range rows {
		row, err := rowFrom(db.GetMemoryRow(r))
		if err != nil {
			return err
		}
		c.rows[row.ID] = &row
	}
	missing := slices.DeleteFunc(ids, func(id uuid.UUID) bool { return c.rows[id] != nil })
	if len(missing) == 0 {
		return nil
	}
	there, err := q.ListMemoryIDs(ctx, missing)
	if err != nil {
		return fmt.Errorf("list memories that others hold: %w", err)
	}
	for _, id := range there {
		c.held[id] = true
	}
	return nil
}

// lockLines waits for nobody either, or two groups could wait for each other: each
// holds lines, those that go with a memory included, in an order of its own.
func (c *commit) lockLines(ctx context.Context, q *db.Queries, p db.LockRelationshipsParams) error {
	if len(p.Ids)+len(p.MemoryIds)+len(p.UserIds) == 0 {
		return nil
	}
	rows, err := q.LockRelationships(ctx, p)
	if err != nil {
		return fmt.Errorf("lock relationships: %w", err)
	}
	var drawn []string
	for i, user := range p.UserIds {
		drawn = append(drawn, lineOf(Link{UserID: user, Source: p.Sources[i], Relationship: p.Relationships[i], Target: p.Targets[i]}))
	}
	for _, r := range rows {
		l, err := linkFrom(r)
		if err != nil {
			return err
		}
		c.links[l.ID] = &l
		if l.Module == "" && l.MemoryID == nil {
			c.lines[lineOf(l)] = &l
			drawn = append(drawn, lineOf(l))
		}
	}
	if err := c.claimLines(ctx, q, drawn); err != nil {
		return err
	}
	there, err := q.FindRelationships(ctx, db.FindRelationshipsParams(p))
	if err != nil {
		return fmt.Errorf("find relationships that others hold: %w", err)
	}
	for _, r := range there {
		if c.links[r.ID] != nil {
			continue
		}
		c.held[r.ID] = true
		if r.MemoryID != nil {
			c.held[*r.MemoryID] = true
		}
		c.heldLines[lineOf(Link{UserID: r.UserID, Source: r.Source, Relationship: r.Relationship, Target: r.Target})] = true
	}
	return nil
}

// claimLines takes the right to draw and remove lines. Without it one could draw a
// line that another is removing, and have to wait for him in the middle of a write.
func (c *commit) claimLines(ctx context.Context, q *db.Queries, drawn []string) error {
	if len(drawn) == 0 {
		return nil
	}
	names := make([]string, len(drawn))
	for i, line := range drawn {
		names[i] = strings.ReplaceAll(line, "\x00", "\x1f") // Postgres takes no NUL
	}
	ours, err := q.TryLockLines(ctx, names)
	if err != nil {
		return fmt.Errorf("claim lines: %w", err)
	}
	got := map[string]bool{}
	for _, name := range ours {
		got[name] = true
	}
	for i, line := range drawn {
		if got[names[i]] {
			continue
		}
		c.heldLines[line] = true
		if l := c.lines[line]; l != nil {
			c.held[l.ID] = true
		}
	}
	return nil
}

// lineOf is equal for two lines of one user between the same ends.
func lineOf(l Link) string {
	return l.UserID + "\x00" + l.Source + "\x00" + l.Relationship + "\x00" + l.Target
}

// apply does one operation to what is loaded, and returns its answer. An error
// means that it has changed nothing.
func (c *commit) apply(o *operation) (any, error) {
	switch {
	case len(o.adds) > 0:
		return c.add(o), nil
	case o.patch != nil:
		return c.update(o)
	case o.some:
		return c.removeSome(o), nil
	case o.remove:
		return c.remove(o)
	case o.link != nil:
		return c.relate(o), nil
	case o.unlink:
		return c.unrelate(o)
	case o.removed != nil:
		return *o.removed, nil
	}
	c.work.Announcements = append(c.work.Announcements, o.told...)
	return struct{}{}, nil
}

func (c *commit) add(o *operation) any {
	b := Batch{}
	for _, change := range o.adds {
		change.After.CreatedAt, change.After.UpdatedAt = c.now, c.now
		c.rows[change.After.ID] = change.After
		c.work.Changes = append(c.work.Changes, change)
		b.IDs = append(b.IDs, change.After.ID)
	}
	c.work.Announcements = append(c.work.Announcements, o.told...)
	if o.batch {
		return b
	}
	return o.adds[0].After
}

// mine returns the memory that o may change.
func (c *commit) mine(o *operation, id uuid.UUID) (*Row, error) {
	r := c.rows[id]
	if r == nil || !o.caller.May(r.UserID) {
		return nil, ErrNotFound
	}
	if expired := r.ExpiresAt != nil && !r.ExpiresAt.After(c.now); (expired && !o.some) || (!expired && o.expired) {
		return nil, ErrNotFound
	}
	if r.FromCRM() {
		return nil, ErrReadOnly
	}
	return r, nil
}

func (c *commit) update(o *operation) (any, error) {
	before, err := c.mine(o, o.ids[0])
	if err != nil {
		return nil, err
	}
	after := *before
	if o.patch.Content != nil {
		after.Content = *o.patch.Content
	}
	if o.patch.Metadata != nil {
		after.Metadata = asStored(o.patch.Metadata)
		// Where a memory came from stays true, and others know it by that.
		for _, key := range []string{"origin", "origin_id", "origin_at"} {
			if value, ok := before.Metadata[key]; ok && before.Origin != "" {
				after.Metadata[key] = value
			}
		}
	}
	if after.Checksum() == before.Checksum() {
		return before, nil
	}
	after.UpdatedAt = c.now
	c.rows[after.ID] = &after
	c.told(Change{Before: before, After: &after}, o)
	return &after, nil
}

func (c *commit) remove(o *operation) (any, error) {
	before, err := c.mine(o, o.ids[0])
	if err != nil {
		return nil, err
	}
	c.rows[before.ID] = nil
	c.told(Change{Before: before}, o)
	return before, nil
}

func (c *commit) removeSome(o *operation) any {
	n := 0
	for _, id := range o.ids {
		if _, err := c.remove(&operation{caller: o.caller, ids: []uuid.UUID{id}, some: true, expired: o.expired}); err == nil {
			n++
		}
	}
	return n
}

// told brings in a change that is told as usual. A memory that changes twice in one
// group is told of twice: to whoever follows each is news.
func (c *commit) told(change Change, o *operation) {
	change.Actor = o.caller.Actor
	change.Told = change.Usual()
	change.Told.RequestID = o.caller.RequestID
	c.work.Changes = append(c.work.Changes, change)
}

func (c *commit) relate(o *operation) any {
	l := *o.link
	l.CreatedAt = c.now
	if known := c.lines[lineOf(l)]; known != nil {
		if known.same(l) {
			return known
		}
		// The same line under the same id, more or less sure.
		l.ID, l.CreatedAt = known.ID, known.CreatedAt
		c.work.Links = append(c.work.Links, LinkChange{Link: *known, Gone: true})
	}
	c.links[l.ID], c.lines[lineOf(l)] = &l, &l
	c.linkTold(LinkChange{Link: l}, o)
	return &l
}

func (c *commit) unrelate(o *operation) (any, error) {
	l := c.links[o.ids[0]]
	if l == nil || !o.caller.May(l.UserID) {
		return nil, ErrNotFound
	}
	if l.Module != "" {
		return nil, ErrReadOnly
	}
	c.links[l.ID] = nil
	delete(c.lines, lineOf(*l))
	c.linkTold(LinkChange{Link: *l, Gone: true}, o)
	return l, nil
}

func (c *commit) linkTold(change LinkChange, o *operation) {
	change.Told = change.Usual()
	change.Told.RequestID = o.caller.RequestID
	c.work.Links = append(c.work.Links, change)
}

// settle keeps the answers with the keys, and lets go of the keys of what came to
// nothing.
func (c *commit) settle(ctx context.Context, q *db.Queries) error {
	var kept db.AnswerIdempotencyKeysParams
	var free db.ReleaseIdempotencyKeysParams
	for k, i := range c.claims {
		if c.answers[i].Err != nil {
			free.Actors, free.Keys = append(free.Actors, k.actor), append(free.Keys, k.key)
			continue
		}
		kept.Actors, kept.Keys = append(kept.Actors, k.actor), append(kept.Keys, k.key)
		kept.Answers = append(kept.Answers, c.answers[i].Value.json)
	}
	if len(kept.Keys) > 0 {
		if err := q.AnswerIdempotencyKeys(ctx, kept); err != nil {
			return fmt.Errorf("keep the answers of idempotency keys: %w", err)
		}
	}
	if len(free.Keys) > 0 {
		if err := q.ReleaseIdempotencyKeys(ctx, free); err != nil {
			return fmt.Errorf("release idempotency keys: %w", err)
		}
	}
	return nil
}
