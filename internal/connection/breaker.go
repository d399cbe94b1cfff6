package connection

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/breaker"
	"github.com/memrelay/memrelay/internal/zoho"
)

// Failures that time alone does not mend open the breaker at once, for so long
// unless Zoho says for how long, and never for more than mostOpen: Zoho may be wrong.
const (
	creditsOpen      = 15 * time.Minute
	unauthorizedOpen = time.Minute
	mostOpen         = time.Hour
)

// Breaker keeps an outage of Zoho from costing a call of every job of every node:
// a breaker.Breaker that speaks of Zoho's errors. It is safe for concurrent use.
type Breaker struct{ b *breaker.Breaker }

var _ zoho.Gate = (*Breaker)(nil)

// NewBreaker makes a Breaker.
func NewBreaker(pool *pgxpool.Pool, o Options) *Breaker {
	return &Breaker{b: breaker.New(pool, breaker.Options{Name: name, Judge: judge, Now: o.Now, Random: o.Random, Log: o.Log})}
}

// Allow returns nil when Zoho may be called, or a *zoho.Error of the kind that
// opened the breaker, with when to come again. A database that does not answer
// stops nobody.
func (b *Breaker) Allow(ctx context.Context) error {
	var open *breaker.OpenError
	if err := b.b.Allow(ctx); errors.As(err, &open) {
		return refusal(open)
	}
	return nil
}

// Report says how a call ended that Allow let through. Refusals of a question
// (an unknown field, a missing permission) are answers: Zoho is there.
func (b *Breaker) Report(ctx context.Context, err error) { b.b.Report(ctx, err) }

func judge(err error) breaker.Verdict {
	if err == nil {
		return breaker.Verdict{Judgement: breaker.Answered}
	}
	// The caller hung up, or had no time left; the end of the client's own patience
	// is another error.
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || isOurs(err) {
		return breaker.Verdict{}
	}
	switch zoho.KindOf(err) {
	case zoho.KindForbidden, zoho.KindInvalid, zoho.KindTooLarge:
		return breaker.Verdict{Judgement: breaker.Answered}
	case zoho.KindUnavailable, zoho.KindThrottled, zoho.KindCreditsSpent, zoho.KindUnauthorized:
		return breaker.Verdict{Judgement: breaker.Failed, Reason: reason(err), OpenFor: opensFor(err)}
	}
	return breaker.Verdict{}
}

// isOurs reports whether a refusal concerns this node alone: one that Zoho was not
// asked for, or one of the client that is set here. Others may be set otherwise,
// and go on with the access token they have.
func isOurs(err error) bool {
	var said *zoho.Error
	if !errors.As(err, &said) {
		return false
	}
	switch said.Kind {
	case zoho.KindUnauthorized:
		return said.Status == 0 || said.Code == "invalid_client" || said.Code == "invalid_client_secret"
	case zoho.KindThrottled:
		return said.Status == 0
	}
	return false
}

// opensFor is for how long a failure opens the breaker at once; 0: it only counts.
func opensFor(err error) time.Duration {
	asked := zoho.RetryAfter(err)
	switch zoho.KindOf(err) {
	case zoho.KindThrottled:
		return min(asked, mostOpen)
	case zoho.KindCreditsSpent:
		if asked == 0 {
			return creditsOpen
		}
		return min(asked, mostOpen)
	case zoho.KindUnauthorized:
		return unauthorizedOpen
	}
	return 0
}

// kinds are how the column reason begins, for what opens a breaker.
func kinds() map[string]zoho.Kind {
	return map[string]zoho.Kind{
		"unavailable": zoho.KindUnavailable, "throttled": zoho.KindThrottled,
		"credits spent": zoho.KindCreditsSpent, "unauthorized": zoho.KindUnauthorized,
	}
}

// reason is a failure as the row keeps it: its kind, and its words.
func reason(err error) string {
	for word, kind := range kinds() {
		if kind == zoho.KindOf(err) {
			return word + ": " + bound(err.Error())
		}
	}
	return bound(err.Error())
}

// refusal is what a call gets that is not let through.
func refusal(open *breaker.OpenError) error {
	word, said, _ := strings.Cut(open.Reason, ": ")
	kind, ok := kinds()[word]
	if !ok {
		kind, said = zoho.KindUnavailable, open.Reason
	}
	return &zoho.Error{Kind: kind, Op: "wait for Zoho to be back", Message: said, RetryAfter: open.Wait}
}
