// Package connection is what all nodes share of the connection with Zoho. In go
// settings, what a person authorised, and how calls ended; out come access tokens
// that one node asks for and all use, and a breaker that lets one call through
// while Zoho is down. What is shared stands in zoho_tokens and breakers, and times
// are the database's.
package connection

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/seal"
	"github.com/memrelay/memrelay/internal/zoho"
)

// name is that of the one connection there is, in both tables.
const name = "zoho"

// What the sealed values are: see seal.
const (
	aboutRefresh = "zoho_tokens/" + name + "/refresh_token"
	aboutAccess  = "zoho_tokens/" + name + "/access_token"
)

// ErrNotConnected is returned when nobody has stored an authorisation.
var ErrNotConnected = errors.New("not connected with Zoho: run `memrelay zoho connect`, or set ZOHO_REFRESH_TOKEN")

// Options are what Tokens and Breaker need besides. All are required.
type Options struct {
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time // as time.After
	Random func() float64                       // in [0, 1)
	Log    *slog.Logger
}

// Grant is what a person authorised.
type Grant struct {
	ClientID    string
	AccountsURL string     // where the tokens come from
	Token       zoho.Token // with Refresh; Access only when it is fresh
}

// digest tells one grant from another without saying either.
func (g Grant) digest() []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s %s", len(g.ClientID), g.ClientID, g.Token.Refresh)
	return h.Sum(nil)
}

// Store writes g, with its fresh access token, over whatever was there, closes
// the breaker, and makes channels due that failed: all nodes use it from now on. who is written to the audit
// log, now is when g was given. The error is a seal.ErrNoKey when box has no key.
func Store(ctx context.Context, pool *pgxpool.Pool, box *seal.Box, g Grant, who string, now time.Time) error {
	refresh, err := box.Seal([]byte(g.Token.Refresh), aboutRefresh)
	if err != nil {
		return fmt.Errorf("seal the refresh token: %w", err)
	}
	access, err := box.Seal([]byte(g.Token.Access), aboutAccess)
	if err != nil {
		return fmt.Errorf("seal the access token: %w", err)
	}
	return change(ctx, pool, who, "zoho.connect", map[string]any{
		"client_id": g.ClientID, "accounts_url": g.AccountsURL, "scopes": g.Token.Scopes,
	}, func(q *db.Queries) error {
		err := q.StoreZohoGrant(ctx, db.StoreZohoGrantParams{
			Name: name, ClientID: g.ClientID, AccountsURL: g.AccountsURL, ApiURL: g.Token.APIDomain,
			Scopes: append([]string{}, g.Token.Scopes...), RefreshToken: refresh, GrantDigest: g.digest(),
			AccessToken: access, Life: g.Token.Expires.Sub(now),
		})
		if err != nil {
			return fmt.Errorf("store the authorisation: %w", err)
		}
		if err := q.HastenFailedChannels(ctx); err != nil {
			return fmt.Errorf("make the channels due that failed: %w", err)
		}
		return nil
	})
}

// Stored returns what Store wrote, without an access token. The error is
// ErrNotConnected when there is none, seal.ErrNoKey or seal.ErrWrongKey when box
// does not open it; the grant is there then, but for the token.
func Stored(ctx context.Context, q *db.Queries, box *seal.Box) (Grant, error) {
	row, err := q.GetZohoToken(ctx, name)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && row.RefreshToken == nil) {
		return Grant{}, ErrNotConnected
	}
	if err != nil {
		return Grant{}, fmt.Errorf("read the authorisation: %w", err)
	}
	g := Grant{ClientID: row.ClientID, AccountsURL: row.AccountsURL, Token: zoho.Token{APIDomain: row.ApiURL, Scopes: row.Scopes}}
	refresh, err := box.Open(row.RefreshToken, aboutRefresh)
	if err != nil {
		return g, fmt.Errorf("open the refresh token: %w", err)
	}
	g.Token.Refresh = string(refresh)
	return g, nil
}

// Forget removes what Store and Tokens wrote; nothing to remove is no error.
// Nodes go on with the access token they have until it ends, or until Zoho takes
// it no more.
func Forget(ctx context.Context, pool *pgxpool.Pool, who string) error {
	return change(ctx, pool, who, "zoho.disconnect", nil, func(q *db.Queries) error {
		if _, err := q.DeleteZohoToken(ctx, name); err != nil {
			return fmt.Errorf("forget the authorisation: %w", err)
		}
		return nil
	})
}

// change does what a person decided, with its line in the audit log.
func change(ctx context.Context, pool *pgxpool.Pool, who, action string, details map[string]any, do func(*db.Queries) error) error {
	if details == nil {
		details = map[string]any{}
	}
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("write the audit log's details: %w", err)
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := do(q); err != nil {
			return err
		}
		if err := q.CloseBreaker(ctx, name); err != nil {
			return fmt.Errorf("close the breaker: %w", err)
		}
		if err := q.InsertAudit(ctx, db.InsertAuditParams{Actor: who, Action: action, Object: name, Details: text}); err != nil {
			return fmt.Errorf("write the audit log: %w", err)
		}
		return nil
	})
}

// ownBox seals access tokens where no MEMRELAY_KEY is set, with what every node
// has. They are worth an hour at most; refresh tokens are not sealed so.
func ownBox(clientSecret string, random io.Reader) (*seal.Box, error) {
	sum := sha256.Sum256([]byte("access tokens: " + clientSecret))
	return seal.New([]string{string(sum[:])}, random)
}
