package zoho

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const channelID = "9007199254740993"

// watched is an answer about one channel of some modules, with their expiries.
func watched(expiries ...string) string {
	var events []string
	for i, at := range expiries {
		events = append(events, fmt.Sprintf(`{"channel_expiry":%q,"resource_uri":"https://www.zohoapis.com/crm/v2/M%d",
			"resource_id":"1","resource_name":"M%d","channel_id":%s}`, at, i, i, channelID))
	}
	return `{"watch":[{"code":"SUCCESS","status":"success","message":"any words",
		"details":{"events":[` + strings.Join(events, ",") + `]}}]}`
}

func TestSettingAChannel(t *testing.T) {
	t.Parallel()
	ch := Channel{
		ID: channelID, Events: []string{"Deals.all", "Accounts.create"}, NotifyURL: "https://us.example/zoho?a=b&c=d", Token: "hush",
		Expires: time.Date(2026, 11, 29, 12, 0, 0, 987_654_321, time.FixedZone("", 19800)),
	}
	renewal := Channel{ID: channelID, Token: "hush", Expires: ch.Expires}
	enable := func(c *Client, ctx context.Context, ch Channel) (Channel, error) { return c.EnableChannel(ctx, ch) }
	replace := func(c *Client, ctx context.Context, ch Channel) (Channel, error) { return c.ReplaceChannel(ctx, ch) }
	renew := func(c *Client, ctx context.Context, ch Channel) (Channel, error) { return c.RenewChannel(ctx, ch) }
	const rest = `"events":["Deals.all","Accounts.create"],"notify_url":"https://us.example/zoho?a=b\u0026c=d",` +
		`"token":"hush","channel_expiry":"2026-11-29T06:30:00+00:00"`
	for _, tc := range []struct {
		name   string
		set    func(*Client, context.Context, Channel) (Channel, error)
		ch     Channel
		status int
		method string
		body   string // of the channel, after its id
	}{
		{"enable", enable, ch, 201, "POST", rest + `,"return_affected_field_values":true,"notify_on_related_action":false`},
		{"replace", replace, ch, 200, "PUT", rest + `,"return_affected_field_values":true,"notify_on_related_action":false`},
		{"renew", renew, renewal, 200, "PATCH", `"token":"hush","channel_expiry":"2026-11-29T06:30:00+00:00"`},
		{"renew with more", renew, ch, 200, "PATCH", rest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var asked, body string
			c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
				raw, _ := io.ReadAll(r.Body)
				asked, body = r.Method+" "+r.URL.RequestURI(), string(raw)
				// An hour, because Zoho did not like what was asked for, and less for one module.
				saying(tc.status, watched("2026-11-22T17:00:00+05:30", "2026-11-22T11:00:00Z"))(w, r)
			})
			got, err := tc.set(c, t.Context(), tc.ch)
			if err != nil {
				t.Fatal(err)
			}
			if asked != tc.method+" /crm/v8/actions/watch" {
				t.Errorf("asked %s", asked)
			}
			if d := cmp.Diff(`{"watch":[{"channel_id":"`+channelID+`",`+tc.body+`}]}`, body); d != "" {
				t.Error(d)
			}
			want := tc.ch
			want.Expires = time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhenAChannelEnds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC) // the clock of clientOf
	for _, tc := range []struct {
		name   string
		answer string
		asked  time.Time
		want   time.Time
		module string
	}{
		{"one module", watched("2026-11-22T17:00:00+05:30"), now.Add(time.Minute), now.Add(time.Hour), "M0"},
		{"an offset without a colon", watched("2026-11-22T17:00:00+0530"), now, now.Add(time.Hour), "M0"},
		{"not said: an hour is sure", `{"watch":[{"code":"SUCCESS","status":"success","details":{}}]}`, now.Add(5 * time.Hour), now.Add(time.Hour), ""},
		{"not said: less was asked for", `{"watch":[{"code":"SUCCESS","details":{"events":null}}]}`, now.Add(time.Minute), now.Add(time.Minute), ""},
		{"no time", watched("tomorrow"), now.Add(5 * time.Hour), now.Add(time.Hour), "M0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, _ := clientOf(t, saying(200, tc.answer))
			got, err := c.RenewChannel(t.Context(), Channel{ID: "1", Expires: tc.asked})
			if err != nil || !got.Expires.Equal(tc.want) || got.Module != tc.module {
				t.Errorf("ends %s (%s), %v; want %s", got.Expires, got.Module, err, tc.want)
			}
		})
	}
}

func TestChannelErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		kind   Kind
		code   string
	}{
		{"forgotten, at the top", saying(400, problemOf(NotSubscribed, "any words")), KindInvalid, NotSubscribed},
		{"forgotten, wrapped", saying(400, `{"watch":[`+problemOf(NotSubscribed, "any words")+`]}`), KindInvalid, NotSubscribed},
		{"accepted and refused", saying(202, `{"watch":[`+problemOf(NotSubscribed, "any words")+`]}`), KindInvalid, NotSubscribed},
		{"in part", saying(207, `{"watch":[{"code":"SUCCESS","status":"success"},`+problemOf("INVALID_DATA", "any words")+`]}`), KindInvalid, "INVALID_DATA"},
		{"a scope", saying(401, problemOf("OAUTH_SCOPE_MISMATCH", "any words")), KindForbidden, "OAUTH_SCOPE_MISMATCH"},
		{"nothing is said", saying(204, ""), KindUnavailable, ""},
		{"nothing is said of it", saying(200, `{"watch":[]}`), KindUnavailable, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, _ := clientOf(t, tc.answer)
			_, err := c.RenewChannel(t.Context(), Channel{ID: "1"})
			if e := errorOf(t, err); e.Kind != tc.kind || e.Code != tc.code {
				t.Errorf("%v", e)
			}
		})
	}
}

func TestChannels(t *testing.T) {
	t.Parallel()
	var asked []string
	c, _ := clientOf(t, inTurn(
		asking(`{"watch":[
			{"notify_on_related_action":false,"channel_expiry":"2026-11-29T16:00:00+05:30","notify_url":"https://us.example",
			 "resource_name":"Deals","fields":null,"notification_condition":null,"channel_id":"`+channelID+`",
			 "events":["Deals.edit","Deals.create"],"token":"hush"},
			{"channel_expiry":null,"resource_name":"Accounts","channel_id":`+channelID+`,"events":null,"token":null}],
			"info":{"page":1,"more_records":true}}`, &asked),
		asking(`{"watch":[{"channel_id":"7","channel_expiry":"2026-11-29T10:30:00Z"}],"info":{"page":2,"more_records":false}}`, &asked),
	))
	got, err := c.Channels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].Expires = got[i].Expires.UTC()
	}
	at := time.Date(2026, 11, 29, 10, 30, 0, 0, time.UTC)
	if d := cmp.Diff([]Channel{
		{ID: channelID, Events: []string{"Deals.edit", "Deals.create"}, NotifyURL: "https://us.example", Token: "hush", Expires: at, Module: "Deals"},
		{ID: channelID, Module: "Accounts"},
		{ID: "7", Expires: at},
	}, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/crm/v8/actions/watch?page=1&per_page=200", "/crm/v8/actions/watch?page=2&per_page=200"}, asked); d != "" {
		t.Error(d)
	}
	none, _ := clientOf(t, saying(204, ""))
	if got, err := none.Channels(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
}

func TestStopEvents(t *testing.T) {
	t.Parallel()
	var asked string
	c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = r.Method + " " + string(body)
		saying(200, `{"watch":[{"code":"SUCCESS","details":{},"message":"","status":"success"}]}`)(w, r)
	})
	if err := c.StopEvents(t.Context(), "7", []string{"Deals.edit"}); err != nil {
		t.Fatal(err)
	}
	if want := `PATCH {"watch":[{"channel_id":"7","events":["Deals.edit"],"_delete_events":true}]}`; asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
}

func TestDisableChannels(t *testing.T) {
	t.Parallel()
	many := make([]string, 120)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for _, tc := range []struct {
		name  string
		ids   []string
		bad   string // an id that
		says  http.HandlerFunc
		calls int64
		gone  int
		kind  Kind
	}{
		{"none", nil, "", nil, 0, 0, 0},
		{"two", []string{"1", "2"}, "", nil, 1, 2, 0},
		{"many", many, "", nil, 3, 120, 0},
		{"one forgotten", []string{"1"}, "1", saying(400, problemOf(NotSubscribed, "no")), 1, 0, 0},
		{"one of three forgotten", []string{"1", "2", "3"}, "2", saying(400, problemOf(NotSubscribed, "no")), 4, 2, 0},
		{"one of three forgotten, in part", []string{"1", "2", "3"}, "2", saying(207, `{"watch":[`+problemOf(NotSubscribed, "no")+`]}`), 4, 2, 0},
		{"one of three is wrong", []string{"1", "2", "3"}, "1", saying(400, problemOf("INVALID_DATA", "no")), 4, 2, KindInvalid},
		{"no permission", []string{"1", "2", "3"}, "1", saying(403, problemOf("NO_PERMISSION", "no")), 1, 0, KindForbidden},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			gone := map[string]bool{}
			c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
				ids := strings.Split(r.URL.Query().Get("channel_ids"), ",")
				if r.Method != http.MethodDelete || r.URL.Path != "/crm/v8/actions/watch" {
					t.Errorf("asked %s %s", r.Method, r.URL.Path)
				}
				if slices.Contains(ids, tc.bad) {
					tc.says(w, r)
					return
				}
				for _, id := range ids {
					gone[id] = true
				}
				saying(200, `{"watch":[{"code":"SUCCESS","details":{},"message":"","status":"success"}]}`)(w, r)
			})
			err := c.DisableChannels(t.Context(), tc.ids)
			if KindOf(err) != tc.kind || c.Calls() != tc.calls || len(gone) != tc.gone {
				t.Errorf("%v after %d calls, %d are gone", err, c.Calls(), len(gone))
			}
		})
	}
}
