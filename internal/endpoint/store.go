package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/seal"
)

// Actor is who did something, and in which request.
type Actor struct {
	Name      string
	RequestID string // "" outside of one
}

// Store keeps endpoints. Each change is one transaction, with a line in audit_log
// that holds no secret.
type Store struct {
	pool     *pgxpool.Pool
	jobs     lane.Inserter
	box      *seal.Box
	checkURL func(string) error
	random   io.Reader
	now      func() time.Time
}

// New makes a Store. jobs may be a client that works none; a box without keys refuses
// to store secrets. checkURL says whether a URL may be sent to, without asking
// anybody: its error is shown to people. random is where secrets come from.
func New(pool *pgxpool.Pool, jobs lane.Inserter, box *seal.Box, checkURL func(string) error, random io.Reader, now func() time.Time) *Store {
	return &Store{pool: pool, jobs: jobs, box: box, checkURL: checkURL, random: random, now: now}
}

// Create makes an endpoint, which is active at once, and returns the secrets that were
// made for it. It returns an ErrInvalid with all that is wrong (see Problems),
// ErrExists, or ErrNoKey where there are secrets to store.
func (s *Store) Create(ctx context.Context, who Actor, in Settings) (Endpoint, []Secret, error) {
	if in.Signing == nil {
		in.Signing = &[]string{KeyHMAC}
	}
	d := newDraft(uuid.Must(uuid.NewV7()))
	problems := s.settle(&d, in)
	if in.Name == nil {
		problems.add("name", "is missing")
	}
	if in.URL == nil {
		problems.add("url", "is missing")
	}
	made, more, err := s.settleKeys(&d, in)
	if err != nil {
		return Endpoint{}, nil, err
	}
	if err := append(problems, more...).join(); err != nil {
		return Endpoint{}, nil, err
	}
	if d.row.Sealed, err = d.credentials.sealFor(s.box, d.row.ID); err != nil {
		return Endpoint{}, nil, err
	}
	var row db.Endpoint
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		row, err = db.New(tx).InsertEndpoint(ctx, d.insert())
		if err != nil {
			return stored(err, d.row.Name)
		}
		return audit(ctx, tx, who, "create", d.row.ID, map[string]any{"name": d.row.Name, "after": shownFacts(d.facts())})
	})
	if err != nil {
		return Endpoint{}, nil, err
	}
	return s.show(row, 0), made, nil
}

// Change changes what is asked for of the endpoint of this id or name, and returns the
// secrets that were made. What is as it was asked for already is no change. Where it
// changes how or where deliveries are sent, those that wait are looked at anew. The
// errors are those of Create, ErrNotFound, ErrEnv, and seal.ErrWrongKey where secrets
// are to be changed that cannot be read. Those can be replaced: by auth, headers and
// signing in one change. What is sent to receivers, which is auth and headers, goes to
// another host only if it is asked for again.
func (s *Store) Change(ctx context.Context, who Actor, which string, in Settings) (Endpoint, []Secret, error) {
	var made []Secret
	e, err := s.inTx(ctx, which, func(tx pgx.Tx, row db.Endpoint) (db.Endpoint, error) {
		if row.Name == EnvName {
			return row, ErrEnv
		}
		before := draft{row: row}
		if in.touchesCredentials() {
			var err error
			before.credentials, err = Open(s.box, row.ID, row.Sealed)
			before.locked = errors.Is(err, seal.ErrWrongKey) && in.replacesCredentials()
			if err != nil && !before.locked {
				return row, err
			}
			before.credentials.prune(s.now())
		}
		after := before
		after.locked = false
		problems := s.settle(&after, in)
		keys, more, err := s.settleKeys(&after, in)
		if err != nil {
			return row, err
		}
		if err := append(problems, more...).join(); err != nil {
			return row, err
		}
		made = keys
		return s.store(ctx, tx, who, before, after)
	})
	if err != nil {
		return Endpoint{}, nil, err
	}
	return e, made, nil
}

// store writes what has changed of an endpoint whose row is locked.
func (s *Store) store(ctx context.Context, tx pgx.Tx, who Actor, before, after draft) (db.Endpoint, error) {
	c := compare(before.facts(), after.facts())
	if len(c.names) == 0 {
		return before.row, nil
	}
	if c.any("headers", "auth", "keys") {
		var err error
		if after.row.Sealed, err = after.credentials.sealFor(s.box, after.row.ID); err != nil {
			return before.row, err
		}
	}
	row, err := db.New(tx).UpdateEndpoint(ctx, after.update(c.any("url", "headers", "auth", "keys")))
	if err != nil {
		return before.row, stored(err, after.row.Name)
	}
	details := map[string]any{"name": before.row.Name, "before": c.before, "after": c.after}
	if err := audit(ctx, tx, who, "change", row.ID, details); err != nil {
		return before.row, err
	}
	// Whom it is told of, and how long a failed delivery waits next, is nothing to what waits.
	if (row.Status != Active && !row.Probing) || !c.any("url", "form", "ordered", "batch_size", "batch_wait", "rate_limit", "max_in_flight",
		"timeout", "headers", "auth", "keys") {
		return row, nil
	}
	return row, Wake(ctx, tx, s.jobs, row.ID)
}

// Get returns the endpoint of this id or name, or ErrNotFound.
func (s *Store) Get(ctx context.Context, which string) (Endpoint, error) {
	if !printable(which) {
		return Endpoint{}, NoSuch(fmt.Sprintf("endpoint %q", which))
	}
	q := db.New(s.pool)
	row, err := q.FindEndpoint(ctx, db.FindEndpointParams{ID: asID(which), Name: which})
	if err != nil {
		return Endpoint{}, found(err, which)
	}
	all, err := s.showAll(ctx, q, []db.Endpoint{row})
	if err != nil {
		return Endpoint{}, err
	}
	return all[0], nil
}

// List returns all endpoints, by name.
func (s *Store) List(ctx context.Context) ([]Endpoint, error) {
	q := db.New(s.pool)
	rows, err := q.ListEndpoints(ctx)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	return s.showAll(ctx, q, rows)
}

func (s *Store) showAll(ctx context.Context, q *db.Queries, rows []db.Endpoint) ([]Endpoint, error) {
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	counts, err := q.CountOpenDeliveries(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("count open deliveries: %w", err)
	}
	open := map[uuid.UUID]int64{}
	for _, c := range counts {
		open[c.ID] = c.Open
	}
	all := make([]Endpoint, len(rows))
	for i, r := range rows {
		all[i] = s.show(r, open[r.ID])
	}
	return all, nil
}

// inTx does something to the endpoint of this id or name, whose row is locked, in one
// transaction, and returns it as it is then. It returns ErrNotFound.
func (s *Store) inTx(ctx context.Context, which string, do func(pgx.Tx, db.Endpoint) (db.Endpoint, error)) (Endpoint, error) {
	if !printable(which) { // Postgres takes no such text
		return Endpoint{}, NoSuch(fmt.Sprintf("endpoint %q", which))
	}
	var e Endpoint
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		row, err := q.LockEndpointToChange(ctx, db.LockEndpointToChangeParams{ID: asID(which), Name: which})
		if err != nil {
			return found(err, which)
		}
		if row, err = do(tx, row); err != nil {
			return err
		}
		all, err := s.showAll(ctx, q, []db.Endpoint{row})
		if err != nil {
			return err
		}
		e = all[0]
		return nil
	})
	return e, err
}

// asID is which as an id, nil when it can only be a name.
func asID(which string) *uuid.UUID {
	id, err := uuid.Parse(which)
	if err != nil {
		return nil
	}
	return &id
}

func found(err error, which string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%q: %w", which, ErrNotFound)
	}
	return fmt.Errorf("find endpoint: %w", err)
}

func stored(err error, name string) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.ConstraintName == "endpoints_name_key" {
		return fmt.Errorf("%s: %w", name, ErrExists)
	}
	return fmt.Errorf("store endpoint: %w", err)
}

func (d draft) insert() db.InsertEndpointParams {
	r := d.row
	return db.InsertEndpointParams{
		ID: r.ID, Name: r.Name, URL: r.URL, Description: r.Description, Events: r.Events, UserIds: r.UserIds, Filter: r.Filter,
		Form: r.Form, Ordered: r.Ordered, BatchSize: r.BatchSize, BatchWait: r.BatchWait, RateLimit: r.RateLimit,
		MaxInFlight: r.MaxInFlight, Timeout: r.Timeout, RetrySchedule: r.RetrySchedule, Sealed: r.Sealed,
	}
}

// update is the draft with other credentials or another URL, which is anew.
func (d draft) update(anew bool) db.UpdateEndpointParams {
	r := d.row
	return db.UpdateEndpointParams{
		ID: r.ID, Name: r.Name, URL: r.URL, Description: r.Description, Events: r.Events, UserIds: r.UserIds, Filter: r.Filter,
		Form: r.Form, Ordered: r.Ordered, BatchSize: r.BatchSize, BatchWait: r.BatchWait, RateLimit: r.RateLimit,
		MaxInFlight: r.MaxInFlight, Timeout: r.Timeout, RetrySchedule: r.RetrySchedule, Sealed: r.Sealed, Anew: anew,
	}
}
