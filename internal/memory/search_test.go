package memory

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/dbtest"
)

func contents(found []Found) []string {
	texts := []string{}
	for _, f := range found {
		texts = append(texts, f.Content)
	}
	return texts
}

func search(t *testing.T, s *Searcher, q Query) []Found {
	t.Helper()
	if q.Limit == 0 {
		q.Limit = 10
	}
	found, err := s.Search(t.Context(), q)
	if err != nil {
		t.Fatalf("search %q: %v", q.Text, err)
	}
	return found
}

func TestSearchFilters(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	gone, soon := today, today.Add(time.Second)
	put(t, pool, stored{Content: "invoice one", Kind: "note", Metadata: `{"tag":"a","n":12345678901234567890,"deep":{"x":1,"y":2}}`, CreatedAt: today.Add(-72 * time.Hour)})
	put(t, pool, stored{Content: "invoice two", Metadata: `{"tag":"b"}`, CreatedAt: today.Add(-48 * time.Hour)})
	put(t, pool, stored{Content: "invoice three", ExpiresAt: &soon, CreatedAt: today.Add(-24 * time.Hour)})
	put(t, pool, stored{Content: "invoice expired", ExpiresAt: &gone})
	put(t, pool, stored{User: "bob", Content: "invoice of bob", CreatedAt: today.Add(-96 * time.Hour)})
	s := searcher(t, pool, SearchOptions{})
	for _, tt := range []struct {
		name string
		q    Query
		want []string
	}{
		{"of one user, without what has expired", Query{UserID: "ada"}, []string{"invoice three", "invoice two", "invoice one"}},
		{"of another", Query{UserID: "bob"}, []string{"invoice of bob"}},
		{"of nobody", Query{UserID: "eve"}, []string{}},
		{"of everybody", Query{}, []string{"invoice three", "invoice two", "invoice one", "invoice of bob"}},
		{"a few", Query{UserID: "ada", Limit: 2}, []string{"invoice three", "invoice two"}},
		{"of a kind", Query{UserID: "ada", Kind: "note"}, []string{"invoice one"}},
		{"with metadata", Query{UserID: "ada", Metadata: map[string]any{"tag": "b"}}, []string{"invoice two"}},
		{"with metadata inside metadata", Query{UserID: "ada", Metadata: map[string]any{"deep": map[string]any{"y": 2}}}, []string{"invoice one"}},
		{"with metadata that nothing has", Query{UserID: "ada", Metadata: map[string]any{"tag": "c"}}, []string{}},
		{"with no metadata in particular", Query{UserID: "ada", Metadata: map[string]any{}, Limit: 1}, []string{"invoice three"}},
		{"since then, that moment included", Query{UserID: "ada", Since: today.Add(-48 * time.Hour)}, []string{"invoice three", "invoice two"}},
		{"until then, that moment excluded", Query{UserID: "ada", Until: today.Add(-48 * time.Hour)}, []string{"invoice one"}},
		{"between", Query{UserID: "ada", Since: today.Add(-49 * time.Hour), Until: today.Add(-47 * time.Hour)}, []string{"invoice two"}},
	} {
		// A word that is there, one with a mistake, and one that no word leads to.
		for _, text := range []string{"invoice", "invioce", "nvoic"} {
			if tt.q.UserID == "" && text != "invoice" {
				continue // nothing has been analysed
			}
			t.Run(tt.name+": "+text, func(t *testing.T) {
				t.Parallel()
				q := tt.q
				q.Text = text
				if diff := cmp.Diff(tt.want, contents(search(t, s, q))); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestSearchOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		memories   []string // as they should stand; stored the other way round, so that no order comes from storing
		none       []string // not found
	}{
		{"all words before some", "coffee milk", []string{"milk goes into the coffee", "she drinks coffee at noon"}, []string{"tea only"}},
		{"a rare word before a usual one", "meeting zeppelin", []string{"the zeppelin was late", "meeting one", "meeting two", "meeting three"}, nil},
		{"near words before distant ones", "steel price", []string{"the price of steel rises", "the price of wood, of paper, of glass, of sand and of everything else that we buy from them, even steel"}, nil},
		{"the words as they stand before others", "blue whale", []string{"a blue whale passed", "a whale that is blue passed"}, nil},
		{"a word before one that looks like it", "order", []string{"an order came", "on the border of town"}, nil},
		{"inflections", "invoices paying", []string{"he paid one invoice by paying late"}, []string{"a void"}},
		{"a part of a word", "tanaka@ac", []string{"write to y.tanaka@acme.example"}, []string{"call John"}},
		{"a part of a number", "532013", []string{"IBAN DE89370400440532013000"}, []string{"IBAN DE02120300000000202051"}},
		{"another number is no typing mistake", "20245", []string{}, []string{"in room 20246"}},
		{"what only the eye can read", "🍕", []string{"likes 🍕 a lot"}, []string{"likes pasta"}},
		{"Chinese, where words are not set apart", "咖啡", []string{"我喜欢咖啡"}, []string{"我喜欢茶"}},
		{"words that nobody looks for", "to be or not to be", []string{"To be or not to be, he says"}, []string{"something else entirely"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			for i := len(tt.memories) - 1; i >= 0; i-- {
				put(t, pool, stored{Content: tt.memories[i]})
			}
			for _, content := range tt.none {
				put(t, pool, stored{Content: content})
			}
			found := search(t, searcher(t, pool, SearchOptions{}), Query{UserID: "ada", Text: tt.text})
			if diff := cmp.Diff(tt.memories, contents(found)); tt.name != "a rare word before a usual one" && diff != "" {
				t.Error(diff)
			}
			if len(tt.memories) > 0 && (len(found) == 0 || found[0].Content != tt.memories[0]) {
				t.Errorf("got %q first, want %q", contents(found), tt.memories[0])
			}
			for _, f := range found {
				if f.Score <= 0 || f.Score > 1 {
					t.Errorf("score of %q is %v, want 0 to 1", f.Content, f.Score)
				}
			}
		})
	}
}

func TestSearchPrefersWhatIsNewer(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	put(t, pool, stored{Content: "likes green tea", CreatedAt: today.Add(-1 * time.Hour)})
	put(t, pool, stored{Content: "likes black tea", CreatedAt: today.Add(-9000 * time.Hour)})
	put(t, pool, stored{Content: "likes white tea", CreatedAt: today.Add(-100 * time.Hour)})
	found := search(t, searcher(t, pool, SearchOptions{}), Query{UserID: "ada", Text: "tea"})
	if diff := cmp.Diff([]string{"likes green tea", "likes white tea", "likes black tea"}, contents(found)); diff != "" {
		t.Error(diff)
	}
}

func TestSearchFindsWhatIsOldAmongMany(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	const many = 3 * maxCandidates
	insert := func(n int, content string, age time.Duration) {
		_, err := pool.Exec(t.Context(), `INSERT INTO memories (id, user_id, kind, content, checksum, created_at, language)
			SELECT gen_random_uuid(), 'ada', 'fact', $1::text || ' ' || i, sha256(''), $2, 'english' FROM generate_series(1, $3) AS i`, content, today.Add(-age), n)
		if err != nil {
			t.Fatal(err)
		}
	}
	insert(1, "the meeting about zeppelins", 9000*time.Hour)
	insert(1, "a picnic with the balloonist", 9000*time.Hour)
	insert(many, "meeting with a customer, number", time.Hour)
	s := searcher(t, pool, SearchOptions{})
	for text, want := range map[string]string{
		"meeting zeppelin":   "the meeting about zeppelins 1",
		"meeting balloonist": "a picnic with the balloonist 1",
	} {
		if found := search(t, s, Query{UserID: "ada", Text: text, Limit: 3}); len(found) != 3 || found[0].Content != want {
			t.Errorf("%q found %q, want %q first", text, contents(found), want)
		}
	}
}

func TestSearchAmongEverybodyKnowsUsualWords(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	for i := range 40 {
		put(t, pool, stored{User: fmt.Sprintf("u%d", i), Content: fmt.Sprintf("invoice %d", i)})
	}
	if _, err := pool.Exec(t.Context(), `ANALYZE memories`); err != nil {
		t.Fatal(err)
	}
	if found := search(t, searcher(t, pool, SearchOptions{}), Query{Text: "invioce"}); len(found) != 10 {
		t.Errorf("found %q, want ten invoices", contents(found))
	}
}

func TestSearchShowsTheWholeMemory(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	expires := today.Add(time.Hour)
	id := put(t, pool, stored{Kind: "note", Content: "tea", Metadata: `{"n":12345678901234567890}`, ExpiresAt: &expires})
	found := search(t, searcher(t, pool, SearchOptions{}), Query{UserID: "ada", Text: "tea"})
	if len(found) != 1 {
		t.Fatalf("found %v", found)
	}
	got := found[0].Row
	if got.ID != id || got.UserID != "ada" || got.Kind != "note" || fmt.Sprint(got.Metadata["n"]) != "12345678901234567890" ||
		got.ExpiresAt == nil || !got.ExpiresAt.Equal(expires) || !got.CreatedAt.Equal(today.Add(-24*time.Hour)) {
		t.Errorf("got %+v", got)
	}
}

func TestSearchRefuses(t *testing.T) {
	t.Parallel()
	s := NewSearcher(nil, SearchOptions{Language: "english", Now: time.Now})
	good := Query{UserID: "ada", Text: "tea", Limit: 1}
	for field, spoil := range map[string]func(*Query){
		"query":    func(q *Query) { q.Text = " \n" },
		"limit":    func(q *Query) { q.Limit = 0 },
		"kind":     func(q *Query) { q.Kind = "secret" },
		"user_id":  func(q *Query) { q.UserID = "a\x00" },
		"metadata": func(q *Query) { q.Metadata = map[string]any{"a": "\x00"} },
	} {
		q := good
		spoil(&q)
		var wrong *Invalid
		if _, err := s.Search(t.Context(), q); !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("bad %s: got %v", field, err)
		}
	}
	for _, text := range []string{strings.Repeat("x", MaxQuery+1), "a\x00b", "\xff"} {
		q := good
		q.Text = text
		var wrong *Invalid
		if _, err := s.Search(t.Context(), q); !errors.As(err, &wrong) {
			t.Errorf("%.10q: got %v", text, err)
		}
	}
}

// FuzzQuery: whatever somebody types, Postgres understands what we make of it.
func FuzzQuery(f *testing.F) {
	pool := dbtest.New(f)
	for _, content := range []string{
		`it's a back\slash and a 'quote' in "quotes"`, `C:\temp\x'y & (b | !c):*AB <-> d`, "http://acme.example/a'b?c=d&e=f", `o'neill@acme.example`, "naïve Übergröße İstanbul ﬁx", "a\u00a0b 咖啡 🍕",
	} {
		put(f, pool, stored{Content: content})
	}
	for _, text := range []string{
		"tea", "'", "''", `\`, `\'`, `a\'b`, "&", "a & | !", "!(", "<->", ":*", "a:*A", "((((", "the of and", "it's", "o'neill", `back\slsh`, `C:\tmp`, "x'yy",
		"🍕", "咖啡", "%", "_", "a%b_c", "$1", "@query", "--", "/*", "\u0001", "\u200b", "İ", "ﬁ", strings.Repeat("(", 1000), strings.Repeat("a ", 500), strings.Repeat("'", 1000),
		strings.Repeat("ö", 500), strings.Repeat("x-", 500), "http://acme.example/a'c", "<b>tag</b>", "1e999999", "-", "NaN", "a\nb\tc\r", "''' & '''", "jane@acme", "a.b.c/d?e=f",
	} {
		f.Add(text)
	}
	s := searcher(f, pool, SearchOptions{})
	f.Fuzz(func(t *testing.T, text string) {
		for _, user := range []string{"ada", ""} {
			_, err := s.Search(t.Context(), Query{UserID: user, Text: text, Limit: 5})
			var wrong *Invalid
			bad := len(text) > MaxQuery || strings.TrimSpace(text) == "" || strings.ContainsRune(text, 0) || !utf8.ValidString(text)
			if errors.As(err, &wrong) != bad || (err != nil && !bad) {
				t.Errorf("search %q: %v", text, err)
			}
		}
	})
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"invoice", "invoice", 0}, {"invoise", "invoice", 1}, {"invioce", "invoice", 1}, {"invoce", "invoice", 1}, {"innvoice", "invoice", 1},
		{"schmitd", "schmidt", 1}, {"barrle", "barrel", 1}, {"ab", "ba", 1}, {"", "ab", 2}, {"abc", "xyz", 3}, {"müller", "muller", 1}, {"a", "abcdef", 3},
	} {
		if got := distance(tt.a, tt.b, 2); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestRanking(t *testing.T) {
	t.Parallel()
	id := func(n byte) uuid.UUID { return uuid.UUID{n} }
	l := &look{now: today, words: make([]word, 2), found: map[uuid.UUID]candidate{
		id(1): {id: id(1), updatedAt: today, fits: []float64{1, 0}},
		id(2): {id: id(2), updatedAt: today, fits: []float64{1, 1}},
		id(3): {id: id(3), updatedAt: today, fits: []float64{1, 0.5}},
		id(4): {id: id(4), updatedAt: today.Add(-time.Minute), fits: []float64{1, 1}, phrase: true},
		id(5): {id: id(5), updatedAt: today.Add(-time.Hour), fits: []float64{1, 0}},
		id(6): {id: id(6), updatedAt: today, likeness: 1},
		id(7): {id: id(7), updatedAt: today, fits: []float64{1, 0}},
		id(8): {id: id(8), updatedAt: today.Add(-2 * halfLife), fits: []float64{1, 0}, weight: 0.02},
	}}
	var order []byte
	for _, p := range l.ranked() {
		order = append(order, p.id[0])
	}
	if diff := cmp.Diff([]byte{4, 2, 3, 6, 1, 7, 5, 8}, order); diff != "" {
		t.Error(diff)
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	words := []word{{terms: []term{{weight: 1}, {weight: 0.5}, {weight: 0.7}}}, {terms: []term{{weight: 1}}}, {terms: []term{{weight: 1}, {weight: 0.8}}}}
	got := fits(words, []bool{false, true, true, false, true, true})
	if diff := cmp.Diff([]float64{0.7, 0, 1}, got); diff != "" {
		t.Error(diff)
	}
}

// What is found by no word, but as it stands, or by what looks like a word, passes the
// same filters.
func TestSearchFiltersWhatNoWordFinds(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	past, come := today.Add(-time.Hour), today.Add(time.Hour)
	const content = "=> liquorice"
	for _, m := range []stored{
		{Content: content, Kind: "note", Metadata: `{"a":1}`},
		{Content: content, User: "bob", Kind: "note", Metadata: `{"a":1}`},
		{Content: content, Kind: "task", Metadata: `{"a":1}`},
		{Content: content, Kind: "note", Metadata: `{"a":2}`},
		{Content: content, Kind: "note", Metadata: `{"a":1}`, ExpiresAt: &past},
		{Content: content, Kind: "note", Metadata: `{"a":1}`, ExpiresAt: &come},
		{Content: content, Kind: "note", Metadata: `{"a":1}`, CreatedAt: today.Add(-72 * time.Hour)},
		{Content: content, Kind: "note", Metadata: `{"a":1}`, CreatedAt: today.Add(72 * time.Hour)},
	} {
		put(t, pool, m)
	}
	s := searcher(t, pool, SearchOptions{})
	for _, text := range []string{"=>", "liqourice"} {
		for name, tt := range map[string]struct {
			query Query
			want  int
		}{
			"none":     {Query{}, 6},
			"kind":     {Query{Kind: "task"}, 1},
			"metadata": {Query{Metadata: map[string]any{"a": 2}}, 1},
			"since":    {Query{Since: today.Add(-48 * time.Hour)}, 5},
			"until":    {Query{Until: today.Add(48 * time.Hour)}, 5},
			"all":      {Query{Kind: "note", Metadata: map[string]any{"a": 1}, Since: today.Add(-48 * time.Hour), Until: today}, 2},
		} {
			tt.query.UserID, tt.query.Text = "ada", text
			if found := search(t, s, tt.query); len(found) != tt.want {
				t.Errorf("%s, filtered by %s: found %d, want %d", text, name, len(found), tt.want)
			}
		}
	}
}
