package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/inbound"
)

// conflictTries bounds how often a commit is tried that others were faster than.
const conflictTries = 20

// found is an element that could be read.
type found struct {
	index int // in its page
	raw   string
	body  inbound.Imported
	death inbound.Death // of those that stay dead, without the event's id
}

type batch []found

// readPage reads elements, and says of each that cannot be read why.
func (im *Importer) readPage(dead bool, q queue, page []string) (batch, []refusal) {
	var all batch
	var refused []refusal
	for i, raw := range page {
		f, err := im.readOne(dead, q, raw)
		if err != nil {
			refused = append(refused, refusal{index: i, reason: err.Error()})
			continue
		}
		f.index = i
		all = append(all, f)
	}
	return all, refused
}

func (im *Importer) readOne(dead bool, q queue, raw string) (found, error) {
	e, err := readElement([]byte(raw), im.now())
	if err != nil {
		return found{}, err
	}
	headers, err := json.Marshal(map[string]string{"Imported-From": q.name})
	if err != nil {
		return found{}, err
	}
	f := found{raw: raw}
	if f.body, err = inbound.ReadImported(im.o.Source, e.kept([]byte(raw), headers)); err != nil {
		return found{}, err
	}
	if dead && im.o.KeepDead {
		f.body.Unworked = true
		f.death = inbound.Death{Failures: e.failures, Reason: e.reason}
		if f.death.Reason == "" {
			f.death.Reason = "dead in " + q.name + ", which did not say why"
		}
	}
	return f, nil
}

// parts are commits of bounded size.
func (b batch) parts() []batch {
	var all []batch
	begin, events, size := 0, 0, 0
	for i, f := range b {
		events, size = events+len(f.body.Events), size+len(f.raw)
		if i > begin && (events > pageEvents || size > pageBytes) {
			all = append(all, b[begin:i])
			begin, events, size = i, len(f.body.Events), len(f.raw)
		}
	}
	if begin < len(b) {
		all = append(all, b[begin:])
	}
	return all
}

// takeOver stores elements, then takes them out of Redis, and counts them. What Postgres
// refuses for what it is stays, alone.
func (im *Importer) takeOver(ctx context.Context, k *Key, q queue, b batch) (refused []refusal, err error) {
	statuses, err := im.commit(ctx, b)
	switch {
	case group.IsData(err) && len(b) == 1:
		return []refusal{{index: b[0].index, reason: "the database refuses what is in it"}}, nil
	case group.IsData(err):
		for i := range b {
			wrong, err := im.takeOver(ctx, k, q, b[i:i+1])
			if err != nil {
				return nil, err
			}
			refused = append(refused, wrong...)
		}
		return refused, nil
	case err != nil:
		return nil, err
	}
	if !im.o.DryRun {
		raw := make([]string, len(b))
		for i, f := range b {
			raw[i] = f.raw
		}
		gone, err := q.remove(ctx, raw)
		if err != nil {
			return nil, err
		}
		k.Vanished += int64(gone)
	}
	for i, events := range statuses {
		k.count(b[i], events)
	}
	return nil, nil
}

// commit is the transaction: the events with their jobs, or as dead letters.
func (im *Importer) commit(ctx context.Context, b batch) (statuses [][]inbound.EventStatus, err error) {
	bodies := make([]inbound.Imported, len(b))
	for i, f := range b {
		bodies[i] = f.body
	}
	for range conflictTries {
		err = pgx.BeginFunc(ctx, im.pool, func(tx pgx.Tx) error {
			if im.o.DryRun {
				statuses, err = im.ingester.Foresee(ctx, tx, bodies)
				return err
			}
			if statuses, err = im.ingester.Import(ctx, tx, bodies); err != nil {
				return err
			}
			return im.bury(ctx, tx, b, statuses)
		})
		if !errors.Is(err, group.ErrConflict) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("store %d elements: %w", len(b), err)
	}
	return statuses, nil
}

// bury makes dead letters of those events that are to be.
func (im *Importer) bury(ctx context.Context, tx pgx.Tx, b batch, statuses [][]inbound.EventStatus) error {
	var deaths []inbound.Death
	for i, events := range statuses {
		for _, e := range events {
			if b[i].body.Unworked && e.Status == inbound.StatusIgnored {
				d := b[i].death
				d.EventID = e.EventID
				deaths = append(deaths, d)
			}
		}
	}
	if len(deaths) == 0 {
		return nil
	}
	return im.ingester.ImportedDead(ctx, tx, im.o.Source, deaths)
}

func (k *Key) count(f found, events []inbound.EventStatus) {
	statuses := map[string]bool{}
	for _, e := range events {
		statuses[e.Status] = true
	}
	switch {
	case statuses[inbound.StatusAccepted]:
		k.Accepted++
	case statuses[inbound.StatusIgnored] && f.body.Unworked:
		k.Dead++
	case statuses[inbound.StatusIgnored]:
		k.Ignored++
	default:
		k.Duplicate++
	}
}
