package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// The states of a replay. Done and cancelled ones have ended.
const (
	ReplayRunning   = "running"
	ReplayPaused    = "paused"
	ReplayDone      = "done"
	ReplayCancelled = "cancelled"
)

var (
	// ErrKeyReused is returned for an idempotency key that came with another question before.
	ErrKeyReused = errors.New("this idempotency key came with another replay before")
	// ErrReplayEnded is returned for a replay that can neither be paused nor resumed any more.
	ErrReplayEnded = errors.New("the replay has ended")
)

// Replay is one as it is shown.
type Replay struct {
	ID         uuid.UUID   `json:"id"`
	Filter     EventFilter `json:"filter"`
	PerSecond  int         `json:"per_second"` // 0: as many as the backlog has room for
	Matched    int64       `json:"matched"`    // that could be run again when it was asked for
	Replayed   int64       `json:"replayed"`   // of them those that run again by now
	Refused    int64       `json:"refused"`    // passed over: worked again anyway by then, or without a body
	State      string      `json:"state"`      // running, paused, done or cancelled
	Actor      string      `json:"actor"`
	Reason     string      `json:"reason"`
	CreatedAt  time.Time   `json:"created_at"`
	FinishedAt *time.Time  `json:"finished_at"`
}

// Ended reports whether nothing more comes of it.
func (r Replay) Ended() bool { return r.State == ReplayDone || r.State == ReplayCancelled }

func replayFrom(r db.Replay) (Replay, error) {
	shown := Replay{
		ID: r.ID, Matched: r.Matched, Replayed: r.Replayed, Refused: r.Refused, State: r.State, Actor: r.Actor, Reason: r.Reason,
		CreatedAt: r.CreatedAt, FinishedAt: r.FinishedAt,
	}
	if r.PerSecond != nil {
		shown.PerSecond = int(*r.PerSecond)
	}
	if err := json.Unmarshal(r.Filter, &shown.Filter); err != nil {
		return shown, fmt.Errorf("read the filter of replay %s: %w", r.ID, err)
	}
	return shown, nil
}

// Replays starts, shows and ends replays of many events. Replayer works them.
type Replays struct {
	pool *pgxpool.Pool
	// find plans its statements for their values: what a filter leaves of the events may be
	// few or all of them.
	find *pgxpool.Pool
	jobs lane.Inserter
}

// NewReplays makes Replays. find is to be a pool for searches; jobs may be a client that
// works none.
func NewReplays(pool, find *pgxpool.Pool, jobs lane.Inserter) *Replays {
	return &Replays{pool: pool, find: find, jobs: jobs}
}

// Start begins to run again what Count counts, oldest first. Who asks for the same under
// the same Key again gets the replay of the first time; ErrKeyReused when it is not the
// same. It returns a *body.Invalid as Count does.
func (r *Replays) Start(ctx context.Context, who Actor, in ReplaySettings) (Replay, error) {
	p, err := r.prepare(ctx, in)
	if err != nil {
		return Replay{}, err
	}
	// What was asked for is compared before it is counted: the count of the first time stands.
	if in.Key != "" {
		row, err := r.byKey(ctx, db.New(r.pool), who, in.Key, p)
		if err == nil || !errors.Is(err, pgx.ErrNoRows) {
			return row, err
		}
	}
	if p.Matched, err = r.count(ctx, in.Filter, p.Position, p.Newest); err != nil {
		return Replay{}, err
	}
	p.ID, p.Actor, p.IdempotencyKey = uuid.Must(uuid.NewV7()), who.Name, orNil(in.Key)
	var shown Replay
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		row, err := q.InsertReplay(ctx, p)
		if errors.Is(err, pgx.ErrNoRows) {
			shown, err = r.byKey(ctx, q, who, in.Key, p)
			return err
		}
		if err != nil {
			return fmt.Errorf("insert replay: %w", err)
		}
		if err := r.giveJobs(ctx, tx, row.CreatedAt, []uuid.UUID{row.ID}); err != nil {
			return err
		}
		shown, err = r.audited(ctx, tx, who, "replay.start", row)
		return err
	})
	return shown, err
}

// byKey returns the replay that was started under that key; pgx.ErrNoRows when there is none.
func (r *Replays) byKey(ctx context.Context, q *db.Queries, who Actor, key string, asked db.InsertReplayParams) (Replay, error) {
	row, err := q.GetReplayByKey(ctx, db.GetReplayByKeyParams{Actor: who.Name, IdempotencyKey: key})
	if err != nil {
		return Replay{}, fmt.Errorf("look for the replay of a key: %w", err)
	}
	shown, err := replayFrom(row)
	if err != nil {
		return shown, err
	}
	before, _ := json.Marshal(shown.Filter) // strings and times: it always can be
	if string(before) != string(asked.Filter) || row.Reason != asked.Reason || shown.PerSecond != number(asked.PerSecond) {
		return Replay{}, ErrKeyReused
	}
	return shown, nil
}

func number(n *int32) int {
	if n == nil {
		return 0
	}
	return int(*n)
}

// Get returns a replay, or ErrNotFound.
func (r *Replays) Get(ctx context.Context, id uuid.UUID) (Replay, error) {
	row, err := db.New(r.pool).GetReplay(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Replay{}, fmt.Errorf("replay %s %w", id, ErrNotFound)
	}
	if err != nil {
		return Replay{}, fmt.Errorf("get replay: %w", err)
	}
	return replayFrom(row)
}

// List returns replays, newest first, from before that one on; uuid.Max: from the newest.
// state "" is any. next is where the next page begins, uuid.Nil when there is none.
func (r *Replays) List(ctx context.Context, state string, before uuid.UUID, most int) (all []Replay, next uuid.UUID, err error) {
	rows, err := db.New(r.pool).ListReplays(ctx, db.ListReplaysParams{
		Before: before, State: orNil(state), MaxRows: int32(most) + 1, //nolint:gosec // at most MaxPage
	})
	if err != nil {
		return nil, next, fmt.Errorf("list replays: %w", err)
	}
	if len(rows) > most {
		rows, next = rows[:most], rows[most-1].ID
	}
	all = make([]Replay, len(rows))
	for i, row := range rows {
		if all[i], err = replayFrom(row); err != nil {
			return nil, next, err
		}
	}
	return all, next, nil
}

// Cancel ends a replay where it is: what it has run again runs. One that has ended stays
// as it is, which is no error. It returns ErrNotFound when there is none.
func (r *Replays) Cancel(ctx context.Context, who Actor, id uuid.UUID) (Replay, error) {
	return r.change(ctx, who, id, ReplayCancelled)
}

// Pause lets a replay rest until somebody resumes it. It returns ErrNotFound, or
// ErrReplayEnded.
func (r *Replays) Pause(ctx context.Context, who Actor, id uuid.UUID) (Replay, error) {
	return r.change(ctx, who, id, ReplayPaused)
}

// Resume goes on with a replay where it was paused. It returns what Pause does.
func (r *Replays) Resume(ctx context.Context, who Actor, id uuid.UUID) (Replay, error) {
	return r.change(ctx, who, id, ReplayRunning)
}

// change gives a replay that has not ended another state.
func (r *Replays) change(ctx context.Context, who Actor, id uuid.UUID, to string) (shown Replay, err error) {
	action := map[string]string{ReplayCancelled: "replay.cancel", ReplayPaused: "replay.pause", ReplayRunning: "replay.resume"}[to]
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		locked, err := q.LockReplay(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("replay %s %w", id, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("lock replay: %w", err)
		}
		ended := locked.State == ReplayDone || locked.State == ReplayCancelled
		if ended && to != ReplayCancelled {
			return fmt.Errorf("replay %s: %w", id, ErrReplayEnded)
		}
		if ended || locked.State == to {
			row, err := q.GetReplay(ctx, id)
			if err != nil {
				return fmt.Errorf("get replay: %w", err)
			}
			shown, err = replayFrom(row)
			return err
		}
		row, err := setReplay(ctx, q, id, to)
		if err != nil {
			return err
		}
		if to == ReplayRunning {
			if err := r.giveJobs(ctx, tx, locked.Now, []uuid.UUID{id}); err != nil {
				return err
			}
		}
		shown, err = r.audited(ctx, tx, who, action, row)
		return err
	})
	return shown, err
}

func setReplay(ctx context.Context, q *db.Queries, id uuid.UUID, state string) (db.Replay, error) {
	if state == ReplayCancelled {
		row, err := q.EndReplay(ctx, db.EndReplayParams{ID: id, State: state})
		if err != nil {
			return row, fmt.Errorf("end replay: %w", err)
		}
		return row, nil
	}
	row, err := q.SetReplayState(ctx, db.SetReplayStateParams{ID: id, State: state})
	if err != nil {
		return row, fmt.Errorf("set the state of a replay: %w", err)
	}
	return row, nil
}

// Mend gives a fresh job to replays that run and whose job is not live any more, at most
// most of them, and returns to how many.
func (r *Replays) Mend(ctx context.Context, tx pgx.Tx, most int32) (int, error) {
	rows, err := db.New(tx).LockOrphanedReplays(ctx, most)
	if err != nil {
		return 0, fmt.Errorf("lock orphaned replays: %w", err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return len(ids), r.giveJobs(ctx, tx, rows[0].Now, ids)
}

// giveJobs inserts a job for each replay, which any other of its jobs is to leave alone.
func (r *Replays) giveJobs(ctx context.Context, tx pgx.Tx, now time.Time, ids []uuid.UUID) error {
	wakes := make([]lane.Wake, len(ids))
	for i, id := range ids {
		wakes[i] = lane.Wake{Due: now, Args: job.Replay{ReplayID: id}}
	}
	jobIDs, err := lane.Ensure(ctx, tx, r.jobs, now, wakes)
	if err != nil {
		return err
	}
	if err := db.New(tx).SetReplayJobs(ctx, db.SetReplayJobsParams{Ids: ids, JobIds: jobIDs}); err != nil {
		return fmt.Errorf("set the jobs of replays: %w", err)
	}
	return nil
}

// audited writes down what was done to a replay, and returns it.
func (r *Replays) audited(ctx context.Context, tx pgx.Tx, who Actor, action string, row db.Replay) (Replay, error) {
	shown, err := replayFrom(row)
	if err != nil {
		return shown, err
	}
	return shown, audit(ctx, tx, who, action, "replay/"+row.ID.String(), map[string]any{
		"filter": shown.Filter, "per_second": shown.PerSecond, "matched": row.Matched, "replayed": row.Replayed, "refused": row.Refused, "reason": row.Reason,
	})
}
