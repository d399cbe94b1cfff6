package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/api"
	"github.com/memrelay/memrelay/internal/catalogue"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/inbound"
	"github.com/memrelay/memrelay/internal/mcp"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/embed"
	"github.com/memrelay/memrelay/internal/outbound"
	"github.com/memrelay/memrelay/internal/respond"
)

// agents are what agents and other memory systems talk to.
type agents struct {
	access   *access.Access
	searcher *memory.Searcher
	runs     *memory.Runs
	events   *catalogue.Catalogue
	mcp      *mcp.Server
	tester   *outbound.Tester
}

// NewSearcher makes what finds memories, with the embedder of the settings. pool is
// one that plans each statement for its values.
func NewSearcher(cfg config.Config, pool *pgxpool.Pool, now func() time.Time, log *slog.Logger) (*memory.Searcher, error) {
	o := memory.SearchOptions{Language: cfg.Memory.Language, Now: now, Log: log}
	if cfg.Memory.EmbedderURL != "" {
		embedder, err := embed.New(embed.Options{
			URL: cfg.Memory.EmbedderURL, Key: cfg.Memory.EmbedderAPIKey, Model: cfg.Memory.EmbedderModel, Transport: newTransport(searchConns),
		})
		if err != nil {
			return nil, fmt.Errorf("MEMORY_EMBEDDER_URL: %w", err)
		}
		o.Embedder = embedder
	}
	return memory.NewSearcher(pool, o), nil
}

// buildAgents builds what agents talk to.
func (a *App) buildAgents(jobs *clientInserter) error {
	var err error
	if a.agents.searcher, err = NewSearcher(a.cfg, a.search, a.o.Now, a.log); err != nil {
		return err
	}
	if a.agents.events, err = catalogue.New(); err != nil {
		return err
	}
	a.agents.access = access.New(a.pool, a.cfg.AdminToken, a.o.Now)
	a.agents.runs = memory.NewRuns(a.pool, jobs)
	a.agents.tester = outbound.NewTester(a.targets, a.o.Version, a.endpoint(), a.agents.events, a.sender(), a.o.Now)
	a.agents.mcp, err = mcp.NewServer(a.memories, a.agents.searcher, mcp.Options{Caller: caller, Version: a.o.Version, Log: a.log})
	return err
}

// caller is whoever access has let through.
func caller(ctx context.Context) (memory.Caller, bool) {
	who, ok := access.From(ctx)
	return memory.Caller{Actor: who.Actor, UserIDs: who.UserIDs, All: who.All}, ok
}

// agentRoutes are those of agents, and of operators who look after them.
func (a *App) agentRoutes(r chi.Router) {
	of := a.agents
	memoryAPI := api.New(api.Parts{
		Access: of.access, Store: a.memories, Searcher: of.searcher, Grapher: memory.NewGraphs(a.search), Runner: of.runs,
		Events: of.events, Log: a.log,
	})
	r.Route("/v1", func(r chi.Router) {
		// Whoever writes a receiver; no token, for nothing in it is secret.
		r.Method(http.MethodGet, "/event-types", respond.Handler(of.events.List))
		r.Method(http.MethodGet, "/event-types/{name}", respond.Handler(of.events.Show))
		// Agents, with a token of the scope memory.
		memoryAPI.Routes(r)
	})
	// Agents without code of their own, with the same token.
	r.With(of.access.Require(access.Memory)).Method(http.MethodPost, "/mcp", of.mcp.Handler())

	if !a.cfg.Inbound.Enabled {
		return
	}
	// Other memory systems.
	r.Method(http.MethodPost, "/webhooks/memory", inbound.NewMemory(a.ingester, a.counts, inbound.MemorySettings{
		Token: a.cfg.Outbound.Token, Secrets: []string{a.cfg.Outbound.Secret}, Apply: a.cfg.Memory.Ingest == "apply",
		MaxBacklog: a.cfg.Inbound.MaxQueueSize, BodyTimeout: inbound.BodyTimeout, Now: a.o.Now,
	}))
	// Operators, who want to know whether webhooks arrive.
	r.With(of.access.Require(access.AdminRead)).Method(http.MethodGet, "/webhooks/memory/status", respond.Handler(of.tester.ServeStatus))
	r.With(of.access.Require(access.AdminWrite)).Method(http.MethodPost, "/webhooks/memory/test", respond.Handler(of.tester.ServeTest))
}
