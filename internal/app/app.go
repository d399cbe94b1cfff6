// Package app builds the whole program from its settings and runs it. In go a
// Config and a listener, out comes a program that serves, works and sweeps
// until its context ends, and then stops in one order.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/channel"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/health"
	"github.com/memrelay/memrelay/internal/inbound"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/mirror"
	"github.com/memrelay/memrelay/internal/outbound"
	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/process"
	"github.com/memrelay/memrelay/internal/reconcile"
	"github.com/memrelay/memrelay/internal/rejected"
	"github.com/memrelay/memrelay/internal/retention"
	"github.com/memrelay/memrelay/internal/zoho"
)

// Options are what of the program is to run.
type Options struct {
	Log     *slog.Logger
	Version string
	// Work works jobs, sweeps, and may lead. Without it the program only inserts
	// the jobs that its own requests bring.
	Work bool
	// Now is the clock; nil: the machine's.
	Now func() time.Time
	// Environ is what the settings were read from, for operators who ask where one is from.
	Environ []string
}

const (
	// workConns bounds the connections of the working pool: two groups in flight
	// for each of ten committers, and some for single statements. On two nodes it
	// stays below a server's default of 100 with River's and those of searches.
	workConns = 24
	// riverConns are River's own: a fetch per queue, completion, maintenance and leading.
	riverConns = 10
	// syncsHere is how many accounts are synced at one time besides those that the queue
	// hands out: two groups' worth, one that is written and one that gathers.
	syncsHere = 512
	// searchConns bound how many searches and looks at the graph run at one time.
	searchConns = 8
)

// App is the program.
type App struct {
	cfg       config.Config
	process   uuid.UUID // as whom this one counts and works
	o         Options
	log       *slog.Logger
	pool      *pgxpool.Pool
	river     *pgxpool.Pool
	search    *pgxpool.Pool
	jobs      *river.Client[pgx.Tx]
	counts    *counter.Set
	writer    *memory.Writer
	memories  *memory.Store
	applier   *process.Applier
	ingester  *inbound.Ingester
	health    *health.Health
	targets   *outbound.Targets // the endpoints, past the guard
	deliverer *outbound.Deliverer
	relayer   *outbound.Relayer // nil: no jobs are worked
	router    *process.Router   // nil: no jobs are worked
	here      *lane.Here        // the syncs that the router hands over
	pauses    pauses
	agents    agents
	operators *admin.HTTP
	stream    *admin.Stream
	stats     *admin.Stats
	refusals  *rejected.Log
	remote    *Remote              // the memory system that follows; nil: none does
	mirror    *mirror.Mirror       // nil: none follows
	retention *retention.Retention // nil: events are kept for ever

	// What needs Zoho; nil when it is not connected.
	zoho       *zoho.Client
	keeper     *channel.Keeper
	reconciler *reconcile.Reconciler
}

// New opens the database and builds every part. It refuses a database whose
// schema does not fit. Close releases what New opened.
func New(ctx context.Context, cfg config.Config, o Options) (*App, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &App{cfg: cfg, o: o, log: o.Log}
	if err := a.open(ctx); err != nil {
		a.Close()
		return nil, err
	}
	if err := a.build(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *App) open(ctx context.Context) (err error) {
	if a.pool, err = postgres.Open(ctx, a.cfg.DatabaseURL, postgres.Options{Log: a.log, MaxConns: workConns, Lookups: true, Language: a.cfg.Memory.Language, Name: "work"}); err != nil {
		return err
	}
	if err := postgres.CheckSchema(ctx, a.pool); err != nil {
		return err
	}
	// River's maintenance may rightly take longer than any statement of ours.
	if a.river, err = postgres.Open(ctx, a.cfg.DatabaseURL, postgres.Options{Log: a.log, MaxConns: riverConns, Name: "river", Unlimited: true}); err != nil {
		return err
	}
	a.search, err = postgres.Open(ctx, a.cfg.DatabaseURL, postgres.Options{
		Log: a.log, MaxConns: searchConns, Searches: true, Language: a.cfg.Memory.Language, Name: "search",
	})
	return err
}

func (a *App) build() error {
	a.process = uuid.Must(uuid.NewV7())
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	slots := 0
	if a.o.Work {
		for _, q := range a.queues() {
			slots += q.MaxWorkers
		}
	}
	a.counts = counter.New(a.pool, a.process, host, slots, a.log)
	a.refusals = rejected.New(a.pool, a.counts, a.log)
	// Workers insert jobs through the client that works them, which is built of
	// the workers: they get it by way of this value.
	inserter := &clientInserter{}
	a.writer = memory.NewWriter(inserter, a.sender(), a.cfg.Memory.Backend, a.o.Now)
	a.memories = memory.NewStore(a.pool, a.writer)
	a.applier = process.NewApplier(a.pool, a.writer, a.counts, a.log)
	box, err := NewBox(a.cfg)
	if err != nil {
		return err
	}
	a.targets = outbound.NewTargets(a.guard().TransportWith, box, a.credentials(), a.o.Now)
	a.deliverer = outbound.NewDeliverer(a.pool, inserter, a.counts, a.targets, memory.NewTeller(inserter, a.sender(), a.o.Now), a.policy(),
		a.process, a.o.Version, a.o.Now, a.log)
	if err := a.buildMirror(inserter); err != nil {
		return err
	}
	if err := a.buildAgents(inserter); err != nil {
		return err
	}
	if err := a.connect(inserter); err != nil {
		return err
	}
	riverConfig := &river.Config{
		ID:     a.process.String(),
		Logger: a.log,
		// An attempt is 10 s at most, so that what a crash left behind is found after 15.
		JobTimeout:           10 * time.Second,
		RescueStuckJobsAfter: 15 * time.Second,
		MaxAttempts:          a.cfg.Inbound.MaxRetries,
		SoftStopTimeout:      a.cfg.ShutdownTimeout,
		// What a job did stands in our rows; the hot table is kept small.
		CompletedJobRetentionPeriod: 10 * time.Minute,
		// One minute leaves half-built indexes behind on a large table.
		ReindexerTimeout: 10 * time.Minute,
		// Those of River's that migration 21 leaves.
		ReindexerIndexNames: []string{
			"river_job_pkey", "river_job_prioritized_fetching_index", "river_job_state_and_finalized_at_index", "river_job_unique_idx",
		},
	}
	if a.o.Work {
		riverConfig.Queues = a.queues()
		riverConfig.Workers = a.workers(inserter)
	}
	if a.jobs, err = river.NewClient(riverpgxv5.New(a.river), riverConfig); err != nil {
		return fmt.Errorf("build the job client: %w", err)
	}
	inserter.client = a.jobs
	a.buildRetention()
	a.ingester = inbound.NewIngester(a.pool, a.jobs, a.counts, a.cfg.ZohoModules, group.Options{})
	a.ingester.Share(a.cfg.Inbound.SourceShare, a.o.Now)
	a.health = health.New(a.pool, a.counts, a.cfg.Inbound.MaxQueueSize, a.o.Now, a.concerns, a.mirrorConcerns, a.endpointConcerns)
	return a.buildAdmin()
}

// queues are how many jobs of a kind a node works at one time, and how soon one
// is picked up: at most MaxWorkers each FetchCooldown. With 5 ms and 50 ms half
// of the jobs wait less than 4 ms; River's defaults cost 50 ms.
func (a *App) queues() map[string]river.QueueConfig {
	q := func(workers int) river.QueueConfig {
		return river.QueueConfig{MaxWorkers: workers, FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 50 * time.Millisecond}
	}
	return map[string]river.QueueConfig{
		// Jobs of these two only wait for their group's commit: many share one.
		job.QueueProcess: q(200),
		job.QueueSync:    q(200),
		// One relays, one waits for its lock; more would only hold connections.
		job.QueueRelay: q(2),
		// A slow endpoint holds its slot for as long as its slowest answer.
		job.QueueDeliver: q(100),
		// Each opens deliveries for some seconds and then goes to the end of the line.
		job.QueueRedeliver: {MaxWorkers: 4, FetchPollInterval: 200 * time.Millisecond},
		// Each runs events again for some seconds, while the backlog has room.
		job.QueueReplay: {MaxWorkers: 2, FetchPollInterval: 200 * time.Millisecond},
		// Calls of the memory system that follows, at one time.
		job.QueueMirror: q(a.cfg.Inbound.NumWorkers),
		// Work on all of what a user's memory holds; it keeps one connection busy.
		job.QueueMemory: {MaxWorkers: 2, FetchPollInterval: time.Second},
		// At most two syncs of Zoho, and its channels: what starts them looks once a minute.
		job.QueueUpkeep: {MaxWorkers: 3, FetchPollInterval: time.Second},
	}
}

// workers registers every kind, on every node: an old leader would discard jobs
// of a kind it does not know.
func (a *App) workers(jobs *clientInserter) *river.Workers {
	retry := process.Retry{
		MaxAttempts: a.cfg.Inbound.MaxRetries, Base: a.cfg.Inbound.RetryDelayBase, GiveUpAfter: a.cfg.Inbound.GiveUpAfter,
	}
	workers := river.NewWorkers()
	teller := memory.NewTeller(jobs, a.sender(), a.o.Now)
	router := process.NewRouter(a.pool, jobs, a.counts, retry, a.cfg.Inbound.Debounce, teller, a.log)
	if a.cfg.Memory.Ingest == "apply" {
		router.Apply(a.applier)
	}
	syncer := process.NewSyncer(a.pool, jobs, a.source(), a.counts, retry, a.writer, a.o.Now, a.log)
	a.router, a.here = router, lane.NewHere(a.pool, a.process, syncsHere, a.pauses.held(job.QueueSync), a.log)
	router.HandTo(syncer, a.here)
	river.AddWorker(workers, router)
	river.AddWorker(workers, syncer)
	river.AddWorker(workers, process.NewWaker(a.pool, jobs, a.log))
	a.addZohoWorkers(workers)
	mirror.AddWorkers(workers, a.mirror)
	river.AddWorker(workers, memory.NewRunner(a.pool, jobs, a.writer, a.o.Now, a.log))
	a.relayer = outbound.NewRelayer(a.pool, jobs, a.deliverer, a.log)
	a.deliverer.Hold(a.pauses.held(job.QueueDeliver))
	relayHeld := a.pauses.held(job.QueueRelay)
	a.writer.Nudge(func() {
		if !relayHeld() {
			a.relayer.Nudge()
		}
	})
	river.AddWorker(workers, a.relayer)
	river.AddWorker(workers, a.deliverer)
	river.AddWorker(workers, outbound.NewRedeliverer(a.pool, jobs, a.log))
	river.AddWorker(workers, admin.NewReplayer(admin.NewReplays(a.pool, a.search, jobs), a.log))
	return workers
}

func (a *App) policy() outbound.Policy {
	f := a.cfg.Failing
	return outbound.Policy{FailingAfter: f.After, DisableAfter: f.DisableAfter, DisableFailures: f.DisableFailures, ProbeEvery: f.ProbeEvery}
}

func (a *App) guard() *outbound.Guard {
	return outbound.NewGuard(a.cfg.OutboundAllowPrivate, a.cfg.OutboundPorts)
}

// Close releases connections. Run must have returned.
func (a *App) Close() {
	// Kept connections to endpoints would stay for as long as they may be idle.
	if a.targets != nil {
		a.targets.CloseIdleConnections()
	}
	if a.zoho != nil {
		a.zoho.CloseIdleConnections()
	}
	if a.remote != nil {
		a.remote.CloseIdleConnections()
	}
	if a.search != nil {
		a.search.Close()
	}
	if a.river != nil {
		a.river.Close()
	}
	if a.pool != nil {
		a.pool.Close()
	}
}

// Run runs until ctx ends, and then stops: no new requests and no new jobs, what
// is under way gets SHUTDOWN_TIMEOUT to finish, the rest goes back to the queue.
// It returns nil after a stop that was asked for. ln is nil for a program that
// only works; Run closes it.
func (a *App) Run(ctx context.Context, ln net.Listener) error {
	if err := a.counts.Flush(ctx); err != nil {
		return errors.Join(stopped(ctx, err), closeListener(ln))
	}
	if a.o.Work {
		a.warnOfEndpoint()
		if err := outbound.SetEnv(ctx, a.pool, a.jobs, a.endpoint()); err != nil {
			return errors.Join(stopped(ctx, err), closeListener(ln))
		}
		// Before the first work is begun.
		if _, err := a.lookAtPauses(ctx); err != nil {
			return errors.Join(stopped(ctx, err), closeListener(ln))
		}
	}
	// The counters go on until the last job has counted.
	counting, stopCounting := context.WithCancel(context.WithoutCancel(ctx))
	counted := make(chan struct{})
	go func() { defer close(counted); a.counts.Run(counting) }()

	g, gctx := errgroup.WithContext(ctx)
	if ln != nil {
		g.Go(func() error { return a.serve(gctx, ln) })
		g.Go(func() error { a.refusals.Run(gctx); return nil })
	}
	g.Go(func() error { a.keepSums(gctx); return nil })
	if a.o.Work {
		g.Go(func() error { return a.work(gctx) })
		g.Go(func() error { a.relayer.Run(gctx); return nil })
		g.Go(func() error { a.sweep(gctx); return nil })
		g.Go(func() error { a.rescue(gctx); return nil })
		g.Go(func() error { a.watchPauses(gctx); return nil })
		g.Go(func() error { a.retain(gctx); return nil })
	}
	g.Go(func() error { <-gctx.Done(); return nil })
	err := g.Wait()
	a.ingester.Wait()
	a.memories.Wait()
	a.agents.access.Wait()
	stopCounting()
	<-counted
	return err
}

// stopped forgets an error that only says that a stop was asked for.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func closeListener(ln net.Listener) error {
	if ln == nil {
		return nil
	}
	return ln.Close()
}

func (a *App) endpoint() outbound.Endpoint {
	o := a.cfg.Outbound
	return outbound.Endpoint{URL: o.URL, Events: o.Events, Timeout: o.Timeout, MaxAttempts: o.RetryCount, RetryDelay: o.RetryDelay}
}

func (a *App) credentials() endpoint.Credentials {
	return endpoint.EnvCredentials(a.cfg.Outbound.Token, a.cfg.Outbound.Secret)
}

func (a *App) sender() memory.Sender { return Sender(a.cfg) }

// Sender is what webhooks say of who sends them.
func Sender(cfg config.Config) memory.Sender {
	return memory.Sender{Source: "memrelay", BotVersion: cfg.BotVersion}
}

// warnOfEndpoint says at the start what every delivery would say later.
func (a *App) warnOfEndpoint() {
	if a.cfg.Outbound.URL == "" {
		return
	}
	if err := a.guard().CheckURL(a.cfg.Outbound.URL); err != nil {
		a.log.Warn("MEM0_WEBHOOK_URL will be refused", "error", err)
	}
}

func (a *App) serve(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: 5 * time.Second, // a sender that drips headers holds a connection
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	// Who follows events would be waited for until the time is up.
	server.RegisterOnShutdown(a.stream.Stop)
	shut := make(chan error, 1)
	go func() {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.ShutdownTimeout)
		defer cancel()
		err := server.Shutdown(drain)
		if errors.Is(err, context.DeadlineExceeded) {
			// Whoever is not answered by now sends again.
			err = server.Close()
		}
		shut <- err
	}()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return <-shut
}

func (a *App) work(ctx context.Context) error {
	// River starts to stop when this context ends: running jobs get SoftStopTimeout,
	// then their contexts end and they go back to the queue.
	if err := a.jobs.Start(ctx); err != nil {
		return stopped(ctx, fmt.Errorf("start working jobs: %w", err))
	}
	// Requests that have outlived their jobs get the same time as those.
	drain, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		a.deliverer.Hush()
		time.AfterFunc(a.cfg.ShutdownTimeout, cancel)
	})
	defer stop()
	<-a.jobs.Stopped()
	a.router.Wait()
	a.here.Stop(drain)
	a.deliverer.Stop(drain)
	return nil
}

// Jobs inserts jobs.
func (a *App) Jobs() lane.Inserter { return a.jobs }

// CheckDurable refuses a database that answers before its log is on disk.
func (a *App) CheckDurable(ctx context.Context) error {
	return postgres.CheckDurable(ctx, a.pool)
}
