package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxLine bounds a line of a stream, in bytes.
const maxLine = 1 << 20

// ErrSilent is returned for a stream that has said nothing for too long.
var ErrSilent = errors.New("nothing was heard for too long")

// Event is one of a stream of server-sent events.
type Event struct {
	ID   string // where to go on from after it
	Name string
	Data string
}

// maxFailed is how often in a row a connection that broke is not to be had again.
const maxFailed = 30

// Stream reads server-sent events until each returns an error, which it returns, or ctx
// ends. A connection that breaks is made again, and goes on behind the last event that was
// read; a *Problem ends it, and so does a server that stays away.
func (c *Client) Stream(ctx context.Context, path string, query url.Values, each func(Event) error) error {
	s := stream{each: each, pause: 2 * time.Second}
	for {
		err := c.follow(ctx, Request{Path: path, Query: query}, &s)
		var problem *Problem
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.stopped != nil:
			return s.stopped
		case errors.As(err, &problem) && problem.Status != http.StatusServiceUnavailable, err != nil && !s.connected, s.failed > maxFailed:
			return err
		}
		s.failed++
		if err := c.wait(ctx, s.pause); err != nil {
			return err
		}
	}
}

// stream is how far a stream has come, over all its connections.
type stream struct {
	each      func(Event) error
	stopped   error // what each returned
	connected bool  // once at least
	failed    int   // connections in a row
	lastID    string
	pause     time.Duration
}

// follow reads one connection to its end.
func (c *Client) follow(ctx context.Context, r Request, s *stream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(c.silence, func() { cancel(ErrSilent) })
	defer silence.Stop()
	if s.lastID != "" {
		query := url.Values{"last_event_id": {s.lastID}}
		for name, values := range r.Query {
			query[name] = values
		}
		r.Query = query
	}
	resp, err := c.send(ctx, r, "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxLine)) // what cannot be read says nothing
		return problemOf(resp, text)
	}
	if media := mediaOf(resp); media != "text/event-stream" {
		return fmt.Errorf("%s answered %s and no stream", c.base.Host, media)
	}
	s.connected, s.failed = true, 0
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	var e Event
	for lines.Scan() {
		silence.Reset(c.silence)
		if s.take(&e, lines.Text()); s.stopped != nil {
			return nil
		}
	}
	return lines.Err()
}

// take reads one line; an empty one ends an event.
func (s *stream) take(e *Event, line string) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch {
	case line == "":
		if e.Data != "" {
			e.Data = strings.TrimSuffix(e.Data, "\n")
			if s.stopped = s.each(*e); s.stopped == nil && e.ID != "" {
				s.lastID = e.ID
			}
		}
		*e = Event{}
	case name == "id":
		e.ID = value
	case name == "event":
		e.Name = value
	case name == "data":
		e.Data += value + "\n"
	case name == "retry":
		if ms, err := strconv.Atoi(value); err == nil && ms >= 0 {
			s.pause = min(time.Duration(ms)*time.Millisecond, maxWait)
		}
	}
}
