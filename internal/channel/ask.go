package channel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/zoho"
)

const (
	// life is what is asked for: somewhat less than Zoho's longest, beyond which it
	// gives an hour, so that two clocks may differ.
	life = zoho.MaxChannelLife - time.Hour
	// silentLife is how long a channel lives when Zoho does not say.
	silentLife = time.Hour
	// A token that was followed by another is good until the end that its channel
	// had then, but for no longer than longestToken; and for shortestToken in any
	// case, because notifications may be on their way.
	longestToken  = 24 * time.Hour
	shortestToken = 10 * time.Minute
	// After a failure the next try is firstWait away, doubled each time.
	firstWait   = time.Minute
	longestWait = time.Hour
)

// details are what of a channel can change.
type details struct {
	events []string
	url    string
}

// refusal is a call that Zoho did not say yes to, in words for people. It stands
// in the channel's row.
type refusal struct {
	module string
	cause  error
}

func (r *refusal) Error() string { return r.module + ": " + why(r.cause) }
func (r *refusal) Unwrap() error { return r.cause }

// verb is one of the ways to tell Zoho about a channel.
type verb func(context.Context, zoho.Channel) (zoho.Channel, error)

// answer is what came of a call.
type answer struct {
	hash      []byte // of the token that the call carried
	expires   time.Time
	forgotten bool // Zoho did not know the channel
	err       error
}

// ask brings a channel that the caller has taken to what is wanted of it, with a
// token and an end of its own, and writes down what Zoho said. The error is nil
// when Zoho said yes; a *refusal when it did not; ErrOvertaken when somebody else
// took the channel meanwhile; anything else is the database's, or the context's.
func (k *Keeper) ask(ctx context.Context, c db.ClaimChannelRow, want details) error {
	calling, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	a, err := k.call(calling, c, want)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		// A stop says nothing about Zoho: in two minutes the channel is due again,
		// and both tokens are good until then.
		return ctx.Err()
	case a.err != nil:
		return k.fail(ctx, c, want, a)
	}
	return k.confirm(ctx, c, want, a)
}

// call tells Zoho. It renews a channel that Zoho should know, and makes it anew
// when Zoho does not: one that has expired is forgotten.
func (k *Keeper) call(ctx context.Context, c db.ClaimChannelRow, want details) (a answer, err error) {
	if c.State == "active" {
		do := verb(k.zoho.RenewChannel)
		// After a failure Zoho may have done what was asked for, or not: it is told everything.
		if c.NotifyURL != want.url || !slices.Equal(c.Events, want.events) || c.Failures > 0 {
			do = k.zoho.ReplaceChannel
		}
		a, err = k.send(ctx, do, c, want)
		// Other words than NOT_SUBSCRIBED may mean the same. If they do not, Zoho
		// refuses the next call, too.
		if err != nil || zoho.KindOf(a.err) != zoho.KindInvalid {
			return a, err
		}
		a.forgotten = code(a.err) == zoho.NotSubscribed
	}
	forgotten := a.forgotten
	a, err = k.send(ctx, k.zoho.EnableChannel, c, want)
	a.forgotten = forgotten
	return a, err
}

// send makes one call with a fresh token, whose hash is committed before: a
// notification may arrive before Zoho's answer does.
func (k *Keeper) send(ctx context.Context, do verb, c db.ClaimChannelRow, want details) (a answer, err error) {
	token, err := k.newToken()
	if err != nil {
		return a, err
	}
	hash := sha256.Sum256([]byte(token))
	a.hash = hash[:]
	err = pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.InsertChannelToken(ctx, db.InsertChannelTokenParams{ChannelID: c.ChannelID, ClaimedUntil: c.ClaimedUntil, TokenHash: a.hash})
		switch {
		case err != nil:
			return fmt.Errorf("insert: %w", err)
		case n == 0:
			return ErrOvertaken
		}
		if err := q.DeleteStaleChannelTokens(ctx, c.ChannelID); err != nil {
			return fmt.Errorf("delete stale ones: %w", err)
		}
		return nil
	})
	if err != nil {
		return a, fmt.Errorf("%s: store the token of channel %s: %w", c.Module, c.ChannelID, err)
	}
	var said zoho.Channel
	said, a.err = do(ctx, zoho.Channel{
		ID: c.ChannelID, Events: want.events, NotifyURL: want.url, Token: token, Expires: c.Now.Add(life).Truncate(time.Second),
	})
	if a.err == nil {
		a.expires = said.Expires
		return a, nil
	}
	if !certain(a.err) {
		return a, nil
	}
	if err := db.New(k.pool).DeleteChannelToken(ctx, db.DeleteChannelTokenParams{ChannelID: c.ChannelID, TokenHash: a.hash}); err != nil {
		return a, fmt.Errorf("delete a token that Zoho refused: %w", err)
	}
	return a, nil
}

// certain reports whether err says that Zoho did nothing. After anything else
// Zoho may have either token.
func certain(err error) bool {
	switch zoho.KindOf(err) {
	case zoho.KindThrottled, zoho.KindCreditsSpent, zoho.KindUnauthorized, zoho.KindForbidden, zoho.KindInvalid:
		return true
	}
	return false
}

func code(err error) string {
	var e *zoho.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// confirm writes Zoho's yes. Where another call may have come to Zoho later, the
// tokens before stay good, and upkeep tells Zoho once more.
func (k *Keeper) confirm(ctx context.Context, c db.ClaimChannelRow, want details, a answer) error {
	expires := a.expires
	if expires.IsZero() {
		expires = c.Now.Add(silentLife)
	}
	due, err := k.renewal(c.Now, expires)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		confirmed, err := q.ConfirmChannel(ctx, db.ConfirmChannelParams{
			ChannelID: c.ChannelID, ClaimedUntil: c.ClaimedUntil, Events: want.events, NotifyURL: want.url, ExpiresAt: expires,
			Failures: c.Failures, DueAt: due,
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrOvertaken
		}
		if err != nil {
			return fmt.Errorf("confirm channel %s: %w", c.ChannelID, err)
		}
		if confirmed.Settled {
			err = q.EndChannelTokens(ctx, db.EndChannelTokensParams{
				ChannelID: c.ChannelID, TokenHash: a.hash, Until: lastUse(c.Now, c.ExpiresAt),
			})
		}
		if err != nil {
			return fmt.Errorf("end the tokens before: %w", err)
		}
		if a.forgotten && confirmed.WasLive {
			if err := k.tellLost(ctx, tx, c.ChannelID, c.Module, notKnown+"; it was registered anew at once"); err != nil {
				return err
			}
		}
		if c.State == "lost" || a.forgotten {
			return counter.AddOnce(ctx, tx, counter.Changes{Recreated: 1})
		}
		return nil
	})
	if errors.Is(err, ErrOvertaken) {
		k.mend(ctx, c, want, a)
		return fmt.Errorf("%s: %w", c.Module, err)
	}
	if err != nil {
		return err
	}
	k.o.Log.InfoContext(ctx, "channel kept", "module", c.Module, "channel_id", c.ChannelID, "expires", expires,
		"anew", c.State == "lost" || a.forgotten)
	return nil
}

// mend is for a call that Zoho did, or may have done, after the channel was taken
// from whoever made it. Which of two calls came to Zoho last nobody knows: Zoho is
// told anew, or stopped if a person stopped it. If that fails, Zoho's list says so
// a day later, and a channel that was stopped ends by itself: nobody renews it.
func (k *Keeper) mend(ctx context.Context, c db.ClaimChannelRow, want details, a answer) {
	told, err := k.retell(ctx, c, a)
	if err == nil && !told {
		if err = k.undo(ctx, c, want); err == nil {
			// A person may have resumed it while Zoho was stopped.
			_, err = k.retell(ctx, c, a)
		}
	}
	if err != nil {
		k.o.Log.WarnContext(ctx, "a late call to Zoho not mended", "module", c.Module, "channel_id", c.ChannelID, "error", err)
	}
}

// retell lets upkeep tell Zoho anew, at once or when whoever has the channel is
// done with it. Until Zoho has said yes to that, the token of the late call is
// good. It reports whether upkeep looks after the channel at all.
func (k *Keeper) retell(ctx context.Context, c db.ClaimChannelRow, a answer) (told bool, err error) {
	err = pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.RetellChannel(ctx, db.RetellChannelParams{
			ChannelID: c.ChannelID, LastError: "two calls crossed, and Zoho may have done either last (told anew)",
		})
		if err != nil {
			return fmt.Errorf("make channel %s due: %w", c.ChannelID, err)
		}
		if told = n > 0; !told {
			return nil
		}
		if err := q.ReviveChannelToken(ctx, db.ReviveChannelTokenParams{ChannelID: c.ChannelID, TokenHash: a.hash}); err != nil {
			return fmt.Errorf("revive a token of channel %s: %w", c.ChannelID, err)
		}
		return nil
	})
	return told, err
}

// undo stops at Zoho what a person stopped while Zoho was told to go on.
func (k *Keeper) undo(ctx context.Context, c db.ClaimChannelRow, told details) error {
	state, err := db.New(k.pool).GetChannelState(ctx, c.ChannelID)
	switch {
	case err != nil:
		return fmt.Errorf("look for channel %s: %w", c.ChannelID, err)
	case state == "removed":
		return k.stop(ctx, c.Module, func() error { return k.zoho.DisableChannels(ctx, []string{c.ChannelID}) })
	case state == "paused":
		return k.stop(ctx, c.Module, func() error { return k.zoho.StopEvents(ctx, c.ChannelID, told.events) })
	}
	return nil
}

// renewal is when to renew a channel: after two thirds of its life or somewhat
// less.
func (k *Keeper) renewal(now, expires time.Time) (time.Time, error) {
	left := expires.Sub(now)
	early, err := k.part(left / 15)
	if err != nil {
		return time.Time{}, err
	}
	return now.Add(max(left*2/3-early, firstWait)), nil
}

// lastUse is until when a notification may carry the tokens before the one that
// Zoho has just taken.
func lastUse(now time.Time, end *time.Time) time.Time {
	last := now.Add(longestToken)
	if end != nil && end.Before(last) {
		last = *end
	}
	if least := now.Add(shortestToken); last.Before(least) {
		return least
	}
	return last
}

// fail writes why Zoho did not say yes, and when to try again.
func (k *Keeper) fail(ctx context.Context, c db.ClaimChannelRow, want details, a answer) error {
	no := &refusal{module: c.Module, cause: a.err}
	wait, err := k.backoff(c.Failures, zoho.RetryAfter(a.err))
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		wasLive, err := db.New(tx).FailChannel(ctx, db.FailChannelParams{
			ChannelID: c.ChannelID, ClaimedUntil: c.ClaimedUntil, Lost: a.forgotten, LastError: why(a.err), DueAt: c.Now.Add(wait),
		})
		if err == nil && a.forgotten && wasLive {
			return k.tellLost(ctx, tx, c.ChannelID, c.Module, notKnown+", and it could not be registered anew: "+why(a.err))
		}
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		if !certain(a.err) {
			k.mend(ctx, c, want, a)
		}
		return fmt.Errorf("%w: %w", ErrOvertaken, no)
	case err != nil:
		return fmt.Errorf("write why channel %s failed: %w", c.ChannelID, err)
	}
	return no
}

// backoff is the wait after one more failure: longer each time, and no shorter
// than Zoho asks for, but an hour at most.
func (k *Keeper) backoff(failures int32, asked time.Duration) (time.Duration, error) {
	wait := firstWait << min(failures, 6)
	extra, err := k.part(wait / 5)
	if err != nil {
		return 0, err
	}
	return min(max(wait+extra, asked), longestWait), nil
}

// why is err in words for people, with what they can do about it.
func why(err error) string {
	remedy := ""
	switch zoho.KindOf(err) {
	case zoho.KindForbidden:
		remedy = "the authorisation lacks the scope ZohoCRM.notifications.ALL, or its user a permission: connect anew with `memrelay zoho connect`"
	case zoho.KindUnauthorized:
		remedy = "Zoho does not accept the authorisation: connect anew with `memrelay zoho connect`"
	case zoho.KindCreditsSpent:
		remedy = "the day's API credits are used up: it is tried again as they come back"
	case zoho.KindInvalid:
		remedy = cmp.Or(map[string]string{
			"INVALID_DATA": "is there such a module, and does Zoho reach the URL from outside, by https (WEBHOOK_BASE_URL)?",
		}[code(err)], "Zoho refuses this channel")
	default:
		remedy = "tried again"
	}
	return fmt.Sprintf("%v (%s)", err, remedy)
}
