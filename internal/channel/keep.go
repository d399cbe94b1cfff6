package channel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

const (
	// jobTime is how long one KeepChannels job may take; what it does not come to
	// is due for the next.
	jobTime = 2 * time.Minute
	// callTime bounds what one channel takes of it. It is far less than the two
	// minutes that a channel is taken for, so that no two nodes ask for the same one.
	callTime = 50 * time.Second
)

// Worker works KeepChannels jobs.
type Worker struct {
	river.WorkerDefaults[job.KeepChannels]
	keeper *Keeper
}

// NewWorker makes a Worker.
func NewWorker(k *Keeper) *Worker { return &Worker{keeper: k} }

// Timeout bounds one job.
func (w *Worker) Timeout(*river.Job[job.KeepChannels]) time.Duration { return jobTime }

// Work does what Keep does. It never fails: what became of a channel stands in
// its row, and there is another job within a minute.
func (w *Worker) Work(ctx context.Context, _ *river.Job[job.KeepChannels]) error {
	if _, err := w.keeper.Keep(ctx); err != nil && ctx.Err() == nil {
		w.keeper.o.Log.WarnContext(ctx, "channels not looked after, tried again in a minute", "error", err)
	}
	return nil
}

// Schedule inserts a KeepChannels job in tx if there is something to keep and no
// job that will do it. It is for the sweeper, each minute.
func (k *Keeper) Schedule(ctx context.Context, tx pgx.Tx, jobs lane.Inserter) error {
	if k.zoho == nil {
		return nil
	}
	wants, err := db.New(tx).WantsKeepChannels(ctx, db.WantsKeepChannelsParams{NotifyURL: k.o.NotifyURL, Modules: k.automatic()})
	if err != nil {
		return fmt.Errorf("look for channels to keep: %w", err)
	}
	if !wants {
		return nil
	}
	if _, err := jobs.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: job.KeepChannels{}}}); err != nil {
		return fmt.Errorf("insert job: %w", err)
	}
	return nil
}

// automatic are the modules that get a channel without anybody asking.
func (k *Keeper) automatic() []string {
	if k.o.NotifyURL == "" {
		return []string{}
	}
	return k.watched
}

// Keep registers what is missing, renews what is due, makes anew what is lost,
// and once a day holds the channels against Zoho's own list. It returns how many
// Zoho said yes to. What Zoho refuses is no error: it stands in the channel's
// row, which is due again later.
func (k *Keeper) Keep(ctx context.Context) (done int, err error) {
	if k.zoho == nil {
		return 0, nil
	}
	q := db.New(k.pool)
	if err := k.insertMissing(ctx, q, k.automatic(), k.o.NotifyURL); err != nil {
		return 0, err
	}
	if err := k.markExpired(ctx); err != nil {
		return 0, err
	}
	if err := k.compare(ctx); err != nil {
		return 0, err
	}
	for k.hasTime(ctx) {
		row, err := q.ClaimDueChannel(ctx, k.o.NotifyURL)
		if errors.Is(err, pgx.ErrNoRows) {
			return done, nil
		}
		if err != nil {
			return done, fmt.Errorf("take a due channel: %w", err)
		}
		c := db.ClaimChannelRow(row)
		err = k.ask(ctx, c, details{events: c.Events, url: k.urlOf(c)})
		var no *refusal
		switch {
		case err == nil:
			done++
			k.noteMove(ctx, c)
		case ctx.Err() != nil:
			return done, ctx.Err()
		case errors.As(err, &no), errors.Is(err, ErrOvertaken):
			k.o.Log.WarnContext(ctx, "channel not kept", "module", c.Module, "channel_id", c.ChannelID, "error", err)
		default:
			return done, err
		}
	}
	return done, nil
}

// hasTime reports whether there is time for one more channel.
func (k *Keeper) hasTime(ctx context.Context) bool {
	end, bounded := ctx.Deadline()
	return ctx.Err() == nil && (!bounded || end.Sub(k.o.Now()) > callTime)
}

// urlOf is where a channel is to point: where the setting says, else where it
// was registered for.
func (k *Keeper) urlOf(c db.ClaimChannelRow) string {
	if k.o.NotifyURL != "" {
		return k.o.NotifyURL
	}
	return c.NotifyURL
}

// noteMove says that upkeep let a channel call another URL than before. Nodes with
// different settings do that in turns. The URLs' queries may be secret.
func (k *Keeper) noteMove(ctx context.Context, c db.ClaimChannelRow) {
	to := k.urlOf(c)
	if c.State == "pending" || c.NotifyURL == to {
		return
	}
	before, _, _ := strings.Cut(c.NotifyURL, "?")
	now, _, _ := strings.Cut(to, "?")
	k.o.Log.WarnContext(ctx, "channel moved to another URL: if this comes again and again, nodes have different WEBHOOK_BASE_URLs",
		"module", c.Module, "channel_id", c.ChannelID, "from", before, "to", now)
}

// insertMissing makes the rows of modules that never had one. The ids of their
// channels are committed with them, before Zoho hears of any: whoever comes after
// a crash uses the same.
func (k *Keeper) insertMissing(ctx context.Context, q *db.Queries, modules []string, url string) error {
	if len(modules) == 0 {
		return nil
	}
	ids := make([]string, len(modules))
	for i := range ids {
		var err error
		if ids[i], err = k.newID(); err != nil {
			return err
		}
	}
	if _, err := q.InsertMissingChannels(ctx, db.InsertMissingChannelsParams{NotifyURL: url, ChannelIds: ids, Modules: modules}); err != nil {
		return fmt.Errorf("insert missing channels: %w", err)
	}
	return nil
}
