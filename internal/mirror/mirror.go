// Package mirror makes another memory system follow ours. In go lanes of memories
// that have changed; out come copies that are what the memories are at that time,
// or none where they are gone, and what is known of each copy in the table mirrors.
// Systems that work up what was copied are had to do so in runs.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/breaker"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
)

const (
	// usualCallTime bounds the calls of one attempt unless Options say otherwise.
	usualCallTime = time.Minute
	// recordTime is what writing down an outcome may take beyond the calls.
	recordTime = 10 * time.Second
)

// Options are what a Mirror needs besides.
type Options struct {
	// Backend is the system that follows, as in MEMORY_BACKEND: the lanes of others
	// are left alone.
	Backend string
	// GiveUpAfter is how long a fault that nobody can classify, and that others do not
	// meet, is taken for the world's.
	GiveUpAfter time.Duration
	// CallTime bounds the calls of one attempt; 0: a minute. It is to be longer than
	// the longest that the remote's own limits allow.
	CallTime time.Duration
	// Digester works up what was copied; nil: nobody does.
	Digester Digester
	Now      func() time.Time
	Random   func() float64 // in [0, 1)
	Log      *slog.Logger
}

// Mirror works SyncMemory jobs: the lane of a memory's copy.
type Mirror struct {
	river.WorkerDefaults[job.SyncMemory]
	pool    *pgxpool.Pool
	jobs    lane.Inserter
	remote  memory.Remote
	o       Options
	breaker *breaker.Breaker
	claims  *group.Committer[claim, taken]
	writes  *group.Committer[outcome, ending]
}

// New makes a Mirror that carries memories to remote. remote may be nil for one
// that works nothing and only mends lanes and says how they stand.
func New(pool *pgxpool.Pool, jobs lane.Inserter, remote memory.Remote, o Options) *Mirror {
	if o.CallTime == 0 {
		o.CallTime = usualCallTime
	}
	m := &Mirror{pool: pool, jobs: jobs, remote: remote, o: o}
	m.breaker = breaker.New(pool, breaker.Options{Name: breakerName(o.Backend), Judge: judge, Now: o.Now, Random: o.Random, Log: o.Log})
	m.claims = group.New(pool, m.take, nil, group.Options{})
	m.writes = group.New(pool, m.write, nil, group.Options{})
	return m
}

// breakerName is that of a backend's row in breakers.
func breakerName(backend string) string { return "memory/" + backend }

// AddWorkers registers the kinds of this package; every node does, or as the leader
// it would discard the jobs. m is nil on a node where nobody follows.
func AddWorkers(workers *river.Workers, m *Mirror) {
	if m == nil {
		river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[job.SyncMemory]) error { return nil }))
		river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[job.Cognify]) error { return nil }))
		return
	}
	river.AddWorker(workers, m)
	river.AddWorker(workers, &digestWorker{m: m})
}

// Timeout is the longest that a job can rightly take.
func (m *Mirror) Timeout(*river.Job[job.SyncMemory]) time.Duration {
	return m.o.CallTime + recordTime + 5*time.Second
}

// NextRetry is when a job runs again that ended without an answer, as after a crash.
func (m *Mirror) NextRetry(*river.Job[job.SyncMemory]) time.Time {
	return time.Now().Add(time.Second)
}

// Work makes the copy what the memory is now, and closes the lane.
//
// It returns nil when the lane names another job, or is of a backend that is not the
// configured one: a node where it is gives the lane a new job. What is wrong with a
// memory or with the other system stands in the lane's row, with the lane due again.
func (m *Mirror) Work(ctx context.Context, j *river.Job[job.SyncMemory]) error {
	if j.Args.Backend != m.o.Backend || m.remote == nil {
		return nil
	}
	c := claim{memoryID: j.Args.MemoryID, jobID: j.ID}
	if open := new(breaker.OpenError); errors.As(m.breaker.Look(ctx), &open) {
		return m.finish(ctx, outcome{claim: c, postponed: open.Wait, err: open})
	}
	work, err := m.claims.Do(ctx, c)
	switch {
	case ctx.Err() != nil:
		return ended(ctx)
	case err != nil:
		return m.wait(ctx, err, "memory_id", c.memoryID)
	case !work.mine:
		return nil
	case !work.notYet.IsZero():
		return river.JobSnooze(min(work.notYet.Sub(work.now), 5*time.Second))
	}
	out, err := m.carry(ctx, c, work)
	if err != nil {
		return ended(ctx)
	}
	return m.finish(ctx, out)
}

// finish writes an outcome down. It is known, so that it is written also when the
// job is being cancelled.
func (m *Mirror) finish(ctx context.Context, out outcome) error {
	record, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	end, err := m.writes.Do(record, out)
	if err != nil {
		// What was called is called again: an Add is looked for first.
		return m.wait(ctx, fmt.Errorf("write down what became of a copy: %w", err), "memory_id", out.memoryID)
	}
	if end.fenced && out.called {
		m.makeGood(record, out, end)
	}
	return nil
}

// makeGood is for an attempt that called although another had the lane by then. A
// copy that it made is removed: nobody knows of it. What the lane's copy is nobody
// knows any more either, so that the lane has to make it anew.
func (m *Mirror) makeGood(ctx context.Context, out outcome, end ending) {
	var err error
	if out.made != "" && out.made != end.remoteID {
		err = m.remote.Delete(ctx, out.made)
	}
	err = errors.Join(err, pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error {
		if err := memory.WakeMirrors(ctx, tx, m.jobs, m.o.Backend, map[uuid.UUID]string{out.memoryID: out.userID}); err != nil {
			return err
		}
		if err := db.New(tx).DoubtMirror(ctx, db.DoubtMirrorParams{Backend: m.o.Backend, MemoryID: out.memoryID}); err != nil {
			return fmt.Errorf("doubt a copy: %w", err)
		}
		return nil
	}))
	if err != nil {
		m.o.Log.WarnContext(ctx, "two attempts at a copy have met, and one was not made good: memrelay memory resync mends it",
			"memory_id", out.memoryID, "error", err)
	}
}

// wait is what a job returns that the database keeps from its end.
func (m *Mirror) wait(ctx context.Context, err error, attrs ...any) error {
	m.o.Log.WarnContext(ctx, "job waits for the world", append(attrs, "error", err)...)
	return river.JobSnooze(time.Second + time.Duration(m.o.Random()*float64(time.Second)))
}

// ended is what a job returns whose context has ended: River gives it back at once
// when the program stops, and a time that is up costs no attempt.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return river.JobSnooze(time.Second)
	}
	return ctx.Err()
}

// claim asks for what a lane has to do.
type claim struct {
	memoryID uuid.UUID
	jobID    int64
}
