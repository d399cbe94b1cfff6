package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/dbtest"
)

// remote are settings of a machine that has the program's address and no database.
func (d *desk) remote(settings ...string) []string {
	return append([]string{"MEMRELAY_URL=" + d.base, "MEMRELAY_TOKEN=" + typedToken}, settings...)
}

// Whatever varies between two requests.
var varying = regexp.MustCompile(`request_id [0-9a-f-]{36}`)

// One command prints the same whether it asks a node or answers itself.
func TestBothWaysSayTheSame(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) })
	d.send(t, "evt-1", `{"operation":"create","module":"Contacts","data":[{"id":"1","Last_Name":"Doe","Account_Name":{"id":"77"}}]}`).done(t)
	d.settled(t)
	for _, args := range []string{
		"events list", "events list --since=1d --before=2", "events replay 99", "events replay --status=dead --dry-run", "events show 1", "events show 1 --body", "events show 99", "events list --status=dead", "events replays", "events cancel " + nobodys,
		"dead list", "dead retry event/1", "dead discard delivery/99 --reason=x",
		"record show 1", "record show 1 --module=Contacts", "record show 99",
		"endpoints list", "endpoints show env", "endpoints show nobody", "endpoints recover env --since=1h --dry-run", "endpoints create x", "endpoints redeliveries env",
		"deliveries list", "deliveries list --status=fine", "deliveries show 1", "deliveries show 99",
		"channels list", "channels pause Contacts", "sync list", "sync show", "sync pause full",
		"tokens list", "tokens revoke nobody --yes", "queues pause nothing", "jobs list --state=cancelled", "jobs show 99999", "jobs list --state=odd",
		"rejected", "rejected --status=200", "audit", "audit --since=1d --limit=5",
	} {
		for _, json := range []string{"", " --json"} {
			here := command(t, d.url, strings.Fields(args+json)...)
			there := commandWith(t, d.remote(), strings.Fields(args+json)...)
			for _, c := range []*typed{&here, &there} {
				c.out, c.err = varying.ReplaceAllString(c.out, "…"), varying.ReplaceAllString(c.err, "…")
			}
			if diff := cmp.Diff(here, there, cmp.AllowUnexported(typed{})); diff != "" {
				t.Errorf("memrelay %s%s (-database +network):\n%s", args, json, diff)
			}
			if strings.Contains(here.err, "Something went wrong") {
				t.Errorf("memrelay %s%s: %s", args, json, here.err)
			}
		}
	}
}

const nobodys = "00000000-0000-0000-0000-000000000000"

// What is done over the network is done in the name of the token, here in that of the person.
func TestWhoDidIt(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	for _, environ := range [][]string{d.remote(), {"DATABASE_URL=" + d.url}} {
		for _, args := range []string{"endpoints pause env --reason=a", "endpoints resume env", "queues pause upkeep", "queues resume upkeep --reason=b"} {
			commandWith(t, environ, strings.Fields(args)...).done(t)
		}
	}
	lines := decode[[]admin.AuditLine](t, commandWith(t, d.remote(), "audit", "--json"))
	var got []string
	for _, l := range lines {
		if l.RequestID == "" {
			t.Errorf("%s has no request", l.Action)
		}
		who, _, _ := strings.Cut(l.Actor, ",")
		got = append(got, who+": "+l.Action)
	}
	want := []string{
		"command line: queue.resume", "command line: queue.pause", "command line: endpoint.resume", "command line: endpoint.pause",
		"admin: queue.resume", "admin: queue.pause", "admin: endpoint.resume", "admin: endpoint.pause",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("audited (-want +got):\n%s", diff)
	}
}

func TestTheNodeIsNotReached(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	page := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(page.Close)
	for name, c := range map[string]struct {
		environ []string
		args    string
		code    int
		says    string
	}{
		"no token":                   {[]string{"MEMRELAY_URL=" + d.base}, "events list", exitFailed, "MEMRELAY_TOKEN: Send a token that is good"},
		"a token that is none":       {[]string{"MEMRELAY_URL=" + d.base, "MEMRELAY_TOKEN=mrt_hush"}, "dead list", exitFailed, "request_id"},
		"over http to elsewhere":     {[]string{"MEMRELAY_URL=http://relay.example.com", "MEMRELAY_TOKEN=mrt_hush"}, "dead list", exitUsage, "--insecure-http"},
		"no URL":                     {[]string{"MEMRELAY_URL=relay", "MEMRELAY_TOKEN=mrt_hush"}, "dead list", exitFailed, "MEMRELAY_URL: want a URL"},
		"a server that is another":   {[]string{"MEMRELAY_URL=" + page.URL, "MEMRELAY_TOKEN=mrt_hush"}, "dead list", exitFailed, "answered 404"},
		"nobody there":               {[]string{"MEMRELAY_URL=http://127.0.0.1:1", "MEMRELAY_TOKEN=mrt_hush"}, "dead list", exitFailed, "connection refused"},
		"what is wrong is usage":     {d.remote(), "endpoints create crm", exitUsage, "url: is missing"},
		"what has no route":          {d.remote(), "channels register Contacts", exitFailed, "MEMRELAY_URL has no part in it"},
		"an insecure one that is so": {[]string{"MEMRELAY_URL=http://relay.invalid", "MEMRELAY_TOKEN=mrt_hush", "NO_PROXY=*"}, "dead list --insecure-http", exitFailed, "ask relay.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := commandWith(t, c.environ, strings.Fields(c.args)...)
			if got.code != c.code || !strings.Contains(got.err, c.says) || strings.Contains(got.err, "hush") {
				t.Errorf("exit code %d, said %q; want %d and %q", got.code, got.err, c.code, c.says)
			}
		})
	}
}

// What a command inserts is tried as often as what a node inserts.
func TestJobsOfCommandsHaveTheirAttempts(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	execute(t, url, `INSERT INTO events (source, event_id, digest, module, operation, record_id, status)
		SELECT 'zoho', 'evt-' || n, sha256('x'), 'Contacts', 'update', n::text, status FROM unnest(ARRAY['dead', 'discarded']) WITH ORDINALITY AS e (status, n)`)
	execute(t, url, `INSERT INTO event_bodies (event_id, received_at, body_id, body, record) SELECT id, received_at, id, '{}', '{}' FROM events`)
	environ := []string{"DATABASE_URL=" + url, "WEBHOOK_MAX_RETRIES=7"}
	commandWith(t, environ, "dead", "retry", "event/1").done(t)
	commandWith(t, environ, "events", "replay", "2").done(t)
	attempts := one[[]int16](t, poolOn(t, url), `SELECT array_agg(max_attempts ORDER BY id) FROM river_job WHERE kind = 'process_event'`)
	if diff := cmp.Diff([]int16{7, 7}, attempts); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func TestQueuesAndJobs(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	execute(t, url, `INSERT INTO river_queue (name, updated_at) VALUES ('process', now())`)
	execute(t, url, `INSERT INTO river_job (kind, queue, state, args, max_attempts, attempt, errors, attempted_at) VALUES
		('process_event', 'process', 'retryable', '{"event_id":1}', 3, 1, ARRAY['{"at":"2030-01-31T12:00:00Z","attempt":1,"error":"no luck"}'::jsonb], now())`)
	if got := command(t, url, "queues", "pause", "process", "--reason=a test").done(t); got != "Queue process paused.\n" {
		t.Errorf("printed %q", got)
	}
	table := command(t, url, "queues", "list").done(t)
	if !regexp.MustCompile(`(?m)^process +20\S+ \S+ +0 .* 1 +0 +0$`).MatchString(table) {
		t.Errorf("listed:\n%s", table)
	}
	command(t, url, "queues", "resume", "process").done(t)
	if got := command(t, url, "jobs", "list", "--state=retryable", "--queue=process").done(t); !regexp.MustCompile(`(?m)^1 +process_event +process +retryable +1 of 3 +1 .*no luck$`).MatchString(got) {
		t.Errorf("listed:\n%s", got)
	}
	if got := command(t, url, "jobs", "show", "1").done(t); !strings.Contains(got, "process_event") || !regexp.MustCompile(`(?m)^2030-01-31 12:00:00 +1 +no luck$`).MatchString(got) {
		t.Errorf("shown:\n%s", got)
	}
	if got := command(t, url, "jobs", "retry", "1").done(t); got != "Job 1 is available.\n" {
		t.Errorf("printed %q", got)
	}
	if got := command(t, url, "jobs", "cancel", "1"); got.code != exitUsage || !strings.Contains(got.err, "say --yes") {
		t.Errorf("an end that nobody meant: %+v", got)
	}
	if got := command(t, url, "jobs", "cancel", "1", "--yes").done(t); got != "Job 1 is cancelled.\n" {
		t.Errorf("printed %q", got)
	}
}

func TestARecordsStory(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	for _, name := range []string{"Doe", "Roe"} {
		d.send(t, "evt-"+name, `{"operation":"update","module":"Contacts","data":[{"id":"1","Last_Name":"`+name+`","Account_Name":{"id":"77"}}]}`).done(t)
		d.settled(t)
	}
	text := command(t, d.url, "record", "show", "1").done(t)
	for _, want := range []string{`(?m)^Contacts 1: account 77, memory [0-9a-f-]{36}`, `inbound +received +event 1 `, `outbound +delivered +event 1, delivery \d+ `, `memory +memory updated`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the story does not say %s:\n%s", want, text)
		}
	}
	part := command(t, d.url, "record", "show", "1", "--module=Contacts", "--limit=1").done(t)
	cursor := regexp.MustCompile(`--cursor=\S+`).FindString(part)
	if cursor == "" || len(part) >= len(text) {
		t.Fatalf("a part of it:\n%s", part)
	}
	if more := command(t, d.url, "record", "show", "1", "--module=Contacts", "--limit=1", cursor).done(t); more == part || strings.Count(more, "\n") < 3 {
		t.Errorf("the part before:\n%s", more)
	}
}

func TestSettingsSayNoSecret(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	got := commandWith(t, []string{"DATABASE_URL=" + url, "WEBHOOK_SECRET=" + typedSecret, "WEBHOOK_MAX_RETRIES=7"}, "settings").done(t)
	if !regexp.MustCompile(`(?m)^WEBHOOK_MAX_RETRIES +7 +environment +3$`).MatchString(got) || !regexp.MustCompile(`(?m)^WEBHOOK_SECRET +\[secret\] `).MatchString(got) ||
		strings.Contains(got, typedSecret) || strings.Contains(got, "HTTP_ADDR") {
		t.Errorf("printed:\n%s", got)
	}
	if all := commandWith(t, []string{"DATABASE_URL=" + url}, "settings", "--all").done(t); !strings.Contains(all, "HTTP_ADDR") {
		t.Errorf("printed:\n%s", all)
	}
}

// What happens is shown as it does, to whoever looks from where.
func TestEventsAreFollowed(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	here, _, stopHere := long(t, []string{"DATABASE_URL=" + d.url}, "events", "tail")
	there, _, stopThere := long(t, d.remote(), "events", "tail", "--status=ignored", "--json")
	// A follower that is not there yet sees nothing of what was before: something goes on until both do.
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			for _, module := range []string{"Contacts", "Leads"} { // the second is ignored
				d.send(t, fmt.Sprint("evt-", module, n), fmt.Sprintf(`{"operation":"create","module":"%s","data":[{"id":"%d","Last_Name":"Doe","Account_Name":{"id":"77"}}]}`, module, n)).done(t)
			}
		}
	})
	here.find(t, `(?m)^20\S+ \S+  (received|routed|processed) +\d+  create (?:Contacts|Leads) \d+ from zoho`)
	line := there.find(t, `(?m)^(\{.*\})$`)
	stop()
	sending.Wait()
	if c := decode[admin.Change](t, typed{out: line}); c.Status != "ignored" || c.Module != "Leads" {
		t.Errorf("told %s", line)
	}
	stopHere()
	stopThere()
}

func TestStats(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	d.send(t, "evt-1", `{"operation":"create","module":"Contacts","data":[{"id":"1","Last_Name":"Doe","Account_Name":{"id":"77"}}]}`).done(t)
	d.settled(t)
	text := commandWith(t, d.remote(), "stats", "--window=1h").done(t)
	for _, want := range []string{`^the last 1h, of which \d+ s are known`, `(?m)^A SECOND +RECEIVED`, `(?m)^until processed +[0-9.]+ +[0-9.]+ +[0-9.]+$`, `(?m)^zoho +1 +0 +0$`, `(?m)^env +1 +1 +0 +0 +1 +0`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("does not say %s:\n%s", want, text)
		}
	}
}

// Nobody is asked before a few, somebody is before many.
func TestManyAreAskedAbout(t *testing.T) {
	t.Parallel()
	var ids []string
	for range askAbove + 1 {
		ids = append(ids, "event/1")
	}
	for _, args := range [][]string{append([]string{"dead", "retry"}, ids...), append([]string{"dead", "discard", "--reason=x"}, ids...)} {
		if got := command(t, "", args...); got.code != exitUsage || !strings.Contains(got.err, "say --yes") {
			t.Errorf("%v…: exit code %d, said %q", args[:2], got.code, got.err)
		}
	}
	d := newDesktop(t)
	d.types(t, "endpoints", "create", "crm", "--url=https://receiver.invalid/")
	d.exec(t, `WITH told AS (INSERT INTO outbox (id, event, user_id, payload, relayed_at)
			SELECT gen_random_uuid(), 'memory_added', 'ada', '{}', now() FROM generate_series(1, 101) RETURNING id)
		INSERT INTO deliveries (outbox_id, endpoint_id, status, finished_at) SELECT told.id, e.id, 'dead', now() FROM told, endpoints AS e WHERE e.name = 'crm'`)
	if got := d.types(t, "endpoints", "recover", "crm", "--since=1h"); got.code != exitUsage || !strings.Contains(got.err, "Send 101 deliveries to crm again?") {
		t.Errorf("exit code %d, said %q", got.code, got.err)
	}
	if got := d.types(t, "endpoints", "recover", "crm", "--since=1h", "--yes").done(t); !strings.Contains(got, "of 101 started") {
		t.Errorf("printed %q", got)
	}
}

// A list is as long as somebody asks for, however many pages that takes.
func TestListsGoOverPages(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.types(t, "endpoints", "create", "crm", "--url=https://receiver.invalid/")
	d.exec(t, `WITH told AS (INSERT INTO outbox (id, event, user_id, payload, relayed_at)
			SELECT gen_random_uuid(), 'memory_added', 'ada', '{}', now() FROM generate_series(1, 450) RETURNING id)
		INSERT INTO deliveries (outbox_id, endpoint_id, status, finished_at) SELECT told.id, e.id, 'dead', now() FROM told, endpoints AS e WHERE e.name = 'crm'`)
	for _, list := range []string{"deliveries list --status=dead", "dead list --kind=delivery"} {
		for limit, want := range map[int]int{1: 1, 200: 200, 430: 430, 1000: 450} {
			seen := map[string]bool{}
			type row struct{ ID json.RawMessage }
			rows := decode[[]row](t, d.types(t, append(strings.Fields(list), fmt.Sprint("--limit=", limit), "--json")...))
			for _, r := range rows {
				seen[string(r.ID)] = true
			}
			if len(rows) != want || len(seen) != want {
				t.Errorf("%s: %d rows, %d of them different, want %d", list, len(rows), len(seen), want)
			}
		}
	}
	if got := d.types(t, "dead", "list", "--limit=0"); got.code != exitUsage {
		t.Errorf("none at all: exit code %d", got.code)
	}
}

// A bar is for eyes, and full only when all is done.
func TestTheBar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		done, of int64
		want     string
	}{
		{0, 40, "[....................] "}, {39, 40, "[###################.] "}, {40, 40, "[####################] "}, {0, 0, "[####################] "},
		{50, 40, "[####################] "}, {20, 40, "[##########..........] "},
	} {
		if got := (&progress{terminal: true}).bar(c.done, c.of); got != c.want {
			t.Errorf("%d of %d: %q, want %q", c.done, c.of, got, c.want)
		}
		if got := (&progress{}).bar(c.done, c.of); got != "" {
			t.Errorf("%d of %d, and no terminal: %q", c.done, c.of, got)
		}
	}
}

// Somebody who is asked and does not say yes has said no.
func TestWhoIsAsked(t *testing.T) {
	t.Parallel()
	nobody, err := os.Open(os.DevNull) // a terminal to Unix, and silent
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nobody.Close() })
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	for in, want := range map[*os.File]string{nobody: "nothing was done", read: "Delete it? Nobody is here to ask: say --yes"} {
		var said strings.Builder
		if err := (streams{err: &said}).confirm(t.Context(), in, "Delete it?"); !errors.Is(err, errUsage) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if in == nobody && said.String() != "Delete it? Type yes: " {
			t.Errorf("asked %q", said.String())
		}
	}
	if got, err := readLine(t.Context(), strings.NewReader(" yes \nno\n")); got != "yes" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	silent, stop := context.WithCancel(t.Context())
	stop()
	if _, err := readLine(silent, read); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever stops: %v", err)
	}
}
