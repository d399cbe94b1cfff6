package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/zoho"
)

// The kinds of syncs: everything, and what changed since the one before.
const (
	Full        = "full"
	Incremental = "incremental"
)

// The states of a sync. Running and paused ones are active, of which there is at
// most one of a kind; the others have ended.
const (
	Running   = "running"
	Paused    = "paused"
	Completed = "completed"
	Failed    = "failed"
	Cancelled = "cancelled"
)

// Source is the source of the events made here.
const Source = "reconcile"

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("there is no such sync")
	// ErrEnded is returned for a sync that has ended, and cannot be paused, resumed or cancelled.
	ErrEnded = errors.New("the sync has ended")
	// ErrNotRunning and ErrNotPaused are returned for a sync that is paused or runs already.
	ErrNotRunning = errors.New("the sync is paused")
	ErrNotPaused  = errors.New("the sync is not paused")
	// ErrNoModules is returned when none of the configured modules is one that Zoho lists.
	ErrNoModules = errors.New("no module is configured")
	// ErrAccountID is returned for what cannot be the id of an account.
	ErrAccountID = errors.New("is no id of an account")
)

// Zoho is what of Zoho's API a sync needs.
type Zoho interface {
	List(ctx context.Context, module string, o zoho.ListOptions) (zoho.Page, error)
	Deleted(ctx context.Context, module string, since time.Time, cursor zoho.Cursor) (zoho.DeletedPage, error)
	Get(ctx context.Context, module, id string) (zoho.Record, error)
	Count(ctx context.Context, module string) (int64, error)
	// Calls are the requests sent so far, by whomever: a sync counts those that were
	// sent while it worked.
	Calls() int64
}

// Options are what a Reconciler is built of besides its connections.
type Options struct {
	// Modules are those that are worked, as configured.
	Modules []string
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger
	// Grace is how young a change may be without counting as missed: its webhook
	// may be on its way. 0: a minute.
	Grace time.Duration
	// MaxBacklog is how many events may wait to be routed. A sync waits while it is
	// more than half full, so that it never keeps a webhook out; 0: it never waits.
	MaxBacklog int64
	// IncrementalEvery is how often Schedule starts an incremental sync; 0: never.
	IncrementalEvery time.Duration
	// FullAt is when Schedule starts a full one, as hours and minutes of a day
	// ("02:00"); "off" or "": never.
	FullAt   string
	Timezone *time.Location // whose clock FullAt is read from; nil: UTC
	// Sender is what webhooks say of who sends them; no Source: "memrelay".
	Sender memory.Sender
}

// Reconciler starts, works and shows syncs.
type Reconciler struct {
	river.WorkerDefaults[job.Reconcile]
	pool    *pgxpool.Pool
	jobs    lane.Inserter
	zoho    Zoho
	counts  *counter.Set
	teller  *memory.Teller
	o       Options
	modules []string
	perPage int           // 0: as many as Zoho gives
	slice   time.Duration // how long one job works
}

const (
	// sliceTime is how long one job works before it hands over to the next: a page
	// that is begun then has still time to end, and a stop need not wait for long.
	sliceTime = 20 * time.Second
	// jobTime bounds a job: a slice, and the pages it has begun with all they wait for.
	jobTime = 45 * time.Second
	// sideBySide is how many modules a job reads at one time.
	sideBySide = 3
)

// New makes a Reconciler. z and counts may be nil for one that starts and shows
// syncs and works none.
func New(pool *pgxpool.Pool, jobs lane.Inserter, z Zoho, counts *counter.Set, o Options) *Reconciler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Grace == 0 {
		o.Grace = time.Minute
	}
	if o.Timezone == nil {
		o.Timezone = time.UTC
	}
	if o.Sender.Source == "" {
		o.Sender.Source = "memrelay"
	}
	return &Reconciler{
		pool: pool, jobs: jobs, zoho: z, counts: counts, teller: memory.NewTeller(jobs, o.Sender, o.Now), o: o, modules: listed(o.Modules), slice: sliceTime,
	}
}

// accounts is worked after all others: an account that is new to us then finds
// what hangs on it in place.
const accounts = "Accounts"

// listed are the modules that Zoho lists the configured ones under, in the order
// in which they are worked.
func listed(configured []string) []string {
	var names []string
	for _, m := range configured {
		names = append(names, zoho.Listed(m)...)
	}
	first := []string{"Contacts", "Deals", "Tasks", "Events", "Calls", "Notes"}
	rank := func(name string) int {
		if name == accounts {
			return len(first) + 1
		}
		if i := slices.Index(first, name); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	var modules []string
	for _, name := range names {
		if name != "" && !slices.Contains(modules, name) {
			modules = append(modules, name)
		}
	}
	return modules
}
