package memory

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
)

// fakeEmbedder knows two directions: what is about animals, and all else.
type fakeEmbedder struct {
	mu     sync.Mutex
	asked  [][]string
	model  string
	embed  func(ctx context.Context, texts []string) ([][]float32, error) // nil: as it should be
	length int                                                            // of the vectors; 0: 3
}

func (e *fakeEmbedder) Model() string { return e.model }

func (e *fakeEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	e.mu.Lock()
	e.asked = append(e.asked, texts)
	e.mu.Unlock()
	if e.embed != nil {
		return e.embed(ctx, texts)
	}
	return e.meant(texts), nil
}

func (e *fakeEmbedder) meant(texts []string) [][]float32 {
	vectors := make([][]float32, len(texts))
	for i, text := range texts {
		vectors[i] = make([]float32, max(e.length, 3))
		vectors[i][1] = 1
		for _, animal := range []string{"pet", "dog", "beagle"} {
			if strings.Contains(text, animal) {
				vectors[i][0], vectors[i][1] = 1, 0
			}
		}
	}
	return vectors
}

func petShop(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := dbtest.New(t)
	put(t, pool, stored{Content: "the user owns a beagle of four years", CreatedAt: today.Add(-2 * time.Hour)})
	put(t, pool, stored{Content: "the user owns a house", CreatedAt: today.Add(-time.Hour)})
	return pool
}

var (
	petQuery = Query{UserID: "ada", Text: "pet that the user owns", Limit: 10}
	lexical  = []string{"the user owns a house", "the user owns a beagle of four years"}
	meaning  = []string{"the user owns a beagle of four years", "the user owns a house"}
)

func TestEmbedderReorders(t *testing.T) {
	t.Parallel()
	pool := petShop(t)
	if diff := cmp.Diff(lexical, contents(search(t, searcher(t, pool, SearchOptions{}), petQuery))); diff != "" {
		t.Fatalf("without an embedder: %s", diff)
	}
	e := &fakeEmbedder{model: "m1"}
	s := searcher(t, pool, SearchOptions{Embedder: e})
	asks := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(meaning, contents(search(t, s, petQuery))); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(want, e.asked[len(e.asked)-1]); diff != "" {
			t.Errorf("asked in call %d: %s", len(e.asked), diff)
		}
	}
	asks(append([]string{petQuery.Text}, lexical...)...)
	asks(petQuery.Text)
	if _, err := pool.Exec(t.Context(), `UPDATE memories SET content = content || ' in town' WHERE content LIKE '%house'`); err != nil {
		t.Fatal(err)
	}
	meaningBefore := meaning
	found := contents(search(t, s, petQuery))
	if diff := cmp.Diff([]string{petQuery.Text, "the user owns a house in town"}, e.asked[2]); diff != "" {
		t.Errorf("after a change: %s", diff)
	}
	if found[0] != meaningBefore[0] {
		t.Errorf("after a change: %q", found)
	}
	e.model = "m2"
	if search(t, s, petQuery); len(e.asked[3]) != 3 {
		t.Errorf("another model was asked for %q, want all anew", e.asked[3])
	}
	if _, err := pool.Exec(t.Context(), `DELETE FROM memories`); err != nil {
		t.Errorf("delete memories that were embedded: %v", err)
	}
}

func TestSearchGoesOnWithoutTheEmbedder(t *testing.T) {
	t.Parallel()
	good := &fakeEmbedder{}
	for name, embed := range map[string]func(context.Context, []string) ([][]float32, error){
		"it fails": func(context.Context, []string) ([][]float32, error) { return nil, errors.New("no credits") },
		"it is slow": func(ctx context.Context, _ []string) ([][]float32, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"too few vectors": func(_ context.Context, texts []string) ([][]float32, error) { return good.meant(texts[1:]), nil },
		"no vectors":      func(context.Context, []string) ([][]float32, error) { return nil, nil },
		"different lengths": func(_ context.Context, texts []string) ([][]float32, error) {
			v := good.meant(texts)
			v[1] = v[1][:2]
			return v, nil
		},
		"empty vectors": func(_ context.Context, texts []string) ([][]float32, error) {
			return make([][]float32, len(texts)), nil
		},
		"no numbers": func(_ context.Context, texts []string) ([][]float32, error) {
			v := good.meant(texts)
			v[0][0] = float32(math.NaN())
			return v, nil
		},
		"endless numbers": func(_ context.Context, texts []string) ([][]float32, error) {
			v := good.meant(texts)
			v[2][0] = float32(math.Inf(1))
			return v, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := petShop(t)
			var said bytes.Buffer
			now := today
			e := &fakeEmbedder{model: "m", embed: embed}
			s := searcher(t, pool, SearchOptions{Embedder: e, EmbedTimeout: 100 * time.Millisecond, Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(&said, nil))})
			for range 2 {
				if diff := cmp.Diff(lexical, contents(search(t, s, petQuery))); diff != "" {
					t.Error(diff)
				}
			}
			if len(e.asked) != 1 || strings.Count(said.String(), "level=WARN") != 1 {
				t.Errorf("asked %d times, want once; log: %s", len(e.asked), said.String())
			}
			e.embed, now = nil, now.Add(restTime)
			if diff := cmp.Diff(meaning, contents(search(t, s, petQuery))); diff != "" {
				t.Errorf("after a while: %s", diff)
			}
		})
	}
}

// A model that changes behind its name makes vectors of another length.
func TestVectorsOfAnotherLengthAreMadeAnew(t *testing.T) {
	t.Parallel()
	pool := petShop(t)
	now := today
	e := &fakeEmbedder{model: "m"}
	s := searcher(t, pool, SearchOptions{Embedder: e, Now: func() time.Time { return now }})
	search(t, s, petQuery)
	e.length = 5
	if diff := cmp.Diff(lexical, contents(search(t, s, petQuery))); diff != "" {
		t.Errorf("with vectors that do not compare: %s", diff)
	}
	now = now.Add(restTime)
	if diff := cmp.Diff(meaning, contents(search(t, s, petQuery))); diff != "" {
		t.Errorf("after that: %s", diff)
	}
}

func TestCallerThatLeavesSaysNothingAboutTheEmbedder(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancel(t.Context())
	e := &fakeEmbedder{model: "m", embed: func(ctx context.Context, _ []string) ([][]float32, error) {
		leave()
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	s := searcher(t, petShop(t), SearchOptions{Embedder: e, EmbedTimeout: time.Minute})
	if _, err := s.Search(ctx, petQuery); err != nil {
		t.Fatal(err)
	}
	if !s.rest.over(today) {
		t.Error("the embedder is left alone")
	}
}

func TestCosine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b []float32
		want float64
	}{
		{[]float32{1, 0}, []float32{2, 0}, 1}, {[]float32{1, 0}, []float32{0, 1}, 0}, {[]float32{1, 0}, []float32{-3, 0}, -1}, {[]float32{0, 0}, []float32{1, 0}, 0},
		{[]float32{math.MaxFloat32, 0}, []float32{math.MaxFloat32, 0}, 1},
	} {
		if got := cosine(tt.a, tt.b); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("cosine(%v, %v) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// Those that the embedder was not asked about stand behind those it was, and their
// scores say so, too.
func TestScoresFallBeyondWhatIsReranked(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	for i := range maxReranked + 10 {
		put(t, pool, stored{Content: "the user owns a house", CreatedAt: today.Add(-time.Duration(i) * time.Hour)})
	}
	e := &fakeEmbedder{model: "m1", embed: func(_ context.Context, texts []string) ([][]float32, error) {
		vectors := make([][]float32, len(texts))
		for i := range vectors {
			vectors[i] = []float32{0, 1}
		}
		vectors[0] = []float32{1, 0} // none means what the query does
		return vectors, nil
	}}
	found := search(t, searcher(t, pool, SearchOptions{Embedder: e}), Query{UserID: "ada", Text: "house", Limit: MaxPage})
	if len(found) != maxReranked+10 {
		t.Fatalf("found %d", len(found))
	}
	for i := 1; i < len(found); i++ {
		if found[i].Score > found[i-1].Score {
			t.Fatalf("%d has the score %g, %d before it %g", i, found[i].Score, i-1, found[i-1].Score)
		}
	}
}
