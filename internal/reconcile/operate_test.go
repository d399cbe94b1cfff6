package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/zoho"
)

// A pause is for as long as a person likes; the sync then goes on where it stood.
func TestPauseResumeCancel(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	for i := range 9 {
		s.zoho.put(t, "Contacts", contact(fmt.Sprint(100+i), "Doe", yesterday()))
	}
	id := s.start(t, Full)
	s.work(t, id)
	j := s.begin(t, id)

	for _, which := range []string{"incremental", "nothing", uuid.NewString()} {
		if _, err := s.Pause(t.Context(), which, nobody); !errors.Is(err, ErrNotFound) {
			t.Errorf("pause %s: %v", which, err)
		}
	}
	if _, err := s.Resume(t.Context(), Full, nobody); !errors.Is(err, ErrNotPaused) {
		t.Errorf("resume one that runs: %v", err)
	}
	if got, err := s.Pause(t.Context(), Full, nobody); err != nil || got != id {
		t.Fatalf("pause: %v, %v", got, err)
	}
	if _, err := s.Pause(t.Context(), id.String(), nobody); !errors.Is(err, ErrNotRunning) {
		t.Errorf("pause twice: %v", err)
	}
	// The job that ran meanwhile changes nothing.
	if err := s.Work(t.Context(), j); err != nil {
		t.Errorf("a job of a paused sync: %v", err)
	}
	s.end(t, j.JobRow, nil)
	if st := s.status(t, id); st.State != Paused || st.Read != 3 || st.Percent != 33 {
		t.Errorf("paused: %+v", st)
	}
	if _, already, err := s.Start(t.Context(), Full, nobody); err != nil || !already {
		t.Errorf("a paused sync is active: %v, %v", already, err)
	}
	if _, err := s.Resume(t.Context(), id.String(), nobody); err != nil {
		t.Fatal(err)
	}
	s.work(t, id)
	if st := s.status(t, id); st.State != Running || st.Read != 6 {
		t.Errorf("resumed: %+v", st)
	}
	if _, err := s.Cancel(t.Context(), Full, nobody); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Cancel(t.Context(), id.String(), nobody); !errors.Is(err, ErrEnded) {
		t.Errorf("cancel twice: %v", err)
	}
	if st := s.status(t, id); st.State != Cancelled || st.FinishedAt == nil || st.Percent == 100 || len(s.events(t)) != 6 {
		t.Errorf("cancelled: %+v", st)
	}
	s.start(t, Full) // there is room for another
	want := []string{"sync.start", "sync.pause", "sync.resume", "sync.cancel", "sync.start"}
	if diff := cmp.Diff(want, rows[string](t, s.pool, `SELECT action FROM audit_log WHERE actor = 'a test' AND object LIKE 'sync/%' ORDER BY id`)); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

// A pause in the middle of a page's call stores nothing of that page.
func TestAPauseWhileAPageIsRead(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	s.zoho.put(t, "Contacts", contact("7", "Doe", yesterday()))
	id := s.start(t, Full)
	s.zoho.fail(func(call, _ string) error {
		if call == "list" {
			_, err := s.Pause(t.Context(), Full, nobody)
			return err
		}
		return nil
	})
	j := s.begin(t, id)
	if err := s.Work(t.Context(), j); err != nil {
		t.Errorf("returned %v", err)
	}
	if st := s.status(t, id); st.State != Paused || st.Read != 0 || len(s.events(t)) != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestSyncAccountsAsksForAWholeRead(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	s.exec(t, `INSERT INTO accounts (account_id, wanted, whole_at, whole_since, whole_cursor) VALUES ('7', 5, now(), now(), 'list:Deals:')`)
	for _, ids := range [][]string{{"7", ""}, {"record:Contacts:7"}, {"7", "Acme"}} {
		if err := s.SyncAccounts(t.Context(), ids, nobody); !errors.Is(err, ErrAccountID) {
			t.Errorf("%v: %v", ids, err)
		}
	}
	if reads, err := s.AccountReads(t.Context(), []string{"7"}); err != nil || reads[0].WholeAt == nil {
		t.Errorf("a refused request did something: %+v, %v", reads, err)
	}
	if err := s.SyncAccounts(t.Context(), []string{"9007199254740993", "7", "7"}, nobody); err != nil {
		t.Fatal(err)
	}
	reads, err := s.AccountReads(t.Context(), []string{"7", "9007199254740993", "8"})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"7", "9007199254740993"} {
		if r := reads[i]; len(reads) != 2 || r.AccountID != id || r.WholeAt != nil || r.Since == nil {
			t.Errorf("reads: %+v", reads)
		}
	}
	if diff := cmp.Diff([]string{"7", "9007199254740993"}, rows[string](t, s.pool, `SELECT args->>'account_id' FROM river_job WHERE kind = 'wake_account' ORDER BY id`)); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	if n := rows[int64](t, s.pool, `SELECT wanted FROM accounts WHERE account_id = '7'`)[0]; n != 5 {
		t.Errorf("the lane's own figures changed: wanted %d", n)
	}
}

// What a full sync has read needs no read of its own for each account.
func TestAFullSyncReadsAccountsWhole(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts", "Notes")
	lanes := func() []string {
		return rows[string](t, s.pool, `SELECT account_id FROM accounts WHERE whole_at IN (SELECT started_at FROM syncs) ORDER BY account_id`)
	}
	s.exec(t, `INSERT INTO accounts (account_id, whole_at) VALUES ('1', NULL), ('2', now() - interval '1 day'), ('3', now() + interval '1 day'), ('record:Contacts:4', NULL)`)
	s.exec(t, `INSERT INTO accounts (account_id) SELECT '1' || lpad(n::text, 6, '0') FROM generate_series(1, $1) AS n`, 2*wholeAccounts+1)
	for _, slice := range []time.Duration{0, time.Minute} {
		s.slice = slice
		s.sync(t, Full)
		if got := lanes(); len(got) != 2+2*wholeAccounts+1 || !slices.Contains(got, "1") || !slices.Contains(got, "2") {
			t.Errorf("%d accounts are whole", len(got))
		}
		s.exec(t, `UPDATE accounts SET whole_at = NULL WHERE account_id <> '3'`)
	}
	s.sync(t, Incremental)
	if got := lanes(); got != nil {
		t.Errorf("an incremental sync reads nobody whole: %v", got)
	}

	// A module that Zoho never shows is left out of any read; one that broke off is not.
	s.zoho.put(t, "Contacts", contact("7", "Doe", yesterday()))
	for i := range 7 {
		s.zoho.put(t, "Notes", contact(fmt.Sprint(i+1), "Doe", yesterday()))
	}
	for pages, want := range map[int]bool{0: true, 2: false} {
		s.exec(t, `UPDATE accounts SET whole_at = NULL`)
		n := 0
		s.zoho.fail(func(call, module string) error {
			if call != "list" || module != "Notes" {
				return nil
			}
			if n++; n > pages {
				return &zoho.Error{Kind: zoho.KindInvalid, Op: "list Notes"}
			}
			return nil
		})
		s.sync(t, Full)
		if got := lanes() != nil; got != want {
			t.Errorf("Notes broke off after %d pages: accounts are whole: %v", pages, got)
		}
	}
}

// Operators may ask to be told; nobody else is.
func TestTheEndOfASyncIsTold(t *testing.T) {
	t.Parallel()
	s := stationOn(t, dbtest.New(t), newFakeZoho(), Options{Modules: []string{"Contacts"}, Sender: memory.Sender{BotVersion: "1.2.3"}})
	s.zoho.put(t, "Contacts", contact("7", "Doe", yesterday()))
	told := func() []string { return rows[string](t, s.pool, `SELECT event FROM outbox ORDER BY seq`) }
	s.sync(t, Full)
	if got := told(); got != nil {
		t.Fatalf("told %v, and nobody asked", got)
	}
	// The outbox's list of events is another's to change.
	s.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		VALUES ($1, 'ops', 'https://example.com', '{sync.completed,sync.failed}', '30s', '{1s,2s}')`, uuid.New())
	st := s.sync(t, Full)
	s.zoho.fail(func(_, _ string) error { return &zoho.Error{Kind: zoho.KindForbidden, Op: "list"} })
	s.finish(t, s.start(t, Full))
	if diff := cmp.Diff([]string{memory.SyncCompleted, memory.SyncFailed}, told()); diff != "" {
		t.Fatalf("told (-want +got):\n%s", diff)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'relay'`)[0]; n != 2 {
		t.Errorf("%d relay jobs", n)
	}
	var payload struct {
		Event      string          `json:"event"`
		UserID     string          `json:"user_id"`
		Source     string          `json:"source"`
		BotVersion string          `json:"bot_version"`
		RequestID  string          `json:"request_id"`
		Data       memory.SyncData `json:"data"`
	}
	var id uuid.UUID
	var text []byte
	if err := s.pool.QueryRow(t.Context(), `SELECT id, payload FROM outbox ORDER BY seq LIMIT 1`).Scan(&id, &text); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &payload); err != nil {
		t.Fatal(err)
	}
	payload.Data.Seconds = 0
	want := payload
	want.Event, want.UserID, want.Source, want.BotVersion, want.RequestID = memory.SyncCompleted, "system", "memrelay", "1.2.3", id.String()
	want.Data = memory.SyncData{SyncID: st.ID, Kind: Full, Read: 1}
	if diff := cmp.Diff(want, payload); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	cataloguetest.Outbox(t, s.pool)
}

func TestStatusOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	part := func(phase string, read, expected int64) db.SyncPart {
		return db.SyncPart{Phase: phase, Read: read, Expected: expected}
	}
	left := func(n int64) *int64 { return &n }
	until := now.Add(time.Minute)
	for name, c := range map[string]struct {
		run     db.Sync
		parts   []db.SyncPart
		percent int
		left    *int64
	}{
		"just begun":              {db.Sync{Kind: Full, State: Running}, []db.SyncPart{part("records", 0, 100)}, 0, nil},
		"half":                    {db.Sync{Kind: Full, State: Running}, []db.SyncPart{part("records", 50, 100)}, 50, left(100)},
		"over modules":            {db.Sync{Kind: Full, State: Running}, []db.SyncPart{part("done", 30, 50), part("records", 20, 170)}, 25, left(300)},
		"more than Zoho counted":  {db.Sync{Kind: Full, State: Running}, []db.SyncPart{part("records", 300, 100), part("records", 0, 100)}, 50, left(100)},
		"all read, not yet ended": {db.Sync{Kind: Full, State: Running}, []db.SyncPart{part("done", 100, 100)}, 99, left(0)},
		"nothing counted":         {db.Sync{Kind: Full, State: Running}, []db.SyncPart{part("done", 0, 0), part("records", 0, 0)}, 50, left(100)},
		"incremental":             {db.Sync{Kind: Incremental, State: Running}, []db.SyncPart{part("done", 5, 0), part("records", 7, 0), part("deleted", 0, 0), part("skipped", 0, 0)}, 50, left(100)},
		"it waits":                {db.Sync{Kind: Full, State: Running, WaitsUntil: &until}, []db.SyncPart{part("records", 50, 100)}, 50, nil},
		"paused":                  {db.Sync{Kind: Full, State: Paused}, []db.SyncPart{part("records", 50, 100)}, 50, nil},
		"failed":                  {db.Sync{Kind: Full, State: Failed}, []db.SyncPart{part("skipped", 100, 100)}, 99, nil},
		"completed":               {db.Sync{Kind: Full, State: Completed}, []db.SyncPart{part("done", 50, 100)}, 100, nil},
		"no parts":                {db.Sync{Kind: Full, State: Running}, nil, 0, nil},
	} {
		c.run.StartedAt = now.Add(-100 * time.Second)
		s := statusOf(c.run, c.parts, now)
		if s.Percent != c.percent {
			t.Errorf("%s: %d %%, want %d", name, s.Percent, c.percent)
		}
		if diff := cmp.Diff(c.left, s.SecondsLeft); diff != "" {
			t.Errorf("%s: time left (-want +got):\n%s", name, diff)
		}
	}
}

// Health is degraded by what scheduled syncs should have brought, and only by that.
func TestStaleness(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	for _, c := range []struct {
		name   string
		rows   string // of syncs
		every  time.Duration
		fullAt string
		known  bool
		stale  bool
	}{
		{"a new database", ``, time.Hour, "02:00", false, false},
		{"the first one runs", `('full', 'running', now() - interval '10 minutes', NULL)`, time.Hour, "02:00", false, false},
		{"the first one never ends", `('full', 'running', now() - interval '3 hours', NULL)`, time.Hour, "02:00", false, true},
		{"fresh", `('incremental', 'completed', now() - interval '70 minutes', now())`, time.Hour, "02:00", true, false},
		{"stale", `('incremental', 'completed', now() - interval '121 minutes', now()), ('incremental', 'failed', now(), now())`, time.Hour, "02:00", true, true},
		{"a full one counts", `('incremental', 'completed', now() - interval '1 day', now()), ('full', 'completed', now() - interval '1 hour', now())`, time.Hour, "02:00", true, false},
		{"nothing is scheduled", `('full', 'completed', now() - interval '1 year', now())`, 0, "off", true, false},
		{"daily, fresh", `('full', 'completed', now() - interval '24 hours', now())`, 0, "02:00", true, false},
		{"daily, stale", `('full', 'completed', now() - interval '26 hours', now())`, 0, "02:00", true, true},
	} {
		s := stationOn(t, pool, newFakeZoho(), Options{Modules: []string{"Contacts"}, IncrementalEvery: c.every, FullAt: c.fullAt})
		s.exec(t, `DELETE FROM syncs`)
		if c.rows != "" {
			s.exec(t, `INSERT INTO syncs (id, kind, state, requested_by, started_at, finished_at)
				SELECT gen_random_uuid(), k, s, 'x', b, f::timestamptz FROM (VALUES `+c.rows+`) AS v(k, s, b, f)`)
		}
		last, age, stale, err := s.Staleness(t.Context())
		if err != nil || stale != c.stale || last.IsZero() == c.known {
			t.Errorf("%s: %v, age %v, stale %v, %v", c.name, last, age, stale, err)
		}
	}
}
