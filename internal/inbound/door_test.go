package inbound

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/contract/contracttest"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/respond"
	"github.com/memrelay/memrelay/internal/telemetry"
)

// What proves a sender in these tests, and what a record says of a person. No
// log line may hold any of them.
const (
	newSecret       = "the-new-secret-of-the-door"
	oldSecret       = "the-old-secret-of-the-door"
	fixedToken      = "the-token-for-a-fixed-header"
	channelToken    = "the-token-of-the-channel"
	oldChannelToken = "the-token-of-the-channel-before"
	expiredToken    = "the-token-of-the-channel-long-before"
	private         = "jane.doe@example.com"
)

var hidden = []string{newSecret, oldSecret, fixedToken, channelToken, oldChannelToken, expiredToken, private}

// untimed is a body of the record form about one record, that says what. Without
// a time, so that its id follows from what came before.
func untimed(id, what string) string {
	return fmt.Sprintf(`{"operation":"update","module":"Accounts","data":[{"id":%q,"Description":%q,"Email":%q}]}`, id, what, private)
}

// timed is untimed with the time of its change.
func timed(id, what string, ms int64) string {
	return fmt.Sprintf(`{"operation":"update","module":"Accounts","server_time":%d,"data":[{"id":%q,"Description":%q}]}`, ms, id, what)
}

// notification is a body of Zoho's own.
func notification(channel, token string) string {
	return fmt.Sprintf(`{"server_time":1718117126473,"affected_values":[{"record_id":"7","values":{"Email":%q}}],"query_params":{},"module":"Accounts",`+
		`"resource_uri":"https://www.zohoapis.com/crm/v2/Accounts","ids":["7"],"affected_fields":[{"7":["Email"]}],"operation":"update","channel_id":%q,"token":%q}`,
		private, channel, token)
}

// lines is a log that may be written from several goroutines.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// setup is what a test's door differs in.
type setup struct {
	url      string // of the database; "" makes one
	settings Settings
	group    group.Options
	jobs     func(Inserter) Inserter // wraps what inserts jobs
}

// door is a server with POST /webhooks/zoho on a database of its own.
type door struct {
	*httptest.Server
	url      string
	pool     *pgxpool.Pool // the door's own: with the limits and the log of the program
	ingester *Ingester
	counts   *counter.Set
	zoho     *Zoho
	log      *lines
}

func newDoor(t *testing.T, s setup) *door {
	t.Helper()
	if s.url == "" {
		s.url = dbtest.URL(t)
	}
	if s.settings.Secrets == nil {
		s.settings.Secrets = []string{newSecret, oldSecret}
	}
	if s.settings.MaxBacklog == 0 {
		s.settings.MaxBacklog = 10_000
	}
	if s.settings.BodyTimeout == 0 {
		s.settings.BodyTimeout = BodyTimeout
	}
	d := &door{url: s.url, log: &lines{}}
	log, err := telemetry.NewLogger(d.log, "json", slog.LevelDebug)
	if err != nil {
		t.Fatal(err)
	}
	d.pool, err = postgres.Open(t.Context(), s.url, postgres.Options{Log: log, MaxConns: 10, Name: "work", Lookups: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.pool.Close)
	d.ingester, d.counts = newIngester(t, d.pool, s, log)
	d.zoho = NewZoho(d.pool, d.ingester, d.counts, s.settings)
	r := chi.NewRouter()
	respond.Use(r, log)
	r.Method(http.MethodPost, "/webhooks/zoho", d.zoho)
	d.Server = httptest.NewServer(contracttest.Wrap(t, r))
	d.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	t.Cleanup(func() {
		d.Close() // what is under way is answered, and logged
		d.ingester.Wait()
		text := d.log.String()
		for _, secret := range hidden {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("the log holds %s: …%s…", secret, text[max(0, at-300):at+len(secret)])
			}
		}
	})
	return d
}

// newIngester makes the ingester of one more node.
func newIngester(t *testing.T, pool *pgxpool.Pool, s setup, log *slog.Logger) (*Ingester, *counter.Set) {
	t.Helper()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var jobs Inserter = client
	if s.jobs != nil {
		jobs = s.jobs(client)
	}
	counts := counter.New(pool, uuid.New(), "host", 0, log)
	return NewIngester(pool, jobs, counts, []string{"Accounts", "contact", "Deals"}, s.group), counts
}

// answered is what a sender gets.
type answered struct {
	status  int
	header  http.Header
	text    string
	Answer  // of a 200
	problem // of anything else
}

type problem struct {
	Type, Title, Detail, Code string
	Status                    int
	RequestID                 string `json:"request_id"`
}

// post sends a body with headers, and checks what holds for every answer.
func (d *door) post(t *testing.T, body string, header http.Header) answered {
	t.Helper()
	return d.postFrom(t, t.Context(), strings.NewReader(body), header)
}

func (d *door) postFrom(t *testing.T, ctx context.Context, body io.Reader, header http.Header) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL+"/webhooks/zoho", body)
	if err != nil {
		t.Error(err)
		return answered{}
	}
	req.Header = header.Clone()
	resp, err := d.Client().Do(req)
	if err != nil {
		t.Error(err)
		return answered{}
	}
	return read(t, resp)
}

// read reads an answer and checks what holds for every one.
func read(t *testing.T, resp *http.Response) answered {
	t.Helper()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	a := answered{status: resp.StatusCode, header: resp.Header, text: string(text)}
	requestID := resp.Header.Get("X-Request-Id")
	if requestID == "" {
		t.Error("an answer without X-Request-Id")
	}
	if a.status == http.StatusOK {
		if err := json.Unmarshal(text, &a.Answer); err != nil {
			t.Errorf("answered %q: %v", text, err)
		}
		return a
	}
	if err := json.Unmarshal(text, &a.problem); err != nil {
		t.Errorf("answered %q: %v", text, err)
	}
	if a.problem.Status != a.status || a.Title != http.StatusText(a.status) || a.Type != "about:blank" || a.Code == "" || a.Detail == "" ||
		a.RequestID != requestID || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("answered %d with %s as %s and X-Request-Id %s, which is not a whole problem", a.status, text, resp.Header.Get("Content-Type"), requestID)
	}
	for _, secret := range hidden {
		if strings.Contains(a.text, secret) {
			t.Errorf("the answer holds %s: %s", secret, a.text)
		}
	}
	return a
}

func (a answered) want(t *testing.T, status int, code string) {
	t.Helper()
	if a.status != status || a.Code != code {
		t.Errorf("answered %d %s, want %d %s; %s", a.status, a.Code, status, code, a.text)
	}
}

// wantEvents checks a 200, by the status and id of each event.
func (a answered) wantEvents(t *testing.T, status string, events ...EventStatus) {
	t.Helper()
	if diff := cmp.Diff(events, a.Events); a.status != http.StatusOK || a.Answer.Status != status || diff != "" {
		t.Errorf("answered %d %s, want 200 %s, events (-want +got):\n%s", a.status, a.Answer.Status, status, diff)
	}
}

// signed are the headers of a JSON body that newSecret signs, and more: names
// and values.
func signed(body string, more ...string) http.Header {
	return with(http.Header{"Content-Type": {typeJSON}, "X-Zoho-Signature": {sign(newSecret, body)}}, more...)
}

func with(h http.Header, more ...string) http.Header {
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

// send posts a signed body. eventID may be "".
func (d *door) send(t *testing.T, eventID, body string) answered {
	t.Helper()
	if eventID == "" {
		return d.post(t, body, signed(body))
	}
	return d.post(t, body, signed(body, "X-Zoho-Event-Id", eventID))
}

// addChannel makes a channel with channelToken, after oldChannelToken, which is
// good for another hour, or expiredToken, which is not any more.
func addChannel(t *testing.T, pool *pgxpool.Pool, id, source, previous string, until time.Duration) {
	t.Helper()
	exec(t, pool, `INSERT INTO channels (channel_id, source) VALUES ($1, $2)`, id, source)
	exec(t, pool, `INSERT INTO channel_tokens (channel_id, token_hash, until)
		VALUES ($1, sha256($2::bytea), NULL), ($1, sha256($3::bytea), now() + $4 * interval '1 second')`,
		id, []byte(channelToken), []byte(previous), until.Seconds())
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// query reads the one column of a query.
func query[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) []T {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}

// tables counts the rows of every table that has any.
func tables(t *testing.T, pool *pgxpool.Pool) map[string]int64 {
	t.Helper()
	var counts []string
	for _, name := range query[string](t, pool, `SELECT relname::text FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
		AND relname NOT IN ('goose_db_version', 'river_migration')`) {
		what := "*"
		if name == "counters" {
			what = "DISTINCT name" // their slots depend on which of the two transactions was free
		}
		counts = append(counts, fmt.Sprintf(`SELECT '%s=' || count(%s) FROM %s HAVING count(*) > 0`, name, what, name))
	}
	if len(counts) < 15 {
		t.Fatalf("%d tables: the test does not see them", len(counts))
	}
	all := map[string]int64{}
	for _, line := range query[string](t, pool, strings.Join(counts, " UNION ALL ")) {
		name, n, _ := strings.Cut(line, "=")
		var count int64
		if _, err := fmt.Sscan(n, &count); err != nil {
			t.Fatal(err)
		}
		all[name] = count
	}
	return all
}

func wantTables(t *testing.T, pool *pgxpool.Pool, want map[string]int64) {
	t.Helper()
	if diff := cmp.Diff(want, tables(t, pool)); diff != "" {
		t.Errorf("rows by table (-want +got):\n%s", diff)
	}
}

// wantWhole checks that what is stored fits together: each event that waits has
// one job and one body, each job its event, and the counters say how many.
func wantWhole(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for what, sql := range map[string]string{
		"events without exactly one job": `SELECT e.event_id FROM events e WHERE e.status = 'received' AND 1 <> (
			SELECT count(*) FROM river_job j WHERE j.kind = 'process_event' AND (j.args ->> 'event_id')::bigint = e.id)`,
		"ignored events with a job": `SELECT e.event_id FROM events e WHERE e.status = 'ignored' AND EXISTS (
			SELECT FROM river_job j WHERE (j.args ->> 'event_id')::bigint = e.id)`,
		"jobs without an event": `SELECT j.args::text FROM river_job j WHERE NOT EXISTS (
			SELECT FROM events e WHERE e.id = (j.args ->> 'event_id')::bigint)`,
		"events without exactly one body": `SELECT e.event_id FROM events e WHERE 1 <> (
			SELECT count(*) FROM event_bodies own JOIN event_bodies b ON b.event_id = own.body_id AND b.received_at = own.received_at
			WHERE own.event_id = e.id AND own.received_at = e.received_at AND sha256(b.body) = e.digest)`,
		"bodies that no event needs": `SELECT b.event_id::text FROM event_bodies b WHERE NOT EXISTS (SELECT FROM events e WHERE e.id = b.event_id)`,
	} {
		if found := query[string](t, pool, sql); len(found) > 0 {
			t.Errorf("%s: %q", what, found)
		}
	}
	counted, err := counter.Read(t.Context(), db.New(pool))
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]int64{}
	for _, status := range query[string](t, pool, `SELECT status FROM events`) {
		stored[status]++
	}
	if counted[counter.Queued] != stored["received"] || counted[counter.Backlog] != stored["received"] || counted[counter.Ignored] != stored["ignored"] {
		t.Errorf("counted %v, stored %v", counted, stored)
	}
}

func wantCounters(t *testing.T, pool *pgxpool.Pool, want counter.Changes) {
	t.Helper()
	got, err := counter.Read(t.Context(), db.New(pool))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

// await waits until the query says true. It polls: the truth is in the database.
func await(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !query[bool](t, pool, sql, args...)[0]; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", sql)
		}
	}
}

// blocked holds up every transaction that stores events until release is called.
func blocked(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE events IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		if err := tx.Rollback(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(release)
	return release
}

// storing waits until n transactions are held up.
func storing(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	await(t, pool, `SELECT count(*) = $1 FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass`, n)
}

// tally counts equal words.
func tally(words []string) map[string]int {
	counts := map[string]int{}
	for _, w := range words {
		counts[w]++
	}
	return counts
}
