package channel

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho"
	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// oneToken gives the access token that it has.
type oneToken struct{ token zoho.Token }

func (o oneToken) Token(context.Context, string) (zoho.Token, error) { return o.token, nil }

// TestAgainstZohoTest goes the whole way with the real client: what Zoho sends is
// let in, whatever happened to the channel before.
func TestAgainstZohoTest(t *testing.T) {
	t.Parallel()
	server := zohotest.New(zohotest.Options{})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	cfg := zoho.Config{
		APIURL: server.URL(), AccountsURL: server.URL(), ClientID: zohotest.ClientID, ClientSecret: zohotest.ClientSecret,
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	token, err := zoho.NewOAuth(cfg, transport, time.Now).Refresh(t.Context(), zohotest.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	client := zoho.NewClient(cfg, zoho.Options{Tokens: oneToken{token}, Transport: transport})

	var mu sync.Mutex
	var came []zohotest.Notification
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n zohotest.Notification
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		came = append(came, n)
	}))
	t.Cleanup(receiver.Close)

	s := newStation(t, of("Contacts", "Deals"), calling(receiver.URL))
	s.Keeper = New(s.pool, client, s.o)
	id := server.Create("Contacts", map[string]any{"Last_Name": "Lovelace"})
	// notified wants one notification of a change, and that the door knows it.
	notified := func(when string) {
		t.Helper()
		server.Update("Contacts", id, map[string]any{"Description": when})
		if err := server.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(came) != 1 || came[0].Token == nil || !s.opens(came[0].ChannelID, *came[0].Token) {
			t.Errorf("%s: notified by %+v, want one that the door knows", when, came)
		}
		came = nil
	}
	keep := func(want int, when string) {
		t.Helper()
		if done, err := s.Keep(t.Context()); err != nil || done != want {
			t.Errorf("%s: %d channels kept, want %d: %v", when, done, want, err)
		}
	}

	server.Fail(zohotest.Fault{Truncate: true, Times: 2})
	keep(0, "the answers broke off")
	s.want("Contacts", "pending", 1)
	notified("the answers broke off")
	s.exec(`UPDATE channels SET due_at = now()`)
	keep(2, "registered again")
	notified("registered again")
	if r := s.want("Contacts", "active", 0); time.Until(*r.ExpiresAt) < 6*24*time.Hour {
		t.Errorf("it ends at %s", r.ExpiresAt)
	}
	if _, err := s.Renew(t.Context(), nil); err != nil {
		t.Error(err)
	}
	notified("renewed")

	if err := client.DisableChannels(t.Context(), []string{s.row("Contacts").ChannelID}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Renew(t.Context(), []string{"Contacts"}); err != nil {
		t.Error(err)
	}
	notified("forgotten, and renewed")

	if err := client.DisableChannels(t.Context(), []string{s.row("Contacts").ChannelID}); err != nil {
		t.Fatal(err)
	}
	stranger := zoho.Channel{ID: "4711", Events: []string{"Contacts.all"}, NotifyURL: receiver.URL, Expires: time.Now().Add(time.Hour)}
	if _, err := client.EnableChannel(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	s.exec(`UPDATE channels SET confirmed_at = now() - interval '25 hours'`)
	keep(1, "forgotten, and not listed")
	notified("forgotten, and not listed")

	if err := s.SetEvents(t.Context(), "Contacts", []string{"edit"}); err != nil {
		t.Error(err)
	}
	notified("other events")
	if err := s.Pause(t.Context(), "Contacts"); err != nil {
		t.Error(err)
	}
	server.Update("Contacts", id, map[string]any{"Description": "paused"})
	if err := s.Resume(t.Context(), "Contacts"); err != nil {
		t.Error(err)
	}
	notified("resumed")
	if _, err := s.Remove(t.Context(), []string{"Contacts", "Deals"}); err != nil {
		t.Error(err)
	}
	if left, err := client.Channels(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	if _, err := s.Register(t.Context(), []string{"Nonsense"}, ""); err == nil || !strings.Contains(err.Error(), "Nonsense: ") {
		t.Errorf("a module that is none: %v", err)
	}
}
