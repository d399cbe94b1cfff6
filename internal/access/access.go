// Package access decides who may use the API: in goes a request's bearer token,
// out comes who it is and what they may do. It makes and revokes tokens, too.
package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

// What a token may do. None of them implies another.
const (
	Memory     = "memory"      // the memory API
	AdminRead  = "admin:read"  // look at what operators see
	AdminWrite = "admin:write" // do what operators do
)

// Scopes returns all of them.
func Scopes() []string { return []string{Memory, AdminRead, AdminWrite} }

// ErrUnauthorized is returned for a request without a token that is good: there is
// none, nobody made it, it has expired or was revoked. Which of these is not said.
var ErrUnauthorized = errors.New("no token that is good")

// Admin is the Actor of whoever has ADMIN_TOKEN.
const Admin = "admin"

// Identity is who a request comes from.
type Identity struct {
	Actor   string // "token/<name>", or Admin
	Scopes  []string
	UserIDs []string   // whose memories it may see and change
	All     bool       // it may see and change everybody's
	Until   *time.Time // when its token expires; nil: never
}

// May reports whether it has the scope.
func (i Identity) May(scope string) bool { return slices.Contains(i.Scopes, scope) }

const (
	// touchEvery is how precisely it is kept when a token was used.
	touchEvery = time.Minute
	// touchLimit bounds the write of that, which no request waits for.
	touchLimit = 5 * time.Second
)

// Access knows the tokens.
type Access struct {
	pool  *pgxpool.Pool
	admin *[sha256.Size]byte // of ADMIN_TOKEN; nil: there is none
	now   func() time.Time

	mu      sync.Mutex
	touched map[uuid.UUID]time.Time // when this node last kept that a token was used
	open    sync.WaitGroup          // writes of that under way
}

// New makes an Access. adminToken may do everything; "": nothing may by that.
func New(pool *pgxpool.Pool, adminToken string, now func() time.Time) *Access {
	a := &Access{pool: pool, now: now, touched: map[uuid.UUID]time.Time{}}
	if adminToken != "" {
		sum := sha256.Sum256([]byte(adminToken))
		a.admin = &sum
	}
	return a
}

// Wait returns when nothing is being written any more. Nobody authenticates by then.
func (a *Access) Wait() { a.open.Wait() }

// Authenticate returns who sent a request with these headers: the one Authorization
// header is "Bearer" and a token. It returns ErrUnauthorized, or what the database
// said, which says nothing about the token.
func (a *Access) Authenticate(ctx context.Context, header http.Header) (Identity, error) {
	token, ok := bearer(header)
	if !ok {
		return Identity{}, ErrUnauthorized
	}
	hash := sha256.Sum256([]byte(token))
	// Hashes are compared, so that the time it takes does not tell how much was right.
	if a.admin != nil && subtle.ConstantTimeCompare(hash[:], a.admin[:]) == 1 {
		return Identity{Actor: Admin, Scopes: Scopes(), All: true}, nil
	}
	if !looksLikeToken(token) {
		return Identity{}, ErrUnauthorized
	}
	now := a.now()
	row, err := db.New(a.pool).FindToken(ctx, db.FindTokenParams{Hash: hash[:], Now: now})
	if errors.Is(err, pgx.ErrNoRows) {
		return Identity{}, ErrUnauthorized
	}
	if err != nil {
		return Identity{}, fmt.Errorf("find token: %w", err)
	}
	a.touch(row.ID, row.LastUsedAt, now)
	return Identity{Actor: "token/" + row.Name, Scopes: row.Scopes, UserIDs: row.UserIds, All: row.Everybody, Until: row.ExpiresAt}, nil
}

// bearer returns the token of the one Authorization header; the scheme's case does
// not matter (RFC 9110, section 11.1).
func bearer(header http.Header) (string, bool) {
	values := header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// touch keeps that a token was used, when that was not kept for a minute. The
// request does not wait for it: what it tells is worth no delay, and no failure.
func (a *Access) touch(id uuid.UUID, kept *time.Time, now time.Time) {
	before := now.Add(-touchEvery)
	if kept != nil && kept.After(before) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if last, ok := a.touched[id]; ok && last.After(before) {
		return
	}
	a.touched[id] = now
	a.open.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), touchLimit)
		defer cancel()
		// In vain, the next minute's use is kept.
		_ = db.New(a.pool).TouchToken(ctx, db.TouchTokenParams{ID: id, Now: &now, Before: before})
	})
}
