package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

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

// Router works ProcessEvent jobs: an event takes a revision of its account, and
// the account's lane is woken, in one transaction.
type Router struct {
	river.WorkerDefaults[job.ProcessEvent]
	pool     *pgxpool.Pool
	jobs     lane.Inserter
	counts   *counter.Set
	retry    Retry
	debounce time.Duration
	teller   *memory.Teller
	log      *slog.Logger
	handOver *handOver                       // nil: the queue hands lanes to workers
	applier  *Applier                        // of events that are about no account
	commits  *group.Committer[arrival, bool] // answers whether it routed the event
}

// arrival is one event to be routed.
type arrival struct {
	eventID int64
	jobID   int64
	behind  bool // its source is over its share: others go first
}

// NewRouter makes a Router. debounce is how long an account's update that touches
// no critical field waits for further ones; teller tells of events that die.
func NewRouter(pool *pgxpool.Pool, jobs lane.Inserter, counts *counter.Set, retry Retry, debounce time.Duration,
	teller *memory.Teller, log *slog.Logger,
) *Router {
	r := &Router{pool: pool, jobs: jobs, counts: counts, retry: retry, debounce: debounce, teller: teller, log: log}
	r.applier = NewApplier(pool, nil, counts, log)
	r.commits = group.New(pool, r.route, nil, group.Options{})
	return r
}

// Apply makes r hand what other memory systems sent to a, before the first job is
// worked. Without it such an event only ends: it stays on record, and no memory changes.
func (r *Router) Apply(a *Applier) { r.applier = a }

// Work routes the event, unless it is routed already. One of another memory system
// goes to the Applier instead.
//
// An error of the event itself is returned, so that River tries again and at
// last discards; the event's row says so before. The world's failures snooze.
func (r *Router) Work(ctx context.Context, j *river.Job[job.ProcessEvent]) error {
	u := arrival{eventID: j.Args.EventID, jobID: j.ID, behind: j.Priority > 1}
	routed, err := r.commits.Do(ctx, u)
	if errors.Is(err, errTold) {
		routed, err = r.applier.follow(ctx, u)
	}
	if routed {
		r.counts.Routed(1)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ended(ctx)
	}
	switch classify(err) {
	case ofEvent:
	case ofUnknown:
		if time.Since(j.CreatedAt) < r.retry.GiveUpAfter {
			return wait(ctx, r.log, err, "event_id", j.Args.EventID)
		}
	default:
		return wait(ctx, r.log, err, "event_id", j.Args.EventID)
	}
	dead, markErr := r.mark(ctx, j.Args.EventID, err)
	if markErr != nil {
		return wait(ctx, r.log, markErr, "event_id", j.Args.EventID)
	}
	if dead && j.Attempt < j.MaxAttempts {
		// Earlier attempts were another job's. River would go on trying.
		return river.JobCancel(err)
	}
	return err
}

// NextRetry spaces attempts as the event's row says it.
func (r *Router) NextRetry(j *river.Job[job.ProcessEvent]) time.Time {
	return time.Now().Add(r.retry.after(j.Attempt))
}

// mark records a fault of the event on its row, and reports whether that was
// its last attempt.
func (r *Router) mark(ctx context.Context, eventID int64, fault error) (dead bool, err error) {
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		// Meanwhile another attempt may have routed it, or have it in hand: then this
		// one's fault is not the event's, and its lane must not find it failed.
		events, err := q.LockEvents(ctx, []int64{eventID})
		if err != nil {
			return fmt.Errorf("lock event: %w", err)
		}
		if len(events) == 0 || !open(events[0]) {
			return nil
		}
		changes, deaths, err := markFailed(ctx, q, r.retry, []failure{{eventID: eventID, err: fault}})
		if err != nil {
			return err
		}
		if _, err := r.teller.Tell(ctx, tx, deaths); err != nil {
			return fmt.Errorf("tell of a dead event: %w", err)
		}
		dead = changes[counter.Died] > 0
		changes[counter.Backlog] = -changes[counter.Died]
		return r.counts.Add(ctx, tx, counter.FaultSlot, changes)
	})
	if err == nil && dead {
		r.counts.Routed(1)
	}
	return dead, err
}

// route is the transaction: lock, load, apply, write, count.
func (r *Router) route(ctx context.Context, tx pgx.Tx, slot int, units []arrival) ([]group.Answer[bool], error) {
	q := db.New(tx)
	ids := make([]int64, len(units))
	for i, u := range units {
		ids[i] = u.eventID
	}
	rows, err := q.ListEventsToRoute(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list events to route: %w", err)
	}
	targets := make(map[int64]target, len(rows))
	for _, row := range rows {
		targets[row.ID] = r.target(row)
	}
	lanes, now, err := lockLanes(ctx, q, targets)
	if err != nil {
		return nil, err
	}
	locked, err := q.LockEvents(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("lock events: %w", err)
	}
	events := make(map[int64]db.LockEventsRow, len(locked))
	for _, e := range locked {
		events[e.ID] = e
	}

	plan := routing{lanes: lanes, now: now, debounce: r.debounce}
	r.handOver.offer(lanes)
	answers := make([]group.Answer[bool], len(units))
	for i, u := range units {
		row, isLocked := events[u.eventID]
		aim, isThere := targets[u.eventID]
		switch {
		case !isThere:
			// Deleted by retention or by hand: there is nothing left to do.
			plan.completed = append(plan.completed, u.jobID)
		case !isLocked:
			answers[i].Err = group.ErrHeld
		case !open(row):
			plan.completed = append(plan.completed, u.jobID)
		case aim.err != nil:
			answers[i].Err = aim.err
		case plan.take(u, aim):
			answers[i].Value = true
			// Two jobs of one event may meet in one group: the second finds it routed.
			row.Status = "routed"
			events[u.eventID] = row
		default:
			answers[i].Err = group.ErrHeld
		}
	}
	if err := r.write(ctx, tx, slot, plan); err != nil {
		return nil, err
	}
	return answers, nil
}

// open reports whether an event is still to be routed.
func open(e db.LockEventsRow) bool {
	return e.Revision == nil && (e.Status == "received" || e.Status == "retrying")
}

// target is where an event shall go.
type target struct {
	accountID string
	atOnce    bool
	err       error // a fault of this event, or errTold
	row       db.ListEventsToRouteRow
}

func (r *Router) target(row db.ListEventsToRouteRow) target {
	if row.Source == sourceMemory {
		return target{err: errTold}
	}
	if row.Record == nil {
		return target{err: fmt.Errorf("%w: %w", errEvent, errNoBody)}
	}
	var fields Fields
	if err := json.Unmarshal(row.Record, &fields); err != nil {
		return target{err: fmt.Errorf("%w: the record is not a JSON object", errEvent)}
	}
	id, known := accountOf(row.Module, row.RecordID, fields)
	if !known {
		id = row.KnownAccount
	}
	if id == "" {
		id = ownLane(row.Module, row.RecordID)
	}
	return target{accountID: id, atOnce: atOnce(row.Module, row.Operation, row.ModifiedFields), row: row}
}

// routing is what a group of events does to their lanes.
type routing struct {
	lanes     map[string]*accountLane
	now       time.Time
	debounce  time.Duration
	routed    db.MarkEventsRoutedParams
	completed []int64
}

// accountLane is a locked row of accounts.
type accountLane struct {
	wanted, done int64
	due          *time.Time
	jobID        *int64
	woken        bool
	behind       bool // all that woke it let others go first
	whole        wholeState
	handed       *handed // nil: its work goes through the queue
}

// take gives the event the next revision of its lane, and reports false when
// somebody else holds that.
func (p *routing) take(u arrival, t target) bool {
	l, ok := p.lanes[t.accountID]
	if !ok {
		return false
	}
	l.wanted++
	due := p.now
	if !t.atOnce {
		due = due.Add(p.debounce)
	}
	// The earlier of the two: further updates never push a debounce back.
	if l.due == nil || due.Before(*l.due) {
		l.due = &due
	}
	l.behind = u.behind && (l.behind || !l.woken)
	l.woken = true
	l.handed.add(event(t, l.wanted, p.now))
	p.routed.Ids = append(p.routed.Ids, u.eventID)
	p.routed.AccountIds = append(p.routed.AccountIds, t.accountID)
	p.routed.Revisions = append(p.routed.Revisions, l.wanted)
	p.completed = append(p.completed, u.jobID)
	return true
}

func (r *Router) write(ctx context.Context, tx pgx.Tx, slot int, p routing) error {
	q := db.New(tx)
	if len(p.routed.Ids) > 0 {
		if err := q.MarkEventsRouted(ctx, p.routed); err != nil {
			return fmt.Errorf("mark events routed: %w", err)
		}
		if err := wakeLanes(ctx, tx, r.jobs, p.now, p.lanes); err != nil {
			return err
		}
		if err := r.handOver.take(ctx, q, p); err != nil {
			return err
		}
	}
	if err := q.CompleteJobs(ctx, p.completed); err != nil {
		return fmt.Errorf("complete jobs: %w", err)
	}
	n := int64(len(p.routed.Ids))
	if err := r.counts.Add(ctx, tx, counter.RouteSlots+slot, counter.Changes{counter.Backlog: -n}); err != nil {
		return err
	}
	return nil
}

// lockLanes locks the lanes of all targets, making those that are not there. A
// lane that somebody else holds is left out.
func lockLanes(ctx context.Context, q *db.Queries, targets map[int64]target) (map[string]*accountLane, time.Time, error) {
	wanted := map[string]bool{}
	for _, t := range targets {
		if t.err == nil {
			wanted[t.accountID] = true
		}
	}
	if len(wanted) == 0 {
		return nil, time.Time{}, nil
	}
	ids := sortedKeys(wanted)
	rows, err := q.LockAccounts(ctx, ids)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("lock accounts: %w", err)
	}
	var now time.Time
	lanes := make(map[string]*accountLane, len(ids))
	for _, a := range rows {
		lanes[a.AccountID] = newLane(a)
		now = a.Now
	}
	missing := slices.DeleteFunc(ids, func(id string) bool { return lanes[id] != nil })
	if len(missing) > 0 {
		made, err := q.InsertAccounts(ctx, missing)
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("insert accounts: %w", err)
		}
		for _, a := range made {
			lanes[a.AccountID] = &accountLane{}
			now = a.Now
		}
	}
	return lanes, now, nil
}

func newLane(row db.LockAccountsRow) *accountLane {
	return &accountLane{
		wanted: row.Wanted, done: row.Done, due: row.DueAt, jobID: row.JobID,
		whole: wholeState{at: orZero(row.WholeAt), since: orZero(row.WholeSince), cursor: row.WholeCursor},
	}
}

// wakeLanes writes the woken lanes and sees to the one job of each.
func wakeLanes(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, now time.Time, lanes map[string]*accountLane) error {
	var params db.WakeAccountsParams
	var wakes []lane.Wake
	for _, id := range sortedKeys(lanes) {
		l := lanes[id]
		if !l.woken {
			continue
		}
		params.AccountIds = append(params.AccountIds, id)
		params.Wanted = append(params.Wanted, l.wanted)
		params.DueAt = append(params.DueAt, *l.due)
		wakes = append(wakes, lane.Wake{JobID: l.jobID, Due: *l.due, Args: job.SyncAccount{AccountID: id}, Behind: l.behind, Claim: l.handed.ask(l.behind)})
	}
	var err error
	if params.JobIds, err = lane.Ensure(ctx, tx, jobs, now, wakes); err != nil {
		return err
	}
	for i, id := range params.AccountIds {
		if lanes[id].handed.takesAll() {
			params.DueAt[i] = time.Time{}
		}
	}
	if err := db.New(tx).WakeAccounts(ctx, params); err != nil {
		return fmt.Errorf("wake accounts: %w", err)
	}
	return nil
}

// errEvent marks a fault of the event itself that was found without Postgres.
var errEvent = errors.New("event cannot be worked")
