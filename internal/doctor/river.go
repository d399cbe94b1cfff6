package doctor

import (
	"context"
	"time"
)

const (
	// lateJob is how long a job that is due waits at most while all is well.
	lateJob = 5 * time.Minute
	// manyDiscarded are more than what a bad day leaves behind; River forgets them after a week.
	manyDiscarded = 100
)

func lookAtRiver(ctx context.Context, p *patient, n *notes) {
	p.lookAtLeader(ctx, n)
	p.lookAtQueues(ctx, n)
	stuck, err := p.q.CountStuckJobs(ctx)
	switch {
	case err != nil:
		n.unseen("the jobs that run", err)
	case stuck > 0:
		n.warn("start a node that works: it gives them back within 15 seconds", "running in processes that are gone: %s", count(int(stuck), "job"))
	}
	discarded, err := p.q.ListDiscardedJobs(ctx)
	if err != nil {
		n.unseen("the discarded jobs", err)
	}
	for _, k := range discarded {
		tell := n.note
		if k.Jobs > manyDiscarded {
			tell = n.warn
		}
		tell("the errors in river_job say why: SELECT id, errors FROM river_job WHERE state = 'discarded'; what they were for the sweeper gives a new job",
			"discarded: %s of kind %s, the last one %s ago", count(int(k.Jobs), "job"), k.Kind, span(p.o.Now().Sub(k.LastAt)))
	}
	if !worse(n.take()) {
		n.ok("the queues move: nothing that is due waits for long, and no job is stuck")
	}
}

// worse reports whether there is a warning or a failure.
func worse(found []Finding) bool {
	for _, f := range found {
		if f.Status == Warning || f.Status == Failure {
			return true
		}
	}
	return false
}

func (p *patient) lookAtLeader(ctx context.Context, n *notes) {
	leader, err := p.q.ExamineLeader(ctx)
	if err != nil {
		n.unseen("who leads", err)
		return
	}
	nodes, err := p.q.ListProcesses(ctx)
	if err != nil {
		n.unseen("the nodes", err)
		return
	}
	working, leads := 0, false
	for _, node := range nodes {
		if node.Workers > 0 {
			working++
			leads = leads || node.Process.String() == leader.Leader
		}
	}
	switch {
	case working == 0:
		n.note("run `memrelay serve` or `memrelay work`", "nobody works the jobs")
	case leader.Seconds <= 0:
		n.warn("wait 15 seconds and look again; then the log of a node that works says why", "nobody leads: jobs that wait for a time are not begun, and old ones not cleaned up")
	case !leads:
		// Right after a crash it is so until the lease ends.
		n.warn("wait 15 seconds and look again", "who leads is not one of the nodes that run")
	default:
		n.ok("one of the nodes that work leads")
	}
}

func (p *patient) lookAtQueues(ctx context.Context, n *notes) {
	paused, err := p.q.ListPausedQueues(ctx)
	if err != nil {
		n.unseen("the paused queues", err)
	}
	for _, q := range paused {
		n.warn("UPDATE river_queue SET paused_at = NULL, updated_at = now() WHERE name = '"+q.Name+"'; nodes notice within a minute",
			"the queue %s has been paused for %s: what is put there waits", q.Name, span(q.Now.Sub(q.PausedAt)))
	}
	late, err := p.q.ListLateQueues(ctx)
	if err != nil {
		n.unseen("the jobs that are due", err)
	}
	for _, q := range late {
		if waits := seconds(q.Seconds); waits > lateJob {
			n.warn("start more nodes; `memrelay doctor --only nodes,database` says what slows them", "due in the queue %s: %s, the oldest for %s", q.Queue, count(int(q.Jobs), "job"), span(waits))
		}
	}
}
