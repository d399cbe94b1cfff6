// Package cataloguetest holds what a test has told against the catalogue of
// events. In go a test and its database, out come the events, each of them checked.
package cataloguetest

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/catalogue"
)

// Outbox fails t for every webhook in the database that is not as the catalogue
// says, and returns the names of all events, in the order in which they were told.
// A test that expects webhooks compares them: an outbox that is empty has no fault.
func Outbox(t testing.TB, pool *pgxpool.Pool) []string {
	t.Helper()
	c, err := catalogue.New()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := pool.Query(t.Context(), `SELECT event, user_id, payload FROM outbox ORDER BY seq`)
	if err != nil {
		t.Fatalf("list the outbox: %v", err)
	}
	defer rows.Close()
	var events []string
	for rows.Next() {
		var event, user string
		var payload []byte
		if err := rows.Scan(&event, &user, &payload); err != nil {
			t.Fatalf("read the outbox: %v", err)
		}
		if err := c.Check(payload); err != nil {
			t.Errorf("webhook %d: %v\n%s", len(events)+1, err, payload)
		}
		var said struct {
			Event  string `json:"event"`
			UserID string `json:"user_id"`
		}
		if err := json.Unmarshal(payload, &said); err != nil || said.Event != event || said.UserID != user {
			t.Errorf("webhook %d is kept as %s of %q and says %s of %q (%v)", len(events)+1, event, user, said.Event, said.UserID, err)
		}
		events = append(events, event)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("read the outbox: %v", err)
	}
	return events
}
