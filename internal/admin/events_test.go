package admin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/body"
)

// told is an event that is given.
type given struct {
	source, key, module, operation, record, account, user, status, fault string
	age                                                                  time.Duration
}

// give stores an event and returns its id.
func (o *office) give(t *testing.T, g given) int64 {
	t.Helper()
	or := func(v *string, other string) {
		if *v == "" {
			*v = other
		}
	}
	or(&g.source, "zoho")
	or(&g.key, uuid.NewString())
	or(&g.module, "Contacts")
	or(&g.operation, "update")
	or(&g.record, "1")
	or(&g.status, "received")
	if slices.Contains([]string{"routed", "processed"}, g.status) {
		or(&g.account, "77")
	}
	id := one[int64](t, o, `
		INSERT INTO events (source, event_id, digest, module, operation, record_id, account_id, revision, user_id, status, last_error, received_at, routed_at, processed_at)
		VALUES ($1, $2, sha256('body'), $3, $4, $5, nullif($6, ''), CASE WHEN $6 <> '' THEN 1 END, $7, $8, $9, now() - $10::interval,
		        CASE WHEN $6 <> '' THEN now() - $10::interval END, CASE WHEN $8 IN ('processed', 'dead') THEN now() - $10::interval END)
		RETURNING id`, g.source, g.key, g.module, g.operation, g.record, g.account, g.user, g.status, g.fault, g.age)
	o.exec(t, `INSERT INTO event_bodies (event_id, received_at, body_id, body, record) SELECT id, received_at, id, 'body', '{}' FROM events WHERE id = $1`, id)
	return id
}

// idsOfEvents lists all pages, and checks that no page has more than was asked for.
func (o *office) idsOfEvents(t *testing.T, f admin.EventFilter) []int64 {
	t.Helper()
	ids := []int64{}
	for range 1000 {
		page, err := admin.NewEvents(o.pool).List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if f.Limit > 0 && len(page.Events) > f.Limit {
			t.Fatalf("a page of %d, asked for %d", len(page.Events), f.Limit)
		}
		for _, e := range page.Events {
			ids = append(ids, e.ID)
		}
		if f.Cursor = page.NextCursor; f.Cursor == "" {
			return ids
		}
	}
	t.Fatal("pages without end")
	return nil
}

func TestEveryFilterOfEvents(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	old := o.give(t, given{key: "k1", status: "processed", age: 48 * time.Hour, user: "u1"})
	dead := o.give(t, given{status: "dead", fault: "Zoho said: Bad Request", record: "2", module: "Deals", age: 47 * time.Hour, account: "78"})
	mended := o.give(t, given{status: "processed", fault: "bad once", age: 46 * time.Hour, operation: "create"})
	ignored := o.give(t, given{status: "ignored", module: "Invoices", age: 30 * time.Hour})
	gone := o.give(t, given{status: "discarded", age: 29 * time.Hour, fault: "no good"})
	other := o.give(t, given{source: "eu", key: "k1", status: "received", age: 2 * time.Hour})
	late := o.give(t, given{status: "retrying", account: "77", age: time.Hour, fault: "timeout"})
	early := o.give(t, given{status: "retrying", age: 30 * time.Minute})
	routed := o.give(t, given{status: "routed", module: "Deals", age: time.Minute})
	now := time.Now()
	for name, c := range map[string]struct {
		f    admin.EventFilter
		want []int64
	}{
		"none":                    {admin.EventFilter{}, []int64{routed, early, late, other, gone, ignored, mended, dead, old}},
		"processed":               {admin.EventFilter{Status: "processed"}, []int64{mended, old}},
		"dead":                    {admin.EventFilter{Status: "dead"}, []int64{dead}},
		"ignored":                 {admin.EventFilter{Status: "ignored"}, []int64{ignored}},
		"discarded":               {admin.EventFilter{Status: "discarded"}, []int64{gone}},
		"received":                {admin.EventFilter{Status: "received"}, []int64{other}},
		"retrying, of both kinds": {admin.EventFilter{Status: "retrying"}, []int64{early, late}},
		"routed":                  {admin.EventFilter{Status: "routed"}, []int64{routed}},
		"retrying of an account":  {admin.EventFilter{Status: "retrying", AccountID: "77"}, []int64{late}},
		"retrying, since":         {admin.EventFilter{Status: "retrying", Since: now.Add(-40 * time.Minute)}, []int64{early}},
		"a source":                {admin.EventFilter{Source: "eu"}, []int64{other}},
		"a module":                {admin.EventFilter{Module: "Deals"}, []int64{routed, dead}},
		"an operation":            {admin.EventFilter{Operation: "create"}, []int64{mended}},
		"a record":                {admin.EventFilter{RecordID: "1"}, []int64{routed, early, late, other, gone, ignored, mended, old}},
		"a record of a module":    {admin.EventFilter{RecordID: "1", Module: "Deals"}, []int64{routed}},
		"a record's dead":         {admin.EventFilter{RecordID: "2", Status: "dead"}, []int64{dead}},
		"an account":              {admin.EventFilter{AccountID: "77"}, []int64{routed, late, mended, old}},
		"an account's module":     {admin.EventFilter{AccountID: "77", Module: "Deals"}, []int64{routed}},
		"a user":                  {admin.EventFilter{UserID: "u1"}, []int64{old}},
		"an id as it was sent":    {admin.EventFilter{EventID: "k1"}, []int64{other, old}},
		"such an id of a source":  {admin.EventFilter{EventID: "k1", Source: "zoho"}, []int64{old}},
		"an id that nobody sent":  {admin.EventFilter{EventID: "k2"}, []int64{}},
		"an error in any case":    {admin.EventFilter{Error: "BAD"}, []int64{mended, dead}},
		"an error of the dead":    {admin.EventFilter{Error: "bad", Status: "dead"}, []int64{dead}},
		"an error with a percent": {admin.EventFilter{Error: "%"}, []int64{}},
		"since":                   {admin.EventFilter{Since: now.Add(-3 * time.Hour)}, []int64{routed, early, late, other}},
		"until":                   {admin.EventFilter{Until: now.Add(-40 * time.Hour)}, []int64{mended, dead, old}},
		"between":                 {admin.EventFilter{Since: now.Add(-47*time.Hour - time.Minute), Until: now.Add(-29*time.Hour - time.Minute)}, []int64{ignored, mended, dead}},
		"all of them": {admin.EventFilter{
			Status: "dead", Source: "zoho", Module: "Deals", Operation: "update", RecordID: "2", AccountID: "78", Error: "zoho",
			Since: now.Add(-48 * time.Hour), Until: now,
		}, []int64{dead}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, limit := range []int{0, 1, 2, 4} {
				f := c.f
				f.Limit = limit
				if diff := cmp.Diff(c.want, o.idsOfEvents(t, f)); diff != "" {
					t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
				}
			}
		})
	}
}

func TestFiltersOfEventsThatAreNone(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.event(t, "dead")
	o.event(t, "dead")
	events := admin.NewEvents(o.pool)
	page, err := events.List(t.Context(), admin.EventFilter{Limit: 1})
	if err != nil || page.NextCursor == "" {
		t.Fatalf("%+v, %v; want a page that leads on", page, err)
	}
	for field, filters := range map[string][]admin.EventFilter{
		"limit":     {{Limit: -1}, {Limit: admin.MaxPage + 1}},
		"status":    {{Status: "fine"}},
		"operation": {{Operation: "upsert"}},
		"module":    {{Module: "a\x00b"}, {Module: "\xff"}, {Module: strings.Repeat("x", 501)}},
		"error":     {{Error: "\x00"}},
		"cursor":    {{Cursor: "x"}, {Cursor: page.NextCursor[:10]}, {Cursor: page.NextCursor, Status: "dead"}},
	} {
		for _, f := range filters {
			_, err := events.List(t.Context(), f)
			var invalid *body.Invalid
			if !errors.As(err, &invalid) || invalid.Field != field {
				t.Errorf("%+v: %v, want an error of %s", f, err, field)
			}
		}
	}
}

// However rare what is looked for, a page is answered after so many rows, and the pages
// together have all of it.
func TestPagesOfEventsAreBounded(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	first := o.give(t, given{source: "rare"})
	o.exec(t, `INSERT INTO events (source, event_id, digest, module, operation, record_id)
		SELECT 'zoho', n::text, sha256('body'), 'Contacts', 'update', n::text FROM generate_series(1, 25000) AS n`)
	last := o.give(t, given{source: "rare"})
	events := admin.NewEvents(o.pool)
	page, err := events.List(t.Context(), admin.EventFilter{Source: "rare"})
	if err != nil || len(page.Events) != 1 || page.Events[0].ID != last || page.NextCursor == "" {
		t.Fatalf("%+v, %v; want the newest and a page that leads on", page, err)
	}
	if diff := cmp.Diff([]int64{last, first}, o.idsOfEvents(t, admin.EventFilter{Source: "rare"})); diff != "" {
		t.Errorf("all pages (-want +got):\n%s", diff)
	}
	if got := o.idsOfEvents(t, admin.EventFilter{Limit: 200, Since: time.Now().Add(-time.Hour), Status: "received"}); len(got) != 25002 {
		t.Errorf("%d received", len(got))
	}
}

// remembered makes a change of a record's memory that was told to an endpoint.
func (o *office) remembered(t *testing.T, event int64, endpoint uuid.UUID, age time.Duration) uuid.UUID {
	t.Helper()
	memory, webhook := uuid.New(), o.webhook(t, "memory_added", "zoho:77")
	o.exec(t, `INSERT INTO memory_history (memory_id, user_id, account_id, module, record_id, operation, after, event_id, outbox_id, created_at)
		SELECT $1, 'zoho:77', '77', module, record_id, 'added', '{"content":"x"}', id, $2, now() - $4::interval FROM events WHERE id = $3`, memory, webhook, event, age)
	o.exec(t, `UPDATE outbox SET created_at = now() - $2::interval, relayed_at = now() - $2::interval WHERE id = $1`, webhook, age)
	id := o.told(t, webhook, endpoint, "delivered", age)
	o.exec(t, `UPDATE deliveries SET finished_at = created_at + interval '2 seconds' WHERE id = $1`, id)
	o.exec(t, `INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, total) SELECT id, 1, created_at, 200, '1 second' FROM deliveries WHERE id = $1`, id)
	return memory
}

func whats(steps []admin.Step) []string {
	said := make([]string, len(steps))
	for i, s := range steps {
		said[i] = s.Station + ": " + s.What
	}
	return said
}

func TestTheStoryOfAnEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id := h.give(t, given{status: "processed", age: time.Hour})
	h.remembered(t, id, h.endpointNamed(t, "crm"), 30*time.Minute)
	replay := decode[struct {
		ReplayID uuid.UUID `json:"replay_id"`
	}](t, h.do(t, 202, "POST", fmt.Sprintf("/admin/events/%d/replay", id), `{"reason":"looked wrong"}`))
	story := decode[admin.EventStory](t, h.do(t, 200, "GET", fmt.Sprintf("/admin/events/%d", id), ""))
	want := []string{
		"inbound: received", "memory: memory added", "outbound: told", "outbound: relayed", "outbound: attempt 1", "outbound: delivered",
		"operator: event.replay", "inbound: replayed",
	}
	if diff := cmp.Diff(want, whats(story.Timeline)); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	if story.Status != "received" || !story.HasBody || len(story.Replays) != 1 || story.Replays[0].ReplayID != replay.ReplayID {
		t.Errorf("%+v", story)
	}
	if got := story.Timeline[6].Detail; got != "by token/writer: looked wrong" {
		t.Errorf("who did it: %q", got)
	}
	for path, want := range map[string]int{"/admin/events/999": 404, "/admin/events/x": 404, "/admin/events/1?x=1": 422} {
		if a := h.as(t, "reader", "GET", path, ""); a.status != want {
			t.Errorf("%s answered %d, want %d", path, a.status, want)
		}
	}
	wantProblem(t, h.as(t, "writer", "POST", fmt.Sprintf("/admin/events/%d/replay", id), ""), 409, "event_open", "")
	wantProblem(t, h.as(t, "writer", "POST", "/admin/events/999/replay", ""), 404, "not_found", "")
	wantProblem(t, h.as(t, "writer", "POST", "/admin/events/999/replay", `{"reason":"\u001b[2J"}`), 422, "invalid_field", "reason")
}

func TestTheBodyOfAnEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	set := func(contentType string, text []byte) int64 {
		id := h.event(t, "processed")
		h.exec(t, `UPDATE event_bodies SET body = $2, content_type = $3, headers = '{"User-Agent": "ZohoCRM"}' WHERE event_id = $1`, id, text, contentType)
		return id
	}
	for name, c := range map[string]struct{ contentType, body, want string }{
		"as it came":       {"application/json", ` {"a" : 1.0,  "ids":["1"]}` + "\n", ` {"a" : 1.0,  "ids":["1"]}` + "\n"},
		"a token":          {"application/json", `{ "token":"s3", "ids":["1"] }`, `{ "token":"[hidden]", "ids":["1"] }`},
		"in any case":      {"application/json", `{"Token": "s3","TOKEN":{"s3":1},"x":2}`, `{"Token": "[hidden]","TOKEN":"[hidden]","x":2}`},
		"escaped":          {"application/json", `{"\u0074oken":"s3"}`, `{"\u0074oken":"[hidden]"}`},
		"behind a mark":    {"", "\ufeff" + `{"token":"s3"}`, "\ufeff" + `{"token":"[hidden]"}`},
		"a form":           {"application/x-www-form-urlencoded; charset=utf-8", "module=Deals&Token=s3&id=1", "module=Deals&Token=[hidden]&id=1"},
		"none":             {"application/json", `{"token":null,"b":[]}`, `{"token":null,"b":[]}`},
		"markup":           {"text/html", "<script>1</script>", "<script>1</script>"},
		"bytes of no text": {"", "\xff\x00", "\xff\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := fmt.Sprintf("/admin/events/%d/body", set(c.contentType, []byte(c.body)))
			a := h.do(t, 200, "GET", path, "")
			if want := strings.TrimSuffix(c.want, "\n"); a.body != want {
				t.Errorf("%q, want %q", a.body, want)
			}
			for header, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": "sandbox",
				"Content-Type": c.contentType,
			} {
				if want == "" || want == "text/html" {
					want = "application/octet-stream"
				}
				if got := a.header.Get(header); got != want {
					t.Errorf("%s: %q, want %q", header, got, want)
				}
			}
			if got := a.header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment; filename=event-") {
				t.Errorf("Content-Disposition %q", got)
			}
			shown := decode[struct {
				ContentType string            `json:"content_type"`
				Headers     map[string]string `json:"headers"`
				Body        *string           `json:"body"`
				Base64      []byte            `json:"base64"`
			}](t, h.do(t, 200, "GET", path+"?as=json", ""))
			got := string(shown.Base64)
			if shown.Body != nil {
				got = *shown.Body
			}
			if got != c.want || shown.Headers["User-Agent"] != "ZohoCRM" {
				t.Errorf("as JSON: %+v", shown)
			}
		})
	}
	gone := h.event(t, "processed")
	h.exec(t, `DELETE FROM event_bodies WHERE event_id = $1`, gone)
	wantProblem(t, h.as(t, "reader", "GET", fmt.Sprintf("/admin/events/%d/body", gone), ""), 410, "body_gone", "")
	wantProblem(t, h.as(t, "reader", "GET", "/admin/events/99999/body", ""), 404, "not_found", "")
	wantProblem(t, h.as(t, "reader", "GET", fmt.Sprintf("/admin/events/%d/body?as=xml", gone), ""), 422, "invalid_field", "as")
	wantProblem(t, h.as(t, "writer", "POST", fmt.Sprintf("/admin/events/%d/replay", gone), ""), 409, "body_gone", "")
}

func TestTheStoryOfARecord(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	crm := h.endpointNamed(t, "crm")
	h.give(t, given{record: "9", status: "ignored", age: 4 * time.Hour})
	first := h.give(t, given{record: "9", status: "processed", age: 3 * time.Hour})
	h.remembered(t, first, crm, 2*time.Hour)
	second := h.give(t, given{record: "9", status: "dead", fault: "why", age: time.Hour})
	h.give(t, given{record: "9", module: "Deals", status: "ignored", age: time.Minute})
	h.give(t, given{record: "8", status: "processed"})
	h.exec(t, `INSERT INTO accounts (account_id, last_error) VALUES ('77', 'Zoho is away')`)
	h.exec(t, `INSERT INTO records (module, record_id, account_id, read_at) VALUES ('Contacts', '9', '77', now())`)

	story := decode[admin.RecordStory](t, h.do(t, 200, "GET", "/admin/records/Contacts/9", ""))
	want := []string{
		"inbound: received", "process: ignored", "inbound: received", "process: routed", "process: processed", "memory: memory added", "outbound: told", "outbound: relayed",
		"outbound: attempt 1", "outbound: delivered", "inbound: received", "process: dead",
	}
	if diff := cmp.Diff(want, whats(story.Steps)); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if len(story.Records) != 1 || *story.Records[0].AccountID != "77" || story.Records[0].AccountError != "Zoho is away" || story.Records[0].ReadAt == nil {
		t.Errorf("as it stands: %+v", story.Records)
	}
	// Of one root after the other, the newest first, nothing is there twice and nothing missing.
	var paged []string
	for path := "/admin/records/Contacts/9?limit=1"; path != ""; {
		page := decode[admin.RecordStory](t, h.do(t, 200, "GET", path, ""))
		paged = append(whats(page.Steps), paged...)
		if path = ""; page.NextCursor != "" {
			path = "/admin/records/Contacts/9?limit=1&cursor=" + page.NextCursor
		}
	}
	if diff := cmp.Diff(want, paged); diff != "" {
		t.Errorf("in pages (-want +got):\n%s", diff)
	}
	all := decode[admin.RecordStory](t, h.do(t, 200, "GET", "/admin/records?record_id=9", ""))
	if len(all.Records) != 2 || len(all.Steps) != len(want)+2 {
		t.Errorf("of all modules: %d records, %v", len(all.Records), whats(all.Steps))
	}
	if id := all.Steps[10].EventID; id == nil || *id != second {
		t.Errorf("%+v is of %d", all.Steps[10], second)
	}
	wantProblem(t, h.as(t, "reader", "GET", "/admin/records/Contacts/nothing", ""), 404, "not_found", "")
	wantProblem(t, h.as(t, "reader", "GET", "/admin/records?record_id=nothing", ""), 404, "not_found", "")
	wantProblem(t, h.as(t, "reader", "GET", "/admin/records", ""), 422, "invalid_field", "record_id")
	wantProblem(t, h.as(t, "reader", "GET", "/admin/records/Contacts/9?cursor=x", ""), 422, "invalid_field", "cursor")
	wantProblem(t, h.as(t, "reader", "GET", "/admin/records/Contacts/9?limit=0", ""), 422, "invalid_field", "limit")
}

func TestTheHistoryOfAMemory(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	memory := h.remembered(t, h.give(t, given{status: "processed"}), h.endpointNamed(t, "crm"), time.Hour)
	h.exec(t, `INSERT INTO memory_history (memory_id, user_id, operation, before, actor) VALUES ($1, 'zoho:77', 'deleted', '{"content":"x"}', 'token/bot')`, memory)
	path := "/admin/memories/" + memory.String() + "/history"
	page := decode[admin.MemoryPage](t, h.do(t, 200, "GET", path+"?limit=1", ""))
	if len(page.Changes) != 1 || page.Changes[0].Operation != "deleted" || page.Changes[0].Actor != "token/bot" || string(page.Changes[0].After) != "null" {
		t.Fatalf("%+v", page)
	}
	next := decode[admin.MemoryPage](t, h.do(t, 200, "GET", fmt.Sprintf("%s?before=%d", path, page.NextBefore), ""))
	if len(next.Changes) != 1 || next.Changes[0].Operation != "added" || next.NextBefore != 0 || !json.Valid(next.Changes[0].After) {
		t.Errorf("%+v", next)
	}
	wantProblem(t, h.as(t, "reader", "GET", "/admin/memories/"+uuid.NewString()+"/history", ""), 404, "not_found", "")
	wantProblem(t, h.as(t, "reader", "GET", path+"?before=x", ""), 422, "invalid_field", "before")
}

func TestDeadLettersOfBothKinds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	crm := h.endpointNamed(t, "crm")
	letter := func(kind string, id int64) string { return admin.Letter{Kind: kind, ID: id}.String() }
	e1 := letter("event", h.give(t, given{status: "dead", fault: "Bad A", age: 5 * time.Hour, record: "5"}))
	delivery := h.told(t, h.webhook(t, "memory_added", "ada"), crm, "dead", 4*time.Hour)
	h.exec(t, `UPDATE deliveries SET last_error = 'answered 400 BAD' WHERE id = $1`, delivery)
	d1 := letter("delivery", delivery)
	e2 := letter("event", h.give(t, given{status: "dead", fault: "B", age: 3 * time.Hour, module: "Deals"}))
	d2 := letter("delivery", h.told(t, h.webhook(t, "memory_added", "ada"), h.endpointNamed(t, "bot"), "dead", 2*time.Hour))
	h.give(t, given{status: "processed"})
	since := time.Now().Add(-3*time.Hour - time.Minute).UTC().Format(time.RFC3339)
	for query, want := range map[string][]string{
		"":                 {d2, e2, d1, e1},
		"kind=event":       {e2, e1},
		"kind=delivery":    {d2, d1},
		"module=Deals":     {e2},
		"record_id=5":      {e1},
		"endpoint=crm":     {d1},
		"error=bad":        {d1, e1},
		"since=" + since:   {d2, e2},
		"until=" + since:   {d1, e1},
		"source=elsewhere": {},
	} {
		for _, limit := range []string{"50", "1", "3"} {
			got := []string{}
			for path := "/admin/dead?limit=" + limit + "&" + query; path != ""; {
				page := decode[admin.DeadPage](t, h.do(t, 200, "GET", path, ""))
				for _, l := range page.Letters {
					got = append(got, l.ID)
					if l.Reason == "" && l.ID != d2 || l.What == "" || (l.Event == nil) == (l.Delivery == nil) {
						t.Errorf("%+v", l)
					}
				}
				if path = ""; page.NextCursor != "" {
					path = "/admin/dead?limit=" + limit + "&" + query + "&cursor=" + page.NextCursor
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s in pages of %s (-want +got):\n%s", query, limit, diff)
			}
		}
	}
	for query, field := range map[string]string{"kind=x": "kind", "cursor=x": "cursor", "endpoint=nobody": "endpoint", "limit=201": "limit", "status=dead": "status"} {
		wantProblem(t, h.as(t, "reader", "GET", "/admin/dead?"+query, ""), 422, "invalid_field", field)
	}

	h.do(t, 202, "POST", "/admin/dead/"+e1+"/retry", "")
	h.do(t, 200, "POST", "/admin/dead/"+e2+"/discard", `{"reason":"too late"}`)
	h.do(t, 200, "POST", "/admin/dead/"+d1+"/discard", `{"reason":"they know"}`)
	h.do(t, 202, "POST", "/admin/dead/"+d2+"/retry", "")
	if page := decode[admin.DeadPage](t, h.do(t, 200, "GET", "/admin/dead", "")); len(page.Letters) != 0 {
		t.Errorf("still dead: %+v", page.Letters)
	}
	h.wantAudit(t, "token/writer request-7 dead.retry "+e1+" {}", `token/writer request-7 dead.discard `+e2+` {"reason": "too late"}`,
		`token/writer request-7 dead.discard `+d1+` {"reason": "they know"}`, "token/writer request-7 dead.retry "+d2+" {}")
	wantProblem(t, h.as(t, "writer", "POST", "/admin/dead/"+e1+"/retry", ""), 409, "not_dead", "")
	wantProblem(t, h.as(t, "writer", "POST", "/admin/dead/"+e2+"/discard", `{"reason":""}`), 422, "invalid_field", "reason")
	wantProblem(t, h.as(t, "writer", "POST", "/admin/dead/"+e2+"/discard", ""), 400, "invalid_json", "")
	wantProblem(t, h.as(t, "writer", "POST", "/admin/dead/letter/1/retry", ""), 404, "not_found", "")
	wantProblem(t, h.as(t, "writer", "POST", "/admin/dead/event/999/retry", ""), 404, "not_found", "")
}
