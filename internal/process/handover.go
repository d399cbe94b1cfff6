package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/lane"
)

// handOver has lanes synced in the process that has woken them, as soon as that is
// committed. Their jobs are there as ones that run: when the process is gone, they are
// worked by others.
type handOver struct {
	syncer *Syncer
	here   *lane.Here
}

// HandTo makes r have the lanes that it wakes worked by s at once, as many at one time
// as here has room for; the others go through the queue. To be called before the first
// job is worked.
func (r *Router) HandTo(s *Syncer, here *lane.Here) { r.handOver = &handOver{syncer: s, here: here} }

// Wait returns when no event is on its way into its lane: then no lane is handed over
// any more, provided that no job runs.
func (r *Router) Wait() {
	r.commits.Wait()
	r.applier.commits.Wait()
}

// handed is the work of one lane that may be begun here. All methods do nothing on nil.
type handed struct {
	here   *lane.Here
	claim  *lane.Claim // nil: it was not asked for
	idle   bool        // the lane had no work before: what is routed now is all of it
	events []Event
	bytes  int
}

// offer says of each lane what is handed over when it is woken.
func (h *handOver) offer(lanes map[string]*accountLane) {
	if h == nil {
		return
	}
	for _, l := range lanes {
		l.handed = &handed{here: h.here, idle: l.jobID == nil && l.due == nil && l.wanted == l.done}
	}
}

func (h *handed) add(e Event) {
	if h == nil {
		return
	}
	h.events = append(h.events, e)
	h.bytes += len(e.Record)
}

// ask is the claim to ask for.
func (h *handed) ask(behind bool) *lane.Claim {
	if h == nil {
		return nil
	}
	h.claim = h.here.Claim(behind)
	return h.claim
}

func (h *handed) claimed() bool { return h != nil && h.claim != nil && h.claim.JobID != 0 }

// takesAll reports whether the lane's work is what was routed to it just now, and fits
// into one sync: then it is taken in the same transaction, and nobody reads it again.
func (h *handed) takesAll() bool {
	return h.claimed() && h.idle && len(h.events) <= maxTakenEvents && h.bytes <= maxTakenBytes
}

// take takes the work of the lanes whose jobs were claimed, and has it begun once the
// transaction is committed.
func (h *handOver) take(ctx context.Context, q *db.Queries, p routing) error {
	if h == nil {
		return nil
	}
	var units []claim
	var answers []group.Answer[taken]
	for _, id := range sortedKeys(p.lanes) {
		l := p.lanes[id]
		switch {
		case l.handed.takesAll():
			units = append(units, claim{accountID: id, jobID: l.handed.claim.JobID})
			answers = append(answers, group.Answer[taken]{Value: taken{mine: true, now: p.now, upTo: l.wanted, events: l.handed.events}})
		case l.handed.claimed():
			c := claim{accountID: id, jobID: l.handed.claim.JobID}
			group.OnCommit(ctx, func() { h.begin(c, h.syncer.workHere) })
		}
	}
	if len(units) == 0 {
		return nil
	}
	if h.syncer.reads != nil {
		if err := h.syncer.planWhole(ctx, q, units, p.lanes, answers); err != nil {
			return fmt.Errorf("plan reads of whole accounts: %w", err)
		}
	}
	group.OnCommit(ctx, func() {
		for i, c := range units {
			h.begin(c, func(ctx context.Context, c claim) error { return h.syncer.finish(ctx, c, answers[i].Value) })
		}
	})
	return nil
}

func (h *handOver) begin(c claim, work func(context.Context, claim) error) {
	h.here.Begin(c.jobID, h.syncer.timeout(), func(ctx context.Context) error { return work(ctx, c) })
}

// workHere is Work of a job that the queue has handed to nobody.
func (s *Syncer) workHere(ctx context.Context, c claim) error {
	work, err := s.claims.Do(ctx, c)
	switch {
	case err != nil:
		return err
	case !work.mine:
		return lane.ErrNothing
	case !work.notYet.IsZero():
		return errNotYet
	}
	return s.finish(ctx, c, work)
}

// errNotYet has the queue wait for a lane that is not due.
var errNotYet = errors.New("the lane is not due yet")

// timeout is how long a sync may take that the queue does not watch.
func (s *Syncer) timeout() time.Duration {
	if d := s.Timeout(nil); d > 0 {
		return d
	}
	return localTimeout
}

// localTimeout is the queue's for a job that names none.
const localTimeout = 10 * time.Second

// event is what was routed just now, as a sync of its lane sees it.
func event(t target, revision int64, now time.Time) Event {
	r := t.row
	return Event{
		ID: r.ID, Source: r.Source, AccountID: t.accountID, Revision: revision, Module: r.Module, Operation: r.Operation, RecordID: r.RecordID,
		OccurredAt: orZero(r.OccurredAt), ReceivedAt: r.ReceivedAt, RoutedAt: now, TakenAt: now, Record: r.Record,
	}
}
