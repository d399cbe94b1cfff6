package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// loaded is what became of a load.
type loaded struct {
	sent int
	took time.Duration
	ms   []float64 // of each answer, sorted
	// began is when the first request was due, and every when the next ones were: open loop only.
	began time.Time
	every time.Duration
}

func (l loaded) rate() float64 { return float64(l.sent) / l.took.Seconds() }

// due is when request i should have been sent.
func (l loaded) due(i int) time.Time { return dueAt(l.began, l.every, i) }

func dueAt(began time.Time, every time.Duration, i int) time.Time {
	return began.Add(time.Duration(i) * every)
}

// rows are its rate and how long answers took.
func (l loaded) rows(name string) []row {
	return []row{
		{name, perSecond, l.rate()},
		{name + ": p50", "ms", percentile(l.ms, 0.5)},
		{name + ": p99", "ms", percentile(l.ms, 0.99)},
		{name + ": p99.9", "ms", percentile(l.ms, 0.999)},
	}
}

// latencies is rows without the rate, which the load itself has set.
func (l loaded) latencies(name string) []row { return l.rows(name)[1:] }

// closed sends requests over so many connections, each the next one as soon as the one
// before is answered, until they or the time are used up. The last request of each is
// waited for: a client that hangs up would measure something else.
func closed(ctx context.Context, addr string, r requests, connections int, atMost time.Duration) (loaded, error) {
	wires, hangUp, err := dialAll(ctx, addr, min(connections, r.len()))
	if err != nil {
		return loaded{}, err
	}
	defer hangUp()
	var next atomic.Int64
	began := time.Now()
	return onAll(ctx, wires, func(w *wire, took *[]float64) error {
		for ctx.Err() == nil && time.Since(began) < atMost {
			i := int(next.Add(1)) - 1
			if i >= r.len() {
				return nil
			}
			sent := time.Now()
			if err := w.do(r.at(i)); err != nil {
				return err
			}
			*took = append(*took, milliseconds(time.Since(sent)))
		}
		return nil
	})
}

// open sends each request when it is due by the clock, whether or not the ones before
// are answered, and counts from then on: a server that stalls is charged with
// everything that should have been sent meanwhile. The clock wakes the sender up to half
// a millisecond late; that counts, too.
func open(ctx context.Context, addr string, r requests, rate float64, connections int) (loaded, error) {
	wires, hangUp, err := dialAll(ctx, addr, min(connections, r.len()))
	if err != nil {
		return loaded{}, err
	}
	defer hangUp()
	every := time.Duration(float64(time.Second) / rate)
	began := time.Now().Add(10 * time.Millisecond)
	turns := make(chan int, r.len()) // never full: who is due never waits for who was
	go pace(ctx, turns, r.len(), began, every)
	l, err := onAll(ctx, wires, func(w *wire, took *[]float64) error {
		for i := range turns {
			if err := w.do(r.at(i)); err != nil {
				return err
			}
			*took = append(*took, milliseconds(time.Since(dueAt(began, every, i))))
		}
		return nil
	})
	l.began, l.every = began, every
	return l, err
}

// pace hands out each turn when it is due.
func pace(ctx context.Context, turns chan<- int, n int, began time.Time, every time.Duration) {
	defer close(turns)
	for i := range n {
		if wait := time.Until(dueAt(began, every, i)); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		}
		turns <- i
	}
}

func dialAll(ctx context.Context, addr string, n int) (wires []*wire, hangUp func(), err error) {
	hangUp = func() {
		for _, w := range wires {
			_ = w.conn.Close()
		}
	}
	for range n {
		w, err := dial(ctx, addr)
		if err != nil {
			hangUp()
			return nil, nil, err
		}
		wires = append(wires, w)
	}
	return wires, hangUp, nil
}

// onAll runs each connection on its own, and puts together what they took. The error
// is the first one's.
func onAll(ctx context.Context, wires []*wire, run func(w *wire, took *[]float64) error) (loaded, error) {
	took := make([][]float64, len(wires))
	failed := make([]error, len(wires))
	began := time.Now()
	var wg sync.WaitGroup
	for i, w := range wires {
		wg.Go(func() { failed[i] = run(w, &took[i]) })
	}
	wg.Wait()
	l := loaded{took: time.Since(began), ms: slices.Sorted(slices.Values(slices.Concat(took...)))}
	l.sent = len(l.ms)
	if ctx.Err() != nil {
		return l, ctx.Err()
	}
	for _, err := range failed {
		if err != nil {
			return l, err
		}
	}
	if l.sent == 0 {
		return l, errors.New("nothing was answered")
	}
	return l, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
