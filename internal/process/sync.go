package process

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
)

// Syncer works SyncAccount jobs: the lane of an account.
type Syncer struct {
	river.WorkerDefaults[job.SyncAccount]
	source Source
	reads  *Reads // the same, when Zoho is connected; nil: payloads are all there is
	jobs   lane.Inserter
	counts *counter.Set
	retry  Retry
	writer *memory.Writer
	now    func() time.Time
	newID  func() uuid.UUID
	log    *slog.Logger
	claims *group.Committer[claim, taken]
	writes *group.Committer[synced, struct{}]
}

// NewSyncer makes a Syncer that believes source.
func NewSyncer(pool *pgxpool.Pool, jobs lane.Inserter, source Source, counts *counter.Set, retry Retry, writer *memory.Writer,
	now func() time.Time, log *slog.Logger,
) *Syncer {
	s := &Syncer{
		source: source, jobs: jobs, counts: counts, retry: retry, writer: writer, now: now, log: log,
		newID: func() uuid.UUID { return uuid.Must(uuid.NewV7()) },
	}
	s.reads, _ = source.(*Reads)
	s.claims = group.New(pool, s.take, nil, group.Options{})
	s.writes = group.New(pool, s.write, synced.size, group.Options{})
	return s
}

// synced is what a sync of one account found.
type synced struct {
	claim
	upTo         int64
	cut          bool
	rest         bool // more units of the same claim follow: the lane stays taken
	observations []Observation
	failures     []failure
	whole        *wholeRead // what was read of the whole account besides; nil: nothing
	bytes        int
}

func (u synced) size() int { return u.bytes }

// Work reads what the lane has to do, asks the source, and writes what it said.
//
// It returns nil when the lane names another job: a newer one does the work. It
// never returns an error of an event: that stands on the event's own row, with
// the lane due again for its next attempt, and the other events go on.
func (s *Syncer) Work(ctx context.Context, j *river.Job[job.SyncAccount]) error {
	c := claim{accountID: j.Args.AccountID, jobID: j.ID}
	work, err := s.claims.Do(ctx, c)
	switch {
	case ctx.Err() != nil:
		return ended(ctx)
	case err != nil:
		return wait(ctx, s.log, err, "account_id", c.accountID)
	case !work.mine:
		return nil
	case !work.notYet.IsZero():
		return river.JobSnooze(min(work.notYet.Sub(work.now), 5*time.Second))
	}
	return s.finish(ctx, c, work)
}

// finish asks the source about what was taken, and writes what it said.
func (s *Syncer) finish(ctx context.Context, c claim, work taken) error {
	observations, err := s.read(ctx, c.accountID, work)
	if ctx.Err() != nil {
		return ended(ctx)
	}
	if err != nil {
		return wait(ctx, s.log, err, "account_id", c.accountID)
	}

	u := synced{claim: c, upTo: work.upTo, cut: work.cut, observations: observations, whole: work.whole}
	u.cut = u.cut || (u.whole != nil && !u.whole.done)
	err = s.store(ctx, u, work.events)
	if err == nil {
		s.log.InfoContext(ctx, "account synced", "account_id", c.accountID, "events", len(work.events), "revision", work.upTo)
	}
	return err
}

// readTimeout bounds what a sync waits for Zoho: a call that waits to be
// gathered, and one or two more in a row.
const readTimeout = 30 * time.Second

// Timeout is River's for this job. Without Zoho nothing is waited for, and a crash
// is found the sooner.
func (s *Syncer) Timeout(*river.Job[job.SyncAccount]) time.Duration {
	if s.reads == nil {
		return 0
	}
	return readTimeout + 10*time.Second
}

// read asks the source what is true of the events' records, and for the next page
// of the account when it is read whole.
func (s *Syncer) read(ctx context.Context, accountID string, work taken) ([]Observation, error) {
	if s.reads != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, readTimeout)
		defer cancel()
	}
	observations, err := s.source.Observe(ctx, work.events)
	if err != nil {
		return nil, err
	}
	if work.whole != nil {
		page, err := s.readWhole(ctx, accountID, work.whole, work.now)
		switch {
		case err != nil && len(work.events) > 0:
			// What webhooks told does not wait for a page that Zoho does not give: the
			// next run asks for it again.
			s.log.WarnContext(ctx, "a page of the whole account could not be read", "account_id", accountID, "error", err)
		case err != nil:
			return nil, err
		}
		for i := range page {
			page[i].EventID = 0
		}
		observations = append(observations, page...)
	}
	return observations, check(work.events, observations)
}

// NextRetry spaces attempts that ended without an answer: a crash, or a fault in
// the program. River's own spacing grows to hours, for what a lane has no part in.
func (s *Syncer) NextRetry(j *river.Job[job.SyncAccount]) time.Time {
	return time.Now().Add(s.retry.after(j.Attempt))
}

// store hands the sync to the committer. When the data of one event is refused,
// events are stored one by one, so that only that one fails.
func (s *Syncer) store(ctx context.Context, u synced, events []Event) error {
	whole := u.keep(events)
	_, err := s.writes.Do(ctx, whole)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ended(ctx)
	case s.blame(err, events, u.whole) == ofWorld:
		return wait(ctx, s.log, err, "account_id", u.accountID)
	}
	last := synced{claim: u.claim, upTo: u.upTo, cut: u.cut, failures: whole.failures, whole: u.whole}
	for i, e := range events {
		if u.observations[i].Err != nil {
			continue
		}
		one := synced{claim: u.claim, upTo: u.upTo, rest: true, observations: u.observations[i : i+1], bytes: len(e.Record)}
		_, err := s.writes.Do(ctx, one)
		switch {
		case ctx.Err() != nil:
			return ended(ctx)
		case err == nil:
		case s.blame(err, events[i:i+1], nil) == ofWorld:
			return wait(ctx, s.log, err, "account_id", u.accountID)
		default:
			last.failures = append(last.failures, failure{eventID: e.ID, failures: e.Failures, err: err})
		}
	}
	for _, o := range u.observations[len(events):] {
		if o.Err != nil {
			continue
		}
		one := synced{claim: u.claim, upTo: u.upTo, rest: true, observations: []Observation{o}, bytes: o.size()}
		_, err := s.writes.Do(ctx, one)
		switch {
		case ctx.Err() != nil:
			return ended(ctx)
		case err == nil:
		case s.blame(err, events, u.whole) == ofWorld:
			return wait(ctx, s.log, err, "account_id", u.accountID)
		default:
			// No event answers for it; the next that names it will.
			s.log.WarnContext(ctx, "a record cannot be kept and is left out", "module", o.Module, "record_id", o.RecordID, "error", err)
		}
	}
	switch _, err := s.writes.Do(ctx, last); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ended(ctx)
	default:
		return wait(ctx, s.log, err, "account_id", u.accountID)
	}
}

// keep parts a sync's events into those that were observed and those at fault.
func (u synced) keep(events []Event) synced {
	all := u.observations
	u.observations = nil
	for i, o := range all {
		switch {
		case o.Err == nil:
			u.observations = append(u.observations, o)
			u.bytes += o.size()
		case i < len(events):
			u.failures = append(u.failures, failure{eventID: o.EventID, failures: events[i].Failures, err: o.Err})
		}
	}
	return u
}

// blame decides for whose fault an error is taken: one that nobody can classify
// is the world's, until an event or the read of the whole account has waited for
// too long.
func (s *Syncer) blame(err error, events []Event, whole *wholeRead) blame {
	b := classify(err)
	if b != ofUnknown {
		return b
	}
	if whole != nil && s.now().Sub(whole.since) > s.retry.GiveUpAfter {
		return ofEvent
	}
	for _, e := range events {
		if s.now().Sub(e.RoutedAt) > s.retry.GiveUpAfter {
			return ofEvent
		}
	}
	return ofWorld
}

// write is the transaction of a group of syncs: lock, load, apply, write, count.
func (s *Syncer) write(ctx context.Context, tx pgx.Tx, slot int, units []synced) ([]group.Answer[struct{}], error) {
	g := &syncGroup{units: units, answers: make([]group.Answer[struct{}], len(units)), newID: s.newID, connected: s.reads != nil}
	q := db.New(tx)
	if err := g.lock(ctx, q); err != nil {
		return nil, err
	}
	if err := g.load(ctx, q); err != nil {
		return nil, err
	}
	g.apply()
	changes, deaths, err := markFailed(ctx, q, s.retry, g.failures)
	if err != nil {
		return nil, err
	}
	if err := s.writeMemories(ctx, tx, g, deaths); err != nil {
		return nil, err
	}
	if err := s.closeLanes(ctx, tx, g); err != nil {
		return nil, err
	}
	changes[counter.Processed] = int64(len(g.processed))
	changes[counter.ProcessingMicros] = g.waited.Microseconds()
	if len(g.processed) > 0 {
		changes[counter.Batches], changes[counter.LastProcessed] = 1, g.now.UnixMilli()
	}
	if err := s.counts.Add(ctx, tx, counter.SyncSlots+slot, changes); err != nil {
		return nil, err
	}
	return g.answers, nil
}

// closeLanes ends each unit's claim: what is done, and the lane's next job when
// something came meanwhile, was left over, or is to be tried again.
func (s *Syncer) closeLanes(ctx context.Context, tx pgx.Tx, g *syncGroup) error {
	closing := g.closing()
	if len(closing) == 0 {
		return nil
	}
	accountIDs := make([]string, len(closing))
	for i, u := range closing {
		accountIDs[i] = u.accountID
	}
	q := db.New(tx)
	retryAt, err := nextRetries(ctx, q, accountIDs)
	if err != nil {
		return err
	}
	params := db.CloseAccountsParams{AccountIds: accountIDs}
	var wakes []lane.Wake
	var waking []int // positions in params
	var completed []int64
	for _, u := range closing {
		next := nextRun(u, g.lanes[u.accountID], retryAt[u.accountID], g.now)
		params.Wanted = append(params.Wanted, next.wanted)
		params.Done = append(params.Done, u.upTo)
		params.DueAt = append(params.DueAt, next.due)
		params.JobIds = append(params.JobIds, 0)
		params.LastErrors = append(params.LastErrors, u.lastError())
		whole := g.lanes[u.accountID].whole.after(u.whole)
		if !g.connected {
			// Zoho is not connected any more: nobody goes on with it, and while it stood
			// there the sweeper would take the lane for one that lost its job.
			whole = wholeState{at: whole.at}
		}
		params.WholeAt = append(params.WholeAt, whole.at)
		params.WholeSince = append(params.WholeSince, whole.since)
		params.WholeCursors = append(params.WholeCursors, whole.cursor)
		if !next.due.IsZero() {
			waking = append(waking, len(params.JobIds)-1)
			wakes = append(wakes, lane.Wake{Due: next.due, Args: job.SyncAccount{AccountID: u.accountID}})
		}
		completed = append(completed, u.jobID)
	}
	ids, err := lane.Ensure(ctx, tx, s.jobs, g.now, wakes)
	if err != nil {
		return err
	}
	for n, i := range waking {
		params.JobIds[i] = ids[n]
	}
	if err := q.CloseAccounts(ctx, params); err != nil {
		return fmt.Errorf("close accounts: %w", err)
	}
	if err := q.CompleteJobs(ctx, completed); err != nil {
		return fmt.Errorf("complete jobs: %w", err)
	}
	return nil
}

type run struct {
	wanted int64
	due    time.Time // zero: nothing is left to do
}

// nextRun says when a lane runs next. What a sync leaves to itself is work that
// it brings, so it raises wanted as whoever brings work does: otherwise the next
// run would be taken for one that is done already. retryAt is when an event of
// the lane is to be tried again; zero: none is.
func nextRun(u synced, l *accountLane, retryAt, now time.Time) run {
	next := run{wanted: l.wanted}
	bring := func(due time.Time) {
		if next.due.IsZero() || due.Before(next.due) {
			next.due = due
		}
	}
	switch {
	case l.due != nil:
		bring(*l.due)
	case l.wanted > u.upTo:
		// A later attempt of this same job has taken what came meanwhile. It will find
		// that the lane is not its own any more: the next job does its work.
		bring(now)
	}
	if u.cut {
		bring(now)
	}
	if !retryAt.IsZero() {
		bring(retryAt)
	}
	if u.cut || !retryAt.IsZero() {
		next.wanted++
	}
	return next
}

func (u synced) lastError() string {
	if len(u.failures) == 0 {
		return ""
	}
	return reason(u.failures[len(u.failures)-1].err)
}
