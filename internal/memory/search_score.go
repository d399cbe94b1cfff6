package memory

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
)

// How much of a score is what; the parts are 1 together.
const (
	partWords    = 0.80 // how many of the words it has, rare ones for more
	partNearness = 0.05 // how near all of them stand
	partPhrase   = 0.05 // all of them, beside each other
	partWeight   = 0.05 // how often they are said in how much text
	partNew      = 0.05
)

const (
	// halfLife is after which time being new counts half.
	halfLife = 180 * 24 * time.Hour
	// leastRarity is what a word counts that all candidates have.
	leastRarity = 0.3
	// usualRank is a rank of Postgres' that is neither high nor low.
	usualRank = 0.1
)

// candidate is a memory that may be found, and what speaks for it.
type candidate struct {
	id        uuid.UUID
	updatedAt time.Time
	fits      []float64 // how well, for each word; nil: no word led to it
	likeness  float64   // to the whole text, where no word led to it
	weight    float64
	nearness  float64
	phrase    bool
}

// place is where a memory stands in the answer.
type place struct {
	id    uuid.UUID
	score float64
}

// ranked returns all candidates, best first. Equal ones stand newest first.
func (l *look) ranked() []place {
	rarity := make([]float64, len(l.words))
	for i := range l.words {
		rarity[i] = rarityOf(l.spread(i), len(l.found))
	}
	all := make([]candidate, 0, len(l.found))
	scores := make(map[uuid.UUID]float64, len(l.found))
	for _, c := range l.found {
		all = append(all, c)
		scores[c.id] = c.score(rarity, l.now)
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(scores[b.id], scores[a.id]), b.updatedAt.Compare(a.updatedAt), bytes.Compare(a.id[:], b.id[:]))
	})
	places := make([]place, len(all))
	for i, c := range all {
		places[i] = place{id: c.id, score: scores[c.id]}
	}
	return places
}

// rarityOf is what a word counts that n of all candidates have: as in BM25, and
// never nothing.
func rarityOf(n, all int) float64 {
	return leastRarity + math.Log(1+(float64(all-n)+0.5)/(float64(n)+0.5))
}

func (c candidate) score(rarity []float64, now time.Time) float64 {
	score := partNew * math.Exp2(-float64(max(now.Sub(c.updatedAt), 0))/float64(halfLife))
	if c.fits == nil {
		return score + partWords/2*c.likeness
	}
	var has, all float64
	for i, r := range rarity {
		has += r * c.fits[i]
		all += r
	}
	score += partWords * has / all
	score += partNearness * c.nearness / (c.nearness + usualRank)
	score += partWeight * c.weight / (c.weight + usualRank)
	if c.phrase {
		score += partPhrase
	}
	return score
}
