package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// walk is how long events take from when they were due at the door until another
// connection sees their memory, and until a receiver has been told.
func (b *bench) walk(ctx context.Context) ([]row, error) {
	var rows []row
	for _, rate := range []int{100, 500} {
		url, err := b.database(ctx)
		if err != nil {
			return nil, err
		}
		r, err := b.walkOn(ctx, url, rate)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func (b *bench) walkOn(ctx context.Context, url string, rate int) (rows []row, err error) {
	r, p, err := b.toldOn(ctx, url, 1)
	if err != nil {
		return nil, err
	}
	defer r.close()
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := b.warm(ctx, r, p); err != nil {
		return nil, err
	}
	look, err := newLookout(ctx, url)
	if err != nil {
		return nil, err
	}
	before := r.count()
	all := b.webhooks(int(float64(rate) * b.duration().Seconds()))
	l, err := open(ctx, p.addr, all, float64(rate), 256)
	if err == nil {
		err = r.wait(ctx, before+all.len())
	}
	seen, lookErr := look.end(ctx)
	if err := errors.Join(err, lookErr); err != nil {
		return nil, err
	}
	remembered, err1 := since(l, all.first, seen)
	received, err2 := r.since(l, all.first)
	for where, ms := range map[string][]float64{"memory": remembered, "receiver": received} {
		rows = append(rows, row{walkName(rate, where) + ": p50", "ms", percentile(ms, 0.5)}, row{walkName(rate, where) + ": p99", "ms", percentile(ms, 0.99)})
	}
	slices.SortFunc(rows, func(a, b row) int { return slices.Compare([]byte(a.what), []byte(b.what)) })
	return rows, errors.Join(err1, err2)
}

// warm sends some events ahead: connections are opened and statements planned once.
func (b *bench) warm(ctx context.Context, r *receiver, p *program) error {
	const n = 200
	if _, err := closed(ctx, p.addr, b.webhooks(n), 8, time.Minute); err != nil {
		return err
	}
	return r.wait(ctx, n)
}

// since is how long after the requests were due, in milliseconds and sorted, each came
// to where it was seen, by its number. It is an error when one was not.
func since(l loaded, first int64, seen map[int64]time.Time) ([]float64, error) {
	ms := make([]float64, l.sent)
	for i := range ms {
		at, ok := seen[first+int64(i)]
		if !ok {
			return nil, fmt.Errorf("number %d never came", first+int64(i))
		}
		ms[i] = milliseconds(at.Sub(l.due(i)))
	}
	slices.Sort(ms)
	return ms, nil
}

const (
	lookEvery = 5 * time.Millisecond
	// overlap is how far behind the newest webhook one may still become visible: numbers
	// are taken before the commit.
	overlap = 500
)

// lookout sees memories as soon as they are committed, from a connection of its own, to
// the time between two looks. It knows them by the webhooks that tell of them, which are
// written in the same transaction and numbered.
type lookout struct {
	conn   *pgx.Conn
	cancel context.CancelFunc
	done   chan error
	seen   map[int64]time.Time // by outbox.seq
	newest int64
}

func newLookout(ctx context.Context, url string) (*lookout, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	l := &lookout{conn: conn, done: make(chan error, 1), seen: map[int64]time.Time{}}
	looking, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	go func() { l.done <- l.run(looking) }()
	return l, nil
}

func (l *lookout) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		// Not broken off in the middle: the connection is needed once more.
		if err := l.look(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *lookout) look(ctx context.Context) error {
	rows, err := l.conn.Query(ctx, `SELECT seq FROM outbox WHERE seq > $1`, l.newest-overlap)
	if err != nil {
		return fmt.Errorf("look for memories: %w", err)
	}
	seqs, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("look for memories: %w", err)
	}
	now := time.Now()
	for _, seq := range seqs {
		if _, before := l.seen[seq]; !before {
			l.seen[seq] = now
		}
		l.newest = max(l.newest, seq)
	}
	return nil
}

// end stops to look, and returns when each number behind mark was first seen.
func (l *lookout) end(ctx context.Context) (map[int64]time.Time, error) {
	l.cancel()
	defer l.conn.Close(context.WithoutCancel(ctx))
	if err := <-l.done; err != nil {
		return nil, err
	}
	if err := l.look(ctx); err != nil {
		return nil, err
	}
	marked := map[int64]time.Time{}
	rows, err := l.conn.Query(ctx, `SELECT seq, payload FROM outbox WHERE event = 'memory_added'`)
	if err != nil {
		return nil, fmt.Errorf("read the webhooks: %w", err)
	}
	var seq int64
	var payload []byte
	_, err = pgx.ForEachRow(rows, []any{&seq, &payload}, func() error {
		if n, ok := numberOf(payload); ok {
			if at, seen := l.seen[seq]; seen {
				marked[n] = at
			}
		}
		return nil
	})
	return marked, err
}
