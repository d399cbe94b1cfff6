// Package health answers monitors. In go rows, counters and the time; out come
// /livez, /readyz, /webhooks/health and /webhooks/metrics, none of which needs a
// token, counts a table, or says anything about a customer.
package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/respond"
)

const (
	// checkTimeout bounds what a monitor waits for.
	checkTimeout = 3 * time.Second
	// degradedAge and degradedShare are from where on the backlog is a worry.
	degradedAge   = 5 * time.Minute
	degradedShare = 0.8
)

// Health answers the monitors' routes.
type Health struct {
	pool     *pgxpool.Pool
	counts   *counter.Set
	capacity int64 // of the backlog, in events
	now      func() time.Time
	concerns []Concern
}

// Concern looks at something that can be wrong while webhooks are taken and
// worked all the same. It returns what is wrong with its remedy, a sentence each;
// nothing when all is well. It says nothing that is not for everybody's eyes.
type Concern func(ctx context.Context) ([]string, error)

// New makes a Health. Any concern degrades it.
func New(pool *pgxpool.Pool, counts *counter.Set, capacity int64, now func() time.Time, concerns ...Concern) *Health {
	return &Health{pool: pool, counts: counts, capacity: capacity, now: now, concerns: concerns}
}

// Live answers 200 as long as the process answers at all.
func (h *Health) Live(w http.ResponseWriter, _ *http.Request) error {
	return respond.JSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// Ready answers 200 when the database answers and its schema fits, whatever the
// backlog: a node that is behind must not be taken out of service.
func (h *Health) Ready(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	if err := postgres.CheckSchema(ctx, h.pool); err != nil {
		return notReady(err)
	}
	return respond.JSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// Report is the body of /webhooks/health.
type Report struct {
	Status            string  `json:"status"` // healthy, degraded or unhealthy
	DatabaseConnected bool    `json:"database_connected"`
	QueueSize         int64   `json:"queue_size"` // events not yet routed
	QueueCapacity     int64   `json:"queue_capacity"`
	QueueUtilization  string  `json:"queue_utilization"`
	OldestEventAge    float64 `json:"oldest_event_age_seconds"` // 0 when none waits
	// Concerns are what degrades besides the backlog, with the remedy.
	Concerns  []string `json:"concerns,omitempty"`
	Timestamp string   `json:"timestamp"`
}

// Health answers 200 when healthy or degraded, 503 when there is no database.
func (h *Health) Health(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	now := h.now()
	backlog := h.counts.Backlog()
	report := Report{
		Status: "healthy", DatabaseConnected: true, QueueSize: backlog, QueueCapacity: h.capacity,
		QueueUtilization: percent(backlog, h.capacity), Timestamp: now.UTC().Format(time.RFC3339),
	}
	oldest, err := db.New(h.pool).OldestWaitingEvent(ctx)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		report.Status, report.DatabaseConnected = "unhealthy", false
		return respond.JSON(w, http.StatusServiceUnavailable, report)
	default:
		report.OldestEventAge = max(0, now.Sub(oldest).Seconds())
	}
	for _, look := range h.concerns {
		found, err := look(ctx)
		if err != nil {
			found = []string{"It could not be looked whether all is well."}
		}
		report.Concerns = append(report.Concerns, found...)
	}
	if len(report.Concerns) > 0 || float64(backlog) > degradedShare*float64(h.capacity) || report.OldestEventAge > degradedAge.Seconds() {
		report.Status = "degraded"
	}
	return respond.JSON(w, http.StatusOK, report)
}

// Metrics is the body of /webhooks/metrics: sums over all nodes since the
// database was made.
type Metrics struct {
	TotalEvents           int64   `json:"total_events"`
	VerifiedEvents        int64   `json:"verified_events"`
	RejectedEvents        int64   `json:"rejected_events"`
	DuplicatedEvents      int64   `json:"duplicated_events"`
	QueuedEvents          int64   `json:"queued_events"`
	FailedEvents          int64   `json:"failed_events"`
	AcceptanceRate        string  `json:"acceptance_rate"`
	DeduplicationRate     string  `json:"deduplication_rate"`
	CurrentQueueSize      int64   `json:"current_queue_size"`
	DeadLetterQueueSize   int64   `json:"dead_letter_queue_size"`
	EventsProcessed       int64   `json:"events_processed"`
	EventsSucceeded       int64   `json:"events_succeeded"`
	EventsFailed          int64   `json:"events_failed"`
	EventsRetried         int64   `json:"events_retried"`
	EventsDeadLetter      int64   `json:"events_dead_letter"`
	BatchesProcessed      int64   `json:"batches_processed"`
	AverageProcessingTime float64 `json:"average_processing_time"` // seconds from receipt to memory
	LastProcessed         *string `json:"last_processed"`
	SuccessRate           string  `json:"success_rate"`
	WorkersRunning        int64   `json:"workers_running"` // job slots of all living nodes
	ProcessorRunning      bool    `json:"processor_running"`
	Timestamp             string  `json:"timestamp"`
}

// Metrics answers with the counters.
func (h *Health) Metrics(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	q := db.New(h.pool)
	sums, err := counter.Read(ctx, q)
	if err != nil {
		return noDatabase(err)
	}
	workers, err := q.SumWorkers(ctx)
	if err != nil {
		return noDatabase(fmt.Errorf("sum workers: %w", err))
	}
	return respond.JSON(w, http.StatusOK, metricsOf(sums, h.counts.Backlog(), workers, h.now()))
}

func metricsOf(c counter.Changes, backlog, workers int64, now time.Time) Metrics {
	verified := c[counter.Queued] + c[counter.Duplicated] + c[counter.Ignored]
	total := verified + c[counter.Rejected] + c[counter.Failed]
	succeeded, died := c[counter.Processed], c[counter.Died]
	m := Metrics{
		TotalEvents: total, VerifiedEvents: verified, RejectedEvents: c[counter.Rejected],
		DuplicatedEvents: c[counter.Duplicated], QueuedEvents: c[counter.Queued], FailedEvents: c[counter.Failed],
		AcceptanceRate: percent(verified, total), DeduplicationRate: percent(c[counter.Duplicated], verified),
		CurrentQueueSize: backlog, DeadLetterQueueSize: c[counter.Dead],
		EventsProcessed: succeeded + died, EventsSucceeded: succeeded, EventsFailed: c[counter.Retried] + died,
		EventsRetried: c[counter.Retried], EventsDeadLetter: died, BatchesProcessed: c[counter.Batches],
		SuccessRate:    percent(succeeded, succeeded+died),
		WorkersRunning: workers, ProcessorRunning: workers > 0, Timestamp: now.UTC().Format(time.RFC3339),
	}
	if succeeded > 0 {
		m.AverageProcessingTime = float64(c[counter.ProcessingMicros]) / float64(succeeded) / 1e6
	}
	if last := c[counter.LastProcessed]; last > 0 {
		at := time.UnixMilli(last).UTC().Format(time.RFC3339Nano)
		m.LastProcessed = &at
	}
	return m
}

func noDatabase(err error) error {
	return &respond.Error{Status: http.StatusServiceUnavailable, Code: "no_database", Message: "The database does not answer.", Err: err}
}

func notReady(err error) error {
	return &respond.Error{Status: http.StatusServiceUnavailable, Code: "not_ready", Message: "The database does not answer, or its schema does not fit.", Err: err}
}

// percent is a share with one digit, as "99.8%"; of nothing it is "0.0%".
func percent(part, whole int64) string {
	if whole <= 0 {
		return "0.0%"
	}
	return fmt.Sprintf("%.1f%%", 100*float64(part)/float64(whole))
}
