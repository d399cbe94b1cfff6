package admin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// Syncs are the syncs of Zoho: reconcile knows how. What it says of one is answered as
// it says it. Its errors are ErrNotFound, or a *respond.Error.
type Syncs interface {
	// List returns the newest syncs, at most a thousand.
	List(ctx context.Context) ([]SyncRow, error)
	Get(ctx context.Context, which string) (any, error)
	// Start starts a sync of a kind, or says that there is one under way.
	Start(ctx context.Context, who Actor, kind string) (id string, already bool, err error)
	// ReadAccount asks for a read of a whole account.
	ReadAccount(ctx context.Context, who Actor, accountID string) error
	// Decide pauses, resumes or cancels a sync, and returns its id.
	Decide(ctx context.Context, who Actor, action, which string) (id string, err error)
}

// SyncRow is one sync of a list.
type SyncRow struct {
	ID, Kind, State string
	Status          any // as it is answered
}

// OperateChannel does to a module's channel what asks Zoho: pause, resume or disable.
// Its errors are *respond.Error.
type OperateChannel func(ctx context.Context, who Actor, action, module string) error

// Channels are Zoho's notification channels.
type Channels struct {
	pool    *pgxpool.Pool
	jobs    lane.Inserter
	watched []string
	operate OperateChannel
}

// NewChannels makes a Channels. watched are the modules that should have one.
func NewChannels(pool *pgxpool.Pool, jobs lane.Inserter, watched []string, operate OperateChannel) *Channels {
	return &Channels{pool: pool, jobs: jobs, watched: watched, operate: operate}
}

// Channel is one notification channel.
type Channel struct {
	ChannelID string   `json:"channel_id"`
	Source    string   `json:"source"`
	Module    string   `json:"module"` // "" of one that somebody else registered
	Events    []string `json:"events"`
	// NotifyURL is what Zoho calls, without its query: that may be a key.
	NotifyURL   string     `json:"notify_url"`
	State       string     `json:"state"`
	ExpiresAt   *time.Time `json:"expires_at"`
	DueAt       *time.Time `json:"due_at"` // of the next call to Zoho
	Failures    int32      `json:"failures"`
	LastError   string     `json:"last_error"`
	ConfirmedAt *time.Time `json:"confirmed_at"` // when Zoho last said yes
	// Received is how many of the newest 10,000 events are of its module.
	Received   int64      `json:"received"`
	ReceivedAt *time.Time `json:"received_at"` // the newest of them
}

// ChannelList is all channels, and the modules that should have one and have none.
type ChannelList struct {
	Channels []Channel `json:"channels"`
	Missing  []string  `json:"missing"`
}

// List returns all channels.
func (c *Channels) List(ctx context.Context) (ChannelList, error) {
	rows, err := db.New(c.pool).ListChannels(ctx)
	if err != nil {
		return ChannelList{}, fmt.Errorf("list channels: %w", err)
	}
	list := ChannelList{Channels: []Channel{}, Missing: []string{}}
	for _, r := range rows {
		list.Channels = append(list.Channels, shownChannel(r))
	}
	for _, m := range c.watched {
		if !slices.ContainsFunc(rows, func(r db.ListChannelsRow) bool { return r.Module == m }) {
			list.Missing = append(list.Missing, m)
		}
	}
	return list, nil
}

func shownChannel(r db.ListChannelsRow) Channel {
	c := Channel(r)
	if u, err := url.Parse(c.NotifyURL); err == nil {
		u.RawQuery, u.User, u.Fragment = "", nil, ""
		c.NotifyURL = u.String()
	} else {
		c.NotifyURL = ""
	}
	return c
}

// Renew has a channel renewed by the next job, which it inserts. It returns the channel
// as it is now, and ErrNotFound or ErrChannelState.
func (c *Channels) Renew(ctx context.Context, who Actor, which string) (Channel, error) {
	var module string
	err := pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		found, err := find(ctx, q, which)
		if err != nil {
			return err
		}
		if !slices.Contains([]string{"pending", "active", "lost"}, found.State) {
			return fmt.Errorf("the channel of %s is %s: %w", found.Module, found.State, ErrChannelState)
		}
		if err := q.MakeChannelDue(ctx, found.ChannelID); err != nil {
			return fmt.Errorf("make the channel due: %w", err)
		}
		if _, err := c.jobs.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: job.KeepChannels{}}}); err != nil {
			return fmt.Errorf("insert job: %w", err)
		}
		module = found.Module
		after, err := find(ctx, q, which)
		if err != nil {
			return err
		}
		return audit(ctx, tx, who, "channel.renew", "channel/"+module, map[string]any{"before": channelFacts(found), "after": channelFacts(after)})
	})
	if err != nil {
		return Channel{}, err
	}
	return c.get(ctx, module)
}

func channelFacts(r db.FindChannelRow) map[string]any {
	return map[string]any{"state": r.State, "expires_at": r.ExpiresAt, "due_at": r.DueAt}
}

// Operate pauses, resumes or disables a channel: it asks Zoho, and returns when Zoho has
// said yes. It returns the channel as it is then.
func (c *Channels) Operate(ctx context.Context, who Actor, action, which string) (Channel, error) {
	found, err := find(ctx, db.New(c.pool), which)
	if err != nil {
		return Channel{}, err
	}
	if err := c.operate(ctx, who, action, found.Module); err != nil {
		return Channel{}, err
	}
	return c.get(ctx, found.Module)
}

func find(ctx context.Context, q *db.Queries, which string) (db.FindChannelRow, error) {
	found, err := q.FindChannel(ctx, which)
	if errors.Is(err, pgx.ErrNoRows) {
		return found, fmt.Errorf("channel %s %w", which, ErrNotFound)
	}
	if err != nil {
		return found, fmt.Errorf("find channel: %w", err)
	}
	return found, nil
}

func (c *Channels) get(ctx context.Context, module string) (Channel, error) {
	list, err := c.List(ctx)
	if err != nil {
		return Channel{}, err
	}
	for _, ch := range list.Channels {
		if ch.Module == module && ch.Source == "zoho" {
			return ch, nil
		}
	}
	return Channel{}, ErrNotFound
}
