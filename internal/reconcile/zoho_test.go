package reconcile

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/zoho"
	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// oneToken asks for an access token once.
type oneToken struct {
	oauth *zoho.OAuth
	mu    sync.Mutex
	token zoho.Token
}

func (o *oneToken) Token(ctx context.Context, refused string) (zoho.Token, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.token.Access == "" || o.token.Access == refused {
		var err error
		if o.token, err = o.oauth.Refresh(ctx, zohotest.RefreshToken); err != nil {
			return zoho.Token{}, err
		}
	}
	return o.token, nil
}

// The lists as Zoho answers them: with page tokens past the 2,000th record, times
// on another clock, lists of what is deleted, and 204 where there is nothing.
func TestAgainstZohosAPI(t *testing.T) {
	t.Parallel()
	behind := 5 * time.Minute // what changes there is no change of the last minute
	server := zohotest.New(zohotest.Options{
		Now:  func() time.Time { return time.Now().Add(-behind) },
		Rich: map[string][]string{"Notes": {"Note_Content"}},
	})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	server.Seed(30, 6, 1)
	many := make([]map[string]any, 2100)
	for i := range many {
		many[i] = map[string]any{"Last_Name": fmt.Sprint("Doe ", i)}
	}
	server.Silently().CreateAll("Contacts", many)

	cfg := zoho.Config{ClientID: zohotest.ClientID, ClientSecret: zohotest.ClientSecret, AccountsURL: server.URL(), APIURL: server.URL()}
	client := zoho.NewClient(cfg, zoho.Options{Tokens: &oneToken{oauth: zoho.NewOAuth(cfg, nil, time.Now)}})
	modules := []string{"Accounts", "Contacts", "Deals", "Tasks", "Notes", "Activities", "Meetings"}
	s := stationOn(t, dbtest.New(t), newFakeZoho(), Options{Modules: modules})
	s.Reconciler.zoho, s.perPage, s.slice = client, 0, time.Minute

	all := func() (want []string) {
		for _, module := range s.modules {
			for _, id := range server.IDs(module) {
				want = append(want, module+" "+id)
			}
		}
		return slices.Sorted(slices.Values(want))
	}
	known := func() []string {
		return slices.Sorted(slices.Values(rows[string](t, s.pool, `SELECT module || ' ' || record_id FROM records WHERE deleted_at IS NULL`)))
	}
	total := int64(len(all()))
	st := s.sync(t, Full)
	if st.Read != total || st.Expected != total || st.Changed != total || st.Gone != 0 || st.Missed != 0 || st.LastError != "" || st.Calls != server.Calls() {
		t.Fatalf("the first sync: %+v, want %d records and %d calls", st, total, server.Calls())
	}
	s.process(t)
	if diff := cmp.Diff(all(), known()); diff != "" {
		t.Fatalf("known (-want +got):\n%s", diff)
	}
	if st := s.sync(t, Full); st.Changed != 0 || st.Gone != 0 || st.Read != total {
		t.Errorf("a second look found %+v", st)
	}

	contacts, deals := server.IDs("Contacts"), server.IDs("Deals")
	quiet := server.Silently()
	quiet.Update("Contacts", contacts[0], map[string]any{"Last_Name": "Changed"})
	quiet.Create("Contacts", map[string]any{"Last_Name": "New", "Account_Name": server.IDs("Accounts")[0]})
	quiet.Delete("Deals", deals[1])
	quiet.Purge("Deals", deals[1])
	quiet.Delete("Contacts", contacts[3])
	if st := s.sync(t, Incremental); st.Kind != Incremental || st.Changed != 2 || st.Gone != 2 || st.Missed != 4 {
		t.Errorf("the incremental sync: %+v", st)
	}
	s.process(t)
	if diff := cmp.Diff(all(), known()); diff != "" {
		t.Errorf("known after an incremental sync (-want +got):\n%s", diff)
	}

	// An hour ago, as far as an incremental sync can tell: only a full one finds it.
	server.Outage(true)
	quiet.Delete("Contacts", contacts[5])
	quiet.Delete("Contacts", contacts[len(contacts)-1])
	id := s.start(t, Full)
	s.work(t, id)
	if st := s.status(t, id); st.State != Running || st.WaitsFor == "" {
		t.Errorf("while Zoho is away: %+v", st)
	}
	server.Outage(false)
	if st := s.finish(t, id); st.State != Completed || st.Gone != 2 || st.Changed != 0 {
		t.Errorf("the full sync: %+v", st)
	}
	s.process(t)
	if diff := cmp.Diff(all(), known()); diff != "" {
		t.Errorf("known in the end (-want +got):\n%s", diff)
	}
}
