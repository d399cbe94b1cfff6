package retention_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/inbound"
)

// door is the one that Zoho knocks at.
type door struct{ url string }

func (s *store) door(t *testing.T) door {
	t.Helper()
	jobs, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	counts := counter.New(s.pool, uuid.New(), "host", 0, slog.New(slog.DiscardHandler))
	ingester := inbound.NewIngester(s.pool, jobs, counts, []string{"Contacts"}, group.Options{})
	server := httptest.NewServer(inbound.NewZoho(s.pool, ingester, counts, inbound.Settings{Token: "sesame", MaxBacklog: 1000, BodyTimeout: inbound.BodyTimeout}))
	t.Cleanup(server.Close)
	t.Cleanup(ingester.Wait)
	return door{server.URL}
}

// send returns what became of a webhook about a contact. An id of "" is none.
func (d door) send(t *testing.T, id, email string) string {
	t.Helper()
	body := `{"operation":"update","module":"Contacts","data":[{"id":"7","Email":"` + email + `"}]}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Webhook-Token", "sesame")
	if id != "" {
		req.Header.Set("X-Zoho-Event-Id", id)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer inbound.Answer
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("answered %s: %v", resp.Status, err)
	}
	return answer.Status
}

// ages makes all that is stored so much older, and ends it.
func (s *store) ages(t *testing.T, by time.Duration) {
	t.Helper()
	s.exec(t, `UPDATE event_bodies SET received_at = received_at - $1::interval`, by)
	s.exec(t, `UPDATE events SET received_at = received_at - $1::interval, processed_at = coalesce(processed_at, received_at) - $1::interval, status = 'discarded'`, by)
}

func TestRepeatsOfWhatIsKeptAreRecognised(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		id   string // of the second event; "": derived from the first
		ago  time.Duration
		// what is left, and what the repeat of the second event is then
		left int
		want string
	}{
		{"by its id, to the last day", "evt-2", kept - time.Minute, 1, "duplicate"},
		{"no more when it is gone", "evt-2", kept + time.Minute, 0, "accepted"},
		{"without an id, right after it came", "", repeat - time.Minute, 2, "duplicate"},
		{"without an id, when what was before it is gone", "", repeat + time.Minute, 1, "accepted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			d := s.door(t)
			d.send(t, "", "old@example.com")
			s.ages(t, 2*kept)
			if got := d.send(t, tt.id, "new@example.com"); got != "accepted" {
				t.Fatalf("the second event is %s", got)
			}
			s.ages(t, tt.ago)
			forget(t, s.retention(t))
			if n := len(column[int64](t, s, `SELECT id FROM events`)); n != tt.left {
				t.Errorf("%d events are left, want %d", n, tt.left)
			}
			if got := d.send(t, tt.id, "new@example.com"); got != tt.want {
				t.Errorf("the repeat is %s, want %s", got, tt.want)
			}
		})
	}
}
