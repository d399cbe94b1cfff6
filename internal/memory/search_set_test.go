package memory

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
)

// labelled is a set of memories and of queries with what they should find.
type labelled struct {
	Language string            `json:"language"`
	Memories map[string]string `json:"memories"`
	Queries  []struct {
		Text string   `json:"text"`
		Want []string `json:"want"`
	} `json:"queries"`
}

func readLabelled(tb testing.TB, name string) labelled {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "search", name))
	if err != nil {
		tb.Fatal(err)
	}
	var set labelled
	if err := json.Unmarshal(text, &set); err != nil {
		tb.Fatal(err)
	}
	return set
}

// quality is how well queries are answered: which part of what is wanted stands
// among the first five, and one over the place of the first that is wanted.
type quality struct{ recall, mrr float64 }

func (set labelled) measure(tb testing.TB, pool *pgxpool.Pool) quality {
	tb.Helper()
	names := map[uuid.UUID]string{}
	for name, content := range set.Memories {
		id := put(tb, pool, stored{User: "ada", Content: content, Language: set.Language})
		names[id] = name
	}
	s := searcher(tb, pool, SearchOptions{Language: set.Language})
	var sum quality
	for _, q := range set.Queries {
		found, err := s.Search(tb.Context(), Query{UserID: "ada", Text: q.Text, Limit: 5})
		if err != nil {
			tb.Fatalf("search %q: %v", q.Text, err)
		}
		var got []string
		hits, first := 0, 0
		for i, f := range found {
			got = append(got, fmt.Sprintf("%s %.2f", names[f.ID], f.Score))
			if slices.Contains(q.Want, names[f.ID]) {
				hits++
				if first == 0 {
					first = i + 1
				}
			}
		}
		if hits < len(q.Want) || first != 1 {
			tb.Logf("%q: want %v, got %v", q.Text, q.Want, got)
		}
		sum.recall += float64(hits) / float64(len(q.Want))
		if first > 0 {
			sum.mrr += 1 / float64(first)
		}
	}
	n := float64(len(set.Queries))
	return quality{recall: sum.recall / n, mrr: sum.mrr / n}
}

// The floors are below what is reached today: a change that goes below makes
// search worse.
func TestSearchFindsWhatIsWanted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file, language string // "": the file's own
		recall, mrr    float64
	}{
		{file: "english.json", recall: 0.90, mrr: 0.88},
		{file: "english.json", language: "simple", recall: 0.88, mrr: 0.86},
		{file: "german.json", recall: 0.85, mrr: 0.85},
		{file: "german.json", language: "simple", recall: 0.85, mrr: 0.85},
	} {
		t.Run(tt.file+" "+tt.language, func(t *testing.T) {
			t.Parallel()
			set := readLabelled(t, tt.file)
			if tt.language != "" {
				set.Language = tt.language
			}
			got := set.measure(t, dbtest.New(t))
			t.Logf("recall@5 %.3f, MRR %.3f", got.recall, got.mrr)
			if got.recall < tt.recall || got.mrr < tt.mrr {
				t.Errorf("recall@5 %.3f, MRR %.3f, want at least %.3f and %.3f", got.recall, got.mrr, tt.recall, tt.mrr)
			}
		})
	}
}

func BenchmarkSearchQuality(b *testing.B) {
	for _, file := range []string{"english.json", "german.json"} {
		b.Run(file, func(b *testing.B) {
			set := readLabelled(b, file)
			var got quality
			for b.Loop() {
				got = set.measure(b, dbtest.New(b))
			}
			b.ReportMetric(got.recall, "recall@5")
			b.ReportMetric(got.mrr, "MRR")
		})
	}
}

// stored is a memory as a test wants it to lie there.
type stored struct {
	User, Kind, Content, Metadata string // "": ada, fact, {}
	Language                      string // "": english
	CreatedAt                     time.Time
	ExpiresAt                     *time.Time
}

var today = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func put(tb testing.TB, pool *pgxpool.Pool, m stored) uuid.UUID {
	tb.Helper()
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	if m.CreatedAt.IsZero() {
		m.CreatedAt = today.Add(-24 * time.Hour)
	}
	id := uuid.New()
	_, err := pool.Exec(tb.Context(), `INSERT INTO memories (id, user_id, kind, content, metadata, checksum, created_at, updated_at, expires_at, language)
		VALUES ($1, $2, $3, $4, $5, sha256(''), $6, $6, $7, $8::text::regconfig)`,
		id, or(m.User, "ada"), or(m.Kind, "fact"), m.Content, or(m.Metadata, "{}"), m.CreatedAt, m.ExpiresAt, or(m.Language, "english"))
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func searcher(tb testing.TB, pool *pgxpool.Pool, o SearchOptions) *Searcher {
	tb.Helper()
	if o.Language == "" {
		o.Language = "english"
	}
	if o.Now == nil {
		o.Now = func() time.Time { return today }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(tb.Output(), nil))
	}
	return NewSearcher(pool, o)
}
