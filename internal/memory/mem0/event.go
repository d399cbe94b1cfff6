package mem0

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/exchange"
)

// What became of something that the platform queued.
const (
	eventSucceeded = "SUCCEEDED"
	eventFailed    = "FAILED"
)

// errQueued is the cause of an error when something is still queued at the end of
// the time for it.
var errQueued = errors.New("still queued")

type event struct {
	Status  string   `json:"status"`
	Results []result `json:"results"`
	Error   string   `json:"error"`
}

// await waits for what the platform queued, and returns the id of the copy. Only
// an event that failed has surely left nothing.
func (c *Client) await(ctx context.Context, eventID string, item memory.Item) (string, error) {
	within, cancel := context.WithTimeoutCause(ctx, c.timeout, errQueued)
	defer cancel()
	for pause := c.poll; ; pause = min(2*pause, 8*c.poll) {
		if err := wait(within, pause); err != nil {
			return "", c.queued(ctx, eventID, err)
		}
		var e event
		err := c.exchange.Do(within, exchange.Call{
			Method: http.MethodGet, Path: "/v1/event/" + url.PathEscape(eventID) + "/", Read: exchange.Into(&e),
		})
		switch {
		case memory.RemoteKindOf(err) == memory.RemoteUnauthorized:
			return "", c.queued(ctx, eventID, err)
		case err != nil: // it is asked again: the answer counts, not who lost it
		case e.Status == eventFailed:
			return "", failed(c.exchange.Words(e.Error))
		case e.Status == eventSucceeded:
			return c.succeeded(ctx, eventID, e, item)
		}
	}
}

// succeeded is the copy that an event made. When the event does not name it, it is
// looked for.
func (c *Client) succeeded(ctx context.Context, eventID string, e event, item memory.Item) (string, error) {
	if id := idOf(e.Results); id != "" {
		return id, nil
	}
	id, err := c.Find(ctx, item.UserID, item.ID)
	if err != nil {
		return "", c.queued(ctx, eventID, err)
	}
	if id == "" {
		return "", c.queued(ctx, eventID, errors.New("done, but not to be found"))
	}
	return id, nil
}

// queued is the error of an Add that may yet have its effect.
func (c *Client) queued(ctx context.Context, eventID string, err error) error {
	e := &memory.RemoteError{Kind: memory.RemoteUnavailable, Message: c.exchange.Words("mem0 queued it as event " + eventID), Sent: true, Err: err}
	var inner *memory.RemoteError
	if errors.As(err, &inner) {
		e.Kind, e.Status, e.RetryAfter = inner.Kind, inner.Status, inner.RetryAfter
	}
	if ctx.Err() != nil {
		e.Err = ctx.Err()
	}
	return e
}

// failed is the error of an Add that mem0 gave up.
func failed(words string) error {
	return &memory.RemoteError{Kind: memory.RemoteUnavailable, Status: http.StatusOK, Message: "mem0 failed to add it", Err: reason(words)}
}

func reason(words string) error {
	if words == "" {
		return nil
	}
	return errors.New(words)
}

// wait waits, or returns why it did not.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
