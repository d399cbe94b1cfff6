package inbound

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
)

// Delivery is one body whose sender is proven: what is to be stored.
type Delivery struct {
	Notification
	Source      string   // the configured sender
	HeaderIDs   []string // one per event; nil: ids are derived
	Unworked    bool     // nobody works what this source sends: stored as ignored, whatever the module
	AnyModule   bool     // worked whatever the module
	Logged      bool     // done once it is stored: as processed, without a job, whatever the module
	Digest      [32]byte // SHA-256 of Body, or of what else tells two bodies of the source apart
	ContentType string
	Headers     json.RawMessage // an object of those that are kept
	Body        []byte
	behind      int // how many of its events, the last ones, are beyond the source's share
}

// EventStatus is what became of one event.
type EventStatus struct {
	EventID string `json:"event_id"`
	Status  string `json:"status"`
}

// Inserter inserts jobs in a transaction and does not look back at them, by COPY: a
// River client does. Returned rows would cost more than the rows of the events.
type Inserter interface {
	InsertManyFastTx(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) (int, error)
}

// Ingester stores deliveries. Those of different sources wait apart, and are stored in
// turn.
type Ingester struct {
	pool    *pgxpool.Pool
	jobs    Inserter
	counts  *counter.Set
	modules map[string]bool
	shares  *shares // nil: no source has one
	commits *group.Committer[Delivery, []EventStatus]
}

// NewIngester makes an Ingester. Events of modules that are not listed are
// stored as ignored, so that they can be replayed once somebody asks for them.
func NewIngester(pool *pgxpool.Pool, jobs Inserter, counts *counter.Set, modules []string, o group.Options) *Ingester {
	in := &Ingester{pool: pool, jobs: jobs, counts: counts, modules: map[string]bool{}}
	for _, m := range modules {
		in.modules[canonicalModule(m)] = true
	}
	in.commits = group.NewFair(pool, in.store, weight, func(d Delivery) string { return d.Source }, o)
	return in
}

// aloneFrom is how many records make a body commit alone: a thousand rows would
// make all others of its group wait for them.
const aloneFrom = 100

func weight(d Delivery) int {
	if len(d.Events) > aloneFrom {
		return 1 << 20
	}
	return len(d.Body)
}

// Ingest stores each event of d with the job to process it, or nothing of d. It
// returns what became of each, in their order, once that is committed. An event
// that is stored already is no error.
func (in *Ingester) Ingest(ctx context.Context, d Delivery) ([]EventStatus, error) {
	events, err := in.commits.Do(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("store %d events: %w", len(d.Events), err)
	}
	return events, nil
}

// Wait returns when nothing is on its way into the database any more, what
// senders handed over before they hung up included.
func (in *Ingester) Wait() { in.commits.Wait() }

// store is the transaction of a group of deliveries: lock, load, apply, write, count.
func (in *Ingester) store(ctx context.Context, tx pgx.Tx, slot int, units []Delivery) ([]group.Answer[[]EventStatus], error) {
	answers := make([]group.Answer[[]EventStatus], len(units))
	for _, source := range sources(units) {
		positions, deliveries := ofSource(units, source)
		all, err := in.storeSource(ctx, tx, slot, source, deliveries)
		if err != nil {
			return nil, err
		}
		for n, i := range positions {
			answers[i].Value = answer(all, n)
		}
	}
	return answers, nil
}

func (in *Ingester) storeSource(ctx context.Context, tx pgx.Tx, slot int, source string, deliveries []Delivery) ([]planned, error) {
	q := db.New(tx)
	known := stored{digests: map[string][32]byte{}, newest: map[recordKey]newest{}}
	if keys := timeless(deliveries); len(keys) > 0 {
		if err := lockRecords(ctx, q, source, keys); err != nil {
			return nil, err
		}
		if err := known.loadNewest(ctx, q, source, keys); err != nil {
			return nil, err
		}
	}
	all, err := in.plan(ctx, q, source, deliveries, known)
	if err != nil {
		return nil, err
	}
	if err := in.write(ctx, tx, source, deliveries, all); err != nil {
		return nil, err
	}
	return all, in.counts.Add(ctx, tx, counter.IngestSlots+slot, count(all))
}

// plan decides with all that is stored under the ids that the events turn out to
// have. Which those are depends in turn on what is stored: an event found to be a
// repeat changes what comes before the next one of its record. So it plans, looks
// up the ids that are new to it, and plans again until there are none; each round
// settles at least the earliest event that was still open.
func (in *Ingester) plan(ctx context.Context, q *db.Queries, source string, deliveries []Delivery, known stored) ([]planned, error) {
	looked := map[string]bool{}
	for {
		all := plan(deliveries, known.clone(), in.modules)
		open := slices.DeleteFunc(candidates(deliveries, all), func(id string) bool { return looked[id] })
		if len(open) == 0 {
			return all, nil
		}
		if err := known.loadDigests(ctx, q, source, open); err != nil {
			return nil, err
		}
		for _, id := range open {
			looked[id] = true
		}
	}
}

func lockRecords(ctx context.Context, q *db.Queries, source string, keys []recordKey) error {
	locks := make([]int64, len(keys))
	for i, k := range keys {
		locks[i] = lockKey(source, k)
	}
	if err := q.LockEventRecords(ctx, locks); err != nil {
		return fmt.Errorf("lock records: %w", err)
	}
	return nil
}

func (s stored) loadNewest(ctx context.Context, q *db.Queries, source string, keys []recordKey) error {
	p := db.ListNewestEventsParams{Source: source}
	for _, k := range keys {
		p.Modules = append(p.Modules, k.module)
		p.RecordIds = append(p.RecordIds, k.id)
	}
	rows, err := q.ListNewestEvents(ctx, p)
	if err != nil {
		return fmt.Errorf("list newest events: %w", err)
	}
	for _, r := range rows {
		s.newest[recordKey{r.Module, r.RecordID}] = newest{eventID: r.EventID, digest: [32]byte(r.Digest), other: r.OtherEventID}
	}
	return nil
}

func (s stored) loadDigests(ctx context.Context, q *db.Queries, source string, ids []string) error {
	rows, err := q.ListEventDigests(ctx, db.ListEventDigestsParams{Source: source, EventIds: ids})
	if err != nil {
		return fmt.Errorf("list event digests: %w", err)
	}
	for _, r := range rows {
		s.digests[r.EventID] = [32]byte(r.Digest)
	}
	return nil
}

// write inserts the events that are no repeats, their bodies, and their jobs.
func (in *Ingester) write(ctx context.Context, tx pgx.Tx, source string, deliveries []Delivery, all []planned) error {
	q := db.New(tx)
	fresh := make([]planned, 0, len(all))
	for _, e := range all {
		if e.status != StatusDuplicate {
			fresh = append(fresh, e)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	ids, err := q.ReserveEventIDs(ctx, int32(len(fresh)))
	if err != nil {
		return fmt.Errorf("reserve event ids: %w", err)
	}
	rows := rowsOf(source, deliveries, fresh, ids)
	if _, err := q.InsertEvents(ctx, rows.events); err != nil {
		if isKnown(err) {
			// Another transaction stored one of them after we looked. The next look sees it.
			return group.ErrConflict
		}
		return fmt.Errorf("insert events: %w", err)
	}
	if _, err := q.InsertEventBodies(ctx, rows.bodies); err != nil {
		return fmt.Errorf("insert event bodies: %w", err)
	}
	if len(rows.jobs) == 0 {
		return nil
	}
	if _, err := in.jobs.InsertManyFastTx(ctx, tx, rows.jobs); err != nil {
		return fmt.Errorf("insert jobs: %w", err)
	}
	if rows.behind > 0 {
		group.OnCommit(ctx, func() { in.shares.stored(source, rows.behind) })
	}
	return nil
}

// uniqueViolation is its SQLSTATE.
const uniqueViolation = "23505"

// isKnown reports whether an event was not stored because its key is there.
func isKnown(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == uniqueViolation && pg.ConstraintName == "events_source_event_id_key"
}

// rows are what a group inserts.
type rows struct {
	events []db.InsertEventsParams
	bodies []db.InsertEventBodiesParams
	jobs   []river.InsertManyParams
	behind int64 // the newest event whose job stands behind others; 0: none does
}

func rowsOf(source string, deliveries []Delivery, fresh []planned, ids []db.ReserveEventIDsRow) rows {
	var out rows
	bodyOf := map[int]int64{} // by delivery: the event whose row holds the body
	for n, e := range fresh {
		d := &deliveries[e.delivery]
		p := d.Events[e.event]
		id := ids[n].ID
		out.events = append(out.events, db.InsertEventsParams{
			ID: id, Source: source, EventID: e.eventID, Digest: d.Digest[:], Module: p.Module, Operation: p.Operation, RecordID: p.RecordID,
			UserID: p.UserID, ModifiedFields: append([]string{}, p.ModifiedFields...), OccurredAt: nullable(p.OccurredAt), Status: storedStatus(e.status),
			ProcessedAt: processedAt(e.status, ids[n].Now),
		})

		body, headers := []byte(nil), json.RawMessage("{}")
		if _, kept := bodyOf[e.delivery]; !kept {
			bodyOf[e.delivery], body, headers = id, d.Body, d.Headers
		}
		out.bodies = append(out.bodies, db.InsertEventBodiesParams{
			EventID: id, BodyID: bodyOf[e.delivery], ContentType: d.ContentType, Headers: headers, Body: body, Record: p.Record,
		})

		if e.status == StatusAccepted {
			params := river.InsertManyParams{Args: job.ProcessEvent{EventID: id}}
			if e.event >= len(d.Events)-d.behind {
				params.InsertOpts = &river.InsertOpts{Priority: behindOthers}
				out.behind = id
			}
			out.jobs = append(out.jobs, params)
		}
	}
	slices.SortFunc(out.events, func(a, b db.InsertEventsParams) int { return strings.Compare(a.EventID, b.EventID) })
	return out
}

// storedStatus is what an event's row says at first.
func storedStatus(status string) string {
	switch status {
	case StatusIgnored:
		return "ignored"
	case StatusLogged:
		return "processed"
	default:
		return "received"
	}
}

// processedAt is when an event was processed that nobody works.
func processedAt(status string, now time.Time) *time.Time {
	if storedStatus(status) != "processed" {
		return nil
	}
	return &now
}

func nullable(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func count(all []planned) counter.Changes {
	changes := counter.Changes{}
	for _, e := range all {
		switch e.status {
		case StatusAccepted:
			changes[counter.Queued]++
			changes[counter.Backlog]++
		case StatusDuplicate:
			changes[counter.Duplicated]++
		case StatusIgnored, StatusLogged:
			changes[counter.Ignored]++
		}
		if e.reused && e.status != StatusDuplicate {
			changes[counter.IDReused]++
		}
	}
	return changes
}

func sources(units []Delivery) []string {
	seen := map[string]bool{}
	for _, d := range units {
		seen[d.Source] = true
	}
	return sortedKeys(seen)
}

func ofSource(units []Delivery, source string) (positions []int, deliveries []Delivery) {
	for i, d := range units {
		if d.Source == source {
			positions, deliveries = append(positions, i), append(deliveries, d)
		}
	}
	return positions, deliveries
}
