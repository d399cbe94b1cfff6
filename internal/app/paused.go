package app

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/memrelay/memrelay/db"
)

// pausesEvery is how soon a pause holds what goes past the queue, too.
const pausesEvery = time.Second

// pauses are the queues that operators have paused, as last seen.
type pauses struct{ names atomic.Pointer[[]string] }

// held returns a function that says whether a queue is paused: for work that is begun
// without a way through it.
func (p *pauses) held(queue string) func() bool {
	return func() bool {
		names := p.names.Load()
		return names != nil && slices.Contains(*names, queue)
	}
}

// watchPauses keeps a.pauses until ctx ends.
func (a *App) watchPauses(ctx context.Context) {
	a.each(ctx, pausesEvery, a.lookAtPauses, "")
}

func (a *App) lookAtPauses(ctx context.Context) (int, error) {
	rows, err := db.New(a.pool).ListPausedQueues(ctx)
	if err != nil {
		return 0, fmt.Errorf("look for paused queues: %w", err)
	}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Name
	}
	a.pauses.names.Store(&names)
	return 0, nil
}
