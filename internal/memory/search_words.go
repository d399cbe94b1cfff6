package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/memrelay/memrelay/db"
)

// maxWords is how many words of a query are looked for: the first.
const maxWords = 24

// word is a word of a query, and what stands for it.
type word struct {
	text  string // small letters, without what stands around it, as quotes
	terms []term // itself first
}

// term is one way to say a word.
type term struct {
	query  string // a tsquery as Postgres wrote it
	weight float64
}

// parse reads the query's words. One that the language does not look for, as
// "the", is left out.
func (l *look) parse(ctx context.Context) error {
	texts := split(l.query.Text)
	if len(texts) == 0 {
		return nil
	}
	rows, err := l.q.ParseWords(ctx, db.ParseWordsParams{Language: l.s.o.Language, Text: l.query.Text, Words: texts})
	if err != nil {
		return fmt.Errorf("parse the query: %w", err)
	}
	queries := make(map[string]string, len(rows))
	for _, r := range rows {
		queries[r.Word] = r.Query
		l.phrase = r.Phrase
	}
	for _, text := range texts {
		if q := queries[text]; q != "" && !slices.ContainsFunc(l.words, func(w word) bool { return w.terms[0].query == q }) {
			l.words = append(l.words, word{text: trim(text), terms: []term{{query: q, weight: 1}}})
		}
	}
	return nil
}

// split returns the different words of a text, at most maxWords.
func split(text string) []string {
	var words []string
	for _, w := range strings.Fields(strings.ToLower(text)) {
		if trim(w) != "" && !slices.Contains(words, w) && len(words) < maxWords {
			words = append(words, w)
		}
	}
	return words
}

// trim takes quotes, brackets and the like off a word's ends.
func trim(word string) string {
	return strings.TrimFunc(word, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) })
}

// stem is what Postgres made of a word, "" when it made several of it.
func (w word) stem() string {
	query := w.terms[0].query
	inner, ok := strings.CutPrefix(query, "'")
	if !ok || strings.Count(query, "'") != 2 || !strings.HasSuffix(inner, "'") {
		return ""
	}
	return strings.TrimSuffix(inner, "'")
}

// quoted is a lexeme as a tsquery.
func quoted(lexeme string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(lexeme) + "'"
}

// anyOf is the query for memories that have any of the words, "" for none.
func anyOf(words []word) string { return join(words, " | ") }

// allOf is the query for memories that have each of the words in one way.
func allOf(words []word) string { return join(words, " & ") }

func join(words []word, operator string) string {
	parts := make([]string, len(words))
	for i, w := range words {
		ways := make([]string, len(w.terms))
		for k, t := range w.terms {
			ways[k] = "( " + t.query + " )"
		}
		parts[i] = "( " + strings.Join(ways, " | ") + " )"
	}
	return strings.Join(parts, operator)
}

// fits says how well a memory fits each word, 0 to 1: has says which of all the
// words' terms it has.
func fits(words []word, has []bool) []float64 {
	all := make([]float64, len(words))
	n := 0
	for i, w := range words {
		for _, t := range w.terms {
			if n < len(has) && has[n] {
				all[i] = max(all[i], t.weight)
			}
			n++
		}
	}
	return all
}
