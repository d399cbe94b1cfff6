package process

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/memory"
)

func TestLineOf(t *testing.T) {
	t.Parallel()
	base := memory.Link{UserID: "zoho:77", Source: "Accounts:77", Relationship: "HAS_CONTACT", Target: "Contacts:1"}
	for _, tt := range []struct {
		name   string
		change func(*memory.Link)
		same   bool
	}{
		{"nothing", func(*memory.Link) {}, true},
		{"what its ends are called", func(r *memory.Link) { r.Metadata = map[string]any{"source_name": "Bolt"} }, true},
		{"the user", func(r *memory.Link) { r.UserID = "zoho:88" }, false},
		{"the source", func(r *memory.Link) { r.Source = "Accounts:88" }, false},
		{"the relationship", func(r *memory.Link) { r.Relationship = "HAS_DEAL" }, false},
		{"the target", func(r *memory.Link) { r.Target = "Contacts:2" }, false},
		{"a border between two parts", func(r *memory.Link) { r.Source, r.Relationship = "Accounts:77H", "AS_CONTACT" }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := base
			tt.change(&r)
			if same := lineOf(r) == lineOf(base); same != tt.same {
				t.Errorf("the same: %t, want %t", same, tt.same)
			}
		})
	}
}

// linksTold are the webhooks that tell of the graph, in their order, with what
// they say of the line besides.
func (s *station) linksTold(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `
		SELECT concat_ws(' ', event, user_id, d ->> 'source', d ->> 'relationship', d ->> 'target', d -> 'result' ->> 'confidence')
		FROM (SELECT seq, event, user_id, convert_from(payload, 'UTF8')::jsonb -> 'data' AS d FROM outbox WHERE event LIKE 'relationship%') AS o ORDER BY seq`)
}

// Each step is one event of a deal; the graph follows its lookups.
func TestGraphFollowsTheRecords(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	defer s.fullSync(t)()
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	told := 0
	const deal77 = "zoho:77 Accounts:77 HAS_DEAL Deals:10 by Deals 10"
	for _, step := range []struct {
		name, record string // "": gone
		graph, told  []string
	}{
		{
			"a deal of an account", `{"id":"10","Deal_Name":"Rails","Account_Name":{"id":"77","name":"Acme"},"Owner":{"id":"5","name":"Bo","email":"bo@example.com"}}`,
			[]string{deal77, "zoho:77 Deals:10 OWNED_BY Users:5 by Deals 10"},
			[]string{"relationship_added zoho:77 Accounts:77 HAS_DEAL Deals:10 1", "relationship_added zoho:77 Deals:10 OWNED_BY Users:5 1"},
		}, {
			"the same, under other names", `{"id":"10","Deal_Name":"Tracks","Account_Name":{"id":"77","name":"Acme Inc"},"Owner":{"id":"5","name":"Bo B."}}`,
			[]string{deal77, "zoho:77 Deals:10 OWNED_BY Users:5 by Deals 10"}, nil,
		}, {
			"another owner, and a contact", `{"id":"10","Deal_Name":"Tracks","Account_Name":{"id":"77"},"Owner":{"id":"6","name":"Bo"},"Contact_Name":{"id":"1","name":"Doe"}}`,
			[]string{deal77, "zoho:77 Deals:10 HAS_CONTACT Contacts:1 by Deals 10", "zoho:77 Deals:10 OWNED_BY Users:6 by Deals 10"},
			[]string{
				"relationship_deleted zoho:77 Deals:10 OWNED_BY Users:5 1",
				"relationship_added zoho:77 Deals:10 HAS_CONTACT Contacts:1 1", "relationship_added zoho:77 Deals:10 OWNED_BY Users:6 1",
			},
		}, {
			"an owner of the same name, which no memory shows", `{"id":"10","Deal_Name":"Tracks","Account_Name":{"id":"77"},"Owner":{"id":"7","name":"Bo"},"Contact_Name":{"id":"1","name":"Doe"}}`,
			[]string{deal77, "zoho:77 Deals:10 HAS_CONTACT Contacts:1 by Deals 10", "zoho:77 Deals:10 OWNED_BY Users:7 by Deals 10"},
			[]string{"relationship_deleted zoho:77 Deals:10 OWNED_BY Users:6 1", "relationship_added zoho:77 Deals:10 OWNED_BY Users:7 1"},
		}, {
			"gone", "", nil,
			[]string{
				"relationship_deleted zoho:77 Accounts:77 HAS_DEAL Deals:10 1",
				"relationship_deleted zoho:77 Deals:10 HAS_CONTACT Contacts:1 1", "relationship_deleted zoho:77 Deals:10 OWNED_BY Users:7 1",
			},
		}, {
			"still gone", "", nil, nil,
		}, {
			"and back", `{"id":"10","Deal_Name":"Tracks","Account_Name":{"id":"77"}}`,
			[]string{deal77}, []string{"relationship_added zoho:77 Accounts:77 HAS_DEAL Deals:10 1"},
		},
	} {
		if step.record == "" {
			z.remove("Deals", "10")
		} else {
			z.put(t, "Deals", step.record)
		}
		s.notify(t, "Deals", "update", "10")
		s.finish(t)
		if diff := cmp.Diff(step.graph, s.graph(t)); diff != "" {
			t.Errorf("%s: graph (-want +got):\n%s", step.name, diff)
		}
		all := s.linksTold(t)
		news := all[told:]
		told = len(all)
		if len(news) == 0 {
			news = nil
		}
		// What is gone is told first; lines of one kind are in no order.
		if diff := cmp.Diff(step.told, news, sortedLines()); diff != "" {
			t.Errorf("%s: told (-want +got):\n%s", step.name, diff)
		}
		isNew := func(line string) bool { return strings.HasPrefix(line, "relationship_added") }
		if i := slices.IndexFunc(news, isNew); i >= 0 && !slices.Equal(news[i:], slices.DeleteFunc(slices.Clone(news), func(l string) bool { return !isNew(l) })) {
			t.Errorf("%s: something gone is told after something new: %q", step.name, news)
		}
	}
	// The names of both ends are kept where the fields said them.
	want := []string{`{"target_name": "Tracks"}`}
	if diff := cmp.Diff(want, rows[string](t, s.pool, `SELECT metadata::text FROM relationships`)); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	// The ids in the webhooks are those of the lines.
	same := rows[bool](t, s.pool, `SELECT (SELECT id::text FROM relationships) = (SELECT convert_from(payload, 'UTF8')::jsonb #>> '{data,result,id}'
		FROM outbox WHERE event = 'relationship_added' ORDER BY seq DESC LIMIT 1)`)
	if diff := cmp.Diff([]bool{true}, same); diff != "" {
		t.Errorf("the line's id is the one that was told (-want +got):\n%s", diff)
	}
}

// Where nobody listens the graph is kept all the same.
func TestGraphIsToldToWhoWantsIt(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	defer s.fullSync(t)()
	s.exec(t, `UPDATE endpoints SET events = '{memory_added}'`)
	z.put(t, "Deals", deal("10", "77", "1", "Proposal"))
	s.notify(t, "Deals", "create", "10")
	s.finish(t)
	if diff := cmp.Diff([]string{"zoho:77 Accounts:77 HAS_DEAL Deals:10 by Deals 10"}, s.graph(t)); diff != "" {
		t.Errorf("graph (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"memory_added"}, rows[string](t, s.pool, `SELECT event FROM outbox`)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
