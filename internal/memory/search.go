package memory

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

// Bounds of the work that a search is. A user of a hundred memories meets none of
// them; with fifty thousand they keep a search at some milliseconds.
const (
	// maxCandidates is how many memories are compared of those that have any of the
	// words: the newest.
	maxCandidates = 400
	// maxRare is how many more are, of those that have words which none of the newest
	// has, and of those that have words which look like one that nobody wrote.
	maxRare = 200
	// maxVocabulary is how many of the newest memories are looked through for words
	// that look like one that nobody wrote.
	maxVocabulary = 300
	// maxScanned is how many of the newest are read as they stand when no word leads
	// anywhere.
	maxScanned = 100
	// maxReranked is how many of the best an embedder is asked about.
	maxReranked = 50
)

// Query is what to look for.
type Query struct {
	UserID string // "": among everybody's, which is for people; the API names one
	Text   string // words, names, numbers, parts of them; 1 to MaxQuery bytes
	Limit  int    // 1 to MaxPage
	Kind   string // "": any
	// Metadata is contained in the memory's own, as jsonb's @> has it; nil: any.
	Metadata map[string]any
	// Since and Until bound when a memory was made (created_at): from Since on, before
	// Until. Zero: no bound.
	Since, Until time.Time
}

// Found is a memory that was found.
type Found struct {
	Row
	// Score says how well it fits, 0 to 1: greater is better within one answer. Scores
	// of different queries do not compare.
	Score float64 `json:"score"`
}

// SearchOptions say how to search.
type SearchOptions struct {
	// Language is a text search configuration of Postgres, as "english", "german" or
	// "simple": the one that memories are stored with.
	Language string
	Embedder Embedder // nil: none
	// EmbedTimeout bounds what a search waits for the embedder; 0: two seconds.
	EmbedTimeout time.Duration
	Now          func() time.Time
	Log          *slog.Logger
}

// Searcher finds memories. Its methods may be called side by side.
type Searcher struct {
	pool *pgxpool.Pool
	o    SearchOptions
	rest rest
}

// NewSearcher makes a Searcher. The pool should plan each statement for its values
// (plan_cache_mode=force_custom_plan): how to find the memories of a user of a
// hundred is not how to find those of one of fifty thousand.
func NewSearcher(pool *pgxpool.Pool, o SearchOptions) *Searcher {
	o.EmbedTimeout = cmp.Or(o.EmbedTimeout, 2*time.Second)
	return &Searcher{pool: pool, o: o}
}

// Search returns the memories that fit best, best first; none is no error. It
// returns an *Invalid for a query that cannot be asked.
//
// Any of the words is enough to be found. What has all of them comes first, then
// what has the rarer ones; words near each other, said often in a short text, and
// newer memories count for a little more. A word that is in no memory stands for
// those that look like it or contain it.
func (s *Searcher) Search(ctx context.Context, q Query) ([]Found, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	l, err := s.newLook(q)
	if err != nil {
		return nil, err
	}
	if err := l.find(ctx); err != nil {
		return nil, err
	}
	ranked := l.ranked()
	found, err := l.load(ctx, ranked[:min(l.wanted(), len(ranked))])
	if err != nil {
		return nil, err
	}
	if s.o.Embedder != nil && len(found) > 0 {
		s.rerank(ctx, q.Text, found)
	}
	return found[:min(q.Limit, len(found))], nil
}

func (q Query) check() error {
	if err := checkText("query", q.Text, MaxQuery); err != nil {
		return err
	}
	if err := CheckLimit(q.Limit); err != nil {
		return err
	}
	if q.UserID != "" {
		if err := CheckUserID(q.UserID); err != nil {
			return err
		}
	}
	if err := CheckKind(q.Kind); err != nil {
		return err
	}
	return CheckMetadata(q.Metadata)
}

// look is one search under way.
type look struct {
	s        *Searcher
	q        *db.Queries
	query    Query
	metadata []byte
	now      time.Time
	words    []word
	phrase   string // what all the words ask for, beside each other; "": nothing
	found    map[uuid.UUID]candidate
}

func (s *Searcher) newLook(q Query) (*look, error) {
	metadata, err := writeMetadata(q.Metadata)
	if err != nil {
		return nil, err
	}
	return &look{s: s, q: db.New(s.pool), query: q, metadata: metadata, now: s.o.Now(), found: map[uuid.UUID]candidate{}}, nil
}

// find gathers candidates: what has all of the words; where that is too little,
// what has any; where that is too much, what has those that the newest lack; then
// what has words that look like those that nobody wrote.
func (l *look) find(ctx context.Context) error {
	if err := l.parse(ctx); err != nil {
		return err
	}
	if len(l.words) > 1 {
		if _, err := l.match(ctx, allOf(l.words), maxCandidates); err != nil {
			return err
		}
	}
	if len(l.found) < l.wanted() {
		full, err := l.match(ctx, anyOf(l.words), maxCandidates)
		if err != nil {
			return err
		}
		if full {
			if _, err := l.match(ctx, anyOf(l.unmatched()), maxRare); err != nil {
				return err
			}
		}
	}
	if err := l.findNear(ctx); err != nil {
		return err
	}
	if len(l.found) == 0 {
		return l.scan(ctx)
	}
	return nil
}

// wanted is how many candidates are worth having.
func (l *look) wanted() int {
	if l.s.o.Embedder != nil {
		return max(l.query.Limit, maxReranked)
	}
	return l.query.Limit
}

// match adds what matches a query, "" for nothing, and reports whether there may
// be more.
func (l *look) match(ctx context.Context, query string, most int32) (full bool, err error) {
	if query == "" {
		return false, nil
	}
	var terms []string
	for _, w := range l.words {
		for _, t := range w.terms {
			terms = append(terms, t.query)
		}
	}
	rows, err := l.q.FindMemories(ctx, db.FindMemoriesParams{
		Query: query, AllWords: allOf(l.words), Phrase: l.phrase, Terms: terms,
		UserID: l.query.UserID, Kind: l.query.Kind, Metadata: l.metadata,
		Since: unlessZero(l.query.Since), Until: unlessZero(l.query.Until), Now: l.now, MaxRows: most,
	})
	if err != nil {
		return false, fmt.Errorf("find memories: %w", err)
	}
	for _, r := range rows {
		l.found[r.ID] = candidate{
			id: r.ID, updatedAt: r.UpdatedAt, fits: fits(l.words, r.Has),
			weight: r.Weight, nearness: r.Nearness, phrase: r.Phrase && len(l.words) > 1,
		}
	}
	return len(rows) == int(most), nil
}

// unmatched are those words that no candidate has.
func (l *look) unmatched() []word {
	var none []word
	for i, w := range l.words {
		if l.spread(i) == 0 {
			none = append(none, w)
		}
	}
	return none
}

// spread is how many candidates have a word, or one that stands for it.
func (l *look) spread(word int) int {
	n := 0
	for _, c := range l.found {
		if c.fits != nil && c.fits[word] > 0 {
			n++
		}
	}
	return n
}

// scan reads the newest memories as they stand. Among everybody's there are none
// that could be read.
func (l *look) scan(ctx context.Context) error {
	text := strings.TrimSpace(strings.ToLower(l.query.Text))
	if l.query.UserID == "" || text == "" {
		return nil
	}
	least := likeEnough
	if !mayBeTypo(text) {
		least = 1
	}
	rows, err := l.q.ScanMemories(ctx, db.ScanMemoriesParams{
		Text: text, Least: least, UserID: l.query.UserID, Kind: l.query.Kind, Metadata: l.metadata,
		Since: unlessZero(l.query.Since), Until: unlessZero(l.query.Until), Now: l.now, MaxRows: maxScanned,
	})
	if err != nil {
		return fmt.Errorf("scan memories: %w", err)
	}
	for _, r := range rows {
		l.found[r.ID] = candidate{id: r.ID, updatedAt: r.UpdatedAt, likeness: r.Likeness}
	}
	return nil
}

// load reads memories in the order of their places. One that was removed
// meanwhile is left out.
func (l *look) load(ctx context.Context, places []place) ([]Found, error) {
	if len(places) == 0 {
		return []Found{}, nil
	}
	ids := make([]uuid.UUID, len(places))
	for i, p := range places {
		ids[i] = p.id
	}
	rows, err := l.q.ListFound(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("load memories: %w", err)
	}
	loaded := make(map[uuid.UUID]Row, len(rows))
	for _, r := range rows {
		row, err := rowFrom(db.GetMemoryRow(r))
		if err != nil {
			return nil, err
		}
		loaded[row.ID] = row
	}
	found := make([]Found, 0, len(places))
	for _, p := range places {
		if row, ok := loaded[p.id]; ok {
			found = append(found, Found{Row: row, Score: p.score})
		}
	}
	return found, nil
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
