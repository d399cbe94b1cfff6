package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/outbound"
)

// NewEndpoints makes what endpoints are set up with: what the guard would refuse to
// send to is refused there, too.
func NewEndpoints(cfg config.Config, pool *pgxpool.Pool, jobs lane.Inserter, now func() time.Time) (*endpoint.Store, error) {
	box, err := NewBox(cfg)
	if err != nil {
		return nil, err
	}
	return endpoint.New(pool, jobs, box, newGuard(cfg).CheckURL, rand.Reader, now), nil
}

func newGuard(cfg config.Config) *outbound.Guard {
	return outbound.NewGuard(cfg.OutboundAllowPrivate, cfg.OutboundPorts)
}

func testThrough(tester *outbound.Tester, pool *pgxpool.Pool, endpoints *endpoint.Store) admin.TestEndpoint {
	return func(ctx context.Context, which, event string) (admin.TestOutcome, error) {
		shown, err := endpoints.Get(ctx, which)
		if err != nil {
			return admin.TestOutcome{}, err
		}
		row, err := db.New(pool).GetEndpoint(ctx, shown.ID)
		if err != nil {
			return admin.TestOutcome{}, wrap("get endpoint", err)
		}
		outcome, err := tester.SendTo(ctx, row, event)
		if errors.Is(err, outbound.ErrNoSuchEvent) {
			return admin.TestOutcome{}, &endpoint.FieldError{Field: "event", Problem: "there is no such event: /v1/event-types lists all"}
		}
		return admin.TestOutcome(outcome), err
	}
}

// heartbeat is how often who follows events hears something: proxies close what has been
// silent for half a minute.
const heartbeat = 15 * time.Second

// buildAdmin builds what operators talk to.
func (a *App) buildAdmin() error {
	endpoints, err := NewEndpoints(a.cfg, a.pool, a.jobs, a.o.Now)
	if err != nil {
		return err
	}
	running, err := a.running()
	if err != nil {
		return err
	}
	a.stream = admin.NewStream(a.pool, heartbeat, a.log)
	a.operators = admin.NewHTTP(admin.Parts{
		Access: a.agents.access, Endpoints: endpoints, Redeliveries: endpoint.NewRedeliveries(a.pool, a.jobs),
		Deliveries: admin.NewDeliveries(a.pool, a.jobs, outbound.Resend),
		Admin:      admin.New(a.pool, a.jobs, outbound.Retry), Events: admin.NewEvents(a.pool), Stream: a.stream,
		Replays: admin.NewReplays(a.pool, a.search, a.jobs),
		Test:    testThrough(a.agents.tester, a.pool, endpoints), Running: running, Now: a.o.Now,
	})
	return nil
}

// endpointConcerns are the endpoints that nothing is sent to, and those that fail.
func (a *App) endpointConcerns(ctx context.Context) ([]string, error) {
	rows, err := db.New(a.pool).ListFailingEndpoints(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the endpoints: %w", err)
	}
	var found []string
	for _, p := range rows {
		how := "fails"
		if p.Status == endpoint.Disabled {
			how = "is disabled"
		}
		found = append(found, fmt.Sprintf("The endpoint %s %s: `memrelay endpoints show %s` says why.", p.Name, how, p.Name))
	}
	return found, nil
}
