package endpoint

import (
	"math"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		limit  float32
		during time.Duration
		want   int // requests in that time, a second's worth beside them
	}{
		"ten a second":              {10, 20 * time.Second, 210},
		"one in ten seconds":        {0.1, 100 * time.Second, 11},
		"a hundred":                 {100, 3 * time.Second, 400},
		"a number that is not even": {2.5, 10 * time.Second, 28},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := c.limit
			p, sent, looks := NewPace(&limit, nil), 0, 0
			for now := start; now.Sub(start) <= c.during; {
				looks++
				n := p.Allows(now)
				p.Take(now, n)
				sent += n
				// A job that ends keeps what it has got to.
				p = NewPace(&limit, p.At())
				now = p.Next()
				if n <= 0 {
					t.Fatalf("looked in vain after %s", now.Sub(start))
				}
			}
			if math.Abs(float64(sent-c.want)) > 1+float64(c.limit)/2 {
				t.Errorf("%d requests, want %d", sent, c.want)
			}
			if most := int(3*c.during.Seconds()) + 2; looks > most {
				t.Errorf("looked %d times, want %d at most", looks, most)
			}
		})
	}
}

func TestPaceWithoutALimit(t *testing.T) {
	t.Parallel()
	p := NewPace(nil, nil)
	p.Take(time.Now(), 1000)
	if p.Allows(time.Now()) != math.MaxInt || !p.Next().IsZero() || p.At() != nil {
		t.Errorf("%+v", p)
	}
}

func TestDoubling(t *testing.T) {
	t.Parallel()
	if got := Doubling(time.Second, 1); len(got) != 0 {
		t.Errorf("one attempt has no wait, got %v", got)
	}
	got := Doubling(time.Second, 1000)
	if got[0] != time.Second || got[3] != 8*time.Second || got[11] != 2048*time.Second || got[12] != time.Hour || got[998] != time.Hour || len(got) != 999 {
		t.Errorf("got %v", got)
	}
	if got := Doubling(5*time.Hour, 2)[0]; got != time.Hour {
		t.Errorf("the first wait is %s, want the longest there is", got)
	}
}
