package group

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// nowhere begins transactions that keep nothing: what is left is the line itself.
type nowhere struct{ pgx.Tx }

func (n nowhere) Begin(context.Context) (pgx.Tx, error) { return n, nil }
func (nowhere) Commit(context.Context) error            { return nil }
func (nowhere) Rollback(context.Context) error          { return pgx.ErrTxClosed }

// BenchmarkDo is what handing over one unit of one key costs, the commit left out:
// alone, and with 1,000 callers at one time.
func BenchmarkDo(b *testing.B) {
	write := func(_ context.Context, _ pgx.Tx, _ int, units []int) ([]Answer[int], error) {
		return make([]Answer[int], len(units)), nil
	}
	for _, bm := range []struct {
		name    string
		callers int // for each processor
	}{{"one caller", 0}, {"1,000 callers", 500}} {
		b.Run(bm.name, func(b *testing.B) {
			c := New(nowhere{}, write, func(int) int { return 300 }, Options{})
			b.ReportAllocs()
			if bm.callers == 0 {
				for b.Loop() {
					if _, err := c.Do(b.Context(), 1); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.SetParallelism(bm.callers)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if _, err := c.Do(b.Context(), 1); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
