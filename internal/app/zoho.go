package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/channel"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/connection"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/process"
	"github.com/memrelay/memrelay/internal/reconcile"
	"github.com/memrelay/memrelay/internal/seal"
	"github.com/memrelay/memrelay/internal/zoho"
)

// ErrNoCredentials is returned where Zoho is needed and no client is set.
var ErrNoCredentials = errors.New("ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET are not set: docs/zoho.md tells how to connect")

// ZohoConfig is what the settings say of Zoho, as its client takes it.
func ZohoConfig(cfg config.Config) zoho.Config {
	z := cfg.Zoho
	return zoho.Config{
		DataCenter: z.DataCenter, Edition: z.Edition, AccountsURL: z.AccountsURL, APIURL: z.APIURL,
		ClientID: z.ClientID, ClientSecret: z.ClientSecret,
	}
}

// NewBox makes what seals and opens the secrets in the database. Without a key in the
// settings it is a valid one that does neither.
func NewBox(cfg config.Config) (*seal.Box, error) {
	box, err := seal.New(cfg.Keys, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("read MEMRELAY_KEY: %w", err)
	}
	return box, nil
}

// NewZoho makes the client of Zoho's API. Its token and its breaker are those of
// all nodes on the database behind pool. ErrNoCredentials is returned when the
// settings name no client; that the client is not authorised shows with its
// first call.
func NewZoho(cfg config.Config, pool *pgxpool.Pool, now func() time.Time, log *slog.Logger) (*zoho.Client, error) {
	if !cfg.Zoho.Connected() {
		return nil, ErrNoCredentials
	}
	box, err := NewBox(cfg)
	if err != nil {
		return nil, err
	}
	o := connection.Options{Now: now, After: time.After, Random: mathrand.Float64, Log: log}
	zohoConfig := ZohoConfig(cfg)
	transport := newTransport(cfg.Inbound.NumWorkers)
	tokens, err := connection.NewTokens(pool, connection.Settings{
		ClientID: cfg.Zoho.ClientID, ClientSecret: cfg.Zoho.ClientSecret,
		RefreshToken: cfg.Zoho.RefreshToken, AccountsURL: cfg.Zoho.AccountsURL,
	}, box, func(accountsURL string) connection.Refresher {
		at := zohoConfig
		if accountsURL != "" {
			at.AccountsURL = accountsURL
		}
		return zoho.NewOAuth(at, transport, now)
	}, o)
	if err != nil {
		return nil, fmt.Errorf("share Zoho's tokens: %w", err)
	}
	return zoho.NewClient(zohoConfig, zoho.Options{
		Tokens: tokens, Gate: connection.NewBreaker(pool, o), Transport: transport,
		Concurrency: cfg.Inbound.NumWorkers, GatherLeast: cfg.Inbound.BatchSize, GatherWait: cfg.Inbound.BatchTimeout,
		Fields: fields(cfg.Zoho.Fields), Now: now, Log: log,
	}), nil
}

// newTransport keeps as many connections to Zoho as there may be calls.
func newTransport(calls int) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		MaxIdleConns: 2 * calls, MaxIdleConnsPerHost: calls, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
	}
}

// fields are the lists of ZOHO_FIELDS, with the usual ones where they come beside them.
func fields(lists map[string]config.FieldList) map[string][]string {
	all := make(map[string][]string, len(lists))
	for module, list := range lists {
		if list.Beside {
			all[module] = append(zoho.DefaultFields(module), list.Names...)
			continue
		}
		all[module] = list.Names
	}
	return all
}

// NotifyURL is where Zoho is to send its notifications; "" when nobody said how
// it reaches this program.
func NotifyURL(cfg config.Config) string {
	if cfg.Inbound.BaseURL == "" {
		return ""
	}
	return strings.TrimSuffix(cfg.Inbound.BaseURL, "/") + "/webhooks/zoho"
}

// NewKeeper makes what keeps the notification channels. z may be nil: then it only lists them.
func NewKeeper(cfg config.Config, pool *pgxpool.Pool, jobs lane.Inserter, z *zoho.Client, now func() time.Time, log *slog.Logger) *channel.Keeper {
	o := channel.Options{
		Modules: cfg.ZohoModules, NotifyURL: NotifyURL(cfg), Now: now, Random: rand.Reader, Log: log,
		Teller: memory.NewTeller(jobs, Sender(cfg), now),
	}
	if z == nil {
		return channel.New(pool, nil, o)
	}
	return channel.New(pool, z, o)
}

// NewReconciler makes what syncs. z and counts may be nil for one that starts
// and shows syncs and works none.
func NewReconciler(cfg config.Config, pool *pgxpool.Pool, jobs lane.Inserter, z *zoho.Client, counts *counter.Set,
	now func() time.Time, log *slog.Logger,
) (*reconcile.Reconciler, error) {
	timezone, err := time.LoadLocation(cfg.Sync.Timezone)
	if err != nil {
		return nil, fmt.Errorf("SYNC_TIMEZONE: %w", err)
	}
	o := reconcile.Options{
		Modules: cfg.ZohoModules, Now: now, Log: log, MaxBacklog: cfg.Inbound.MaxQueueSize,
		IncrementalEvery: cfg.Sync.IncrementalEvery, FullAt: cfg.Sync.FullAt, Timezone: timezone,
		Sender: Sender(cfg),
	}
	if z == nil {
		return reconcile.New(pool, jobs, nil, counts, o), nil
	}
	return reconcile.New(pool, jobs, z, counts, o), nil
}

// connect builds what needs Zoho; without credentials all of it stays nil.
func (a *App) connect(jobs lane.Inserter) error {
	var err error
	if a.zoho, err = NewZoho(a.cfg, a.pool, a.o.Now, a.log); errors.Is(err, ErrNoCredentials) {
		return nil
	}
	if err != nil {
		return err
	}
	a.keeper = NewKeeper(a.cfg, a.pool, jobs, a.zoho, a.o.Now, a.log)
	a.reconciler, err = NewReconciler(a.cfg, a.pool, jobs, a.zoho, a.counts, a.o.Now, a.log)
	return err
}

// source is what syncs believe: Zoho where it is connected, else the payloads.
func (a *App) source() process.Source {
	if a.zoho == nil {
		return process.Payloads{}
	}
	return process.NewReads(a.zoho, a.cfg.ZohoModules, a.log)
}

// addZohoWorkers registers the kinds that need Zoho. A node without credentials
// leaves their jobs to the others; it must know the kinds all the same, or as
// the leader it would discard them.
func (a *App) addZohoWorkers(workers *river.Workers) {
	if a.zoho == nil {
		river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[job.Reconcile]) error {
			return river.JobSnooze(time.Minute)
		}))
		river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[job.KeepChannels]) error { return nil }))
		return
	}
	river.AddWorker(workers, a.reconciler)
	river.AddWorker(workers, channel.NewWorker(a.keeper))
}

// schedule starts the syncs whose time has come, and the upkeep of channels.
func (a *App) schedule(ctx context.Context, tx pgx.Tx) (int, error) {
	if a.zoho == nil {
		return 0, nil
	}
	if err := a.reconciler.Schedule(ctx, tx, a.o.Now()); err != nil {
		return 0, fmt.Errorf("schedule syncs: %w", err)
	}
	return 0, wrap("schedule the upkeep of channels", a.keeper.Schedule(ctx, tx, a.jobs))
}

// concerns are what of Zoho degrades health: none of it when Zoho is not connected.
func (a *App) concerns(ctx context.Context) ([]string, error) {
	if a.zoho == nil {
		return nil, nil
	}
	q := db.New(a.pool)
	var found []string
	state, err := connection.State(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("look at the connection: %w", err)
	}
	switch {
	case state.State == connection.StateRevoked, state.State == connection.StateNone && a.cfg.Zoho.RefreshToken == "":
		found = append(found, "Zoho is not connected: "+state.Remedy+".")
	case state.Breaker.Open:
		found = append(found, "Zoho is not asked at the moment: "+state.Breaker.Reason+".")
	}
	lost, err := channel.Health(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("look at the channels: %w", err)
	}
	for _, module := range lost {
		found = append(found, "The channel of "+module+" is lost: `memrelay channels list` says why.")
	}
	_, _, stale, err := a.reconciler.Staleness(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the syncs: %w", err)
	}
	if stale {
		found = append(found, "No sync has succeeded for too long: `memrelay sync list` says why.")
	}
	return found, nil
}
