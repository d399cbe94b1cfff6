// Package rejected keeps who was turned away. In go refusals, as fast as they come; out
// come rows in rejected_requests, the newest thousand of all nodes, for operators. They
// name people by their addresses, and go after thirty days.
//
// The door must not pay for it: a refusal is put into memory and written with the others
// of its second. Whoever floods the door fills neither memory nor the database: of each
// second fifty are kept, of each sender ten, and the rest is counted alone. Of the thousand
// a hundred may be of one sender. A sender is an address of IPv4 or a /64 of IPv6.
package rejected

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
)

// Unlisted counts refusals that were not kept, for there were too many.
const Unlisted counter.Name = "rejected_unlisted"

const (
	// Kept is how many rows there are; for a moment, while nodes write, a few more.
	Kept = 1000
	// KeptOfSender is how many of them are of one sender.
	KeptOfSender = 100
	// Lasts is how long they are kept.
	Lasts = 30 * 24 * time.Hour
	// perSecond is how many of a second are kept, and perSender of them of one sender.
	perSecond = 50
	perSender = 10
	// flushEvery is how often they are written, and trimEvery how often old ones go when there
	// is nothing to write.
	flushEvery = time.Second
	trimEvery  = time.Hour
	// maxText bounds what is kept of a text that the sender chooses, in bytes.
	maxText = 200
)

// Request is one that was turned away.
type Request struct {
	At            time.Time
	Method        string
	Route         string // the pattern that matched
	Status        int
	Code          string
	Reason        string // as the sender was told
	Address       string
	UserAgent     string
	ContentLength int64 // -1: not said
	RequestID     string
}

// Counter counts what is not kept: a counter.Set.
type Counter interface{ Refuse(name counter.Name) }

// Log gathers the refusals of one process.
type Log struct {
	pool   *pgxpool.Pool
	counts Counter
	log    *slog.Logger

	mu      sync.Mutex
	waiting []Request
	senders map[string]int // of those that wait
}

// New makes a Log.
func New(pool *pgxpool.Pool, counts Counter, log *slog.Logger) *Log {
	return &Log{pool: pool, counts: counts, log: log, senders: map[string]int{}}
}

// Add keeps a refusal, or counts it when there are too many of this second. It never
// waits for the database.
func (l *Log) Add(r Request) {
	if !l.keep(r) {
		l.counts.Refuse(Unlisted)
	}
}

func (l *Log) keep(r Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	sender := senderOf(r.Address)
	if len(l.waiting) == perSecond || l.senders[sender] == perSender {
		return false
	}
	l.waiting = append(l.waiting, r)
	l.senders[sender]++
	return true
}

// senderOf is who has an address: of IPv6, who has one has all of its /64.
func senderOf(address string) string {
	at, err := netip.ParseAddr(address)
	if err != nil || at.Is4() || at.Is4In6() {
		return address
	}
	network, _ := at.WithZone("").Prefix(64) // cannot fail: IPv6 has so many bits
	return network.String()
}

// Run writes each second what has come, until ctx ends, and then a last time. It deletes
// what is too old, too, also when nothing comes.
func (l *Log) Run(ctx context.Context) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	trim := time.NewTicker(trimEvery)
	defer trim.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushEvery)
			defer cancel()
			l.flush(last)
			return
		case <-tick.C:
			l.flush(ctx)
		case <-trim.C:
			if err := l.Trim(ctx); err != nil {
				l.log.WarnContext(ctx, "old refused requests not deleted", "error", err)
			}
		}
	}
}

func (l *Log) flush(ctx context.Context) {
	if err := l.Flush(ctx); err != nil {
		l.log.WarnContext(ctx, "refused requests not written", "error", err)
	}
}

// Flush writes what has come, and deletes what is too old. What cannot be written is
// counted and forgotten: there is more to come.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	batch := l.waiting
	l.waiting, l.senders = nil, map[string]int{}
	l.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.InsertRejectedRequests(ctx, rows(batch)); err != nil {
			return fmt.Errorf("insert refused requests: %w", err)
		}
		return trim(ctx, q)
	})
	if err != nil {
		for range batch {
			l.counts.Refuse(Unlisted)
		}
	}
	return err
}

// Trim deletes what is too old, and what is too much.
func (l *Log) Trim(ctx context.Context) error { return trim(ctx, db.New(l.pool)) }

func trim(ctx context.Context, q *db.Queries) error {
	if err := q.TrimRejectedRequests(ctx, db.TrimRejectedRequestsParams{Lasts: Lasts, Kept: Kept, KeptOfSender: KeptOfSender}); err != nil {
		return fmt.Errorf("delete old refused requests: %w", err)
	}
	return nil
}

func rows(batch []Request) db.InsertRejectedRequestsParams {
	var p db.InsertRejectedRequestsParams
	for _, r := range batch {
		p.Ats, p.Methods, p.Routes = append(p.Ats, r.At), append(p.Methods, Plain(r.Method)), append(p.Routes, Plain(r.Route))
		p.Statuses, p.Codes = append(p.Statuses, int32(r.Status)), append(p.Codes, r.Code) //nolint:gosec // of HTTP: three digits
		p.Reasons, p.Addresses = append(p.Reasons, Plain(unquoted(r.Reason))), append(p.Addresses, r.Address)
		p.UserAgents, p.ContentLengths = append(p.UserAgents, Plain(r.UserAgent)), append(p.ContentLengths, r.ContentLength)
		p.RequestIds = append(p.RequestIds, r.RequestID)
	}
	return p
}

// unquoted is a reason without what it repeats of the request: whoever sent that has
// perhaps not been proven, and may have sent it here by mistake.
func unquoted(reason string) string {
	var b strings.Builder
	inside, escaped := false, false
	for _, r := range reason {
		switch {
		case escaped:
			escaped = false
		case inside && r == '\\':
			escaped = true
		case r == '"':
			if inside = !inside; inside {
				b.WriteString(`"…"`)
			}
		case !inside:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Plain is a text that a sender chose as it can be stored and printed: short, UTF-8, and
// without control characters.
func Plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
	if len(s) <= maxText {
		return s
	}
	cut := maxText
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
