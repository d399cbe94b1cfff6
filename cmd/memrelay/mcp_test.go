package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/memory"
)

// agent runs memrelay mcp with an agent at its other end. stop ends the command and
// returns all that it wrote.
func agent(t *testing.T, url string, c mcpCommand) (session *sdk.ClientSession, stop func() (out, errOut string)) {
	t.Helper()
	commandIn, agentOut := io.Pipe()
	agentIn, commandOut := io.Pipe()
	var written, errOut bytes.Buffer
	s := streams{environ: []string{"DATABASE_URL=" + url, "BOT_VERSION=9"}, out: io.MultiWriter(&written, commandOut), err: &errOut}
	ended := make(chan error, 1)
	go func() {
		ended <- c.talk(t.Context(), s, commandIn)
		commandOut.Close()
	}()
	session, err := sdk.NewClient(&sdk.Implementation{Name: "agent", Version: "1"}, nil).Connect(t.Context(),
		&sdk.IOTransport{Reader: agentIn, Writer: agentOut}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, errOut.String())
	}
	stop = sync.OnceValues(func() (string, string) {
		session.Close()
		if err := <-ended; err != nil {
			t.Errorf("the command ended with %v", err)
		}
		return written.String(), errOut.String()
	})
	t.Cleanup(func() { stop() })
	return session, stop
}

func useTool(t *testing.T, session *sdk.ClientSession, tool string, arguments map[string]any) (said string, failed bool) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	text, ok := result.Content[0].(*sdk.TextContent)
	if !ok {
		t.Fatalf("%s answered %T", tool, result.Content[0])
	}
	return text.Text, result.IsError
}

func TestMCPOverStdio(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	execute(t, url, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		SELECT gen_random_uuid(), 'all', 'https://example.com', '{`+strings.Join(memory.Events(), ",")+`}', '30s', '{1s,2s}'`)
	execute(t, url, `INSERT INTO memories (id, user_id, kind, content, metadata, checksum) VALUES (gen_random_uuid(), 'bob', 'fact', 'Bob likes tea', '{}', decode(repeat('00', 32), 'hex'))`)
	session, stop := agent(t, url, mcpCommand{Users: []string{"zoho:77"}})
	said, _ := useTool(t, session, "add", map[string]any{"content": "Likes tea"})
	id := said[strings.LastIndex(said, " ")+1 : len(said)-1]
	if _, err := uuid.Parse(id); err != nil {
		t.Fatalf("added: %q", said)
	}
	if said, failed := useTool(t, session, "search", map[string]any{"query": "tea"}); failed || !strings.Contains(said, id) || strings.Contains(said, "Bob") {
		t.Errorf("found: %q", said)
	}
	if said, failed := useTool(t, session, "search", map[string]any{"query": "tea", "user_id": "bob"}); !failed {
		t.Errorf("found of another user: %q", said)
	}
	if said, failed := useTool(t, session, "relate", map[string]any{"source": "Acme", "relationship": "LIKES", "target": "tea"}); failed {
		t.Errorf("related: %q", said)
	}
	if said, failed := useTool(t, session, "account", map[string]any{"account_id": "77"}); failed || !strings.Contains(said, "Likes tea") {
		t.Errorf("account: %q", said)
	}
	if said, failed := useTool(t, session, "delete", map[string]any{"id": id}); failed {
		t.Errorf("deleted: %q", said)
	}
	out, errOut := stop()
	if errOut != "" {
		t.Errorf("logged:\n%s", errOut)
	}
	for _, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
		var message struct {
			Version string `json:"jsonrpc"`
		}
		if err := json.Unmarshal([]byte(line), &message); err != nil || message.Version != "2.0" {
			t.Errorf("%v in what was written: %q", err, line)
		}
	}
	pool := poolOn(t, url)
	if got := strings.Join(cataloguetest.Outbox(t, pool), " "); got != "memory_added memory_searched relationship_added memory_deleted" {
		t.Errorf("told %s", got)
	}
	if got := one[string](t, pool, `SELECT string_agg(DISTINCT actor, ' ') FROM memory_history`); got != "mcp" {
		t.Errorf("done by %s", got)
	}
	if got := one[string](t, pool, `SELECT convert_from(payload, 'UTF8')::jsonb ->> 'bot_version' FROM outbox LIMIT 1`); got != "9" {
		t.Errorf("sent by version %s", got)
	}
	// Whoever relays it is woken.
	if n := one[int](t, pool, `SELECT count(*) FROM river_job WHERE kind = 'relay'`); n == 0 {
		t.Error("no job relays what was told")
	}
}

func TestMCPOfEverybody(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	session, _ := agent(t, url, mcpCommand{AllUsers: true})
	if said, failed := useTool(t, session, "add", map[string]any{"user_id": "bob", "content": "Likes tea"}); failed {
		t.Errorf("added: %q", said)
	}
	if said, failed := useTool(t, session, "search", map[string]any{"query": "tea"}); !failed || !strings.HasPrefix(said, "user_id: is required") {
		t.Errorf("found of nobody in particular: %q", said)
	}
}

func TestMCPWantsToKnowWhose(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                         "missing flags: --user=USER or --all-users",
		"--user=a --all-users":     "can't be used together",
		"--user=a,b --user=zoho:1": "",
		"--all-users":              "",
	} {
		var c mcpCommand
		parser, err := kong.New(&c, kong.Exit(func(int) { t.Errorf("%q exits", args) }))
		if err != nil {
			t.Fatal(err)
		}
		_, err = parser.Parse(strings.Fields(args))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
		if args == "--user=a,b --user=zoho:1" && strings.Join(c.Users, " ") != "a,b zoho:1" {
			t.Errorf("%q: users %q", args, c.Users)
		}
	}
}

func TestMCPSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ url, says string }{
		"no database":              {"", "DATABASE_URL"},
		"one that is not up":       {"postgres://ada:hush@127.0.0.1:1/app?sslmode=disable", "connect to the database"},
		"one that is not migrated": {dbtest.Empty(t), "memrelay migrate up"},
	} {
		in, _ := io.Pipe()
		var out, errOut bytes.Buffer
		err := mcpCommand{AllUsers: true}.talk(t.Context(), streams{environ: []string{"DATABASE_URL=" + tc.url}, out: &out, err: &errOut}, in)
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hush") || out.Len() > 0 {
			t.Errorf("%s: %v, wrote %q", name, err, out.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, _ := io.Pipe()
	err := mcpCommand{AllUsers: true}.talk(ctx, streams{environ: []string{"DATABASE_URL=" + dbtest.URL(t)}, out: io.Discard, err: io.Discard}, in)
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("stopped while starting: %v", err)
	}
}
