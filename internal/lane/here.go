package lane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

// ErrNothing is what work begun here returns that found its lane naming another job:
// the job is ended then, as the queue does with one that returns nil.
var ErrNothing = errors.New("the lane names another job")

// Here is what of lanes' work is begun in this process without a way through the
// queue, at once when the transaction is committed that brought it. Beyond what it has
// room for work goes the usual way, which spreads it over nodes.
type Here struct {
	pool    *pgxpool.Pool
	process uuid.UUID
	room    int
	held    func() bool
	log     *slog.Logger

	base context.Context
	cut  context.CancelFunc
	all  sync.WaitGroup

	mu sync.Mutex
	n  int
}

// NewHere makes a Here for the jobs of process, with room for so many at one time. A
// transaction that has asked before another's work has begun may get beyond that by
// as many lanes as it wakes. held says that their queue is paused: then it has them all.
func NewHere(pool *pgxpool.Pool, process uuid.UUID, room int, held func() bool, log *slog.Logger) *Here {
	h := &Here{pool: pool, process: process, room: room, held: held, log: log}
	h.base, h.cut = context.WithCancel(context.Background())
	return h
}

// Claim asks for a lane's job to be worked here; lanes that stand behind find half of the
// room at most. When Ensure has set its JobID and the transaction is committed, Begin must
// be called.
func (h *Here) Claim(behind bool) *Claim {
	room := h.room
	if behind {
		room /= 2
	}
	return &Claim{Process: h.process, Ready: func() bool {
		if h.held() {
			return false
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.n < room
	}}
}

// Begin works a claimed job and returns at once. Whoever works it ends the job in the
// transaction of its effect, or returns ErrNothing. After another error, or a panic,
// the queue has it again, a second later. work gets a context of so long a time.
func (h *Here) Begin(jobID int64, timeout time.Duration, work func(context.Context) error) {
	h.mu.Lock()
	h.n++
	h.mu.Unlock()
	h.all.Go(func() {
		defer func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.n--
		}()
		ctx, cancel := context.WithTimeout(h.base, timeout)
		defer cancel()
		if err := h.try(ctx, jobID, work); err != nil {
			h.settle(context.WithoutCancel(ctx), jobID, err)
		}
	})
}

// try makes an error of a panic: nobody catches it here as the queue does.
func (h *Here) try(ctx context.Context, jobID int64, work func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			h.log.ErrorContext(ctx, "panic in a lane's work", "job_id", jobID, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return work(ctx)
}

// settleTime is how long ending a job or giving it back may take.
const settleTime = 10 * time.Second

// settle sees to a job whose work has not ended it. In vain, it is rescued as one
// whose worker is gone.
func (h *Here) settle(ctx context.Context, jobID int64, cause error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	q := db.New(h.pool)
	var err error
	if errors.Is(cause, ErrNothing) {
		err = q.CompleteJobs(ctx, []int64{jobID})
	} else {
		err = q.ReturnJob(ctx, db.ReturnJobParams{ID: jobID, Process: h.process.String()})
	}
	if err != nil {
		h.log.WarnContext(ctx, "a job waits to be rescued", "job_id", jobID, "error", err)
	}
}

// Wait returns when nothing is at work.
func (h *Here) Wait() { h.all.Wait() }

// Stop waits for what has begun, and cuts it off when ctx ends: its jobs are given back
// then. Nobody may begin anything any more.
func (h *Here) Stop(ctx context.Context) {
	defer context.AfterFunc(ctx, h.cut)()
	h.all.Wait()
	h.cut()
}
