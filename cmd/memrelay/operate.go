package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/client"
	"github.com/memrelay/memrelay/internal/config"
)

// api is what operators' commands talk to: a node, or the same handlers in this process.
type api struct {
	*client.Client
	remote bool // a node
}

// operate hands a command the API: that of MEMRELAY_URL, else one of this process over
// DATABASE_URL. What was asked wrongly is wrong usage.
func (s streams) operate(ctx context.Context, do func(api) error) error {
	err := s.reach(ctx, do)
	var problem *client.Problem
	if !errors.As(err, &problem) {
		return err
	}
	switch problem.Status {
	case http.StatusUnprocessableEntity:
		return usage(err)
	case http.StatusUnauthorized:
		return fmt.Errorf("MEMRELAY_TOKEN: %w", err)
	}
	return err
}

func (s streams) reach(ctx context.Context, do func(api) error) error {
	if s.elsewhere() == "" {
		return s.hereWith(ctx, do)
	}
	c, err := client.New(client.Options{
		URL: s.elsewhere(), Token: strings.TrimSpace(s.getenv("MEMRELAY_TOKEN")), InsecureHTTP: s.insecure, Agent: "memrelay/" + version,
	})
	if errors.Is(err, client.ErrInsecure) {
		return usage(fmt.Errorf("MEMRELAY_URL: %w; --insecure-http sends it all the same", err))
	}
	if err != nil {
		return fmt.Errorf("MEMRELAY_URL: %w", err)
	}
	return do(api{Client: c, remote: true})
}

// elsewhere is the node that commands talk to; "" when they use the database.
func (s streams) elsewhere() string { return strings.TrimSpace(s.getenv("MEMRELAY_URL")) }

// hereWith answers a command in this process.
func (s streams) hereWith(ctx context.Context, do func(api) error) error {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		operators, err := app.NewOperators(cfg, pool, "command line, "+account(), app.Options{Log: s.quiet(), Version: version, Now: time.Now, Environ: s.environ})
		if err != nil {
			return err
		}
		defer operators.Close()
		c, err := client.New(client.Options{Handler: operators.Handler()})
		if err != nil {
			return err
		}
		return do(api{Client: c})
	})
}

// onlyHere says of a command that knows no other way that it uses the database.
func (s streams) onlyHere(command string) {
	if s.elsewhere() != "" {
		fmt.Fprintf(s.err, "memrelay %s goes straight to the database of DATABASE_URL: MEMRELAY_URL has no part in it.\n", command)
	}
}

// about says what a request was about: the API says only that there is no such thing.
func about(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// fetch sends a request and reads its answer; raw is all of it, for machines.
func fetch[T any](ctx context.Context, a api, r client.Request) (v T, raw json.RawMessage, err error) {
	answer, err := a.Do(ctx, r)
	if err != nil {
		return v, nil, err
	}
	return v, answer.Body, answer.Read(&v)
}

// post is a request that changes something.
func post(path string, body any) client.Request {
	return client.Request{Method: http.MethodPost, Path: path, Body: body}
}

// given is a reason, as decisions take one.
func given(reason string) any {
	if reason == "" {
		return nil
	}
	return map[string]string{"reason": reason}
}

// pages reads pages of the list that stands under field until there are as many rows as
// limit. The query is of the first page.
func (a api) pages(ctx context.Context, path string, query url.Values, field string, limit int) ([]json.RawMessage, error) {
	if limit < 1 {
		return nil, usage(errors.New("--limit: want more than none"))
	}
	rows := []json.RawMessage{}
	for {
		query.Set("limit", strconv.Itoa(min(limit-len(rows), admin.MaxPage)))
		page, raw, err := fetch[struct {
			NextCursor string `json:"next_cursor"`
		}](ctx, a, client.Request{Path: path, Query: query})
		if err != nil {
			return nil, err
		}
		more, err := listed(raw, field)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
		if page.NextCursor == "" || len(rows) >= limit {
			return rows, nil
		}
		query.Set("cursor", page.NextCursor)
	}
}

// listed is the list that stands under field.
func listed(raw json.RawMessage, field string) ([]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	rows := []json.RawMessage{}
	err := json.Unmarshal(raw, &fields)
	if err == nil && fields[field] != nil {
		err = json.Unmarshal(fields[field], &rows)
	}
	if err != nil {
		return nil, fmt.Errorf("read a list of %s: %w", field, err)
	}
	return rows, nil
}

// table prints rows under a head, whose columns stand between tabs; for machines the rows
// as the API has them.
func table[T any](s streams, rows []json.RawMessage, head string, columns func(T) []any) error {
	if s.asJSON {
		return s.json(rows)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(head, " | ", "\t"))
	for _, raw := range rows {
		var row T
		if err := json.Unmarshal(raw, &row); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
		line := columns(row)
		fmt.Fprintf(w, strings.TrimSuffix(strings.Repeat("%v\t", len(line)), "\t")+"\n", line...)
	}
	return w.Flush()
}

// params is a query of those that were said: name, value, name, value.
func params(pairs ...string) url.Values {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	return query
}

// param is a moment as the API takes it; "" when nobody said one.
func (m moment) param(now time.Time) string {
	if at := m.before(now); !at.IsZero() {
		return at.UTC().Format(time.RFC3339Nano)
	}
	return ""
}
