package process

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
)

// applyGroup is one transaction's worth of events on its way through the five steps.
type applyGroup struct {
	units   []arrival
	answers []group.Answer[outcome]
	newID   func() uuid.UUID

	now      time.Time
	rows     map[int64]db.LockToldEventsRow // locked, and still to be followed
	live     []int                          // units whose event is among them, each event once
	heard    map[int64]heard                // what they say, but for those at fault
	echo     map[int64]bool
	subjects map[subjectKey]*subject
	lines    map[string]*memory.Link

	changes   []memory.Change
	links     []memory.LinkChange
	processed []int64
	completed []int64
	waited    time.Duration
}

// lockEvents takes the events that nobody else holds. One that has ended, or is not
// there any more, leaves nothing to do but to end its job.
func (g *applyGroup) lockEvents(ctx context.Context, q *db.Queries) error {
	ids := make([]int64, len(g.units))
	for i, u := range g.units {
		ids[i] = u.eventID
	}
	rows, err := q.LockToldEvents(ctx, ids)
	if err != nil {
		return fmt.Errorf("lock events: %w", err)
	}
	g.rows = make(map[int64]db.LockToldEventsRow, len(rows))
	for _, r := range rows {
		g.rows[r.ID] = r
		g.now = r.Now
	}
	held := map[int64]bool{}
	if missing := slices.DeleteFunc(ids, func(id int64) bool { _, ok := g.rows[id]; return ok }); len(missing) > 0 {
		there, err := q.ListEventIDs(ctx, missing)
		if err != nil {
			return fmt.Errorf("look for events that others hold: %w", err)
		}
		for _, id := range there {
			held[id] = true
		}
	}
	taken := map[int64]bool{}
	for i, u := range g.units {
		row, locked := g.rows[u.eventID]
		switch {
		case held[u.eventID]:
			g.answers[i].Err = group.ErrHeld
		case !locked, taken[u.eventID], row.Status != "received" && row.Status != "retrying":
			g.completed = append(g.completed, u.jobID)
		default:
			taken[u.eventID] = true
			g.live = append(g.live, i)
		}
	}
	return nil
}

// log ends all events without following them.
func (g *applyGroup) log() {
	for _, i := range g.live {
		g.done(i, outcomeLogged)
	}
}

// done ends the event of a unit.
func (g *applyGroup) done(i int, o outcome) {
	u := g.units[i]
	g.answers[i].Value = o
	g.processed = append(g.processed, u.eventID)
	g.completed = append(g.completed, u.jobID)
	g.waited += g.now.Sub(g.rows[u.eventID].ReceivedAt)
}

// load reads what the events say, which of it is an echo, and what is there of the
// rest. It takes told_memories, memories and lines, in this order.
func (g *applyGroup) load(ctx context.Context, q *db.Queries) error {
	g.heard = map[int64]heard{}
	for _, i := range g.live {
		row := g.rows[g.units[i].eventID]
		t, err := readHeard(row)
		if err != nil {
			g.answers[i].Err = err
			continue
		}
		g.heard[row.ID] = t
	}
	g.live = slices.DeleteFunc(g.live, func(i int) bool { return g.answers[i].Err != nil })
	remote, err := g.loadEchoes(ctx, q)
	if err != nil {
		return err
	}
	if err := g.lockSubjects(ctx, q, remote); err != nil {
		return err
	}
	return g.lockLines(ctx, q)
}

// lockSubjects takes what is known of how far others were followed, and then the
// memories. remote are events that are of copies of ours.
func (g *applyGroup) lockSubjects(ctx context.Context, q *db.Queries, remote map[int64]bool) error {
	g.subjects = map[subjectKey]*subject{}
	for id, t := range g.heard {
		if t.follows() && (!g.echo[id] || remote[id]) {
			g.subjects[t.subject()] = &subject{}
		}
	}
	if len(g.subjects) == 0 {
		return nil
	}
	var p db.LockToldMemoriesParams
	for k := range g.subjects {
		p.Origins, p.OriginIds = append(p.Origins, k.origin), append(p.OriginIds, k.id)
	}
	rows, err := q.LockToldMemories(ctx, p)
	if err != nil {
		return fmt.Errorf("lock told memories: %w", err)
	}
	for _, r := range rows {
		s := g.subjects[subjectKey{r.Origin, r.OriginID}]
		s.state = r.State
		if r.ToldAt != nil {
			s.followed, s.stamp = true, moment{*r.ToldAt, r.EventID}
		}
	}
	for id, t := range g.heard {
		s := g.subjects[t.subject()]
		if s == nil {
			continue
		}
		if s.state == stateOurs {
			g.echo[id] = true
		}
		if remote[id] && s.state != stateOurs {
			s.state, s.followed, s.stamp, s.touched = stateOurs, true, t.stamp, true
		}
	}
	return g.lockMemories(ctx, q, db.LockMemoriesToldParams(p))
}

// lockMemories takes the memories that nobody else holds. The events of one that is
// held go to the next group.
func (g *applyGroup) lockMemories(ctx context.Context, q *db.Queries, p db.LockMemoriesToldParams) error {
	memories, err := q.LockMemoriesTold(ctx, p)
	if err != nil {
		return fmt.Errorf("lock memories: %w", err)
	}
	for _, r := range memories {
		row, err := memoryRow(r)
		if err != nil {
			return err
		}
		g.subjects[subjectKey{row.Origin, row.OriginID}].memory = row
	}
	there, err := q.ListMemoriesTold(ctx, db.ListMemoriesToldParams(p))
	if err != nil {
		return fmt.Errorf("look for memories that others hold: %w", err)
	}
	held := map[subjectKey]bool{}
	for _, r := range there {
		k := subjectKey{r.Origin, r.OriginID}
		held[k] = g.subjects[k].memory == nil
	}
	g.live = slices.DeleteFunc(g.live, func(i int) bool {
		t := g.heard[g.units[i].eventID]
		if g.echo[t.rowID] || !held[t.subject()] {
			return false
		}
		g.answers[i].Err = group.ErrHeld
		delete(g.heard, t.rowID)
		return true
	})
	return nil
}

func memoryRow(r db.LockMemoriesToldRow) (*memory.Row, error) {
	metadata, err := memory.ReadMetadata(r.Metadata)
	if err != nil {
		return nil, fmt.Errorf("memory %s: %w", r.ID, err)
	}
	return &memory.Row{
		ID: r.ID, UserID: r.UserID, Kind: r.Kind, Content: r.Content, Metadata: metadata,
		AccountID: orEmpty(r.AccountID), Module: orEmpty(r.Module), RecordID: orEmpty(r.RecordID),
		Origin: orEmpty(r.Origin), OriginID: orEmpty(r.OriginID), ExpiresAt: r.ExpiresAt, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}, nil
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// lockLines takes the lines that agents, or others before, drew between the same ends.
func (g *applyGroup) lockLines(ctx context.Context, q *db.Queries) error {
	g.lines = map[string]*memory.Link{}
	var p db.ListOwnRelationshipsParams
	for id, t := range g.heard {
		if t.line == nil || g.echo[id] {
			continue
		}
		p.UserIds, p.Sources = append(p.UserIds, t.userID), append(p.Sources, t.line.Source)
		p.Relationships, p.Targets = append(p.Relationships, t.line.Relationship), append(p.Targets, t.line.Target)
	}
	if len(p.UserIds) == 0 {
		return nil
	}
	rows, err := q.ListOwnRelationships(ctx, p)
	if err != nil {
		return fmt.Errorf("list relationships: %w", err)
	}
	for _, r := range rows {
		metadata, err := memory.ReadMetadata(r.Metadata)
		if err != nil {
			return fmt.Errorf("relationship %s: %w", r.ID, err)
		}
		l := memory.Link{
			ID: r.ID, UserID: r.UserID, Source: r.Source, Relationship: r.Relationship, Target: r.Target,
			Confidence: written(r.Confidence), Metadata: metadata, CreatedAt: r.CreatedAt,
		}
		g.lines[lineOf(l)] = &l
	}
	return nil
}

// apply does what the events say, in the order of their arrival.
func (g *applyGroup) apply() {
	slices.SortFunc(g.live, func(a, b int) int { return int(g.units[a].eventID - g.units[b].eventID) })
	for _, i := range g.live {
		t := g.heard[g.units[i].eventID]
		o, err := outcomeLogged, error(nil)
		switch {
		case !t.follows():
		case g.echo[t.rowID]:
			o = outcomeEcho
		case t.line != nil:
			o = g.followLine(t, g.subjects[t.subject()])
		default:
			o, err = g.followMemory(t, g.subjects[t.subject()])
		}
		if err != nil {
			g.answers[i].Err = err
			continue
		}
		g.done(i, o)
	}
}

// writeSubjects keeps how far the others were followed.
func (g *applyGroup) writeSubjects(ctx context.Context, q *db.Queries) error {
	var p db.UpdateToldMemoriesParams
	for _, k := range slices.SortedFunc(maps.Keys(g.subjects), subjectKey.compare) {
		s := g.subjects[k]
		if !s.touched {
			continue
		}
		p.Origins, p.OriginIds = append(p.Origins, k.origin), append(p.OriginIds, k.id)
		p.ToldAt, p.EventIds = append(p.ToldAt, s.stamp.at), append(p.EventIds, s.stamp.eventID)
		p.States = append(p.States, s.state)
	}
	if len(p.Origins) == 0 {
		return nil
	}
	if err := q.UpdateToldMemories(ctx, p); err != nil {
		return fmt.Errorf("update told memories: %w", err)
	}
	return nil
}

// end ends the events and the jobs.
func (g *applyGroup) end(ctx context.Context, q *db.Queries) error {
	if len(g.processed) > 0 {
		if err := q.MarkEventsFollowed(ctx, g.processed); err != nil {
			return fmt.Errorf("mark events followed: %w", err)
		}
	}
	if err := q.CompleteJobs(ctx, g.completed); err != nil {
		return fmt.Errorf("complete jobs: %w", err)
	}
	return nil
}

// changed is what there is to count.
func (g *applyGroup) changed() counter.Changes {
	n := int64(len(g.processed))
	if n == 0 {
		return counter.Changes{}
	}
	return counter.Changes{
		counter.Backlog: -n, counter.Processed: n, counter.ProcessingMicros: g.waited.Microseconds(),
		counter.Batches: 1, counter.LastProcessed: g.now.UnixMilli(),
	}
}

func (k subjectKey) compare(o subjectKey) int {
	if c := strings.Compare(k.origin, o.origin); c != 0 {
		return c
	}
	return strings.Compare(k.id, o.id)
}
