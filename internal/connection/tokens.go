package connection

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/seal"
	"github.com/memrelay/memrelay/internal/zoho"
)

const (
	// mostAsks in span is one less than Zoho allows: what else is asked with the
	// same authorisation, as by a person who tries it out, must not block us.
	mostAsks = 9
	span     = 10 * time.Minute
	// lease is how long one node has to ask, and how long the others wait after a
	// crash; asking stops before it ends, so that two never ask at a time.
	lease   = 20 * time.Second
	askTime = 15 * time.Second
	// slack is how long before its end an access token is not used any more: a
	// request may be on its way for a while.
	slack = time.Minute
	// lookEvery is how often a node looks whether the others have another token,
	// though its own is good: somebody may have connected anew, or disconnected.
	lookEvery = time.Minute
	// pollEvery is how often a node that waits for another looks, at the earliest;
	// up to as much again comes to it, so that they do not all look at once.
	pollEvery = 100 * time.Millisecond
	// patience is how long callers wait in all: for two holders of the lease that
	// crashed, one after the other, and a third that has the time it may take.
	patience = 2*lease + askTime + 5*time.Second
	// probeEvery is how often a refused authorisation is tried again: a person may
	// have mended at Zoho what was wrong.
	probeEvery = 5 * time.Minute
	// After a failure nobody asks for shortestPause, twice as long after the next,
	// at most longestPause: that many questions never reach mostAsks.
	shortestPause = 5 * time.Second
	longestPause  = 2 * time.Minute
)

// What people are told when the authorisation is not good.
const (
	remedy   = "run `memrelay zoho connect`"
	wrongKey = remedy + ", or set MEMRELAY_KEY to what it was when that was last done"
)

// Refresher asks Zoho for access tokens; *zoho.OAuth is one. An error is a *zoho.Error.
type Refresher interface {
	Refresh(ctx context.Context, refreshToken string) (zoho.Token, error)
}

// Settings are what the environment says of the connection.
type Settings struct {
	ClientID     string
	ClientSecret string
	// RefreshToken is the authorisation; "": the one that Store wrote.
	RefreshToken string
	// AccountsURL is asked for tokens; "": where the stored authorisation was given,
	// and for RefreshToken the data centre's.
	AccountsURL string
}

// Tokens gives access tokens that all nodes share: whoever finds none asks Zoho,
// and the others wait for what it stores. It is safe for concurrent use.
type Tokens struct {
	pool     *pgxpool.Pool
	settings Settings
	box      *seal.Box // of MEMRELAY_KEY, may have no key
	own      *seal.Box
	at       func(accountsURL string) Refresher
	o        Options

	mu       sync.Mutex
	kept     held
	lookedAt time.Time // when kept was last known to be what the others use
	flight   *flight   // nil: nobody is under way

	// spent is the shared access token, sealed as in the row, that Zoho took no
	// more from this node while it refused the grant, too. Only a flight uses it.
	spent []byte
}

// held is a token, and the digest of the grant that it came by.
type held struct {
	zoho.Token
	grant []byte
}

var _ zoho.Tokens = (*Tokens)(nil)

// flight is the one attempt of this node that all its callers wait for.
type flight struct {
	done  chan struct{} // closed when the others are set
	token held
	err   error
}

// NewTokens makes a Tokens. box is that of MEMRELAY_KEY; without a key access
// tokens are sealed by the client secret, and a stored refresh token is not
// opened. at returns who asks the accounts server at that URL, "" being the one
// of the settings.
func NewTokens(pool *pgxpool.Pool, s Settings, box *seal.Box, at func(accountsURL string) Refresher, o Options) (*Tokens, error) {
	own, err := ownBox(s.ClientSecret, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key of the client secret: %w", err)
	}
	return &Tokens{pool: pool, settings: s, box: box, own: own, at: at, o: o}, nil
}

// Token returns an access token that is good for a minute at least, and is not
// refused. Within a minute of the last look it costs no query. An error is a
// *zoho.Error: KindUnauthorized when a person has to connect anew, KindThrottled
// when Zoho is not to be asked now, KindUnavailable when it or the database does
// not answer, or ctx ended. What Zoho is asked goes on when ctx ends: others wait
// for it.
func (t *Tokens) Token(ctx context.Context, refused string) (zoho.Token, error) {
	for {
		t.mu.Lock()
		if t.usable(t.kept.Token, refused) && t.o.Now().Sub(t.lookedAt) < lookEvery {
			kept := t.kept.Token
			t.mu.Unlock()
			return kept, nil
		}
		f := t.flight
		if f == nil {
			f = &flight{done: make(chan struct{})}
			t.flight = f
			go t.fly(context.WithoutCancel(ctx), f, refused)
		}
		t.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return zoho.Token{}, unavailable("wait for an access token", ctx.Err())
		}
		if f.err != nil || f.token.Access != refused {
			return f.token.Token, f.err
		}
		// The flight was somebody's who did not know yet that this token is refused.
	}
}

// fly makes one attempt and tells everybody how it ended.
func (t *Tokens) fly(ctx context.Context, f *flight, refused string) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	f.token, f.err = t.obtain(ctx, refused)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case f.err == nil:
		t.kept, t.lookedAt = f.token, t.o.Now()
	case zoho.KindOf(f.err) == zoho.KindUnauthorized && t.kept.Access == refused:
		t.kept = held{} // it would be refused at every call until it ends
	}
	t.flight = nil
	close(f.done)
}

// usable reports whether a token may be sent.
func (t *Tokens) usable(token zoho.Token, refused string) bool {
	return token.Access != "" && token.Access != refused && token.Expires.Sub(t.o.Now()) > slack
}

// keeping returns the token of this node if it may be sent.
func (t *Tokens) keeping(refused string) (held, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept, t.usable(t.kept.Token, refused)
}

// keepingOf is keeping for a token of that grant.
func (t *Tokens) keepingOf(grant []byte, refused string) (held, bool) {
	kept, ok := t.keeping(refused)
	return kept, ok && bytes.Equal(kept.grant, grant)
}

// obtain takes the token that the nodes share, waits for it while another node
// asks, or asks.
func (t *Tokens) obtain(ctx context.Context, refused string) (held, error) {
	for {
		row, grant, err := t.look(ctx, refused)
		var said *zoho.Error
		switch {
		case errors.As(err, &said):
			return held{}, err
		case err != nil:
			// What this node has is good without a database, too.
			if kept, ok := t.keeping(refused); ok {
				t.o.Log.WarnContext(ctx, "zoho: access token not looked up", "error", err)
				return kept, nil
			}
			return held{}, unavailable("look up the access token", err)
		}
		digest := grant.digest()
		if !bytes.Equal(row.GrantDigest, digest) {
			kept, _ := t.keepingOf(digest, refused)
			return kept, nil
		}
		token, opened := t.open(row)
		if opened && t.usable(token, refused) && !t.isSpent(row) {
			return held{token, digest}, nil
		}
		if !opened {
			// Sealed by a key that only other nodes have: both asking anew would never end.
			if kept, ok := t.keeping(refused); ok {
				return kept, nil
			}
		}
		if err := mayAsk(row); err != nil {
			t.spend(row, token, refused, err)
			return held{}, err
		}
		if !after(row.LeasedUntil, row.Now) {
			holder := uuid.New()
			n, err := db.New(t.pool).LeaseZohoToken(ctx, db.LeaseZohoTokenParams{
				Name: name, LeasedBy: &holder, Lease: lease, GrantDigest: row.GrantDigest, Seen: row.AccessToken,
				Span: span, Most: mostAsks, ProbeEvery: probeEvery,
			})
			if err != nil {
				return held{}, unavailable("lease the access token", err)
			}
			if n == 1 {
				fresh, err := t.ask(ctx, holder, row, grant, refused)
				t.spend(row, token, refused, err)
				return held{fresh, digest}, err
			}
		}
		select {
		case <-t.o.After(pollEvery + time.Duration(t.o.Random()*float64(pollEvery))):
		case <-ctx.Done():
			return held{}, unavailable("wait for the node that asks for an access token", ctx.Err())
		}
	}
}

// spend remembers that the row's token is good for nothing here: Zoho did not take
// it, and refuses the grant that would give another.
func (t *Tokens) spend(row db.GetZohoTokenRow, token zoho.Token, refused string, err error) {
	if refused != "" && token.Access == refused && zoho.KindOf(err) == zoho.KindUnauthorized {
		t.spent = row.AccessToken
	}
}

func (t *Tokens) isSpent(row db.GetZohoTokenRow) bool {
	return t.spent != nil && bytes.Equal(row.AccessToken, t.spent)
}

// look reads the row, and makes it that of the grant in force when it is of
// another, so that a token can be asked for. While this node has a good token of
// its grant it leaves the row to the others: nodes with different grants would
// take it from each other for ever.
func (t *Tokens) look(ctx context.Context, refused string) (db.GetZohoTokenRow, Grant, error) {
	q := db.New(t.pool)
	for range 3 { // somebody may store another grant in between
		row, err := q.GetZohoToken(ctx, name)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return row, Grant{}, err
		}
		grant, err := t.grant(row)
		if err != nil {
			return row, grant, err
		}
		if bytes.Equal(row.GrantDigest, grant.digest()) {
			return row, grant, nil
		}
		if _, ok := t.keepingOf(grant.digest(), refused); ok {
			return row, grant, nil
		}
		err = q.StartZohoGrant(ctx, db.StartZohoGrantParams{
			Name: name, ClientID: grant.ClientID, AccountsURL: grant.AccountsURL, GrantDigest: grant.digest(),
		})
		if err != nil {
			return row, grant, err
		}
	}
	return db.GetZohoTokenRow{}, Grant{}, errors.New("the authorisation changes all the time: nodes have different ones")
}

// grant is the authorisation in force: that of the environment, else the stored
// one. row is zero when there is none.
func (t *Tokens) grant(row db.GetZohoTokenRow) (Grant, error) {
	g := Grant{ClientID: t.settings.ClientID, AccountsURL: t.settings.AccountsURL}
	if t.settings.RefreshToken != "" {
		g.Token.Refresh = t.settings.RefreshToken
		return g, nil
	}
	switch {
	case row.RefreshToken == nil:
		return g, unauthorized(ErrNotConnected.Error())
	case row.ClientID != t.settings.ClientID:
		return g, unauthorized("the stored authorisation is of another client than ZOHO_CLIENT_ID: " + remedy)
	}
	refresh, err := t.box.Open(row.RefreshToken, aboutRefresh)
	if err != nil {
		return g, unauthorized(fmt.Sprintf("the stored refresh token does not open: %v: %s", err, wrongKey))
	}
	g.Token.Refresh = string(refresh)
	if g.AccountsURL == "" {
		g.AccountsURL = row.AccountsURL
	}
	return g, nil
}

// open returns the row's access token, by our clock, and reports whether there
// is none that only others can open.
func (t *Tokens) open(row db.GetZohoTokenRow) (zoho.Token, bool) {
	if row.AccessToken == nil || row.AccessUntil == nil {
		return zoho.Token{}, true
	}
	access, err := t.own.Open(row.AccessToken, aboutAccess)
	if err != nil {
		access, err = t.box.Open(row.AccessToken, aboutAccess)
	}
	if err != nil {
		return zoho.Token{}, false
	}
	return zoho.Token{
		Access: string(access), APIDomain: row.ApiURL, Scopes: row.Scopes, Expires: t.o.Now().Add(row.AccessUntil.Sub(row.Now)),
	}, true
}

// seal seals an access token so that every node opens it.
func (t *Tokens) seal(access string) ([]byte, error) {
	box := t.own
	if t.box.HasKey() {
		box = t.box
	}
	return box.Seal([]byte(access), aboutAccess)
}

// mayAsk returns why Zoho is not to be asked for a token now; nil when it may be.
// LeaseZohoToken decides the same for good.
func mayAsk(row db.GetZohoTokenRow) error {
	asked := recent(row)
	if row.State == StateRevoked {
		wait := time.Duration(0)
		if len(asked) > 0 {
			wait = asked[len(asked)-1].Add(probeEvery).Sub(row.Now)
		}
		if wait > 0 {
			err := unauthorized(row.LastError + ": " + remedy)
			err.RetryAfter = wait
			return err
		}
	}
	if after(row.BlockedUntil, row.Now) {
		return throttled(row.BlockedUntil.Sub(row.Now), row.LastError)
	}
	if n := len(asked); n >= mostAsks && !after(row.LeasedUntil, row.Now) {
		return throttled(asked[n-mostAsks].Add(span).Sub(row.Now), "access tokens were asked for too often")
	}
	return nil
}

// recent are the questions within span, in order.
func recent(row db.GetZohoTokenRow) []time.Time {
	for i, at := range row.AskedAt {
		if at.After(row.Now.Add(-span)) {
			return row.AskedAt[i:]
		}
	}
	return nil
}

// ask asks Zoho, as the holder of the lease, and stores what it says. That it
// cannot be stored takes nothing from its worth: this node uses it.
func (t *Tokens) ask(ctx context.Context, holder uuid.UUID, row db.GetZohoTokenRow, grant Grant, refused string) (zoho.Token, error) {
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	token, err := t.at(grant.AccountsURL).Refresh(asking, grant.Token.Refresh)
	if errors.Is(err, context.DeadlineExceeded) {
		// Our own patience: the deadline of a caller would say nothing of Zoho.
		err = unavailable("refresh the access token", errors.New("no answer in time"))
	}
	if err == nil && token.Access == refused {
		err = &zoho.Error{Kind: zoho.KindUnavailable, Op: "refresh the access token", Message: "Zoho gave the one again that it does not take"}
	}
	if err != nil {
		return zoho.Token{}, t.failed(ctx, holder, row, err)
	}
	sealed, err := t.seal(token.Access)
	if err != nil {
		t.o.Log.ErrorContext(ctx, "zoho: access token not sealed, the other nodes go without", "error", err)
		return token, nil
	}
	n, err := db.New(t.pool).StoreZohoToken(ctx, db.StoreZohoTokenParams{
		Name: name, LeasedBy: &holder, GrantDigest: row.GrantDigest, AccessToken: sealed, Life: token.Expires.Sub(t.o.Now()),
		ApiURL: token.APIDomain, Scopes: append([]string{}, token.Scopes...),
	})
	switch {
	case err != nil:
		t.o.Log.WarnContext(ctx, "zoho: access token not stored, the other nodes ask again", "error", err)
	case n == 0:
		t.o.Log.WarnContext(ctx, "zoho: access token not stored, it came too late or for an authorisation that was replaced")
	default:
		t.o.Log.InfoContext(ctx, "zoho: access token refreshed", "until", token.Expires)
	}
	if token.APIDomain == "" {
		token.APIDomain = row.ApiURL
	}
	if len(token.Scopes) == 0 {
		token.Scopes = row.Scopes
	}
	return token, nil
}

// failed records why there is no token, and returns it.
func (t *Tokens) failed(ctx context.Context, holder uuid.UUID, row db.GetZohoTokenRow, cause error) error {
	var said *zoho.Error
	if !errors.As(cause, &said) {
		said = unavailable("refresh the access token", cause)
	}
	p := db.FailZohoTokenParams{Name: name, LeasedBy: &holder, GrantDigest: row.GrantDigest, LastError: bound(said.Error())}
	switch said.Kind {
	case zoho.KindUnauthorized:
		p.Revoked = true
		t.o.Log.ErrorContext(ctx, "zoho: authorisation refused", "error", said, "remedy", remedy)
	case zoho.KindThrottled, zoho.KindCreditsSpent:
		// Zoho blocks until the end of its window and does not say when that is.
		p.Blocked = span
		if said.RetryAfter > 0 {
			p.Blocked = min(said.RetryAfter, time.Hour)
		}
		t.o.Log.WarnContext(ctx, "zoho: asked for too many access tokens", "error", said, "pause", p.Blocked)
	default:
		p.Blocked = max(pause(len(recent(row))), min(said.RetryAfter, time.Hour))
		t.o.Log.WarnContext(ctx, "zoho: no access token", "error", said, "pause", p.Blocked)
	}
	if _, err := db.New(t.pool).FailZohoToken(ctx, p); err != nil {
		t.o.Log.WarnContext(ctx, "zoho: failure not stored, the other nodes ask again", "error", err)
	}
	if said.RetryAfter == 0 && p.Blocked > 0 {
		later := *said
		later.RetryAfter = p.Blocked
		return &later
	}
	return said
}

// pause is how long nobody asks after a failure, with so many questions before it.
func pause(before int) time.Duration {
	return min(shortestPause<<min(before, 10), longestPause)
}

// after reports whether at lies ahead.
func after(at *time.Time, now time.Time) bool { return at != nil && at.After(now) }

// bound cuts a text that is kept, or told on and on.
func bound(text string) string {
	const most = 500
	if len(text) > most {
		return text[:most]
	}
	return text
}

func unavailable(op string, err error) *zoho.Error {
	return &zoho.Error{Kind: zoho.KindUnavailable, Op: op, Err: err}
}

func unauthorized(message string) *zoho.Error {
	return &zoho.Error{Kind: zoho.KindUnauthorized, Op: "get an access token", Message: message}
}

func throttled(wait time.Duration, message string) *zoho.Error {
	return &zoho.Error{Kind: zoho.KindThrottled, Op: "get an access token", Message: message, RetryAfter: wait}
}
