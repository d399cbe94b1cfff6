package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
)

type tokensCommand struct {
	Create tokensCreate `cmd:"" help:"Make a token for a program that uses the API."`
	List   tokensList   `cmd:"" help:"List tokens, revoked ones too, newest first."`
	Revoke tokensRevoke `cmd:"" help:"End a token: its next request is refused."`
}

type tokensCreate struct {
	Name    string   `arg:"" help:"Whose it is, as support-bot: the audit calls it token/support-bot."`
	Users   []string `name:"user" sep:"none" help:"The user_id whose memories it may see and change, as zoho:4876876000000333; again for more. Without it everybody's."`
	Scopes  []string `name:"scope" sep:"none" help:"What it may do: memory, admin:read or admin:write; again for more. Without it memory."`
	Expires lifetime `help:"How long it is good, as 90d or 12h. Without it until it is revoked."`
}

// Run makes a token. Alone on its stream, so that it can be piped to where it is kept.
func (c tokensCreate) Run(ctx context.Context, s streams) error {
	in := map[string]any{"name": c.Name}
	if len(c.Scopes) > 0 {
		in["scopes"] = c.Scopes
	}
	if len(c.Users) > 0 {
		in["user_ids"] = c.Users
	}
	if c.Expires > 0 {
		in["expires_at"] = time.Now().Add(time.Duration(c.Expires)).UTC().Format(time.RFC3339Nano)
	}
	return s.operate(ctx, func(a api) error {
		token, raw, err := fetch[admin.MadeToken](ctx, a, post("/admin/tokens", in))
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(raw)
		}
		fmt.Fprintf(s.err, "Token %s may use %s for %s, %s. It is shown this once:\n",
			token.Name, strings.Join(token.Scopes, ", "), usersOf(token.Token), endOf(token.Token))
		_, err = fmt.Fprintln(s.out, token.Secret)
		return err
	})
}

func usersOf(t access.Token) string {
	if t.UserIDs == nil {
		return "everybody"
	}
	return strings.Join(t.UserIDs, ", ")
}

func endOf(t access.Token) string {
	if t.ExpiresAt == nil {
		return "until it is revoked"
	}
	return "until " + timeOrNone(t.ExpiresAt) + " UTC"
}

type tokensList struct{}

// Run lists tokens; what they prove themselves with is not kept.
func (tokensList) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		answer, err := a.Do(ctx, client.Request{Path: "/admin/tokens"})
		if err != nil {
			return err
		}
		rows, err := listed(answer.Body, "tokens")
		if err != nil {
			return err
		}
		return table(s, rows, "ID | NAME | STATE | SCOPES | USERS | CREATED | EXPIRES | LAST USED", func(t admin.ShownToken) []any {
			return []any{
				t.ID, t.Name, t.State, strings.Join(t.Scopes, ","), usersOf(t.Token), timeOrNone(&t.CreatedAt), timeOrNone(t.ExpiresAt), timeOrNone(t.LastUsedAt),
			}
		})
	})
}

type tokensRevoke struct {
	Which string `arg:"" name:"name-or-id" help:"As tokens list prints them."`
	asking
}

// Run revokes a token, once somebody has said so.
func (c tokensRevoke) Run(ctx context.Context, s streams) error {
	if err := c.ask(ctx, s, "Revoke the token %s for good?", c.Which); err != nil {
		return err
	}
	return s.operate(ctx, func(a api) error {
		gone, _, err := fetch[struct {
			ID   uuid.UUID `json:"id"`
			Name string    `json:"name"`
		}](ctx, a, client.Request{Method: http.MethodDelete, Path: client.Path("admin", "tokens", c.Which)})
		if err != nil {
			return about("token "+c.Which, err)
		}
		return s.say(map[string]any{"revoked": gone.ID, "name": gone.Name}, fmt.Sprintf("Token %s revoked.", gone.Name))
	})
}

// lifetime is how long something is good: days, as 90d, or one of Go's durations.
type lifetime time.Duration

// UnmarshalText reads a lifetime; it is more than nothing.
func (l *lifetime) UnmarshalText(text []byte) error {
	const day = 24 * time.Hour
	d, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		if n > 36500 { // a hundred years; more would not fit a duration for long
			n = 0
		}
		d = time.Duration(n) * day
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("%q: want a time such as 90d or 12h", text)
	}
	*l = lifetime(d)
	return nil
}
