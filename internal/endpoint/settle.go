package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/match"
)

// LongestTimeout is the longest that one request to an endpoint may take. Those who
// stop a node wait for what is under way: the settings' own limit is the same.
const LongestTimeout = 40 * time.Second

const (
	standardTimeout  = 30 * time.Second
	standardInFlight = 32
	mostBatch        = 1000
	mostInFlight     = 256
	mostRetries      = 50
	// The rates that may be asked for, in requests a second: a lane knows when a slower
	// one is due no better, and a faster one is none.
	leastRate = 0.001
	mostRate  = 10_000
)

// draft is an endpoint on its way to be stored: its row, and what is sealed there.
type draft struct {
	row         db.Endpoint
	credentials Credentials
	locked      bool // there are credentials that cannot be read
}

func newDraft(id uuid.UUID) draft {
	return draft{row: db.Endpoint{
		ID: id, Events: []string{AllEvents}, UserIds: []string{}, Form: FormMemrelay, BatchSize: 1, MaxInFlight: standardInFlight,
		Timeout: standardTimeout, RetrySchedule: StandardSchedule(),
	}}
}

// problems gathers all that is wrong, so that people need not ask again and again.
type problems []error

func (p *problems) add(field, format string, args ...any) {
	*p = append(*p, &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)})
}

func (p problems) join() error { return errors.Join(p...) }

// set reads what is asked for of one field, if it is, into the draft. read returns
// the value, and what is wrong with it or "".
func set[In, Out any](p *problems, field string, in *In, into *Out, read func(In) (Out, string)) {
	if in == nil {
		return
	}
	value, problem := read(*in)
	if problem != "" {
		p.add(field, "%s", problem)
		return
	}
	*into = value
}

// settle makes the draft what is asked for, but for its keys. The draft is of no use
// when there are problems.
func (s *Store) settle(d *draft, in Settings) problems {
	var p problems
	kept := *d
	set(&p, "name", in.Name, &d.row.Name, readName)
	set(&p, "url", in.URL, &d.row.URL, s.readURL)
	set(&p, "description", in.Description, &d.row.Description, readDescription)
	set(&p, "events", in.Events, &d.row.Events, readEvents)
	set(&p, "user_ids", in.UserIDs, &d.row.UserIds, readUserIDs)
	set(&p, "filter", in.Filter, &d.row.Filter, readFilter)
	set(&p, "form", in.Form, &d.row.Form, readForm)
	set(&p, "ordered", in.Ordered, &d.row.Ordered, func(b bool) (bool, string) { return b, "" })
	set(&p, "batch_size", in.BatchSize, &d.row.BatchSize, within(1, mostBatch))
	set(&p, "batch_wait", in.BatchWait, &d.row.BatchWait, lasting(0, LongestWait))
	set(&p, "rate_limit", in.RateLimit, &d.row.RateLimit, readRate)
	set(&p, "max_in_flight", in.MaxInFlight, &d.row.MaxInFlight, within(1, mostInFlight))
	set(&p, "timeout", in.Timeout, &d.row.Timeout, lasting(time.Millisecond, LongestTimeout))
	set(&p, "retry_schedule", in.RetrySchedule, &d.row.RetrySchedule, readSchedule)
	s.settleCredentials(&p, d, in)
	kept.stayHome(&p, d.row.URL, in)
	return p
}

// stayHome keeps what is sent to the receiver of the draft as it was from going to
// another one unasked: whoever may change a URL need not know it, and would read it there.
func (d draft) stayHome(p *problems, to string, in Settings) {
	if d.row.URL == "" || origin(d.row.URL) == origin(to) {
		return
	}
	const problem = "goes to another host: %s is for the one before, say with it what is for this one"
	if in.Auth == nil && d.credentials.Auth.Kind != AuthNone {
		p.add("url", problem, "auth")
	}
	if in.Headers == nil && len(d.credentials.Headers) > 0 {
		p.add("url", problem, "headers")
	}
}

// settleCredentials is settle for headers and auth, which must fit each other and the URL.
func (s *Store) settleCredentials(p *problems, d *draft, in Settings) {
	if in.Auth != nil {
		s.checkAuth(p, *in.Auth)
		d.credentials.Auth = in.Auth.auth()
	}
	if in.Headers != nil {
		d.credentials.Headers = checkHeaders(p, *in.Headers)
	}
	if in.Auth == nil && in.Headers == nil && in.URL == nil {
		return
	}
	for name := range d.credentials.Headers {
		if isAuthorization(name) && d.credentials.Auth.Kind != AuthNone {
			p.add("headers."+name, "auth sets it")
		}
	}
	if usesTLS(d.credentials.Auth) && !isHTTPS(d.row.URL) {
		p.add("url", "want https: there is a certificate, or there are authorities, in auth")
	}
}

// touchesCredentials reports whether it takes the secrets to do what is asked for. A
// URL must fit them.
func (s Settings) touchesCredentials() bool {
	return s.Headers != nil || s.Auth != nil || s.Signing != nil || s.Secret != nil || s.URL != nil
}

// replacesCredentials reports whether nothing is left of the secrets there were.
func (s Settings) replacesCredentials() bool {
	return s.Headers != nil && s.Auth != nil && s.Signing != nil
}

// settleKeys makes the draft's keys of the kinds that are asked for, and returns
// those that are new.
func (s *Store) settleKeys(d *draft, in Settings) ([]Secret, problems, error) {
	var p problems
	if in.Signing == nil && in.Secret == nil {
		return nil, nil, nil
	}
	d.credentials.prune(s.now())
	given := ""
	if in.Secret != nil {
		given = *in.Secret
		if problem := secretProblem(KeyHMAC, given); problem != "" {
			p.add("secret", "%s", problem)
		}
		if d.credentials.has(KeyHMAC) {
			p.add("secret", "there is an hmac key already: rotate it")
		} else if in.Signing == nil || !slices.Contains(*in.Signing, KeyHMAC) {
			p.add("secret", "is an hmac key, which signing does not name")
		}
	}
	if in.Signing == nil {
		return nil, p, nil
	}
	for _, kind := range *in.Signing {
		if !slices.Contains(keyKinds(), kind) {
			p.add("signing", "%s is none of hmac, ed25519", quote(kind))
		}
	}
	if len(p) > 0 {
		return nil, p, nil
	}
	made, err := s.sign(&d.credentials, *in.Signing, given)
	return made, nil, err
}

// sign leaves keys of these kinds alone, and makes those that are missing.
func (s *Store) sign(c *Credentials, kinds []string, given string) ([]Secret, error) {
	var kept []Key
	for _, k := range c.Keys {
		if slices.Contains(kinds, k.Kind) {
			kept = append(kept, k)
		}
	}
	c.Keys = kept
	var made []Secret
	for _, kind := range kinds {
		if c.has(kind) {
			continue
		}
		secret := ""
		if kind == KeyHMAC {
			secret = given
		}
		k, err := newKey(s.random, kind, secret, s.now().UTC())
		if err != nil {
			return nil, err
		}
		c.add(k)
		made = append(made, k.shown())
	}
	return made, nil
}

func readFilter(raw json.RawMessage) ([]byte, string) {
	if string(raw) == "null" {
		return nil, ""
	}
	m, err := match.Parse(raw)
	if err != nil {
		return nil, err.Error()
	}
	return m.JSON(), ""
}
