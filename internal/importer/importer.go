// Package importer takes over what a webhook sync on Redis had not worked yet. In go a
// queue and a list of dead letters, of the shapes that such systems use; out come events
// and their jobs, as if the webhooks had come in here. An element is taken out of Redis
// when it is committed, and not before: whatever breaks in between, nothing is lost, and
// who begins again stores nothing twice.
package importer

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/inbound"
)

const (
	// pageSize is how many elements are read, and committed, at one time at most.
	pageSize = 200
	// pageBytes and pageEvents bound a commit, as for webhooks that come in; a greater
	// element commits alone.
	pageBytes  = 1 << 20
	pageEvents = 500
	// room is how many events may wait to be routed for more to be added, as in a replay:
	// what comes in meanwhile waits behind no more, and the door stays open.
	room = 1000
	// waitEvery is between two looks whether there is room, or something new.
	waitEvery = 500 * time.Millisecond
)

// Options say what is taken over, and how.
type Options struct {
	Source   string // of the events
	Queue    string // the key of what is not worked yet; "": none
	Dead     string // the key of what used up its attempts; "": none
	FromLeft bool   // the oldest element of a list is its first: it was written with RPUSH
	KeepDead bool   // what was dead is a dead letter here, too, and is not tried again
	DryRun   bool   // look, and write nothing
	Follow   bool   // go on when all is taken over, until ctx ends
	Room     int64  // events that may wait to be routed; 0: 1000
	// Progress is told how far it is, often. It may be nil.
	Progress func(Report)
}

// Importer takes over.
type Importer struct {
	redis    redis.UniversalClient
	pool     *pgxpool.Pool
	ingester *inbound.Ingester
	now      func() time.Time
	o        Options
}

// New makes an Importer.
func New(client redis.UniversalClient, pool *pgxpool.Pool, ingester *inbound.Ingester, now func() time.Time, o Options) *Importer {
	if o.Room == 0 {
		o.Room = room
	}
	if o.Progress == nil {
		o.Progress = func(Report) {}
	}
	return &Importer{redis: client, pool: pool, ingester: ingester, now: now, o: o}
}

// Run takes over until there is nothing left that can be read, or, with Follow, until ctx
// ends. When ctx ends, what is begun is committed and taken out first; Stopped says that
// it did. The report holds what was done up to an error, too.
func (im *Importer) Run(ctx context.Context) (Report, error) {
	r := &Report{DryRun: im.o.DryRun}
	for _, k := range []struct {
		name string
		dead bool
	}{{im.o.Queue, false}, {im.o.Dead, true}} {
		if k.name != "" {
			r.Keys = append(r.Keys, Key{Name: k.name, dead: k.dead, Unreadable: []Unreadable{}})
		}
	}
	for {
		for i := range r.Keys {
			if err := im.drain(ctx, r, &r.Keys[i]); err != nil {
				return *r, err
			}
		}
		if !im.o.Follow || im.o.DryRun {
			r.Stopped = ctx.Err() != nil
			return *r, nil
		}
		if !wait(ctx) {
			r.Stopped = true
			return *r, nil
		}
	}
}

// drain takes one key over. Whoever else takes elements out meanwhile moves those that
// are passed over: so it looks again as long as that finds something.
func (im *Importer) drain(ctx context.Context, r *Report, k *Key) error {
	work := context.WithoutCancel(ctx)
	q, err := openQueue(work, im.redis, k.Name, im.o.FromLeft)
	if err != nil {
		return err
	}
	k.Type = q.kind
	for again := true; again && ctx.Err() == nil; {
		before := k.Taken()
		if err := im.pass(ctx, r, k, q); err != nil {
			return err
		}
		if k.Left, err = q.size(work); err != nil {
			return err
		}
		again = !im.o.DryRun && k.Taken() > before && k.Left > k.Refused
	}
	// Also of a key that nobody came to.
	if k.Left, err = q.size(work); err != nil {
		return err
	}
	if k.ExpiresIn, err = q.expires(work); err != nil {
		return err
	}
	im.o.Progress(*r)
	return nil
}

// pass goes once through a key, from its oldest element on.
func (im *Importer) pass(ctx context.Context, r *Report, k *Key, q queue) error {
	k.Unreadable, k.Refused = k.Unreadable[:0], 0
	work := context.WithoutCancel(ctx)
	var skip int64 // what is passed over: it stays where it is
	for {
		n, err := im.roomFor(ctx, r)
		if err != nil || n == 0 {
			return err
		}
		page, err := q.read(work, skip, n)
		if err != nil || len(page) == 0 {
			return err
		}
		batch, refused := im.readPage(k.dead, q, page)
		for _, part := range batch.parts() {
			wrong, err := im.takeOver(work, k, q, part)
			if err != nil {
				return err
			}
			refused = append(refused, wrong...)
		}
		skip = k.passOver(q, skip, refused, im.o.DryRun, len(page))
		im.o.Progress(*r)
	}
}

// roomFor waits until more may be added, and returns how much; 0 when ctx has ended.
func (im *Importer) roomFor(ctx context.Context, r *Report) (int64, error) {
	for ctx.Err() == nil {
		if im.o.DryRun {
			return pageSize, nil
		}
		waiting, err := db.New(im.pool).SumCounter(context.WithoutCancel(ctx), string(counter.Backlog))
		if err != nil {
			return 0, fmt.Errorf("look at the backlog: %w", err)
		}
		if n := min(pageSize, im.o.Room-waiting); n > 0 {
			r.Waits = false
			return n, nil
		}
		r.Waits = true
		im.o.Progress(*r)
		wait(ctx)
	}
	return 0, nil
}

// wait reports false when ctx ended before its time.
func wait(ctx context.Context) bool {
	pause := time.NewTimer(waitEvery)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-ctx.Done():
		return false
	}
}
