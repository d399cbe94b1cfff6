package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
)

type eventsTail struct {
	Status string `help:"Only these: received, routed, retrying, processed, ignored, dead or discarded." enum:",received,routed,retrying,processed,ignored,dead,discarded" default:""`
	Source string `help:"Only of this source."`
	Module string `help:"Only of this module, as Contacts."`
}

// Run prints changes of events, one a line, until ctx ends.
func (c eventsTail) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		err := a.Stream(ctx, "/admin/events/stream", params("status", c.Status, "source", c.Source, "module", c.Module), s.sayChange)
		return unlessStopped(ctx, err)
	})
}

// sayChange prints what a stream tells: as JSON it is one a line, too.
func (s streams) sayChange(e client.Event) error {
	if e.Name == "missed" {
		_, err := fmt.Fprintln(s.err, "More happened than is told here: `memrelay events list` has it.")
		return err
	}
	if s.asJSON {
		_, err := fmt.Fprintln(s.out, e.Data)
		return err
	}
	var c admin.Change
	if err := json.Unmarshal([]byte(e.Data), &c); err != nil {
		return fmt.Errorf("read a change: %w", err)
	}
	at := c.ReceivedAt
	for _, later := range []*time.Time{c.RoutedAt, c.ProcessedAt} {
		if later != nil && later.After(at) {
			at = *later
		}
	}
	_, err := fmt.Fprintf(s.out, "%s  %-10s %d  %s %s %s from %s  %s\n", at.UTC().Format(toTheMillisecond), c.Status, c.ID, c.Operation, c.Module, c.RecordID, c.Source, c.LastError)
	return err
}
