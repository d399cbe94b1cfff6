package api_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/api"
	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/memory"
)

const (
	addedResult = `{"id":"01a201a3-85e8-7166-bd98-bdae5e578901","content":"x","metadata":{}}`
	addedData   = `{"result":` + addedResult + `}`
)

// addedEvent is memory_added of a user, with more fields where there are.
func addedEvent(user string, more ...string) string {
	return `{"event":"memory_added","user_id":"` + user + `","data":` + addedData + strings.Join(append([]string{""}, more...), ",") + `}`
}

// emit sends events with a token, and returns what became of them.
func (h *house) emit(t *testing.T, token string, events ...string) memory.Emitted {
	t.Helper()
	a := h.as(t, token, "POST", "/v1/events/batch", `{"events":[`+strings.Join(events, ",")+`]}`)
	var e memory.Emitted
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != http.StatusOK {
		t.Fatalf("answered %d %s, %v", a.status, a.body, err)
	}
	return e
}

// outcomes are what became of events: status and reason.
func outcomes(e memory.Emitted) []string {
	var all []string
	for i, r := range e.Results {
		said := strings.TrimSpace(r.Status + " " + r.Reason)
		if told := r.Status == memory.EmitSuccess || strings.Contains(r.Reason, "before"); told != (r.WebhookID != nil) || r.Index != i {
			said += fmt.Sprintf(" (index %d, webhook %v)", r.Index, r.WebhookID)
		}
		all = append(all, said)
	}
	return all
}

func count(e memory.Emitted) string { return fmt.Sprintf("%d %d %d", e.Success, e.Failed, e.Skipped) }

// relays are the jobs that relay what was told.
func (h *house) relays(t *testing.T) int {
	t.Helper()
	return rows[int](t, h, `SELECT count(*)::int FROM river_job WHERE kind = 'relay'`)[0]
}

func (h *house) payloads(t *testing.T) []string {
	t.Helper()
	return rows[string](t, h, `SELECT convert_from(payload, 'UTF8') FROM outbox ORDER BY seq`)
}

// What is wrong with an event is said of it, and keeps none of the others.
func TestEachEventOfABatchHasItsOwnOutcome(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.exec(t, `UPDATE endpoints SET events = array_remove(events, 'graph_built')`)
	soon, late := time.Now().Add(4*time.Minute).Format(time.RFC3339), time.Now().Add(6*time.Minute).Format(time.RFC3339)
	tooLong := strings.Repeat("x", memory.MaxName+1)
	cases := []struct{ event, want string }{
		{addedEvent("ada"), "success"},
		{`{"event":"memory_searched","user_id":"zoho:77","data":{"query":"q","limit":5,"results_count":0,"memories":[]}}`, "success"},
		{addedEvent("bob"), "failed user_id: this token may not see it"},
		{addedEvent(""), "failed user_id: is required"},
		{addedEvent(tooLong), "failed user_id: want at most 255 bytes"},
		{addedEvent(`a\u0000da`), "failed user_id: must not contain a NUL byte"},
		{`{"event":"memory_added","data":` + addedData + `}`, "failed user_id: is required"},
		{`{"user_id":"ada","data":` + addedData + `}`, "failed event: want one of memory_added "},
		{`{"event":"memory_eaten","user_id":"ada","data":{}}`, "failed event: want one of memory_added "},
		{`{"event":"sync.completed","user_id":"ada","data":{}}`, "failed event: want one of memory_added "},
		{`{"event":"event.dead","user_id":"ada","data":{}}`, "failed event: want one of memory_added "},
		{`{"event":"memory_added","user_id":"ada"}`, "failed data: is required"},
		{`{"event":"memory_added","user_id":"ada","data":null}`, "failed data: is required"},
		{`{"event":"memory_added","user_id":"ada","data":{"user_id":"bob","result":` + addedResult + `}}`, "failed data: its user_id is another than that of the event"},
		{`{"event":"memory_added","user_id":"ada","data":{"user_id":"bob","result":` + addedResult + `,"user_id":"ada"}}`, "failed data: its user_id is another than that of the event"},
		{`{"event":"memory_added","user_id":"ada","data":{"USER_\u0049d":"bob","result":` + addedResult + `}}`, "failed data: its user_id is another than that of the event"},
		{`{"event":"memory_added","user_id":"ada","data":{"user_id":["ada"],"result":` + addedResult + `}}`, "failed data: its user_id is another than that of the event"},
		{`{"event":"memory_added","user_id":"ada","data":[]}`, "failed data of memory_added: "},
		{`{"event":"memory_added","user_id":"ada","data":{"result":{"id":"7","content":"x","metadata":{}}}}`, "failed data of memory_added: "},
		{`{"event":"memory_added","user_id":"ada","data":{"result":"\u0000` + strings.Repeat("é", 900) + `"}}`, "failed data of memory_added: "},
		{`{"event":"memory_added","user_id":"ada","data":{"x":"` + strings.Repeat("x", memory.MaxEmitData) + `"}}`, "failed data: want at most 262144 bytes"},
		{`{"event":"graph_built","user_id":"ada","data":{"entities":1,"relationships":1,"added":0,"removed":0}}`, "skipped no endpoint asks for this event"},
		{addedEvent("ada", `"timestamp":"`+soon+`"`), "success"},
		{addedEvent("ada", `"timestamp":"`+late+`"`), "failed timestamp: want a time since 1970, at most 5m0s ahead"},
		{addedEvent("ada", `"timestamp":"0000-01-01T00:00:00+05:00"`), "failed timestamp: want a time since 1970, at most 5m0s ahead"},
		{addedEvent("ada", `"timestamp":"yesterday"`), "failed timestamp: want a time as "},
		{addedEvent("ada", `"timestamp":null`, `"id":null`, `"request_id":null`), "success"},
		{addedEvent("ada", `"id":""`), "failed id: is required"},
		{addedEvent("ada", `"id":"`+tooLong+`"`), "failed id: want at most 255 bytes"},
		{addedEvent("ada", `"id":7`), "failed id: want a string"},
		{addedEvent("ada", `"request_id":"`+tooLong+`"`), "failed request_id: want at most 255 bytes"},
		{addedEvent("ada", `"colour\u0000":"red"`), "failed colour: is no field here"},
		{addedEvent("ada", `"event":"memory_added"`), "failed event: want it once"},
		{`7`, "failed want an object"},
		{`null`, "failed want an object"},
	}
	var events []string
	for _, tc := range cases {
		events = append(events, tc.event)
	}
	e := h.emit(t, "ada", events...)
	got := outcomes(e)
	if len(got) != len(cases) {
		t.Fatalf("%d results for %d events", len(got), len(cases))
	}
	for i, tc := range cases {
		begins := strings.HasSuffix(tc.want, " ") || strings.HasSuffix(tc.want, "here") // and goes on
		if got[i] != tc.want && (!begins || !strings.HasPrefix(got[i], tc.want)) {
			t.Errorf("%.100s: %s, want %s", tc.event, got[i], tc.want)
		}
		if len(got[i]) > 400 || strings.Contains(got[i], "\x00") {
			t.Errorf("%.100s: the reason cannot be kept: %q", tc.event, got[i])
		}
	}
	if got := count(e); got != "4 30 1" {
		t.Errorf("counted %s", got)
	}
	if diff := cmp.Diff([]string{"memory_added", "memory_searched", "memory_added", "memory_added"}, cataloguetest.Outbox(t, h.pool)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if n := h.relays(t); n != 1 {
		t.Errorf("%d relay jobs, want 1", n)
	}
	if got, want := h.stored(t), "0 memories, 0 changes, 0 lines, 0 runs, 0 keys, 4 told"; got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
}

func TestDataMaySayWhoseItIs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := h.emit(t, "ada", `{"event":"memory_added","user_id":"ada","data":{"user_id":"ada","result":`+addedResult+`}}`)
	if got := outcomes(e); got[0] != "success" {
		t.Errorf("%s", got)
	}
}

// The envelope is ours, the data what was sent, to the byte.
func TestAnEmittedWebhookIsAnEnvelopeAroundWhatWasSent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const data = "{ \"result\":\n{\"content\":\"<b>\\u00e9\\u0000</b> & \\\"data\\\":null\",\"metadata\":{\"n\":12345678901234567890, \"z\":1.50e2},\"id\":\"01a201a3-85e8-7166-bd98-bdae5e578901\",\"more\":[ ]}}"
	e := h.emit(t, "all", `{"data":`+data+`,"request_id":"req-<1>","user_id":"\"data\":null","timestamp":"2026-01-31T12:00:00.5+02:00","event":"memory_added"}`,
		`{"data":`+data+`,"user_id":"ada","event":"memory_added"}`)
	payloads := h.payloads(t)
	if len(payloads) != 2 || len(e.Results) != 2 {
		t.Fatalf("told %q, answered %+v", payloads, e)
	}
	want := `{"event":"memory_added","user_id":"\"data\":null","data":` + data +
		`,"timestamp":"2026-01-31T10:00:00.5Z","source":"memrelay","bot_version":"1.2.3","request_id":"req-\u003c1\u003e"}`
	if diff := cmp.Diff(want, payloads[0]); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	var second memory.Envelope
	if err := json.Unmarshal([]byte(payloads[1]), &second); err != nil {
		t.Fatal(err)
	}
	if ago := time.Since(second.Timestamp); ago < 0 || ago > time.Minute || second.RequestID == "" || second.RequestID == "req-<1>" {
		t.Errorf("the second says %+v", second)
	}
	for i, id := range rows[uuid.UUID](t, h, `SELECT id FROM outbox ORDER BY seq`) {
		if e.Results[i].WebhookID == nil || *e.Results[i].WebhookID != id {
			t.Errorf("event %d is answered %v, it is %s", i, e.Results[i].WebhookID, id)
		}
	}
	for _, p := range payloads { // as whoever receives it would
		if !json.Valid([]byte(p)) {
			t.Errorf("%s is not JSON", p)
		}
	}
}

// The order of the events is the order of their telling, whatever their ids are.
func TestABatchIsToldInItsOrder(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var events, want []string
	for i := range memory.MaxEmit {
		events = append(events, addedEvent("ada", fmt.Sprintf(`"id":"%d"`, i), fmt.Sprintf(`"request_id":"r%d"`, i)))
		want = append(want, fmt.Sprintf("r%d", i))
	}
	if got := count(h.emit(t, "ada", events...)); got != "1000 0 0" {
		t.Fatalf("counted %s", got)
	}
	got := rows[string](t, h, `SELECT convert_from(payload, 'UTF8')::jsonb ->> 'request_id' FROM outbox ORDER BY seq`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if n := h.relays(t); n != 1 {
		t.Errorf("%d relay jobs, want 1", n)
	}
}

// An id makes an event be told once: within one batch, in a later one, by several at
// once; each token's ids are its own.
func TestAnEventWithAnIDIsToldOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one, two := addedEvent("ada", `"id":"one"`), addedEvent("ada", `"id":"two"`)
	first := h.emit(t, "ada", one, two, one)
	if diff := cmp.Diff([]string{"success", "success", "skipped id: it was emitted before"}, outcomes(first)); diff != "" {
		t.Errorf("the first batch (-want +got):\n%s", diff)
	}
	again := h.emit(t, "ada", two, addedEvent("ada", `"id":"three"`), one)
	if diff := cmp.Diff([]string{"skipped id: it was emitted before", "success", "skipped id: it was emitted before"}, outcomes(again)); diff != "" {
		t.Errorf("the second batch (-want +got):\n%s", diff)
	}
	if *again.Results[2].WebhookID != *first.Results[0].WebhookID || *first.Results[2].WebhookID != *first.Results[0].WebhookID {
		t.Error("a repeat has another webhook-id")
	}
	if relays := h.relays(t); relays != 2 {
		t.Errorf("%d relay jobs, want 2", relays)
	}
	if got := outcomes(h.emit(t, "ada", one, two)); h.relays(t) != 2 {
		t.Errorf("a batch of repeats is %v and brought a job", got)
	}
	if got := count(h.emit(t, "all", one)); got != "1 0 0" {
		t.Errorf("another token's event of the same id is counted %s", got)
	}
	// Without an id the same is told each time.
	if got := count(h.emit(t, "ada", addedEvent("ada"), addedEvent("ada"))); got != "2 0 0" {
		t.Errorf("without ids they are counted %s", got)
	}
	if n := len(cataloguetest.Outbox(t, h.pool)); n != 6 {
		t.Errorf("%d are told, want 6", n)
	}
}

func TestManyEmitTheSameAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const batch = 120 // more than share a transaction with others
	// Slow, so that transactions are in the middle of it at the same time.
	h.exec(t, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$`)
	h.exec(t, `CREATE TRIGGER slow BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION slow()`)
	var events []string
	for i := range batch {
		events = append(events, addedEvent("ada", fmt.Sprintf(`"id":"%d"`, i)))
	}
	answers := make([]memory.Emitted, 4)
	var clients sync.WaitGroup
	for n := range answers {
		mine := slices.Clone(events) // each in an order of its own
		rand.New(rand.NewPCG(uint64(n), 0)).Shuffle(batch, func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		clients.Go(func() {
			a, err := h.try(t.Context(), request{token: "ada", method: "POST", path: "/v1/events/batch", body: `{"events":[` + strings.Join(mine, ",") + `]}`})
			if err == nil {
				err = json.Unmarshal([]byte(a.body), &answers[n])
			}
			if err != nil || a.status != http.StatusOK {
				t.Errorf("answered %d %.200s, %v", a.status, a.body, err)
			}
		})
	}
	clients.Wait()
	success, skipped := 0, 0
	for _, e := range answers {
		success, skipped = success+e.Success, skipped+e.Skipped
	}
	if success != batch || skipped != 3*batch {
		t.Errorf("%d are told and %d skipped, want %d and %d", success, skipped, batch, 3*batch)
	}
	if n := rows[int](t, h, `SELECT count(*)::int FROM outbox`)[0]; n != batch {
		t.Errorf("%d are in the outbox, want %d", n, batch)
	}
	h.pool.Reset() // a backend reports its deadlocks at the latest when it ends
	ended := func() bool {
		return rows[int](t, h, `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'`)[0] == 1
	}
	for end := time.Now().Add(time.Minute); !ended() && time.Now().Before(end); {
	}
	if n := rows[int](t, h, `SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()`)[0]; n != 0 {
		t.Errorf("%d deadlocks", n)
	}
}

// What nobody receives has not used its id up.
func TestWhatNobodyReceivesIsNotStored(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.exec(t, `UPDATE endpoints SET events = '{sync.completed}'`)
	event := addedEvent("ada", `"id":"one"`)
	if diff := cmp.Diff([]string{"skipped no endpoint asks for this event"}, outcomes(h.emit(t, "ada", event))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(h.payloads(t)); n != 0 || h.relays(t) != 0 {
		t.Errorf("%d are told with %d jobs", n, h.relays(t))
	}
	h.exec(t, `UPDATE endpoints SET events = '{*}'`)
	if got := count(h.emit(t, "ada", event)); got != "1 0 0" {
		t.Errorf("once somebody receives it, it is counted %s", got)
	}
}

// Webhooks, their job and the kept answer are written together or not at all.
func TestABatchThatBreaksLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for table, condition := range map[string]string{"river_job": "NEW.kind = 'relay'", "outbox": "true"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused on purpose' USING ERRCODE = 'XX000'; END $$`)
			h.exec(t, `CREATE TRIGGER refuse BEFORE INSERT ON `+table+` FOR EACH ROW WHEN (`+condition+`) EXECUTE FUNCTION refuse()`)
			q := keyed(request{method: "POST", path: "/v1/events/batch", body: `{"events":[` + addedEvent("ada", `"id":"one"`) + `]}`}, "the-key")
			wantProblem(t, h.do(t, q), 500, "internal", "")
			if got, want := h.stored(t), "0 memories, 0 changes, 0 lines, 0 runs, 0 keys, 0 told"; got != want || h.relays(t) != 0 {
				t.Errorf("there are %s and %d jobs, want %s", got, h.relays(t), want)
			}
			h.exec(t, `DROP TRIGGER refuse ON `+table)
			if a := h.do(t, q); a.status != http.StatusOK || !strings.Contains(a.body, `"success":1,`) {
				t.Errorf("once all was well it is answered %d %s", a.status, a.body)
			}
		})
	}
}

// The body as a whole may be wrong, too; then nothing is told, not even of that.
func TestWrongBatches(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	many := strings.TrimSuffix(strings.Repeat(addedEvent("ada")+",", memory.MaxEmit+1), ",")
	for name, tc := range map[string]struct {
		body        string
		status      int
		code, field string
	}{
		"no list":        {`{"events":{}}`, 422, "invalid_field", "events"},
		"no events":      {`{}`, 422, "invalid_field", "events"},
		"null":           {`{"events":null}`, 422, "invalid_field", "events"},
		"an empty list":  {`{"events":[]}`, 422, "invalid_field", "events"},
		"too many":       {`{"events":[` + many + `]}`, 422, "invalid_field", "events"},
		"another field":  {`{"events":[` + addedEvent("ada") + `],"user_id":"ada"}`, 422, "invalid_field", "user_id"},
		"no JSON":        {`{"events":[`, 400, "invalid_json", ""},
		"a list":         {`[` + addedEvent("ada") + `]`, 400, "invalid_json", ""},
		"too large":      {`{"events":["` + strings.Repeat("x", api.MaxBody) + `"]}`, 413, "body_too_large", ""},
		"nested too far": {`{"events":[` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `]}`, 422, "invalid_field", "events"},
	} {
		t.Run(name, func(t *testing.T) {
			wantProblem(t, h.as(t, "ada", "POST", "/v1/events/batch", tc.body), tc.status, tc.code, tc.field)
			wantProblem(t, h.as(t, "all", "POST", "/v1/events/batch", tc.body), tc.status, tc.code, tc.field)
			wantProblem(t, h.as(t, "desk", "POST", "/v1/events/batch", tc.body), 403, "forbidden", "")
			wantProblem(t, h.as(t, "", "POST", "/v1/events/batch", tc.body), 401, "unauthorized", "")
		})
	}
	if n := len(h.payloads(t)); n != 0 {
		t.Errorf("%d are told", n)
	}
}

// A batch shares a transaction with whatever else is written, and its answer is kept
// like all others'.
func TestABatchWithAKeyHasTheSameAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	body := `{"events":[` + addedEvent("ada") + `,` + addedEvent("bob") + `,{"x\u0000":1},{"event":"memory_added","user_id":"ada","data":{"result":"\u0000"}}]}`
	q := keyed(request{method: "POST", path: "/v1/events/batch", body: body}, "the-key")
	answers := make([]answer, 10)
	var clients sync.WaitGroup
	for n := range answers {
		clients.Go(func() {
			var err error
			if answers[n], err = h.try(t.Context(), q); err != nil {
				t.Error(err)
			}
		})
		clients.Go(func() {
			if _, err := h.try(t.Context(), request{token: "ada", method: "POST", path: "/v1/memories", body: `{"user_id":"ada","content":"x"}`}); err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	for _, a := range answers {
		if a.status != http.StatusOK || a.body != answers[0].body {
			t.Errorf("answered %d %s and %d %s", answers[0].status, answers[0].body, a.status, a.body)
		}
	}
	if n := rows[int](t, h, `SELECT count(*)::int FROM outbox`)[0]; n != 11 {
		t.Errorf("%d are told, want 11", n)
	}
	wantProblem(t, h.do(t, keyed(request{method: "POST", path: "/v1/events/batch", body: `{"events":[7]}`}, "the-key")), 422, "idempotency_key_reused", "Idempotency-Key")
}

// What a bot gets that emits a hundred events a call, and several calls at one time.
func BenchmarkEmit100(b *testing.B) {
	for _, ids := range []bool{false, true} {
		b.Run(fmt.Sprintf("ids=%t", ids), func(b *testing.B) {
			h := newHouse(b)
			var calls atomic.Int64
			b.SetParallelism(4)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					call := calls.Add(1)
					var events []string
					for i := range 100 {
						event := addedEvent("ada")
						if ids {
							event = addedEvent("ada", fmt.Sprintf(`"id":"%d/%d"`, call, i))
						}
						events = append(events, event)
					}
					a, err := h.try(b.Context(), request{token: "ada", method: "POST", path: "/v1/events/batch", body: `{"events":[` + strings.Join(events, ",") + `]}`})
					if err != nil || !strings.Contains(a.body, `"success":100,`) {
						b.Errorf("answered %d %.200s, %v", a.status, a.body, err)
						return
					}
				}
			})
			b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
