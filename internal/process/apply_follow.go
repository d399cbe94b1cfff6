package process

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/memory"
)

// The states of told_memories.
const (
	stateTheirs = "theirs"
	stateGone   = "gone"
	stateOurs   = "ours"
)

// subject is what we know of one memory of another system's, or of a line of its graph.
type subject struct {
	followed bool // something was
	stamp    moment
	state    string
	memory   *memory.Row // our copy; nil: there is none
	touched  bool
}

// passed reports whether t comes too late: something newer was followed. What was
// followed itself is not: a replay comes to the same. Of what is told at second hand
// only news counts: an edit of a copy has the time of what was copied.
func (s *subject) passed(t heard) bool {
	if !s.followed {
		return false
	}
	c := t.stamp.compare(s.stamp)
	return c < 0 || (c == 0 && t.secondHand)
}

// again reports whether t is what was followed last.
func (s *subject) again(t heard) bool { return s.followed && t.stamp.compare(s.stamp) == 0 }

func (s *subject) follow(t heard, state string) {
	s.followed, s.stamp, s.state, s.touched = true, t.stamp, state, true
}

// followMemory does to our copy what t says. Its errors are faults of the event, and
// then nothing has changed.
func (g *applyGroup) followMemory(t heard, s *subject) (outcome, error) {
	if s.passed(t) {
		return outcomeOlder, nil
	}
	if s.memory != nil && s.memory.FromCRM() {
		return outcomeEcho, nil // the record is what is true
	}
	if s.memory != nil && t.userID != "" && s.memory.UserID != t.userID {
		return "", fmt.Errorf("%w: memory %s of %s belongs to another user", errEvent, t.originID, t.origin)
	}
	if t.event == memory.Deleted {
		return g.followDeletion(t, s), nil
	}
	// A deletion is final, there or here: only a newer addition brings a memory back.
	dead := s.state == stateGone || (s.followed && s.memory == nil)
	if dead && (t.event == memory.Updated || s.again(t)) {
		return outcomeGone, nil
	}
	after, err := t.memory(s.memory)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errEvent, err)
	}
	if s.memory == nil && after.UserID == "" {
		return outcomeNobody, nil
	}
	s.follow(t, stateTheirs)
	if s.memory != nil && same(*s.memory, after) {
		return outcomeSame, nil
	}
	if s.memory == nil {
		after.ID = g.newID()
	}
	g.change(memory.Change{Before: s.memory, After: &after, EventID: t.rowID})
	s.memory = &after
	return outcomeApplied, nil
}

func (g *applyGroup) followDeletion(t heard, s *subject) outcome {
	s.follow(t, stateGone)
	if s.memory == nil {
		return outcomeGone
	}
	change := memory.Change{Before: s.memory, EventID: t.rowID}
	change.Told = change.Usual()
	// Those that we tell in turn learn when it was deleted, not when it last changed.
	last := s.memory.Snapshot()
	last.Metadata = maps.Clone(last.Metadata)
	last.Metadata[keyOriginAt] = timeText(t.stamp.at)
	change.Told.Data = memory.DeletedData{Result: last}
	g.changes = append(g.changes, change)
	s.memory = nil
	return outcomeApplied
}

func (g *applyGroup) change(c memory.Change) {
	c.Told = c.Usual()
	g.changes = append(g.changes, c)
}

// memory is what our copy is to be, old what it is now, nil for none.
func (t heard) memory(old *memory.Row) (memory.Row, error) {
	if strings.TrimSpace(t.content) == "" || len(t.content) > memory.MaxContent {
		return memory.Row{}, fmt.Errorf("its content is missing, or longer than %d bytes", memory.MaxContent)
	}
	if err := memory.CheckMetadata(t.metadata); err != nil {
		return memory.Row{}, err
	}
	if len(t.origin) > memory.MaxName {
		return memory.Row{}, fmt.Errorf("its source is longer than %d bytes", memory.MaxName)
	}
	row := memory.Row{UserID: t.userID, Kind: "fact", AccountID: memory.AccountOfUser(t.userID), Origin: t.origin, OriginID: t.originID}
	metadata := t.metadata
	if old != nil {
		row = *old
		if metadata == nil {
			metadata = old.Metadata
		}
	}
	row.Content = t.content
	if t.kind != "" {
		row.Kind = t.kind
	}
	row.Metadata = map[string]any{}
	maps.Copy(row.Metadata, metadata)
	row.Metadata[keyOrigin], row.Metadata[keyOriginID] = t.origin, t.originID
	row.Metadata[keyOriginAt] = timeText(t.stamp.at)
	if row.Kind != "fact" {
		// No webhook says the kind but in here.
		row.Metadata[keyKind] = row.Kind
	}
	return row, nil
}

func timeText(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

// same reports whether nobody could tell the two apart but by when they were said.
func same(a, b memory.Row) bool {
	a.Metadata, b.Metadata = maps.Clone(a.Metadata), maps.Clone(b.Metadata)
	delete(a.Metadata, keyOriginAt)
	delete(b.Metadata, keyOriginAt)
	return a.Checksum() == b.Checksum()
}

// followLine draws or removes a line. One that was drawn here, or that another system
// drew first, stays as it is.
func (g *applyGroup) followLine(t heard, s *subject) outcome {
	if s.passed(t) {
		return outcomeOlder
	}
	known := g.lines[lineOf(*t.line)]
	if known != nil && text(known.Metadata[keyOrigin]) != t.origin {
		return outcomeSame
	}
	if t.event == memory.RelationshipDeleted {
		s.follow(t, stateGone)
		if known == nil {
			return outcomeGone
		}
		g.links = append(g.links, toldOfLink(memory.LinkChange{Link: *known, Gone: true}))
		delete(g.lines, lineOf(*known))
		return outcomeApplied
	}
	if known == nil && s.again(t) {
		return outcomeGone
	}
	s.follow(t, stateTheirs)
	l := *t.line
	l.ID, l.CreatedAt = g.newID(), g.now
	l.Metadata = map[string]any{keyOrigin: t.origin}
	if t.originID != "" {
		l.Metadata[keyOriginID] = t.originID
	}
	if known != nil {
		if known.Confidence == l.Confidence {
			return outcomeSame
		}
		l.ID, l.CreatedAt = known.ID, known.CreatedAt
		g.links = append(g.links, memory.LinkChange{Link: *known, Gone: true})
	}
	g.lines[lineOf(l)] = &l
	g.links = append(g.links, toldOfLink(memory.LinkChange{Link: l}))
	return outcomeApplied
}
