package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
)

// What of a window's rows is looked at: so many at most, whatever there are.
const (
	sampledEvents     = 4000
	sampledLives      = 400 // events that are followed to their receivers
	sampledDeliveries = 2000
	// topLines is how many sources and endpoints are named.
	topLines = 10
	// sampleEvery is how far two kept sums lie apart.
	sampleEvery = 15 * time.Second
)

// Windows are the windows that there are figures of, by name.
func Windows() map[string]time.Duration {
	return map[string]time.Duration{"5m": 5 * time.Minute, "1h": time.Hour, "24h": 24 * time.Hour}
}

// StatsOf are the figures of a window that ends now.
type StatsOf struct {
	Window string `json:"window"`
	// Covered is how much of it rates are made of: less when no node ran before.
	CoveredSeconds float64 `json:"covered_seconds"`
	// PerSecond are rates, of exact sums.
	PerSecond Rates `json:"per_second"`
	// Milliseconds are how long things took, of a sample.
	Milliseconds Times     `json:"milliseconds"`
	Backlog      []Backlog `json:"backlog"`
	Sampled      Sampled   `json:"sampled"`
	// Sources and Endpoints are those with the most, ten at most; numbers are projected
	// from the sample.
	Sources   []SourceStats   `json:"sources"`
	Endpoints []EndpointStats `json:"endpoints"`
}

// Rates are numbers per second.
type Rates struct {
	Received       float64 `json:"received"` // events stored, repeats not among them
	Duplicated     float64 `json:"duplicated"`
	Rejected       float64 `json:"rejected"` // requests
	Processed      float64 `json:"processed"`
	Failed         float64 `json:"failed"` // faults of events, those that are tried again included
	Died           float64 `json:"died"`
	Delivered      float64 `json:"delivered"`
	AttemptsFailed float64 `json:"attempts_failed"`
	DeliveriesDied float64 `json:"deliveries_died"`
}

// Times are how long things took, from the receipt of an event. Attempts are those of
// deliveries that were made in the window.
type Times struct {
	ToRouted    *Percentiles `json:"to_routed"` // null: there was none
	ToProcessed *Percentiles `json:"to_processed"`
	ToDelivered *Percentiles `json:"to_delivered"` // until the last endpoint had it
	Attempt     *Percentiles `json:"attempt"`
}

// Percentiles are what half of all, 95 and 99 of a hundred took at most, in milliseconds.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// Backlog is what waits at a stage. Waiting ends at 10,000: that means so many or more,
// and then the oldest may be older.
type Backlog struct {
	Stage         string  `json:"stage"`
	Waiting       int64   `json:"waiting"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

// Sampled is how much was looked at: 1 is everything.
type Sampled struct {
	Events     float64 `json:"events"`
	Deliveries float64 `json:"deliveries"`
}

// SourceStats are the events of one source.
type SourceStats struct {
	Source   string `json:"source"`
	Events   int64  `json:"events"`
	Retrying int64  `json:"retrying"`
	Dead     int64  `json:"dead"`
}

// EndpointStats are the deliveries to one endpoint.
type EndpointStats struct {
	EndpointID     uuid.UUID    `json:"endpoint_id"`
	Endpoint       string       `json:"endpoint"`
	Deliveries     int64        `json:"deliveries"`
	Delivered      int64        `json:"delivered"`
	Open           int64        `json:"open"`
	Dead           int64        `json:"dead"`
	Attempts       int64        `json:"attempts"`
	AttemptsFailed int64        `json:"attempts_failed"`
	Attempt        *Percentiles `json:"attempt_milliseconds"`
}

// Stats makes figures of what happened lately.
type Stats struct {
	pool *pgxpool.Pool
	now  func() time.Time
}

// NewStats makes a Stats.
func NewStats(pool *pgxpool.Pool, now func() time.Time) *Stats { return &Stats{pool: pool, now: now} }

// Keep keeps the sums of this moment, unless another node has, and forgets those of
// yesterday. It is to be called every fifteen seconds.
func (s *Stats) Keep(ctx context.Context) error {
	q := db.New(s.pool)
	if err := q.KeepCounterSample(ctx); err != nil {
		return fmt.Errorf("keep the sums of counters: %w", err)
	}
	if err := q.DropCounterSamples(ctx); err != nil {
		return fmt.Errorf("forget old sums of counters: %w", err)
	}
	return nil
}

// Of returns the figures of one of Windows. What it costs does not depend on how much
// happened: rates come of sums that are kept every fifteen seconds, the rest of a
// sample whose ids are spread over the window. It returns a *body.Invalid for a window
// that is none.
func (s *Stats) Of(ctx context.Context, window string) (StatsOf, error) {
	span, ok := Windows()[window]
	if !ok {
		return StatsOf{}, wrong("window", "want 5m, 1h or 24h")
	}
	of := StatsOf{Window: window, Backlog: []Backlog{}, Sources: []SourceStats{}, Endpoints: []EndpointStats{}}
	q, since := db.New(s.pool), s.now().Add(-span)
	for _, look := range []func(context.Context, *db.Queries, time.Time, *StatsOf) error{lookAtRates, lookAtBacklogs, lookAtEvents, lookAtDeliveries} {
		if err := look(ctx, q, since, &of); err != nil {
			return StatsOf{}, err
		}
	}
	return of, nil
}

func lookAtRates(ctx context.Context, q *db.Queries, since time.Time, of *StatsOf) error {
	kept, err := q.GetCounterSample(ctx, since.Add(-sampleEvery))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get the sums of then: %w", err)
	}
	then := counter.Changes{}
	if err := json.Unmarshal(kept.Sums, &then); err != nil {
		return fmt.Errorf("read the sums of then: %w", err)
	}
	now, err := counter.Read(ctx, q)
	if err != nil {
		return err
	}
	of.CoveredSeconds = round(kept.Age.Seconds())
	rate := func(names ...counter.Name) float64 {
		var n int64
		for _, name := range names {
			n += now[name] - then[name]
		}
		return round(float64(n) / max(kept.Age.Seconds(), 0.001))
	}
	of.PerSecond = Rates{
		Received: rate(counter.Queued, counter.Ignored), Duplicated: rate(counter.Duplicated), Rejected: rate(counter.Rejected),
		Processed: rate(counter.Processed), Failed: rate(counter.Retried, counter.Died), Died: rate(counter.Died),
		Delivered: rate(counter.Delivered), AttemptsFailed: rate(counter.DeliveryRetries, counter.DeliveriesDied), DeliveriesDied: rate(counter.DeliveriesDied),
	}
	return nil
}

func lookAtBacklogs(ctx context.Context, q *db.Queries, _ time.Time, of *StatsOf) error {
	rows, err := q.LookAtBacklogs(ctx)
	if err != nil {
		return fmt.Errorf("look at the backlogs: %w", err)
	}
	for _, r := range rows {
		of.Backlog = append(of.Backlog, Backlog{Stage: r.Stage, Waiting: r.Waiting, OldestSeconds: round(max(0, r.OldestSeconds))})
	}
	return nil
}

func lookAtEvents(ctx context.Context, q *db.Queries, since time.Time, of *StatsOf) error {
	in, err := q.FindEventWindow(ctx, since)
	if err != nil {
		return fmt.Errorf("find the first event: %w", err)
	}
	ids, share := spread(in.First, in.Last, sampledEvents)
	of.Sampled.Events = share
	rows, err := q.SampleEvents(ctx, ids)
	if err != nil {
		return fmt.Errorf("sample events: %w", err)
	}
	for _, r := range rows {
		if r.Source == "" {
			of.Milliseconds.ToRouted, of.Milliseconds.ToProcessed = percentiles(r.ToRouted), percentiles(r.ToProcessed)
			continue
		}
		of.Sources = append(of.Sources, SourceStats{
			Source: r.Source, Events: project(r.Events, share), Retrying: project(r.Retrying, share), Dead: project(r.Dead, share),
		})
	}
	slices.SortFunc(of.Sources, func(a, b SourceStats) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Source, b.Source))
	})
	of.Sources = of.Sources[:min(len(of.Sources), topLines)]
	ids, _ = spread(in.First, in.Last, sampledLives)
	lives, err := q.SampleDelivered(ctx, ids)
	if err != nil {
		return fmt.Errorf("sample the lives of events: %w", err)
	}
	of.Milliseconds.ToDelivered = percentiles(lives.ToDelivered)
	return nil
}

func lookAtDeliveries(ctx context.Context, q *db.Queries, since time.Time, of *StatsOf) error {
	first, err := q.FindDeliveryAt(ctx, since)
	if err != nil {
		return fmt.Errorf("find the first delivery: %w", err)
	}
	last, err := q.LastDeliveryID(ctx)
	if err != nil {
		return fmt.Errorf("find the last delivery: %w", err)
	}
	ids, share := spread(first, last, sampledDeliveries)
	of.Sampled.Deliveries = share
	rows, err := q.SampleDeliveries(ctx, ids)
	if err != nil {
		return fmt.Errorf("sample deliveries: %w", err)
	}
	attempts, err := q.SampleAttempts(ctx, ids)
	if err != nil {
		return fmt.Errorf("sample attempts: %w", err)
	}
	attemptsOf := map[uuid.UUID]db.SampleAttemptsRow{}
	for _, a := range attempts {
		attemptsOf[a.EndpointID] = a
	}
	of.Milliseconds.Attempt = percentiles(attemptsOf[uuid.Nil].Took)
	for _, r := range rows {
		if r.EndpointID == uuid.Nil {
			continue
		}
		a := attemptsOf[r.EndpointID]
		of.Endpoints = append(of.Endpoints, EndpointStats{
			EndpointID: r.EndpointID, Endpoint: r.Endpoint, Deliveries: project(r.Deliveries, share), Delivered: project(r.Delivered, share),
			Open: project(r.Open, share), Dead: project(r.Dead, share),
			Attempts: project(a.Attempts, share), AttemptsFailed: project(a.Failed, share), Attempt: percentiles(a.Took),
		})
	}
	slices.SortFunc(of.Endpoints, func(a, b EndpointStats) int {
		return cmp.Or(cmp.Compare(b.Deliveries, a.Deliveries), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	of.Endpoints = of.Endpoints[:min(len(of.Endpoints), topLines)]
	return nil
}

// stretch is how many ids in a row are looked at: rows that were stored together lie on
// the same page.
const stretch = 20

// spread returns at most n of the ids from first to last, in stretches that lie evenly
// among them, and which share of all they are.
func spread(first, last int64, n int) (ids []int64, share float64) {
	all := last - first + 1
	if all <= 0 {
		return []int64{}, 1
	}
	if all <= int64(n) {
		for id := first; id <= last; id++ {
			ids = append(ids, id)
		}
		return ids, 1
	}
	stretches := n / stretch
	for i := range stretches {
		begin := first + int64(float64(all-stretch)*float64(i)/float64(stretches-1))
		for id := begin; id < begin+stretch; id++ {
			ids = append(ids, id)
		}
	}
	return ids, float64(len(ids)) / float64(all)
}

// project is how many there are of which a share was counted.
func project(n int64, share float64) int64 { return int64(math.Round(float64(n) / share)) }

func percentiles(of []float64) *Percentiles {
	if len(of) != 3 {
		return nil
	}
	return &Percentiles{P50: round(of[0]), P95: round(of[1]), P99: round(of[2])}
}

// round is a figure as people read it: to the thousandth.
func round(f float64) float64 { return math.Round(f*1000) / 1000 }
