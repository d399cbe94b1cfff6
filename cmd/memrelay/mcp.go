package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/mcp"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/postgres"
)

type mcpCommand struct {
	Users    []string `name:"user" sep:"none" xor:"whose" required:"" help:"The user_id whose memory the agent may see and change, as zoho:4876876000000333; again for more. All others are invisible."`
	AllUsers bool     `xor:"whose" required:"" help:"The agent may see and change everybody's memory."`
}

// mcpConns are enough for two groups of writes in flight, and some searches.
const mcpConns = 6

// Run talks to an agent over stdin and stdout.
func (c mcpCommand) Run(ctx context.Context, s streams) error { return c.talk(ctx, s, os.Stdin) }

// talk serves the memory as tools until in ends or ctx does. Nothing but the
// protocol is written to s.out.
func (c mcpCommand) talk(ctx context.Context, s streams, in io.ReadCloser) error {
	cfg, log, err := s.settings()
	if err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, cfg.DatabaseURL, postgres.Options{
		Log: log, MaxConns: mcpConns, Searches: true, Language: cfg.Memory.Language, Name: "mcp",
	})
	if err != nil {
		return unlessStopped(ctx, err)
	}
	defer pool.Close()
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return unlessStopped(ctx, err)
	}
	jobs, err := app.NewJobs(cfg, pool, log)
	if err != nil {
		return err
	}
	sender := memory.Sender{Source: "memrelay", BotVersion: cfg.BotVersion}
	store := memory.NewStore(pool, memory.NewWriter(jobs, sender, cfg.Memory.Backend, time.Now))
	defer store.Wait()
	searcher, err := app.NewSearcher(cfg, pool, time.Now, log)
	if err != nil {
		return err
	}
	caller := memory.Caller{Actor: "mcp", UserIDs: c.Users, All: c.AllUsers}
	server, err := mcp.NewServer(store, searcher, mcp.Options{
		Caller: func(context.Context) (memory.Caller, bool) { return caller, true }, Version: version, Log: log,
	})
	if err != nil {
		return err
	}
	return server.Serve(ctx, in, s.out)
}
