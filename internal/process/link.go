package process

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
)

// related is a row of relationships that a record's fields drew.
type related struct {
	id         uuid.UUID
	confidence float64
	relation   memory.Relation
}

// linkChange is what a sync does to one line of the graph.
type linkChange struct {
	key  recordKey
	line related
	gone bool
}

// linkChanges stand in the order in which they are told: what is gone first.
type linkChanges []linkChange

func (g *syncGroup) loadLinks(ctx context.Context, q *db.Queries, modules, ids []string) error {
	if !g.connected {
		return nil
	}
	rows, err := q.ListRelationshipsOfRecords(ctx, db.ListRelationshipsOfRecordsParams{Modules: modules, RecordIds: ids})
	if err != nil {
		return fmt.Errorf("list relationships of records: %w", err)
	}
	g.related = map[recordKey][]related{}
	for _, r := range rows {
		k := recordKey{r.Module, r.RecordID}
		g.related[k] = append(g.related[k], related{id: r.ID, confidence: float64(r.Confidence), relation: memory.Relation{
			UserID: r.UserID, Source: r.Source, Relationship: r.Relationship, Target: r.Target,
		}})
	}
	return nil
}

// link compares what the graph holds because of the records touched with what
// their fields say now.
func (g *syncGroup) link() {
	if !g.connected {
		return
	}
	var added linkChanges
	for _, k := range sortedRecordKeys(g.touched) {
		wanted := map[string]memory.Relation{}
		var order []string
		if r := g.records[k]; r.there() {
			for _, relation := range memory.RelationsOf(r.known()) {
				line := lineOf(relation)
				if _, twice := wanted[line]; !twice {
					order = append(order, line)
				}
				wanted[line] = relation
			}
		}
		for _, old := range g.related[k] {
			line := lineOf(old.relation)
			if _, still := wanted[line]; still {
				delete(wanted, line)
				continue
			}
			g.links = append(g.links, linkChange{key: k, line: old, gone: true})
		}
		for _, line := range order {
			if relation, missing := wanted[line]; missing {
				added = append(added, linkChange{key: k, line: related{id: g.newID(), confidence: 1, relation: relation}})
			}
		}
	}
	g.links = append(g.links, added...)
}

// lineOf is equal for two relations that are one line of the graph: what its ends
// are called is no part of it.
func lineOf(r memory.Relation) string {
	return r.UserID + "\x00" + r.Source + "\x00" + r.Relationship + "\x00" + r.Target
}

func writeLinks(ctx context.Context, q *db.Queries, changes linkChanges) error {
	var gone []uuid.UUID
	var p db.InsertRelationshipsParams
	for _, c := range changes {
		if c.gone {
			gone = append(gone, c.line.id)
			continue
		}
		r := c.line.relation
		names := map[string]string{}
		for name, value := range map[string]string{"source_name": r.SourceName, "target_name": r.TargetName} {
			if value != "" {
				names[name] = value
			}
		}
		metadata, err := json.Marshal(names)
		if err != nil {
			return fmt.Errorf("encode the names of a relationship: %w", err)
		}
		p.Ids = append(p.Ids, c.line.id)
		p.UserIds = append(p.UserIds, r.UserID)
		p.Sources = append(p.Sources, r.Source)
		p.Relationships = append(p.Relationships, r.Relationship)
		p.Targets = append(p.Targets, r.Target)
		p.Metadata = append(p.Metadata, metadata)
		p.Modules = append(p.Modules, c.key.module)
		p.RecordIds = append(p.RecordIds, c.key.id)
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

// told is the webhook that tells of a change of the graph.
func (c linkChange) told() (event, userID string, data any) {
	r := c.line.relation
	event = memory.RelationshipAdded
	if c.gone {
		event = memory.RelationshipDeleted
	}
	return event, r.UserID, memory.RelationshipData{
		Source: r.Source, Relationship: r.Relationship, Target: r.Target,
		Result: memory.RelationshipResult{ID: c.line.id, Confidence: c.line.confidence},
	}
}
