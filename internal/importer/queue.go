package importer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrURL is returned for what is no URL of a Redis. It does not repeat the URL, in which
// a password may stand.
var ErrURL = errors.New("is not the URL of a Redis: want redis://user:password@host:6379/0, or rediss:// for TLS")

// ErrType is returned for a key that is neither a list nor a sorted set.
var ErrType = errors.New("is neither a list nor a sorted set")

// Open makes a client of the Redis at url; it connects when it is first used. A command
// whose connection breaks is sent again, which may take a second element out: one that is
// equal to the first byte for byte, and so the same event.
func Open(url string) (*redis.Client, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, ErrURL
	}
	// Nothing of what newer servers know is needed, and older ones log that they do not.
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.DisableIdentity = true
	return redis.NewClient(o), nil
}

// Silence keeps the library from writing to stderr what it returns as an error, too. It is
// for a program to call, once, before it opens anything.
func Silence() { redis.SetLogger(silent{}) }

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// queue is a key of Redis, read from the end at which the oldest element stands.
type queue struct {
	client redis.UniversalClient
	name   string
	kind   string // list or zset; none: the key is not there
	// fromLeft is that a list's oldest element is its first. A sorted set's always is.
	fromLeft bool
}

func openQueue(ctx context.Context, client redis.UniversalClient, name string, fromLeft bool) (queue, error) {
	kind, err := client.Type(ctx, name).Result()
	if err != nil {
		return queue{}, fmt.Errorf("ask Redis for the type of %s: %w", name, err)
	}
	if kind != "none" && kind != "list" && kind != "zset" {
		return queue{}, fmt.Errorf("%s %w: it is a %s", name, ErrType, kind)
	}
	return queue{client: client, name: name, kind: kind, fromLeft: fromLeft || kind == "zset"}, nil
}

// read returns n elements behind the skip oldest ones, the oldest first.
func (q queue) read(ctx context.Context, skip, n int64) ([]string, error) {
	var all []string
	var err error
	switch {
	case q.kind == "none":
	case q.kind == "zset":
		all, err = q.client.ZRange(ctx, q.name, skip, skip+n-1).Result()
	case q.fromLeft:
		all, err = q.client.LRange(ctx, q.name, skip, skip+n-1).Result()
	default:
		all, err = q.client.LRange(ctx, q.name, -(skip + n), -(skip + 1)).Result()
		slices.Reverse(all)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", q.name, err)
	}
	return all, nil
}

// remove takes the elements out, of each the oldest that is equal to it. It returns how
// many of them were no longer there.
func (q queue) remove(ctx context.Context, elements []string) (gone int, err error) {
	took, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, e := range elements {
			switch {
			case q.kind == "zset":
				p.ZRem(ctx, q.name, e)
			case q.fromLeft:
				p.LRem(ctx, q.name, 1, e)
			default:
				p.LRem(ctx, q.name, -1, e)
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("take what is stored out of %s: %w", q.name, err)
	}
	for _, t := range took {
		if n, ok := t.(*redis.IntCmd); ok && n.Val() == 0 {
			gone++
		}
	}
	return gone, nil
}

func (q queue) size(ctx context.Context) (n int64, err error) {
	switch q.kind {
	case "list":
		n, err = q.client.LLen(ctx, q.name).Result()
	case "zset":
		n, err = q.client.ZCard(ctx, q.name).Result()
	}
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", q.name, err)
	}
	return n, nil
}

// expires returns in how many seconds Redis deletes the key with all that is in it; 0: it
// does not.
func (q queue) expires(ctx context.Context) (int64, error) {
	ttl, err := q.client.TTL(ctx, q.name).Result()
	if err != nil {
		return 0, fmt.Errorf("ask Redis when %s expires: %w", q.name, err)
	}
	return int64(max(0, ttl).Seconds()), nil
}

// position is the index by which LINDEX or ZRANGE shows what stands behind skip others.
func (q queue) position(skip int64) int64 {
	if q.fromLeft {
		return skip
	}
	return -(skip + 1)
}
