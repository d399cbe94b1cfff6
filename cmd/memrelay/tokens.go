package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/access"
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

// createdToken is what tokens create prints for machines.
type createdToken struct {
	Secret string `json:"token"` // this once
	access.Token
}

// Run makes a token. Alone on its stream, so that it can be piped to where it is kept.
func (c tokensCreate) Run(ctx context.Context, s streams) error {
	return s.withTokens(ctx, func(t *access.Tokens, actor string) error {
		secret, token, err := t.Create(ctx, actor, access.NewToken{
			Name: c.Name, Scopes: c.Scopes, UserIDs: c.Users, Lasts: time.Duration(c.Expires),
		})
		if errors.Is(err, access.ErrInvalid) {
			return usage(err)
		}
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(createdToken{Secret: secret, Token: token})
		}
		fmt.Fprintf(s.err, "Token %s may use %s for %s, %s. It is shown this once:\n", token.Name, strings.Join(token.Scopes, ", "), usersOf(token), endOf(token))
		_, err = fmt.Fprintln(s.out, secret)
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
	return s.withTokens(ctx, func(t *access.Tokens, _ string) error {
		all, err := t.List(ctx)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(all)
		}
		now := time.Now()
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tNAME\tSTATE\tSCOPES\tUSERS\tCREATED\tEXPIRES\tLAST USED")
		for _, r := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Name, r.State(now), strings.Join(r.Scopes, ","), usersOf(r),
				timeOrNone(&r.CreatedAt), timeOrNone(r.ExpiresAt), timeOrNone(r.LastUsedAt))
		}
		return w.Flush()
	})
}

type tokensRevoke struct {
	Which string `arg:"" name:"name-or-id" help:"As tokens list prints them."`
}

// Run revokes a token.
func (c tokensRevoke) Run(ctx context.Context, s streams) error {
	return s.withTokens(ctx, func(t *access.Tokens, actor string) error {
		id, name, err := t.Revoke(ctx, actor, c.Which)
		if err != nil {
			return err
		}
		return s.say(map[string]any{"revoked": id, "name": name}, fmt.Sprintf("Token %s revoked.", name))
	})
}

func (s streams) withTokens(ctx context.Context, do func(t *access.Tokens, actor string) error) error {
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		return do(access.NewTokens(pool, rand.Reader, time.Now), "command line, "+account())
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
