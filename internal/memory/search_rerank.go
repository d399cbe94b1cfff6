package memory

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

const (
	// maxEmbedded bounds what is embedded of a memory, in bytes: models take some
	// thousand words.
	maxEmbedded = 8000
	// restTime is how long an embedder that failed is not asked again.
	restTime = 10 * time.Second
	// partMeaning is how much of a score the embedder says.
	partMeaning = 0.5
)

// Embedder says what texts mean, as vectors: near ones mean the like.
type Embedder interface {
	// Embed returns a vector for each text, in their order.
	Embed(ctx context.Context, texts []string) ([][]float32, error)
	// Model names what makes the vectors: those of different models do not compare.
	Model() string
}

// rest keeps searches from waiting for an embedder that has just failed.
type rest struct {
	mu    sync.Mutex
	until time.Time
}

func (r *rest) over(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !now.Before(r.until)
}

func (r *rest) begin(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = now.Add(restTime)
}

// rerank puts the best of found in the order that their words and what they mean to
// the embedder say together. The rest stay behind them: of what they mean nothing is
// known. When the embedder is of no help found stays as it is, and the embedder is
// left alone for a while; the log says so.
func (s *Searcher) rerank(ctx context.Context, text string, found []Found) {
	if !s.rest.over(s.o.Now()) {
		return
	}
	best := found[:min(maxReranked, len(found))]
	cosines, err := s.cosines(ctx, text, best)
	if err != nil {
		// A caller that has left says nothing about the embedder.
		if ctx.Err() == nil {
			s.rest.begin(s.o.Now())
			s.o.Log.WarnContext(ctx, "searching without the embedder", slog.Any("error", err), slog.Duration("for", restTime))
		}
		return
	}
	for i := range found {
		found[i].Score *= 1 - partMeaning
	}
	for i := range best {
		best[i].Score += partMeaning * max(cosines[i], 0)
	}
	slices.SortStableFunc(best, func(a, b Found) int { return cmp.Compare(b.Score, a.Score) })
}

// cosines says how near in meaning each memory is to a text, -1 to 1.
func (s *Searcher) cosines(ctx context.Context, text string, found []Found) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.EmbedTimeout)
	defer cancel()
	vectors, err := s.known(ctx, found)
	if err != nil {
		return nil, err
	}
	texts, missing := []string{text}, []int{}
	for i, f := range found {
		if vectors[i] == nil {
			texts, missing = append(texts, embedded(f.Content)), append(missing, i)
		}
	}
	made, err := s.o.Embedder.Embed(ctx, texts)
	if err != nil {
		return nil, fmt.Errorf("embed: %w", err)
	}
	if err := checkVectors(made, len(texts)); err != nil {
		return nil, err
	}
	fresh := make([]Found, len(missing))
	for k, i := range missing {
		vectors[i], fresh[k] = made[k+1], found[i]
	}
	if err := s.keep(ctx, fresh, made[1:]); err != nil {
		s.o.Log.WarnContext(ctx, "embeddings not kept", slog.Any("error", err))
	}
	cosines := make([]float64, len(found))
	var stale []Found
	for i, v := range vectors {
		if len(v) != len(made[0]) {
			stale = append(stale, found[i])
			continue
		}
		cosines[i] = cosine(made[0], v)
	}
	if len(stale) > 0 {
		return nil, s.forget(ctx, stale)
	}
	return cosines, nil
}

// known returns the vectors that are kept of memories as they are now, nil for
// none.
func (s *Searcher) known(ctx context.Context, found []Found) ([][]float32, error) {
	ids := make([]uuid.UUID, len(found))
	at := make(map[uuid.UUID]int, len(found))
	for i, f := range found {
		ids[i], at[f.ID] = f.ID, i
	}
	rows, err := db.New(s.pool).ListEmbeddings(ctx, db.ListEmbeddingsParams{Ids: ids, Model: s.o.Embedder.Model()})
	if err != nil {
		return nil, fmt.Errorf("list embeddings: %w", err)
	}
	vectors := make([][]float32, len(found))
	for _, r := range rows {
		i := at[r.MemoryID]
		if sum := checksumOf(found[i].Content); bytes.Equal(sum[:], r.Checksum) {
			vectors[i] = r.Embedding
		}
	}
	return vectors, nil
}

// keep stores the vectors of memories, all of one length.
func (s *Searcher) keep(ctx context.Context, found []Found, vectors [][]float32) error {
	if len(found) == 0 {
		return nil
	}
	p := db.SaveEmbeddingsParams{Model: s.o.Embedder.Model(), Numbers: slices.Concat(vectors...)}
	dimension := len(vectors[0])
	for i, f := range found {
		sum := checksumOf(f.Content)
		p.Ids, p.Checksums = append(p.Ids, f.ID), append(p.Checksums, sum[:])
		p.Firsts, p.Lasts = append(p.Firsts, int32(i*dimension+1)), append(p.Lasts, int32((i+1)*dimension)) //nolint:gosec // fifty vectors of some thousand
	}
	return db.New(s.pool).SaveEmbeddings(ctx, p)
}

// forget removes vectors that were made otherwise than today's, as after a change
// of the model behind its name: the next search has them made anew.
func (s *Searcher) forget(ctx context.Context, found []Found) error {
	ids := make([]uuid.UUID, len(found))
	for i, f := range found {
		ids[i] = f.ID
	}
	if err := db.New(s.pool).DeleteEmbeddings(ctx, ids); err != nil {
		return fmt.Errorf("delete embeddings: %w", err)
	}
	return errors.New("the embedder's vectors have another length than before")
}

// maxDimension bounds a vector: no model comes near it.
const maxDimension = 16384

// checkVectors refuses an answer that cannot be compared.
func checkVectors(vectors [][]float32, want int) error {
	if len(vectors) != want {
		return fmt.Errorf("the embedder made %d vectors of %d texts", len(vectors), want)
	}
	for _, v := range vectors {
		if len(v) == 0 || len(v) > maxDimension || len(v) != len(vectors[0]) {
			return errors.New("the embedder's vectors are of different lengths, or of none")
		}
		for _, x := range v {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return errors.New("the embedder's vectors hold what is no number")
			}
		}
	}
	return nil
}

func cosine(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return dot / math.Sqrt(aa*bb)
}

// embedded is what is embedded of a memory.
func embedded(content string) string {
	if len(content) <= maxEmbedded {
		return content
	}
	return strings.ToValidUTF8(content[:maxEmbedded], "")
}

func checksumOf(content string) [32]byte { return sha256.Sum256([]byte(embedded(content))) }
