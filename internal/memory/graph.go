package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

const (
	// MaxDepth is how many lines away from an entity a look at the graph may reach.
	MaxDepth = 5
	// MaxLines is how many lines one look shows.
	MaxLines = 1000
)

// Graph is a part of what is known of whom a user has to do with.
type Graph struct {
	Entity string `json:"entity"` // "": the graph as a whole
	Depth  int    `json:"depth"`
	// Nodes are what stands at the ends of the lines, the nearest first.
	Nodes []Node `json:"nodes"`
	// Relationships are the lines, in the order in which they are reached, and then the surest first.
	Relationships []Link `json:"relationships"`
	Truncated     bool   `json:"truncated"` // there are more than MaxLines
}

// Node is what stands at the end of a line.
type Node struct {
	Entity   string `json:"entity"`
	Name     string `json:"name,omitempty"` // what people call it, where a line says so
	Distance int    `json:"distance"`       // in lines; 0 for all of a graph as a whole
}

// Graphs shows the graph.
type Graphs struct{ pool *pgxpool.Pool }

// NewGraphs makes Graphs.
func NewGraphs(pool *pgxpool.Pool) *Graphs { return &Graphs{pool: pool} }

// Neighbours returns what is at most depth lines away from an entity, whichever
// way they point; an entity that no line names stands alone. Without an entity it
// returns all lines of the user, and depth has no meaning. Of more than MaxLines
// those that are nearer are shown, and of those the surest. It returns an *Invalid,
// or ErrNotFound for a user that the caller may not see.
func (g *Graphs) Neighbours(ctx context.Context, c Caller, userID, entity string, depth int) (Graph, error) {
	if err := CheckUserID(userID); err != nil {
		return Graph{}, err
	}
	if entity != "" {
		if err := checkText("entity", entity, MaxName); err != nil {
			return Graph{}, err
		}
	}
	if depth < 1 || depth > MaxDepth {
		return Graph{}, invalid("depth", "want 1 to %d", MaxDepth)
	}
	if !c.May(userID) {
		return Graph{}, ErrNotFound
	}
	w := newWalk(entity)
	// All levels see one state of the graph.
	err := pgx.BeginTxFunc(ctx, g.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		q := db.New(tx)
		if entity == "" {
			return w.whole(ctx, q, userID)
		}
		for distance := 1; distance <= depth && len(w.frontier) > 0 && !w.truncated; distance++ {
			if err := w.level(ctx, q, userID, distance); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Graph{}, err
	}
	return w.graph(entity, depth), nil
}

// walk is a look at the graph, breadth first.
type walk struct {
	frontier  []string // entities whose lines have not been read
	distances map[string]int
	names     map[string]string
	seen      map[uuid.UUID]bool // lines
	lines     []Link
	truncated bool
}

func newWalk(entity string) *walk {
	w := &walk{distances: map[string]int{}, names: map[string]string{}, seen: map[uuid.UUID]bool{}, lines: []Link{}}
	if entity != "" {
		w.reach(entity, "", 0)
	}
	return w
}

// level reads the lines of the frontier. The ends that are new are the next one.
func (w *walk) level(ctx context.Context, q *db.Queries, userID string, distance int) error {
	// Lines that are seen already come again: between two entities of this frontier,
	// and back to the one before.
	most := MaxLines + 1 + len(w.lines)
	rows, err := q.ListNeighbours(ctx, db.ListNeighboursParams{Entities: w.frontier, UserID: userID, MostEach: int32(most)}) //nolint:gosec // some thousand
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	w.frontier = nil
	for _, row := range rows {
		if err := w.take(db.LockRelationshipsRow(row), distance); err != nil {
			return err
		}
	}
	return nil
}

// whole reads the lines of a user.
func (w *walk) whole(ctx context.Context, q *db.Queries, userID string) error {
	rows, err := q.ListGraph(ctx, db.ListGraphParams{UserID: userID, MaxRows: MaxLines + 1})
	if err != nil {
		return fmt.Errorf("list the graph: %w", err)
	}
	for _, row := range rows {
		if err := w.take(db.LockRelationshipsRow(row), 0); err != nil {
			return err
		}
	}
	return nil
}

// take adds a line and its ends.
func (w *walk) take(row db.LockRelationshipsRow, distance int) error {
	if w.seen[row.ID] {
		return nil
	}
	if len(w.lines) == MaxLines {
		w.truncated = true
		return nil
	}
	l, err := linkFrom(row)
	if err != nil {
		return err
	}
	w.seen[row.ID] = true
	w.lines = append(w.lines, l)
	source, _ := l.Metadata["source_name"].(string)
	target, _ := l.Metadata["target_name"].(string)
	w.reach(l.Source, source, distance)
	w.reach(l.Target, target, distance)
	return nil
}

// reach notes an entity, and what it is called by the first that says so.
func (w *walk) reach(entity, name string, distance int) {
	if w.names[entity] == "" {
		w.names[entity] = name
	}
	if _, before := w.distances[entity]; before {
		return
	}
	w.distances[entity] = distance
	w.frontier = append(w.frontier, entity)
}

func (w *walk) graph(entity string, depth int) Graph {
	g := Graph{Entity: entity, Depth: depth, Nodes: []Node{}, Relationships: w.lines, Truncated: w.truncated}
	for e, distance := range w.distances {
		g.Nodes = append(g.Nodes, Node{Entity: e, Name: w.names[e], Distance: distance})
	}
	slices.SortFunc(g.Nodes, func(a, b Node) int {
		if a.Distance != b.Distance {
			return a.Distance - b.Distance
		}
		return strings.Compare(a.Entity, b.Entity)
	})
	return g
}
