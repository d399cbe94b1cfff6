package app

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/channel"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/reconcile"
	"github.com/memrelay/memrelay/internal/rejected"
	"github.com/memrelay/memrelay/internal/respond"
)

const (
	// keepEvery is how often the sums of counters are kept, which rates are made of.
	keepEvery = 15 * time.Second
	// askZoho bounds how long a request of an operator waits for Zoho.
	askZoho = 30 * time.Second
)

// running builds what operators see and change of the running program.
func (a *App) running() (admin.Running, error) {
	reconciler := a.reconciler
	if reconciler == nil {
		// Without Zoho syncs can be looked at and asked for: another node may have it.
		var err error
		if reconciler, err = NewReconciler(a.cfg, a.pool, a.jobs, nil, nil, a.o.Now, a.log); err != nil {
			return admin.Running{}, err
		}
	}
	watched, _ := NewKeeper(a.cfg, a.pool, a.jobs, nil, a.o.Now, a.log).Modules()
	a.stats = admin.NewStats(a.pool, a.o.Now)
	var settings []admin.Setting
	for _, s := range a.cfg.Settings(a.o.Environ) {
		settings = append(settings, admin.Setting(s))
	}
	return admin.Running{
		Channels: admin.NewChannels(a.pool, a.jobs, watched, a.operateChannel),
		Syncs:    syncDesk{reconciler},
		Queues:   admin.NewQueues(a.pool, a.jobs),
		Stats:    a.stats,
		Rejected: admin.NewRejected(a.pool),
		Audit:    admin.NewAuditLog(a.pool),
		Tokens:   access.NewTokens(a.pool, rand.Reader, a.o.Now),
		Settings: settings,
	}, nil
}

// keepSums keeps the sums of counters until ctx ends.
func (a *App) keepSums(ctx context.Context) {
	a.each(ctx, keepEvery, func(ctx context.Context) (int, error) { return 0, a.stats.Keep(ctx) }, "")
}

// refused keeps who was turned away by a route that proves who sent something. Under
// /webhooks there are two that do not.
func (a *App) refused(r respond.Refusal) {
	if r.Path == "/webhooks/health" || r.Path == "/webhooks/metrics" {
		return
	}
	if !strings.HasPrefix(r.Path, "/webhooks/") && !strings.HasPrefix(r.Path, "/v1/") && !strings.HasPrefix(r.Path, "/admin/") && r.Path != "/mcp" {
		return
	}
	a.refusals.Add(rejected.Request{
		At: r.At, Method: r.Method, Route: r.Route, Status: r.Status, Code: r.Code, Reason: r.Reason,
		Address: r.Address.String(), UserAgent: r.UserAgent, ContentLength: r.ContentLength, RequestID: r.RequestID,
	})
}

// operateChannel does what the commands do, in the name of whoever asks.
func (a *App) operateChannel(ctx context.Context, who admin.Actor, action, module string) error {
	if a.zoho == nil {
		return channelProblem(channel.ErrNotConnected)
	}
	keeper := channel.New(a.pool, a.zoho, channel.Options{
		Modules: a.cfg.ZohoModules, NotifyURL: NotifyURL(a.cfg), Now: a.o.Now, Random: rand.Reader, Log: a.log,
		Actor: who.Name, RequestID: who.RequestID, Teller: memory.NewTeller(a.jobs, a.sender(), a.o.Now),
	})
	ctx, cancel := context.WithTimeout(ctx, askZoho)
	defer cancel()
	var err error
	switch action {
	case "pause":
		err = keeper.Pause(ctx, module)
	case "resume":
		err = keeper.Resume(ctx, module)
	case "disable":
		_, err = keeper.Remove(ctx, []string{module})
	}
	return channelProblem(err)
}

func channelProblem(err error) error {
	conflict := func(code, message string) error {
		return &respond.Error{Status: http.StatusConflict, Code: code, Message: message, Err: err}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, channel.ErrNotConnected):
		return conflict("zoho_not_connected", "This node has no credentials of Zoho: docs/zoho.md tells how to connect.")
	case errors.Is(err, channel.ErrState):
		return conflict("channel_state", "The channel is in no state to do that with: look at it again.")
	case errors.Is(err, channel.ErrOvertaken):
		return conflict("channel_overtaken", "Somebody else changed this channel meanwhile: look at it again.")
	case errors.Is(err, channel.ErrInvalid):
		return &respond.Error{Status: http.StatusUnprocessableEntity, Code: "invalid_field", Message: "This cannot be done with this channel.", Err: err}
	}
	return &respond.Error{
		Status: http.StatusBadGateway, Code: "zoho_refused", Err: err,
		Message: "Zoho did not say yes, or did not answer: the channel's last_error and the log say why.",
	}
}

// syncDesk is reconcile as operators use it.
type syncDesk struct{ r *reconcile.Reconciler }

// List returns the newest syncs.
func (d syncDesk) List(ctx context.Context) ([]admin.SyncRow, error) {
	const most = 1000
	all, err := d.r.List(ctx, most)
	rows := make([]admin.SyncRow, len(all))
	for i, s := range all {
		rows[i] = admin.SyncRow{ID: s.ID.String(), Kind: s.Kind, State: s.State, Status: s}
	}
	return rows, err
}

// Get returns one sync.
func (d syncDesk) Get(ctx context.Context, which string) (any, error) {
	s, err := d.r.Status(ctx, which)
	return s, syncProblem(err)
}

// Start starts a sync.
func (d syncDesk) Start(ctx context.Context, who admin.Actor, kind string) (id string, already bool, err error) {
	made, already, err := d.r.Start(ctx, kind, reconcile.Actor(who))
	return made.String(), already, syncProblem(err)
}

// ReadAccount asks for a read of a whole account.
func (d syncDesk) ReadAccount(ctx context.Context, who admin.Actor, accountID string) error {
	return syncProblem(d.r.SyncAccounts(ctx, []string{accountID}, reconcile.Actor(who)))
}

// Decide pauses, resumes or cancels a sync.
func (d syncDesk) Decide(ctx context.Context, who admin.Actor, action, which string) (string, error) {
	do := d.r.Pause
	switch action {
	case "resume":
		do = d.r.Resume
	case "cancel":
		do = d.r.Cancel
	}
	id, err := do(ctx, which, reconcile.Actor(who))
	return id.String(), syncProblem(err)
}

func syncProblem(err error) error {
	conflict := func(code, message string) error {
		return &respond.Error{Status: http.StatusConflict, Code: code, Message: message, Err: err}
	}
	switch {
	case errors.Is(err, reconcile.ErrNotFound):
		return admin.ErrNotFound
	case errors.Is(err, reconcile.ErrEnded):
		return conflict("sync_ended", "This sync has ended.")
	case errors.Is(err, reconcile.ErrNotRunning):
		return conflict("sync_paused", "This sync is paused already.")
	case errors.Is(err, reconcile.ErrNotPaused):
		return conflict("sync_not_paused", "This sync is not paused.")
	case errors.Is(err, reconcile.ErrNoModules):
		return conflict("no_modules", "None of ZOHO_MODULES is a module that Zoho lists.")
	case errors.Is(err, reconcile.ErrAccountID):
		return &respond.Error{
			Status: http.StatusUnprocessableEntity, Code: "invalid_field", Field: "account_id", Message: "account_id: want the digits of an account's id.", Err: err,
		}
	}
	return err
}
