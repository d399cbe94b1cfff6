package sqlrole_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// answers are what the queries of docs/sql.md say of the story, by their headings: how
// many rows, and what stands in them one after another.
var answers = map[string]struct {
	rows int
	says []string
}{
	"A record": {30, []string{"create from zoho as evt-1", "revision 1 of account", "memory added", "memory_added as webhook", "to 3 endpoints",
		"held|delivery 13 to partner", "attempt 1|crm: 503", "dead|delivery 12 to archive, last: answered 403 Forbidden", "attempt 2|crm: 204", "delivered|delivery 11 to crm",
		"evt-2", "event.replay|by ada: the mapping was wrong", "replayed", "read last|from Zoho", "memory updated",
		"attempt 1|crm: 204 in 41 ms, in a batch", "delivered|delivery 14 to crm", "archive: timeout in 10000 ms: no answer in 10s",
		"mirror|retrying|copy in mem0, last: answered 422", "evt-7", "dead|3 failures, last: the birthday is no date|7"}},
	"A record, by its id alone":              {30, []string{"|Contacts|inbound|received|create from zoho as evt-1", "mirror|retrying"}},
	"A memory":                               {18, []string{"memory added", "told", "relayed", "delivered", "memory updated", "in a batch", "mirror|retrying"}},
	"What a memory said, and who changed it": {2, []string{"added|zoho||Contact Doe|1", "updated|zoho|Contact Doe|Contact Jane Doe|2"}},
	"An account":                             {35, []string{"||memory|memory added", "evt-7", "synced last", "evt-1#34", "evt-2", "evt-1", "read whole last"}},
	"What Zoho said":                         {2, []string{"Email|jane@example.com|", "Last_Name|Doe|"}},
	"What its webhooks carried":              {3, []string{`update|dead|{"id":"5725767000000524200","Last_Name":"Doe"}`, "update|processed", "create|processed"}},
	"Who changed what":                       {4, []string{"token/operator|endpoint.pause", "ada|event.replay|event/2"}},
	"Who changed one thing":                  {1, []string{"ada|event.replay|", "the mapping was wrong"}},
	"Everything that failed since yesterday": {15, []string{"account|5725767000000499002|waiting", "event|5|retrying|1|the amount is no number", "event|7|dead|3|the birthday is no date",
		"discarded|3|the birthday is no date|process_event", "mirror|", "16|retrying|1|answered 502", "breaker|zoho|open|5", "endpoint|", "12|dead|1|answered 403", "connection|zoho|revoked", "channel|1000001|lost",
		"sync record|", "sync|", "memory run|"}},
	"The same by reason":                 {14, []string{"event|dead|the birthday is no date|2"}},
	"What a subscriber missed":           {2, []string{"dead|memory_added|zoho:5725767000000499001|01a201a3-0000-7000-8000-000000000001|12|1||answered 403 Forbidden|t", "retrying|memory_updated"}},
	"What each subscriber missed":        {3, []string{"archive|dead|1", "archive|retrying|1", "partner|held|2"}},
	"The slowest endpoints":              {2, []string{"archive|2|2|5350|", "crm|3|1|41|86|90|91"}},
	"How long events take, hour by hour": {0, []string{"|00:00:02|00:00:10|00:00:10"}}, // which events share an hour depends on when it is asked
	"What waits, by age":                 {5, []string{"to be delivered|3|", "to be copied|1", "to be synced|1", "to be relayed|1", "to be routed|1|", "|0|1|0"}},
	"The queue":                          {2, []string{"process|process_event|available|1", "process|process_event|discarded|1"}},
	"Repeats":                            {4, []string{"duplicated|5", "id_reused|1", "ignored|1", "queued|7"}},
	"Ids that came again with another body, by source": {1, []string{"zoho|1|"}},
	"The size of the tables":                           {20, []string{"event_bodies|3|"}},
	"Run an event again":                               {1, []string{"7|"}},
	"Run many again":                                   {1, []string{"8||event 8 cannot be run again: its body is no longer stored"}},
	"What became of a replay":                          {1, []string{"2|", "|processed|", "|ada|the mapping was wrong"}},
	"Discard dead letters":                             {1, []string{"delivery/12"}},
}

// The queries are asked in the order of the page: those that change nothing by who may
// do no more, the others by an operator.
func TestEveryQueryOfThePageAnswers(t *testing.T) {
	t.Parallel()
	pool := newStory(t)
	_, reader := newRole(t, pool, false)
	_, operator := newRole(t, pool, true)
	asked := map[string]bool{}
	for _, q := range queries(t) {
		asked[q.heading] = true
		who := reader
		if q.mends() {
			who = operator
		}
		rows, err := texts(t.Context(), who, q.sql)
		if err != nil {
			t.Errorf("%s: %v", q.heading, err)
			continue
		}
		want, known := answers[q.heading]
		if !known {
			t.Errorf("%s: nobody says here what it answers", q.heading)
		}
		if want.rows != 0 && len(rows) != want.rows {
			t.Errorf("%s: %d rows, want %d", q.heading, len(rows), want.rows)
		}
		rest := strings.Join(rows, "\n")
		for _, says := range want.says {
			_, after, found := strings.Cut(rest, says)
			if !found {
				t.Errorf("%s: does not say %q, or not after what comes before it:\n%s", q.heading, says, strings.Join(rows, "\n"))
				break
			}
			rest = after
		}
		if n := strings.Count(q.sql, "\n"); n > 25 {
			t.Errorf("%s: %d lines", q.heading, n)
		}
	}
	for heading := range answers {
		if !asked[heading] {
			t.Errorf("docs/sql.md has no query %q", heading)
		}
	}
	after := list[string](t, pool, `SELECT id || ' ' || status FROM events WHERE id IN (7, 8) UNION ALL SELECT 'delivery ' || id || ' ' || status FROM deliveries WHERE id = 12 ORDER BY 1`)
	if diff := cmp.Diff([]string{"7 received", "8 dead", "delivery 12 discarded"}, after); diff != "" {
		t.Errorf("what the page mends (-want +got):\n%s", diff)
	}
}

// grows are the tables that get a row with each event or more.
var grows = regexp.MustCompile(`^(events|event_bodies.*|deliveries|delivery_attempts|outbox|memory_history|memories|records|accounts|mirrors|river_job)$`)

// plan is what EXPLAIN says of a step.
type plan struct {
	Step  string `json:"Node Type"`
	Table string `json:"Relation Name"`
	Index string `json:"Index Name"`
	Cond  string `json:"Index Cond"`
	Plans []plan
}

// whole returns the steps that read a table that grows from end to end, by an index or not.
// An index of few rows alone is short.
func (p plan) whole(partial []string) []string {
	var all []string
	if grows.MatchString(p.Table) && (p.Step == "Seq Scan" || p.Index != "" && p.Cond == "" && !slices.Contains(partial, p.Index)) {
		all = append(all, fmt.Sprintf("%s of %s %s", p.Step, p.Table, p.Index))
	}
	for _, below := range p.Plans {
		all = append(all, below.whole(partial)...)
	}
	return all
}

// Where Postgres is told to avoid it, and the joins that want all of a table, it reads a table from end to end only when no index
// helps: so this holds whatever is in the tables.
func TestNoQueryReadsALargeTableWhole(t *testing.T) {
	t.Parallel()
	pool := newStory(t)
	partial := list[string](t, pool, `SELECT indexrelid::regclass::text FROM pg_index WHERE pg_get_expr(indpred, indrelid) !~ 'IS NOT NULL'`)
	for _, q := range queries(t) {
		if q.mends() {
			continue
		}
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off`); err != nil {
				return err
			}
			var plans []struct{ Plan plan }
			if err := tx.QueryRow(t.Context(), "EXPLAIN (FORMAT json) "+q.sql).Scan(&plans); err != nil {
				return err
			}
			if whole := plans[0].Plan.whole(partial); len(whole) > 0 {
				t.Errorf("%s: %v", q.heading, whole)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", q.heading, err)
		}
	}
}

// BenchmarkQueries says how long each query of the page takes among 100,000 events, planning
// and all: the best of three, for the others share the machine.
func BenchmarkQueries(b *testing.B) {
	pool := newStory(b)
	tell(b, pool, "many.sql")
	if _, err := pool.Exec(b.Context(), `VACUUM ANALYZE`); err != nil {
		b.Fatal(err)
	}
	// Something of which there is much more than in the story.
	among := strings.NewReplacer("5725767000000524200", "record-77", "5725767000000499001", "account-77", "'archive'", "'endpoint-2'",
		"01a201a3-85e8-7166-bd98-bdae5e578952", "01a20400-0000-7000-8000-000000000077", "event/2'", "event/1500'")
	for _, q := range queries(b) {
		if q.mends() {
			continue
		}
		b.Run(q.heading, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(explain(b, pool, among.Replace(q.sql)), "ms")
			}
			b.ReportMetric(0, "ns/op") // of three
		})
	}
}

func explain(b *testing.B, pool *pgxpool.Pool, sql string) float64 {
	b.Helper()
	var best float64
	for i := range 3 {
		lines := list[string](b, pool, "EXPLAIN (ANALYZE, SUMMARY) "+sql)
		var planning, execution float64
		for _, line := range lines {
			_, _ = fmt.Sscanf(strings.TrimSpace(line), "Planning Time: %f ms", &planning)
			_, _ = fmt.Sscanf(strings.TrimSpace(line), "Execution Time: %f ms", &execution)
		}
		if took := planning + execution; i == 0 || took < best {
			best = took
		}
	}
	return best
}
