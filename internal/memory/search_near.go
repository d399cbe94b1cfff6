package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/memrelay/memrelay/db"
)

const (
	// maxNear is how many words stand for one that nobody wrote: the nearest.
	maxNear = 6
	// leastPart is how many characters of a word are looked for inside others.
	leastPart = 3
	// leastTypo is how many characters a word has that can be typed wrong: among
	// shorter ones everything looks like everything.
	leastTypo = 4
	// likeEnough is the trigram similarity from which words stand for each other
	// although more than two letters differ.
	likeEnough = 0.5
)

// findNear adds memories with words that stand for the query's: for a word that no
// memory has those that look like it; and while fewer are found than asked for,
// for all words those that contain it, as compounds do.
func (l *look) findNear(ctx context.Context) error {
	few := len(l.found) < l.query.Limit
	var words, stems []string
	for i, w := range l.words {
		unwritten := l.spread(i) == 0
		if !(unwritten || few) || utf8.RuneCountInString(w.text) < leastPart {
			continue
		}
		stem := ""
		if unwritten && mayBeTypo(w.text) {
			stem = cmp.Or(w.stem(), w.text)
		}
		words, stems = append(words, w.text), append(stems, stem)
	}
	if len(words) == 0 {
		return nil
	}
	near, err := l.near(ctx, words, stems)
	if err != nil {
		return err
	}
	var added []word
	for i := range l.words {
		if more := standIns(l.words[i], near[l.words[i].text]); len(more) > 0 {
			l.words[i].terms = append(l.words[i].terms, more...)
			added = append(added, word{terms: more})
		}
	}
	_, err = l.match(ctx, anyOf(added), maxRare)
	return err
}

// mayBeTypo reports whether a word can stand for one that looks like it. A number
// cannot: 2024 is not 2025.
func mayBeTypo(word string) bool {
	return utf8.RuneCountInString(word) >= leastTypo && !strings.ContainsFunc(word, unicode.IsDigit)
}

// lexeme is a word of the memory as it is indexed.
type lexeme struct {
	text       string
	similarity float64 // of trigrams
}

// near returns what could stand for each word.
func (l *look) near(ctx context.Context, words, stems []string) (map[string][]lexeme, error) {
	near := map[string][]lexeme{}
	if l.query.UserID == "" {
		rows, err := l.q.ListNearCommonWords(ctx, db.ListNearCommonWordsParams{Words: words, Stems: stems})
		if err != nil {
			return nil, fmt.Errorf("list words: %w", err)
		}
		for _, r := range rows {
			near[r.Word] = append(near[r.Word], lexeme{r.Lexeme, r.Similarity})
		}
		return near, nil
	}
	rows, err := l.q.ListNearWords(ctx, db.ListNearWordsParams{UserID: l.query.UserID, MaxRows: maxVocabulary, Words: words, Stems: stems})
	if err != nil {
		return nil, fmt.Errorf("list words: %w", err)
	}
	for _, r := range rows {
		near[r.Word] = append(near[r.Word], lexeme{r.Lexeme, r.Similarity})
	}
	return near, nil
}

// standIns are the best of what could stand for a word.
func standIns(w word, near []lexeme) []term {
	var terms []term
	for _, n := range near {
		weight := likeness(w, n)
		query := quoted(n.text)
		if weight > 0 && query != w.terms[0].query {
			terms = append(terms, term{query: query, weight: weight})
		}
	}
	slices.SortStableFunc(terms, func(a, b term) int { return cmp.Compare(b.weight, a.weight) })
	return terms[:min(maxNear, len(terms))]
}

// likeness says how well a lexeme stands for a word, 0 for not at all.
func likeness(w word, n lexeme) float64 {
	switch {
	case strings.HasPrefix(n.text, w.text):
		return 0.8
	case strings.Contains(n.text, w.text):
		return 0.6
	case !mayBeTypo(w.text):
		return 0
	}
	least := 3
	for _, form := range []string{w.text, w.stem()} {
		if form != "" {
			least = min(least, distance(form, strings.ToLower(n.text), 2))
		}
	}
	// Among short words many are a letter apart and mean something else: live, like.
	allowed, trust := 1, 0.65
	if utf8.RuneCountInString(w.text) > 5 {
		allowed, trust = 2, 0.9
	}
	if least <= allowed {
		return trust - 0.15*float64(least)
	}
	if n.similarity >= likeEnough {
		return 0.5
	}
	return 0
}

// distance is how many letters must be changed, added, left out, or swapped with
// the next, to make b of a; limit+1 when it is more than limit.
func distance(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if abs(len(x)-len(y)) > limit {
		return limit + 1
	}
	// Three rows of the table: a swap looks two back.
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(y)], limit+1)
}

func abs(n int) int {
	return max(n, -n)
}
