package inbound

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
)

// The bytes of an answer are part of the API.
func TestAnswers(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	several := `{"operation":"create","module":"contact","data":[{"id":"1"},{"id":"2"}]}`
	leads := `{"event_type":"leads.updated","module":"Leads","record_id":"9","record_data":{"Email":"` + private + `"}}`
	for _, tc := range []struct {
		name, eventID, body, want string
	}{
		{
			"a new event is accepted", "evt-1", untimed("7", "a"),
			`{"status":"accepted","event_id":"evt-1","message":"1 of 1 events stored.","queued":true,"events":[{"event_id":"evt-1","status":"accepted"}]}`,
		},
		{
			"a repeat is a duplicate", "evt-1", untimed("7", "a"),
			`{"status":"duplicate","event_id":"evt-1","message":"Stored before; a repeat changes nothing.","events":[{"event_id":"evt-1","status":"duplicate"}]}`,
		},
		{
			"every record is an event", "evt-2", several,
			`{"status":"accepted","event_id":"evt-2","message":"2 of 2 events stored.","queued":true,"events":[{"event_id":"evt-2:1","status":"accepted"},{"event_id":"evt-2:2","status":"accepted"}]}`,
		},
		{
			"a module that nobody asked for is stored and ignored", "evt-3", leads,
			`{"status":"ignored","event_id":"evt-3","message":"Stored, and not worked: nobody asked for this module.","events":[{"event_id":"evt-3","status":"ignored"}]}`,
		},
		{
			"a repeat of what was ignored is a duplicate", "evt-3", leads,
			`{"status":"duplicate","event_id":"evt-3","message":"Stored before; a repeat changes nothing.","events":[{"event_id":"evt-3","status":"duplicate"}]}`,
		},
		{
			"space around the id is no part of it", " evt-1 ", untimed("7", "a"),
			`{"status":"duplicate","event_id":"evt-1","message":"Stored before; a repeat changes nothing.","events":[{"event_id":"evt-1","status":"duplicate"}]}`,
		},
	} {
		a := d.send(t, tc.eventID, tc.body)
		if diff := cmp.Diff(tc.want+"\n", a.text); a.status != http.StatusOK || diff != "" {
			t.Errorf("%s: answered %d (-want +got):\n%s", tc.name, a.status, diff)
		}
		if got := a.header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %q", tc.name, got)
		}
	}
	wantTables(t, d.pool, map[string]int64{"events": 4, "event_bodies": 4, "river_job": 3, "counters": 4})
	wantWhole(t, d.pool)
	wantCounters(t, d.pool, counter.Changes{counter.Queued: 3, counter.Backlog: 3, counter.Ignored: 1, counter.Duplicated: 3})
	if got := d.counts.Backlog(); got != 3 {
		t.Errorf("backlog %d, want 3", got)
	}
}

// A body that is new in part is accepted: only its new records are stored, and
// its bytes with the first of them.
func TestABodyThatIsNewInPart(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	both := func(other string) string {
		return `{"operation":"update","module":"Accounts","server_time":1718117126473,"data":[{"id":"1"},{"id":"` + other + `"}]}`
	}
	first := d.send(t, "", both("2"))
	exec(t, d.pool, `DELETE FROM river_job WHERE (args ->> 'event_id')::bigint = (SELECT id FROM events WHERE record_id = '1')`)
	exec(t, d.pool, `DELETE FROM event_bodies WHERE event_id = (SELECT id FROM events WHERE record_id = '1')`)
	exec(t, d.pool, `DELETE FROM events WHERE record_id = '1'`)
	again := d.send(t, "", both("2"))
	again.wantEvents(t, StatusAccepted, EventStatus{first.Events[0].EventID, StatusAccepted}, EventStatus{first.Events[1].EventID, StatusDuplicate})
	if again.Message != "1 of 2 events stored." || !again.Queued {
		t.Errorf("answered %s", again.text)
	}

	// The other way round, where the first record is the repeat.
	exec(t, d.pool, `DELETE FROM river_job WHERE (args ->> 'event_id')::bigint = (SELECT id FROM events WHERE record_id = '2')`)
	exec(t, d.pool, `DELETE FROM event_bodies WHERE event_id = (SELECT id FROM events WHERE record_id = '2')`)
	exec(t, d.pool, `DELETE FROM events WHERE record_id = '2'`)
	again = d.send(t, "", both("2"))
	again.wantEvents(t, StatusAccepted, EventStatus{first.Events[0].EventID, StatusDuplicate}, EventStatus{first.Events[1].EventID, StatusAccepted})
	wantTables(t, d.pool, map[string]int64{"events": 2, "event_bodies": 2, "river_job": 2, "counters": 3})
	if got := query[string](t, d.pool, `SELECT convert_from(body, 'UTF8') FROM event_bodies WHERE event_id = (SELECT id FROM events WHERE record_id = '2')`); got[0] != both("2") {
		t.Errorf("the body is kept as %q", got)
	}
}

// Everything that is wrong is told to whoever is proven, and to nobody else.
func TestRefusals(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{settings: Settings{Token: fixedToken}})
	addChannel(t, d.pool, "c1", "zoho", oldChannelToken, time.Hour)
	before := tables(t, d.pool)
	long := strings.Repeat("x", 256)
	ids := strings.TrimSuffix(strings.Repeat(`{"id":"1"},`, 10_000), ",")
	var unproven []answered
	for _, tc := range []struct {
		name    string
		body    string
		headers []string
		status  int
		code    string
	}{
		{"an empty body", "", nil, 400, "invalid_json"},
		{"what is not JSON", `{"operation":`, nil, 400, "invalid_json"},
		{"what is not UTF-8", "{\"operation\":\"\xff\"}", nil, 400, "invalid_json"},
		{"an escaped NUL", `{"operation":"update","data":[{"id":"1","a":"\u0000"}]}`, nil, 400, "invalid_json"},
		{"an array", `[{"id":"1"}]`, nil, 400, "unknown_shape"},
		{"an object that says nothing", `{"hello":"world"}`, nil, 400, "unknown_shape"},
		{"data that are no records", `{"operation":"update","data":["1"]}`, nil, 400, "unknown_shape"},
		{"a form that cannot be read", "operation=%zz", []string{"Content-Type", typeForm}, 400, "invalid_form"},
		{"10,000 records", `{"operation":"update","data":[` + ids + `]}`, nil, 413, "too_many_records"},
		{"1,001 records", `{"operation":"update","data":[` + ids[:1001*len(`{"id":"1"},`)-1] + `]}`, nil, 413, "too_many_records"},
		{"an operation outside the list", `{"operation":"merge","data":[{"id":"1"}]}`, nil, 422, "unknown_operation"},
		{"data without a record", `{"operation":"update","data":[]}`, nil, 422, "empty_data"},
		{"ids without an id", `{"operation":"update","ids":[],"channel_id":"1"}`, nil, 422, "empty_data"},
		{"a record without an id", `{"operation":"update","data":[{"id":"1"},{"Email":"x"}]}`, nil, 422, "missing_record_id"},
		{"a record with an id of nothing", `{"operation":"update","data":[{"id":" "}]}`, nil, 422, "missing_record_id"},
		{"an id of 256 bytes", `{"operation":"update","data":[{"id":"` + long + `"}]}`, nil, 422, "id_too_long"},
		{"a module of 256 bytes", `{"operation":"update","module":"` + long + `","data":[{"id":"1"}]}`, nil, 422, "module_too_long"},
		{"a time that no clock shows", `{"operation":"update","server_time":1,"data":[{"id":"1"}]}`, nil, 422, "time_out_of_range"},
		{"an event id of 256 bytes", untimed("1", "a"), []string{"X-Zoho-Event-Id", long}, 422, "id_too_long"},
		{"an event id that is not UTF-8", untimed("1", "a"), []string{"X-Zoho-Event-Id", "\xff"}, 400, "invalid_event_id"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d.post(t, tc.body, signed(tc.body, tc.headers...)).want(t, tc.status, tc.code)
			d.post(t, tc.body, with(http.Header{"Content-Type": {typeJSON}, "X-Webhook-Token": {fixedToken}}, tc.headers...)).want(t, tc.status, tc.code)
			a := d.post(t, tc.body, with(http.Header{"Content-Type": {typeJSON}}, tc.headers...))
			a.want(t, 401, "unauthorized")
			unproven = append(unproven, a)
		})
	}
	// Whoever is not proven gets one and the same answer, whatever was wrong inside.
	for _, a := range unproven {
		if got := strings.ReplaceAll(a.text, a.RequestID, "…"); got != strings.ReplaceAll(unproven[0].text, unproven[0].RequestID, "…") {
			t.Errorf("not the same answer: %s", a.text)
		}
	}
	wantTables(t, d.pool, before)
	if got := d.counts.Backlog(); got != 0 {
		t.Errorf("backlog %d, want 0", got)
	}
	if err := d.counts.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCounters(t, d.pool, counter.Changes{counter.Rejected: int64(3 * len(unproven))})
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	for _, tc := range []struct {
		name, contentType string
		ok                bool
	}{
		{"JSON", "application/json", true},
		{"JSON with a charset", "application/json; charset=utf-8", true},
		{"JSON in capitals", "Application/JSON", true},
		{"text that is JSON", "text/json", true},
		{"a type built on JSON", "application/vnd.zoho+json", true},
		{"no type at all", "", true},
		{"a form that holds JSON all the same", "application/x-www-form-urlencoded", true},
		{"a parameter that is not UTF-8", "application/json; note=\"\xff\"", true},
		{"XML", "application/xml", false},
		{"text", "text/plain", false},
		{"a type that is none", "application/", false},
		{"a parameter that is none", "application/json; =", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := untimed("7", tc.name)
			header := signed(body, "Content-Type", tc.contentType)
			if tc.contentType == "" {
				header["Content-Type"] = nil
			}
			a := d.post(t, body, header)
			if tc.ok {
				a.wantEvents(t, StatusAccepted, EventStatus{a.EventID, StatusAccepted})
				return
			}
			a.want(t, 415, "unsupported_media_type")
			// For anyone: the type is looked at before the proof.
			d.post(t, body, http.Header{"Content-Type": {tc.contentType}}).want(t, 415, "unsupported_media_type")
		})
	}
	wantWhole(t, d.pool)
}

// raw speaks HTTP itself, to say what no client would.
type raw struct {
	net.Conn
	*bufio.Reader
}

func (d *door) dial(t *testing.T) raw {
	t.Helper()
	conn, err := net.Dial("tcp", d.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return raw{conn, bufio.NewReader(conn)}
}

func (r raw) say(t *testing.T, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(r.Conn, format, args...); err != nil {
		t.Fatal(err)
	}
}

// hear reads an answer, and whether the server closes the connection after it.
func (r raw) hear(t *testing.T) (a answered, closes bool) {
	t.Helper()
	resp, err := http.ReadResponse(r.Reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp), resp.Close
}

func TestTooLargeIsToldToAnyone(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	t.Run("all at once", func(t *testing.T) { tooLarge(t, d) })
	if got := query[int](t, d.pool, `SELECT count(*) FROM events`)[0]; got != 1001 {
		t.Errorf("%d events are stored, want 1001", got)
	}
}

func tooLarge(t *testing.T, d *door) {
	t.Run("by its length, before a byte of it was read", func(t *testing.T) {
		t.Parallel()
		r := d.dial(t)
		r.say(t, "POST /webhooks/zoho HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", 20<<20)
		a, closes := r.hear(t)
		a.want(t, 413, "body_too_large")
		if !closes {
			t.Error("the connection stays open for the 20 MB that nobody reads")
		}
	})
	t.Run("20 MB that are sent all the same", func(t *testing.T) {
		t.Parallel()
		// Without a length; it ends as soon as one byte too many has come.
		sent := &counting{r: io.LimitReader(zeros{}, 20<<20)}
		a := d.postFrom(t, t.Context(), sent, http.Header{"Content-Type": {typeJSON}})
		a.want(t, 413, "body_too_large")
		if n := sent.total(); n > 10<<20 {
			t.Errorf("%d bytes were taken, want not much more than 1 MiB", n)
		}
	})
	t.Run("also when a signature is there and wrong", func(t *testing.T) {
		t.Parallel()
		body := strings.Repeat(" ", MaxBody+1)
		d.post(t, body, http.Header{"Content-Type": {typeJSON}, "X-Zoho-Signature": {"00"}}).want(t, 413, "body_too_large")
	})
	t.Run("also when the type is wrong", func(t *testing.T) {
		t.Parallel()
		body := strings.Repeat(" ", MaxBody+1)
		d.post(t, body, http.Header{"Content-Type": {"text/plain"}}).want(t, 413, "body_too_large")
	})
	t.Run("one byte less is not too large", func(t *testing.T) {
		t.Parallel()
		body := untimed("7", "a")
		body += strings.Repeat(" ", MaxBody-len(body))
		d.send(t, "large", body).wantEvents(t, StatusAccepted, EventStatus{"large", StatusAccepted})
	})
	t.Run("1,000 records are not too many", func(t *testing.T) {
		t.Parallel()
		var data []string
		for i := range MaxRecords {
			data = append(data, fmt.Sprintf(`{"id":"%d"}`, i+1000))
		}
		a := d.send(t, "many", `{"operation":"update","data":[`+strings.Join(data, ",")+`]}`)
		if a.status != http.StatusOK || a.Message != "1000 of 1000 events stored." {
			t.Errorf("answered %d %s", a.status, a.Message)
		}
	})
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// counting counts what was read from it.
type counting struct {
	r  io.Reader
	mu sync.Mutex
	n  int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	return n, err
}

func (c *counting) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func TestASenderThatDripsIsCutOff(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{settings: Settings{BodyTimeout: 150 * time.Millisecond}})
	for _, tc := range []struct{ name, head, format string }{
		{"with a length", "Content-Length: 100000", "%c"},
		{"in chunks", "Transfer-Encoding: chunked", "1\r\n%c\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := d.dial(t)
			r.say(t, "POST /webhooks/zoho HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n\r\n", tc.head)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				drip := time.NewTicker(5 * time.Millisecond)
				defer drip.Stop()
				for {
					select {
					case <-stop:
						return
					case <-drip.C:
						if _, err := fmt.Fprintf(r.Conn, tc.format, ' '); err != nil {
							return
						}
					}
				}
			})
			began := time.Now()
			a, closes := r.hear(t)
			close(stop)
			wg.Wait()
			a.want(t, 408, "body_too_slow")
			if took := time.Since(began); took < 100*time.Millisecond || took > 10*time.Second {
				t.Errorf("cut off after %s, want 150 ms", took)
			}
			if !closes {
				t.Error("the connection stays open")
			}
		})
	}
	wantTables(t, d.pool, map[string]int64{})
}

func TestABodyThatEndsTooSoon(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	r := d.dial(t)
	body := untimed("7", "a")
	r.say(t, "POST /webhooks/zoho HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Zoho-Signature: %s\r\nContent-Length: %d\r\n\r\n%s",
		sign(newSecret, body), len(body)+1, body)
	if err := r.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	a, _ := r.hear(t)
	a.want(t, 400, "body_broken")
	wantTables(t, d.pool, map[string]int64{})
}

// The limit is for the body alone: not for the commit after it, and not for the
// next request on the connection.
func TestTheTimeLimitEndsWithTheBody(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{settings: Settings{BodyTimeout: 100 * time.Millisecond}})
	exec(t, d.pool, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_sleep(0.2); IF NEW.event_id = 'refused' THEN RAISE 'refused'; END IF; RETURN NULL; END $$`)
	exec(t, d.pool, `CREATE TRIGGER slow AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION slow()`)
	reused := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
	for _, id := range []string{"a", "b", "refused"} {
		body := untimed("7", id)
		a := d.postFrom(t, ctx, strings.NewReader(body), signed(body, "X-Zoho-Event-Id", id))
		if id == "refused" {
			a.want(t, 503, "unavailable")
			break
		}
		a.wantEvents(t, StatusAccepted, EventStatus{id, StatusAccepted})
	}
	if !reused {
		t.Error("the second request needed a connection of its own")
	}
	// When the limit ends in the middle of the commit, net/http takes the sender for
	// gone, and what failed would be no fault of ours.
	d.Close()
	if !strings.Contains(d.log.String(), `"level":"ERROR","msg":"request answered"`) {
		t.Errorf("the log does not hold the failure as an error:\n%s", d.log)
	}
}

func TestProofs(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{settings: Settings{Token: fixedToken}})
	addChannel(t, d.pool, "c1", "zoho", oldChannelToken, time.Hour)
	addChannel(t, d.pool, "c2", "zoho-eu", expiredToken, -time.Second)
	exec(t, d.pool, `INSERT INTO channels (channel_id) VALUES ('c3'), ('c4')`)
	exec(t, d.pool, `INSERT INTO channel_tokens (channel_id, token_hash, until) VALUES
		('c3', sha256($1), NULL), ('c4', sha256($1), NULL), ('c4', sha256($2), now() - interval '1 second')`, []byte(channelToken), []byte(oldChannelToken))
	body := untimed("7", "a")
	wrong := sign("another secret", body)
	for _, tc := range []struct {
		name   string
		body   string
		header http.Header
		source string // "" is 401
	}{
		{"the signature of the new secret", body, http.Header{"X-Zoho-Signature": {sign(newSecret, body)}}, "zoho"},
		{"that of the old one, while it is replaced", body, http.Header{"X-Zoho-Signature": {sign(oldSecret, body)}}, "zoho"},
		{"with sha256= before it", body, http.Header{"X-Zoho-Signature": {"sha256=" + sign(newSecret, body)}}, "zoho"},
		{"a signature in a header of small letters", body, with(http.Header{}, "x-zoho-signature", sign(newSecret, body)), "zoho"},
		{"the signature of a secret nobody has", body, http.Header{"X-Zoho-Signature": {wrong}}, ""},
		{"the signature of another body", body, http.Header{"X-Zoho-Signature": {sign(newSecret, body+" ")}}, ""},
		{"an empty signature", body, http.Header{"X-Zoho-Signature": {""}}, ""},
		{"a right signature and a wrong one", body, http.Header{"X-Zoho-Signature": {sign(newSecret, body), wrong}}, ""},
		{"the fixed token as a bearer token", body, http.Header{"Authorization": {"Bearer " + fixedToken}}, "zoho"},
		{"the fixed token in its own header", body, http.Header{"X-Webhook-Token": {fixedToken}}, "zoho"},
		{"a wrong bearer token", body, http.Header{"Authorization": {"Bearer " + fixedToken + "x"}}, ""},
		{"a wrong token in its own header", body, http.Header{"X-Webhook-Token": {"x"}}, ""},
		{"the fixed token as a password", body, http.Header{"Authorization": {"Basic " + fixedToken}}, ""},
		{"a secret is no token", body, http.Header{"Authorization": {"Bearer " + newSecret}}, ""},
		{"a bad signature, whatever the token", body, http.Header{"X-Zoho-Signature": {wrong}, "Authorization": {"Bearer " + fixedToken}}, ""},
		{"a bad signature, whatever the channel's token", notification("c1", channelToken), http.Header{"X-Zoho-Signature": {wrong}}, ""},
		{"a bad token, whatever the channel's token", notification("c1", channelToken), http.Header{"X-Webhook-Token": {"x"}}, ""},
		{"a good signature, whatever the channel's token", notification("c1", "wrong"), http.Header{"X-Zoho-Signature": {sign(newSecret, notification("c1", "wrong"))}}, "zoho"},
		{"the token of the channel", notification("c1", channelToken), nil, "zoho"},
		{"the token before it, as long as that is good", notification("c1", oldChannelToken), nil, "zoho"},
		{"the token of another organisation's channel", notification("c2", channelToken), nil, "zoho-eu"},
		{"the token before it, too late", notification("c2", expiredToken), nil, ""},
		{"a channel without a token before", notification("c3", channelToken), nil, "zoho"},
		{"a token before that is good until nobody knows when", notification("c4", oldChannelToken), nil, ""},
		{"a wrong token of a channel", notification("c1", "wrong"), nil, ""},
		{"an empty token of a channel", notification("c3", ""), nil, ""},
		{"a channel nobody knows", notification("c9", channelToken), nil, ""},
		{"no channel", notification("", channelToken), nil, ""},
		{"a channel's token in a body of another shape", `{"operation":"update","data":[{"id":"7"}],"channel_id":"c1","token":"` + channelToken + `"}`, nil, ""},
		{"nothing at all", body, nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			exec(t, d.pool, `TRUNCATE events, event_bodies, river_job, counters CASCADE`)
			header := tc.header.Clone()
			if header == nil {
				header = http.Header{}
			}
			header.Set("Content-Type", typeJSON)
			a := d.post(t, tc.body, header)
			if tc.source == "" {
				a.want(t, 401, "unauthorized")
				wantTables(t, d.pool, map[string]int64{"channels": 4, "channel_tokens": 7})
				return
			}
			if a.status != http.StatusOK {
				t.Fatalf("answered %d: %s", a.status, a.text)
			}
			if diff := cmp.Diff([]string{tc.source}, query[string](t, d.pool, `SELECT source FROM events`)); diff != "" {
				t.Errorf("sources (-want +got):\n%s", diff)
			}
		})
	}
}

// Without WEBHOOK_TOKEN a header proves nothing; it does not stand in the way of
// another proof either.
func TestTokensAreOffUnlessSet(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	addChannel(t, d.pool, "c1", "zoho", oldChannelToken, time.Hour)
	body := untimed("7", "a")
	for _, token := range []string{"Bearer ", "Bearer x"} {
		d.post(t, body, http.Header{"Content-Type": {typeJSON}, "Authorization": {token}, "X-Webhook-Token": {""}}).want(t, 401, "unauthorized")
	}
	a := d.post(t, notification("c1", channelToken), http.Header{"Content-Type": {typeJSON}, "Authorization": {"Bearer x"}})
	a.wantEvents(t, StatusAccepted, EventStatus{a.EventID, StatusAccepted})
}

// Without a secret nobody can sign: also not with the empty one.
func TestWithoutSecretsNoSignatureHolds(t *testing.T) {
	t.Parallel()
	for name, secrets := range map[string][]string{"none": {}, "an empty one": {""}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, setup{settings: Settings{Secrets: secrets}})
			body := untimed("7", "a")
			d.post(t, body, http.Header{"Content-Type": {typeJSON}, "X-Zoho-Signature": {sign("", body)}}).want(t, 401, "unauthorized")
			wantTables(t, d.pool, map[string]int64{})
		})
	}
}

// A channel's token proves the sender of a body that is wrong otherwise, too: it
// is told what is wrong.
func TestAChannelIsToldWhatIsWrong(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	addChannel(t, d.pool, "c1", "zoho", oldChannelToken, time.Hour)
	body := func(token string) string {
		return `{"operation":"merge","module":"Accounts","ids":["7"],"channel_id":"c1","token":"` + token + `"}`
	}
	json := http.Header{"Content-Type": {typeJSON}}
	d.post(t, body(channelToken), json).want(t, 422, "unknown_operation")
	d.post(t, body("wrong"), json).want(t, 401, "unauthorized")
	wantTables(t, d.pool, map[string]int64{"channels": 1, "channel_tokens": 2})
}

func TestABacklogThatIsFull(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{settings: Settings{MaxBacklog: 3}})
	d.send(t, "a", untimed("1", "a"))
	d.send(t, "b", untimed("2", "a"))
	before := tables(t, d.pool)

	// Two more do not fit, one does.
	two := `{"operation":"update","data":[{"id":"3"},{"id":"4"}]}`
	a := d.send(t, "c", two)
	a.want(t, 503, "backlog_full")
	if got := a.header.Get("Retry-After"); got != "5" {
		t.Errorf("Retry-After %q, want 5", got)
	}
	wantTables(t, d.pool, before)
	d.send(t, "d", untimed("5", "a")).wantEvents(t, StatusAccepted, EventStatus{"d", StatusAccepted})
	d.send(t, "e", untimed("5", "a")).want(t, 503, "backlog_full")

	// Somebody routes them: the same body is accepted now, and was never stored.
	if err := pgx.BeginFunc(t.Context(), d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `UPDATE events SET status = 'routed', account_id = '1', revision = 1`); err != nil {
			return err
		}
		return d.counts.Add(t.Context(), tx, 0, counter.Changes{counter.Backlog: -3})
	}); err != nil {
		t.Fatal(err)
	}
	d.counts.Routed(3)
	d.send(t, "c", two).wantEvents(t, StatusAccepted, EventStatus{"c:3", StatusAccepted}, EventStatus{"c:4", StatusAccepted})

	// The room of a repeat, or of what is ignored, is given back.
	d.send(t, "a", untimed("1", "a")).wantEvents(t, StatusDuplicate, EventStatus{"a", StatusDuplicate})
	d.send(t, "f", `{"module":"Leads","data":[{"id":"1"}]}`).wantEvents(t, StatusIgnored, EventStatus{"f", StatusIgnored})
	d.send(t, "g", untimed("6", "a")).wantEvents(t, StatusAccepted, EventStatus{"g", StatusAccepted})
	if got := d.counts.Backlog(); got != 3 {
		t.Errorf("backlog %d, want 3", got)
	}
}

func TestTheLineIsFull(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{group: group.Options{InFlight: 1, Line: 1, Wait: time.Minute}})
	release := blocked(t, d.pool)
	var wg sync.WaitGroup
	wg.Go(func() {
		d.send(t, "a", untimed("1", "a")).wantEvents(t, StatusAccepted, EventStatus{"a", StatusAccepted})
	})
	storing(t, d.pool, 1)
	// One of the next two waits, the other one is told.
	answers := make(chan answered, 2)
	for _, id := range []string{"b", "c"} {
		wg.Go(func() { answers <- d.send(t, id, untimed("1", id)) })
	}
	a := <-answers
	a.want(t, 503, "busy")
	if got := a.header.Get("Retry-After"); got != "5" {
		t.Errorf("Retry-After %q, want 5", got)
	}
	release()
	a = <-answers
	a.wantEvents(t, StatusAccepted, EventStatus{a.EventID, StatusAccepted})
	wg.Wait()
	if got := d.counts.Backlog(); got != 2 {
		t.Errorf("backlog %d, want 2", got)
	}
	wantWhole(t, d.pool)
}

func TestTheDatabaseIsGone(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	d.send(t, "a", untimed("1", "a"))
	before := tables(t, d.pool)
	name := query[string](t, d.pool, `SELECT current_database()`)[0]
	admin := adminPool(t, d.url)
	exec(t, admin, `ALTER DATABASE `+name+` ALLOW_CONNECTIONS false`)
	exec(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name)
	a := d.send(t, "b", untimed("1", "b"))
	a.want(t, 503, "unavailable")
	if got := a.header.Get("Retry-After"); got != "5" {
		t.Errorf("Retry-After %q, want 5", got)
	}
	d.post(t, notification("c1", channelToken), http.Header{"Content-Type": {typeJSON}}).want(t, 503, "unavailable")
	// What is wrong with a body is told without a database.
	body := `{"operation":"merge"}`
	d.post(t, body, signed(body)).want(t, 422, "unknown_operation")
	d.post(t, body, http.Header{"Content-Type": {typeJSON}}).want(t, 401, "unauthorized")

	exec(t, admin, `ALTER DATABASE `+name+` ALLOW_CONNECTIONS true`)
	wantTables(t, d.pool, before)
	d.send(t, "b", untimed("1", "b")).wantEvents(t, StatusAccepted, EventStatus{"b", StatusAccepted})
	if got := d.counts.Backlog(); got != 2 {
		t.Errorf("backlog %d, want 2", got)
	}
	if err := d.counts.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCounters(t, d.pool, counter.Changes{counter.Queued: 2, counter.Backlog: 2, counter.Failed: 2, counter.Rejected: 2})
}

// adminPool is on the same server, but not on the database.
func adminPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.Database = "postgres"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestThePoolIsClosed(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	d.pool.Close()
	d.send(t, "a", untimed("1", "a")).want(t, 503, "unavailable")
	other, err := pgxpool.New(t.Context(), d.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	wantTables(t, other, map[string]int64{})
}

// A sender who hangs up has its event stored all the same, and the backlog knows.
func TestASenderWhoHangsUp(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	release := blocked(t, d.pool)
	ctx, hangUp := context.WithCancel(t.Context())
	body := untimed("7", "a")
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "/webhooks/zoho", strings.NewReader(body))
	req.Header = signed(body)
	done := make(chan struct{})
	go func() { defer close(done); d.zoho.ServeHTTP(httptest.NewRecorder(), req) }()
	storing(t, d.pool, 1)
	hangUp()
	release()
	<-done
	d.ingester.Wait()
	wantTables(t, d.pool, map[string]int64{"events": 1, "event_bodies": 1, "river_job": 1, "counters": 2})
	if got := d.counts.Backlog(); got != 1 {
		t.Errorf("backlog %d, want 1", got)
	}
}

// What a line of the log says of an answer.
func TestTheLogSaysWhatBecameOfABody(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	d.send(t, "a", `{"operation":"update","data":[{"id":"1","Email":"`+private+`"},{"id":"2"}]}`)
	d.Close()
	for _, want := range []string{
		`"msg":"request answered"`, `"route":"/webhooks/zoho"`, `"status":200`, `"source":"zoho"`, `"shape":"record"`, `"event_id":"a"`,
		`"accepted":2,"duplicate":0,"ignored":0`,
	} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("the log does not hold %s:\n%s", want, d.log)
		}
	}
}
