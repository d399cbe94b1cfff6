package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// As /webhooks/health has it.
	lateEvent   = 5 * time.Minute
	fullBacklog = 0.8
	// lateOutbox is how long a webhook waits for its endpoints at most while all is well.
	lateOutbox = time.Minute
	day        = 24 * time.Hour
)

func lookAtWork(ctx context.Context, p *patient, n *notes) {
	p.lookAtBacklog(ctx, n)
	p.lookAtDead(ctx, n)
	p.lookAtOrphans(ctx, n)
	p.lookAtOutbox(ctx, n)
	p.lookAtPartitions(ctx, n)
	breakers, err := p.q.ListOpenBreakers(ctx)
	if err != nil {
		n.unseen("the breakers", err)
	}
	for _, b := range breakers {
		n.warn("mend what it says; it is tried again by itself", "%s is not called for %s: %s", b.Name, span(b.OpenUntil.Sub(p.o.Now())), b.Reason)
	}
	if !worse(n.take()) {
		n.ok("what comes in is worked, and what is to be told is told")
	}
}

func (p *patient) lookAtBacklog(ctx context.Context, n *notes) {
	const more = "start more nodes that work; `memrelay doctor --only river,nodes` says what holds them up"
	waiting, err := p.q.CountBacklog(ctx)
	if err != nil {
		n.unseen("the backlog", err)
		return
	}
	most := p.cfg.Inbound.MaxQueueSize
	if p.settingsErr == nil && float64(waiting) > fullBacklog*float64(most) {
		n.warn(more+"; WEBHOOK_MAX_QUEUE_SIZE bears more", "waiting to be routed: %s of %d after which senders are turned away", count(int(waiting), "event"), most)
	}
	oldest, err := p.q.OldestWaitingEvent(ctx)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		n.unseen("the oldest event", err)
	case p.o.Now().Sub(oldest) > lateEvent:
		n.warn(more, "waiting to be routed: %s, the oldest for %s", count(int(waiting), "event"), span(p.o.Now().Sub(oldest)))
	}
}

func (p *patient) lookAtDead(ctx context.Context, n *notes) {
	dead, err := p.q.CountDead(ctx)
	switch {
	case err != nil:
		n.unseen("the dead letters", err)
	case dead.Events+dead.Deliveries > 0:
		n.warn("`memrelay dead list` says why; then `memrelay dead retry` or `memrelay dead discard`, or `memrelay endpoints recover`",
			"dead, and waiting for a decision: %s, %d deliveries", count(int(dead.Events), "event"), dead.Deliveries)
	}
}

func (p *patient) lookAtOrphans(ctx context.Context, n *notes) {
	orphans, err := p.q.ListOrphans(ctx, p.cfg.Memory.Backend)
	if err != nil {
		n.unseen("the rows without a job", err)
		return
	}
	for _, o := range orphans {
		n.warn("run a node that works, and look again in a minute: the sweeper gives them a new job", "with work and no job: %s of %s", count(int(o.Orphans), "row"), o.Name)
	}
}

func (p *patient) lookAtOutbox(ctx context.Context, n *notes) {
	o, err := p.q.ExamineOutbox(ctx)
	if err != nil {
		n.unseen("the outbox", err)
	} else if waits := seconds(o.Seconds); waits > lateOutbox {
		n.warn("run a node that works; `memrelay doctor --only river` says whether the queue relay moves", "waiting to be handed to endpoints: %s, the first for %s", count(int(o.Waiting), "webhook"), span(waits))
	}
	keeps := p.cfg.OutboundPayloadRetention
	if p.settingsErr != nil || keeps == 0 {
		return
	}
	oldest, err := p.q.ExaminePayloads(ctx)
	if err != nil {
		n.unseen("the oldest payload", err)
	} else if age := seconds(oldest); age > keeps+day {
		n.note("run a node that works: it forgets them; what a delivery is still open for stays", "there are payloads %s old; OUTBOUND_PAYLOAD_RETENTION keeps them for %s", span(age), span(keeps))
	}
}

func (p *patient) lookAtPartitions(ctx context.Context, n *notes) {
	months, err := p.q.ExaminePartitions(ctx)
	if err != nil {
		n.unseen("the partitions", err)
		return
	}
	const make = "run a node that works, or SELECT ensure_event_bodies_month(now()), ensure_event_bodies_month(now() + interval '1 month')"
	if months.Others {
		n.warn("move the rows of event_bodies_other away, then "+make, "bodies of events lie in event_bodies_other: their month has no partition")
	}
	switch {
	case !months.ThisMonth:
		n.warn(make, "event_bodies has no partition for this month")
	case !months.NextMonth:
		n.warn(make, "event_bodies has no partition for the next month")
	}
}
