// Package doctor looks at everything an installation depends on. In go the settings
// as the environment has them; out comes a list of findings, each with what to do
// about it. It changes nothing: neither in the database, nor at Zoho, nor at any
// endpoint.
//
// Two things leave a trace all the same. How long a commit takes is measured by
// commits that write some bytes into the database's log and into no table. And where
// Zoho is set up it is asked for an access token, which nobody else gets; Zoho gives
// out ten in ten minutes.
package doctor

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Status says how a finding is to be taken.
type Status string

// The statuses, from good to bad. Skipped stands beside them: something else has to
// be put right before it can be looked at.
const (
	OK      Status = "ok"
	Note    Status = "note"    // worth knowing; nothing is wrong
	Warning Status = "warning" // it works, and will not for long or not well
	Failure Status = "failure" // something does not work, or what is acknowledged can be lost
	Skipped Status = "skipped"
)

// Finding is one thing that was looked at.
type Finding struct {
	Check  string `json:"check"` // one of Names
	Status Status `json:"status"`
	Found  string `json:"found"`
	// Remedy is a command to run or a setting to change; "" when it is ok or skipped.
	Remedy string `json:"remedy"`
}

// Options say what to look at, and with what.
type Options struct {
	// Environ is the environment, as os.Environ has it.
	Environ []string
	// Only are names of checks; none: all are made.
	Only    []string
	Version string // of this program
	Now     func() time.Time
	// Missing returns what does not work with the scopes that Zoho gave, a sentence
	// each; nil: nobody knows.
	Missing func(given []string) []string
	// Transport carries what is asked of Zoho and of WEBHOOK_BASE_URL.
	Transport http.RoundTripper
	// FreeSpace returns how many bytes are free and how many there are where a path of
	// this machine lies; nil: nobody knows.
	FreeSpace func(path string) (free, all uint64, err error)
}

// check is one of the checks.
type check struct {
	name  string
	needs []need
	limit time.Duration
	look  func(ctx context.Context, p *patient, n *notes)
}

// grace is how long a check that was told to end may still take to say so.
const grace = 500 * time.Millisecond

// checks are all there are, in the order in which they are told.
func checks() []check {
	return []check{
		{"settings", nil, 5 * time.Second, lookAtSettings},
		{"database", nil, 15 * time.Second, lookAtDatabase},
		{"clock", nil, 10 * time.Second, lookAtClock},
		{"migrations", []need{database}, 10 * time.Second, lookAtMigrations},
		{"tables", []need{database}, 12 * time.Second, lookAtTables},
		{"disk", []need{database}, 12 * time.Second, lookAtDisk},
		{"keys", []need{readableSettings, schema}, 10 * time.Second, lookAtKeys},
		{"nodes", []need{schema}, 10 * time.Second, lookAtNodes},
		{"river", []need{schema}, 10 * time.Second, lookAtRiver},
		{"work", []need{schema}, 15 * time.Second, lookAtWork},
		{"zoho", []need{readableSettings}, 45 * time.Second, lookAtZoho},
		{"channels", []need{readableSettings, schema}, 10 * time.Second, lookAtChannels},
		{"inbound", []need{readableSettings}, 10 * time.Second, lookAtInbound},
		{"endpoints", []need{readableSettings}, 45 * time.Second, lookAtEndpoints},
		{"memory", []need{readableSettings}, 20 * time.Second, lookAtMemory},
	}
}

// Names are those of all checks, in their order.
func Names() []string {
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

// Examine makes the checks, those that can be at one time, and returns what they
// found in their order. What is wrong is a finding and never an error; one that
// panics or does not end is a finding, too. The error is that of a name in
// Options.Only which is none of Names.
func Examine(ctx context.Context, o Options) ([]Finding, error) {
	for _, name := range o.Only {
		if !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("there is no check %q: want some of %s", name, strings.Join(Names(), ","))
		}
	}
	o.Transport = cmp.Or[http.RoundTripper](o.Transport, http.DefaultTransport)
	p := newPatient(o)
	p.open(ctx)
	defer p.close()
	chosen := slices.DeleteFunc(checks(), func(c check) bool {
		return len(o.Only) > 0 && !slices.Contains(o.Only, c.name)
	})
	return p.withoutSecrets(run(ctx, p, chosen)), nil
}

// run makes checks side by side and returns what they found in their order.
func run(ctx context.Context, p *patient, chosen []check) []Finding {
	found := make([][]Finding, len(chosen))
	var wg sync.WaitGroup
	for i, c := range chosen {
		wg.Go(func() { found[i] = c.make(ctx, p) })
	}
	wg.Wait()
	return slices.Concat(found...)
}

// make makes one check, within its time.
func (c check) make(ctx context.Context, p *patient) []Finding {
	n := &notes{check: c.name}
	for _, need := range c.needs {
		if why := p.lacks(need); why != "" {
			n.skip("%s", why)
			return n.take()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer n.recoverPanic()
		c.look(ctx, p, n)
	}()
	select {
	case <-done:
		return n.take()
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(grace):
		n.fail("look whether what it asks answers at all, and run `memrelay doctor --only "+c.name+"` again", "the check did not end within %s", c.limit)
	}
	return n.take()
}

// notes are what a check finds. A check that does not end writes into notes that
// nobody reads any more.
type notes struct {
	check string
	mu    sync.Mutex
	found []Finding
}

func (n *notes) add(status Status, remedy, format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.found = append(n.found, Finding{Check: n.check, Status: status, Found: oneLine(fmt.Sprintf(format, args...)), Remedy: oneLine(remedy)})
}

func (n *notes) ok(format string, args ...any)           { n.add(OK, "", format, args...) }
func (n *notes) note(remedy, format string, args ...any) { n.add(Note, remedy, format, args...) }
func (n *notes) warn(remedy, format string, args ...any) { n.add(Warning, remedy, format, args...) }
func (n *notes) fail(remedy, format string, args ...any) { n.add(Failure, remedy, format, args...) }
func (n *notes) skip(format string, args ...any)         { n.add(Skipped, "", format, args...) }

// recoverPanic is deferred by whatever goes on by itself: what breaks off is a finding.
func (n *notes) recoverPanic() {
	if broken := recover(); broken != nil {
		n.fail("report it: this is a mistake in memrelay, not in the installation", "the check itself broke off: %v", broken)
	}
}

// join adds what was found for the check elsewhere.
func (n *notes) join(found []Finding) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.found = append(n.found, found...)
}

// unseen notes what could not be looked at, though nothing before it failed.
func (n *notes) unseen(what string, err error) {
	n.warn("run `memrelay doctor --only "+n.check+"` again; if it stays so, the error says what is in the way", "%s could not be looked at: %v", what, err)
}

// take returns what was found so far.
func (n *notes) take() []Finding {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.found)
}

// oneLine keeps what others said from drawing on a terminal.
func oneLine(text string) string {
	const most = 600
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// discard is the log of what is built to look with: what goes wrong is a finding.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
