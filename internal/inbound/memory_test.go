package inbound

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/contract/contracttest"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/respond"
	"github.com/memrelay/memrelay/internal/telemetry"
)

// What proves a sender of these tests, and the time that their clock shows.
const (
	memoryToken  = "the-token-of-the-memory-door"
	memorySecret = "the-secret-of-the-memory-door"
	memoryNow    = 1_790_000_000
)

// memoryDoor is a server with POST /webhooks/memory on the database of a door.
type memoryDoor struct {
	*door
	server *httptest.Server
}

func newMemoryDoor(t *testing.T, s setup, change func(*MemorySettings)) *memoryDoor {
	t.Helper()
	d := newDoor(t, s)
	log, err := telemetry.NewLogger(d.log, "json", 0)
	if err != nil {
		t.Fatal(err)
	}
	settings := MemorySettings{
		Token: memoryToken, MaxBacklog: 10_000, BodyTimeout: BodyTimeout, Now: func() time.Time { return time.Unix(memoryNow, 0) },
	}
	if change != nil {
		change(&settings)
	}
	r := chi.NewRouter()
	respond.Use(r, log)
	r.Method(http.MethodPost, "/webhooks/memory", NewMemory(d.ingester, d.counts, settings))
	m := &memoryDoor{door: d, server: httptest.NewServer(contracttest.Wrap(t, r))}
	t.Cleanup(func() {
		m.server.Close()
		for _, secret := range []string{memoryToken, memorySecret, private} {
			if strings.Contains(d.log.String(), secret) {
				t.Errorf("the log holds %s:\n%s", secret, d.log)
			}
		}
	})
	return m
}

func applied(s *MemorySettings) { s.Apply = true }

// hand posts a body with exactly those headers, given as names and values.
func (m *memoryDoor) hand(t *testing.T, body io.Reader, headers ...string) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.server.URL+"/webhooks/memory", body)
	if err != nil {
		t.Error(err)
		return answered{}
	}
	req.Header = with(http.Header{"Content-Type": {typeJSON}}, headers...)
	resp, err := m.server.Client().Do(req)
	if err != nil {
		t.Error(err)
		return answered{}
	}
	return read(t, resp)
}

// tell posts a body with the token.
func (m *memoryDoor) tell(t *testing.T, body string, headers ...string) answered {
	t.Helper()
	return m.hand(t, strings.NewReader(body), append([]string{"Authorization", "Bearer " + memoryToken}, headers...)...)
}

func (a answered) wantMemory(t *testing.T, want string) {
	t.Helper()
	if a.status != http.StatusOK || a.text != want+"\n" {
		t.Errorf("answered %d %s, want 200 %s", a.status, a.text, want)
	}
}

const (
	saysLogged    = `{"status":"processed","action":"memory_logged"}`
	saysQueued    = `{"status":"processed","action":"memory_queued"}`
	saysDuplicate = `{"status":"duplicate"}`
)

// ours is a body as another memrelay sends it.
func ours(event, user, data string) string {
	return fmt.Sprintf(`{"event":%q,"user_id":%q,"data":%s,"timestamp":"2026-09-21T12:00:00.5Z","source":"other","bot_version":"1","request_id":"r-1"}`, event, user, data)
}

const added1 = `{"result":{"id":"m1","content":"likes tea","metadata":{"a":1}}}`

// storedRow is what is stored of the one event.
func (d *door) storedRow(t *testing.T) string {
	t.Helper()
	rows := query[string](t, d.pool, `
		SELECT concat_ws(' | ', e.source, e.event_id, e.module, e.operation, e.record_id, e.user_id, coalesce(to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'), 'never'),
		       e.status, convert_from(b.record, 'UTF8'))
		FROM events e JOIN event_bodies b ON b.event_id = e.id ORDER BY e.id`)
	if len(rows) != 1 {
		t.Fatalf("%d events are stored, want 1: %q", len(rows), rows)
	}
	return rows[0]
}

func TestMemoryShapes(t *testing.T) {
	t.Parallel()
	const unix = `{"event":"memory_update","memory_id":7,"user_id":"u","memory":"a \u003c b","timestamp":1790000000.25}`
	for _, tt := range []struct{ name, body, id, want string }{
		{
			"ours", ours("memory_added", "u", added1), "w-1",
			`memory | w-1 | memory_added | create | m1 | u | 2026-09-21 12:00:00.500 | processed | {"event":"memory_added","user_id":"u","source":"other","data":` + added1 + `}`,
		},
		{
			"ours, known by its request", ours("memory_updated", "u", `{"before":{"id":"m0"},"after":{"id":"m1"}}`), "",
			`memory | r-1 | memory_updated | update | m1 | u | 2026-09-21 12:00:00.500 | processed | {"event":"memory_updated","user_id":"u","source":"other","data":{"before":{"id":"m0"},"after":{"id":"m1"}}}`,
		},
		{
			"ours, of nobody", `{"event":"memory_optimized","user_id":"","data":{},"timestamp":"2026-09-21T14:00:00+02:00"}`, "w-1",
			`memory | w-1 | memory_optimized | update | w-1 | 2026-09-21 12:00:00.000 | processed | {"event":"memory_optimized","user_id":"","source":"","data":{}}`,
		},
		{
			"Standard Webhooks", `{"type":"memory_deleted","timestamp":"2026-09-21T12:00:00Z","data":{"user_id":"u","result":{"id":"m1"}}}`, "msg_1",
			`memory | msg_1 | memory_deleted | delete | m1 | u | 2026-09-21 12:00:00.000 | processed | {"event":"memory_deleted","user_id":"u","source":"","data":{"user_id":"u","result":{"id":"m1"}}}`,
		},
		{
			"mem0, added", `{"event_details":{"id":"m1","data":{"memory":"likes <tea>"},"event":"ADD"}}`, "",
			`memory | d1-76048ae76123b67d242640a7cea83791 | memory_added | create | m1 | never | processed | {"event":"memory_added","user_id":"","source":"mem0","data":{"result":{"id":"m1","content":"likes <tea>"}}}`,
		},
		{
			"mem0, updated", `{"event_details":{"id":"m1","data":{"memory":"x","user_id":"u","metadata":{"k":[1]}},"event":"UPDATE"}}`, "w",
			`memory | w | memory_updated | update | m1 | u | never | processed | {"event":"memory_updated","user_id":"u","source":"mem0","data":{"after":{"id":"m1","content":"x","metadata":{"k":[1]}}}}`,
		},
		{
			"mem0, deleted", `{"event_details":{"id":"m1","event":"DELETE"}}`, "w",
			`memory | w | memory_deleted | delete | m1 | never | processed | {"event":"memory_deleted","user_id":"","source":"mem0","data":{"result":{"id":"m1"}}}`,
		},
		{
			"mem0, categorized", `{"event_details":{"event":"CATEGORIZE","memory_id":"m1","categories":["a"]}}`, "w",
			`memory | w | memory_categorized | update | m1 | never | processed | {"event":"memory_categorized","user_id":"","source":"mem0","data":{"result":{"id":"m1"}}}`,
		},
		{
			"mem0, flat", unix, "w",
			`memory | w | memory_updated | update | 7 | u | 2026-09-21 14:13:20.250 | processed | {"event":"memory_updated","user_id":"u","source":"mem0","data":{"after":{"id":"7","content":"a \u003c b"}}}`,
		},
		{
			"mem0, flat, with a time as text", `{"event":"memory_add","memory_id":"m1","user_id":"u","memory":"x","timestamp":"2026-09-21T12:00:00Z"}`, "",
			`memory | sha256-%x | memory_added | create | m1 | u | 2026-09-21 12:00:00.000 | processed | {"event":"memory_added","user_id":"u","source":"mem0","data":{"result":{"id":"m1","content":"x"}}}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMemoryDoor(t, setup{}, nil)
			headers := []string{"webhook-id", tt.id}
			if tt.id == "" {
				headers = nil
			}
			m.tell(t, tt.body, headers...).wantMemory(t, saysLogged)
			want := strings.Replace(tt.want, "sha256-%x", sumOf(tt.body), 1)
			// An empty user is no column of concat_ws that shows: two bars stand beside each other.
			got := strings.Replace(m.storedRow(t), " |  | ", " | ", 1)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			if !json.Valid([]byte(query[string](t, m.pool, `SELECT convert_from(record, 'UTF8') FROM event_bodies`)[0])) {
				t.Error("the record is not JSON")
			}
			body := query[[]byte](t, m.pool, `SELECT body FROM event_bodies`)[0]
			if string(body) != tt.body {
				t.Errorf("the body is kept as %s", body)
			}
			m.tell(t, tt.body, headers...).wantMemory(t, saysDuplicate)
			m.storedRow(t)
		})
	}
}

func TestMemoryIsLoggedOrQueued(t *testing.T) {
	t.Parallel()
	body := ours("memory_added", "u", added1)

	m := newMemoryDoor(t, setup{}, nil)
	m.tell(t, body).wantMemory(t, saysLogged)
	wantTables(t, m.pool, map[string]int64{"events": 1, "event_bodies": 1, "counters": 1})
	wantCounters(t, m.pool, counter.Changes{counter.Ignored: 1})
	if got := query[bool](t, m.pool, `SELECT processed_at = received_at FROM events`)[0]; !got {
		t.Error("it does not say when it ended")
	}

	m = newMemoryDoor(t, setup{}, applied)
	m.tell(t, body).wantMemory(t, saysQueued)
	wantTables(t, m.pool, map[string]int64{"events": 1, "event_bodies": 1, "counters": 2, "river_job": 1})
	wantCounters(t, m.pool, counter.Changes{counter.Queued: 1, counter.Backlog: 1})
	if got := query[string](t, m.pool, `SELECT status || ' ' || (processed_at IS NULL) FROM events`)[0]; got != "received true" {
		t.Errorf("the event is %s", got)
	}
	wantWhole(t, m.pool)
}

func TestMemoryRefusals(t *testing.T) {
	t.Parallel()
	m := newMemoryDoor(t, setup{}, applied)
	replace := func(old, new string) string {
		body := ours("memory_added", "u", added1)
		if !strings.Contains(body, old) {
			t.Fatalf("the body has no %s", old)
		}
		return strings.Replace(body, old, new, 1)
	}
	long := strings.Repeat("x", 256)
	for _, tt := range []struct {
		name, body string
		status     int
		code, says string
	}{
		{"nothing", "", 400, "invalid_json", "empty"},
		{"no JSON", "{", 400, "invalid_json", "JSON"},
		{"not UTF-8", "{\"event\":\"\xff\"}", 400, "invalid_json", "UTF-8"},
		{"a bare NUL", "{\"event\":\"\x00\"}", 400, "invalid_json", "JSON"},
		{"a NUL in the user", replace(`"u"`, `"u\u0000"`), 422, "not_storable", `\u0000`},
		{"a NUL in the data", replace(`likes`, `\u0000`), 422, "not_storable", `\u0000`},
		{"half a surrogate pair", replace(`likes`, `\ud83d`), 422, "not_storable", "surrogate"},
		{"a number out of range", replace(`"a":1`, `"a":1e99999`), 422, "not_storable", "range"},
		{"nested too deep", replace(`"a":1`, `"a":`+strings.Repeat("[", 101)+strings.Repeat("]", 101)), 422, "not_storable", "nested"},
		{"a list", "[]", 422, "unknown_shape", "object"},
		{"a list behind spaces", "  []", 422, "unknown_shape", "object"},
		{"an empty object", "{}", 422, "missing_field", "event"},
		{"no event", replace(`"event"`, `"Event"`), 422, "missing_field", "event"},
		{"no event but null", replace(`"memory_added"`, `null`), 422, "missing_field", "event"},
		{"no user", replace(`"user_id"`, `"user"`), 422, "missing_field", "user_id"},
		{"a user of spaces", replace(`"u"`, `"  "`), 422, "missing_field", "user_id"},
		{"no data", replace(`"data"`, `"Data"`), 422, "missing_field", "data"},
		{"no timestamp", replace(`"timestamp"`, `"time"`), 422, "missing_field", "timestamp"},
		{"of everybody, and no user", `{"event":"graph_built","data":{},"timestamp":"2026-09-21T12:00:00Z"}`, 422, "missing_field", "user_id"},
		{"an unknown event", replace("memory_added", "memory_eaten"), 422, "unknown_event", "memory_eaten"},
		{"an event of ours that is not about memory", replace("memory_added", "sync.completed"), 422, "unknown_event", "sync.completed"},
		{"an event that is no text", replace(`"memory_added"`, `{}`), 422, "invalid_field", "event"},
		{"a user that is no text", replace(`"u"`, `{}`), 422, "invalid_field", "user_id"},
		{"a long user", replace(`"u"`, `"`+long+`"`), 422, "id_too_long", "user_id"},
		{"a long source", replace(`"other"`, `"`+long+`"`), 422, "id_too_long", "source"},
		{"a long request", replace(`"r-1"`, `"`+long+`"`), 422, "id_too_long", "request_id"},
		{"data that is a list", replace(added1, `[]`), 422, "invalid_field", "data"},
		{"a time that is none", replace(`2026-09-21T12:00:00.5Z`, `yesterday`), 422, "invalid_field", "timestamp"},
		{"a time as a number", replace(`"2026-09-21T12:00:00.5Z"`, `1790000000`), 422, "invalid_field", "timestamp"},
		{"a time without a zone", replace(`12:00:00.5Z`, `12:00:00`), 422, "invalid_field", "timestamp"},
		{"a time long ago", replace(`2026-09`, `1999-09`), 422, "time_out_of_range", "timestamp"},
		{"a time far off", replace(`2026-09`, `2100-09`), 422, "time_out_of_range", "timestamp"},
		{"Standard Webhooks without a user", `{"type":"memory_added","timestamp":"2026-09-21T12:00:00Z","data":{}}`, 422, "missing_field", "data.user_id"},
		{"Standard Webhooks without data", `{"type":"memory_added","timestamp":"2026-09-21T12:00:00Z"}`, 422, "missing_field", "data"},
		{"Standard Webhooks without a time", `{"type":"memory_added","data":{"user_id":"u"}}`, 422, "missing_field", "timestamp"},
		{"Standard Webhooks of another kind", `{"type":"invoice.paid","timestamp":"2026-09-21T12:00:00Z","data":{"user_id":"u"}}`, 422, "unknown_event", "invoice.paid"},
		{"mem0 without an id", `{"event_details":{"data":{"memory":"x"},"event":"ADD"}}`, 422, "missing_field", "event_details.id"},
		{"mem0 without an event", `{"event_details":{"id":"1","data":{"memory":"x"}}}`, 422, "missing_field", "event_details.event"},
		{"mem0 with another event", `{"event_details":{"id":"1","event":"NOOP"}}`, 422, "unknown_event", "NOOP"},
		{"mem0 without a memory", `{"event_details":{"id":"1","data":{},"event":"ADD"}}`, 422, "missing_field", "event_details.data.memory"},
		{"mem0 without data", `{"event_details":{"id":"1","event":"UPDATE"}}`, 422, "missing_field", "event_details.data.memory"},
		{"mem0 with a memory that is no text", `{"event_details":{"id":"1","data":{"memory":1},"event":"ADD"}}`, 422, "invalid_field", "event_details.data.memory"},
		{"mem0 with details that are none", `{"event_details":[]}`, 422, "invalid_field", "event_details"},
		{"mem0 with a long id", `{"event_details":{"id":"` + long + `","event":"DELETE"}}`, 422, "id_too_long", "event_details.id"},
		{"flat without an id", `{"event":"memory_add","user_id":"u","memory":"x","timestamp":1790000000}`, 422, "missing_field", "memory_id"},
		{"flat without a user", `{"event":"memory_add","memory_id":"1","memory":"x","timestamp":1790000000}`, 422, "missing_field", "user_id"},
		{"flat without a memory", `{"event":"memory_add","memory_id":"1","user_id":"u","timestamp":1790000000}`, 422, "missing_field", "memory"},
		{"flat without a time", `{"event":"memory_add","memory_id":"1","user_id":"u","memory":"x"}`, 422, "missing_field", "timestamp"},
		{"flat with no time", `{"event":"memory_add","memory_id":"1","user_id":"u","memory":"x","timestamp":"NaN"}`, 422, "invalid_field", "timestamp"},
		{"flat in milliseconds", `{"event":"memory_add","memory_id":"1","user_id":"u","memory":"x","timestamp":1790000000000}`, 422, "invalid_field", "timestamp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := m.tell(t, tt.body)
			a.want(t, tt.status, tt.code)
			if !strings.Contains(a.Detail, tt.says) {
				t.Errorf("it says %q, want %q in it", a.Detail, tt.says)
			}
		})
	}
	body := ours("memory_added", "u", added1)
	m.tell(t, body, "webhook-id", long).want(t, 422, "id_too_long")
	m.tell(t, body, "webhook-id", "a\tb").want(t, 400, "invalid_event_id")
	m.tell(t, body, "webhook-id", "\xff").want(t, 400, "invalid_event_id")
	for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "no type"} {
		m.tell(t, body, "Content-Type", contentType).want(t, 415, "unsupported_media_type")
	}
	m.hand(t, zerosOf(MaxBody+1)).want(t, 413, "body_too_large") // to anyone, before the token is looked at
	wantTables(t, m.pool, map[string]int64{})
	if err := m.counts.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := query[int64](t, m.pool, `SELECT value FROM counters WHERE name = 'rejected'`); len(n) != 1 || n[0] < 50 {
		t.Errorf("counted %v as rejected", n)
	}
	for _, contentType := range []string{"application/json; charset=utf-8", "text/json", "application/cloudevents+json"} {
		m.tell(t, body, "Content-Type", contentType, "webhook-id", contentType).wantMemory(t, saysQueued)
	}
}

func zerosOf(n int64) io.Reader { return io.LimitReader(zeros{}, n) }

// A body of almost a megabyte is stored, and comes to be worked.
func TestMemoryBodyOfTheGreatestSize(t *testing.T) {
	t.Parallel()
	m := newMemoryDoor(t, setup{}, applied)
	frame := ours("memory_added", "u", `{"result":{"id":"m1","content":"%s"}}`)
	body := fmt.Sprintf(frame, strings.Repeat("<", MaxBody-len(frame)+2))
	if len(body) != MaxBody {
		t.Fatalf("the body has %d bytes, want %d", len(body), MaxBody)
	}
	m.tell(t, body).wantMemory(t, saysQueued)
	if n := query[int](t, m.pool, `SELECT octet_length(record) FROM event_bodies`)[0]; n > MaxBody {
		t.Errorf("the record has %d bytes, more than the body", n)
	}
	m.tell(t, body+" ").want(t, 413, "body_too_large")
	wantWhole(t, m.pool)
}

func TestMemoryRepeats(t *testing.T) {
	t.Parallel()
	m := newMemoryDoor(t, setup{}, applied)
	one, two := ours("memory_added", "u", added1), ours("memory_deleted", "u", added1)
	m.tell(t, one, "webhook-id", "w-1").wantMemory(t, saysQueued)
	m.tell(t, one, "webhook-id", "w-1").wantMemory(t, saysDuplicate)
	m.tell(t, one, "webhook-id", " w-1 ").wantMemory(t, saysDuplicate)
	m.tell(t, one, "webhook-id", "w-2").wantMemory(t, saysQueued)
	// The id of another body: to take it for a repeat would lose what it says.
	m.tell(t, two, "webhook-id", "w-1").wantMemory(t, saysQueued)
	m.tell(t, two, "webhook-id", "w-1").wantMemory(t, saysDuplicate)
	// Without the header the request counts, and without that what the body is.
	m.tell(t, one).wantMemory(t, saysQueued)
	m.tell(t, one).wantMemory(t, saysDuplicate)
	bare := strings.Replace(one, `,"request_id":"r-1"`, "", 1)
	m.tell(t, bare).wantMemory(t, saysQueued)
	m.tell(t, bare).wantMemory(t, saysDuplicate)
	m.tell(t, bare+" ").wantMemory(t, saysQueued)
	if n := query[int64](t, m.pool, `SELECT count(*) FROM events`)[0]; n != 6 {
		t.Errorf("%d events are stored, want 6", n)
	}
	wantWhole(t, m.pool)
}

// mem0 says neither when nor under which id it tells: what is told twice in a row is
// a repeat, and what comes back after something else is a change.
func TestAMemoryThatBecomesWhatItWas(t *testing.T) {
	t.Parallel()
	m := newMemoryDoor(t, setup{}, applied)
	update := func(memory, id string) string {
		return fmt.Sprintf(`{"event_details":{"id":%q,"data":{"memory":%q},"event":"UPDATE"}}`, id, memory)
	}
	for _, step := range []struct{ body, says string }{
		{update("tea", "m1"), saysQueued},
		{update("tea", "m1"), saysDuplicate},
		{update("tea", "m2"), saysQueued},
		{update("coffee", "m1"), saysQueued},
		{update("tea", "m1"), saysQueued},
		{update("tea", "m1"), saysDuplicate},
		{update("tea", "m2"), saysDuplicate},
	} {
		m.tell(t, step.body).wantMemory(t, step.says)
	}
	wantWhole(t, m.pool)
}

func TestFiftyOfOneWebhookAreOneEvent(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*MemorySettings){nil, applied} {
		m := newMemoryDoor(t, setup{}, change)
		body := ours("memory_added", "u", added1)
		answers := make([]string, 50)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i] = strings.TrimSpace(m.tell(t, body, "webhook-id", "w-1").text) })
		}
		wg.Wait()
		first := saysLogged
		if change != nil {
			first = saysQueued
		}
		if diff := cmp.Diff(map[string]int{first: 1, saysDuplicate: 49}, tally(answers)); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if n := query[int64](t, m.pool, `SELECT count(*) FROM events`)[0]; n != 1 {
			t.Errorf("%d events are stored, want 1", n)
		}
		if change != nil {
			wantWhole(t, m.pool)
		}
	}
}

func TestMemoryWhenTheBacklogIsFull(t *testing.T) {
	t.Parallel()
	m := newMemoryDoor(t, setup{}, func(s *MemorySettings) { s.Apply, s.MaxBacklog = true, 1 })
	m.tell(t, ours("memory_added", "u", added1), "webhook-id", "1").wantMemory(t, saysQueued)
	a := m.tell(t, ours("memory_added", "u", added1), "webhook-id", "2")
	a.want(t, 503, "backlog_full")
	if a.header.Get("Retry-After") == "" {
		t.Error("it does not say when to come again")
	}
	if n := query[int64](t, m.pool, `SELECT count(*) FROM events`)[0]; n != 1 {
		t.Errorf("%d events are stored, want 1", n)
	}
	wantWhole(t, m.pool)
}

func FuzzParseTold(f *testing.F) {
	for _, body := range []string{
		ours("memory_added", "u", added1), `{"type":"memory_added","timestamp":"2026-09-21T12:00:00Z","data":{"user_id":"u"}}`,
		`{"event_details":{"id":"m1","data":{"memory":"x"},"event":"ADD"}}`, `{"event_details":{"event":"CATEGORIZE","memory_id":"m1"}}`,
		`{"event":"memory_add","memory_id":"m1","user_id":"u","memory":"x","timestamp":"1790000000.5"}`, "", "[]", "null", `{"event":1}`,
		"\ufeff {}", `{"event":"memory_add","timestamp":1e300}`, `{"data":"x","type":"memory_added"}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseTold(body)
		if err != nil {
			if problem := problemOf(err); problem == err { //nolint:errorlint // a refusal is made another error
				t.Fatalf("%q: %v is no refusal", body, err)
			}
			return
		}
		if !storable(got.userID, got.source, got.requestID, got.memoryID, got.event) || len(got.memoryID) > maxName || len(got.userID) > maxName {
			t.Errorf("%q cannot be stored: %+v", body, got)
		}
		var record struct {
			Event  string         `json:"event"`
			UserID string         `json:"user_id"`
			Data   map[string]any `json:"data"`
		}
		if err := json.Unmarshal(got.record(), &record); err != nil || record.Data == nil || record.Event != got.event || record.UserID != got.userID {
			t.Errorf("%q became %s: %v", body, got.record(), err)
		}
		if checkJSON("the record", got.record()) != nil {
			t.Errorf("%q became what Postgres cannot keep: %s", body, got.record())
		}
	})
}
