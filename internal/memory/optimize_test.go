package memory

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func TestOptimizeMergesIntoTheOldest(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	first := o.remember(t, Row{Content: "likes tea", Metadata: metadataOf(t, `{"source": "chat-1", "n": 12345678901234567890}`)})
	o.remember(t, Row{Content: "likes coffee"})
	second := o.remember(t, Row{Content: "Likes  tea.", Metadata: metadataOf(t, `{"source": "chat-2", "mood": "good"}`)})
	third := o.remember(t, Row{Content: "LIKES TEA"})
	o.remember(t, Row{Content: "likes tea", Kind: "preference"})
	o.remember(t, Row{Content: "likes tea", UserID: "bob"})

	run := o.do(t, Optimize, "ada", false)
	want := OptimizedData{Before: 5, After: 3, Removed: 2, Merged: 2}
	if diff := cmp.Diff(&want, run.Progress.Optimized); diff != "" || run.Progress.Done != 5 || run.Progress.Total != 5 {
		t.Errorf("progress %+v (-want +got):\n%s", run.Progress, diff)
	}
	if diff := cmp.Diff([]string{"likes tea", "likes coffee", "likes tea"}, o.contents(t, "ada")); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	is, err := o.store.Get(t.Context(), clerk(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(metadataOf(t, `{"source": "chat-1", "n": 12345678901234567890, "mood": "good"}`), is.Metadata); diff != "" {
		t.Errorf("the survivor's metadata (-want +got):\n%s", diff)
	}
	if sum := o.texts(t, `SELECT encode(checksum, 'hex') FROM memories WHERE id = $1`, first.ID)[0]; sum != fmt.Sprintf("%x", is.Checksum()) {
		t.Error("the survivor's checksum is not that of what it says")
	}
	if diff := cmp.Diff([]string{
		fmt.Sprintf("deleted %s token/clerk %s true false", second.ID, first.ID),
		fmt.Sprintf("deleted %s token/clerk %s true false", third.ID, first.ID),
		fmt.Sprintf("updated %s token/clerk none true true", first.ID),
	}, o.texts(t, `SELECT operation || ' ' || memory_id || ' ' || actor || ' ' || coalesce(merged_into::text, 'none') || ' ' || (before IS NOT NULL) || ' ' || (after IS NOT NULL)
		FROM memory_history WHERE outbox_id IS NULL ORDER BY operation, memory_id`)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`memory_optimized ada {"before":5,"after":3,"removed":2,"merged":2,"expired":0}`}, o.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if ids := o.texts(t, `SELECT convert_from(payload, 'UTF8')::json ->> 'request_id' FROM outbox`); !cmp.Equal(ids, []string{"r-1"}) {
		t.Errorf("request ids told: %q", ids)
	}
	if n := o.texts(t, `SELECT memory_id::text FROM mirrors WHERE wanted > done`); len(n) != 3 {
		t.Errorf("copies woken: %q, want those of all three", n)
	}
	if left := o.texts(t, `SELECT mark::text FROM memory_marks`); len(left) > 0 {
		t.Errorf("%d marks were left behind", len(left))
	}

	again := o.do(t, Optimize, "ada", false)
	if diff := cmp.Diff(&OptimizedData{Before: 3, After: 3}, again.Progress.Optimized); diff != "" {
		t.Errorf("the second run (-want +got):\n%s", diff)
	}
	if told := o.told(t); len(told) != 2 {
		t.Errorf("a run without a result was told %d times", len(told)-1)
	}
}

func TestOptimizeLeavesAlone(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.remember(t, Row{Content: "likes tea", Module: "Contacts", RecordID: "5", Kind: "contact"})
	o.remember(t, Row{Content: "likes tea", Module: "Contacts", RecordID: "6", Kind: "contact"})
	o.remember(t, Row{Content: "likes tea", Kind: "contact"})
	o.remember(t, Row{Content: "likes tea", Kind: "contact", Origin: "mem0", OriginID: "1"})
	o.remember(t, Row{Content: "likes tea", Kind: "contact", Origin: "mem0", OriginID: "2"})
	o.remember(t, Row{Content: "prefers the window", Metadata: metadataOf(t, `{"person": "Bob"}`)})
	o.remember(t, Row{Content: "prefers the window", Metadata: metadataOf(t, `{"person": "Eve"}`)})
	large := strings.Repeat("x", MaxMetadata*2/3)
	o.remember(t, Row{Content: "likes rum", Metadata: map[string]any{"a": large}})
	o.remember(t, Row{Content: "likes rum", Metadata: map[string]any{"b": large}})
	for range 2 {
		run := o.do(t, Optimize, "ada", false)
		if diff := cmp.Diff(&OptimizedData{Before: 9, After: 9}, run.Progress.Optimized); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// Two memories that say the same of two things are two, whatever the key is called.
func TestOptimizeKeepsWhatMetadataTellsApart(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for _, metadata := range []string{`{"source": "chat-1"}`, `{"order": 1001, "source": "chat-2"}`, `{"order": 1002}`, `{"order": 1001}`} {
		o.remember(t, Row{Content: "asked for a refund", Metadata: metadataOf(t, metadata)})
	}
	dry, run := o.do(t, Optimize, "ada", true), o.do(t, Optimize, "ada", false)
	if diff := cmp.Diff(&OptimizedData{Before: 4, After: 2, Removed: 2, Merged: 2}, run.Progress.Optimized); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(run.Progress, dry.Progress); diff != "" {
		t.Errorf("a dry run counts otherwise (-run +dry):\n%s", diff)
	}
	want := []string{`{"order": 1001, "source": "chat-1"}`, `{"order": 1002}`}
	if diff := cmp.Diff(want, o.texts(t, `SELECT metadata::text FROM memories ORDER BY created_at`)); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

func TestOptimizeOfNobody(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run := o.do(t, Optimize, "nobody", false)
	if diff := cmp.Diff(&OptimizedData{}, run.Progress.Optimized); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{`memory_optimized nobody {"before":0,"after":0,"removed":0,"merged":0,"expired":0}`}, o.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestOptimizeAndTime(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	at := func(d time.Duration) *time.Time { moment := time.Now().Add(d).Truncate(time.Second); return &moment }
	o.remember(t, Row{Content: "an old offer", ExpiresAt: at(-time.Hour)})
	o.remember(t, Row{Content: "an old offer", ExpiresAt: at(-time.Minute)})
	o.remember(t, Row{Content: "an old offer"})
	soon, late := at(time.Hour), at(2*time.Hour)
	a := o.remember(t, Row{Content: "is in Rome", ExpiresAt: soon})
	o.remember(t, Row{Content: "is in Rome", ExpiresAt: late})
	o.remember(t, Row{Content: "is in Rome", ExpiresAt: soon})
	b := o.remember(t, Row{Content: "is in Oslo", ExpiresAt: soon})
	o.remember(t, Row{Content: "is in Oslo"})
	c := o.remember(t, Row{Content: "is in Bonn"})
	o.remember(t, Row{Content: "is in Bonn", ExpiresAt: late})

	dry := o.do(t, Optimize, "ada", true)
	run := o.do(t, Optimize, "ada", false)
	if diff := cmp.Diff(&OptimizedData{Before: 10, After: 4, Removed: 6, Merged: 4, Expired: 2}, run.Progress.Optimized); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(run.Progress, dry.Progress); diff != "" {
		t.Errorf("a dry run counts otherwise (-run +dry):\n%s", diff)
	}
	for _, tc := range []struct {
		id   uuid.UUID
		want *time.Time
	}{{a.ID, late}, {b.ID, nil}, {c.ID, nil}} {
		is, err := o.store.Get(t.Context(), clerk(), tc.id)
		if err != nil || !sameTime(is.ExpiresAt, tc.want) {
			t.Errorf("%s expires %v, %v; want %v", is.Content, is.ExpiresAt, err, tc.want)
		}
	}
	if n := o.texts(t, `SELECT memory_id::text FROM memory_history WHERE operation = 'deleted' AND merged_into IS NULL`); len(n) != 2 {
		t.Errorf("%d in the history as expired", len(n))
	}
}

// everything is all that a run may change, as text.
func (o *office) everything(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, table := range []string{"memories", "memory_history", "relationships", "outbox", "mirrors", "memory_marks"} {
		all = append(all, o.texts(t, `SELECT r::text FROM `+table+` r ORDER BY 1`)...)
	}
	return all
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.runner.page = 3
	gone := time.Now().Add(-time.Hour)
	for i := range 20 {
		o.remember(t, Row{Content: fmt.Sprintf("likes tea no %d", i%6), Metadata: metadataOf(t, fmt.Sprintf(`{"session": %d}`, i))})
	}
	o.remember(t, Row{Content: "an old offer", ExpiresAt: &gone})
	before := o.everything(t)
	dry := o.do(t, Optimize, "ada", true)
	if diff := cmp.Diff(before, o.everything(t)); diff != "" {
		t.Errorf("a dry run changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(&OptimizedData{Before: 21, After: 6, Removed: 15, Merged: 14, Expired: 1}, dry.Progress.Optimized); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What hung on a memory that is merged away hangs on the survivor, where the graph
// was built before.
func TestOptimizeKeepsTheGraph(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	metadata := `{"company": "Acme", "relationships": [{"source": "person:bob", "relationship": "WORKS_AT", "target": "company:acme", "confidence": 0.5}]}`
	first := o.remember(t, Row{Content: "Bob works at Acme", Metadata: metadataOf(t, metadata)})
	o.do(t, GraphBuild, "ada", false)
	second := o.remember(t, Row{Content: "bob works at acme", Metadata: metadataOf(t, metadata)})
	o.exec(t, `UPDATE memories SET created_at = $2 WHERE id = $1`, second.ID, first.CreatedAt.Add(-time.Hour))
	o.do(t, Optimize, "ada", false)
	want := []string{"memory:" + second.ID.String() + " MENTIONS_COMPANY company:acme", "person:bob WORKS_AT company:acme"}
	if diff := cmp.Diff(want, o.lines(t, "ada")); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if run := o.do(t, GraphBuild, "ada", false); run.Progress.Graph.Added+run.Progress.Graph.Removed != 0 {
		t.Errorf("a build after it: %+v", run.Progress.Graph)
	}
}

// A memory that is changed while the run looks at it is not merged, and the change stays.
func TestAChangeDuringOptimizeIsNotLost(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"the newer says something else": `UPDATE memories SET content = 'likes rum' WHERE id = $2`,
		"the older says something else": `UPDATE memories SET content = 'likes rum' WHERE id = $1`,
		"the newer is about another":    `UPDATE memories SET metadata = '{"person": "Eve"}' WHERE id = $2`,
		"the older is gone":             `DELETE FROM memories WHERE id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			older, newer := o.remember(t, Row{Content: "likes tea"}), o.remember(t, Row{Content: "likes tea"})
			run := o.ask(t, Optimize, "ada", false)
			o.during(t, run, strings.NewReplacer("$1", "'"+older.ID.String()+"'", "$2", "'"+newer.ID.String()+"'").Replace(change))
			ended := o.work(t, run.ID)
			if ended.Progress.Optimized.Removed != 0 {
				t.Errorf("it was merged all the same: %+v", ended.Progress.Optimized)
			}
			left := o.texts(t, `SELECT content || metadata::text FROM memories`)
			if strings.Contains(change, "DELETE") != (len(left) == 1) {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// A run that dies at the end of any of its slices goes on, and in the end it is as
// if it had not.
func TestARunThatIsCutAnywhere(t *testing.T) {
	t.Parallel()
	type result struct {
		Progress           Progress
		Contents, Told     []string
		History, Relations []string
	}
	work := func(t *testing.T, cut int) (result, int) {
		o := newOffice(t)
		o.runner.page = 4
		gone := time.Now().Add(-time.Hour)
		for i := range 14 {
			o.remember(t, Row{Content: fmt.Sprintf("likes tea no %d", i%5), Metadata: metadataOf(t, fmt.Sprintf(`{"session": %d, "topic": "tea"}`, i))})
		}
		for range 9 {
			o.remember(t, Row{Content: "an old offer", ExpiresAt: &gone})
		}
		for i := range 6 {
			o.record(t, "Contacts", fmt.Sprint(i), `{"Account_Name": {"id": "77", "name": "Acme"}}`)
		}
		run := o.ask(t, Optimize, "ada", false)
		if cut > 0 {
			o.cutAt(t, cut)
		}
		slices := 0
		die := func(id uuid.UUID) {
			for ended := false; !ended; {
				j := o.job(t, id) // what a rescue gives to the next process
				var err error
				if ended, err = o.runner.slice(t.Context(), id, j.ID); err != nil && !strings.Contains(err.Error(), "cut by the test") {
					t.Fatal(err)
				}
				slices++
			}
		}
		die(run.ID)
		build := Run{ID: o.ask(t, GraphBuild, "ada", false).ID}
		die(build.ID)
		return result{
			Progress: o.get(t, run.ID).Progress, Contents: o.contents(t, "ada"), Told: o.told(t), Relations: o.texts(t, `SELECT target FROM relationships ORDER BY source, target`),
			History: o.texts(t, `SELECT operation || before::text || coalesce(after::text, '') || (merged_into IS NULL) FROM memory_history ORDER BY 1`),
		}, slices
	}
	want, slices := work(t, 0)
	if want.Progress.Optimized.Removed != 18 || slices < 12 {
		t.Fatalf("uncut: %d slices, %+v", slices, want.Progress.Optimized)
	}
	for cut := 1; cut <= slices; cut++ {
		t.Run(fmt.Sprint("slice ", cut), func(t *testing.T) {
			t.Parallel()
			got, n := work(t, cut)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-uncut +cut):\n%s", diff)
			}
			if n != slices+1 {
				t.Errorf("%d slices, want one more than %d", n, slices)
			}
		})
	}
}

// The last statement of a slice fails: nothing of it is left behind.
func TestASliceIsOneTransaction(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.remember(t, Row{Content: "likes tea"})
	o.remember(t, Row{Content: "likes tea", Metadata: metadataOf(t, `{"a": 1}`)})
	run := o.ask(t, Optimize, "ada", false)
	id := o.job(t, run.ID).ID
	for range 2 { // begin, expire
		if _, err := o.runner.slice(t.Context(), run.ID, id); err != nil {
			t.Fatal(err)
		}
	}
	before := o.everything(t)
	o.cutAt(t, 1)
	if _, err := o.runner.slice(t.Context(), run.ID, id); err == nil {
		t.Fatal("the slice was not cut")
	}
	if diff := cmp.Diff(before, o.everything(t)); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
}

// Agents go on writing while a run works: each change stays, and each duplicate is
// merged once.
func TestOptimizeBesideAgents(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	o.runner.page = 10
	var all []Row
	for i := range 200 {
		all = append(all, o.remember(t, Row{Content: fmt.Sprintf("likes tea no %d", i%100)}))
	}
	patched := make(chan int, 1)
	go func() {
		n := 0
		for i := 100; i < 200; i++ {
			text := fmt.Sprintf("likes rum no %d", i)
			_, err := o.store.Update(t.Context(), clerk(), all[i].ID, Patch{Content: &text})
			switch {
			case err == nil:
				n++
			case !errors.Is(err, ErrNotFound):
				t.Error(err)
			}
		}
		patched <- n
	}()
	run := o.do(t, Optimize, "ada", false)
	n := <-patched
	if got := o.texts(t, `SELECT id::text FROM memories WHERE content LIKE 'likes rum%'`); len(got) != n {
		t.Errorf("%d changes were answered and %d are there", n, len(got))
	}
	if run.Progress.Optimized.Merged+n != 100 {
		t.Errorf("%d merged and %d changed, want 100 in all", run.Progress.Optimized.Merged, n)
	}
}

// bulk stores many memories of ada, every one of the last also said before.
func (o *office) bulk(tb testing.TB, n, duplicates int) {
	tb.Helper()
	o.exec(tb, `INSERT INTO memories (id, user_id, kind, content, checksum, created_at)
		SELECT gen_random_uuid(), 'ada', 'fact', 'Customer no ' || (i % $2::int) || ' prefers delivery to the warehouse on day ' || (i % $2::int) % 31 || ', and likes tea',
		       sha256(i::text::bytea), now() - interval '1 day' + i * interval '1 ms'
		FROM generate_series(1, $1::int) AS i`, n, n-duplicates)
}

func TestOptimizeOfTwentyThousand(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	o := newOffice(t)
	o.bulk(t, 20_000, 5_000)
	dry := o.do(t, Optimize, "ada", true)
	began := time.Now()
	run := o.do(t, Optimize, "ada", false)
	t.Logf("20,000 memories, 5,000 of them twice: %s", time.Since(began).Round(time.Millisecond))
	if diff := cmp.Diff(&OptimizedData{Before: 20_000, After: 15_000, Removed: 5_000, Merged: 5_000}, run.Progress.Optimized); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(run.Progress, dry.Progress); diff != "" {
		t.Errorf("the dry run (-run +dry):\n%s", diff)
	}
}

// BenchmarkOptimize tells what one memory costs, of which a quarter is said twice.
func BenchmarkOptimize(b *testing.B) {
	o := newOffice(b)
	o.bulk(b, b.N, b.N/4)
	b.ResetTimer()
	o.do(b, Optimize, "ada", false)
}
