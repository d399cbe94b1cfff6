package admin_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/respond"
)

// desk is a house where the running program is looked after, too.
type desk struct {
	*house
	router   chi.Router
	stats    *admin.Stats
	operated []string // what Zoho was asked
	syncs    *syncs
}

// syncs stand in for reconcile, which is tested where it is built in: internal/app.
type syncs struct {
	mu   sync.Mutex
	rows []admin.SyncRow
	done []string
}

func (s *syncs) List(context.Context) ([]admin.SyncRow, error) { return slices.Clone(s.rows), nil }

func (s *syncs) Get(_ context.Context, which string) (any, error) {
	for _, r := range s.rows {
		if r.ID == which {
			return r.Status, nil
		}
	}
	return nil, admin.ErrNotFound
}

func (s *syncs) Start(_ context.Context, who admin.Actor, kind string) (string, bool, error) {
	s.note(who, "start "+kind)
	return s.rows[0].ID, kind == "full", nil
}

func (s *syncs) ReadAccount(_ context.Context, who admin.Actor, id string) error {
	s.note(who, "read "+id)
	return nil
}

func (s *syncs) Decide(_ context.Context, who admin.Actor, action, which string) (string, error) {
	s.note(who, action+" "+which)
	return which, nil
}

func (s *syncs) note(who admin.Actor, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, who.Name+" "+who.RequestID+" "+what)
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{house: newHouse(t), syncs: &syncs{}}
	for i := range 5 {
		id := fmt.Sprintf("sync-%d", 5-i)
		kind := []string{"full", "incremental"}[i%2]
		d.syncs.rows = append(d.syncs.rows, admin.SyncRow{ID: id, Kind: kind, State: "completed", Status: map[string]string{"id": id, "kind": kind}})
	}
	jobs := d.jobs.(*river.Client[pgx.Tx])
	d.stats = admin.NewStats(d.pool, time.Now)
	gate := access.New(d.pool, "", time.Now)
	t.Cleanup(gate.Wait)
	operate := func(_ context.Context, who admin.Actor, action, module string) error {
		d.operated = append(d.operated, who.Name+" "+who.RequestID+" "+action+" "+module)
		return nil
	}
	h := admin.NewHTTP(admin.Parts{Access: gate, Now: time.Now, Running: admin.Running{
		Channels: admin.NewChannels(d.pool, d.jobs, []string{"Contacts", "Deals"}, operate), Syncs: d.syncs, Queues: admin.NewQueues(d.pool, jobs),
		Stats: d.stats, Rejected: admin.NewRejected(d.pool), Audit: admin.NewAuditLog(d.pool), Tokens: access.NewTokens(d.pool, rand.Reader, time.Now),
		Settings: []admin.Setting{{Name: "HTTP_ADDR", Value: ":8000", Default: ":8000", Source: "default", Set: true}},
	}})
	r := chi.NewRouter()
	respond.Use(r, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})))
	r.Route("/admin", h.Routes)
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	d.url, d.router = server.URL, r
	return d
}

// running are the routes of this file, with a body that is good and what they answer.
func running() map[string]struct {
	body   string
	status int
} {
	type want = struct {
		body   string
		status int
	}
	return map[string]want{
		"GET /admin/stats": {"", 200}, "GET /admin/queues": {"", 200}, "GET /admin/jobs": {"", 200}, "GET /admin/channels": {"", 200},
		"GET /admin/syncs": {"", 200}, "GET /admin/settings": {"", 200}, "GET /admin/tokens": {"", 200}, "GET /admin/audit": {"", 200},
		"GET /admin/rejected": {"", 200}, "GET /admin/jobs/1": {"", 200}, "GET /admin/syncs/sync-1": {"", 200},
		"POST /admin/queues/sync/pause": {"", 200}, "POST /admin/queues/sync/resume": {`{"reason":"done"}`, 200},
		"POST /admin/jobs/1/cancel": {"", 200}, "POST /admin/jobs/1/retry": {"", 200},
		"POST /admin/channels/Contacts/renew": {"", 202}, "POST /admin/channels/Contacts/pause": {"", 200},
		"POST /admin/channels/Contacts/resume": {"", 200}, "POST /admin/channels/Contacts/disable": {"", 200},
		"POST /admin/syncs": {`{"kind":"incremental"}`, 202}, "POST /admin/syncs/sync-1/pause": {"", 200},
		"POST /admin/syncs/sync-1/resume": {"", 200}, "POST /admin/syncs/sync-1/cancel": {"", 200},
		"POST /admin/tokens": {`{"name":"new","scopes":["admin:read"]}`, 201}, "DELETE /admin/tokens/bot": {"", 200},
	}
}

// All routes there are: without a token 401, with one of the memory's 403, and what
// changes something is closed to a token that may only look.
func TestWhoMayWhatOfTheRunning(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.seed(t)
	before := d.picture(t)
	asked := 0
	err := chi.Walk(d.router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		asked++
		path := strings.NewReplacer("{id}", "1", "{name}", "sync", "{endpoint}", "crm").Replace(route)
		wantProblem(t, d.as(t, "", method, path, ""), 401, "unauthorized", "")
		wantProblem(t, d.as(t, "nobody", method, path, ""), 401, "unauthorized", "")
		wantProblem(t, d.as(t, "bot", method, path, ""), 403, "forbidden", "")
		if method != http.MethodGet {
			wantProblem(t, d.as(t, "reader", method, path, ""), 403, "forbidden", "")
		}
		return nil
	})
	if err != nil || asked < 40 {
		t.Fatalf("%d routes, %v", asked, err)
	}
	for route, c := range running() {
		method, path, _ := strings.Cut(route, " ")
		if method != http.MethodGet {
			wantProblem(t, d.as(t, "reader", method, path, c.body), 403, "forbidden", "")
			continue
		}
		if a := d.as(t, "reader", method, path, ""); a.status != 200 {
			t.Errorf("%s: a reader is answered %d: %s", route, a.status, a.body)
		}
	}
	d.wantSame(t, before)
	if len(d.operated)+len(d.syncs.done) != 0 {
		t.Errorf("done: %v %v", d.operated, d.syncs.done)
	}
	for route, c := range running() {
		method, path, _ := strings.Cut(route, " ")
		d.do(t, c.status, method, path, c.body)
	}
}

// seed makes a job, queues that are worked, and a channel.
func (d *desk) seed(t *testing.T) {
	t.Helper()
	d.insert(t, job.SyncAccount{AccountID: "77"})
	d.exec(t, `INSERT INTO river_queue (name, updated_at) SELECT unnest(ARRAY['sync', 'deliver', 'process']), now()`)
	d.exec(t, `INSERT INTO channels (channel_id, module, events, notify_url, state, due_at, expires_at, confirmed_at)
		VALUES ('123', 'Contacts', '{Contacts.all}', 'https://relay.invalid/webhooks/zoho?key=hunter2', 'active', now() + interval '1 day', now() + interval '2 days', now())`)
}

func (d *desk) insert(t *testing.T, args river.JobArgs) int64 {
	t.Helper()
	var id int64
	err := pgx.BeginFunc(t.Context(), d.pool, func(tx pgx.Tx) error {
		made, err := d.jobs.InsertManyTx(t.Context(), tx, []river.InsertManyParams{{Args: args}})
		if err == nil {
			id = made[0].Job.ID
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// line is what of the audit log matters here.
func (d *desk) audited(t *testing.T) []string {
	t.Helper()
	return column[string](t, d.office, `SELECT concat_ws(' ', actor, request_id, action, object, details #>> '{before,state}', details #>> '{after,state}', details ->> 'reason')
		FROM audit_log ORDER BY id`)
}

func TestQueuesArePausedAndResumed(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.seed(t)
	d.insert(t, job.SyncAccount{AccountID: "78"})
	d.exec(t, `UPDATE river_job SET scheduled_at = now() - interval '100 s' WHERE id = 1`)
	d.exec(t, `UPDATE river_job SET scheduled_at = now() + interval '100 s' WHERE id = 2`)
	d.exec(t, `INSERT INTO river_job (kind, args, queue, max_attempts, state, finalized_at) SELECT 'deliver_endpoint', '{}', 'deliver', 3, 'completed', now() FROM generate_series(1, 30)`)
	queues := decode[map[string][]admin.Queue](t, d.do(t, 200, "GET", "/admin/queues", ""))["queues"]
	if len(queues) != 9 {
		t.Fatalf("%d queues", len(queues))
	}
	by := map[string]admin.Queue{}
	for _, q := range queues {
		by[q.Name] = q
	}
	if q := by["sync"]; q.Available != 1 || q.Waiting != 1 || q.OldestSeconds < 100 || q.OldestSeconds > 400 || q.PausedAt != nil {
		t.Errorf("sync: %+v", q)
	}
	if q := by["deliver"]; q.CompletedPerSecond != 0.5 || q.Available != 0 {
		t.Errorf("deliver: %+v", q)
	}
	paused := decode[admin.Queue](t, d.do(t, 200, "POST", "/admin/queues/sync/pause", `{"reason":"Zoho is slow"}`))
	if paused.PausedAt == nil || one[bool](t, d.office, `SELECT paused_at IS NULL FROM river_queue WHERE name = 'sync'`) {
		t.Errorf("paused: %+v", paused)
	}
	if one[bool](t, d.office, `SELECT paused_at IS NOT NULL FROM river_queue WHERE name = 'deliver'`) {
		t.Error("another queue is paused, too")
	}
	if resumed := decode[admin.Queue](t, d.do(t, 200, "POST", "/admin/queues/sync/resume", "")); resumed.PausedAt != nil {
		t.Errorf("resumed: %+v", resumed)
	}
	for _, name := range []string{"nothing", "*", "upkeep"} { // upkeep: no node has worked it
		wantProblem(t, d.as(t, "writer", "POST", "/admin/queues/"+name+"/pause", ""), 404, "not_found", "")
	}
	wantProblem(t, d.as(t, "writer", "POST", "/admin/queues/sync/pause", `{"for":"ever"}`), 422, "invalid_field", "for")
	want := []string{"token/writer request-7 queue.pause queue/sync Zoho is slow", "token/writer request-7 queue.resume queue/sync "}
	if diff := cmp.Diff(want, d.audited(t)); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
	if got := column[bool](t, d.office, `SELECT (details #>> '{before,paused_at}' IS NULL) <> (details #>> '{after,paused_at}' IS NULL) FROM audit_log`); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("before and after: %v", got)
	}
}

func TestJobsAreFoundByWhatTheyAre(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	// Many that are done, and between them a few that are not.
	d.exec(t, `INSERT INTO river_job (kind, args, queue, max_attempts, state, finalized_at)
		SELECT 'process_event', jsonb_build_object('event_id', n), 'process', 3, 'completed', now() FROM generate_series(1, 25000) n`)
	d.exec(t, `UPDATE river_job SET state = 'discarded' WHERE id IN (5, 24999)`)
	d.exec(t, `INSERT INTO processes (process, host, workers) VALUES ('00000000-0000-0000-0000-000000000007', 'node-7', 3)`)
	d.exec(t, `UPDATE river_job SET state = 'running', finalized_at = NULL, attempt = 2, attempted_at = now(), attempted_by = ARRAY['x', '00000000-0000-0000-0000-000000000007'],
		errors = ARRAY['{"at":"2026-01-01T00:00:00Z","attempt":1,"error":"first","trace":"long"}', '{"at":"2026-01-02T00:00:00Z","attempt":2,"error":"second","trace":"long"}']::jsonb[]
		WHERE id = 777`)
	ids := func(path string) (all []int64) {
		t.Helper()
		for cursor, pages := "", 0; pages < 10; pages++ {
			page := decode[admin.JobPage](t, d.do(t, 200, "GET", path+cursor, ""))
			for _, j := range page.Jobs {
				all = append(all, j.ID)
			}
			if page.NextCursor == "" {
				return all
			}
			cursor = "&cursor=" + page.NextCursor
		}
		t.Fatalf("%s does not end", path)
		return nil
	}
	for path, want := range map[string][]int64{
		"/admin/jobs?state=discarded":               {24999, 5},
		"/admin/jobs?state=discarded&limit=1":       {24999, 5},
		"/admin/jobs?state=running&queue=process":   {777},
		"/admin/jobs?state=running&queue=sync":      nil,
		"/admin/jobs?state=available":               nil,
		"/admin/jobs?kind=sync_account":             nil,
		"/admin/jobs?kind=process_event&state=runn": nil,
	} {
		if strings.HasSuffix(path, "runn") {
			wantProblem(t, d.as(t, "reader", "GET", path, ""), 422, "invalid_field", "state")
			continue
		}
		if diff := cmp.Diff(want, ids(path)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	if got := decode[admin.JobPage](t, d.do(t, 200, "GET", "/admin/jobs?limit=3", "")); len(got.Jobs) != 3 || got.Jobs[0].ID != 25000 || got.NextCursor == "" {
		t.Errorf("the newest: %+v", got)
	}
	story := decode[admin.JobStory](t, d.do(t, 200, "GET", "/admin/jobs/777", ""))
	if story.Host != "node-7" || story.Failures != 2 || story.LastError != "second" || len(story.Errors) != 2 || story.Errors[0].Error != "first" ||
		string(story.Args) != `{"event_id":777}` || story.State != "running" || story.AttemptedAt == nil {
		t.Errorf("the story: %+v", story)
	}
	for path, field := range map[string]string{
		"/admin/jobs?queue=nothing": "queue", "/admin/jobs?limit=0": "limit", "/admin/jobs?limit=201": "limit", "/admin/jobs?cursor=abc": "cursor",
		"/admin/jobs?color=red": "color",
	} {
		wantProblem(t, d.as(t, "reader", "GET", path, ""), 422, "invalid_field", field)
	}
	wantProblem(t, d.as(t, "reader", "GET", "/admin/jobs/30000", ""), 404, "not_found", "")
	wantProblem(t, d.as(t, "reader", "GET", "/admin/jobs/x", ""), 404, "not_found", "")
	// A cursor is of its filter.
	page := decode[admin.JobPage](t, d.do(t, 200, "GET", "/admin/jobs?limit=1", ""))
	wantProblem(t, d.as(t, "reader", "GET", "/admin/jobs?queue=sync&cursor="+page.NextCursor, ""), 422, "invalid_field", "cursor")
}

func TestJobsAreCancelledAndRetried(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	id := d.insert(t, job.SyncAccount{AccountID: "77"})
	path := fmt.Sprintf("/admin/jobs/%d", id)
	if j := decode[admin.JobStory](t, d.do(t, 200, "POST", path+"/cancel", `{"reason":"wrong"}`)); j.State != "cancelled" || j.FinalizedAt == nil {
		t.Errorf("cancelled: %+v", j)
	}
	if j := decode[admin.JobStory](t, d.do(t, 200, "POST", path+"/retry", "")); j.State != "available" {
		t.Errorf("retried: %+v", j)
	}
	d.exec(t, `UPDATE river_job SET state = 'running', attempt = 1`)
	if j := decode[admin.JobStory](t, d.do(t, 200, "POST", path+"/cancel", "")); j.State != "running" || !one[bool](t, d.office, `SELECT metadata ? 'cancel_attempted_at' FROM river_job`) {
		t.Errorf("one that runs: %+v", j)
	}
	wantProblem(t, d.as(t, "writer", "POST", "/admin/jobs/999/cancel", ""), 404, "not_found", "")
	wantProblem(t, d.as(t, "writer", "POST", "/admin/jobs/999/retry", ""), 404, "not_found", "")
	want := []string{
		"token/writer request-7 job.cancel job/1 available cancelled wrong", "token/writer request-7 job.retry job/1 cancelled available ",
		"token/writer request-7 job.cancel job/1 running running ",
	}
	if diff := cmp.Diff(want, d.audited(t)); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

func TestChannelsAreRenewedByAJob(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.seed(t)
	a := d.do(t, 200, "GET", "/admin/channels", "")
	list := decode[admin.ChannelList](t, a)
	if len(list.Channels) != 1 || list.Channels[0].NotifyURL != "https://relay.invalid/webhooks/zoho" || !slices.Equal(list.Missing, []string{"Deals"}) || strings.Contains(a.body, "hunter2") {
		t.Errorf("channels: %s", a.body)
	}
	for _, which := range []string{"Contacts", "123"} {
		d.exec(t, `UPDATE channels SET due_at = now() + interval '1 day'`)
		d.do(t, 202, "POST", "/admin/channels/"+which+"/renew", "")
		if !one[bool](t, d.office, `SELECT due_at <= now() FROM channels`) {
			t.Errorf("%s is not due", which)
		}
	}
	if n := one[int](t, d.office, `SELECT count(*) FROM river_job WHERE kind = 'keep_channels' AND state = 'available'`); n != 2 {
		t.Errorf("%d jobs renew", n)
	}
	for _, action := range []string{"pause", "resume", "disable"} {
		d.do(t, 200, "POST", "/admin/channels/123/"+action, "")
		wantProblem(t, d.as(t, "writer", "POST", "/admin/channels/Deals/"+action, ""), 404, "not_found", "")
	}
	if diff := cmp.Diff([]string{"token/writer request-7 pause Contacts", "token/writer request-7 resume Contacts", "token/writer request-7 disable Contacts"}, d.operated); diff != "" {
		t.Errorf("Zoho was asked (-want +got):\n%s", diff)
	}
	d.exec(t, `UPDATE channels SET state = 'paused'`)
	before := d.picture(t)
	wantProblem(t, d.as(t, "writer", "POST", "/admin/channels/123/renew", ""), 409, "channel_state", "")
	wantProblem(t, d.as(t, "writer", "POST", "/admin/channels/456/renew", ""), 404, "not_found", "")
	d.wantSame(t, before)
	want := []string{"token/writer request-7 channel.renew channel/Contacts active active", "token/writer request-7 channel.renew channel/Contacts active active"}
	if diff := cmp.Diff(want, d.audited(t)); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

func TestSyncsAreListedAndStarted(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	type page struct {
		Syncs      []map[string]string `json:"syncs"`
		NextCursor string              `json:"next_cursor"`
	}
	ids := func(p page) (all []string) {
		for _, s := range p.Syncs {
			all = append(all, s["id"])
		}
		return all
	}
	for path, want := range map[string][]string{
		"": {"sync-5", "sync-4", "sync-3", "sync-2", "sync-1"}, "?kind=full": {"sync-5", "sync-3", "sync-1"}, "?state=failed": nil,
		"?limit=2": {"sync-5", "sync-4"}, "?limit=2&cursor=sync-4": {"sync-3", "sync-2"}, "?limit=2&cursor=sync-2": {"sync-1"}, "?limit=1&kind=full&cursor=sync-5": {"sync-3"},
	} {
		got := decode[page](t, d.do(t, 200, "GET", "/admin/syncs"+path, ""))
		if diff := cmp.Diff(want, ids(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
		more := strings.Contains(path, "limit") && !slices.Contains(want, "sync-1")
		if more != (got.NextCursor != "") {
			t.Errorf("%s: next cursor %q", path, got.NextCursor)
		}
	}
	if a := d.do(t, 202, "POST", "/admin/syncs", `{"kind":"incremental"}`); a.header.Get("Location") != "/admin/syncs/sync-5" {
		t.Errorf("Location %q", a.header.Get("Location"))
	}
	d.do(t, 200, "POST", "/admin/syncs", `{"kind":"full"}`)
	if a := d.do(t, 202, "POST", "/admin/syncs", `{"kind":"account","account_id":"77"}`); a.body != `{"account_id":"77","kind":"account"}` {
		t.Errorf("a read of an account: %s", a.body)
	}
	for body, field := range map[string]string{
		`{}`: "kind", `{"kind":"whole"}`: "kind", `{"kind":"account"}`: "account_id", `{"kind":"full","account_id":"77"}`: "account_id", `{"sort":1}`: "sort",
	} {
		wantProblem(t, d.as(t, "writer", "POST", "/admin/syncs", body), 422, "invalid_field", field)
	}
	for path, field := range map[string]string{"?kind=whole": "kind", "?state=odd": "state", "?cursor=x": "cursor", "?limit=x": "limit"} {
		wantProblem(t, d.as(t, "reader", "GET", "/admin/syncs"+path, ""), 422, "invalid_field", field)
	}
	wantProblem(t, d.as(t, "reader", "GET", "/admin/syncs/nothing", ""), 404, "not_found", "")
	d.do(t, 200, "POST", "/admin/syncs/sync-3/pause", "")
	want := []string{"token/writer request-7 start incremental", "token/writer request-7 start full", "token/writer request-7 read 77", "token/writer request-7 pause sync-3"}
	if diff := cmp.Diff(want, d.syncs.done); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
}
