package process

import (
	"context"
	"fmt"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
)

func (g *syncGroup) loadLinks(ctx context.Context, q *db.Queries, modules, ids []string) error {
	if !g.connected {
		return nil
	}
	rows, err := q.ListRelationshipsOfRecords(ctx, db.ListRelationshipsOfRecordsParams{Modules: modules, RecordIds: ids})
	if err != nil {
		return fmt.Errorf("list relationships of records: %w", err)
	}
	g.related = map[recordKey][]memory.Link{}
	for _, r := range rows {
		k := recordKey{r.Module, r.RecordID}
		g.related[k] = append(g.related[k], memory.Link{
			ID: r.ID, UserID: r.UserID, Source: r.Source, Relationship: r.Relationship, Target: r.Target,
			Confidence: float64(r.Confidence), Module: r.Module, RecordID: r.RecordID,
		})
	}
	return nil
}

// link compares what the graph holds because of the records touched with what
// their fields say now. What is gone is told first.
func (g *syncGroup) link() {
	if !g.connected {
		return
	}
	var added []memory.LinkChange
	for _, k := range sortedRecordKeys(g.touched) {
		wanted := map[string]memory.Link{}
		var order []string
		if r := g.records[k]; r.there() {
			for _, relation := range memory.RelationsOf(r.known()) {
				l := memory.LinkOf(g.newID(), relation, k.module, k.id)
				if _, twice := wanted[lineOf(l)]; !twice {
					order = append(order, lineOf(l))
				}
				wanted[lineOf(l)] = l
			}
		}
		for _, old := range g.related[k] {
			if _, still := wanted[lineOf(old)]; still {
				delete(wanted, lineOf(old))
				continue
			}
			g.links = append(g.links, toldOfLink(memory.LinkChange{Link: old, Gone: true}))
		}
		for _, line := range order {
			if l, missing := wanted[line]; missing {
				added = append(added, toldOfLink(memory.LinkChange{Link: l}))
			}
		}
	}
	g.links = append(g.links, added...)
}

func toldOfLink(c memory.LinkChange) memory.LinkChange {
	c.Told = c.Usual()
	return c
}

// lineOf is equal for two relationships that are one line of the graph: what its
// ends are called is no part of it.
func lineOf(l memory.Link) string {
	return l.UserID + "\x00" + l.Source + "\x00" + l.Relationship + "\x00" + l.Target
}
