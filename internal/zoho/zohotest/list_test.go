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

// wholeList reads a list to its end: by page numbers as far as they reach, then by tokens.
func wholeList(v *visitor, path string, header ...string) []string {
	v.t.Helper()
	var ids []string
	for page := 1; ; page++ {
		r := v.get(fmt.Sprintf("%s&page=%d", path, page), header...).is(200, "")
		ids = append(ids, r.ids()...)
		info := r.info()
		if page < 10 && info["more_records"] == true {
			continue
		}
		for info["more_records"] == true {
			r = v.get(fmt.Sprintf("%s&page_token=%s", path, info["next_page_token"]), header...).is(200, "")
			ids = append(ids, r.ids()...)
			info = r.info()
		}
		return ids
	}
}

func TestEveryRecordIsListedOnce(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now})
	want := v.s.Seed(5000, 0, 7)
	slices.Sort(want)
	for _, sorting := range []string{
		"", "&sort_order=asc", "&sort_by=Modified_Time&sort_order=asc", "&sort_by=Created_Time&sort_order=desc",
	} {
		t.Run(sorting, func(t *testing.T) {
			got := wholeList(v, "/crm/v8/Accounts?fields=Account_Name"+sorting)
			switch sorting {
			case "":
				if !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) {
					t.Error("by default the highest id does not come first")
				}
			case "&sort_order=asc":
				if !slices.IsSorted(got) {
					t.Error("ids do not rise")
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%d ids, want each of %d once", len(got), len(want))
			}
		})
	}
}

func TestPageTokenGoesOnBehindADeletedRecord(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	ids := v.s.Seed(6, 0, 1)
	r := v.get("/crm/v8/Accounts?fields=id&per_page=3&sort_order=asc").is(200, "")
	v.s.Delete("Accounts", ids[2])
	r = v.get(fmt.Sprintf("/crm/v8/Accounts?fields=id&per_page=3&sort_order=asc&page_token=%s", r.info()["next_page_token"])).is(200, "")
	if got := r.ids(); !slices.Equal(got, ids[3:]) {
		t.Errorf("second page %v, want %v", got, ids[3:])
	}
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now})
	v.s.Seed(5, 0, 1)
	token := fmt.Sprint(v.get("/crm/v8/Accounts?fields=id&per_page=2").info()["next_page_token"])
	for _, tc := range []struct{ query, code string }{
		{"", "REQUIRED_PARAM_MISSING"},
		{"fields=" + manyFields(51), "LIMIT_EXCEEDED"},
		{"fields=id&per_page=201", "INVALID_DATA"},
		{"fields=id&page=0", "INVALID_DATA"},
		{"fields=id&page=11", "DISCRETE_PAGINATION_LIMIT_EXCEEDED"},
		{"fields=id&page=41&per_page=50", "DISCRETE_PAGINATION_LIMIT_EXCEEDED"},
		{"fields=id&sort_by=Account_Name", "INVALID_DATA"},
		{"fields=id&per_page=2&page=2&page_token=" + token, "AMBIGUITY_DURING_PROCESSING"},
		{"fields=id&per_page=2&sort_order=asc&page_token=" + token, "TOKEN_BOUND_DATA_MISMATCH"},
		{"fields=id&per_page=2&page_token=nonsense", "TOKEN_BOUND_DATA_MISMATCH"},
	} {
		v.t = t
		v.get("/crm/v8/Accounts?"+tc.query).is(400, tc.code)
	}
	v.get("/crm/v8/Accounts?fields=id&page=10").is(204, "")
	v.get("/crm/v8/Accounts?fields=id", "If-Modified-Since", "Tue, 3 Nov 2026 09:30:00 GMT").is(400, "PATTERN_NOT_MATCHED")

	c.advance(24*time.Hour - time.Second)
	v.login()
	v.get("/crm/v8/Accounts?fields=id&per_page=2&page_token="+token).is(200, "")
	c.advance(time.Second)
	v.get("/crm/v8/Accounts?fields=id&per_page=2&page_token="+token).is(400, "EXPIRED_VALUE")
}

func TestListSince(t *testing.T) {
	t.Parallel()
	c := newClock()
	ids := map[string]string{}
	make := func(o zohotest.Options) *visitor {
		o.Now = c.now
		v := visit(t, o)
		c.advance(time.Minute)
		ids["old"] = v.s.Create("Accounts", nil)
		c.advance(time.Minute)
		ids["edge"] = v.s.Create("Accounts", nil)
		c.advance(time.Minute)
		ids["new"] = v.s.Create("Accounts", nil)
		return v
	}
	list := func(v *visitor, at time.Time) reply {
		return v.get("/crm/v8/Accounts?fields=id&sort_order=asc", "If-Modified-Since", at.Format(time.RFC3339))
	}
	v := make(zohotest.Options{})
	edge := c.now().Add(-time.Minute)
	if got, want := list(v, edge).ids(), []string{ids["edge"], ids["new"]}; !slices.Equal(got, want) {
		t.Errorf("since the edge: %v, want %v", got, want)
	}
	v.s.Update("Accounts", ids["old"], map[string]any{"Phone": "1"})
	if got, want := list(v, c.now()).ids(), []string{ids["old"], ids["new"]}; !slices.Equal(got, want) {
		t.Errorf("after a change: %v, want %v", got, want)
	}
	list(v, c.now().Add(time.Second)).is(http.StatusNoContent, "")

	v = make(zohotest.Options{StrictSince: true, NotModified: true})
	edge = c.now().Add(-time.Minute)
	if got, want := list(v, edge).ids(), []string{ids["new"]}; !slices.Equal(got, want) {
		t.Errorf("strictly since the edge: %v, want %v", got, want)
	}
	list(v, c.now()).is(http.StatusNotModified, "")
}

func TestRecordsShowWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 600)
	v := visit(t, zohotest.Options{Rich: map[string][]string{"Notes": {"Note_Content"}}})
	account := v.s.Create("Accounts", map[string]any{"Account_Name": "Alder Foods", "Custom__c": 3})
	contact := v.s.Create("Contacts", map[string]any{"First_Name": "Inés", "Last_Name": "Costa", "Account_Name": account})
	note := v.s.Create("Notes", map[string]any{"Note_Content": long, "Parent_Id": account})

	row := v.get("/crm/v8/Contacts?fields=Full_Name,Account_Name,Phone,Nothing").rows("data")[0]
	if len(row) != 4 || row["Full_Name"] != "Inés Costa" || row["Phone"] != nil || row["id"] != contact {
		t.Errorf("contact: %v", row)
	}
	v.s.Update("Accounts", account, map[string]any{"Account_Name": "Alder Foods AB"})
	row = v.get("/crm/v8/Contacts/" + contact).rows("data")[0]
	if link := row["Account_Name"].(map[string]any); link["id"] != account || link["name"] != "Alder Foods AB" {
		t.Errorf("the lookup does not follow its account: %v", link)
	}
	if _, ok := row["Created_Time"]; !ok {
		t.Errorf("a record alone does not show all: %v", row)
	}
	content := func(path string) int {
		return len([]rune(v.get(path).rows("data")[0]["Note_Content"].(string)))
	}
	for path, want := range map[string]int{
		"/crm/v8/Notes?fields=Note_Content":                             500,
		"/crm/v8/Notes?fields=Note_Content&ids=" + note:                 500,
		"/crm/v8/Accounts/" + account + "/Notes?fields=Note_Content":    500,
		"/crm/v8/Notes/" + note + "?fields=Note_Content":                600,
		"/crm/v8/Accounts/" + account + "/Contacts?fields=Note_Content": -1,
	} {
		if want > 0 && content(path) != want {
			t.Errorf("%s: %d characters, want %d", path, content(path), want)
		}
	}
	v.s.Delete("Accounts", account)
	v.get("/crm/v8/Accounts/"+account).is(204, "")
	if link := v.get("/crm/v8/Contacts/" + contact).rows("data")[0]["Account_Name"]; link != nil {
		t.Errorf("a lookup names a deleted record: %v", link)
	}
}

func TestIDsAreBeyondWhatAFloatHolds(t *testing.T) {
	t.Parallel()
	s := zohotest.New(zohotest.Options{})
	a, b := s.Create("Accounts", nil), s.Create("Accounts", nil)
	var x, y float64
	if _, err := fmt.Sscan(a, &x); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(b, &y); err != nil {
		t.Fatal(err)
	}
	if len(a) != 19 || a == b || x != y {
		t.Errorf("ids %s and %s: whoever reads them as numbers is not found out", a, b)
	}
}

func TestListByIDs(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	ids := v.s.Seed(5, 0, 1)
	contact := v.s.Create("Contacts", map[string]any{"Last_Name": "A"})
	v.s.Delete("Accounts", ids[1])
	asked := strings.Join([]string{ids[0], ids[1], ids[4], contact, "5725767000009999999"}, ",")
	got := v.get("/crm/v8/Accounts?fields=id&sort_order=asc&ids=" + asked).ids()
	if want := []string{ids[0], ids[4]}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	v.get("/crm/v8/Accounts?fields=id&ids="+ids[1]).is(204, "")
	v.get("/crm/v8/Accounts?fields=id&ids="+strings.Repeat("1,", 100)+"1").is(400, "LIMIT_EXCEEDED")
}

func TestRelatedListsFollowLinksAndLife(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{Modules: []zohotest.Module{{
		Name: "Visits", Lookups: []zohotest.Lookup{{Field: "Place", To: []string{"Accounts"}}},
	}}})
	s := v.s
	one, two := s.Create("Accounts", nil), s.Create("Accounts", nil)
	deal := s.Create("Deals", map[string]any{"Account_Name": one})
	open := s.Create("Tasks", map[string]any{"What_Id": one, "Status": "Not Started"})
	done := s.Create("Tasks", map[string]any{"What_Id": one, "Status": "Completed"})
	visits := s.Create("Visits", map[string]any{"Place": map[string]any{"id": one}})
	expect := func(account, list string, want ...string) {
		t.Helper()
		if got := v.get("/crm/v8/Accounts/" + account + "/" + list + "?fields=id&sort_order=asc").ids(); !slices.Equal(got, want) {
			t.Errorf("%s of %s: %v, want %v", list, account, got, want)
		}
	}
	expect(one, "Deals", deal)
	expect(one, "Tasks", open)
	expect(one, "Tasks_History", done)
	expect(one, "Visits", visits)
	expect(one, "Emails")

	s.Move("Deals", deal, two)
	expect(one, "Deals")
	expect(two, "Deals", deal)
	s.Update("Tasks", open, map[string]any{"Status": "Completed"})
	expect(one, "Tasks_History", open, done)
	s.Delete("Deals", deal)
	expect(two, "Deals")
	s.Restore("Deals", deal)
	expect(two, "Deals", deal)

	names := map[string]any{}
	for _, row := range v.get("/crm/v8/settings/related_lists?module=Accounts").rows("related_lists") {
		module, _ := row["module"].(map[string]any)
		names[row["api_name"].(string)] = module["api_name"]
	}
	for name, module := range map[string]any{
		"Contacts": "Contacts", "Deals": "Deals", "Notes": "Notes", "Tasks_History": "Tasks", "Visits": "Visits",
		"Child_Accounts": "Accounts", "Emails": nil,
	} {
		if got, ok := names[name]; !ok || got != module {
			t.Errorf("related list %s holds %v, want %v", name, got, module)
		}
	}
	v.get("/crm/v8/Accounts/"+one+"/Nothings?fields=id").is(400, "INVALID_DATA")
	v.get("/crm/v8/Accounts/"+one+"/Deals").is(400, "REQUIRED_PARAM_MISSING")
}

func TestDeletedRecords(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now})
	ids := v.s.Seed(4, 0, 1)
	for _, id := range ids[:3] {
		c.advance(time.Minute)
		v.s.Delete("Accounts", id)
	}
	v.s.Restore("Accounts", ids[0])
	c.advance(time.Minute)
	v.s.Purge("Accounts", ids[1])
	for query, want := range map[string][]string{
		"":                      {ids[1], ids[2]},
		"?type=recycle":         {ids[2]},
		"?type=permanent":       {ids[1]},
		"?per_page=1&page=2":    {ids[2]},
		"?type=all&per_page=10": {ids[1], ids[2]},
	} {
		if got := v.get("/crm/v8/Accounts/deleted" + query).ids(); !slices.Equal(got, want) {
			t.Errorf("deleted%s: %v, want %v", query, got, want)
		}
	}
	before := v.s.Credits()
	v.get("/crm/v8/Accounts/deleted", "If-Modified-Since", c.now().Add(time.Second).Format(time.RFC3339)).is(204, "")
	if spent := v.s.Credits() - before; spent != 2 {
		t.Errorf("it cost %d credits, want 2", spent)
	}
	if n := v.s.Len("Accounts"); n != 2 {
		t.Errorf("%d accounts are left, want 2", n)
	}
}
