package channel

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
)

// notKnown says of a channel that Zoho did not know it when it was to be renewed.
const notKnown = "Zoho did not know it any more"

// markExpired marks the channels whose end has passed without a renewal.
func (k *Keeper) markExpired(ctx context.Context) error {
	return pgx.BeginFunc(ctx, k.pool, func(tx pgx.Tx) error {
		expired, err := db.New(tx).MarkExpiredChannels(ctx)
		if err != nil {
			return fmt.Errorf("mark expired channels: %w", err)
		}
		for _, c := range expired {
			reason := "it expired"
			if c.LastError != "" {
				reason += ", and could not be renewed: " + c.LastError
			}
			if err := k.tellLost(ctx, tx, c.ChannelID, c.Module, reason); err != nil {
				return err
			}
		}
		return nil
	})
}

// tellLost tells operators, in tx, of a channel that was live and is found lost in
// it. Until it is made anew nobody hears of its module's changes but by a sync.
func (k *Keeper) tellLost(ctx context.Context, tx pgx.Tx, id, module, reason string) error {
	k.o.Log.WarnContext(ctx, "channel lost", "module", module, "channel_id", id, "error", reason)
	_, err := k.o.Teller.Tell(ctx, tx, []memory.Announcement{{
		Event: memory.ChannelLost, UserID: memory.SystemUser,
		Data: memory.ChannelLostData{ChannelID: id, Modules: []string{module}, Error: reason},
	}})
	if err != nil {
		return fmt.Errorf("tell of the lost channel of %s: %w", module, err)
	}
	return nil
}
