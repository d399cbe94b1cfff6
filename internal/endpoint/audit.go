package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// audit writes who did what to an endpoint, in tx. details hold no secret.
func audit(ctx context.Context, tx pgx.Tx, who Actor, action string, id uuid.UUID, details map[string]any) error {
	encoded, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("encode audit details: %w", err)
	}
	err = db.New(tx).InsertAudit(ctx, db.InsertAuditParams{
		Actor: who.Name, Action: "endpoint." + action, Object: "endpoint/" + id.String(), Details: encoded, RequestID: who.RequestID,
	})
	if err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	return nil
}

// fact is one thing about an endpoint: all of it, to see whether it has changed, and
// what the audit shows of it.
type fact struct {
	name        string
	full, shown any
}

func (d draft) facts() []fact {
	same := func(name string, value any) fact { return fact{name, value, value} }
	r, c := d.row, d.credentials
	auth := c.Auth.info()
	auth.TokenURL = withoutQuery(auth.TokenURL)
	waits := []string{}
	for _, wait := range r.RetrySchedule {
		waits = append(waits, wait.String())
	}
	filter := json.RawMessage(r.Filter)
	if filter == nil {
		filter = json.RawMessage("null")
	}
	facts := []fact{
		same("name", r.Name),
		{"url", r.URL, withoutQuery(r.URL)},
		same("description", r.Description),
		same("events", r.Events),
		same("user_ids", r.UserIds),
		{"filter", decoded(r.Filter), filter},
		same("form", r.Form),
		same("ordered", r.Ordered),
		same("batch_size", r.BatchSize),
		same("batch_wait", r.BatchWait.String()),
		same("rate_limit", rate(r.RateLimit)),
		same("max_in_flight", r.MaxInFlight),
		same("timeout", r.Timeout.String()),
		same("retry_schedule", waits),
	}
	if d.locked {
		return append(facts, same("headers", "locked"), same("auth", "locked"), same("keys", "locked"))
	}
	return append(facts,
		fact{"headers", headerPairs(c.Headers), c.headerNames()},
		fact{"auth", c.Auth, auth},
		fact{"keys", append([]Key{}, c.Keys...), c.keysShown()},
	)
}

// decoded is a filter without what jsonb makes of its spaces and the order of its keys.
func decoded(filter []byte) any {
	read, _ := readFilter(append([]byte{}, filter...))
	return string(read)
}

// headerPairs are headers to compare: none are none, however they are written.
func headerPairs(headers map[string]string) map[string]string {
	if len(headers) == 0 {
		return nil
	}
	return headers
}

func (c Credentials) keysShown() []map[string]any {
	keys := []map[string]any{}
	for _, k := range c.Keys {
		keys = append(keys, map[string]any{"id": k.ID, "kind": k.Kind, "expires_at": k.ExpiresAt})
	}
	return keys
}

// shownFacts are facts by their names, as the audit shows them.
func shownFacts(facts []fact) map[string]any {
	shown := map[string]any{}
	for _, f := range facts {
		shown[f.name] = f.shown
	}
	return shown
}

// changes are the facts that differ: what the audit shows of them.
type changes struct {
	names         map[string]bool
	before, after map[string]any
}

func compare(before, after []fact) changes {
	c := changes{map[string]bool{}, map[string]any{}, map[string]any{}}
	for i, b := range before {
		if a := after[i]; !reflect.DeepEqual(b.full, a.full) {
			c.names[a.name] = true
			c.before[a.name], c.after[a.name] = b.shown, a.shown
		}
	}
	return c
}

func (c changes) any(names ...string) bool {
	for _, name := range names {
		if c.names[name] {
			return true
		}
	}
	return false
}
