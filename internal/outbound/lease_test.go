package outbound

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// Taking a lane and leasing wait for no disk, and whatever follows on the same
// connection does.
func TestLeasesWaitForNoDisk(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	for name, lease := range map[string]func(*db.Queries) error{
		"leasing": func(q *db.Queries) error {
			_, err := q.LeaseDeliveries(t.Context(), db.LeaseDeliveriesParams{EndpointID: uuid.New(), MaxDeliveries: 1, Lease: time.Minute})
			return err
		},
		"taking the lane": func(q *db.Queries) error {
			_, err := q.TakeEndpoint(t.Context(), db.TakeEndpointParams{ID: uuid.New()})
			if errors.Is(err, pgx.ErrNoRows) {
				return nil
			}
			return err
		},
	} {
		conn, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waits := func() (setting string) {
			if err := conn.QueryRow(t.Context(), `SHOW synchronous_commit`).Scan(&setting); err != nil {
				t.Fatal(err)
			}
			return setting
		}
		if _, err := conn.Exec(t.Context(), `SET synchronous_commit = on`); err != nil {
			t.Fatal(err)
		}
		err = pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			if err := lease(db.New(tx)); err != nil {
				return err
			}
			if got := waits(); got != "off" {
				t.Errorf("%s: synchronous_commit is %s", name, got)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := waits(); got != "on" {
			t.Errorf("after %s: synchronous_commit is %s", name, got)
		}
		conn.Release()
	}
}
