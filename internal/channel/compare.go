package channel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/zoho"
)

const (
	// relist is how long Zoho's list is left alone after it could not be had.
	relist = time.Hour
	// maxDisabled is how many channels one call removes.
	maxDisabled = 50
)

// compare holds our channels against Zoho's list, when Zoho has said nothing of
// one of them for a day. Ours that Zoho does not list, or has with a token or a
// URL that are not ours, are lost. Those that are not ours and call us are
// removed: a restored database has forgotten them, and one day's notifications
// would be refused as nobody's. What goes wrong with Zoho is logged.
func (k *Keeper) compare(ctx context.Context) error {
	q := db.New(k.pool)
	before, err := q.WantsChannelListing(ctx)
	if err != nil {
		return fmt.Errorf("look whether Zoho's list is wanted: %w", err)
	}
	if !before.Wanted || !k.mayList() {
		return nil
	}
	calling, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	listed, err := k.zoho.Channels(calling)
	if err != nil {
		if ctx.Err() == nil {
			k.forbidList()
			k.o.Log.WarnContext(ctx, "Zoho's channels not listed, tried again in an hour", "error", why(err))
		}
		return ctx.Err()
	}
	// Read after Zoho's list: a channel that was registered meanwhile is known.
	known, err := q.ListKnownChannels(ctx)
	if err != nil {
		return fmt.Errorf("list known channels: %w", err)
	}
	if err := k.confirmListed(ctx, before.Now, known, listed); err != nil {
		return err
	}
	k.disable(calling, k.strangers(known, listed))
	return nil
}

func (k *Keeper) mayList() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.o.Now().Before(k.noList)
}

func (k *Keeper) forbidList() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noList = k.o.Now().Add(relist)
}

// confirmListed writes what the list says of our active channels. began is when
// it was asked for: what Zoho has confirmed since is newer than the list.
func (k *Keeper) confirmListed(ctx context.Context, began time.Time, known []db.ListKnownChannelsRow, listed []zoho.Channel) error {
	q := db.New(k.pool)
	for _, c := range known {
		if c.Module == "" || c.State != "active" {
			continue
		}
		reason, expires := judge(c, listed)
		if reason != "" {
			if err := k.lose(ctx, c, reason, began); err != nil {
				return err
			}
			continue
		}
		due, err := k.renewal(began, expires)
		if err != nil {
			return err
		}
		p := db.ConfirmListedChannelParams{ChannelID: c.ChannelID, ExpiresAt: expires, DueAt: due, Before: began}
		if err := q.ConfirmListedChannel(ctx, p); err != nil {
			return fmt.Errorf("confirm channel %s: %w", c.ChannelID, err)
		}
	}
	return nil
}

// lose marks a channel as lost, unless Zoho has confirmed it since before.
func (k *Keeper) lose(ctx context.Context, c db.ListKnownChannelsRow, reason string, before time.Time) error {
	return pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		n, err := db.New(tx).LoseChannel(ctx, db.LoseChannelParams{ChannelID: c.ChannelID, LastError: reason, Before: before})
		if err != nil {
			return fmt.Errorf("mark channel %s as lost: %w", c.ChannelID, err)
		}
		if n == 0 {
			return nil
		}
		return k.tellLost(ctx, tx, c.ChannelID, c.Module, reason)
	})
}

// judge returns why a channel of ours is lost, "" if it is not, and its end.
func judge(c db.ListKnownChannelsRow, listed []zoho.Channel) (reason string, expires time.Time) {
	// A channel of several modules is listed once for each.
	i := slices.IndexFunc(listed, func(l zoho.Channel) bool {
		return l.ID == c.ChannelID && (l.Module == "" || l.Module == c.Module)
	})
	if i < 0 {
		return "Zoho does not list it", time.Time{}
	}
	l := listed[i]
	hash := sha256.Sum256([]byte(l.Token))
	switch {
	case l.NotifyURL != "" && l.NotifyURL != c.NotifyURL:
		return "Zoho has it with another URL", time.Time{}
	case l.Token != "" && !slices.ContainsFunc(c.TokenHashes, func(h []byte) bool { return bytes.Equal(h, hash[:]) }):
		return "Zoho has it with a token that is not ours", time.Time{}
	case l.Expires.IsZero() && c.ExpiresAt != nil:
		return "", *c.ExpiresAt
	}
	return "", l.Expires
}

// strangers are the ids of listed channels that call us and are not ours, and of
// those that were removed here and are still there.
func (k *Keeper) strangers(known []db.ListKnownChannelsRow, listed []zoho.Channel) []string {
	states := map[string]string{}
	for _, c := range known {
		states[c.ChannelID] = c.State
	}
	var ids []string
	for _, l := range listed {
		state, ours := states[l.ID]
		callsUs := k.o.NotifyURL != "" && l.NotifyURL == k.o.NotifyURL
		if (state == "removed" || (!ours && callsUs)) && !slices.Contains(ids, l.ID) {
			ids = append(ids, l.ID)
		}
	}
	return ids
}

// disable removes channels at Zoho. What it cannot remove is found again a day later.
func (k *Keeper) disable(ctx context.Context, ids []string) {
	for some := range slices.Chunk(ids, maxDisabled) {
		if err := k.zoho.DisableChannels(ctx, some); err != nil {
			k.o.Log.WarnContext(ctx, "channels of nobody not removed", "channel_ids", some, "error", why(err))
			continue
		}
		k.o.Log.InfoContext(ctx, "channels of nobody removed", "channel_ids", some)
	}
}
