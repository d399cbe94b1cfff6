package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

// Link is a line of the graph as it is stored and shown, with who says so: a
// record's fields, a memory that it was derived from, or an agent.
type Link struct {
	ID           uuid.UUID      `json:"id"`
	UserID       string         `json:"user_id"`
	Source       string         `json:"source"`
	Relationship string         `json:"relationship"`
	Target       string         `json:"target"`
	Confidence   float64        `json:"confidence"` // 0 to 1; what Zoho says is 1
	Metadata     map[string]any `json:"metadata"`
	// Module and RecordID name the record whose fields say it; "" otherwise.
	Module   string `json:"module,omitempty"`
	RecordID string `json:"record_id,omitempty"`
	// MemoryID is the memory it was derived from; nil otherwise.
	MemoryID  *uuid.UUID `json:"memory_id,omitempty"`
	CreatedAt time.Time  `json:"created_at"` // of one to draw, zero: now
}

// LinkOf is the line that a record's fields draw.
func LinkOf(id uuid.UUID, r Relation, module, recordID string) Link {
	names := map[string]any{}
	if r.SourceName != "" {
		names["source_name"] = r.SourceName
	}
	if r.TargetName != "" {
		names["target_name"] = r.TargetName
	}
	return Link{
		ID: id, UserID: r.UserID, Source: r.Source, Relationship: r.Relationship, Target: r.Target,
		Confidence: 1, Metadata: names, Module: module, RecordID: recordID,
	}
}

// LinkChange is what happens to one line of the graph: it is drawn, or it is gone.
type LinkChange struct {
	Link Link
	Gone bool
	Told Announcement
}

// Usual is the webhook that tells of the change as such.
func (c LinkChange) Usual() Announcement {
	event := RelationshipAdded
	if c.Gone {
		event = RelationshipDeleted
	}
	l := c.Link
	data := RelationshipData{
		Source: l.Source, Relationship: l.Relationship, Target: l.Target,
		Result: RelationshipResult{ID: l.ID, Confidence: l.Confidence},
	}
	if l.Metadata["origin"] != nil {
		data.Metadata = l.Metadata
	}
	return Announcement{Event: event, UserID: l.UserID, Data: data}
}

// lastingLines joins the changes of each line: those that are to be removed, and
// those that are drawn in the end. One that says something else now is both, under
// the same id. Two transactions that draw the same lines draw them in one order, or
// each would wait for the other's.
func lastingLines(changes []LinkChange) (gone []uuid.UUID, drawn []Link) {
	last := map[uuid.UUID]int{}
	for i, c := range changes {
		last[c.Link.ID] = i
	}
	for i, c := range changes {
		if c.Gone {
			gone = append(gone, c.Link.ID)
		} else if last[c.Link.ID] == i {
			drawn = append(drawn, c.Link)
		}
	}
	slices.SortStableFunc(drawn, func(a, b Link) int { return strings.Compare(lineOf(a), lineOf(b)) })
	return gone, drawn
}

func writeLinks(ctx context.Context, q *db.Queries, changes []LinkChange) error {
	gone, drawn := lastingLines(changes)
	var p db.InsertRelationshipsParams
	for _, l := range drawn {
		metadata, err := writeMetadata(l.Metadata)
		if err != nil {
			return err
		}
		p.Ids = append(p.Ids, l.ID)
		p.UserIds = append(p.UserIds, l.UserID)
		p.Sources = append(p.Sources, l.Source)
		p.Relationships = append(p.Relationships, l.Relationship)
		p.Targets = append(p.Targets, l.Target)
		p.Confidences = append(p.Confidences, float32(l.Confidence))
		p.Metadata = append(p.Metadata, metadata)
		p.Modules = append(p.Modules, l.Module)
		p.RecordIds = append(p.RecordIds, l.RecordID)
		p.MemoryIds = append(p.MemoryIds, orNil(l.MemoryID))
		p.CreatedAt = append(p.CreatedAt, l.CreatedAt)
	}
	if len(gone) > 0 {
		if err := q.DeleteRelationships(ctx, gone); err != nil {
			return fmt.Errorf("delete relationships: %w", err)
		}
	}
	if len(p.Ids) > 0 {
		if err := q.InsertRelationships(ctx, p); err != nil {
			return fmt.Errorf("insert relationships: %w", err)
		}
	}
	return nil
}

// linkFrom reads a line as the database returns it.
func linkFrom(r db.LockRelationshipsRow) (Link, error) {
	metadata, err := ReadMetadata(r.Metadata)
	if err != nil {
		return Link{}, fmt.Errorf("relationship %s: %w", r.ID, err)
	}
	return Link{
		ID: r.ID, UserID: r.UserID, Source: r.Source, Relationship: r.Relationship, Target: r.Target,
		Confidence: roundConfidence(r.Confidence), Metadata: metadata, Module: orEmpty(r.Module), RecordID: orEmpty(r.RecordID),
		MemoryID: r.MemoryID, CreatedAt: r.CreatedAt.UTC(),
	}, nil
}

// same reports whether two lines say the same and are as sure of it.
func (l Link) same(o Link) bool {
	//nolint:gosec // what was stored has a float32's precision
	return float32(l.Confidence) == float32(o.Confidence) && maps.EqualFunc(l.Metadata, o.Metadata, sameJSON)
}
