package memory

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

const acme = "zoho:77"

func TestGraphBuildDerivesFromRecords(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.record(t, "Accounts", "77", `{"Account_Name": "Acme", "Owner": {"id": "9", "name": "Pat"}}`)
	o.record(t, "Contacts", "5", `{"Full_Name": "Jane", "Account_Name": {"id": "77", "name": "Acme"}}`)
	o.record(t, "Deals", "6", `{"Deal_Name": "Big", "Account_Name": {"id": "77", "name": "Acme"}, "Contact_Name": {"id": "5", "name": "Jane"}}`)
	o.exec(t, `INSERT INTO records (module, record_id, account_id, data) VALUES ('Contacts', '8', '88', '{"Account_Name": {"id": "88"}}')`)
	want := []string{
		"Accounts:77 HAS_CONTACT Contacts:5", "Accounts:77 HAS_DEAL Deals:6", "Accounts:77 OWNED_BY Users:9", "Deals:6 HAS_CONTACT Contacts:5",
	}
	run := o.do(t, GraphBuild, acme, false)
	if diff := cmp.Diff(want, o.lines(t, acme)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&GraphBuiltData{Entities: 4, Relationships: 4, Added: 4}, run.Progress.Graph); diff != "" || run.Progress.Done != 3 || run.Progress.Total != 3 {
		t.Errorf("progress %+v (-want +got):\n%s", run.Progress, diff)
	}
	if n := len(o.lines(t, "zoho:88")); n != 0 {
		t.Errorf("%d lines of another account", n)
	}
	if diff := cmp.Diff([]string{"Contacts 5 1", "Deals 6 1"}, o.texts(t, `SELECT module || ' ' || record_id || ' ' || confidence FROM relationships
		WHERE source = 'Accounts:77' AND relationship LIKE 'HAS%' AND memory_id IS NULL ORDER BY 1`)); diff != "" {
		t.Errorf("provenance (-want +got):\n%s", diff)
	}

	before := o.texts(t, `SELECT r::text FROM relationships r ORDER BY 1`)
	again := o.do(t, GraphBuild, acme, false)
	if diff := cmp.Diff(&GraphBuiltData{Entities: 4, Relationships: 4}, again.Progress.Graph); diff != "" {
		t.Errorf("the second build (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, o.texts(t, `SELECT r::text FROM relationships r ORDER BY 1`)); diff != "" {
		t.Errorf("the second build changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		`graph_built zoho:77 {"entities":4,"relationships":4,"added":4,"removed":0}`, `graph_built zoho:77 {"entities":4,"relationships":4,"added":0,"removed":0}`,
	}, o.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestGraphBuildRemovesWhatNoLongerHolds(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for id := range 5 {
		o.record(t, "Contacts", fmt.Sprint(id), `{"Account_Name": {"id": "77", "name": "Acme"}}`)
	}
	soon := time.Now().Add(time.Hour)
	changed := o.remember(t, Row{UserID: acme, Content: "a", Metadata: metadataOf(t, `{"company": "Umbrella"}`)})
	expires := o.remember(t, Row{UserID: acme, Content: "b", Metadata: metadataOf(t, `{"company": "Initech"}`), ExpiresAt: &soon})
	deleted := o.remember(t, Row{UserID: acme, Content: "c", Metadata: metadataOf(t, `{"company": "Hooli"}`)})
	kept := o.remember(t, Row{UserID: acme, Content: "d", Metadata: metadataOf(t, `{"company": "Globex"}`)})
	all := Caller{Actor: "token/clerk", All: true}
	if _, err := o.store.Relate(t.Context(), all, NewLink{UserID: acme, Source: "Accounts:77", Relationship: "HAS_CONTACT", Target: "Contacts:1"}); err != nil {
		t.Fatal(err)
	}
	if run := o.do(t, GraphBuild, acme, false); run.Progress.Graph.Added != 9 {
		t.Fatalf("built %+v", run.Progress.Graph)
	}
	ids := o.texts(t, `SELECT id::text FROM relationships WHERE record_id = '0' OR memory_id = $1 ORDER BY 1`, kept.ID)

	o.exec(t, `UPDATE records SET data = '{"Account_Name": {"id": "77", "name": "Acme Ltd"}}' WHERE record_id = '0'`)
	o.exec(t, `UPDATE records SET deleted_at = now() WHERE record_id = '1'`)
	o.exec(t, `UPDATE records SET account_id = '88' WHERE record_id = '2'`)
	o.exec(t, `UPDATE records SET data = '{}' WHERE record_id = '3'`)
	o.exec(t, `DELETE FROM records WHERE record_id = '4'`)
	o.exec(t, `UPDATE memories SET metadata = '{"company": ["Stark"]}' WHERE id = $1`, changed.ID)
	o.exec(t, `UPDATE memories SET expires_at = now() WHERE id = $1`, expires.ID)
	if _, err := o.store.Delete(t.Context(), all, deleted.ID); err != nil {
		t.Fatal(err)
	}
	if n := len(o.texts(t, `SELECT id::text FROM relationships WHERE memory_id = $1`, deleted.ID)); n != 0 {
		t.Errorf("%d lines of a memory that is gone", n)
	}
	run := o.do(t, GraphBuild, acme, false)
	want := []string{
		"Accounts:77 HAS_CONTACT Contacts:0", "Accounts:77 HAS_CONTACT Contacts:1",
		"memory:" + changed.ID.String() + " MENTIONS_COMPANY company:stark", "memory:" + kept.ID.String() + " MENTIONS_COMPANY company:globex",
	}
	if diff := cmp.Diff(want, o.lines(t, acme)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if got := run.Progress.Graph; got.Added != 1 || got.Removed != 6 {
		t.Errorf("counted %+v, want 1 added and 6 removed", got)
	}
	if diff := cmp.Diff(ids, o.texts(t, `SELECT id::text FROM relationships WHERE record_id = '0' OR memory_id = $1 ORDER BY 1`, kept.ID)); diff != "" {
		t.Errorf("what still holds was drawn anew (-before +after):\n%s", diff)
	}
	if name := o.texts(t, `SELECT metadata ->> 'source_name' FROM relationships WHERE record_id = '0'`); !cmp.Equal(name, []string{"Acme Ltd"}) {
		t.Errorf("the account is called %q", name)
	}
	if got := o.texts(t, `SELECT target FROM relationships WHERE module IS NULL AND memory_id IS NULL`); !cmp.Equal(got, []string{"Contacts:1"}) {
		t.Errorf("lines of agents: %q", got)
	}
}

func TestLinesOfAMemory(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("01890000-0000-7000-8000-000000000001")
	me := "memory:" + id.String()
	many := make([]string, 80)
	for i := range many {
		many[i] = fmt.Sprintf(`"topic %d"`, i)
	}
	for name, tc := range map[string]struct {
		metadata string
		want     []string
	}{
		"nothing":                  {`{"source": "chat", "n": 1}`, nil},
		"a text":                   {`{"company": "  Acme   Corp "}`, []string{me + " MENTIONS_COMPANY company:acme corp 1 Acme Corp"}},
		"a list, and once each":    {`{"people": ["Bob", "bob", "", 7, ["no"], {"no": 1}, null]}`, []string{me + " MENTIONS_PERSON person:bob 1 Bob", me + " MENTIONS_PERSON person:7 1 7"}},
		"singular and plural":      {`{"tag": "a", "tags": ["a", "b"]}`, []string{me + " MENTIONS_TOPIC topic:a 1 a", me + " MENTIONS_TOPIC topic:b 1 b"}},
		"ids of the CRM":           {`{"account_id": "77", "contact": "Contacts:5", "deal": "The big one"}`, []string{me + " MENTIONS_ACCOUNT Accounts:77 1 ", me + " MENTIONS_CONTACT Contacts:5 1 ", me + " MENTIONS_DEAL deal:the big one 1 The big one"}},
		"its confidence":           {`{"project": "X", "confidence": 0.7}`, []string{me + " MENTIONS_PROJECT project:x 0.7 X"}},
		"no confidence":            {`{"project": "X", "confidence": 7}`, []string{me + " MENTIONS_PROJECT project:x 1 X"}},
		"what it spells out":       {`{"relationships": [{"source": "person:bob", "relationship": "WORKS_AT", "target": "company:acme", "confidence": 0.25}]}`, []string{"person:bob WORKS_AT company:acme 0.25 "}},
		"what is spelled wrong":    {`{"relationships": [{"source": "a", "relationship": "R"}, "x", {"source": 1, "relationship": "R", "target": "b"}, {"source": "a", "relationship": "R", "target": " "}]}`, nil},
		"no list":                  {`{"relationships": {"source": "a", "relationship": "R", "target": "b"}}`, nil},
		"names that are too long":  {`{"company": "` + strings.Repeat("x", 250) + `"}`, nil},
		"more than can be counted": {`{"topics": [` + strings.Join(many, ",") + `]}`, nil},
	} {
		var got []string
		for _, l := range linesOf(id, "ada", metadataOf(t, tc.metadata)) {
			called, _ := l.Metadata["target_name"].(string)
			got = append(got, fmt.Sprint(l.Source, " ", l.Relationship, " ", l.Target, " ", l.Confidence, " ", called))
			if l.UserID != "ada" || l.MemoryID == nil || *l.MemoryID != id || l.Module != "" {
				t.Errorf("%s: of whom is %+v?", name, l)
			}
		}
		if name == "more than can be counted" {
			if len(got) != maxMentions {
				t.Errorf("%d lines of one memory", len(got))
			}
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A record that is being written while the build looks at it is waited for: what
// is drawn is what it says then, and nothing is drawn twice.
func TestGraphBuildBesideASync(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.record(t, "Contacts", "5", `{"Account_Name": {"id": "77"}}`)
	run := o.ask(t, GraphBuild, acme, false)
	o.during(t, run,
		`UPDATE records SET data = '{"Account_Name": {"id": "77"}, "Owner": {"id": "9"}}' WHERE record_id = '5'`,
		`INSERT INTO relationships (id, user_id, source, relationship, target, module, record_id)
			SELECT gen_random_uuid(), 'zoho:77', s, r, t, 'Contacts', '5' FROM (VALUES ('Accounts:77', 'HAS_CONTACT', 'Contacts:5'), ('Contacts:5', 'OWNED_BY', 'Users:9')) AS v (s, r, t)`)
	ended := o.get(t, run.ID)
	if diff := cmp.Diff(&GraphBuiltData{Entities: 3, Relationships: 2}, ended.Progress.Graph); diff != "" || ended.State != RunCompleted {
		t.Errorf("%s, %s (-want +got):\n%s", ended.State, ended.LastError, diff)
	}
}

// A memory that is deleted while the build looks at it draws nothing.
func TestGraphBuildBesideADelete(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	m := o.remember(t, Row{Content: "a", Metadata: metadataOf(t, `{"company": "Acme"}`)})
	o.remember(t, Row{Content: "b", Metadata: metadataOf(t, `{"company": "Acme"}`)})
	run := o.ask(t, GraphBuild, "ada", false)
	o.during(t, run, fmt.Sprintf(`DELETE FROM memories WHERE id = '%s'`, m.ID))
	if ended := o.get(t, run.ID); ended.Progress.Graph.Added != 1 || ended.State != RunCompleted {
		t.Errorf("%s, %s: %+v", ended.State, ended.LastError, ended.Progress.Graph)
	}
}

// Two builds of one user at one time draw nothing twice and wait for each other.
func TestGraphBuildTwiceAtOneTime(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.runner.page = 20
	for i := range 100 {
		o.record(t, "Contacts", fmt.Sprint(i), `{"Account_Name": {"id": "77"}, "Owner": {"id": "9"}}`)
		o.remember(t, Row{UserID: acme, Content: fmt.Sprint(i), Metadata: metadataOf(t, `{"company": "Acme"}`)})
	}
	first := o.ask(t, GraphBuild, acme, false)
	if _, err := o.runner.slice(t.Context(), first.ID, o.job(t, first.ID).ID); err != nil {
		t.Fatal(err)
	}
	second := o.ask(t, GraphBuild, acme, false)
	if second.ID == first.ID {
		t.Fatal("a run that has begun was taken for one that waits")
	}
	worked := make(chan Run, 2)
	for _, id := range []uuid.UUID{first.ID, second.ID} {
		go func() { worked <- o.work(t, id) }()
	}
	added := 0
	for range 2 {
		run := <-worked
		if run.State != RunCompleted {
			t.Errorf("%s: %s", run.State, run.LastError)
		}
		added += run.Progress.Graph.Added
	}
	if n := len(o.lines(t, acme)); n != 300 || added != 300 {
		t.Errorf("%d lines, and %d counted; want 300", n, added)
	}
}
