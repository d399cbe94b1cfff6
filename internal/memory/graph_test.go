package memory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// draw draws lines of ada's graph: source, target, and how sure it is.
func (o *office) draw(tb testing.TB, userID string, lines ...[2]string) {
	tb.Helper()
	for _, l := range lines {
		n := NewLink{UserID: userID, Source: l[0], Relationship: "KNOWS", Target: l[1]}
		if _, err := o.store.Relate(tb.Context(), Caller{All: true}, n); err != nil {
			tb.Fatal(err)
		}
	}
}

func linesIn(g Graph) []string {
	lines := []string{}
	for _, l := range g.Relationships {
		lines = append(lines, l.Source+" "+l.Target)
	}
	return lines
}

func TestNeighbours(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	// A ring of four, a tail of three, somebody alone, and another's graph.
	o.draw(t, "ada", [2]string{"a", "b"}, [2]string{"b", "c"}, [2]string{"c", "d"}, [2]string{"d", "a"},
		[2]string{"t1", "a"}, [2]string{"t2", "t1"}, [2]string{"t3", "t2"}, [2]string{"x", "x"})
	o.draw(t, "bob", [2]string{"a", "secret"}, [2]string{"b", "a"})
	for name, tc := range map[string]struct {
		entity string
		depth  int
		nodes  []Node
		lines  []string
	}{
		"one line away, both ways":  {"a", 1, []Node{{"a", "", 0}, {"b", "", 1}, {"d", "", 1}, {"t1", "", 1}}, []string{"a b", "d a", "t1 a"}},
		"two lines away":            {"a", 2, []Node{{"a", "", 0}, {"b", "", 1}, {"d", "", 1}, {"t1", "", 1}, {"c", "", 2}, {"t2", "", 2}}, []string{"a b", "d a", "t1 a", "b c", "c d", "t2 t1"}},
		"a ring comes to an end":    {"c", 5, []Node{{"c", "", 0}, {"b", "", 1}, {"d", "", 1}, {"a", "", 2}, {"t1", "", 3}, {"t2", "", 4}, {"t3", "", 5}}, []string{"b c", "c d", "a b", "d a", "t1 a", "t2 t1", "t3 t2"}},
		"from the end of a tail":    {"t3", 2, []Node{{"t3", "", 0}, {"t2", "", 1}, {"t1", "", 2}}, []string{"t3 t2", "t2 t1"}},
		"a line from and to itself": {"x", 3, []Node{{"x", "", 0}}, []string{"x x"}},
		"whom nobody knows":         {"y", 1, []Node{{"y", "", 0}}, []string{}},
		"everything": {"", 1, []Node{{"a", "", 0}, {"b", "", 0}, {"c", "", 0}, {"d", "", 0}, {"t1", "", 0}, {"t2", "", 0}, {"t3", "", 0}, {"x", "", 0}},
			[]string{"a b", "b c", "c d", "d a", "t1 a", "t2 t1", "t3 t2", "x x"}},
	} {
		g, err := o.graphs.Neighbours(t.Context(), clerk(), "ada", tc.entity, tc.depth)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tc.nodes, g.Nodes); diff != "" {
			t.Errorf("%s: nodes (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tc.lines, linesIn(g)); diff != "" {
			t.Errorf("%s: lines (-want +got):\n%s", name, diff)
		}
		if g.Truncated || g.Entity != tc.entity || g.Depth != tc.depth {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

func TestNeighboursSayWhoSaysSo(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.record(t, "Contacts", "5", `{"Full_Name": "Jane", "Account_Name": {"id": "77", "name": "Acme"}}`)
	m := o.remember(t, Row{UserID: acme, Content: "a", Metadata: metadataOf(t, `{"account_id": "77", "confidence": 0.8}`)})
	o.do(t, GraphBuild, acme, false)
	g, err := o.graphs.Neighbours(t.Context(), Caller{All: true}, acme, "Accounts:77", 1)
	if err != nil || len(g.Relationships) != 2 {
		t.Fatalf("%+v, %v", g, err)
	}
	crm, derived := g.Relationships[0], g.Relationships[1]
	if crm.Confidence != 1 || crm.Module != "Contacts" || crm.RecordID != "5" || crm.MemoryID != nil {
		t.Errorf("of the CRM: %+v", crm)
	}
	if derived.Confidence != 0.8 || derived.Module != "" || derived.MemoryID == nil || *derived.MemoryID != m.ID {
		t.Errorf("of a memory: %+v", derived)
	}
	want := []Node{{"Accounts:77", "Acme", 0}, {"Contacts:5", "Jane", 1}, {MemoryEntity(m.ID), "", 1}}
	if diff := cmp.Diff(want, g.Nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	o.exec(t, `UPDATE memories SET expires_at = now() WHERE id = $1`, m.ID)
	for _, entity := range []string{"Accounts:77", MemoryEntity(m.ID), ""} {
		g, err := o.graphs.Neighbours(t.Context(), Caller{All: true}, acme, entity, 3)
		for _, l := range g.Relationships {
			if l.MemoryID != nil || err != nil {
				t.Errorf("%q shows what has expired: %+v, %v", entity, l, err)
			}
		}
	}
}

func TestNeighboursAreBounded(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.exec(t, `INSERT INTO relationships (id, user_id, source, relationship, target, confidence)
		SELECT gen_random_uuid(), 'ada', 'hub', 'KNOWS', 'n' || i, CASE WHEN i <= 400 THEN 0.9 ELSE 0.5 END FROM generate_series(1, 999) AS i`)
	o.exec(t, `INSERT INTO relationships (id, user_id, source, relationship, target)
		SELECT gen_random_uuid(), 'ada', 'n' || i, 'KNOWS', 'm' || i FROM generate_series(1, 999) AS i`)
	for name, tc := range map[string]struct {
		entity    string
		depth     int
		lines     int
		truncated bool
	}{
		"all of it":       {"hub", 1, 999, false},
		"a level too far": {"hub", 2, MaxLines, true},
		"the whole graph": {"", 1, MaxLines, true},
		"from a leaf":     {"m1", 2, 2, false},
	} {
		g, err := o.graphs.Neighbours(t.Context(), clerk(), "ada", tc.entity, tc.depth)
		if err != nil || len(g.Relationships) != tc.lines || g.Truncated != tc.truncated {
			t.Errorf("%s: %d lines, truncated %v, %v", name, len(g.Relationships), g.Truncated, err)
		}
	}
	o.exec(t, `UPDATE relationships SET source = 'hub' WHERE target LIKE 'm%'`)
	g, err := o.graphs.Neighbours(t.Context(), clerk(), "ada", "hub", 5)
	if err != nil || !g.Truncated || len(g.Relationships) != MaxLines {
		t.Fatalf("a hub: %d lines, %v", len(g.Relationships), err)
	}
	for i, l := range g.Relationships {
		if i < 999 && l.Confidence != 1 || i == 999 && l.Confidence != 0.9 {
			t.Errorf("line %d has a confidence of %v: less sure ones came before it", i, l.Confidence)
		}
	}
}

func TestNeighboursRefuses(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for name, tc := range map[string]struct {
		userID, entity string
		depth          int
		field          string
	}{
		"no user":           {"", "a", 1, "user_id"},
		"depth 0":           {"ada", "a", 0, "depth"},
		"depth 6":           {"ada", "a", 6, "depth"},
		"a NUL":             {"ada", "a\x00", 1, "entity"},
		"too long a name":   {"ada", fmt.Sprintf("%256d", 1), 1, "entity"},
		"a blank":           {"ada", " ", 1, "entity"},
		"another's, in all": {"bob", "a", 1, ""},
	} {
		_, err := o.graphs.Neighbours(t.Context(), clerk(), tc.userID, tc.entity, tc.depth)
		var wrong *Invalid
		switch {
		case tc.field == "" && !errors.Is(err, ErrNotFound):
			t.Errorf("%s: %v, want not found", name, err)
		case tc.field != "" && (!errors.As(err, &wrong) || wrong.Field != tc.field):
			t.Errorf("%s: %v, want a word about %s", name, err, tc.field)
		}
	}
}

// Every level is looked up by the indexes of both ends, however large the graph is.
func TestNeighboursUseTheIndexes(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.exec(t, `INSERT INTO relationships (id, user_id, source, relationship, target)
		SELECT gen_random_uuid(), 'ada', 's' || i, 'KNOWS', 't' || i FROM generate_series(1, 20000) AS i`)
	o.exec(t, `ANALYZE relationships`)
	for column, index := range map[string]string{"source": "relationships_source_idx", "target": "relationships_target_idx"} {
		plan := o.texts(t, `EXPLAIN SELECT * FROM (SELECT unnest(ARRAY['s1', 't1']) AS entity) AS e CROSS JOIN LATERAL (
			SELECT s.* FROM relationships s WHERE s.user_id = 'ada' AND s.`+column+` = e.entity ORDER BY s.confidence DESC, s.id LIMIT 1001) AS l`)
		if !contains(plan, index) {
			t.Errorf("by %s:\n%s", column, plan)
		}
	}
}

func contains(lines []string, part string) bool {
	return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, part) })
}
