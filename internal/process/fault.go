package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/zoho"
)

// Retry says what happens to an event that is at fault itself.
type Retry struct {
	MaxAttempts int           // in all, the first included
	Base        time.Duration // before the second attempt; doubled for each further one
	// GiveUpAfter is how long a fault that nobody can classify is taken for the
	// world's, which does not count.
	GiveUpAfter time.Duration
}

// maxBackoff is the longest an event waits for its next attempt.
const maxBackoff = 30 * time.Second

// after returns how long to wait after so many failures: doubled each time,
// at most 30 s, and up to a fifth more or less, so that events which failed
// together do not come back together.
func (r Retry) after(failures int) time.Duration {
	wait := r.Base
	for i := 1; i < failures && wait < maxBackoff; i++ {
		wait *= 2
	}
	wait = min(wait, maxBackoff)
	return time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))
}

// blame is whose fault an error is.
type blame int

const (
	ofWorld   blame = iota // it will pass; waiting costs no attempt
	ofEvent                // trying the same again cannot succeed
	ofUnknown              // taken for the world's, for GiveUpAfter
)

// classify says whose fault it is that a unit could not be written.
func classify(err error) blame {
	var netErr net.Error
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	switch {
	case group.IsData(err), errors.Is(err, errEvent):
		return ofEvent
	case errors.Is(err, group.ErrFull), errors.Is(err, group.ErrHeld), errors.Is(err, group.ErrConflict),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &connect), errors.As(err, &netErr), pgconn.SafeToRetry(err):
		return ofWorld
	case errors.As(err, &pg):
		// Connection, transaction lost, resources, locks and time limits, operator's
		// intervention, the system, read-only after a failover.
		switch pg.Code[:min(2, len(pg.Code))] {
		case "08", "25", "40", "53", "55", "57", "58":
			return ofWorld
		}
		return ofUnknown
	default:
		// pgx reports a connection that broke in the middle as plain errors.
		return ofUnknown
	}
}

// maxPause is the longest that a lane waits for Zoho although it says longer: an
// outage may end before.
const maxPause = time.Minute

// pause returns how long a job waits for the world: not counted as an attempt,
// and short enough that River keeps it precise.
func pause() error {
	return river.JobSnooze(time.Second + time.Duration(rand.Int64N(int64(2*time.Second))))
}

// wait is what a job returns that the world keeps from its end. Nothing else says
// why: the job is neither failed nor retried, and nobody's row tells.
func wait(ctx context.Context, log *slog.Logger, err error, attrs ...any) error {
	log.WarnContext(ctx, "job waits for the world", append(attrs, "error", err)...)
	if after := min(zoho.RetryAfter(err), maxPause); after > 0 {
		// A little later than it says, and not all at once.
		return river.JobSnooze(after + time.Duration(rand.Int64N(int64(after/4+time.Second))))
	}
	return pause()
}

// ended is what a job returns whose context has ended. The time of an attempt is
// up when the world is slow, which costs none; when the program stops, River
// gives the job back at once as it was.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return pause()
	}
	return ctx.Err()
}

// failure is a fault of one event.
type failure struct {
	eventID  int64
	failures int // before this one
	err      error
}

// markFailed records faults on the events' rows: tried again after their delay,
// or dead with the reason. It returns what there is to count, and what to tell of
// those that died: the caller does so in the same transaction.
func markFailed(ctx context.Context, q *db.Queries, retry Retry, failures []failure) (counter.Changes, []memory.Announcement, error) {
	changes := counter.Changes{}
	if len(failures) == 0 {
		return changes, nil, nil
	}
	params := db.MarkEventsFailedParams{MaxFailures: int32(retry.MaxAttempts)}
	for _, f := range failures {
		params.Ids = append(params.Ids, f.eventID)
		params.Errors = append(params.Errors, reason(f.err))
		params.DelaysMs = append(params.DelaysMs, retry.after(f.failures+1).Milliseconds())
	}
	rows, err := q.MarkEventsFailed(ctx, params)
	if err != nil {
		return nil, nil, fmt.Errorf("mark events failed: %w", err)
	}
	var deaths []memory.Announcement
	for _, r := range rows {
		if r.Status == "dead" {
			changes[counter.Died]++
			changes[counter.Dead]++
			deaths = append(deaths, death(r))
			continue
		}
		changes[counter.Retried]++
	}
	return changes, deaths, nil
}

// death tells operators of an event that is not tried any more.
func death(e db.MarkEventsFailedRow) memory.Announcement {
	return memory.Announcement{Event: memory.EventDead, UserID: memory.SystemUser, Data: memory.EventDeadData{
		EventID: e.ID, Source: e.Source, Module: e.Module, Operation: e.Operation, RecordID: e.RecordID,
		Failures: int64(e.Failures), Error: e.LastError,
	}}
}

// nextRetries returns, by account, when the next of its events that failed is to
// be tried again: this sync's, and those that an earlier one left to their time.
// A lane runs for a new event before that, and would forget them otherwise.
func nextRetries(ctx context.Context, q *db.Queries, accountIDs []string) (map[string]time.Time, error) {
	rows, err := q.ListNextRetries(ctx, accountIDs)
	if err != nil {
		return nil, fmt.Errorf("list next retries: %w", err)
	}
	next := make(map[string]time.Time, len(rows))
	for _, r := range rows {
		next[r.AccountID] = r.RetryAt
	}
	return next, nil
}

// maxReason bounds what is kept of an error, in bytes.
const maxReason = 500

// reason is an error as a row keeps it: short, and text that Postgres takes.
func reason(err error) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", ""), "\uFFFD")
	if len(text) <= maxReason {
		return text
	}
	return strings.ToValidUTF8(text[:maxReason], "")
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
