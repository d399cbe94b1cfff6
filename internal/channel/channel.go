// Package channel keeps Zoho's notification channels registered and alive. In
// go the modules whose changes are wanted and the URL that Zoho is to tell;
// out come rows in channels that say what Zoho said, rows in channel_tokens by which
// the door knows Zoho's notifications, and webhooks that tell of lost channels.
//
// A channel lives a week at most, Zoho forgets it without a word, and an answer
// can be lost. So everything that Zoho may come to know of, a channel's id and the
// hash of its token, is committed before Zoho is told, and nothing is called done
// before Zoho has said so.
package channel

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/zoho"
)

// Recreated counts channels that were lost and made anew.
const Recreated counter.Name = "channels_recreated"

var (
	// ErrNotConnected is returned to whoever wants something of Zoho while nobody
	// has said which Zoho.
	ErrNotConnected = errors.New("Zoho is not connected")
	// ErrInvalid marks what was asked for as impossible, whatever Zoho says.
	ErrInvalid = errors.New("cannot be done")
	// ErrState is returned when the module's channel is not in a state to do that with.
	ErrState = errors.New("not in the right state")
	// ErrOvertaken is returned when somebody else changed the channel while Zoho was asked.
	ErrOvertaken = errors.New("somebody else changed this channel meanwhile")
)

// Zoho is what is asked of Zoho's API: a zoho.Client.
type Zoho interface {
	EnableChannel(ctx context.Context, ch zoho.Channel) (zoho.Channel, error)
	RenewChannel(ctx context.Context, ch zoho.Channel) (zoho.Channel, error)
	ReplaceChannel(ctx context.Context, ch zoho.Channel) (zoho.Channel, error)
	Channels(ctx context.Context) ([]zoho.Channel, error)
	StopEvents(ctx context.Context, id string, events []string) error
	DisableChannels(ctx context.Context, ids []string) error
}

// Options say what is wanted.
type Options struct {
	// Modules are the configured ones, as in ZOHO_MODULES.
	Modules []string
	// NotifyURL is what Zoho is to call; "": nothing is registered that nobody
	// asks for. When it changes, the channels there are follow it.
	NotifyURL string
	// Now is the clock that tells how long a job may still take.
	Now func() time.Time
	// Random is where tokens come from; safe for concurrent use, as crypto/rand's Reader.
	Random io.Reader
	// Actor is who operates, for the lines in audit_log; upkeep writes none.
	Actor string
	// RequestID is of the request that asks for it, for the same lines; "": none does.
	RequestID string
	// Teller tells of channels that are lost. A Keeper without Zoho needs none.
	Teller *memory.Teller
	Log    *slog.Logger
}

// Keeper keeps one channel per module. Any number of them, on any number of
// nodes, may work on one database. Its methods may be called side by side.
type Keeper struct {
	pool      *pgxpool.Pool
	zoho      Zoho
	o         Options
	watched   []string
	unwatched []Unwatched

	mu     sync.Mutex
	noList time.Time // Zoho's list is not asked for before: it was refused
}

// New makes a Keeper. z is nil while Zoho is not connected: then upkeep does
// nothing, List works, and all else returns ErrNotConnected.
func New(pool *pgxpool.Pool, z Zoho, o Options) *Keeper {
	k := &Keeper{pool: pool, zoho: z, o: o}
	k.watched, k.unwatched = watchable(o.Modules)
	return k
}

// Modules returns, by the names that Zoho's API has for them, the configured
// modules that get a channel, and those that Zoho tells nothing about.
func (k *Keeper) Modules() (watched []string, unwatched []Unwatched) {
	return k.watched, k.unwatched
}

// List returns every channel, those that were removed and those that others
// registered included, with what came of its module lately.
func (k *Keeper) List(ctx context.Context) ([]db.ListChannelsRow, error) {
	rows, err := db.New(k.pool).ListChannels(ctx)
	if err != nil {
		return nil, fmt.Errorf("list channels: %w", err)
	}
	return rows, nil
}

// Health returns the modules whose changes Zoho does not tell of any more: the
// channel is lost. Those whose channel could not be registered or renewed for
// more than ten minutes are among them.
func Health(ctx context.Context, q *db.Queries) (lost []string, err error) {
	lost, err = q.ListLostChannels(ctx)
	if err != nil {
		return nil, fmt.Errorf("list lost channels: %w", err)
	}
	return lost, nil
}

// newToken returns 43 characters that nobody guesses; Zoho takes at most 50.
func (k *Keeper) newToken() (string, error) {
	var b [32]byte
	if _, err := io.ReadFull(k.o.Random, b[:]); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// newID returns a positive number of 15 digits: Zoho documents a long and does
// not say how much of it may be used.
func (k *Keeper) newID() (string, error) {
	const least, count = 100_000_000_000_000, 900_000_000_000_000
	var b [8]byte
	if _, err := io.ReadFull(k.o.Random, b[:]); err != nil {
		return "", fmt.Errorf("make a channel's id: %w", err)
	}
	return strconv.FormatUint(least+binary.BigEndian.Uint64(b[:])%count, 10), nil
}

// part returns a random part of d, so that what began together does not go on
// together.
func (k *Keeper) part(d time.Duration) (time.Duration, error) {
	var b [4]byte
	if _, err := io.ReadFull(k.o.Random, b[:]); err != nil {
		return 0, fmt.Errorf("draw a number: %w", err)
	}
	return time.Duration(float64(d) * float64(binary.BigEndian.Uint32(b[:])) / (1 << 32)), nil
}
