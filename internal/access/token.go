package access

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/respond"
)

// Errors that callers branch on.
var (
	// ErrInvalid is wrapped by what says how a token was asked for wrongly.
	ErrInvalid = errors.New("cannot be made")
	// ErrTaken is returned for the name of a token that is there and not revoked.
	ErrTaken = errors.New("there is a token of this name: revoke it first, or take another name")
	// ErrBeyond is wrapped by what says how a token would do more than the one that it is
	// asked for with.
	ErrBeyond = errors.New("would do more than yours")
	// ErrNotFound is returned for a token that is not there, or was revoked before.
	ErrNotFound = errors.New("there is no such token that is not revoked")
)

// A token is a prefix, which people and scanners of leaked secrets know it by, and
// 32 random bytes.
const (
	prefix      = "mrt_"
	randomBytes = 32
)

func looksLikeToken(token string) bool {
	random, ok := strings.CutPrefix(token, prefix)
	return ok && len(random) == base64.RawURLEncoding.EncodedLen(randomBytes)
}

// NewToken is what a token is to be.
type NewToken struct {
	Name    string        // letters, digits, dots, dashes and underscores; at most 100
	Scopes  []string      // none: Memory
	UserIDs []string      // whose memories it may see and change; none: everybody's
	Lasts   time.Duration // 0: until it is revoked
}

// Token is a token as it is kept: without what it proves itself with.
type Token struct {
	ID         uuid.UUID  `json:"id"`
	Name       string     `json:"name"`
	Scopes     []string   `json:"scopes"`
	UserIDs    []string   `json:"user_ids"` // null: everybody's
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
	RevokedAt  *time.Time `json:"revoked_at"`
	LastUsedAt *time.Time `json:"last_used_at"` // to the minute
}

// State says whether the token is good: active, expired or revoked.
func (t Token) State(now time.Time) string {
	switch {
	case t.RevokedAt != nil:
		return "revoked"
	case t.ExpiresAt != nil && !t.ExpiresAt.After(now):
		return "expired"
	default:
		return "active"
	}
}

// Tokens makes and revokes tokens, each with a line in audit_log in the same transaction.
type Tokens struct {
	pool   *pgxpool.Pool
	random io.Reader
	now    func() time.Time
}

// NewTokens makes a Tokens. random is where the secrets come from.
func NewTokens(pool *pgxpool.Pool, random io.Reader, now func() time.Time) *Tokens {
	return &Tokens{pool: pool, random: random, now: now}
}

// Create makes a token and returns its secret, which is not kept. It returns an
// ErrInvalid or ErrTaken. actor is who makes it, for the audit.
func (t *Tokens) Create(ctx context.Context, actor string, n NewToken) (secret string, token Token, err error) {
	if len(n.Scopes) == 0 {
		n.Scopes = []string{Memory}
	}
	if err := n.check(); err != nil {
		return "", Token{}, err
	}
	key := make([]byte, randomBytes)
	if _, err := io.ReadFull(t.random, key); err != nil {
		return "", Token{}, fmt.Errorf("read randomness: %w", err)
	}
	secret = prefix + base64.RawURLEncoding.EncodeToString(key)
	token = Token{ID: uuid.Must(uuid.NewV7()), Name: n.Name, Scopes: distinct(n.Scopes), UserIDs: distinct(n.UserIDs)}
	if n.Lasts > 0 {
		until := t.now().Add(n.Lasts).UTC().Truncate(time.Second)
		token.ExpiresAt = &until
	}
	hash := sha256.Sum256([]byte(secret))
	err = pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error {
		token.CreatedAt, err = db.New(tx).InsertToken(ctx, db.InsertTokenParams{
			ID: token.ID, Name: token.Name, Hash: hash[:], Scopes: token.Scopes, Everybody: token.UserIDs == nil, UserIds: token.UserIDs,
			ExpiresAt: token.ExpiresAt,
		})
		if err != nil {
			return fmt.Errorf("insert token: %w", err)
		}
		return audit(ctx, tx, actor, "token.create", token.ID, map[string]any{"name": token.Name, "before": nil, "after": map[string]any{
			"scopes": token.Scopes, "user_ids": token.UserIDs, "expires_at": token.ExpiresAt,
		}})
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.ConstraintName == "api_tokens_name_key" {
		return "", Token{}, ErrTaken
	}
	if err != nil {
		return "", Token{}, err
	}
	return secret, token, nil
}

// CreateFor is Create for a request: who asks cannot make what may do more than they
// may themselves, by scopes, by user_ids, or for longer. That is an ErrBeyond.
func (t *Tokens) CreateFor(ctx context.Context, who Identity, n NewToken) (secret string, token Token, err error) {
	if len(n.Scopes) == 0 {
		n.Scopes = []string{Memory}
	}
	if err := n.check(); err != nil {
		return "", Token{}, err
	}
	for _, s := range n.Scopes {
		if !who.May(s) {
			return "", Token{}, fmt.Errorf("a token with the scope %s %w", s, ErrBeyond)
		}
	}
	if !who.All && len(n.UserIDs) == 0 {
		return "", Token{}, fmt.Errorf("a token for everybody %w", ErrBeyond)
	}
	for _, id := range n.UserIDs {
		if !who.All && !slices.Contains(who.UserIDs, id) {
			return "", Token{}, fmt.Errorf("a token for others %w", ErrBeyond)
		}
	}
	if who.Until != nil && (n.Lasts == 0 || t.now().Add(n.Lasts).After(*who.Until)) {
		return "", Token{}, fmt.Errorf("a token that outlives the one it is made with %w", ErrBeyond)
	}
	return t.Create(ctx, who.Actor, n)
}

// distinct returns the values in order, each once; nil for none.
func distinct(values []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(values)))
}

// maxUserID is what the memory takes for a user_id, in bytes.
const maxUserID = 255

// What stands in a log line, in a command and in "token/<name>" without quotes.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func (n NewToken) check() error {
	if !nameForm.MatchString(n.Name) {
		return fmt.Errorf("the token %w: want a name of at most 100 letters, digits, dots, dashes and underscores", ErrInvalid)
	}
	if uuid.Validate(n.Name) == nil {
		return fmt.Errorf("the token %w: a name that looks like an id could be taken for another token's", ErrInvalid)
	}
	for _, s := range n.Scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("the token %w: want scopes among %s", ErrInvalid, strings.Join(Scopes(), ", "))
		}
	}
	for _, id := range n.UserIDs {
		if strings.TrimSpace(id) == "" || len(id) > maxUserID || !utf8.ValidString(id) || strings.ContainsRune(id, 0) {
			return fmt.Errorf("the token %w: want user ids of 1 to %d bytes", ErrInvalid, maxUserID)
		}
	}
	if n.Lasts < 0 {
		return fmt.Errorf("the token %w: it would have expired", ErrInvalid)
	}
	return nil
}

// List returns all tokens, revoked ones too, newest first.
func (t *Tokens) List(ctx context.Context) ([]Token, error) {
	rows, err := db.New(t.pool).ListTokens(ctx)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	tokens := make([]Token, len(rows))
	for i, r := range rows {
		tokens[i] = Token{
			ID: r.ID, Name: r.Name, Scopes: r.Scopes, UserIDs: r.UserIds,
			CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt, RevokedAt: r.RevokedAt, LastUsedAt: r.LastUsedAt,
		}
		if r.Everybody {
			tokens[i].UserIDs = nil
		}
	}
	return tokens, nil
}

// Revoke ends the token of this name or id: the next request with it is refused.
// It returns ErrNotFound. actor is who revokes it, for the audit.
func (t *Tokens) Revoke(ctx context.Context, actor, which string) (id uuid.UUID, name string, err error) {
	now := t.now()
	err = pgx.BeginFunc(ctx, t.pool, func(tx pgx.Tx) error {
		row, err := db.New(tx).RevokeToken(ctx, db.RevokeTokenParams{Which: which, Now: &now})
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%q: %w", which, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("revoke token: %w", err)
		}
		id, name = row.ID, row.Name
		return audit(ctx, tx, actor, "token.revoke", row.ID, map[string]any{
			"name": row.Name, "before": map[string]any{"revoked_at": nil}, "after": map[string]any{"revoked_at": now.UTC()},
		})
	})
	return id, name, err
}

func audit(ctx context.Context, tx pgx.Tx, actor, action string, token uuid.UUID, details map[string]any) error {
	encoded, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("encode audit details: %w", err)
	}
	p := db.InsertAuditParams{Actor: actor, Action: action, Object: "token/" + token.String(), Details: encoded, RequestID: respond.RequestID(ctx)}
	if err := db.New(tx).InsertAudit(ctx, p); err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	return nil
}
