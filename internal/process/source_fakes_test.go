package process

import (
	"context"
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"
)

// poisonous is a source that finds in one record a value which is JSON and which
// Postgres takes for none.
func poisonous(recordID string) Source {
	return sourceFunc(func(ctx context.Context, events []Event) ([]Observation, error) {
		observations, err := Payloads{}.Observe(ctx, events)
		for i, o := range observations {
			if o.RecordID == recordID {
				observations[i].Fields = maps.Clone(o.Fields)
				observations[i].Fields["Description"] = json.RawMessage(`"\u0000"`)
			}
		}
		return observations, err
	})
}

// asked is a source that answers when the test says so.
type asked struct {
	calls  chan call
	opened chan struct{}
}

// call is one that waits for its answer.
type call struct {
	events []Event
	goOn   chan struct{}
}

func newAsked() *asked { return &asked{calls: make(chan call), opened: make(chan struct{})} }

func (a *asked) Observe(ctx context.Context, events []Event) ([]Observation, error) {
	c := call{events: events, goOn: make(chan struct{})}
	select {
	case a.calls <- c:
		<-c.goOn
	case <-a.opened:
	}
	return Payloads{}.Observe(ctx, events)
}

// next waits until the source is asked.
func (a *asked) next(t *testing.T) call {
	t.Helper()
	select {
	case c := <-a.calls:
		return c
	case <-time.After(30 * time.Second):
		t.Fatal("nobody asked the source for half a minute")
		return call{}
	}
}

// answer lets the call go on.
func (c call) answer() { close(c.goOn) }

// open lets all further calls go on.
func (a *asked) open() { close(a.opened) }

// start calls a job's worker in the background.
func (s *station) start(t *testing.T, row *rivertype.JobRow) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.attempt(t.Context(), row) }()
	return done
}

// barrier lets the first n that come go on together, and all later ones at once.
type barrier struct {
	come chan struct{}
	open chan struct{}
}

func newBarrier(n int) *barrier {
	b := &barrier{come: make(chan struct{}), open: make(chan struct{})}
	go func() {
		for range n {
			<-b.come
		}
		close(b.open)
	}()
	return b
}

func (b *barrier) wait() {
	// One that never comes must not keep the others for ever.
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	select {
	case b.come <- struct{}{}:
	case <-b.open:
	}
	select {
	case <-b.open:
	case <-limit.C:
	}
}
