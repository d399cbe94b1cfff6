package access_test

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/respond"
)

const adminToken = "an-admin-token-of-some-length"

// gate is an Access on a database of its own, with a clock that stands still
// until it is set.
type gate struct {
	pool   *pgxpool.Pool
	access *access.Access
	tokens *access.Tokens

	mu  sync.Mutex
	now time.Time
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{pool: dbtest.New(t), now: time.Now().Truncate(time.Second)}
	g.access = access.New(g.pool, adminToken, g.clock)
	g.tokens = access.NewTokens(g.pool, rand.Reader, g.clock)
	t.Cleanup(g.access.Wait)
	return g
}

func (g *gate) clock() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *gate) later(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = g.now.Add(d)
}

func (g *gate) create(t *testing.T, n access.NewToken) (string, access.Token) {
	t.Helper()
	secret, token, err := g.tokens.Create(t.Context(), "ada", n)
	if err != nil {
		t.Fatal(err)
	}
	return secret, token
}

func with(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func (g *gate) enter(t *testing.T, header http.Header) (access.Identity, error) {
	t.Helper()
	return g.access.Authenticate(t.Context(), header)
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	all, _ := g.create(t, access.NewToken{Name: "all"})
	some, ending := g.create(t, access.NewToken{Name: "some", UserIDs: []string{"zoho:77", "ada", "ada"}, Scopes: []string{access.AdminRead, access.Memory}, Lasts: time.Hour})
	revoked, _ := g.create(t, access.NewToken{Name: "revoked"})
	if _, _, err := g.tokens.Revoke(t.Context(), "ada", "revoked"); err != nil {
		t.Fatal(err)
	}
	expired, _ := g.create(t, access.NewToken{Name: "expired", Lasts: time.Second})
	g.later(time.Second)

	for _, tc := range []struct {
		name   string
		header http.Header
		want   access.Identity
		err    error
	}{
		{"a token for everybody", with(all), access.Identity{Actor: "token/all", Scopes: []string{"memory"}, UserIDs: []string{}, All: true}, nil},
		{"a token for some", with(some), access.Identity{Actor: "token/some", Scopes: []string{"admin:read", "memory"}, UserIDs: []string{"ada", "zoho:77"}, Until: ending.ExpiresAt}, nil},
		{"the scheme in another case", http.Header{"Authorization": {"bEARER  " + all + " "}}, access.Identity{Actor: "token/all", Scopes: []string{"memory"}, UserIDs: []string{}, All: true}, nil},
		{"ADMIN_TOKEN", with(adminToken), access.Identity{Actor: "admin", Scopes: access.Scopes(), All: true}, nil},
		{"a part of ADMIN_TOKEN", with(adminToken[:len(adminToken)-1]), access.Identity{}, access.ErrUnauthorized},
		{"no header", nil, access.Identity{}, access.ErrUnauthorized},
		{"two headers", http.Header{"Authorization": {"Bearer " + all, "Bearer " + all}}, access.Identity{}, access.ErrUnauthorized},
		{"another scheme", http.Header{"Authorization": {"Basic " + all}}, access.Identity{}, access.ErrUnauthorized},
		{"no scheme", http.Header{"Authorization": {all}}, access.Identity{}, access.ErrUnauthorized},
		{"a scheme alone", http.Header{"Authorization": {"Bearer "}}, access.Identity{}, access.ErrUnauthorized},
		{"a token that nobody made", with("mrt_" + strings.Repeat("A", 43)), access.Identity{}, access.ErrUnauthorized},
		{"a token that is too long", with(all + "A"), access.Identity{}, access.ErrUnauthorized},
		{"a token of another kind", with("whsec_" + strings.Repeat("A", 41)), access.Identity{}, access.ErrUnauthorized},
		{"a token that has expired", with(expired), access.Identity{}, access.ErrUnauthorized},
		{"a token that was revoked", with(revoked), access.Identity{}, access.ErrUnauthorized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := g.enter(t, tc.header)
			if diff := cmp.Diff(tc.want, got); diff != "" || !errors.Is(err, tc.err) || (err != nil && tc.err == nil) {
				t.Errorf("%v, want %v; identity (-want +got):\n%s", err, tc.err, diff)
			}
		})
	}
}

func TestWithoutAnAdminTokenNobodyIsAdmin(t *testing.T) {
	t.Parallel()
	a := access.New(dbtest.New(t), "", time.Now)
	for _, header := range []http.Header{nil, with(""), with(adminToken), {"Authorization": {"Bearer"}}} {
		if got, err := a.Authenticate(t.Context(), header); !errors.Is(err, access.ErrUnauthorized) {
			t.Errorf("%v is %+v, %v", header, got, err)
		}
	}
}

// What is kept proves nothing: whoever reads the table cannot use the tokens.
func TestOnlyTheHashIsKept(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	secret, token := g.create(t, access.NewToken{Name: "bot"})
	var hash []byte
	var row, log string
	err := g.pool.QueryRow(t.Context(), `SELECT hash, to_jsonb(t)::text, (SELECT string_agg(to_jsonb(a)::text, '') FROM audit_log a) FROM api_tokens t`).Scan(&hash, &row, &log)
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256([]byte(secret)); string(hash) != string(want[:]) {
		t.Error("the hash is not the token's SHA-256")
	}
	if strings.Contains(row+log, secret[4:20]) {
		t.Error("a part of the token is kept")
	}
	if _, err := g.enter(t, with(fmt.Sprintf("%x", hash))); !errors.Is(err, access.ErrUnauthorized) {
		t.Errorf("the hash is a key: %v", err)
	}
	if want := `"object": "token/` + token.ID.String() + `"`; !strings.Contains(log, want) || !strings.Contains(log, `"actor": "ada"`) {
		t.Errorf("audited %s", log)
	}
}

// lastUsed waits for the writes under way and returns what was kept.
func (g *gate) lastUsed(t *testing.T) time.Time {
	t.Helper()
	g.access.Wait()
	var at *time.Time
	if err := g.pool.QueryRow(t.Context(), `SELECT last_used_at FROM api_tokens`).Scan(&at); err != nil {
		t.Fatal(err)
	}
	if at == nil {
		return time.Time{}
	}
	return *at
}

func TestLastUseIsKeptToTheMinute(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	secret, _ := g.create(t, access.NewToken{Name: "bot"})
	if got := g.lastUsed(t); !got.IsZero() {
		t.Errorf("used at %s before it was", got)
	}
	first := g.clock()
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if _, err := g.enter(t, with(secret)); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if got := g.lastUsed(t); !got.Equal(first) {
		t.Errorf("used at %s, want %s", got, first)
	}
	var version string // changes with every write of the row
	row := `SELECT xmin::text FROM api_tokens`
	if err := g.pool.QueryRow(t.Context(), row).Scan(&version); err != nil {
		t.Fatal(err)
	}
	g.later(59 * time.Second)
	other := access.New(g.pool, "", g.clock) // one more node
	for _, a := range []*access.Access{g.access, other} {
		if _, err := a.Authenticate(t.Context(), with(secret)); err != nil {
			t.Fatal(err)
		}
		a.Wait()
	}
	var again string
	if err := g.pool.QueryRow(t.Context(), row).Scan(&again); err != nil || again != version {
		t.Errorf("written again within the minute (%v)", err)
	}
	g.later(time.Second)
	if _, err := g.enter(t, with(secret)); err != nil {
		t.Fatal(err)
	}
	if got, want := g.lastUsed(t), first.Add(time.Minute); !got.Equal(want) {
		t.Errorf("used at %s, want %s", got, want)
	}
}

// A row that somebody holds must not hold the requests of its token.
func TestNoRequestWaitsForWhenATokenWasUsed(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	secret, _ := g.create(t, access.NewToken{Name: "bot"})
	err := pgx.BeginFunc(t.Context(), g.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SELECT FROM api_tokens FOR UPDATE`); err != nil {
			return err
		}
		// Waiting it would wait for this very transaction, until it gave up.
		began := time.Now()
		_, err := g.enter(t, with(secret))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("took %s", took)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := g.lastUsed(t); !got.Equal(g.clock()) {
		t.Errorf("used at %s, want %s", got, g.clock())
	}
}

func TestTokensThatCannotBeMade(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	g.create(t, access.NewToken{Name: "bot"})
	for _, tc := range []struct {
		name string
		n    access.NewToken
		err  error
	}{
		{"no name", access.NewToken{}, access.ErrInvalid},
		{"a slash in the name", access.NewToken{Name: "a/b"}, access.ErrInvalid},
		{"a line break behind the name", access.NewToken{Name: "a\n"}, access.ErrInvalid},
		{"101 characters", access.NewToken{Name: strings.Repeat("a", 101)}, access.ErrInvalid},
		{"an id for a name", access.NewToken{Name: uuid.NewString()}, access.ErrInvalid},
		{"an unknown scope", access.NewToken{Name: "b", Scopes: []string{"memory", "root"}}, access.ErrInvalid},
		{"an empty user", access.NewToken{Name: "b", UserIDs: []string{""}}, access.ErrInvalid},
		{"a NUL in a user", access.NewToken{Name: "b", UserIDs: []string{"a\x00"}}, access.ErrInvalid},
		{"a user that is not UTF-8", access.NewToken{Name: "b", UserIDs: []string{"a\xff"}}, access.ErrInvalid},
		{"256 bytes of a user", access.NewToken{Name: "b", UserIDs: []string{strings.Repeat("a", 256)}}, access.ErrInvalid},
		{"less than no time", access.NewToken{Name: "b", Lasts: -time.Second}, access.ErrInvalid},
		{"a name that is taken", access.NewToken{Name: "bot"}, access.ErrTaken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if secret, _, err := g.tokens.Create(t.Context(), "ada", tc.n); !errors.Is(err, tc.err) || secret != "" {
				t.Errorf("made %q, %v, want %v", secret, err, tc.err)
			}
		})
	}
	t.Run("nothing was stored", func(t *testing.T) {
		var tokens, lines int
		err := g.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM api_tokens), (SELECT count(*) FROM audit_log)`).Scan(&tokens, &lines)
		if err != nil || tokens != 1 || lines != 1 {
			t.Errorf("%d tokens and %d lines of the audit, %v; want one of each", tokens, lines, err)
		}
	})
}

// What is not on record did not happen.
func TestWithoutItsAuditNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	secret, _ := g.create(t, access.NewToken{Name: "bot"})
	if _, err := g.pool.Exec(t.Context(), `ALTER TABLE audit_log ADD CHECK (false) NOT VALID`); err != nil {
		t.Fatal(err)
	}
	if made, _, err := g.tokens.Create(t.Context(), "ada", access.NewToken{Name: "other"}); err == nil || made != "" {
		t.Errorf("made %q, %v", made, err)
	}
	if _, _, err := g.tokens.Revoke(t.Context(), "ada", "bot"); err == nil {
		t.Error("revoked")
	}
	if _, err := g.enter(t, with(secret)); err != nil {
		t.Error(err)
	}
	if all, err := g.tokens.List(t.Context()); err != nil || len(all) != 1 || all[0].RevokedAt != nil {
		t.Errorf("there are %+v, %v", all, err)
	}
}

func TestWithoutRandomnessThereIsNoToken(t *testing.T) {
	t.Parallel()
	dry := errors.New("dry")
	tokens := access.NewTokens(nil, iotest.ErrReader(dry), time.Now)
	if secret, _, err := tokens.Create(t.Context(), "ada", access.NewToken{Name: "bot"}); !errors.Is(err, dry) || secret != "" {
		t.Errorf("made %q, %v", secret, err)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	first, token := g.create(t, access.NewToken{Name: "bot", Lasts: time.Minute})
	if id, name, err := g.tokens.Revoke(t.Context(), "ada", token.ID.String()); err != nil || id != token.ID || name != "bot" {
		t.Fatalf("revoked %s %s, %v", id, name, err)
	}
	if _, err := g.enter(t, with(first)); !errors.Is(err, access.ErrUnauthorized) {
		t.Errorf("a revoked token: %v", err)
	}
	if _, _, err := g.tokens.Revoke(t.Context(), "ada", "bot"); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("revoked again: %v", err)
	}
	// The name is free again, and the old token stays what it is.
	second, _ := g.create(t, access.NewToken{Name: "bot", UserIDs: []string{"ada"}})
	if _, err := g.enter(t, with(first)); !errors.Is(err, access.ErrUnauthorized) {
		t.Errorf("the revoked token after another of its name: %v", err)
	}
	if who, err := g.enter(t, with(second)); err != nil || who.All {
		t.Errorf("the new token is %+v, %v", who, err)
	}
	all, err := g.tokens.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range all {
		got = append(got, fmt.Sprint(a.Name, " ", a.State(g.clock()), " ", a.UserIDs))
	}
	if diff := cmp.Diff([]string{"bot active [ada]", "bot revoked []"}, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if late := (access.Token{ExpiresAt: all[1].ExpiresAt}).State(g.clock().Add(time.Hour)); late != "expired" {
		t.Errorf("is %s, want expired", late)
	}
	if diff := cmp.Diff(token, all[1], cmpopts.IgnoreFields(access.Token{}, "RevokedAt", "LastUsedAt")); diff != "" {
		t.Errorf("made and listed (-made +listed):\n%s", diff)
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	memory, _ := g.create(t, access.NewToken{Name: "bot"})
	admin, _ := g.create(t, access.NewToken{Name: "desk", Scopes: []string{access.AdminRead, access.AdminWrite}})
	closed := dbtest.New(t)
	closed.Close()
	away := access.New(closed, adminToken, time.Now)
	server := func(a *access.Access, scope string) *httptest.Server {
		r := chi.NewRouter()
		respond.Use(r, slog.New(slog.NewTextHandler(t.Output(), nil)))
		r.With(a.Require(scope)).Method(http.MethodGet, "/", respond.Handler(func(w http.ResponseWriter, r *http.Request) error {
			who, ok := access.From(r.Context())
			if !ok {
				t.Error("nobody is in the context")
			}
			return respond.JSON(w, 200, who.Actor)
		}))
		s := httptest.NewServer(r)
		t.Cleanup(s.Close)
		return s
	}
	here, gone := server(g.access, access.Memory), server(away, access.Memory)
	desk := server(g.access, access.AdminRead)
	for _, tc := range []struct {
		name, token string
		server      *httptest.Server
		status      int
		says, asks  string // in the body; WWW-Authenticate
	}{
		{"a token with the scope", memory, here, 200, `"token/bot"`, ""},
		{"ADMIN_TOKEN", adminToken, here, 200, `"admin"`, ""},
		{"no token", "", here, 401, `"code":"unauthorized"`, "Bearer"},
		{"a token that is none", "mrt_x", here, 401, `"code":"unauthorized"`, "Bearer"},
		{"admin scopes are none of the memory", admin, here, 403, `"code":"forbidden"`, `Bearer error="insufficient_scope", scope="memory"`},
		{"the memory's scope is none of the admins'", memory, desk, 403, `"code":"forbidden"`, `Bearer error="insufficient_scope", scope="admin:read"`},
		{"an admin scope", admin, desk, 200, `"token/desk"`, ""},
		{"a database that is away says nothing about the token", memory, gone, 503, `"code":"unavailable"`, ""},
		{"ADMIN_TOKEN needs none", adminToken, gone, 200, `"admin"`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, tc.server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.token != "" {
				req.Header = with(tc.token)
			}
			resp, err := tc.server.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body := new(strings.Builder)
			if err := resp.Write(body); err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.status || !strings.Contains(body.String(), tc.says) || resp.Header.Get("WWW-Authenticate") != tc.asks {
				t.Errorf("answered %d, want %d with %s and %q\n%s", resp.StatusCode, tc.status, tc.says, tc.asks, body)
			}
			if tc.status == 503 && resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		})
	}
}
