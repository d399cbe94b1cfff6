// Package counter keeps figures that cost no count(*): changes go in with the
// transaction of what they count, sums over all processes come out. It also
// says who is alive, and how long the backlog is.
package counter

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

// Name is what is counted.
type Name string

// The counters. All only grow, but Backlog and Dead, which are
// present numbers.
const (
	Queued     Name = "queued"     // events stored with a job
	Duplicated Name = "duplicated" // repeats of a stored event
	Ignored    Name = "ignored"    // events stored without a job, of modules nobody asked for
	IDReused   Name = "id_reused"  // events whose id was taken by another body
	Rejected   Name = "rejected"   // requests refused as not acceptable (4xx)
	Failed     Name = "failed"     // requests that could not be stored (5xx); the sender sends them again

	Backlog Name = "backlog" // events stored and not yet routed
	Dead    Name = "dead"    // events that wait for a person's decision

	Processed        Name = "processed"         // events whose account was synced
	ProcessingMicros Name = "processing_micros" // from receipt to the sync's end, summed, in microseconds
	Retried          Name = "retried"           // faults of events that are tried again
	Died             Name = "died"              // events that used up their attempts
	Batches          Name = "batches"           // grouped commits of syncs
	LastProcessed    Name = "last_processed"    // when an event was last processed, in milliseconds since 1970

	Delivered       Name = "delivered"        // webhooks that arrived
	DeliveryRetries Name = "delivery_retries" // attempts that failed and are repeated
	DeliveriesDied  Name = "deliveries_died"  // deliveries that used up their attempts

	Missed Name = "missed" // changes at Zoho's that a sync found and no webhook had told of
)

// Each committer of a process counts in slots of its own, from these on: two
// transactions that are on their way at the same time share no row.
const (
	IngestSlots = 0
	RouteSlots  = 16
	SyncSlots   = 32
	RecordSlots = 48
	// ReconcileSlots are one for each kind of sync: a sync stores its pages one after another.
	ReconcileSlots = 64
)

// The slots of what is counted outside of groups.
const (
	flushSlot = -1
	// FaultSlot is for the rare transactions that mark a fault, one row for all of them.
	FaultSlot = -2
)

// Changes are increments by name; zeros are left out when written.
type Changes map[Name]int64

// Set counts for one process.
type Set struct {
	process uuid.UUID
	host    string
	workers int32
	pool    *pgxpool.Pool
	log     *slog.Logger

	mu       sync.Mutex
	refused  Changes // not yet flushed
	others   int64   // backlog by the counters of other processes, read each second
	own      int64   // backlog by this process: what it stored, less what it routed
	reserved int64   // events on their way into the database
	changes  int64   // how often own or reserved changed
	last     glance  // at the flush before
}

// glance is what own could be corrected by.
type glance struct {
	changes int64
	own     int64 // by the database
}

// New makes the counters of one process, known by a fresh id. workers is how
// many jobs it can work at one time, 0 when it works none.
func New(pool *pgxpool.Pool, process uuid.UUID, host string, workers int, log *slog.Logger) *Set {
	return &Set{process: process, host: host, workers: int32(workers), pool: pool, log: log, refused: Changes{}}
}

// Add changes the counters in tx. slot keeps transactions of one process that
// run side by side from waiting for each other's rows.
func (s *Set) Add(ctx context.Context, tx pgx.Tx, slot int, changes Changes) error {
	return add(ctx, db.New(tx), s.process, slot, changes)
}

// AddOnce changes the counters in tx for a process that is about to end: a
// command. The sweeper folds what it leaves.
func AddOnce(ctx context.Context, tx pgx.Tx, changes Changes) error {
	return add(ctx, db.New(tx), uuid.New(), flushSlot, changes)
}

func add(ctx context.Context, q *db.Queries, process uuid.UUID, slot int, changes Changes) error {
	params := db.AddCountersParams{Process: process, Slot: int32(slot)}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		if changes[name] != 0 {
			params.Names = append(params.Names, string(name))
			params.Values = append(params.Values, changes[name])
		}
	}
	if len(params.Names) == 0 {
		return nil
	}
	if err := q.AddCounters(ctx, params); err != nil {
		return fmt.Errorf("add to counters: %w", err)
	}
	return nil
}

// Refuse counts a request that stored nothing. It is written within a second;
// a killed process loses what it had not written yet.
func (s *Set) Refuse(name Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[name]++
}

// Reserve makes room for n events in the backlog and reports whether there was
// room below limit; whoever got it calls Settle. When nothing waits there is room
// for any number: a body greater than the limit would otherwise never be taken.
// The answer is exact on one node; on several, others may have stored more for up
// to a second.
func (s *Set) Reserve(n, limit int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting := s.others + s.own + s.reserved; waiting > 0 && waiting+n > limit {
		return false
	}
	s.reserved += n
	s.changes++
	return true
}

// Settle ends a reservation of n events, of which stored now wait to be routed.
func (s *Set) Settle(n, stored int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= n
	s.own += stored
	s.changes++
}

// Routed takes n events off the backlog, after their commit.
func (s *Set) Routed(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own -= n
	s.changes++
}

// Backlog returns the number of events stored and not yet routed, as far as
// this process knows.
func (s *Set) Backlog() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, s.others+s.own)
}

// Run says each second that this process is alive, writes refusals, and reads
// the backlog of the others, until ctx ends. A database that does not answer is
// asked again a second later.
func (s *Set) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := s.Flush(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "counters not flushed", "error", err)
		}
		select {
		case <-ctx.Done():
			s.leave()
			return
		case <-tick.C:
		}
	}
}

// Flush does once what Run does each second.
func (s *Set) Flush(ctx context.Context) error {
	s.mu.Lock()
	refused := s.refused
	s.refused = Changes{}
	s.mu.Unlock()
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return add(ctx, db.New(tx), s.process, flushSlot, refused) })
	if err != nil {
		s.mu.Lock()
		for name, n := range refused {
			s.refused[name] += n
		}
		s.mu.Unlock()
		return err
	}
	return s.look(ctx)
}

// look says that the process is alive and reads the backlog of the others.
func (s *Set) look(ctx context.Context) error {
	q := db.New(s.pool)
	if err := q.SeeProcess(ctx, db.SeeProcessParams{Process: s.process, Host: s.host, Workers: s.workers}); err != nil {
		return fmt.Errorf("say that this process is alive: %w", err)
	}
	s.mu.Lock()
	before := s.changes
	s.mu.Unlock()
	backlog, err := q.SumBacklog(ctx, s.process)
	if err != nil {
		return fmt.Errorf("read the backlog: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.others = backlog.Others
	// What this process believes of itself goes astray when a commit's answer is
	// lost; the database is right whenever nothing was under way while it was read.
	// It knows of a commit a moment before Routed is told, so it has to say the same
	// twice, a second apart: else that event would be taken off twice.
	now := glance{changes: before, own: backlog.Own}
	if s.changes == before && s.reserved == 0 && s.last == now {
		s.own = backlog.Own
	}
	s.last = now
	return nil
}

// leave flushes a last time and takes this process off the list of the living.
func (s *Set) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		s.log.WarnContext(ctx, "counters not flushed at the end", "error", err)
		return
	}
	if err := db.New(s.pool).DeleteProcess(ctx, s.process); err != nil {
		s.log.WarnContext(ctx, "process not signed off", "error", err)
	}
}

// Read returns the sums over all processes, past ones included.
func Read(ctx context.Context, q *db.Queries) (Changes, error) {
	rows, err := q.SumCounters(ctx)
	if err != nil {
		return nil, fmt.Errorf("sum counters: %w", err)
	}
	sums := Changes{}
	for _, r := range rows {
		sums[Name(r.Name)] = r.Value
	}
	return sums, nil
}

// TrueUp corrects the backlog counter by a count of the rows themselves. For the
// sweeper: it must run in a transaction of isolation level repeatable read, whose
// snapshot holds rows and counters of the same moment. It returns the correction.
func TrueUp(ctx context.Context, tx pgx.Tx) (int64, error) {
	q := db.New(tx)
	actual, err := q.CountBacklog(ctx)
	if err != nil {
		return 0, fmt.Errorf("count the backlog: %w", err)
	}
	counted, err := q.SumCounter(ctx, string(Backlog))
	if err != nil {
		return 0, fmt.Errorf("sum the backlog counter: %w", err)
	}
	if err := add(ctx, q, uuid.Nil, 0, Changes{Backlog: actual - counted}); err != nil {
		return 0, err
	}
	return actual - counted, nil
}
