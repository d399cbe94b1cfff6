package outbound

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/endpoint"
)

func (s *station) resend(t *testing.T, deliveryID int64) error {
	return pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return Resend(t.Context(), tx, s.jobs, deliveryID) })
}

// ended gives every delivery that state, as if it had been attempted in vain.
func (s *station) ended(t *testing.T, status string) {
	t.Helper()
	s.exec(t, `UPDATE deliveries SET status = $1, attempts = 2, failures = 2, last_error = 'no', finished_at = now(), batch_id = gen_random_uuid()`, status)
}

// opened tells of each delivery, in the order of their ids, how it was opened.
func (s *station) opened(t *testing.T) []string {
	t.Helper()
	return column[string](t, s, `
		SELECT format('%s%s, %s attempts, %s failed, %s', status, coalesce(' as ' || order_key, ''), attempts, failures, CASE WHEN last_error = '' THEN 'no error' ELSE last_error END)
		       || CASE WHEN batch_id IS NULL THEN '' ELSE ', of a batch' END || CASE WHEN finished_at IS NULL THEN '' ELSE ', finished' END
		       || CASE WHEN leased_until IS NULL THEN '' ELSE ', leased' END || CASE WHEN next_attempt_at <= now() THEN '' ELSE ', later' END
		FROM deliveries ORDER BY id`)
}

func TestResendSendsWhateverHasEndedAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"delivered", "dead", "cancelled", "discarded"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			r := subscribe(t)
			id := s.endpoint(t, r.URL)
			webhook := s.told(t, added, 1)[0]
			s.relay(t)
			s.ended(t, status)
			s.exec(t, `UPDATE deliveries SET next_attempt_at = now() + interval '1 day', leased_until = now() + interval '1 minute', redelivery_id = gen_random_uuid()`)
			if err := s.resend(t, one[int64](t, s, `SELECT id FROM deliveries`)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"pending, 2 attempts, 0 failed, no"}, s.opened(t)); diff != "" {
				t.Errorf("opened (-want +got):\n%s", diff)
			}
			s.work(t, id)
			got := r.next(t)
			if got.id != webhook.String() || got.body != payload(added, 0) {
				t.Errorf("sent %s as %s, want the bytes of before as %s", got.body, got.id, webhook)
			}
			s.wantOutcomes(t, id, "delivered after 3 attempts, 0 failed")
		})
	}
}

func TestResendRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change string
		want   error
	}{
		"what is due":                     {`UPDATE deliveries SET status = 'pending'`, endpoint.ErrOpen},
		"what is retried":                 {`UPDATE deliveries SET status = 'retrying'`, endpoint.ErrOpen},
		"what waits for its turn":         {`UPDATE deliveries SET status = 'waiting'`, endpoint.ErrOpen},
		"what a batch carries":            {`UPDATE deliveries SET status = 'batched'`, endpoint.ErrOpen},
		"a batch itself":                  {`UPDATE deliveries SET outbox_id = NULL, batch_id = gen_random_uuid()`, endpoint.ErrNotFound},
		"what is not there":               {`DELETE FROM deliveries`, endpoint.ErrNotFound},
		"what has no payload any more":    {`UPDATE outbox SET payload = NULL`, endpoint.ErrPayloadGone},
		"what was for an endpoint before": {`UPDATE endpoints SET deleted_at = now()`, endpoint.ErrEndpointGone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			s.endpoint(t, nowhere)
			s.told(t, added, 1)
			s.relay(t)
			s.ended(t, "dead")
			id := one[int64](t, s, `SELECT id FROM deliveries`)
			s.exec(t, c.change)
			before := s.picture(t)
			if err := s.resend(t, id); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if diff := cmp.Diff(before, s.picture(t)); diff != "" {
				t.Errorf("changed (-before +after):\n%s", diff)
			}
		})
	}
}

// ordered makes an endpoint that gets the events of each user one after the other.
func (s *station) ordered(t *testing.T, url string, events ...string) uuid.UUID {
	t.Helper()
	id := s.endpoint(t, url, named("ordered", events...))
	s.exec(t, `UPDATE endpoints SET ordered = true WHERE id = $1`, id)
	return id
}

func TestResendKeepsToTheOrderOfAUser(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change string
		want   string
	}{
		"nothing else is open":             {`SELECT`, "pending as zoho:1"},
		"another one is due":               {`UPDATE deliveries SET status = 'pending' WHERE id = (SELECT min(id) FROM deliveries)`, "waiting as zoho:1"},
		"another one is retried":           {`UPDATE deliveries SET status = 'retrying' WHERE id = (SELECT min(id) FROM deliveries)`, "waiting as zoho:1"},
		"another one waits":                {`UPDATE deliveries SET status = 'waiting' WHERE id = (SELECT min(id) FROM deliveries)`, "waiting as zoho:1"},
		"that of another user is due":      {`UPDATE deliveries SET status = 'pending', order_key = 'zoho:2' WHERE id = (SELECT min(id) FROM deliveries)`, "pending as zoho:1"},
		"that of another endpoint is due":  {`UPDATE deliveries SET status = 'pending', endpoint_id = (SELECT id FROM endpoints WHERE name = 'other') WHERE id = (SELECT min(id) FROM deliveries)`, "pending as zoho:1"},
		"the endpoint sends batches":       {`UPDATE endpoints SET batch_size = 2`, "pending"},
		"the endpoint is ordered no more":  {`UPDATE endpoints SET ordered = false`, "pending"},
		"the endpoint was ordered not yet": {`UPDATE deliveries SET order_key = NULL`, "pending as zoho:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			s.ordered(t, nowhere, added)
			s.endpoint(t, nowhere, named("other"))
			s.told(t, added, 2)
			s.relay(t)
			s.ended(t, "delivered")
			ids := column[int64](t, s, `SELECT id FROM deliveries ORDER BY id`)
			if len(ids) != 2 {
				t.Fatalf("%d deliveries, want 2", len(ids))
			}
			s.exec(t, c.change)
			if err := s.resend(t, ids[1]); err != nil {
				t.Fatal(err)
			}
			got := one[string](t, s, `SELECT status || coalesce(' as ' || order_key, '') FROM deliveries WHERE id = $1`, ids[1])
			if got != c.want {
				t.Errorf("opened as %s, want %s", got, c.want)
			}
		})
	}
}

// What is sent again while its endpoint is paused is held like all else.
func TestResendToAPausedEndpointIsHeld(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	r.next(t)
	s.exec(t, `UPDATE endpoints SET status = 'paused'`)
	if err := s.resend(t, one[int64](t, s, `SELECT id FROM deliveries`)); err != nil {
		t.Fatal(err)
	}
	s.work(t, id)
	s.wantOutcomes(t, id, "pending after 1 attempts, 0 failed")
	if n := len(r.all()); n != 0 {
		t.Errorf("%d were sent to an endpoint that is paused", n)
	}
}

func TestResendLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	s.told(t, added, 1)
	s.relay(t)
	s.ended(t, "dead")
	s.exec(t, `UPDATE endpoints SET job_id = NULL, due_at = NULL, done = wanted`)
	s.exec(t, `DELETE FROM river_job`)
	before := s.picture(t)
	relent := s.refuse(t, "endpoints", "BEFORE UPDATE", "new.job_id IS NOT NULL")
	if err := s.resend(t, one[int64](t, s, `SELECT id FROM deliveries`)); err == nil {
		t.Error("no error although the lane could not be woken")
	}
	relent()
	if diff := cmp.Diff(before, s.picture(t)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}
