package importer

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/inbound"
)

var now = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// show writes out what an element becomes, an event in a line.
func show(t *testing.T, raw string) string {
	t.Helper()
	e, err := readElement([]byte(raw), now)
	if err != nil {
		return "refused: " + err.Error()
	}
	body, err := inbound.ReadImported("zoho", e.kept([]byte(raw), json.RawMessage("{}")))
	if err != nil {
		return "refused: " + err.Error()
	}
	if string(body.Body) != raw {
		t.Errorf("the body is not what was kept: %s", body.Body)
	}
	var lines []string
	for i, p := range body.Events {
		at := "no time"
		if !p.OccurredAt.IsZero() {
			at = p.OccurredAt.Format(time.RFC3339)
		}
		id := body.HeaderIDs[i]
		for _, made := range []string{"import-", "d1-"} {
			if strings.HasPrefix(id, made) {
				id = made
			}
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s by %q %q %s %s", id, p.Operation, p.Module, p.RecordID, p.UserID, p.ModifiedFields, at, p.Record))
	}
	if e.failures > 0 || e.reason != "" {
		lines = append(lines, fmt.Sprintf("%d failures: %s", e.failures, e.reason))
	}
	return strings.Join(lines, "\n")
}

func TestShapes(t *testing.T) {
	t.Parallel()
	quoted := func(s string) string {
		q, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(q)
	}
	const (
		record = `{"operation":"update","module":"Accounts","data":[{"id":"7","Phone":"1"}],"modified_fields":["Phone"],"user":{"id":"5"}}`
		plain  = `{"event_id":"e1","operation":"update","module":"Accounts","record_id":"7","data":{"Phone":"1"},"modified_fields":["Phone"],"user_id":"5","timestamp":"2026-01-02T03:04:05Z","retry_count":0}`
		want   = `e1 update Accounts 7 by "5" ["Phone"] 2026-01-02T03:04:05Z {"Phone":"1"}`
	)
	for name, tc := range map[string]struct{ raw, want string }{
		"the body of a webhook":                  {record, `import- update Accounts 7 by "5" ["Phone"] no time {"id":"7","Phone":"1"}`},
		"the body of a webhook with Zoho's time": {`{"module":"Deals","server_time":1718117126473,"data":{"id":"7"}}`, `d1- update Deals 7 by "" [] 2024-06-11T14:45:26Z {"id":"7"}`},
		"Zoho's own notification":                {`{"event_id":"n","module":"Deals","operation":"delete","ids":["1","2"],"token":"hush"}`, "n:1 delete Deals 1 by \"\" [] no time {}\nn:2 delete Deals 2 by \"\" [] no time {}"},
		"the generic body":                       {`{"event_type":"account.updated","module":"Accounts","record_id":"7","record_data":{"Phone":"1"},"user_id":"5"}`, `import- update Accounts 7 by "5" [] no time {"Phone":"1"}`},
		"a flat event":                           {plain, want},
		"a flat event as JSON in a string":       {quoted(plain), want},
		"and once more":                          {quoted(quoted(plain)), want},
		"an operation beside another event_type": {`{"event_id":"e1","event_type":"zoho_webhook","operation":"update","module":"Accounts","record_id":"7","record_data":{"Phone":"1"},"modified_fields":["Phone"],"user_id":5,"received_at":1767323045}`, want},
		"the record as JSON in a string":         {`{"event_id":"e1","event_type":"account.updated","module":"Accounts","record_id":"7","data":"{\"Phone\":\"1\"}","modified_fields":"[\"Phone\"]","user_id":"5","created_at":"2026-01-02 03:04:05"}`, want},
		"the record by another name":             {`{"event_id":"e1","operation":"update","module":"Accounts","record_id":"7","payload":{"Phone":"1"},"modified_fields":["Phone"],"user_id":"5","received_at":"1767323045.0"}`, want},
		"a webhook kept with its id":             {`{"event_id":"e1","received_at":1767323045000,"payload":` + record + `}`, `e1 update Accounts 7 by "5" ["Phone"] 2026-01-02T03:04:05Z {"id":"7","Phone":"1"}`},
		"a webhook kept as text":                 {`{"event_id":"e1","timestamp":"2026-01-02T03:04:05+00:00","raw_body":` + quoted(record) + `}`, `e1 update Accounts 7 by "5" ["Phone"] 2026-01-02T03:04:05Z {"id":"7","Phone":"1"}`},
		"a dead letter":                          {`{"event":` + plain + `,"error":"no such user","failed_at":"2026-02-02T03:04:05Z","attempts":3}`, want + "\n3 failures: no such user"},
		"a dead letter of a webhook":             {`{"webhook_event":` + quoted(record) + `,"last_error":{"code":500},"failed_at":"2026-02-02T03:04:05Z","retry_count":"3"}`, "import- update Accounts 7 by \"5\" [\"Phone\"] 2026-02-02T03:04:05Z {\"id\":\"7\",\"Phone\":\"1\"}\n3 failures: {\"code\":500}"},
		"a dead letter in two wrappers":          {`{"payload":{"event":` + plain + `,"error":"inner"},"error":"outer","attempts":2}`, want + "\n2 failures: inner"},
		"the wrapper has an id of its own":       {`{"event_id":"outer","received_at":"2026-01-09T03:04:05Z","event":` + plain + `}`, want},
		"several records have ids of their own":  {`{"event_id":"e1","payload":{"data":[{"id":"7"},{"id":"8"},{"id":"7"}]}}`, "e1:7 update Accounts 7 by \"\" [] no time {\"id\":\"7\"}\ne1:8 update Accounts 8 by \"\" [] no time {\"id\":\"8\"}\ne1:7:2 update Accounts 7 by \"\" [] no time {\"id\":\"7\"}"},
		"a time that is still to come is none":   {`{"event_id":"e1","module":"Accounts","record_id":"7","timestamp":"2026-03-02T00:00:00Z"}`, `e1 update Accounts 7 by "" [] no time {}`},
		"a time of no sense is none":             {`{"event_id":"e1","module":"Accounts","record_id":"7","timestamp":"soon","created_at":1}`, `e1 update Accounts 7 by "" [] no time {}`},
		"a name that is null is none":            {`{"event_id":null,"event_type":"updated","module":"Accounts","record_id":"7","payload":null}`, `import- update Accounts 7 by "" [] no time {}`},
		"a field of the name of a wrapper":       {`{"event_id":"e1","module":"Accounts","data":{"id":"7"},"body":"{\"not\":\"an event\"}"}`, `e1 update Accounts 7 by "" [] no time {"id":"7"}`},
		"no JSON":                                {"(dp0\nS'event'", "refused: is not a JSON object"},
		"nothing":                                {"", "refused: is not a JSON object"},
		"a list":                                 {"[" + plain + "]", "refused: is not a JSON object"},
		"wrapped too often":                      {strings.Repeat(`{"event":`, 9) + plain + strings.Repeat("}", 9), "refused: is wrapped too often"},
		"an object of nothing":                   {`{"token":"hush"}`, "refused: the body has none of data, record_id, record_data, event_type, ids and operation"},
		"no record":                              {`{"event_id":"e1","module":"Accounts","operation":"update"}`, "refused: data holds no record"},
		"what Postgres cannot keep":              {`{"event_id":"e1","module":"Accounts","record_id":"7","data":{"Phone":"\u0000"}}`, `refused: the body has an escape that is no character (\u0000 or half a surrogate pair) at byte 70`},
		"an id that is too long":                 {`{"event_id":"` + strings.Repeat("e", 256) + `","module":"Accounts","record_id":"7"}`, "refused: X-Zoho-Event-Id is longer than 255 bytes"},
		"more than can have come in":             {`{"event_id":"e1","record_id":"7","x":"` + strings.Repeat("x", 4<<20) + `"}`, "refused: is greater than 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, show(t, tc.raw)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The same webhook came in here and there; the bytes differ, as what was kept there was
// written anew.
func TestTwins(t *testing.T) {
	t.Parallel()
	const here = `{"event_id":"e1","module":"Accounts","operation":"update","data":[{"id":"7","Annual_Revenue":1250.50,"Name":"Ü"}]}`
	for _, tc := range []struct {
		name, raw string
		status    string // of what is taken over
	}{
		{"the same bytes", here, "duplicate"},
		{"the same values", `{"event_id": "e1", "operation": "edit", "record_id": "7", "data": {"Name": "\u00dc", "Annual_Revenue": 1250.5}}`, "duplicate"},
		{"it does not say the values", `{"event_id":"e1","module":"Accounts","record_id":"7","retry_count":1}`, "duplicate"},
		{"other values", `{"event_id":"e1","record_id":"7","data":{"Name":"Other"}}`, "accepted"},
		{"another record", `{"event_id":"e1","record_id":"8"}`, "accepted"},
		{"another operation", `{"event_id":"e1","operation":"delete","record_id":"7"}`, "accepted"},
		{"another id", `{"event_id":"e2","data":[{"id":"7","Annual_Revenue":1250.50,"Name":"Ü"}]}`, "accepted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, together := range []bool{false, true} {
				f := newFixture(t)
				f.push(t, "queue", here)
				if !together {
					f.run(t, Options{Queue: "queue"})
				}
				f.push(t, "queue", tc.raw)
				r := f.run(t, Options{Queue: "queue"})
				duplicate := r.Keys[0].Duplicate == 1
				if duplicate != (tc.status == "duplicate") {
					t.Errorf("together %t: %+v", together, r.Keys[0])
				}
				want := 2
				if duplicate {
					want = 1
				}
				if got := f.rows(t, eventsAndJobs); len(got) != want {
					t.Errorf("together %t: %d events: %q", together, len(got), got)
				}
			}
		})
	}
}

// What came in at the door, with an id or with one that the door made of server_time, is
// the same event when it is taken over.
func TestTwinsOfTheDoor(t *testing.T) {
	t.Parallel()
	const with, without = `{"data":[{"id":"6","Phone":"1"},{"id":"7","Phone":"1"}]}`, `{"module":"Accounts","server_time":1718117126473,"data":[{"id":"8","Phone":"1"}]}`
	f := newFixture(t)
	counts := counter.New(f.pool, uuid.New(), "", 0, slog.New(slog.DiscardHandler))
	door := inbound.NewZoho(f.pool, f.importer(t, Options{}).ingester, counts, inbound.Settings{Token: "the-token", MaxBacklog: 100, BodyTimeout: inbound.BodyTimeout})
	for body, id := range map[string]string{with: "e1", without: ""} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/webhooks/zoho", strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer the-token")
		r.Header.Set("X-Zoho-Event-Id", id)
		answer := httptest.NewRecorder()
		if door.ServeHTTP(answer, r); answer.Code != 200 {
			t.Fatalf("the door says %s", answer.Body)
		}
	}
	f.push(t, "queue", `{"event_id":"e1","received_at":"2026-01-02T03:04:05","payload":`+with+`}`, `{"attempts": 1, "event": `+without+`}`,
		strings.Replace(without, "473", "474", 1))
	checkKeys(t, f.run(t, Options{Queue: "queue"}), Key{Name: "queue", Type: "list", Accepted: 1, Duplicate: 2})
	if got := f.rows(t, eventsAndJobs); len(got) != 4 {
		t.Errorf("events: %q", got)
	}
}

// Half of a body is known.
func TestTwinsOfSomeRecords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.push(t, "queue", `{"event_id":"e1:7","module":"Accounts","record_id":"7","data":{"Phone":"1"}}`)
	f.push(t, "queue", `{"event_id":"e1","module":"Accounts","data":[{"id":"6"},{"id":"7","Phone":"1"},{"id":"8"}]}`)
	checkKeys(t, f.run(t, Options{Queue: "queue"}), Key{Name: "queue", Type: "list", Accepted: 2})
	checkRows(t, f, eventsAndJobs, "e1:7 update 7 received jobs 1", "e1:6 update 6 received jobs 1", "e1:8 update 8 received jobs 1")
	checkRows(t, f, `SELECT count(*)::text FROM event_bodies WHERE body IS NOT NULL`, "2")
	checkRows(t, f, counted, "backlog 3", "duplicated 1", "queued 3")
}
