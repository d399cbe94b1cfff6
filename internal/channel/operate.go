package channel

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/zoho"
)

// maxURL is the longest URL that Zoho takes.
const maxURL = 255

// Register gives modules a channel that calls notifyURL, the ones that a person
// paused or removed included; without modules all that are configured. "" is
// Options.NotifyURL, and where that is set no other is possible: upkeep would
// change it back.
//
// It returns the modules that Zoho said yes for, and an error that joins what
// became of the others: those stand in their rows and are tried again.
func (k *Keeper) Register(ctx context.Context, modules []string, notifyURL string) (done []string, err error) {
	if notifyURL, err = k.checkURL(notifyURL); err != nil {
		return nil, err
	}
	if len(modules) == 0 {
		modules = k.watched
	} else if modules, err = resolve(modules); err != nil {
		return nil, err
	}
	return k.each(ctx, modules, func(module string) error {
		c, err := k.take(ctx, "register", module, map[string]any{"url": notifyURL}, func(q *db.Queries) error {
			if err := k.insertMissing(ctx, q, []string{module}, notifyURL); err != nil {
				return err
			}
			_, err := reopen(ctx, q, module, notifyURL, "paused", "removed")
			return err
		})
		if err != nil {
			return err
		}
		return k.ask(ctx, c, details{events: c.Events, url: notifyURL})
	})
}

// Renew renews channels now, each with a fresh token; without modules all that
// upkeep looks after. Done and error are as Register's.
func (k *Keeper) Renew(ctx context.Context, modules []string) (done []string, err error) {
	if len(modules) == 0 {
		modules, err = db.New(k.pool).ListChannelModules(ctx)
		if err != nil {
			return nil, fmt.Errorf("list modules with a channel: %w", err)
		}
	} else if modules, err = resolve(modules); err != nil {
		return nil, err
	}
	return k.each(ctx, modules, func(module string) error {
		c, err := k.take(ctx, "renew", module, nil, nil)
		if err != nil {
			return err
		}
		return k.ask(ctx, c, details{events: c.Events, url: k.urlOf(c)})
	})
}

// Rotate replaces the tokens of channels, which every renewal does: the ones
// before are good for a day at most.
func (k *Keeper) Rotate(ctx context.Context, modules []string) (done []string, err error) {
	return k.Renew(ctx, modules)
}

// Pause has Zoho send nothing for a module until Resume. When Zoho did not say
// yes, nothing is paused.
func (k *Keeper) Pause(ctx context.Context, module string) error {
	module, err := resolveOne(module)
	if err != nil {
		return err
	}
	c, err := k.take(ctx, "pause", module, nil, nil)
	if err != nil {
		return err
	}
	for paused := false; !paused && err == nil; {
		paused, err = k.pause(ctx, &c)
	}
	return err
}

// pause stops a channel's events at Zoho and writes so. It has done nothing for
// good when another call may have come to Zoho meanwhile and had it go on: then
// it is to be done again.
func (k *Keeper) pause(ctx context.Context, c *db.ClaimChannelRow) (done bool, err error) {
	if err := k.stop(ctx, c.Module, func() error { return k.zoho.StopEvents(ctx, c.ChannelID, c.Events) }); err != nil {
		return false, err
	}
	q := db.New(k.pool)
	n, err := q.PauseChannel(ctx, db.PauseChannelParams{ChannelID: c.ChannelID, ClaimedUntil: c.ClaimedUntil, Failures: c.Failures})
	if err != nil {
		return false, fmt.Errorf("pause channel %s: %w", c.ChannelID, err)
	}
	if n > 0 {
		return true, nil
	}
	c.Failures, err = q.GetTakenFailures(ctx, db.GetTakenFailuresParams{ChannelID: c.ChannelID, ClaimedUntil: c.ClaimedUntil})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("%s: %w", c.Module, ErrOvertaken)
	}
	if err != nil {
		return false, fmt.Errorf("look who has channel %s: %w", c.ChannelID, err)
	}
	return false, nil
}

// Resume has Zoho send again what Pause stopped. When Zoho does not say yes at
// once, it is tried again as a registration is.
func (k *Keeper) Resume(ctx context.Context, module string) error {
	module, err := resolveOne(module)
	if err != nil {
		return err
	}
	c, err := k.take(ctx, "resume", module, nil, func(q *db.Queries) error {
		n, err := reopen(ctx, q, module, k.o.NotifyURL, "paused")
		if err == nil && n == 0 {
			return fmt.Errorf("%s: %w: it is not paused", module, ErrState)
		}
		return err
	})
	if err != nil {
		return err
	}
	return k.ask(ctx, c, details{events: c.Events, url: k.urlOf(c)})
}

// SetEvents makes events, as Contacts.edit or edit, all that the module's channel
// tells of. When Zoho did not say yes, the row keeps those before.
func (k *Keeper) SetEvents(ctx context.Context, module string, events []string) error {
	module, err := resolveOne(module)
	if err != nil {
		return err
	}
	if events, err = eventNames(module, events); err != nil {
		return err
	}
	c, err := k.take(ctx, "events", module, map[string]any{"events": events}, nil)
	if err != nil {
		return err
	}
	return k.ask(ctx, c, details{events: events, url: k.urlOf(c)})
}

// Remove takes the channels of modules away, and their notifications are refused
// from then on; upkeep does not make them anew. The error joins what Zoho did not
// say yes to: such a channel is removed here, stands in its row as still there,
// and ends by itself.
func (k *Keeper) Remove(ctx context.Context, modules []string) (done []string, err error) {
	if modules, err = resolve(modules); err != nil {
		return nil, err
	}
	return k.each(ctx, modules, func(module string) error {
		id, err := k.forget(ctx, module)
		if err != nil {
			return err
		}
		failed := k.stop(ctx, module, func() error { return k.zoho.DisableChannels(ctx, []string{id}) })
		var no *refusal
		if !errors.As(failed, &no) {
			return failed
		}
		text := "removed here, but Zoho has not confirmed it: " + why(no.cause)
		if err := db.New(k.pool).SetRemovedChannelError(ctx, db.SetRemovedChannelErrorParams{ChannelID: id, LastError: text}); err != nil {
			return errors.Join(failed, fmt.Errorf("write why channel %s is still there: %w", id, err))
		}
		return fmt.Errorf("removed here, and Zoho keeps it until it ends or this is done again: %w", failed)
	})
}

// forget removes a module's channel and its tokens here.
func (k *Keeper) forget(ctx context.Context, module string) (id string, err error) {
	err = pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		id, err = q.RemoveChannel(ctx, module)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%s: %w: it has no channel", module, ErrState)
		}
		if err != nil {
			return fmt.Errorf("remove the channel of %s: %w", module, err)
		}
		if err := q.DeleteChannelTokens(ctx, id); err != nil {
			return fmt.Errorf("delete the tokens of channel %s: %w", id, err)
		}
		return k.audit(ctx, q, "remove", module, nil)
	})
	return id, err
}

// stop calls Zoho to end something. What Zoho does not know has ended.
func (k *Keeper) stop(ctx context.Context, module string, call func() error) error {
	err := call()
	switch {
	case err == nil, code(err) == zoho.NotSubscribed:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &refusal{module: module, cause: err}
}

// each does something for modules one after the other, and goes on after one for
// which it failed.
func (k *Keeper) each(ctx context.Context, modules []string, do func(module string) error) (done []string, err error) {
	done = []string{}
	if k.zoho == nil {
		return done, ErrNotConnected
	}
	for _, m := range modules {
		one := do(m)
		if ctx.Err() != nil {
			return done, errors.Join(err, ctx.Err())
		}
		if one != nil {
			err = errors.Join(err, one)
			continue
		}
		done = append(done, m)
	}
	return done, err
}

// take takes a module's channel from whoever has it, after prepare, unless that
// is nil, and with a line in the audit log, all in one transaction.
func (k *Keeper) take(
	ctx context.Context, action, module string, about map[string]any, prepare func(*db.Queries) error,
) (c db.ClaimChannelRow, err error) {
	if k.zoho == nil {
		return c, ErrNotConnected
	}
	err = pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if prepare != nil {
			if err := prepare(q); err != nil {
				return err
			}
		}
		var err error
		c, err = q.ClaimChannel(ctx, module)
		if errors.Is(err, pgx.ErrNoRows) {
			return absent(ctx, q, module)
		}
		if err != nil {
			return fmt.Errorf("take the channel of %s: %w", module, err)
		}
		return k.audit(ctx, q, action, module, about)
	})
	return c, err
}

// audit writes what a person wants. What became of it stands in the channel's row.
func (k *Keeper) audit(ctx context.Context, q *db.Queries, action, module string, about map[string]any) error {
	if about == nil {
		about = map[string]any{}
	}
	encoded, err := json.Marshal(about)
	if err != nil {
		return fmt.Errorf("encode audit details: %w", err)
	}
	p := db.InsertAuditParams{Actor: k.o.Actor, Action: "channel." + action, Object: "channel/" + module, Details: encoded, RequestID: k.o.RequestID}
	if err := q.InsertAudit(ctx, p); err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	return nil
}

// absent says why a module has no channel that something can be done with.
func absent(ctx context.Context, q *db.Queries, module string) error {
	state, err := q.GetModuleState(ctx, module)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w: it has no channel, register it first", module, ErrState)
	case err != nil:
		return fmt.Errorf("look for the channel of %s: %w", module, err)
	case state == "paused":
		return fmt.Errorf("%s: %w: it is paused, resume it first", module, ErrState)
	}
	return fmt.Errorf("%s: %w: it was removed, register it first", module, ErrState)
}

// reopen lets upkeep look after a channel again that is in one of the states.
func reopen(ctx context.Context, q *db.Queries, module, url string, states ...string) (int64, error) {
	n, err := q.ReopenChannel(ctx, db.ReopenChannelParams{Module: module, NotifyURL: url, States: states})
	if err != nil {
		return 0, fmt.Errorf("reopen the channel of %s: %w", module, err)
	}
	return n, nil
}

// checkURL returns where a channel is to point. The error is ErrInvalid.
func (k *Keeper) checkURL(text string) (string, error) {
	text = cmp.Or(text, k.o.NotifyURL)
	u, err := url.Parse(text)
	switch {
	case text == "":
		return "", fmt.Errorf("%w: where shall Zoho send to? Set WEBHOOK_BASE_URL, or give a URL", ErrInvalid)
	case k.o.NotifyURL != "" && text != k.o.NotifyURL:
		return "", fmt.Errorf("%w: WEBHOOK_BASE_URL is set, so every channel points to %s", ErrInvalid, k.o.NotifyURL)
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || len(text) > maxURL:
		return "", fmt.Errorf("%w: want an http or https URL of at most %d characters", ErrInvalid, maxURL)
	}
	return text, nil
}
