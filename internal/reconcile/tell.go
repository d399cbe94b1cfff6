package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/job"
)

// finding is a difference between Zoho and what we know, as the event it becomes.
type finding struct {
	module    string
	recordID  string
	operation string
	// eventID is the same for the same finding, so that one which is made twice is
	// stored once.
	eventID  string
	body     []byte
	fields   []string  // that differ, where the record is known
	happened time.Time // by Zoho's clock; zero: not known
	// unchanged says that Zoho counts the record as not modified since we know it: a
	// formula, or a field that was not asked for before. No webhook tells of that.
	unchanged bool
	// An event that came then or later has told of it.
	toldSince time.Time
}

// changeOf is the event of a record that is not as we know it. It carries the
// record as it was read.
func changeOf(module string, l listedRecord, operation string, fields []string, readAt time.Time) finding {
	f := finding{
		module: module, recordID: l.id, operation: operation, body: l.body(readAt), fields: fields,
		eventID: module + ":" + l.id + ":" + digestOf(l.json), happened: l.modified,
	}
	if !l.modified.IsZero() {
		f.toldSince = l.modified.Add(-skew)
	}
	return f
}

// deletionOf is the event of a record that is gone. It carries the id alone:
// process reads the record to learn the truth.
func deletionOf(module, id, when string, happened, toldSince time.Time) finding {
	body, _ := encode(map[string]string{"id": id})
	return finding{
		module: module, recordID: id, operation: opDelete, body: body, eventID: module + ":" + id + ":gone:" + when,
		happened: happened, toldSince: toldSince,
	}
}

// tally is what one transaction has to count.
type tally struct {
	read, changed, gone, missed int64
	anew                        bool // what was read before does not count
}

// stored is how many events it made.
func (t tally) stored() int64 { return t.changed + t.gone }

// tell stores findings as events with their bodies and jobs, and counts them.
// Those that were made before and are not worked yet are left out.
func (r *Reconciler) tell(ctx context.Context, tx pgx.Tx, run db.LockSyncRow, findings []finding, readAt time.Time) (tally, error) {
	q := db.New(tx)
	fresh, err := unsaid(ctx, q, run, findings, readAt)
	if err != nil || len(fresh) == 0 {
		return tally{}, err
	}
	if fresh, err = r.insert(ctx, tx, fresh); err != nil {
		return tally{}, err
	}
	var t tally
	for _, f := range fresh {
		if f.operation == opDelete {
			t.gone++
		} else {
			t.changed++
		}
	}
	if t.missed, err = r.countMissed(ctx, q, run, fresh); err != nil {
		return tally{}, err
	}
	slot := counter.ReconcileSlots
	if run.Kind == Incremental {
		slot++
	}
	return t, r.counts.Add(ctx, tx, slot, counter.Changes{
		counter.Queued: t.stored(), counter.Backlog: t.stored(), counter.Missed: t.missed,
	})
}

// unsaid leaves out what was found before and is on its way, or died on it: that
// waits for a person. What was worked before this page was read and yet differs
// is found once more by each sync: a formula may have gone there and back, or a
// record was deleted and restored.
func unsaid(ctx context.Context, q *db.Queries, run db.LockSyncRow, findings []finding, readAt time.Time) ([]finding, error) {
	if len(findings) == 0 {
		return nil, nil
	}
	var p db.ListReconcileEventsParams
	for _, f := range findings {
		p.Modules, p.RecordIds, p.EventIds = append(p.Modules, f.module), append(p.RecordIds, f.recordID), append(p.EventIds, f.eventID)
	}
	rows, err := q.ListReconcileEvents(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list events of reconciliation: %w", err)
	}
	before := make(map[int64]db.ListReconcileEventsRow, len(rows))
	for _, row := range rows {
		before[row.Position] = row
	}
	var fresh []finding
	for i, f := range findings {
		if b, found := before[int64(i+1)]; found {
			if b.Status != "processed" || b.ProcessedAt == nil || !b.ProcessedAt.Before(readAt) {
				continue
			}
			f.eventID += ":" + run.ID.String()
		}
		fresh = append(fresh, f)
	}
	return fresh, nil
}

// insert stores events that are not there yet, and returns them.
func (r *Reconciler) insert(ctx context.Context, tx pgx.Tx, findings []finding) ([]finding, error) {
	if len(findings) == 0 {
		return nil, nil
	}
	q := db.New(tx)
	ids, err := q.ReserveEventIDs(ctx, int32(len(findings)))
	if err != nil {
		return nil, fmt.Errorf("reserve event ids: %w", err)
	}
	var events db.InsertReconcileEventsParams
	for i, f := range findings {
		digest := sha256.Sum256(f.body)
		events.Ids = append(events.Ids, ids[i].ID)
		events.EventIds = append(events.EventIds, f.eventID)
		events.Digests = append(events.Digests, digest[:])
		events.Modules = append(events.Modules, f.module)
		events.Operations = append(events.Operations, f.operation)
		events.RecordIds = append(events.RecordIds, f.recordID)
		events.ModifiedFields = append(events.ModifiedFields, joinFields(f.fields))
		events.OccurredAt = append(events.OccurredAt, f.happened)
	}
	inserted, err := q.InsertReconcileEvents(ctx, events)
	if err != nil {
		return nil, fmt.Errorf("insert events: %w", err)
	}
	isNew := make(map[int64]bool, len(inserted))
	for _, id := range inserted {
		isNew[id] = true
	}
	var fresh []finding
	var bodies []db.InsertEventBodiesParams
	var jobs []river.InsertManyParams
	for i, f := range findings {
		if !isNew[ids[i].ID] {
			continue
		}
		fresh = append(fresh, f)
		bodies = append(bodies, db.InsertEventBodiesParams{
			EventID: ids[i].ID, BodyID: ids[i].ID, ContentType: "application/json", Headers: json.RawMessage("{}"), Body: f.body, Record: f.body,
		})
		jobs = append(jobs, river.InsertManyParams{Args: job.ProcessEvent{EventID: ids[i].ID}})
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	if _, err := q.InsertEventBodies(ctx, bodies); err != nil {
		return nil, fmt.Errorf("insert event bodies: %w", err)
	}
	if _, err := r.jobs.InsertManyTx(ctx, tx, jobs); err != nil {
		return nil, fmt.Errorf("insert jobs: %w", err)
	}
	return fresh, nil
}

// joinFields joins field names with the separator that the insert splits them by.
func joinFields(names []string) string {
	const separator = "\x1f"
	clean := make([]string, len(names))
	for i, n := range names {
		clean[i] = strings.ReplaceAll(n, separator, " ")
	}
	return strings.Join(clean, separator)
}

// countMissed counts findings that webhooks were to tell of and did not. Before
// the first sync has ended nobody was to tell of anything.
func (r *Reconciler) countMissed(ctx context.Context, q *db.Queries, run db.LockSyncRow, findings []finding) (int64, error) {
	if !run.CountsMissed {
		return 0, nil
	}
	var p db.ListToldChangesParams
	for _, f := range findings {
		if f.unchanged || f.happened.After(run.Now.Add(-r.o.Grace)) {
			continue
		}
		p.RecordIds = append(p.RecordIds, f.recordID)
		p.Since = append(p.Since, f.toldSince)
		p.Deletions = append(p.Deletions, f.operation == opDelete)
	}
	if len(p.RecordIds) == 0 {
		return 0, nil
	}
	told, err := q.ListToldChanges(ctx, p)
	if err != nil {
		return 0, fmt.Errorf("list changes that were told of: %w", err)
	}
	return int64(len(p.RecordIds) - len(told)), nil
}
