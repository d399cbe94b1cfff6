package app

import (
	"context"
	"time"

	"github.com/memrelay/memrelay/internal/retention"
)

// retainEvery is how often what was kept long enough is deleted: little at a time, as it
// came.
const retainEvery = time.Minute

// retain deletes what was kept long enough, at once and then each minute, until ctx ends.
// It has a loop of its own: the first time it may be at it for hours, and nothing is to
// wait for that to be mended.
func (a *App) retain(ctx context.Context) {
	a.each(ctx, retainEvery, func(ctx context.Context) (int, error) {
		_, err := a.Retain(ctx)
		return 0, err // what it deleted it has said itself
	}, "")
}

// Retain deletes what was kept long enough, and returns what that was: nothing where
// events are kept for ever. Not for several goroutines.
func (a *App) Retain(ctx context.Context) (retention.Forgotten, error) {
	if a.retention == nil {
		return retention.Forgotten{}, nil
	}
	return a.retention.Forget(ctx)
}

// buildRetention builds nothing where events are kept for ever.
func (a *App) buildRetention() {
	in := a.cfg.Inbound
	if in.EventRetention == 0 {
		return
	}
	a.retention = retention.New(a.pool, retention.Settings{Events: in.EventRetention, Repeats: in.EventTTL}, a.o.Now, a.log)
}
