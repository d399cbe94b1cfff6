package zoho

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestGet(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		want    string // the name found; "": nothing is
		kind    Kind
	}{
		{"there", saying(200, `{"data":[{"id":"7","Account_Name":"Acme"}]}`), `"Acme"`, 0},
		{"there, by number", saying(200, `{"data":[{"id":7,"Account_Name":"Acme"}]}`), `"Acme"`, 0},
		{"not there", saying(204, ""), "", 0},
		{"not there, in words", saying(400, problemOf("INVALID_DATA", "the record does not exist")), "", 0},
		{"not there, within data", saying(404, `{"data":[`+problemOf("INVALID_DATA", "The record does not exist")+`]}`), "", 0},
		{"refused", saying(400, problemOf("INVALID_DATA", "the id given seems to be invalid")), "", KindInvalid},
		{"another record", saying(200, `{"data":[{"id":"8"}]}`), "", KindInvalid},
		{"no records", saying(200, `{"data":[7]}`), "", KindUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, _ := clientOf(t, tc.handler)
			got, err := c.Get(t.Context(), "Accounts", "7")
			if KindOf(err) != tc.kind || string(got["Account_Name"]) != tc.want || (got == nil) != (tc.want == "") {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// thousands is a Zoho with n records, whose page numbers reach as far as the real
// ones, and whose answers are as long as size says.
type thousands struct {
	n     int
	size  func(i int) int // bytes of record i; nil: few
	bound bool            // a page token is good for pages of its own size only
	mute  bool            // no page tokens are given
	asked []string        // page or token, and per_page
}

func (z *thousands) serve(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	per, _ := strconv.Atoi(q.Get("per_page"))
	var from int
	if token := q.Get("page_token"); token != "" {
		var size int
		_, _ = fmt.Sscanf(token, "after-%d.%d", &from, &size)
		z.asked = append(z.asked, fmt.Sprintf("token %d/%d", from, per))
		if q.Get("page") != "" {
			saying(400, problemOf("AMBIGUITY_DURING_PROCESSING", "page and page_token"))(w, r)
			return
		}
		if z.bound && size != per {
			saying(400, problemOf("TOKEN_BOUND_DATA_MISMATCH", "another size"))(w, r)
			return
		}
	} else {
		page, _ := strconv.Atoi(q.Get("page"))
		z.asked = append(z.asked, fmt.Sprintf("page %d/%d", page, per))
		from = (page - 1) * per
		if page*per > 2000 {
			saying(400, problemOf("DISCRETE_PAGINATION_LIMIT_EXCEEDED", "2000"))(w, r)
			return
		}
	}
	to := min(from+per, z.n)
	if from >= to {
		saying(204, "")(w, r)
		return
	}
	var rows []string
	for i := from; i < to; i++ {
		pad := 0
		if z.size != nil {
			pad = z.size(i)
		}
		rows = append(rows, fmt.Sprintf(`{"id":"%d","Pad":"%s"}`, i, strings.Repeat("x", pad)))
	}
	token := "null"
	if to < z.n && !z.mute {
		token = fmt.Sprintf(`"after-%d.%d"`, to, per)
	}
	saying(200, fmt.Sprintf(`{"data":[%s],"info":{"more_records":%v,"next_page_token":%s}}`,
		strings.Join(rows, ","), to < z.n, token))(w, r)
}

// listAll reads a list to its end and returns the ids.
func listAll(t *testing.T, c *Client, perPage int) ([]int, error) {
	t.Helper()
	var ids []int
	var cur Cursor
	for range 5000 {
		page, err := c.List(t.Context(), "Contacts", ListOptions{Cursor: cur, PerPage: perPage})
		if err != nil {
			return ids, err
		}
		for _, r := range page.Records {
			id, _ := strconv.Atoi(r.ID())
			ids = append(ids, id)
		}
		if page.Next == "" {
			return ids, nil
		}
		cur = page.Next
	}
	t.Fatal("the list has no end")
	return nil, nil
}

func TestListReadsEachRecordOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		zoho    thousands
		perPage int
		calls   int64 // at most
	}{
		{"none", thousands{}, 0, 1},
		{"one page", thousands{n: 200}, 0, 1},
		{"by numbers", thousands{n: 2000}, 0, 10},
		{"past the numbers", thousands{n: 2001}, 0, 11},
		{"far past the numbers", thousands{n: 5300, bound: true}, 500, 27},
		{"by pages that do not divide the numbers", thousands{n: 2450}, 150, 17},
		{"one by one", thousands{n: 30}, 1, 30},
		{"all rather large", thousands{n: 730, size: func(int) int { return 300 }}, 0, 50},
		{"some very large", thousands{n: 2900, size: func(i int) int {
			if i%97 == 5 {
				return 9000
			}
			return 10
		}}, 0, 140},
		{"one very large, odd pages", thousands{n: 500, size: func(i int) int {
			if i == 333 {
				return 9000
			}
			return 60
		}}, 75, 60},
		{"one very large at the end of the numbers", thousands{n: 2300, size: func(i int) int {
			if i == 1999 || i == 2000 {
				return 9900
			}
			return 10
		}}, 0, 30},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, _ := clientOf(t, tc.zoho.serve, func(o *Options) { o.MaxAnswer = 10_200 })
			got, err := listAll(t, c, tc.perPage)
			if err != nil {
				t.Fatal(err)
			}
			want := make([]int, tc.zoho.n)
			for i := range want {
				want[i] = i
			}
			if !slices.Equal(want, got) {
				t.Errorf("%d records, want %d in order, each once; asked %v", len(got), len(want), tc.zoho.asked)
			}
			if c.Calls() > tc.calls {
				t.Errorf("%d calls, want at most %d: %v", c.Calls(), tc.calls, tc.zoho.asked)
			}
		})
	}
}

func TestARecordThatIsTooLarge(t *testing.T) {
	t.Parallel()
	at := func(n int) func(int) int {
		return func(i int) int {
			if i == n {
				return 9000
			}
			return 0
		}
	}
	for _, tc := range []struct {
		name  string
		zoho  thousands
		found int
		words string
	}{
		{"by numbers", thousands{n: 100, size: at(42)}, 42, "page 43 of 1 records"},
		{"by tokens", thousands{n: 2100, size: at(2007)}, 2007, "a page of 1 records after the first 2000"},
		{"by tokens that are bound", thousands{n: 2100, size: at(2007), bound: true}, 2000, "a page of 100 records after the first 2000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, _ := clientOf(t, tc.zoho.serve, func(o *Options) { o.MaxAnswer = 8000 })
			perPage := 100
			got, err := listAll(t, c, perPage)
			if len(got) != tc.found || KindOf(err) != KindTooLarge || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("%v after %d records; asked %v", err, len(got), tc.zoho.asked)
			}
		})
	}
}

func TestAListThatWouldBeCutShort(t *testing.T) {
	t.Parallel()
	zoho := thousands{n: 2500, mute: true}
	c, _ := clientOf(t, zoho.serve)
	if got, err := listAll(t, c, 0); KindOf(err) != KindUnavailable || len(got) >= 2000 {
		t.Errorf("%d records, %v: want an error and not the end", len(got), err)
	}
}

func TestCursorsOfOthers(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, recordsOf("1"))
	for _, cur := range []Cursor{"7", "o", "o1", "o1.", "o-1.5", "o1.0", "ox.5", "t5.", "tx.y", "z5.5"} {
		if _, err := c.List(t.Context(), "Contacts", ListOptions{Cursor: cur}); KindOf(err) != KindInvalid || c.Calls() != 0 {
			t.Errorf("%q: %v", cur, err)
		}
	}
}

// asking is a Zoho that says the same to everybody and notes the questions.
func asking(body string, asked *[]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		question := r.URL.Path + "?" + r.URL.Query().Encode()
		if since := r.Header.Get("If-Modified-Since"); since != "" {
			question += " since " + since
		}
		*asked = append(*asked, question)
		saying(200, body)(w, r)
	}
}

func TestListQuestions(t *testing.T) {
	t.Parallel()
	var asked []string
	c, _ := clientOf(t, asking(`{"data":[{"id":"1"}],"info":{"more_records":false}}`, &asked), func(o *Options) {
		o.Fields = map[string][]string{"Contacts": {"Email"}, "Deals": {"Stage"}}
	})
	since := time.Date(2026, 11, 22, 12, 0, 0, 999_999_999, time.FixedZone("", 19800))
	for _, err := range []error{
		second(c.List(t.Context(), "Contacts", ListOptions{Since: since, ByID: true, PerPage: 7})),
		second(c.Related(t.Context(), "Accounts", "42", "Deals", "Deals", "")),
		second(c.Deleted(t.Context(), "Contacts", since, "")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if d := cmp.Diff([]string{
		"/crm/v8/Contacts?fields=Email%2CAccount_Name%2COwner%2CModified_Time&page=1&per_page=7&sort_by=id&sort_order=asc since 2026-11-22T06:30:00+00:00",
		"/crm/v8/Accounts/42/Deals?fields=Stage%2CAccount_Name%2CContact_Name%2COwner%2CModified_Time&page=1&per_page=200",
		"/crm/v8/Contacts/deleted?page=1&per_page=200&type=all since 2026-11-22T06:30:00+00:00",
	}, asked); d != "" {
		t.Error(d)
	}
}

// TestWhatIsNotShownIsNotGone: what is read as nothing is deleted.
func TestWhatIsNotShownIsNotGone(t *testing.T) {
	t.Parallel()
	const end = `"info":{"more_records":false}`
	for _, tc := range []struct {
		body   string
		isPage bool // the empty end of a list
	}{
		{`{}`, false},
		{`{"info":{"more_records":false,"count":0}}`, false},
		{`{"data":null,` + end + `}`, false},
		{`{"data":{},` + end + `}`, false},
		{`{"data":[]}`, false},
		{`{"data":[],"info":{}}`, false},
		{`{"data":[],"info":{"more_records":null}}`, false},
		{`{"data":[],"info":{"more_records":true,"count":0}}`, false},
		{`{"data":[],"info":{"more_records":false,"count":3}}`, false},
		{`{"data":[],` + end + `}`, true},
		{`{"data":[],"info":{"more_records":false,"count":0}}`, true},
		{`{"status":"failure","message":"maintenance"}`, false},
		{`{"status":"error","message":"x"}`, false},
		{`{"status":"Failure","data":[],` + end + `}`, false},
		{`{"data":[{"status":"error"}],` + end + `}`, false},
	} {
		t.Run(tc.body, func(t *testing.T) {
			t.Parallel()
			c, _ := clientOf(t, saying(200, tc.body))
			errs := map[string]error{}
			_, errs["get"] = c.Get(t.Context(), "Accounts", "7")
			_, errs["read"] = c.Read(t.Context(), "Accounts", []string{"7"})
			_, errs["related lists"] = c.RelatedLists(t.Context(), "Accounts")
			_, errs["channels"] = c.Channels(t.Context())
			for name, err := range errs {
				if KindOf(err) != KindUnavailable {
					t.Errorf("%s: %v", name, err)
				}
			}
			clear(errs)
			_, errs["list"] = c.List(t.Context(), "Accounts", ListOptions{})
			_, errs["list from a token"] = c.List(t.Context(), "Accounts", ListOptions{Cursor: "t200.x"})
			_, errs["related"] = c.Related(t.Context(), "Accounts", "7", "Deals", "Deals", "")
			_, errs["deleted"] = c.Deleted(t.Context(), "Accounts", time.Time{}, "")
			_, _, errs["query"] = c.Query(t.Context(), "select id from Accounts")
			for name, err := range errs {
				if (err == nil) != tc.isPage || (err != nil && KindOf(err) != KindUnavailable) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestRecordsWithoutAnID(t *testing.T) {
	t.Parallel()
	for _, row := range []string{`null`, `{}`, `{"id":null}`, `{"id":"1"},{"Account_Name":"Acme"}`} {
		c, _ := clientOf(t, saying(200, `{"data":[`+row+`],"info":{"more_records":false}}`))
		errs := map[string]error{}
		_, errs["get"] = c.Get(t.Context(), "Accounts", "1")
		_, errs["read"] = c.Read(t.Context(), "Accounts", []string{"7"})
		_, errs["list"] = c.List(t.Context(), "Accounts", ListOptions{})
		_, errs["deleted"] = c.Deleted(t.Context(), "Accounts", time.Time{}, "")
		for name, err := range errs {
			if KindOf(err) != KindUnavailable {
				t.Errorf("%s of %s: %v", name, row, err)
			}
		}
	}
	// A count in COQL has none.
	c, _ := clientOf(t, saying(200, `{"data":[{"COUNT(id)":7}],"info":{"more_records":false}}`))
	if records, _, err := c.Query(t.Context(), "select COUNT(id) from Accounts"); err != nil || len(records) != 1 {
		t.Errorf("%v, %v", records, err)
	}
}

func TestListsThatAreNone(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, saying(200, `{"related_lists":null,"watch":null}`))
	if _, err := c.RelatedLists(t.Context(), "Accounts"); KindOf(err) != KindUnavailable {
		t.Errorf("related lists: %v", err)
	}
	if _, err := c.Channels(t.Context()); KindOf(err) != KindUnavailable {
		t.Errorf("channels: %v", err)
	}
	c, _ = clientOf(t, saying(200, `{"watch":[],"info":{"more_records":true}}`))
	if _, err := c.Channels(t.Context()); KindOf(err) != KindUnavailable {
		t.Errorf("channels that are cut: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestNothingIsListed(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"204": saying(204, ""), "304": saying(304, ""),
		"a parent that is gone": saying(404, problemOf("INVALID_DATA", "The record does not exist")),
	} {
		c, _ := clientOf(t, h)
		page, err := c.Related(t.Context(), "Accounts", "42", "Deals", "Deals", "")
		if err != nil || len(page.Records) != 0 || page.Next != "" {
			t.Errorf("%s: %v, %v", name, page, err)
		}
	}
}

func TestDeleted(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, inTurn(
		saying(200, `{"data":[
			{"deleted_by":{"id":"1"},"id":"9007199254740993","display_name":"Acme","type":"recycle","deleted_time":"2026-11-22T16:00:00+05:30"},
			{"deleted_by":null,"id":9007199254740995,"display_name":null,"type":"permanent","deleted_time":"long ago"}],
			"info":{"more_records":true,"page":1,"per_page":200}}`),
		saying(204, ""),
	))
	page, err := c.Deleted(t.Context(), "Accounts", time.Time{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for i := range page.Records {
		page.Records[i].DeletedAt = page.Records[i].DeletedAt.UTC()
	}
	if d := cmp.Diff([]DeletedRecord{
		{ID: "9007199254740993", Name: "Acme", Type: "recycle", DeletedAt: time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC)},
		{ID: "9007199254740995", Type: "permanent"},
	}, page.Records); d != "" {
		t.Error(d)
	}
	if page, err = c.Deleted(t.Context(), "Accounts", time.Time{}, page.Next); err != nil || len(page.Records) > 0 || page.Next != "" {
		t.Errorf("the second page: %v, %v", page, err)
	}
}

// The list of what is gone knows page numbers only.
func TestDeletedGoesOnPastTwoThousand(t *testing.T) {
	t.Parallel()
	var last string
	c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		last = r.URL.Query().Get("page")
		saying(200, `{"data":[{"id":"1"}],"info":{"more_records":true}}`)(w, r)
	})
	var page DeletedPage
	for i := range 15 {
		var err error
		if page, err = c.Deleted(t.Context(), "Accounts", time.Time{}, page.Next); err != nil || last != strconv.Itoa(i+1) {
			t.Fatalf("page %d is page %s, %v", i+1, last, err)
		}
	}
}

func TestRelatedLists(t *testing.T) {
	t.Parallel()
	var asked []string
	c, clock := clientOf(t, inTurn(saying(403, problemOf("NO_PERMISSION", "no")), asking(`{"related_lists":[
		{"api_name":"Contacts","module":{"api_name":"Contacts","id":"7"}},
		{"api_name":"Notes","module":"Notes"},
		{"api_name":"Emails","module":null},
		{"api_name":"Zoho_Desk"}]}`, &asked)))
	if _, err := c.RelatedLists(t.Context(), "Accounts"); KindOf(err) != KindForbidden {
		t.Errorf("not permitted: %v", err)
	}
	want := []RelatedList{{"Contacts", "Contacts"}, {"Notes", "Notes"}, {"Emails", ""}, {"Zoho_Desk", ""}}
	for range 3 {
		got, err := c.RelatedLists(t.Context(), "Accounts")
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v\n%s", err, d)
		}
		got[0].APIName = "changed by who got it"
	}
	if _, err := c.RelatedLists(t.Context(), "Deals"); err != nil {
		t.Error(err)
	}
	clock.Advance(24 * time.Hour)
	if _, err := c.RelatedLists(t.Context(), "Accounts"); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]string{
		"/crm/v8/settings/related_lists?module=Accounts", "/crm/v8/settings/related_lists?module=Deals",
		"/crm/v8/settings/related_lists?module=Accounts",
	}, asked); d != "" {
		t.Error(d)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]int64{`{"count":7}`: 7, `{"count":"9007199254740993"}`: 9007199254740993} {
		var asked []string
		c, _ := clientOf(t, asking(body, &asked))
		got, err := c.Count(t.Context(), "Accounts")
		if got != want || err != nil || asked[0] != "/crm/v8/Accounts/actions/count?" {
			t.Errorf("%s: %d, %v, asked %s", body, got, err, asked)
		}
	}
}

func TestQueryOfNothing(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, saying(204, ""))
	if records, more, err := c.Query(t.Context(), "select id from Accounts"); len(records) != 0 || more || err != nil {
		t.Errorf("%v %v %v", records, more, err)
	}
}

func TestDefaultFields(t *testing.T) {
	t.Parallel()
	must := map[string][]string{
		"Accounts": {"Account_Name", "Parent_Account", "Account_Type", "Industry", "Annual_Revenue"},
		"Contacts": {"Account_Name", "Last_Name", "Email"},
		"Deals":    {"Account_Name", "Contact_Name", "Stage", "Amount"},
		"Tasks":    {"What_Id", "Who_Id", "$se_module", "Subject"},
		"Events":   {"What_Id", "Who_Id", "$se_module", "Event_Title"},
		"Meetings": {"What_Id", "Who_Id", "$se_module", "Event_Title"},
		"Calls":    {"What_Id", "Who_Id", "$se_module", "Subject"},
		"Notes":    {"Parent_Id", "$se_module", "Note_Content"},
		"Rockets":  {"Name"},
	}
	c := NewClient(Config{}, Options{})
	for module, want := range must {
		got := DefaultFields(module)
		if d := cmp.Diff(got, c.Fields(module)); d != "" {
			t.Errorf("%s\n%s", module, d)
		}
		if len(got) > MaxFields {
			t.Errorf("%s has %d fields", module, len(got))
		}
		seen := map[string]bool{}
		for _, f := range got {
			if f == "" || seen[f] {
				t.Errorf("%s: %q is there twice or empty", module, f)
			}
			seen[f] = true
		}
		for _, f := range append(want, "Owner", "Modified_Time", "Created_Time") {
			if !seen[f] {
				t.Errorf("%s lacks %s", module, f)
			}
		}
	}
}

func TestFieldsThatWereAskedFor(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 60 {
		many = append(many, fmt.Sprintf("F%02d", i))
	}
	full := append(slices.Clone(many[:48]), "Owner", "$se_module")
	c := NewClient(Config{}, Options{Fields: map[string][]string{
		"Notes": {"Note_Title", "Owner", "Note_Title", ""}, "Tasks": many, "Calls": full,
	}})
	for module, want := range map[string][]string{
		"Notes": {"Note_Title", "Owner", "Parent_Id", "$se_module", "Modified_Time"},
		"Tasks": append(slices.Clone(many[:45]), "What_Id", "Who_Id", "$se_module", "Owner", "Modified_Time"),
		"Calls": append(slices.Clone(many[:45]), "Owner", "$se_module", "What_Id", "Who_Id", "Modified_Time"),
	} {
		if d := cmp.Diff(want, c.Fields(module)); d != "" {
			t.Errorf("%s\n%s", module, d)
		}
	}
}
