package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/admin"
)

// stream is one of this office.
func (o *office) stream(t *testing.T) *admin.Stream {
	t.Helper()
	s := admin.NewStream(o.pool, time.Second, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(s.Stop)
	return s
}

// listener follows events over HTTP.
type listener struct {
	resp  *http.Response
	lines *bufio.Scanner
	leave context.CancelFunc
	last  string // id of the last event
}

func (h *house) listen(t *testing.T, query, lastID string) *listener {
	t.Helper()
	ctx, leave := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(leave)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/admin/events/stream"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.tokens["reader"])
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("answered %d", resp.StatusCode)
	}
	return &listener{resp: resp, lines: bufio.NewScanner(resp.Body), leave: leave}
}

// next waits for an event and returns it as "12 dead"; "end" when there are no more.
func (l *listener) next(t *testing.T) string {
	t.Helper()
	for l.lines.Scan() {
		line := l.lines.Text()
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			l.last = id
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var c admin.Change
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%d %s", c.ID, c.Status)
		}
	}
	return "end"
}

func wantNext(t *testing.T, l *listener, want string) {
	t.Helper()
	if got := l.next(t); got != want {
		t.Fatalf("told %q, want %q", got, want)
	}
}

func TestTheStreamTellsWhatBecomesOfEvents(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	open := h.give(t, given{status: "routed"})
	ended := h.give(t, given{status: "processed"})
	l := h.listen(t, "", "")
	for header, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
	} {
		if got := l.resp.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	fresh := h.give(t, given{})
	wantNext(t, l, fmt.Sprintf("%d received", fresh))
	h.exec(t, `UPDATE events SET status = 'processed', processed_at = now() WHERE id = $1`, open)
	wantNext(t, l, fmt.Sprintf("%d processed", open))
	h.exec(t, `UPDATE events SET status = 'retrying', failures = 1 WHERE id = $1`, fresh)
	wantNext(t, l, fmt.Sprintf("%d retrying", fresh))
	h.exec(t, `UPDATE events SET failures = 2 WHERE id = $1`, fresh)
	wantNext(t, l, fmt.Sprintf("%d retrying", fresh))
	h.exec(t, `UPDATE events SET status = 'dead', processed_at = now() WHERE id = $1`, fresh)
	wantNext(t, l, fmt.Sprintf("%d dead", fresh))
	if err := h.admin.DiscardDead(t.Context(), ada, admin.Letter{Kind: "event", ID: fresh}, "x"); err != nil {
		t.Fatal(err)
	}
	wantNext(t, l, fmt.Sprintf("%d discarded", fresh))
	if _, err := h.admin.Replay(t.Context(), ada, ended, "x"); err != nil {
		t.Fatal(err)
	}
	wantNext(t, l, fmt.Sprintf("%d received", ended))
	l.leave()

	// Whoever comes back is told what it missed, and then what comes.
	missed := h.give(t, given{status: "dead"})
	h.exec(t, `UPDATE events SET status = 'processed', account_id = '77', revision = 9, processed_at = now() WHERE id = $1`, ended)
	back := h.listen(t, "", l.last)
	told := map[string]bool{}
	for want := map[string]bool{fmt.Sprintf("%d dead", missed): true, fmt.Sprintf("%d processed", ended): true}; len(want) > 0; {
		got := back.next(t)
		told[got] = true
		delete(want, got)
		if got == "end" {
			t.Fatalf("told %v, and not %v", told, want)
		}
	}
	later := h.give(t, given{status: "ignored"})
	for got := ""; got != fmt.Sprintf("%d ignored", later); {
		if got = back.next(t); got == "end" {
			t.Fatal("what came later was not told")
		}
	}
}

func TestTheStreamIsFiltered(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	dead, deals, eu := h.listen(t, "?status=dead", ""), h.listen(t, "?module=Deals", ""), h.listen(t, "?source=eu", "")
	h.give(t, given{})
	one := h.give(t, given{status: "dead"})
	two := h.give(t, given{module: "Deals"})
	three := h.give(t, given{source: "eu", status: "dead", module: "Deals"})
	wantNext(t, dead, fmt.Sprintf("%d dead", one))
	wantNext(t, dead, fmt.Sprintf("%d dead", three))
	wantNext(t, deals, fmt.Sprintf("%d received", two))
	wantNext(t, deals, fmt.Sprintf("%d dead", three))
	wantNext(t, eu, fmt.Sprintf("%d dead", three))
	for query, field := range map[string]string{"status=x": "status", "colour=x": "colour", "last_event_id=x": "Last-Event-ID", "last_event_id=1-x": "Last-Event-ID"} {
		wantProblem(t, h.as(t, "reader", "GET", "/admin/events/stream?"+query, ""), 422, "invalid_field", field)
	}
	wantProblem(t, h.as(t, "bot", "GET", "/admin/events/stream", ""), 403, "forbidden", "")
}

func TestTheStreamIsHeardWhileNothingHappens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	l := h.listen(t, "", "")
	for l.lines.Scan() {
		if l.lines.Text() == ": still here" {
			return
		}
	}
	t.Error("nothing was heard")
}

// The program's stop ends all of them, and takes no more.
func TestTheStreamEndsWithTheProgram(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	s := o.stream(t)
	f, err := s.Follow(t.Context(), "token/a", admin.StreamFilter{}, "")
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if _, more := <-f.Changes; more {
		t.Error("told something")
	}
	s.Leave(f)
	if _, err := s.Follow(t.Context(), "token/a", admin.StreamFilter{}, ""); !errors.Is(err, admin.ErrStopped) {
		t.Errorf("afterwards: %v", err)
	}
}

// Who does not read is let go when too much waits for it; the others go on.
func TestASlowFollowerIsLetGo(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	s := o.stream(t)
	slow, err := s.Follow(t.Context(), "token/a", admin.StreamFilter{}, "")
	if err != nil {
		t.Fatal(err)
	}
	quick, err := s.Follow(t.Context(), "token/a", admin.StreamFilter{}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Leave(quick)
	o.exec(t, `INSERT INTO events (source, event_id, digest, module, operation, record_id)
		SELECT 'zoho', n::text, sha256('body'), 'Contacts', 'update', n::text FROM generate_series(1, 5000) AS n`)
	for range 5000 {
		if _, more := <-quick.Changes; !more {
			t.Fatal("the other one was let go")
		}
	}
	waiting := 0
	for range slow.Changes {
		waiting++
	}
	if waiting != 4096 {
		t.Errorf("%d waited for it, want 4096", waiting)
	}
}

func TestSoManyMayFollow(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	s := o.stream(t)
	follow := func(who int) (*admin.Follow, error) {
		return s.Follow(t.Context(), fmt.Sprintf("token/%d", who), admin.StreamFilter{}, "")
	}
	var last *admin.Follow
	for i := range 64 {
		var err error
		if last, err = follow(i / 16); err != nil {
			t.Fatal(err)
		}
		if i == 15 { // one of them has all of its places, the others have theirs
			if _, err := follow(0); !errors.Is(err, admin.ErrTooManyFollowers) {
				t.Errorf("the seventeenth of one token: %v", err)
			}
		}
	}
	if _, err := follow(4); !errors.Is(err, admin.ErrTooManyFollowers) {
		t.Errorf("one more: %v", err)
	}
	s.Leave(last)
	if _, err := follow(4); err != nil {
		t.Errorf("when one has left: %v", err)
	}
}

// What one looks through who comes back is bounded, and it is told when that was not all.
func TestWhoComesBackLateIsToldSo(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.exec(t, `INSERT INTO events (source, event_id, digest, module, operation, record_id, received_at)
		SELECT 'zoho', n::text, sha256('body'), 'Contacts', 'update', n::text, now() - interval '2 hours' FROM generate_series(1, 100) AS n`)
	old := h.give(t, given{status: "dead"})
	h.exec(t, `SELECT setval(pg_get_serial_sequence('events', 'id'), 30000)`)
	fresh := h.give(t, given{status: "dead"})
	s := h.office.stream(t)
	for name, c := range map[string]struct {
		newest int64
		want   []int64
		missed bool
	}{
		"from the beginning": {0, []int64{fresh}, true},
		"just too late":      {fresh - 20_001, []int64{fresh}, true},
		"in time":            {fresh - 20_000, []int64{fresh}, false},
	} {
		f, err := s.Follow(t.Context(), "token/"+name, admin.StreamFilter{}, fmt.Sprintf("%d-%d", c.newest, time.Now().Add(-time.Hour).UnixMicro()))
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for len(f.Changes) > 0 {
			got = append(got, (<-f.Changes).ID)
		}
		if f.Missed != c.missed || !slices.Equal(got, c.want) {
			t.Errorf("%s: told %v, missed %v; %d is too old", name, got, f.Missed, old)
		}
		s.Leave(f)
	}
	later := fmt.Sprintf("%d-%d", fresh, time.Now().Add(time.Hour).UnixMicro())
	wantProblem(t, h.as(t, "reader", "GET", "/admin/events/stream?last_event_id="+later, ""), 422, "invalid_field", "Last-Event-ID")
}

// A stream ends with the token that it was asked for with.
func TestTheStreamEndsWithItsToken(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *house){
		"revoked": func(t *testing.T, h *house) {
			h.exec(t, `UPDATE api_tokens SET revoked_at = now() WHERE name = 'reader'`)
		},
		"without the scope": func(t *testing.T, h *house) {
			h.exec(t, `UPDATE api_tokens SET scopes = '{memory}' WHERE name = 'reader'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			l := h.listen(t, "", "")
			end(t, h)
			if got := l.next(t); got != "end" || l.lines.Err() != nil {
				t.Errorf("told %s, %v", got, l.lines.Err())
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		h := newHouse(t)
		h.exec(t, `UPDATE api_tokens SET expires_at = now() + interval '3 s' WHERE name = 'reader'`)
		l := h.listen(t, "", "")
		// Whoever asks again is told that it is good: the end was fixed before.
		h.exec(t, `UPDATE api_tokens SET expires_at = now() + interval '1 hour' WHERE name = 'reader'`)
		if got := l.next(t); got != "end" || l.lines.Err() != nil {
			t.Errorf("told %s, %v", got, l.lines.Err())
		}
	})
}
