package zohotest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// shapes are testdata/shapes.json.
type shapes struct {
	Shapes map[string]shape `json:"shapes"`
}

type shape struct {
	Open   bool             `json:"open"` // further fields may be there
	Fields map[string]field `json:"fields"`
}

type field struct {
	Type     string   `json:"type"`
	Required bool     `json:"required"`
	Null     bool     `json:"null"`
	Enum     []string `json:"enum"`
	Of       string   `json:"of"`
}

func readShapes(t *testing.T) shapes {
	t.Helper()
	text, err := os.ReadFile("testdata/shapes.json")
	if err != nil {
		t.Fatal(err)
	}
	var s shapes
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// check says where value does not have the shape.
func (s shapes) check(name, path string, value any) []string {
	sh, ok := s.Shapes[name]
	if !ok {
		return []string{path + ": no shape " + name}
	}
	object, ok := value.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s: %v is no object", path, value)}
	}
	var wrong []string
	for key, f := range sh.Fields {
		v, there := object[key]
		switch {
		case !there && f.Required:
			wrong = append(wrong, path+"."+key+": missing")
		case there:
			wrong = append(wrong, s.checkField(f, path+"."+key, v)...)
		}
	}
	for key := range object {
		if _, known := sh.Fields[key]; !known && !sh.Open {
			wrong = append(wrong, path+"."+key+": not in the shape "+name)
		}
	}
	return wrong
}

func (s shapes) checkField(f field, path string, v any) []string {
	if v == nil {
		if f.Null || f.Type == "any" {
			return nil
		}
		return []string{path + ": null"}
	}
	if !hasType(f.Type, v) {
		return []string{fmt.Sprintf("%s: %v (%T) is no %s", path, v, v, f.Type)}
	}
	if f.Enum != nil && !slices.Contains(f.Enum, fmt.Sprint(v)) {
		return []string{fmt.Sprintf("%s: %v is none of %v", path, v, f.Enum)}
	}
	if f.Of == "" {
		return nil
	}
	if list, ok := v.([]any); ok {
		var wrong []string
		for i, item := range list {
			wrong = append(wrong, s.check(f.Of, fmt.Sprintf("%s[%d]", path, i), item)...)
		}
		if len(list) == 0 {
			wrong = append(wrong, path+": empty, nothing was checked")
		}
		return wrong
	}
	return s.check(f.Of, path, v)
}

func hasType(name string, v any) bool {
	switch v := v.(type) {
	case string:
		switch name {
		case "digits":
			return v != "" && strings.Trim(v, "0123456789") == ""
		case "time":
			_, err := time.Parse("2006-01-02T15:04:05-07:00", v)
			return err == nil
		}
		return name == "string" || name == "any"
	case json.Number:
		_, err := v.Int64()
		return name == "any" || (name == "integer" && err == nil)
	case bool:
		return name == "boolean" || name == "any"
	case map[string]any:
		return name == "object" || name == "any"
	case []any:
		return name == "array" || name == "any"
	}
	return false
}

func TestAnswersHaveZohosShapes(t *testing.T) {
	t.Parallel()
	all := readShapes(t)
	used := map[string]bool{}
	check := func(t *testing.T, name string, r reply) {
		t.Helper()
		used[name] = true
		for _, wrong := range all.check(name, "", r.object()) {
			t.Errorf("%s: %s\n%s", name, wrong, r.body)
		}
	}
	v := visit(t, zohotest.Options{Now: newClock().now})
	s := v.s
	accounts := s.Seed(3, 4, 1)
	account := accounts[0]
	note := s.Create("Notes", map[string]any{"Note_Title": "A", "Parent_Id": account})
	task := s.Create("Tasks", map[string]any{"Subject": "A", "What_Id": account})
	gone := s.Create("Accounts", map[string]any{"Account_Name": "Gone"})
	s.Delete("Accounts", gone)
	forGood := s.Create("Accounts", map[string]any{"Account_Name": "Gone for good"})
	s.Delete("Accounts", forGood)
	s.Purge("Accounts", forGood)
	to := receive(t)

	watch := func(method, body string) reply {
		return v.send(method, "/crm/v8/actions/watch", body)
	}
	coql := func(query string) reply {
		return v.send(http.MethodPost, "/crm/v8/coql", `{"select_query":"`+query+`"}`)
	}
	creds := func(grant string, more ...string) reply {
		form := url.Values{"grant_type": {grant}, "client_id": {zohotest.ClientID}, "client_secret": {zohotest.ClientSecret}}
		for i := 0; i < len(more); i += 2 {
			form.Set(more[i], more[i+1])
		}
		return v.form(form)
	}
	const common = "fields=id,Owner,Created_By,Modified_By,Created_Time,Modified_Time,Account_Name,What_Id,Parent_Id,$se_module"
	// The order is that of the channel's life.
	for _, c := range []struct {
		shape  string
		status int
		reply  reply
	}{
		{"record list", 200, v.get("/crm/v8/Accounts?" + common)},
		{"record list", 200, v.get("/crm/v8/Accounts?fields=id&per_page=1&sort_by=Modified_Time&sort_order=asc")},
		{"record list", 200, v.get("/crm/v8/Accounts/" + account + "/Contacts?" + common)},
		{"record list", 200, v.get("/crm/v8/Tasks?" + common)},
		{"one record", 200, v.get("/crm/v8/Notes/" + note)},
		{"one record", 200, v.get("/crm/v8/Tasks/" + task + "?" + common)},
		{"deleted list", 200, v.get("/crm/v8/Accounts/deleted")},
		{"errors in data", 400, v.get("/crm/v8/Accounts/deleted?type=some")},
		{"count", 200, v.get("/crm/v8/Accounts/actions/count")},
		{"related lists", 200, v.get("/crm/v8/settings/related_lists?module=Accounts")},
		{"invalid module", 400, v.get("/crm/v8/Nothings?fields=id")},
		{"invalid module", 400, v.get("/crm/v8/Accounts/" + gone + "/Contacts?fields=id")},
		{"missing parameter", 400, v.get("/crm/v8/Accounts")},
		{"limit", 400, v.get("/crm/v8/Accounts?fields=id&page=11")},
		{"limit", 400, v.get("/crm/v8/Accounts?fields=" + manyFields(51))},
		{"error", 404, v.get("/crm/v2/Accounts")},
		{"error", 401, v.get("/crm/v8/Accounts?fields=id", "Authorization", "Zoho-oauthtoken none")},
		{"channel successes", 201, v.enable(to.URL, `"Deals.all","Accounts.create"`, `,"token":"abc"`)},
		{"channel list", 200, watch(http.MethodGet, "")},
		{"channel successes", 200, watch(http.MethodPut, `{"watch":[{"channel_id":"1000000068001","events":["Deals.all"],"notify_url":"`+to.URL+`"}]}`)},
		{"channel successes", 200, watch(http.MethodPatch, `{"watch":[{"channel_id":"1000000068001","events":["Tasks.edit"]}]}`)},
		{"channel successes", 200, watch(http.MethodPatch, `{"watch":[{"channel_id":"1000000068001","events":["Tasks.edit"],"_delete_events":true}]}`)},
		{"channel errors", 400, watch(http.MethodPost, `{"watch":[{"channel_id":"x"},{"events":["Deals.all"]}]}`)},
		{"channel error", 400, watch(http.MethodPost, `{}`)},
		{"missing parameter", 400, v.send(http.MethodDelete, "/crm/v8/actions/watch", "")},
		{"channel successes", 200, v.send(http.MethodDelete, "/crm/v8/actions/watch?channel_ids=1000000068001", "")},
		{"forgotten channels", 400, watch(http.MethodPatch, `{"watch":[{"channel_id":"1000000068001"}]}`)},
		{"coql answer", 200, coql("select id, Modified_Time, Account_Name from Accounts where id is not null")},
		{"coql syntax error", 400, coql("select id from Accounts where id ~ 3")},
		{"coql clause error", 400, coql("select id from Accounts")},
		{"coql column error", 400, coql("select Nothing from Accounts where id is not null")},
		{"coql column error", 400, coql("select id from Accounts where Modified_Time > 'soon'")},
		{"token", 200, creds("authorization_code", "code", zohotest.GrantCode)},
		{"token refused", 200, creds("refresh_token", "refresh_token", "none")},
	} {
		if c.reply.status != c.status {
			t.Errorf("%s: status %d, want %d", c.shape, c.reply.status, c.status)
		}
		check(t, c.shape, c.reply)
	}
	for range 10 {
		if r := v.refresh(); r.status != http.StatusOK {
			check(t, "token throttled", r)
		}
	}
	text := visit(t, zohotest.Options{CountAsText: true})
	check(t, "count as text", text.get("/crm/v8/Accounts/actions/count"))

	v.enable(to.URL+"?src=a", `"Deals.all"`, `,"token":"abc","return_affected_field_values":true`)
	deal := s.Create("Deals", map[string]any{"Deal_Name": "A"})
	s.Update("Deals", deal, map[string]any{"Stage": "Closed Won"})
	s.Delete("Deals", deal)
	if got := to.got(t, s); len(got) != 3 {
		t.Fatalf("%d notifications, want 3", len(got))
	}
	for _, body := range to.bodies {
		check(t, "notification", reply{t: t, body: body})
	}
	for _, name := range []string{"token throttled", "notification"} {
		if !used[name] {
			t.Errorf("no answer of the shape %q was checked", name)
		}
	}
}

func manyFields(n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("f%d", i)
	}
	return strings.Join(names, ",")
}
