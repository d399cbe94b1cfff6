package app

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/catalogue"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/health"
	"github.com/memrelay/memrelay/internal/outbound"
	"github.com/memrelay/memrelay/internal/respond"
)

// NewJobs makes a client that inserts jobs and works none. What it inserts has as many
// attempts as what a node inserts.
func NewJobs(cfg config.Config, pool *pgxpool.Pool, log *slog.Logger) (*river.Client[pgx.Tx], error) {
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: log, MaxAttempts: cfg.Inbound.MaxRetries})
	if err != nil {
		return nil, fmt.Errorf("build the job client: %w", err)
	}
	return jobs, nil
}

// Operators is what operators talk to, without the rest of the program: it serves nobody,
// and works nothing.
type Operators struct {
	app   *App
	actor string
}

// NewOperators builds it on a pool that stays the caller's. All that is asked of it is done
// in the name of actor, who may do everything: it is for whoever has the database anyway.
func NewOperators(cfg config.Config, pool *pgxpool.Pool, actor string, o Options) (*Operators, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &App{cfg: cfg, o: o, log: o.Log, pool: pool, river: pool, search: pool, process: uuid.Must(uuid.NewV7())}
	a.counts = counter.New(pool, a.process, "", 0, a.log)
	box, err := NewBox(cfg)
	if err != nil {
		return nil, err
	}
	a.targets = outbound.NewTargets(a.guard().TransportWith, box, a.credentials(), o.Now)
	if a.jobs, err = NewJobs(cfg, pool, a.log); err != nil {
		return nil, err
	}
	if err := a.connect(a.jobs); err != nil {
		return nil, err
	}
	events, err := catalogue.New()
	if err != nil {
		return nil, err
	}
	a.agents.access = access.New(pool, "", o.Now)
	a.agents.tester = outbound.NewTester(a.targets, o.Version, a.endpoint(), events, a.sender(), o.Now)
	a.health = health.New(pool, a.counts, cfg.Inbound.MaxQueueSize, o.Now)
	return &Operators{app: a, actor: actor}, a.buildAdmin()
}

// Handler answers operators' requests as a node does, and says who works.
func (o *Operators) Handler() http.Handler {
	r := chi.NewRouter()
	respond.Use(r, o.app.log)
	who := access.Identity{Actor: o.actor, Scopes: access.Scopes(), All: true}
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			next.ServeHTTP(w, req.WithContext(access.As(req.Context(), who)))
		})
	})
	r.Route("/admin", o.app.operators.Routes)
	r.Method(http.MethodGet, "/webhooks/metrics", respond.Handler(o.app.health.Metrics))
	return r
}

// Close ends what follows events and releases connections to endpoints and Zoho; the pool
// stays open.
func (o *Operators) Close() {
	o.app.stream.Stop()
	o.app.targets.CloseIdleConnections()
	if o.app.zoho != nil {
		o.app.zoho.CloseIdleConnections()
	}
}
