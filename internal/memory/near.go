package memory

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// leastLikeness is how alike two texts are at least, as the share of their runs of
// three words that both have, when one has small words that the other has not.
// One such word more or less keeps that only in texts of some fifty words.
const leastLikeness = 0.9

// reading is a memory as it is held against others. Two say the same when their
// kinds, their meanings and their words are equal, in order. What may differ is how
// they are written: space, case, punctuation, "the"; in long texts that are
// otherwise alike some small words, too. Everything else is knowledge, a number, a
// name, a "not", and whoever merged it away would destroy it.
type reading struct {
	kind    string
	meaning string   // what the metadata says of what it is about
	words   []string // in lower case, without punctuation
	said    []string // words without those that never say anything
	core    []string // said without small words
	mark    int64    // equal for two that say the same, and seldom for others
}

// readingOf reads a memory. Small words are left out of English ones alone: "an"
// is an article here and a direction elsewhere.
func readingOf(kind, content string, metadata map[string]any, english bool) reading {
	r := reading{kind: kind, meaning: meaningOf(metadata), words: wordsOf(content)}
	if len(r.words) == 0 {
		r.words = strings.Fields(content) // nothing but signs: they are what it says
	}
	for _, w := range r.words {
		if isEmpty(w) {
			continue
		}
		r.said = append(r.said, w)
		if !english || !isSmall(w) {
			r.core = append(r.core, w)
		}
	}
	if len(r.core) == 0 {
		r.said, r.core = r.words, r.words
	}
	r.mark = markOfReading(r)
	return r
}

func markOfReading(r reading) int64 {
	sum := sha256.New()
	for _, part := range append([]string{r.kind, r.meaning}, r.core...) {
		sum.Write([]byte(part))
		sum.Write([]byte{0})
	}
	return int64(binary.BigEndian.Uint64(sum.Sum(nil))) //nolint:gosec // any 64 bits do
}

// same reports whether two say the same.
func (r reading) same(o reading) bool {
	if r.kind != o.kind || r.meaning != o.meaning || !slices.Equal(r.core, o.core) {
		return false
	}
	return slices.Equal(r.said, o.said) || alike(r.words, o.words) >= leastLikeness
}

// alike is the share of runs of three words that two texts have in common, from 0
// to 1 (Jaccard's index).
func alike(a, b []string) float64 {
	x, y := runsOfThree(a), runsOfThree(b)
	both := 0
	for run := range x {
		if y[run] {
			both++
		}
	}
	if all := len(x) + len(y) - both; all > 0 {
		return float64(both) / float64(all)
	}
	return 0
}

func runsOfThree(words []string) map[[3]string]bool {
	runs := make(map[[3]string]bool, len(words))
	for i := 0; i+2 < len(words); i++ {
		runs[[3]string(words[i:i+3])] = true
	}
	return runs
}

// isEmpty are words that say nothing wherever they stand. "a" is none of them: few
// friends are not a few.
func isEmpty(word string) bool { return word == "the" || word == "please" }

// isSmall are words that say little. Words of direction, time, number, doubt and
// denial are none of them.
func isSmall(word string) bool {
	switch word {
	case "of", "in", "on", "at", "and", "that", "is", "are", "also", "really", "very":
		return true
	}
	return false
}

// denies are words after which a pause matters: "no, refunds" and "no refunds".
func denies(word string) bool {
	switch word {
	case "no", "not", "never", "none", "nor", "stop", "cannot", "non", "nein", "nicht", "kein", "nie", "ne", "pas", "nunca",
		"niet", "nee", "geen", "não", "нет", "не":
		return true
	}
	return strings.HasSuffix(word, "n't")
}

// isName are words that mean something else in capitals.
func isName(capitals string) bool {
	switch capitals {
	case "US", "IT", "WHO", "AIDS", "OR", "IN", "ME", "AM", "MAY":
		return true
	}
	return false
}

// maxUnit is how many letters a unit has at most: mW and MW are two.
const maxUnit = 3

// isWritten reports whether a word's capitals are a part of it: a unit behind a
// number, what holds a digit, a path, userId.
func isWritten(word, before string) bool {
	lower := false
	for _, r := range word {
		if lower && unicode.IsUpper(r) {
			return true
		}
		lower = unicode.IsLower(r)
	}
	return hasDigit(word) || strings.ContainsAny(word, `/\_`) || (hasDigit(before) && utf8.RuneCountInString(word) <= maxUnit)
}

// wordsOf cuts a text into words: in lower case, without the punctuation around
// them. Signs that mean something stay: question marks, currencies, operators,
// and all that stands at a digit but a full stop or a comma behind it.
func wordsOf(content string) []string {
	chunks := strings.Fields(strings.ReplaceAll(content, "’", "'"))
	mixed := strings.ContainsFunc(content, unicode.IsLower)
	markup := markupIn(chunks)
	words := make([]string, 0, len(chunks))
	for i, chunk := range chunks {
		before, behind := around(chunks, i)
		if isBullet(chunk) && !hasDigit(before) && !hasDigit(behind) {
			continue
		}
		word := bare(chunk, markup)
		if !mixed || !(isName(word) || isWritten(word, before)) {
			word = strings.ToLower(word)
		}
		switch {
		case word == "":
			continue
		case denies(word) && behind != "" && (isBullet(behind) || !endsInLetter(chunk)):
			word += ","
		case word == "e-mail", word == "e-mails":
			word = strings.Replace(word, "-", "", 1)
		}
		words = append(words, word)
	}
	return words
}

// around are the chunks before and behind one, "" where there is none.
func around(chunks []string, i int) (before, behind string) {
	if i > 0 {
		before = chunks[i-1]
	}
	if i+1 < len(chunks) {
		behind = chunks[i+1]
	}
	return before, behind
}

func endsInLetter(chunk string) bool {
	last, _ := utf8.DecodeLastRuneInString(chunk)
	return unicode.IsLetter(last)
}

// markupIn are the signs that make words bold, or a program's, in a text: they stand
// before a word and behind it or a later one. Alone they are a part of it: A*, _id.
func markupIn(chunks []string) string {
	markup := ""
	for _, sign := range []string{"*", "_", "`"} {
		opens := slices.IndexFunc(chunks, func(chunk string) bool { return strings.HasPrefix(chunk, sign) && !isBullet(chunk) })
		closes := func(chunk string) bool {
			return strings.HasSuffix(strings.TrimRight(chunk, ".,;:!?"), sign) && !isBullet(chunk)
		}
		if opens >= 0 && slices.ContainsFunc(chunks[opens:], closes) {
			markup += sign
		}
	}
	return markup
}

// bare is a chunk without the punctuation and the markup around it.
func bare(chunk, markup string) string {
	if hasDigit(chunk) {
		return strings.TrimRight(chunk, ".,;:!")
	}
	chunk = strings.TrimRight(chunk, "\".,;:!…')]}”’»"+markup)
	return strings.TrimLeft(chunk, "\"'([{“„‘«"+markup)
}

func hasDigit(text string) bool { return strings.ContainsFunc(text, unicode.IsDigit) }

// isBullet reports whether a chunk is a sign between words or before a line. Beside
// a digit it may be a minus.
func isBullet(chunk string) bool { return strings.Trim(chunk, "-–—•·*") == "" }

// meaningOf is what metadata says of whom or what a memory is about, when, and how
// much: equal texts about two persons are two memories. Other keys may be one's alone.
func meaningOf(metadata map[string]any) string {
	about := map[string]any{}
	for key, value := range metadata {
		if _, entity := entityKinds()[key]; entity || isMeaning(key) {
			about[key] = value
		}
	}
	if len(about) == 0 {
		return ""
	}
	text, _ := json.Marshal(about) // keys in order
	return string(text)
}

func isMeaning(key string) bool {
	switch key {
	case "relationships", "date", "when", "due", "due_date", "event_date", "start", "end", "valid_from", "valid_until",
		"amount", "value", "price", "quantity", "currency", "status", "stage", "subject":
		return true
	}
	return false
}

// contradicts reports whether two metadata say different things under one key. That
// two were heard at different places is none.
func contradicts(a, b map[string]any) bool {
	for key, value := range a {
		if other, both := b[key]; both && !isProvenance(key) && !sameJSON(value, other) {
			return true
		}
	}
	return false
}

// isProvenance are keys that say where, when and how surely something was heard.
func isProvenance(key string) bool {
	switch key {
	case "source", "session", "session_id", "conversation", "conversation_id", "thread", "thread_id", "message_id", "chat_id", "run_id",
		"agent_id", "confidence", "created_at", "updated_at", "timestamp", "modified_time":
		return true
	}
	return false
}
