package memory

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// hook is a webhook, rendered.
type hook struct {
	id            uuid.UUID
	event, userID string
	payload       []byte
}

// fate is what became of a hook.
type fate int

const (
	fateUnwanted fate = iota // no endpoint asks for it
	fateRepeat               // its id is there already
	fateTold
)

// emit stores, in tx, what the operations of a group emit, and answers them.
func (s *Store) emit(ctx context.Context, tx pgx.Tx, c *commit, open []int) error {
	var hooks []hook
	for _, i := range open {
		if b := c.ops[i].emits; b != nil {
			hooks = append(hooks, b.hooks...)
		}
	}
	fates, err := s.writer.teller.tellOnce(ctx, tx, hooks)
	if err != nil {
		return err
	}
	for _, i := range open {
		b := c.ops[i].emits
		if b == nil {
			continue
		}
		if c.answers[i].Value.json, err = json.Marshal(b.answer(fates[:len(b.hooks)])); err != nil {
			return fmt.Errorf("encode what was emitted: %w", err)
		}
		fates = fates[len(b.hooks):]
	}
	return nil
}

// tellOnce stores, in tx, those webhooks that an endpoint asks for and whose ids are
// not there, in the order given, with one job that relays whatever waits. Where
// another transaction is storing one of the same id it waits for its end. It returns
// what became of each.
func (t *Teller) tellOnce(ctx context.Context, tx pgx.Tx, all []hook) ([]fate, error) {
	fates := make([]fate, len(all))
	if len(all) == 0 {
		return fates, nil
	}
	q := db.New(tx)
	names, err := q.ListWantedEvents(ctx)
	if err != nil {
		return nil, fmt.Errorf("list wanted events: %w", err)
	}
	var p db.InsertOutboxOnceParams
	first := map[uuid.UUID]int{}
	for i, h := range all {
		if !wants(names, h.event) {
			continue
		}
		fates[i] = fateRepeat
		if _, twice := first[h.id]; twice {
			continue
		}
		first[h.id] = i
		p.Ids, p.Events = append(p.Ids, h.id), append(p.Events, h.event)
		p.UserIds, p.Payloads = append(p.UserIds, h.userID), append(p.Payloads, h.payload)
	}
	if len(p.Ids) == 0 {
		return fates, nil
	}
	made, err := q.InsertOutboxOnce(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("insert outbox: %w", err)
	}
	if len(made) == 0 {
		return fates, nil
	}
	for _, id := range made {
		fates[first[id]] = fateTold
	}
	return fates, t.relay(ctx, tx)
}
