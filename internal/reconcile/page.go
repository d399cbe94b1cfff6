package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/zoho"
)

// The phases of a part.
const (
	phaseRecords = "records"
	phaseDeleted = "deleted"
	phaseDone    = "done"
	phaseSkipped = "skipped"
)

// maxGone is how many deletions one transaction stores: a module that nobody
// lets us read any more has all of its records gone at once.
const maxGone = 1000

// tries is how often a record is read that could not be taken: with its page,
// and twice singly.
const tries = 3

var (
	// errOvertaken says that somebody newer works the sync, or that it does not run any more.
	errOvertaken = errors.New("the sync is another's")
	// errBacklog says that there is no room for more events now.
	errBacklog = errors.New("too many events wait to be routed")
	// errEmpty is a list that shows nothing of a module in which Zoho counts records:
	// rather a fault than that all of them are gone.
	errEmpty = errors.New("Zoho counts records and lists none")
)

const (
	// anewAfter is how long a part stands still before it begins anew because Zoho
	// does not take its page token any more. One that it never takes would begin
	// anew without end.
	anewAfter = time.Hour
	// brokenFor is how long a sync stands still because Zoho fails on one module,
	// while it answers otherwise; then the module is left out.
	brokenFor = 2 * time.Hour
)

// page is a part of what Zoho lists, with the time just before it was read.
type page struct {
	readAt  time.Time
	records []zoho.Record
	deleted []zoho.DeletedRecord
	next    zoho.Cursor // "" when this was the last
}

// step reads the next page of a part, stores what it says, and returns the part
// as it is then.
func (r *Reconciler) step(ctx context.Context, s *slice, p db.SyncPart) (db.SyncPart, error) {
	if r.crowded() {
		return p, errBacklog
	}
	pg, err := r.read(ctx, s, p)
	switch kind := zoho.KindOf(err); {
	case err == nil:
		return r.store(ctx, s, p, pg)
	case p.Cursor != "" && lapsed(err) && r.stoodStill(s, anewAfter):
		anew := p
		anew.Cursor, anew.AfterID = "", ""
		return r.move(ctx, s, p, anew, true)
	case lapsed(err):
		return p, err
	case kind == zoho.KindForbidden, kind == zoho.KindInvalid, kind == zoho.KindTooLarge, broken(err) && r.stoodStill(s, brokenFor):
		r.o.Log.WarnContext(ctx, "sync leaves a module out that Zoho does not let us read",
			"sync_id", s.sync.ID, "module", p.Module, "phase", p.Phase, "error", err)
		left := p
		left.Phase, left.LastError = phaseSkipped, reason(err)
		if p.Phase == phaseDeleted {
			left.Phase = phaseDone // its records were read
		}
		return r.move(ctx, s, p, left, false)
	default:
		return p, err
	}
}

// stoodStill reports whether a sync has made no progress for so long.
func (r *Reconciler) stoodStill(s *slice, d time.Duration) bool {
	return r.o.Now().Sub(s.sync.UpdatedAt) >= d
}

// broken reports whether Zoho answered that it cannot, as it does when something
// is wrong with what was asked for, and not when all of it is away.
func broken(err error) bool {
	var e *zoho.Error
	return errors.As(err, &e) && e.Kind == zoho.KindUnavailable && e.Status >= 500 && e.Code != ""
}

// lapsed reports whether Zoho has forgotten where a list was: a page token is
// good for a day, and less than a long wait takes.
func lapsed(err error) bool {
	var e *zoho.Error
	return errors.As(err, &e) && (e.Code == "EXPIRED_VALUE" || e.Code == "TOKEN_BOUND_DATA_MISMATCH")
}

// read asks Zoho for the next page of a part.
func (r *Reconciler) read(ctx context.Context, s *slice, p db.SyncPart) (page, error) {
	pg := page{}
	var err error
	if pg.readAt, err = db.New(r.pool).ReadClock(ctx); err != nil {
		return pg, fmt.Errorf("read the database's clock: %w", err)
	}
	since, err := r.since(ctx, s, p)
	if err != nil {
		return pg, err
	}
	if p.Phase == phaseDeleted {
		answer, err := r.zoho.Deleted(ctx, p.Module, since, zoho.Cursor(p.Cursor))
		if err != nil {
			return pg, fmt.Errorf("list deleted %s: %w", p.Module, err)
		}
		pg.deleted, pg.next = answer.Records, answer.Next
		return pg, nil
	}
	answer, err := r.zoho.List(ctx, p.Module, zoho.ListOptions{
		Since: since, Cursor: zoho.Cursor(p.Cursor), PerPage: r.perPage, ByID: s.sync.Kind == Full,
	})
	if err != nil {
		return pg, fmt.Errorf("list %s: %w", p.Module, err)
	}
	pg.records, pg.next = answer.Records, answer.Next
	if s.sync.Kind == Full && p.Cursor == "" && pg.next == "" && len(pg.records) == 0 && p.Expected > 0 {
		return pg, fmt.Errorf("list %s: %w", p.Module, errEmpty)
	}
	return pg, nil
}

// since is from when on changes of a part's module are looked at: the start of
// the last sync that read the module to its end. One that left it out, because
// Zoho did not let it be read, says nothing of it. Zero: everything is.
func (r *Reconciler) since(ctx context.Context, s *slice, p db.SyncPart) (time.Time, error) {
	if s.sync.Since == nil {
		return time.Time{}, nil
	}
	read, err := db.New(r.pool).ModuleReadBefore(ctx, db.ModuleReadBeforeParams{Module: p.Module, Before: s.sync.StartedAt})
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("look when %s was read: %w", p.Module, err)
	}
	return read.Add(-overlap), nil
}

// move stores where a part is, and nothing else. A part that begins anew has read nothing.
func (r *Reconciler) move(ctx context.Context, s *slice, from, to db.SyncPart, anew bool) (db.SyncPart, error) {
	err := r.inPart(ctx, s, from, func(_ pgx.Tx, q *db.Queries, _ db.LockSyncRow) error {
		return advance(ctx, q, s, to, tally{anew: anew})
	})
	return to, err
}

// store is the transaction of a page: what differs becomes events, and the part
// goes on behind it.
func (r *Reconciler) store(ctx context.Context, s *slice, p db.SyncPart, pg page) (db.SyncPart, error) {
	taken, broken := takeAll(pg.records)
	ids := idsOf(pg.records)
	next := p
	var stored int64
	err := r.inPart(ctx, s, p, func(tx pgx.Tx, q *db.Queries, run db.LockSyncRow) error {
		next = p
		findings, rest, err := r.find(ctx, q, run, p, pg, taken, ids)
		if err != nil {
			return err
		}
		if rest != "" {
			// More is gone than one transaction stores: the page is read again for the rest.
			next.AfterID = rest
		} else {
			next = behind(p, pg, ids, run.Kind)
			if err := insertErrors(ctx, q, p, broken); err != nil {
				return err
			}
		}
		t, err := r.tell(ctx, tx, run, findings, pg.readAt)
		if err != nil {
			return err
		}
		if rest == "" {
			t.read = int64(len(pg.records))
		}
		stored = t.stored()
		return advance(ctx, q, s, next, t)
	})
	if err == nil {
		r.counts.Settle(0, stored)
	}
	return next, err
}

// inPart is a transaction of a part that is still where the caller read from.
func (r *Reconciler) inPart(ctx context.Context, s *slice, p db.SyncPart, do func(pgx.Tx, *db.Queries, db.LockSyncRow) error) error {
	return r.inSync(ctx, s, func(tx pgx.Tx, q *db.Queries, run db.LockSyncRow) error {
		is, err := q.GetSyncPart(ctx, db.GetSyncPartParams{SyncID: p.SyncID, Module: p.Module})
		if err != nil {
			return fmt.Errorf("get part %s: %w", p.Module, err)
		}
		if is.Phase != p.Phase || is.Cursor != p.Cursor || is.AfterID != p.AfterID {
			return errOvertaken
		}
		return do(tx, q, run)
	})
}

// inSync is a transaction that holds the sync; it returns errOvertaken when the
// sync does not run or names another job.
func (r *Reconciler) inSync(ctx context.Context, s *slice, do func(pgx.Tx, *db.Queries, db.LockSyncRow) error) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		run, err := q.LockSync(ctx, s.sync.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return errOvertaken
		}
		if err != nil {
			return fmt.Errorf("lock sync: %w", err)
		}
		if run.State != Running || run.JobID == nil || *run.JobID != s.jobID {
			return errOvertaken
		}
		return do(tx, q, run)
	})
}

// behind is where a part is after a page.
func behind(p db.SyncPart, pg page, ids []string, kind string) db.SyncPart {
	p.Cursor = string(pg.next)
	if kind == Full && len(ids) > 0 {
		p.AfterID = slices.MaxFunc(ids, byID)
	}
	if pg.next != "" {
		return p
	}
	p.AfterID = ""
	switch {
	case p.Phase == phaseRecords && kind == Incremental:
		p.Phase = phaseDeleted
	default:
		p.Phase = phaseDone
	}
	return p
}

// idsOf are the ids that a page lists: also of records that cannot be taken, which
// are there all the same.
func idsOf(records []zoho.Record) []string {
	ids := []string{}
	for _, r := range records {
		if id := strings.TrimSpace(cleanText(r.ID())); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// advance writes where a part is now, and what there is to count.
func advance(ctx context.Context, q *db.Queries, s *slice, p db.SyncPart, t tally) error {
	err := q.AdvanceSyncPart(ctx, db.AdvanceSyncPartParams{
		SyncID: p.SyncID, Module: p.Module, Phase: p.Phase, Cursor: p.Cursor, AfterID: p.AfterID, LastError: p.LastError,
		Anew: t.anew, Read: t.read, Changed: t.changed, Gone: t.gone, Missed: t.missed,
	})
	if err != nil {
		return fmt.Errorf("advance part %s: %w", p.Module, err)
	}
	if err := q.ProgressSync(ctx, db.ProgressSyncParams{ID: p.SyncID, Calls: s.takeCalls()}); err != nil {
		return fmt.Errorf("say that the sync goes on: %w", err)
	}
	return nil
}

// brokenRecord is a record that cannot be taken.
type brokenRecord struct {
	id    string
	err   error
	tried int32
}

// takeAll reads a page's records. Of one that is listed twice the last counts.
func takeAll(records []zoho.Record) (taken []listedRecord, broken []brokenRecord) {
	at := map[string]int{}
	for _, r := range records {
		l, err := take(r)
		switch i, twice := at[l.id]; {
		case err != nil && l.id == "":
			// There is no asking for it singly.
			broken = append(broken, brokenRecord{id: nameless(r), err: err, tried: tries})
		case err != nil:
			broken = append(broken, brokenRecord{id: l.id, err: err, tried: 1})
		case twice:
			taken[i] = l
		default:
			at[l.id] = len(taken)
			taken = append(taken, l)
		}
	}
	return taken, broken
}

func insertErrors(ctx context.Context, q *db.Queries, p db.SyncPart, broken []brokenRecord) error {
	if len(broken) == 0 {
		return nil
	}
	params := db.InsertSyncErrorsParams{SyncID: p.SyncID, Module: p.Module}
	for _, b := range broken {
		params.RecordIds = append(params.RecordIds, b.id)
		params.Errors = append(params.Errors, reason(b.err))
		params.Attempts = append(params.Attempts, b.tried)
	}
	if err := q.InsertSyncErrors(ctx, params); err != nil {
		return fmt.Errorf("insert sync errors: %w", err)
	}
	return nil
}

// find returns what of a page is not as we know it. rest is "", or the id up to
// which it looked for what is gone, when there was too much of it: then nothing
// else of the page is in the findings.
func (r *Reconciler) find(ctx context.Context, q *db.Queries, run db.LockSyncRow, p db.SyncPart, pg page, taken []listedRecord, ids []string,
) (findings []finding, rest string, err error) {
	if p.Phase == phaseDeleted {
		findings, err = findDeleted(ctx, q, run.ID, p.Module, pg.deleted)
		return findings, "", err
	}
	if run.Kind == Full {
		gone, err := r.findUnlisted(ctx, q, run.ID, p, pg, ids)
		if err != nil {
			return nil, "", err
		}
		if len(gone) == maxGone {
			return gone, gone[maxGone-1].recordID, nil
		}
		findings = gone
	}
	changed, err := findChanged(ctx, q, p.Module, pg.readAt, taken)
	return append(findings, changed...), "", err
}

// findChanged holds listed records against those we know.
func findChanged(ctx context.Context, q *db.Queries, module string, readAt time.Time, taken []listedRecord) ([]finding, error) {
	ids := make([]string, len(taken))
	for i, l := range taken {
		ids[i] = l.id
	}
	known, err := knownRecords(ctx, q, module, ids)
	if err != nil {
		return nil, err
	}
	var findings []finding
	for _, l := range taken {
		if operation, fields := judge(known[l.id], l, readAt); operation != "" {
			f := changeOf(module, l, operation, fields, readAt)
			f.unchanged = operation == opUpdate && notModified(known[l.id], l)
			findings = append(findings, f)
		}
	}
	return findings, nil
}

func knownRecords(ctx context.Context, q *db.Queries, module string, ids []string) (map[string]*db.ListKnownRecordsRow, error) {
	known := make(map[string]*db.ListKnownRecordsRow, len(ids))
	if len(ids) == 0 {
		return known, nil
	}
	rows, err := q.ListKnownRecords(ctx, db.ListKnownRecordsParams{Module: module, RecordIds: ids})
	if err != nil {
		return nil, fmt.Errorf("list known records: %w", err)
	}
	for i := range rows {
		known[rows[i].RecordID] = &rows[i]
	}
	return known, nil
}

// findDeleted returns those of the deleted records that we take for alive.
func findDeleted(ctx context.Context, q *db.Queries, syncID uuid.UUID, module string, deleted []zoho.DeletedRecord) ([]finding, error) {
	var ids []string
	for _, d := range deleted {
		if d.ID != "" {
			ids = append(ids, d.ID)
		}
	}
	known, err := knownRecords(ctx, q, module, ids)
	if err != nil {
		return nil, err
	}
	var findings []finding
	for _, d := range deleted {
		k := known[d.ID]
		if k == nil || k.DeletedAt != nil {
			continue
		}
		if at := d.DeletedAt.UTC(); at.IsZero() {
			findings = append(findings, deletionOf(module, d.ID, syncID.String(), at, k.UpdatedAt))
		} else {
			findings = append(findings, deletionOf(module, d.ID, at.Format(time.RFC3339), at, at.Add(-skew)))
		}
		delete(known, d.ID) // listed twice
	}
	return findings, nil
}

// findUnlisted returns what we take for alive and Zoho leaves out between the
// page before and this one. It cannot be told from a page out of order, so there
// nothing is gone.
func (r *Reconciler) findUnlisted(ctx context.Context, q *db.Queries, syncID uuid.UUID, p db.SyncPart, pg page, ids []string) ([]finding, error) {
	if !slices.IsSortedFunc(ids, byID) {
		r.o.Log.WarnContext(ctx, "Zoho lists a page out of order: what is gone is not looked for", "sync_id", syncID, "module", p.Module)
		return nil, nil
	}
	params := db.ListUnlistedRecordsParams{
		Module: p.Module, AfterLength: int32(len(p.AfterID)), AfterID: p.AfterID, LastLength: math.MaxInt32, ReadAt: pg.readAt, MaxRecords: maxGone,
		Listed: ids,
	}
	if pg.next != "" {
		if len(ids) == 0 {
			return nil, nil // the next page's range begins where this one's does
		}
		params.LastID = slices.MaxFunc(ids, byID)
		params.LastLength = int32(len(params.LastID))
	}
	rows, err := q.ListUnlistedRecords(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("list unlisted records: %w", err)
	}
	findings := make([]finding, len(rows))
	for i, row := range rows {
		// When it went is not known: whoever told of it did so after we last wrote it.
		findings[i] = deletionOf(p.Module, row.RecordID, syncID.String(), time.Time{}, row.UpdatedAt)
	}
	return findings, nil
}
