package zohotest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

const to = "https://relay.example.com/webhooks/zoho"

func watchBody(channel string) string { return `{"watch":[{` + channel + `}]}` }

// expiry is when the first channel of an answer or a list ends.
func expiry(t *testing.T, r reply) time.Time {
	t.Helper()
	row := r.rows("watch")[0]
	if d, ok := row["details"].(map[string]any); ok {
		row = d["events"].([]any)[0].(map[string]any)
	}
	at, err := time.Parse(time.RFC3339, row["channel_expiry"].(string))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestChannelExpiryIsReadBack(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now})
	for name, tc := range map[string]struct {
		ask  string
		want time.Duration
	}{
		"left out":         {"", time.Hour},
		"a day":            {c.now().Add(24 * time.Hour).Format(time.RFC3339), 24 * time.Hour},
		"a week":           {c.now().Add(7 * 24 * time.Hour).Format(time.RFC3339), 7 * 24 * time.Hour},
		"more than a week": {c.now().Add(7*24*time.Hour + time.Second).Format(time.RFC3339), time.Hour},
	} {
		more := ""
		if tc.ask != "" {
			more = `,"channel_expiry":"` + tc.ask + `"`
		}
		r := v.enable(to, `"Deals.all"`, more).is(http.StatusCreated, "")
		if got := expiry(t, r).Sub(c.now()); got != tc.want {
			t.Errorf("%s: lives for %v, want %v", name, got, tc.want)
		}
	}
}

func TestChannelRefusals(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	const rest = `"notify_url":"` + to + `","events":["Deals.all"]`
	for _, tc := range []struct{ channel, code, at string }{
		{rest, "MANDATORY_NOT_FOUND", "$.watch[0].channel_id"},
		{`"channel_id":"a1",` + rest, "INVALID_DATA", "$.watch[0].channel_id"},
		{`"channel_id":"99999999999999999999",` + rest, "INVALID_DATA", "$.watch[0].channel_id"},
		{`"channel_id":"1","events":["Deals.all"]`, "MANDATORY_NOT_FOUND", "$.watch[0].notify_url"},
		{`"channel_id":"1","notify_url":"` + to + `"`, "MANDATORY_NOT_FOUND", "$.watch[0].events"},
		{`"channel_id":"1","notify_url":"` + to + `","events":["Notes.all"]`, "INVALID_DATA", "$.watch[0].events"},
		{`"channel_id":"1","notify_url":"` + to + `","events":["Deals.update"]`, "INVALID_DATA", "$.watch[0].events"},
		{`"channel_id":"1","notify_url":"` + to + `","events":[]`, "INVALID_DATA", "$.watch[0].events"},
		{`"channel_id":"1","notify_url":"https://x.example/` + strings.Repeat("x", 255) + `","events":["Deals.all"]`, "INVALID_DATA", "$.watch[0].notify_url"},
		{`"channel_id":"1","token":"` + strings.Repeat("x", 51) + `",` + rest, "INVALID_DATA", "$.watch[0].token"},
		{`"channel_id":"1","channel_expiry":"2099-01-01T00:00:00.123+00:00",` + rest, "INVALID_DATA", "$.watch[0].channel_expiry"},
		{`"channel_id":"1","channel_expiry":"2001-01-01T00:00:00+00:00",` + rest, "INVALID_DATA", "$.watch[0].channel_expiry"},
	} {
		row := v.send(http.MethodPost, "/crm/v8/actions/watch", watchBody(tc.channel)).is(400, "").rows("watch")[0]
		if row["code"] != tc.code || row["details"].(map[string]any)["json_path"] != tc.at {
			t.Errorf("%s: %v, want %s at %s", tc.channel, row, tc.code, tc.at)
		}
	}
	v.get("/crm/v8/actions/watch").is(204, "")

	both := `{"watch":[{"channel_id":"1",` + rest + `},{"channel_id":"x",` + rest + `}]}`
	v.send(http.MethodPost, "/crm/v8/actions/watch", both).is(http.StatusMultiStatus, "")
	bare := visit(t, zohotest.Options{ErrorShape: zohotest.Bare})
	bare.send(http.MethodPost, "/crm/v8/actions/watch", both).is(400, "INVALID_DATA")
	accepted := visit(t, zohotest.Options{ErrorShape: zohotest.Wrapped202})
	accepted.send(http.MethodPost, "/crm/v8/actions/watch", both).is(http.StatusAccepted, "")
}

func TestChannelLife(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now})
	patch := func(more string) reply {
		return v.send(http.MethodPatch, "/crm/v8/actions/watch", watchBody(`"channel_id":"1000000068001"`+more))
	}
	events := func() []string {
		var all []string
		for _, row := range v.get("/crm/v8/actions/watch?channel_id=1000000068001").rows("watch") {
			for _, event := range row["events"].([]any) {
				all = append(all, event.(string))
			}
		}
		return all
	}
	v.enable(to, `"Deals.all","Accounts.create"`, `,"token":"abc"`).is(http.StatusCreated, "")
	if want := []string{"Accounts.create", "Deals.edit", "Deals.create", "Deals.delete"}; !slices.Equal(events(), want) {
		t.Errorf("events %v, want %v", events(), want)
	}

	// It lives on by what PATCH gives and keeps the rest.
	c.advance(50 * time.Minute)
	patch(`,"channel_expiry":"`+c.now().Add(48*time.Hour).Format(time.RFC3339)+`"`).is(200, "")
	r := v.get("/crm/v8/actions/watch")
	if row := r.rows("watch")[0]; row["token"] != "abc" || row["notify_url"] != to || expiry(t, r).Sub(c.now()) != 48*time.Hour {
		t.Errorf("after PATCH: %v", row)
	}
	patch(`,"events":["Accounts.delete","Tasks.edit"]`).is(200, "")
	patch(`,"events":["Deals.all"],"_delete_events":true`).is(200, "")
	if want := []string{"Accounts.create", "Accounts.delete", "Tasks.edit"}; !slices.Equal(events(), want) {
		t.Errorf("events %v, want %v", events(), want)
	}

	// PUT puts what it says in place of everything, the life time included.
	v.send(http.MethodPut, "/crm/v8/actions/watch", watchBody(`"channel_id":"1000000068001","events":["Calls.edit"],"notify_url":"`+to+`"`)).is(200, "")
	r = v.get("/crm/v8/actions/watch")
	if row := r.rows("watch")[0]; row["token"] != nil || !slices.Equal(events(), []string{"Calls.edit"}) || expiry(t, r).Sub(c.now()) != time.Hour {
		t.Errorf("after PUT: %v", row)
	}

	// What has expired is forgotten.
	c.advance(time.Hour)
	v.login()
	v.get("/crm/v8/actions/watch").is(204, "")
	if row := patch(`,"events":["Deals.all"]`).is(400, "").rows("watch")[0]; row["code"] != "NOT_SUBSCRIBED" {
		t.Errorf("PATCH of an expired channel: %v", row)
	}
	v.enable(to, `"Deals.all"`, `,"token":"abc"`).is(http.StatusCreated, "")
	v.enable(to, `"Tasks.all"`, "").is(http.StatusCreated, "")
	if rows := v.get("/crm/v8/actions/watch").rows("watch"); len(rows) != 2 || rows[0]["token"] != nil {
		t.Errorf("after a second POST: %v", rows)
	}
	v.send(http.MethodDelete, "/crm/v8/actions/watch?channel_ids=1000000068001,7", "").is(http.StatusMultiStatus, "")
	v.get("/crm/v8/actions/watch").is(204, "")
}

func TestChannelsArePaged(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	var items []string
	for i := range 7 {
		items = append(items, fmt.Sprintf(`{"channel_id":%d,"events":["Deals.all"],"notify_url":"%s"}`, 10+i, to))
	}
	v.send(http.MethodPost, "/crm/v8/actions/watch", `{"watch":[`+strings.Join(items, ",")+`]}`).is(http.StatusCreated, "")
	var got []string
	for page := 1; ; page++ {
		r := v.get(fmt.Sprintf("/crm/v8/actions/watch?page=%d&per_page=3", page)).is(200, "")
		for _, row := range r.rows("watch") {
			got = append(got, row["channel_id"].(string))
		}
		if r.info()["more_records"] == false {
			break
		}
	}
	if want := []string{"10", "11", "12", "13", "14", "15", "16"}; !slices.Equal(got, want) {
		t.Errorf("channels %v, want %v", got, want)
	}
}
