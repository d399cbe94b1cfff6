package memory

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// memo is a text of some seventy words, in which a change of one is hardly seen.
const memo = `The customer met us in Berlin on 12 March and was very clear about the terms of the new contract. ` +
	`Alice Meyer manages the budget of 40,000 euros and that is final; Bob Hansen signs on her behalf. ` +
	`They want delivery before summer, do not accept partial shipments, and are happy to pay at the end of each month. ` +
	`Questions go to alice@example.com, and also to the office of her assistant, who is in Hamburg on Mondays.`

func TestWhatSaysTheSame(t *testing.T) {
	t.Parallel()
	in := func(old, by string) string {
		if !strings.Contains(memo, old) {
			t.Fatalf("the memo does not say %q", old)
		}
		return strings.Replace(memo, old, by, 1)
	}
	for name, tc := range map[string]struct {
		a, b string
		want bool
	}{
		"the same text":                {"likes tea", "likes tea", true},
		"space":                        {"likes tea", "  likes\t\n tea ", true},
		"case":                         {"likes tea", "Likes TEA", true},
		"a full stop":                  {"likes tea", "Likes tea.", true},
		"commas":                       {"likes tea, milk and rum", "likes tea milk, and rum!", true},
		"marks of a text":              {"**likes** _tea_", "likes `tea`", true},
		"kinds of quotation marks":     {`the so-called “expert” doesn’t know`, `The so-called "expert" doesn't know.`, true},
		"bullets":                      {"- likes tea\n- likes rum", "• likes tea\n• likes rum", true},
		"lines and dashes":             {"tea — not rum", "tea\n– not rum", true},
		"the":                          {"Prefers the dark theme", "prefers dark theme", true},
		"please":                       {"Please answer in French", "Answer in French", true},
		"spellings of e-mail":          {"prefers e-mail", "prefers email", true},
		"other alphabets":              {"любит ЧАЙ.", "любит чай", true},
		"nothing but signs":            {"?!", "?!", true},
		"nothing but the":              {"the the", "The the", true},
		"a memo as it is":              {memo, strings.ToUpper(memo), true},
		"a small word of a memo":       {memo, in("that is final", "is final"), true},
		"another small word of a memo": {memo, in("met us in Berlin", "met us at Berlin"), true},

		"other words":                    {"likes tea", "likes the sea", false},
		"a word more":                    {"likes tea", "likes green tea", false},
		"a synonym":                      {"is fond of tea", "is keen on tea", false},
		"one letter":                     {"Alice was hired", "Alice was fired", false},
		"a question":                     {"likes tea", "likes tea?", false},
		"a number":                       {"owes 500 euros", "owes 600 euros", false},
		"a number in words":              {"has two cats", "has ten cats", false},
		"a decimal point":                {"rate of 1.5", "rate of 15", false},
		"where thousands end":            {"owes 1,500", "owes 1.500", false},
		"a minus":                        {"balance -5", "balance 5", false},
		"a minus apart":                  {"balance - 5", "balance 5", false},
		"brackets of an accountant":      {"result (500)", "result 500", false},
		"feet and inches":                {"is 6' tall", `is 6" tall`, false},
		"a currency":                     {"paid $5", "paid €5", false},
		"a percentage":                   {"wants 5 %", "wants 5", false},
		"less and more":                  {"churn < 5", "churn > 5", false},
		"a date":                         {"meets on 2026-03-01", "meets on 2026-03-02", false},
		"a time":                         {"call at 10:30", "call at 10:45", false},
		"a weekday":                      {"call on Monday", "call on Sunday", false},
		"not":                            {"does not like tea", "does like tea", false},
		"n't":                            {"doesn't like tea", "does like tea", false},
		"never":                          {"never late", "late", false},
		"without":                        {"tea with milk", "tea without milk", false},
		"a comma after no":               {"No, refunds are allowed", "No refunds are allowed", false},
		"a comma after don't":            {"don't, stop now", "don't stop now", false},
		"before and after":               {"call before noon", "call after noon", false},
		"to and from":                    {"flies to Berlin", "flies from Berlin", false},
		"was":                            {"is a customer", "was a customer", false},
		"doubt":                          {"may sign", "will sign", false},
		"few":                            {"has few friends", "has a few friends", false},
		"vitamins":                       {"takes vitamin a daily", "takes vitamin daily", false},
		"a name":                         {"met Alice", "met Alina", false},
		"who does it to whom":            {"Alice manages Bob", "Bob manages Alice", false},
		"a country":                      {"Moved to the US", "Moved to us", false},
		"an e-mail address":              {"write to a@example.com", "write to b@example.com", false},
		"a host":                         {"see example.com", "see example.org", false},
		"languages of programmers":       {"knows C++", "knows C", false},
		"more of them":                   {"knows C#", "knows C++", false},
		"a thumb":                        {"the plan 👍", "the plan 👎", false},
		"a hyphen":                       {"will re-sign the contract", "will resign the contract", false},
		"an accent":                      {"año", "ano", false},
		"a small word of a short text":   {"believes in it", "believes it", false},
		"signs":                          {"?!", "!?", false},
		"a unit":                         {"makes 5 mW of power", "makes 5 MW of power", false},
		"a unit at its number":           {"makes 5mW of power", "makes 5MW of power", false},
		"a name in a program":            {"the field is userId", "the field is userid", false},
		"a password":                     {"the code is aB3x", "the code is ab3x", false},
		"a path":                         {"see /srv/Data on the host", "see /srv/data on the host", false},
		"a grade":                        {"got an A* in maths", "got an A in maths", false},
		"a name that begins with a line": {"the key is _id there", "the key is id there", false},
		"a comma after no, quoted":       {`answered "No," refunds are allowed`, "answered no refunds are allowed", false},
		"a dash after no":                {"No – refunds are allowed", "No refunds are allowed", false},
		"three dots after no":            {"No… refunds are allowed", "No refunds are allowed", false},
		"no in brackets":                 {"refunds (no) returns", "refunds no returns", false},
		"a comma after не":               {"нет, возврат есть", "нет возврат есть", false},
		"a number of a memo":             {memo, in("40,000", "45,000"), false},
		"a date of a memo":               {memo, in("12 March", "13 March"), false},
		"a not of a memo":                {memo, in("do not accept", "do accept"), false},
		"a name of a memo":               {memo, in("Bob Hansen", "Bob Hanson"), false},
		"two names of a memo":            {memo, strings.NewReplacer("Alice Meyer", "Bob Hansen", "Bob Hansen", "Alice Meyer").Replace(memo), false},
		"an address of a memo":           {memo, in("alice@", "alicia@"), false},
		"a direction of a memo":          {memo, in("before summer", "after summer"), false},
		"a word more of a memo":          {memo, in("are happy", "are mostly happy"), false},
		"a sentence more of a memo":      {memo, memo + " All of this is void.", false},
		"two small words of a memo":      {memo, in("in Berlin on 12 March and was", "Berlin 12 March was"), false},
		"a question of a memo":           {memo, in("Mondays.", "Mondays?"), false},
		"the day of a memo, as a suffix": {memo, in("12 March", "12th March"), false},
	} {
		a, b := readingOf("fact", tc.a, nil, true), readingOf("fact", tc.b, nil, true)
		if got := a.same(b); got != tc.want {
			t.Errorf("%s: %v, want %v\n%q\n%q", name, got, tc.want, tc.a, tc.b)
		}
		if b.same(a) != a.same(b) {
			t.Errorf("%s: it depends on which is first", name)
		}
		if !a.same(a) {
			t.Errorf("%s: a text does not say what it says", name)
		}
		if a.same(b) && a.mark != b.mark {
			t.Errorf("%s: they say the same and nobody finds them", name)
		}
	}
}

// What an English reader takes for a small word may be any word elsewhere.
func TestSmallWordsAreThoseOfEnglish(t *testing.T) {
	t.Parallel()
	other := strings.Replace(memo, "that is final", "is final", 1)
	if readingOf("fact", memo, nil, false).same(readingOf("fact", other, nil, false)) {
		t.Error("a small English word was left out of a text of another language")
	}
	if readingOf("fact", memo, nil, false).same(readingOf("fact", other, nil, true)) {
		t.Error("two texts were read as of two languages")
	}
}

func TestEqualTextsAboutOthersAreTwoMemories(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kind string
		a, b string
		want bool
	}{
		"the same":                 {"fact", `{"person": "Bob"}`, `{"person": "Bob"}`, true},
		"heard elsewhere":          {"fact", `{"source": "chat-1"}`, `{"source": "chat-2", "session": 7}`, true},
		"another person":           {"fact", `{"person": "Bob"}`, `{"person": "Eve"}`, false},
		"nobody":                   {"fact", `{"person": "Bob"}`, `{}`, false},
		"another company":          {"fact", `{"company": ["A", "B"]}`, `{"company": ["A", "C"]}`, false},
		"another day":              {"fact", `{"date": "2026-01-01"}`, `{"date": "2026-02-01"}`, false},
		"another amount":           {"fact", `{"amount": 5}`, `{"amount": 6}`, false},
		"another category":         {"fact", `{"category": "seats"}`, `{"category": "screens"}`, false},
		"other lines of the graph": {"fact", `{"relationships": [{"source": "a"}]}`, `{"relationships": []}`, false},
		"another kind":             {"preference", `{}`, `{}`, false},
	} {
		var a, b map[string]any
		for text, into := range map[string]*map[string]any{tc.a: &a, tc.b: &b} {
			if err := json.Unmarshal([]byte(text), into); err != nil {
				t.Fatal(err)
			}
		}
		if a == nil {
			a = b // the same text twice is one key
		}
		if b == nil {
			b = a
		}
		x, y := readingOf(tc.kind, "likes tea", a, true), readingOf("fact", "likes tea", b, true)
		if got := x.same(y); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		if !tc.want && x.mark == y.mark {
			t.Errorf("%s: they have the same mark", name)
		}
	}
}

// Texts of the greatest size are read in one go.
func TestLongTextsAreComparedInTime(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := 0; text.Len() < MaxContent; i++ {
		fmt.Fprintf(&text, "word%d of the ", i)
	}
	long := text.String()
	a, b := readingOf("fact", long, nil, true), readingOf("fact", long+"of", nil, true)
	if !a.same(b) {
		t.Error("one small word more is another text")
	}
	if c := readingOf("fact", long+"5", nil, true); a.same(c) {
		t.Error("a number more is the same text")
	}
}

func FuzzReading(f *testing.F) {
	f.Add("likes tea", "Likes the tea.")
	f.Add(memo, "no, - 5 ?! \xff (a)")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := readingOf("fact", a, nil, true), readingOf("fact", b, nil, true)
		if x.same(y) != y.same(x) || !x.same(x) || (x.same(y) && x.mark != y.mark) {
			t.Errorf("%q and %q", a, b)
		}
		if x.same(y) && strings.ContainsAny(a, "0123456789") != strings.ContainsAny(b, "0123456789") {
			t.Errorf("a number more or less: %q and %q", a, b)
		}
	})
}

func BenchmarkReading(b *testing.B) {
	for name, text := range map[string]string{"short": "Prefers the dark theme in all applications.", "memo": memo} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				readingOf("fact", text, nil, true)
			}
		})
	}
}
