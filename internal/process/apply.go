package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
)

// sourceMemory is the source of events that other memory systems sent: they are
// about no account, and the Router hands them to its Applier.
const sourceMemory = "memory"

// errTold is the Router's answer for such an event.
var errTold = errors.New("told by another memory system")

const (
	// applyUnits bounds the events of one transaction: their bodies are in memory
	// together, and each may be a megabyte.
	applyUnits = 32
	// applySlots are behind the Router's own two: both count in the same range.
	applySlots = counter.RouteSlots + 8
)

// Applier follows what other memory systems tell: an event becomes processed, and
// our memory what it says, in one transaction.
type Applier struct {
	pool    *pgxpool.Pool
	writer  *memory.Writer // nil: nothing is followed, events only end
	counts  *counter.Set
	newID   func() uuid.UUID
	log     *slog.Logger
	commits *group.Committer[arrival, outcome]
}

// outcome is what became of an event; "" when somebody else has ended it before.
type outcome string

const (
	outcomeApplied outcome = "applied"
	outcomeSame    outcome = "same"   // the memory says so already
	outcomeOlder   outcome = "older"  // something newer was followed before
	outcomeGone    outcome = "gone"   // of a memory that was deleted, there or here
	outcomeEcho    outcome = "echo"   // of a memory of ours
	outcomeNobody  outcome = "nobody" // it does not say whose memory it is
	outcomeLogged  outcome = "logged" // there is nothing to follow
)

// NewApplier makes an Applier. Without a writer events only end: what they tell is
// on record, and that is all.
func NewApplier(pool *pgxpool.Pool, writer *memory.Writer, counts *counter.Set, log *slog.Logger) *Applier {
	a := &Applier{
		pool: pool, writer: writer, counts: counts, log: log,
		newID: func() uuid.UUID { return uuid.Must(uuid.NewV7()) },
	}
	a.commits = group.New(pool, a.write, nil, group.Options{MaxUnits: applyUnits})
	return a
}

// follow ends one event, and reports whether this call did.
func (a *Applier) follow(ctx context.Context, u arrival) (bool, error) {
	o, err := a.commits.Do(ctx, u)
	if err != nil || o == "" {
		return false, err
	}
	a.log.InfoContext(ctx, "event of another memory system followed", "event_id", u.eventID, "outcome", string(o))
	return true, nil
}

// Forget deletes what is kept of memories that others deleted longer ago than that,
// and returns how many. Whatever was said of them before and comes later than this
// would bring them back: give it as long as events are kept.
func (a *Applier) Forget(ctx context.Context, olderThan time.Duration) (int64, error) {
	n, err := db.New(a.pool).DeleteOldToldMemories(ctx, olderThan)
	if err != nil {
		return 0, fmt.Errorf("delete old told memories: %w", err)
	}
	return n, nil
}

// write is the transaction of a group of events: lock, load, apply, write, count.
func (a *Applier) write(ctx context.Context, tx pgx.Tx, slot int, units []arrival) ([]group.Answer[outcome], error) {
	g := &applyGroup{units: units, answers: make([]group.Answer[outcome], len(units)), newID: a.newID}
	q := db.New(tx)
	if err := g.lockEvents(ctx, q); err != nil {
		return nil, err
	}
	if a.writer == nil {
		g.log()
	} else {
		if err := g.load(ctx, q); err != nil {
			return nil, err
		}
		g.apply()
		if err := a.writeMemories(ctx, tx, g); err != nil {
			return nil, err
		}
	}
	if err := g.end(ctx, q); err != nil {
		return nil, err
	}
	if err := a.counts.Add(ctx, tx, applySlots+slot, g.changed()); err != nil {
		return nil, err
	}
	return g.answers, nil
}

func (a *Applier) writeMemories(ctx context.Context, tx pgx.Tx, g *applyGroup) error {
	if err := g.writeSubjects(ctx, db.New(tx)); err != nil {
		return err
	}
	err := a.writer.Write(ctx, tx, memory.Work{Changes: g.changes, Links: g.links})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23505" {
		// An agent drew the same line meanwhile. That is no fault of the event: the
		// next look finds it.
		return fmt.Errorf("%w: %w", group.ErrConflict, err)
	}
	return err
}
