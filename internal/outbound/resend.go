package outbound

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/lane"
)

// The statuses of deliveries that this file gives or asks for.
const (
	statusPending = "pending"
	statusWaiting = "waiting"
	statusDead    = "dead"
)

// Resend opens a delivery again that has ended, however it did, in tx, and wakes its
// endpoint. It has all its attempts again; the webhook-id and the payload are those of
// before. It returns endpoint.ErrNotFound, also for what carries a batch and is no
// webhook itself, ErrOpen, ErrPayloadGone or ErrEndpointGone, and then changed
// nothing. Whoever calls it writes delivery.resend into the audit.
func Resend(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, deliveryID int64) error {
	delivery, err := db.New(tx).GetDelivery(ctx, deliveryID)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && delivery.OutboxID == nil) {
		return endpoint.NoSuch(fmt.Sprintf("delivery %d", deliveryID))
	}
	if err != nil {
		return fmt.Errorf("get delivery %d: %w", deliveryID, err)
	}
	done, err := openAgain(ctx, tx, jobs, delivery.EndpointID, []uuid.UUID{*delivery.OutboxID}, opening{})
	if err != nil {
		return fmt.Errorf("delivery %d: %w", deliveryID, err)
	}
	switch {
	case done.opened > 0:
		return nil
	case done.forgotten > 0:
		return fmt.Errorf("delivery %d: %w", deliveryID, endpoint.ErrPayloadGone)
	}
	return fmt.Errorf("delivery %d %w", deliveryID, endpoint.ErrOpen)
}

// Retry opens a dead delivery again, in tx, and wakes its endpoint. It returns
// pgx.ErrNoRows when the delivery is not dead.
func Retry(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, deliveryID int64) error {
	delivery, err := db.New(tx).GetDelivery(ctx, deliveryID)
	if err != nil {
		return fmt.Errorf("get delivery %d: %w", deliveryID, err)
	}
	if delivery.OutboxID == nil || delivery.Status != statusDead {
		return fmt.Errorf("delivery %d is not dead: %w", deliveryID, pgx.ErrNoRows)
	}
	done, err := openAgain(ctx, tx, jobs, delivery.EndpointID, []uuid.UUID{*delivery.OutboxID}, opening{onlyDead: true})
	if err != nil {
		return fmt.Errorf("open delivery %d again: %w", deliveryID, err)
	}
	if done.opened == 0 {
		return fmt.Errorf("delivery %d is not dead: %w", deliveryID, pgx.ErrNoRows)
	}
	return nil
}

// openAgain opens an endpoint's deliveries of webhooks, in tx, and wakes its lane if
// there were any. It returns endpoint.ErrEndpointGone.
func openAgain(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, endpointID uuid.UUID, ids []uuid.UUID, o opening) (opened, error) {
	q := db.New(tx)
	// Webhooks are locked before endpoints, and those before deliveries.
	webhooks, err := q.LockWebhooks(ctx, ids)
	if err != nil {
		return opened{}, fmt.Errorf("lock webhooks: %w", err)
	}
	p, err := q.LockEndpoint(ctx, endpointID)
	if err != nil {
		return opened{}, fmt.Errorf("lock endpoint: %w", err)
	}
	if p.DeletedAt != nil {
		return opened{}, endpoint.ErrEndpointGone
	}
	done, err := reopen(ctx, tx, p, webhooks, o)
	if err != nil || done.opened == 0 {
		return done, err
	}
	return done, endpoint.WakeAll(ctx, tx, jobs, []endpoint.Lane{endpoint.NewLane(p, p.Now)}, p.Now)
}

// opening says which deliveries are opened, and for what.
type opening struct {
	onlyDead   bool       // others are left as they are
	insert     bool       // also what the endpoint was never told of
	redelivery *uuid.UUID // nil: a person asked for this one
}

// opened is what became of webhooks that were to be opened.
type opened struct {
	opened    int
	open      int // has not ended, or not as it was asked for: nothing was done
	forgotten int // has no payload any more
	// cut is the seq of the first that was not looked at, nor were those after it: it has
	// to wait until what was opened before it has been sent. 0: all were.
	cut int64
}

// reopen makes an endpoint's deliveries of webhooks due, or waiting for their turn: the
// one place that does so with what has ended. The webhooks are locked, in the order
// of seq; the endpoint is locked and not gone. Whoever calls it wakes the lane.
func reopen(ctx context.Context, tx pgx.Tx, p db.LockEndpointRow, webhooks []db.LockWebhooksRow, o opening) (opened, error) {
	q := db.New(tx)
	ids := make([]uuid.UUID, len(webhooks))
	keys := make([]string, len(webhooks))
	for i, w := range webhooks {
		ids[i], keys[i] = w.ID, orderKey(p.Ordered, p.BatchSize, w.UserID)
	}
	rows, err := q.LockDeliveriesOf(ctx, db.LockDeliveriesOfParams{EndpointID: p.ID, OutboxIds: ids})
	if err != nil {
		return opened{}, fmt.Errorf("lock deliveries: %w", err)
	}
	deliveries := make(map[uuid.UUID]db.LockDeliveriesOfRow, len(rows))
	for _, row := range rows {
		deliveries[row.OutboxID] = row
	}
	busy, err := listBusy(ctx, q, p.ID, keys, o.redelivery)
	if err != nil {
		return opened{}, err
	}
	done := opened{}
	update := db.OpenDeliveriesParams{RedeliveryID: o.redelivery}
	insert := db.InsertOpenDeliveriesParams{EndpointID: p.ID, RedeliveryID: o.redelivery}
	for i, w := range webhooks {
		d, there := deliveries[w.ID]
		switch {
		case !w.Kept:
			done.forgotten++
		case there && (!final(d.Status) || (o.onlyDead && d.Status != statusDead)), !there && !o.insert:
			done.open++
		case there && busy.later(keys[i], d.ID):
			done.cut = w.Seq
			return done, write(ctx, q, update, insert)
		case there:
			update.Ids = append(update.Ids, d.ID)
			update.Statuses = append(update.Statuses, busy.join(keys[i], d.ID))
			update.OrderKeys = append(update.OrderKeys, keys[i])
			done.opened++
		default:
			insert.OutboxIds = append(insert.OutboxIds, w.ID)
			insert.Statuses = append(insert.Statuses, busy.join(keys[i], newest))
			insert.OrderKeys = append(insert.OrderKeys, keys[i])
			done.opened++
		}
	}
	return done, write(ctx, q, update, insert)
}

// final reports whether a delivery in that status has ended.
func final(status string) bool {
	return slices.Contains([]string{"delivered", statusDead, "cancelled", "discarded"}, status)
}

func write(ctx context.Context, q *db.Queries, update db.OpenDeliveriesParams, insert db.InsertOpenDeliveriesParams) error {
	if len(update.Ids) > 0 {
		if err := q.OpenDeliveries(ctx, update); err != nil {
			return fmt.Errorf("open deliveries: %w", err)
		}
	}
	if len(insert.OutboxIds) > 0 {
		if err := q.InsertOpenDeliveries(ctx, insert); err != nil {
			return fmt.Errorf("insert deliveries: %w", err)
		}
	}
	return nil
}

// newest is greater than the id of any delivery that is there: that of one to be made.
const newest = 1<<63 - 1

// busyKeys are the order keys of which something is open, with the greatest id of
// what a redelivery has opened of each.
//
// Those that wait for their turn get it in the order of their ids, which is that of
// seq for all that the relay made. What a replay makes later has a greater id than
// what follows it: that is not opened before it has been sent.
type busyKeys map[string]int64

func listBusy(ctx context.Context, q *db.Queries, endpointID uuid.UUID, keys []string, redelivery *uuid.UUID) (busyKeys, error) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key == "" })
	if len(keys) == 0 {
		return busyKeys{}, nil
	}
	rows, err := q.ListBusyKeys(ctx, db.ListBusyKeysParams{EndpointID: endpointID, OrderKeys: keys, RedeliveryID: redelivery})
	if err != nil {
		return nil, fmt.Errorf("list busy keys: %w", err)
	}
	busy := make(busyKeys, len(rows))
	for _, row := range rows {
		busy[row.OrderKey] = row.Latest
	}
	return busy, nil
}

// later reports whether something of the key was opened whose turn comes after that of
// the delivery of this id, although it goes before it.
func (b busyKeys) later(key string, id int64) bool { return key != "" && b[key] > id }

// join returns the status that the delivery of this id is opened with.
func (b busyKeys) join(key string, id int64) string {
	if key == "" {
		return statusPending
	}
	latest, busy := b[key]
	b[key] = max(latest, id)
	if busy {
		return statusWaiting
	}
	return statusPending
}
