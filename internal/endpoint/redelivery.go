package endpoint

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

// The kinds of redeliveries.
const (
	Recover = "recover" // what died of an endpoint's deliveries
	Replay  = "replay"  // every webhook of a time, delivered before or not
)

// The states of a redelivery. Done and cancelled ones have ended.
const (
	RedeliveryRunning   = "running"
	RedeliveryDone      = "done"
	RedeliveryCancelled = "cancelled" // by a person, or because its endpoint is gone
)

// Errors of a delivery that cannot be sent again.
var (
	// ErrOpen is returned for a delivery that has not ended: it will be sent anyway.
	ErrOpen = errors.New("has not ended yet")
	// ErrPayloadGone is returned when what would be sent is not stored any more.
	ErrPayloadGone = errors.New("its payload is no longer stored")
	// ErrEndpointGone is returned when there is nobody to send it to any more.
	ErrEndpointGone = errors.New("its endpoint is gone")
)

// NoSuch returns an error that is ErrNotFound and says of what, as "delivery 7".
func NoSuch(what string) error { return missing{what: what} }

type missing struct{ what string }

func (m missing) Error() string { return "there is no " + m.what }
func (m missing) Unwrap() error { return ErrNotFound }

// listed is how many redeliveries a list shows.
const listed = 100

// Redelivery is one as it is shown.
type Redelivery struct {
	ID         uuid.UUID  `json:"id"`
	EndpointID uuid.UUID  `json:"endpoint_id"`
	Kind       string     `json:"kind"`
	Since      time.Time  `json:"since"`
	Until      time.Time  `json:"until"`
	Events     []string   `json:"events"`
	PerSecond  int        `json:"per_second"` // 0: as many as the endpoint takes
	Found      int64      `json:"found"`      // that could be sent again when it was asked for
	Opened     int64      `json:"opened"`     // of them those that were given to the endpoint's lane
	Skipped    int64      `json:"skipped"`    // passed over: open anyway by then, or without a payload
	State      string     `json:"state"`      // running, done or cancelled
	Actor      string     `json:"actor"`
	Reason     string     `json:"reason"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at"`
}

func redeliveryFrom(r db.Redelivery) Redelivery {
	shown := Redelivery{
		ID: r.ID, EndpointID: r.EndpointID, Kind: r.Kind, Since: r.Since, Until: r.Until, Events: r.Events,
		Found: r.Found, Opened: r.Opened, Skipped: r.Skipped, State: r.State, Actor: r.Actor, Reason: r.Reason,
		CreatedAt: r.CreatedAt, FinishedAt: r.FinishedAt,
	}
	if r.PerSecond != nil {
		shown.PerSecond = int(*r.PerSecond)
	}
	return shown
}

// Redeliveries starts, shows and cancels redeliveries. Outbound's Redeliverer works them.
type Redeliveries struct {
	pool *pgxpool.Pool
	jobs lane.Inserter
}

// NewRedeliveries makes Redeliveries. jobs may be a client that works none.
func NewRedeliveries(pool *pgxpool.Pool, jobs lane.Inserter) *Redeliveries {
	return &Redeliveries{pool: pool, jobs: jobs}
}

// Count returns how many would be sent again if it were asked for now, and changes
// nothing. It returns ErrNotFound, or ErrInvalid, also for more webhooks than can be
// counted in some seconds.
func (r *Redeliveries) Count(ctx context.Context, which string, in RedeliverySettings) (int64, error) {
	p, err := r.prepare(ctx, which, in)
	return p.Found, err
}

// Start begins to send again what Count counts. It returns what Count returns.
func (r *Redeliveries) Start(ctx context.Context, who Actor, which string, in RedeliverySettings) (Redelivery, error) {
	p, err := r.prepare(ctx, which, in)
	if err != nil {
		return Redelivery{}, err
	}
	p.ID, p.Actor = uuid.Must(uuid.NewV7()), who.Name
	var row db.Redelivery
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		if row, err = db.New(tx).InsertRedelivery(ctx, p); err != nil {
			return fmt.Errorf("insert redelivery: %w", err)
		}
		if err := r.giveJobs(ctx, tx, row.CreatedAt, []uuid.UUID{row.ID}); err != nil {
			return err
		}
		return auditRedelivery(ctx, tx, who, "redelivery.start", row)
	})
	return redeliveryFrom(row), err
}

// Get returns a redelivery, or ErrNotFound.
func (r *Redeliveries) Get(ctx context.Context, id uuid.UUID) (Redelivery, error) {
	row, err := db.New(r.pool).GetRedelivery(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Redelivery{}, NoSuch("redelivery " + id.String())
	}
	if err != nil {
		return Redelivery{}, fmt.Errorf("get redelivery: %w", err)
	}
	return redeliveryFrom(row), nil
}

// List returns the redeliveries of an endpoint, at most a hundred, newest first. It
// returns ErrNotFound when there is no such endpoint.
func (r *Redeliveries) List(ctx context.Context, which string) ([]Redelivery, error) {
	p, err := r.find(ctx, which)
	if err != nil {
		return nil, err
	}
	rows, err := db.New(r.pool).ListRedeliveries(ctx, db.ListRedeliveriesParams{EndpointID: p.Endpoint.ID, MaxRows: listed})
	if err != nil {
		return nil, fmt.Errorf("list redeliveries: %w", err)
	}
	all := make([]Redelivery, len(rows))
	for i, row := range rows {
		all[i] = redeliveryFrom(row)
	}
	return all, nil
}

// Cancel ends a redelivery where it is: what it has opened will be sent, the rest
// will not. One that has ended stays as it is, which is no error. It returns
// ErrNotFound when there is none.
func (r *Redeliveries) Cancel(ctx context.Context, who Actor, id uuid.UUID) (Redelivery, error) {
	var shown Redelivery
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		locked, err := q.LockRedelivery(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return NoSuch("redelivery " + id.String())
		}
		if err != nil {
			return fmt.Errorf("lock redelivery: %w", err)
		}
		if locked.State != RedeliveryRunning {
			row, err := q.GetRedelivery(ctx, id)
			if err != nil {
				return fmt.Errorf("get redelivery: %w", err)
			}
			shown = redeliveryFrom(row)
			return nil
		}
		row, err := q.EndRedelivery(ctx, db.EndRedeliveryParams{ID: id, State: RedeliveryCancelled})
		if err != nil {
			return fmt.Errorf("end redelivery: %w", err)
		}
		shown = redeliveryFrom(row)
		return auditRedelivery(ctx, tx, who, "redelivery.cancel", row)
	})
	return shown, err
}

// Mend gives a fresh job to redeliveries whose job is not live any more, at most most
// of them, and returns to how many.
func (r *Redeliveries) Mend(ctx context.Context, tx pgx.Tx, most int32) (int, error) {
	rows, err := db.New(tx).LockOrphanedRedeliveries(ctx, most)
	if err != nil {
		return 0, fmt.Errorf("lock orphaned redeliveries: %w", err)
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

// giveJobs inserts a job for each redelivery, which any other of its jobs is to leave alone.
func (r *Redeliveries) giveJobs(ctx context.Context, tx pgx.Tx, now time.Time, ids []uuid.UUID) error {
	wakes := make([]lane.Wake, len(ids))
	for i, id := range ids {
		wakes[i] = lane.Wake{Due: now, Args: job.Redeliver{RedeliveryID: id}}
	}
	jobIDs, err := lane.Ensure(ctx, tx, r.jobs, now, wakes)
	if err != nil {
		return err
	}
	if err := db.New(tx).SetRedeliveryJobs(ctx, db.SetRedeliveryJobsParams{Ids: ids, JobIds: jobIDs}); err != nil {
		return fmt.Errorf("set the jobs of redeliveries: %w", err)
	}
	return nil
}

// find reads a living endpoint by its id or name.
func (r *Redeliveries) find(ctx context.Context, which string) (db.FindEndpointToRedeliverRow, error) {
	if !printable(which) {
		return db.FindEndpointToRedeliverRow{}, NoSuch(fmt.Sprintf("endpoint %q", which))
	}
	p, err := db.New(r.pool).FindEndpointToRedeliver(ctx, which)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, NoSuch(fmt.Sprintf("endpoint %q", which))
	}
	if err != nil {
		return p, fmt.Errorf("find endpoint: %w", err)
	}
	return p, nil
}

func auditRedelivery(ctx context.Context, tx pgx.Tx, who Actor, action string, r db.Redelivery) error {
	details, err := json.Marshal(map[string]any{
		"redelivery_id": r.ID, "kind": r.Kind, "since": r.Since, "until": r.Until, "events": r.Events, "per_second": r.PerSecond,
		"found": r.Found, "opened": r.Opened, "skipped": r.Skipped, "reason": r.Reason,
	})
	if err != nil {
		return fmt.Errorf("encode audit details: %w", err)
	}
	err = db.New(tx).InsertAudit(ctx, db.InsertAuditParams{
		Actor: who.Name, Action: action, Object: "endpoint/" + r.EndpointID.String(), Details: details, RequestID: who.RequestID,
	})
	if err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	return nil
}
