package outbound

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

// recordArrived records a group in which all has arrived and nothing waits for any of
// it: most groups, in one statement instead of four. It reports how many deliveries it
// has ended, and whether it has recorded the group at all: not when one of the endpoints
// must be told, which only the others' way does.
func recordArrived(ctx context.Context, q *db.Queries, units []attempt) (arrived int64, done bool, err error) {
	var attempts db.InsertDeliveryAttemptsParams
	endpoints := map[uuid.UUID]bool{}
	var ids []uuid.UUID
	for _, u := range units {
		if u.outcome.Verdict != verdictDelivered || u.interrupted || u.orderKey != nil || u.batchID != nil {
			return 0, false, nil
		}
		if !endpoints[u.endpointID] {
			endpoints[u.endpointID] = true
			ids = append(ids, u.endpointID)
		}
		appendAttempt(&attempts, u)
	}
	got, err := q.RecordDelivered(ctx, db.RecordDeliveredParams{
		EndpointIds: ids, DeliveryIds: attempts.DeliveryIds, Numbers: attempts.Numbers, StartedAt: attempts.StartedAt,
		StatusCodes: attempts.StatusCodes, ErrorClasses: attempts.ErrorClasses, Errors: attempts.Errors,
		DNSUs: attempts.DNSUs, ConnectUs: attempts.ConnectUs, TLSUs: attempts.TLSUs,
		FirstByteUs: attempts.FirstByteUs, TotalUs: attempts.TotalUs, ResponseHeads: attempts.ResponseHeads,
	})
	if err != nil {
		return 0, false, fmt.Errorf("record what has arrived: %w", err)
	}
	return got.Arrived, got.Well, nil
}
