package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// corpus writes memories as customers and agents leave them: records of a CRM,
// notes, preferences. A few hundred words are used often and ten thousand seldom,
// as in any language, so that what is searched for is as rare as in life.
type corpus struct {
	random *rand.Rand
	words  []string // the most used first
	zipf   *rand.Zipf
	names  []string
	firms  []string
	cities []string
}

const (
	corpusWords = 12000
	corpusNames = 4000
	corpusFirms = 6000
)

func newCorpus(seed uint64) *corpus {
	c := &corpus{random: rand.New(rand.NewPCG(seed, 1))}
	c.words = strings.Fields(commonWords)
	for len(c.words) < corpusWords {
		c.words = append(c.words, c.made(2, 3))
	}
	c.zipf = rand.NewZipf(c.random, 1.05, 20, corpusWords-1)
	for range corpusNames {
		c.names = append(c.names, titled(c.made(2, 3)))
	}
	for range corpusFirms {
		c.firms = append(c.firms, titled(c.made(2, 3))+" "+pick(c.random, strings.Fields("Steel Foods Labs Motors Textiles Energy Logistics Partners Media Systems")))
	}
	c.cities = strings.Fields("Berlin Hamburg Munich Vienna Zurich Paris Lyon Madrid Lisbon London Leeds Dublin Oslo Stockholm Warsaw Prague Boston Chicago Denver Austin")
	return c
}

// made is a word that no dictionary has, of a few syllables.
func (c *corpus) made(least, most int) string {
	var word strings.Builder
	for range least + c.random.IntN(most-least+1) {
		word.WriteString(pick(c.random, onsets) + pick(c.random, nuclei) + pick(c.random, codas))
	}
	return word.String()
}

func (c *corpus) word() string { return c.words[c.zipf.Uint64()] }

func (c *corpus) sentence(n int) string {
	words := make([]string, n)
	for i := range words {
		words[i] = c.word()
	}
	return titled(strings.Join(words, " ")) + "."
}

func (c *corpus) person() (first, last string) {
	return pick(c.random, firstNames), pick(c.random, c.names)
}

// memory is one memory: its kind and its text, of 60 to 400 bytes.
func (c *corpus) memory() (kind, content string) {
	first, last := c.person()
	firm := pick(c.random, c.firms)
	city := pick(c.random, c.cities)
	number := c.random.IntN(1_000_000)
	switch c.random.IntN(8) {
	case 0:
		return "contact", fmt.Sprintf("Contact %s %s of %s\nAccount Name: %s\nDescription: %s\nEmail: %s.%s@%s.example\nFirst Name: %s\nLast Name: %s\nMailing City: %s\nPhone: +49 30 %06d\nTitle: Head of %s",
			first, last, firm, firm, c.sentence(10), strings.ToLower(first), strings.ToLower(last), strings.ToLower(strings.Fields(firm)[0]), first, last, city, number, titled(c.word()))
	case 1:
		return "deal", fmt.Sprintf("Deal %s %s of %s\nAccount Name: %s\nAmount: %d.00\nClosing Date: 2025-%02d-%02d\nDeal Name: %s\nDescription: %s\nStage: Negotiation",
			titled(c.word()), c.word(), firm, firm, number, 1+c.random.IntN(12), 1+c.random.IntN(28), c.word(), c.sentence(12))
	case 2, 3:
		return "note", fmt.Sprintf("Note %s of %s\nNote Content: %s %s %s", c.word(), firm, c.sentence(14), c.sentence(10), c.sentence(16))
	case 4:
		return "task", fmt.Sprintf("Task Call %s %s of %s\nDue Date: 2025-%02d-%02d\nStatus: Not Started\nSubject: %s", first, last, firm, 1+c.random.IntN(12), 1+c.random.IntN(28), c.sentence(5))
	case 5:
		return "preference", fmt.Sprintf("%s %s prefers %s to %s, %s", first, last, c.word(), c.word(), c.sentence(6))
	case 6:
		return "fact", fmt.Sprintf("%s of %s in %s ordered %d units: %s", first, firm, city, number%900+10, c.sentence(9))
	default:
		return "conversation", fmt.Sprintf("%s %s asked about %s. %s %s", first, last, c.sentence(4), c.sentence(12), c.sentence(9))
	}
}

// query is what somebody looks for who remembers a part of a memory: two to four
// of its words; every third time one is typed wrong.
func (c *corpus) query(content string) (text string, typo bool) {
	words := strings.FieldsFunc(content, func(r rune) bool { return strings.ContainsRune(" \n:.,", r) })
	n := 2 + c.random.IntN(3)
	var chosen []string
	for range n {
		chosen = append(chosen, words[c.random.IntN(len(words))])
	}
	if c.random.IntN(3) == 0 {
		right := chosen[0]
		chosen[0] = c.mistyped(right)
		typo = chosen[0] != right
	}
	return strings.Join(chosen, " "), typo
}

// mistyped swaps two letters, or leaves one out.
func (c *corpus) mistyped(word string) string {
	if len(word) < 5 {
		return word
	}
	at := 1 + c.random.IntN(len(word)-2)
	if c.random.IntN(2) == 0 {
		return word[:at] + word[at+1:]
	}
	return word[:at] + word[at+1:at+2] + word[at:at+1] + word[at+2:]
}

func titled(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

func pick(random *rand.Rand, from []string) string { return from[random.IntN(len(from))] }

var (
	onsets     = strings.Fields("b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sch st t tr v w z")
	nuclei     = strings.Fields("a e i o u a e i o au ei")
	codas      = []string{"", "", "", "", "", "n", "r", "l", "s", "t", "m"}
	firstNames = strings.Fields("Jane John Ada Alan Grace Linus Maria Peter Anna Paul Laura Tom Nina Max Clara Felix Emma Leo Sofia Hugo Ines Omar Lena Karl Yuki Ravi Mei Ivan Olga Sven Eva Nils Ruth Carl Iris Otto Vera Emil Rosa Kurt")
)

// commonWords are those that are used most.
const commonWords = `the to of and a in for on is with will be by it we from that this not are
meeting invoice contract price offer order customer delivery payment team call email project budget product
manager support request question renewal discount quarter report date week month year plan schedule review agreement
license account service training demo proposal feedback issue problem solution decision deadline sales marketing finance
purchase shipping warehouse quality sample quantity machine steel paper software hardware update version feature
integration security access user password login system network server cloud storage backup migration database
morning afternoon evening monday tuesday wednesday thursday friday english german french spanish language phone
coffee tea lunch dinner vegetarian allergy hotel flight train travel office remote visit conference fair booth
likes wants needs asks says confirmed agreed refused cancelled moved changed sent received signed paid ordered
before after during until since about without between under over only always never often soon later again urgent
new old big small good bad fast slow cheap expensive early late important final first last next open closed`
