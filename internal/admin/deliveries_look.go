package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// disorder is how far the times of deliveries may be from the order of their ids: a
// transaction takes its time when it begins and its ids when it writes.
const disorder = time.Minute

// place is where a delivery stands in a list; seq is 0 but in the list of a user.
type place struct{ seq, id int64 }

// search is one look for deliveries.
type search struct {
	q        *db.Queries
	filter   DeliveryFilter
	endpoint *uuid.UUID // nil: any
	since    int64      // ids below it are too old
}

// begin finds out where the search begins.
func (s *search) begin(ctx context.Context) (place, error) {
	f := s.filter
	at := place{seq: math.MaxInt64, id: math.MaxInt64}
	if f.Endpoint != "" {
		id, err := s.q.FindEndpointID(ctx, f.Endpoint)
		if errors.Is(err, pgx.ErrNoRows) {
			return at, wrong("endpoint", "there is no such endpoint")
		}
		if err != nil {
			return at, fmt.Errorf("find endpoint: %w", err)
		}
		s.endpoint = &id
	}
	var err error
	if f.Cursor != "" {
		if at, err = readCursor(f.Cursor, f.mark()); err != nil {
			return at, err
		}
	}
	if !f.Since.IsZero() {
		if s.since, err = s.q.FindDeliveryAt(ctx, f.Since.Add(-disorder)); err != nil {
			return at, fmt.Errorf("find the first delivery: %w", err)
		}
	}
	if !f.Until.IsZero() {
		until, err := s.q.FindDeliveryAt(ctx, f.Until.Add(disorder))
		if err != nil {
			return at, fmt.Errorf("find the last delivery: %w", err)
		}
		at.id = min(at.id, until)
	}
	return at, nil
}

// window returns the places of the next deliveries after at, in their order: fewer
// than window when there are no more.
func (s *search) window(ctx context.Context, at place) ([]place, error) {
	f := s.filter
	switch {
	case f.WebhookID != uuid.Nil:
		return places(s.q.LookAtWebhookDeliveries(ctx, db.LookAtWebhookDeliveriesParams{WebhookID: f.WebhookID, Before: at.id}))
	case f.UserID != "":
		rows, err := s.q.LookAtUserDeliveries(ctx, db.LookAtUserDeliveriesParams{UserID: f.UserID, BeforeSeq: at.seq, Before: at.id})
		seen := make([]place, len(rows))
		for i, r := range rows {
			seen[i] = place{seq: r.Seq, id: r.ID}
		}
		return seen, err
	case f.Status == "dead":
		return places(s.q.LookAtDeadDeliveries(ctx, db.LookAtDeadDeliveriesParams{Before: at.id, SinceID: s.since}))
	case s.endpoint != nil:
		return places(s.q.LookAtEndpointDeliveries(ctx, db.LookAtEndpointDeliveriesParams{EndpointID: *s.endpoint, Before: at.id, SinceID: s.since}))
	}
	return places(s.q.LookAtDeliveries(ctx, db.LookAtDeliveriesParams{Before: at.id, SinceID: s.since}))
}

func places(ids []int64, err error) ([]place, error) {
	seen := make([]place, len(ids))
	for i, id := range ids {
		seen[i] = place{id: id}
	}
	return seen, err
}

// wanted asks for those of what was seen that the filter wants.
func (s *search) wanted(seen []place, most int) db.ListDeliveriesParams {
	f := s.filter
	ids := make([]int64, len(seen))
	for i, p := range seen {
		ids[i] = p.id
	}
	return db.ListDeliveriesParams{
		Ids: ids, EndpointID: s.endpoint, Status: orNil(f.Status), Event: orNil(f.Event), UserID: orNil(f.UserID), WebhookID: orNil(f.WebhookID),
		Since: orNil(f.Since), Until: orNil(f.Until), MaxDeliveries: int32(most), //nolint:gosec // at most MaxPage
	}
}

// orNil is a filter that is empty as SQL takes it.
func orNil[T comparable](v T) *T {
	var empty T
	if v == empty {
		return nil
	}
	return &v
}

// A cursor is the mark of its filter, and a place.
const (
	markLength   = 8
	cursorLength = markLength + 8 + 8
)

// mark tells the cursors of one filter from those of another.
func (f DeliveryFilter) mark() []byte {
	f.Cursor, f.Limit = "", 0
	text, _ := json.Marshal(f) // strings and times: it always can be
	sum := sha256.Sum256(text)
	return sum[:markLength]
}

func writeCursor(mark []byte, at place) string {
	raw := binary.BigEndian.AppendUint64(append([]byte{}, mark...), uint64(at.seq))                //nolint:gosec // read back as it was written
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(raw, uint64(at.id))) //nolint:gosec // read back as it was written
}

func readCursor(cursor string, mark []byte) (place, error) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) != cursorLength || !bytes.Equal(raw[:markLength], mark) {
		return place{}, wrong("cursor", "want next_cursor of the page before, with the same filters")
	}
	number := func(at int) int64 { return int64(binary.BigEndian.Uint64(raw[at:])) } //nolint:gosec // as it was written
	return place{seq: number(markLength), id: number(markLength + 8)}, nil
}
