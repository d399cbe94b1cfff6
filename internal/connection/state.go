package connection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/breaker"
)

// The states of a connection.
const (
	// StateNone says that no authorisation is stored, and that none of the
	// environment has been used yet.
	StateNone = "none"
	// StateOK says that Zoho took the authorisation when it was last asked.
	StateOK = "ok"
	// StateRevoked says that Zoho refused the authorisation: a person has to act.
	StateRevoked = "revoked"
)

// Status is how the connection stands, without any secret. Times are the database's.
type Status struct {
	State string `json:"state"` // one of the states above
	// Remedy is what a person is to do; "" when nothing is.
	Remedy string `json:"remedy"`
	// LastError is why the last question for a token failed; "" when it did not.
	LastError string `json:"last_error"`
	// Stored says that a refresh token is stored; one in the environment wins over it.
	Stored      bool       `json:"stored"`
	ClientID    string     `json:"client_id"`
	AccountsURL string     `json:"accounts_url"`
	APIURL      string     `json:"api_url"` // "" until Zoho has said it
	Scopes      []string   `json:"scopes"`  // empty when Zoho did not say
	AccessUntil *time.Time `json:"access_until"`
	// BlockedUntil is when Zoho may be asked for a token again; nil: now.
	BlockedUntil *time.Time     `json:"blocked_until"`
	Breaker      breaker.Status `json:"breaker"`
}

// State reads how the connection stands. That nobody is connected is not an
// error. It knows nothing of the environment: whether credentials are set, its
// caller has to say.
func State(ctx context.Context, q *db.Queries) (Status, error) {
	s := Status{State: StateNone, Scopes: []string{}, Remedy: "run `memrelay zoho connect`, or set ZOHO_REFRESH_TOKEN"}
	row, err := q.GetZohoToken(ctx, name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return s, fmt.Errorf("read the connection: %w", err)
	default:
		s = Status{
			State: row.State, LastError: row.LastError, Stored: row.RefreshToken != nil, ClientID: row.ClientID,
			AccountsURL: row.AccountsURL, APIURL: row.ApiURL, Scopes: row.Scopes, AccessUntil: row.AccessUntil,
		}
		if row.BlockedUntil != nil && row.BlockedUntil.After(row.Now) {
			s.BlockedUntil = row.BlockedUntil
		}
		if s.State == StateRevoked {
			s.Remedy = remedy
		}
	}
	s.Breaker, err = breaker.State(ctx, q, name)
	return s, err
}
