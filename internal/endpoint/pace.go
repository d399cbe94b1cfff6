package endpoint

import (
	"math"
	"time"
)

// Pace keeps requests to a number a second. What was not used may be used later, up
// to one second's worth, so that a lane need not run for each request.
type Pace struct {
	every time.Duration // between two requests; 0: there is no limit
	burst int           // one second's worth, at least one request
	at    time.Time     // when the next request is due if all are sent in step
}

// NewPace returns the pace of an endpoint's rate_limit, in requests a second (nil:
// none), that has got as far as its rate_at.
func NewPace(limit *float32, at *time.Time) Pace {
	if limit == nil || *limit <= 0 {
		return Pace{}
	}
	p := Pace{every: time.Duration(float64(time.Second) / float64(*limit)), burst: max(1, int(math.Ceil(float64(*limit))))}
	if at != nil {
		p.at = *at
	}
	return p
}

// Allows returns how many requests may begin now.
func (p *Pace) Allows(now time.Time) int {
	if p.every == 0 {
		return math.MaxInt
	}
	return p.burst - int(math.Ceil(float64(p.ahead(now))/float64(p.every)))
}

// Take notes that n requests begin now.
func (p *Pace) Take(now time.Time, n int) {
	if p.every > 0 && n > 0 {
		p.at = now.Add(p.ahead(now) + time.Duration(n)*p.every)
	}
}

// ahead is how much earlier requests were sent than in step.
func (p *Pace) ahead(now time.Time) time.Duration { return max(p.at.Sub(now), 0) }

// Next returns when it is worth going on: when half a second's worth may be sent, or
// one request. It is zero without a limit.
func (p *Pace) Next() time.Time {
	if p.every == 0 || p.at.IsZero() {
		return time.Time{}
	}
	return p.at.Add(-time.Duration(p.burst-max(p.burst/2, 1)) * p.every)
}

// At returns what the endpoint's row keeps as rate_at; nil without a limit.
func (p *Pace) At() *time.Time {
	if p.every == 0 || p.at.IsZero() {
		return nil
	}
	return &p.at
}
