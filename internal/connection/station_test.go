package connection

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/seal"
	"github.com/memrelay/memrelay/internal/zoho"
)

const (
	clientID     = "1000.CLIENT"
	clientSecret = "client-secret"
	fromEnv      = "1000.refresh.env"
	fromCode     = "1000.refresh.stored"
	memrelayKey  = "a key of sixteen or more"
)

// station is a database and an accounts server that nodes share.
type station struct {
	pool     *pgxpool.Pool
	accounts *accounts
}

func newStation(t *testing.T) *station {
	t.Helper()
	return &station{pool: dbtest.New(t), accounts: newAccounts(t)}
}

// accounts is Zoho's accounts server, as far as refreshing goes.
type accounts struct {
	*httptest.Server
	mu      sync.Mutex
	asked   int
	answer  func(w http.ResponseWriter, n int) // nil: a token
	clients map[string]int                     // how often each refresh token was used
}

func newAccounts(t *testing.T) *accounts {
	a := &accounts{clients: map[string]int{}}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.asked++
		a.clients[r.FormValue("refresh_token")]++
		n, answer := a.asked, a.answer
		a.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if answer != nil {
			answer(w, n)
			return
		}
		give(w, n)
	}))
	t.Cleanup(a.Close)
	return a
}

// give answers with the access token of that number.
func give(w http.ResponseWriter, n int) {
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": access(n), "scope": "ZohoCRM.modules.ALL ZohoCRM.org.READ", "api_domain": "https://api.invalid",
		"token_type": "Bearer", "expires_in": 3600,
	})
}

func access(n int) string { return fmt.Sprintf("1000.access.%d", n) }

// refuse answers as Zoho does to a refresh token that was revoked: with status 200.
func refuse(w http.ResponseWriter, _ int) { fmt.Fprint(w, `{"error":"invalid_code"}`) }

func tooMany(w http.ResponseWriter, _ int) {
	w.WriteHeader(http.StatusBadRequest)
	fmt.Fprint(w, `{"error_description":"You have made too many requests continuously. Please try again after some time.","error":"Access Denied","status":"failure"}`)
}

func down(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusServiceUnavailable) }

func (a *accounts) answers(with func(http.ResponseWriter, int)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = with
}

// wantAsked compares how often the server was asked so far.
func (a *accounts) wantAsked(t *testing.T, want int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked != want {
		t.Errorf("Zoho was asked %d times, want %d", a.asked, want)
	}
}

// process is a node just started: a Tokens with nothing kept. It has the grant of
// the environment unless change says otherwise.
func (s *station) process(t *testing.T, change ...func(*Settings)) *Tokens {
	t.Helper()
	return s.keyed(t, box(t), change...)
}

func (s *station) keyed(t *testing.T, box *seal.Box, change ...func(*Settings)) *Tokens {
	t.Helper()
	settings := Settings{ClientID: clientID, ClientSecret: clientSecret, RefreshToken: fromEnv}
	for _, c := range change {
		c(&settings)
	}
	at := func(url string) Refresher {
		switch {
		case url != "":
		case settings.RefreshToken == "":
			// The stored grant is known only where it was given.
			url = "http://127.0.0.1:1"
		default:
			url = s.accounts.URL
		}
		cfg := zoho.Config{AccountsURL: url, ClientID: settings.ClientID, ClientSecret: settings.ClientSecret}
		return zoho.NewOAuth(cfg, s.accounts.Client().Transport, time.Now)
	}
	tokens, err := NewTokens(s.pool, settings, box, at, options(t))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// stored takes the grant that Store wrote.
func stored(s *Settings) { s.RefreshToken = "" }

func options(t *testing.T) Options {
	return Options{
		Now: time.Now, After: time.After, Random: func() float64 { return 0.5 },
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func box(t *testing.T, keys ...string) *seal.Box {
	t.Helper()
	b, err := seal.New(keys, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// connect stores a grant as the command does, with an access token good for an hour.
func (s *station) connect(t *testing.T, box *seal.Box) {
	t.Helper()
	now := time.Now()
	err := Store(t.Context(), s.pool, box, Grant{
		ClientID: clientID, AccountsURL: s.accounts.URL,
		Token: zoho.Token{
			Access: "1000.access.connect", Refresh: fromCode, APIDomain: "https://api.invalid",
			Scopes: []string{"ZohoCRM.modules.ALL"}, Expires: now.Add(time.Hour),
		},
	}, "a person", now)
	if err != nil {
		t.Fatal(err)
	}
}

// wantToken asks for a token and compares it.
func wantToken(t *testing.T, tokens *Tokens, refused, want string) {
	t.Helper()
	got, err := tokens.Token(t.Context(), refused)
	if err != nil || got.Access != want {
		t.Errorf("token %q, %v; want %q", got.Access, err, want)
	}
}

// wantRefusal asks for a token, which is not to be had.
func wantRefusal(t *testing.T, tokens *Tokens, refused string, kind zoho.Kind) {
	t.Helper()
	_ = refusalOf(t, tokens, refused, kind) // nothing more is asked of it
}

// refusalOf asks for a token, which is not to be had, and returns the error.
func refusalOf(t *testing.T, tokens *Tokens, refused string, kind zoho.Kind) *zoho.Error {
	t.Helper()
	got, err := tokens.Token(t.Context(), refused)
	var said *zoho.Error
	if !errors.As(err, &said) || said.Kind != kind || got.Access != "" {
		t.Fatalf("token %q, error %v (kind %d); want kind %d", got.Access, err, zoho.KindOf(err), kind)
	}
	for _, secret := range []string{clientSecret, fromEnv, fromCode, memrelayKey} {
		if bytes.Contains([]byte(err.Error()), []byte(secret)) {
			t.Errorf("the error says %q: %v", secret, err)
		}
	}
	return said
}

// between fails the test unless a time is in a range.
func between(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s is %s, want %s to %s", what, got, low, high)
	}
}

// until waits until the query says true.
func (s *station) until(t *testing.T, what, query string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !one[bool](t, s, query, args...) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited a minute in vain: %s", what)
		}
	}
}

func (s *station) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
}

func one[T any](t *testing.T, s *station, query string, args ...any) T {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	return v
}
