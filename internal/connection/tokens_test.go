package connection

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/seal"
	"github.com/memrelay/memrelay/internal/zoho"
)

// all asks each of the processes for a token, several times at the same time.
func all(t *testing.T, processes []*Tokens, refused, want string) {
	t.Helper()
	var g errgroup.Group
	for _, p := range processes {
		for range 4 {
			g.Go(func() error {
				got, err := p.Token(t.Context(), refused)
				if err == nil && got.Access != want {
					err = fmt.Errorf("token %q, want %q", got.Access, want)
				}
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func (s *station) processes(t *testing.T, n int) []*Tokens {
	t.Helper()
	list := make([]*Tokens, n)
	for i := range list {
		list[i] = s.process(t)
	}
	return list
}

// Zoho gives ten tokens in ten minutes, and we have more nodes than that, which
// restart all at the same time.
func TestTwelveProcessesAskOnce(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.accounts.answers(func(w http.ResponseWriter, n int) {
		// Long enough for everybody to have come meanwhile.
		s.until(t, "the lease is held", `SELECT leased_until > now() FROM zoho_tokens`)
		give(w, n)
	})
	first := s.processes(t, 12)
	all(t, first, "", access(1))
	all(t, s.processes(t, 12), "", access(1))
	all(t, first, "", access(1))
	s.accounts.wantAsked(t, 1)

	token, err := first[0].Token(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	between(t, "the token's life", time.Until(token.Expires), 59*time.Minute, time.Hour)
	restarted, err := s.process(t).Token(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	between(t, "the token's life, as another process knows it", time.Until(restarted.Expires), 59*time.Minute, time.Hour)
	if restarted.APIDomain != "https://api.invalid" || strings.Join(restarted.Scopes, " ") != "ZohoCRM.modules.ALL ZohoCRM.org.READ" {
		t.Errorf("another process knows %+v", restarted)
	}

	// All nodes learn at the same moment that Zoho takes the token no more.
	all(t, first, access(1), access(2))
	// A node that learns it late uses what the others have.
	all(t, s.processes(t, 12), access(1), access(2))
	s.accounts.wantAsked(t, 2)
}

// A token is not used in its last minute.
func TestATokenThatEndsIsReplacedOnce(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	all(t, s.processes(t, 1), "", access(1))
	s.exec(t, `UPDATE zoho_tokens SET access_until = now() + interval '62 seconds'`)
	all(t, s.processes(t, 12), "", access(1))
	s.exec(t, `UPDATE zoho_tokens SET access_until = now() + interval '59 seconds'`)
	all(t, s.processes(t, 12), "", access(2))
	s.accounts.wantAsked(t, 2)
}

func TestNobodyReadsATokenInTheDatabase(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string][]string{"with a key": {memrelayKey}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			wantToken(t, s.keyed(t, box(t, keys...)), "", access(1))
			if one[bool](t, s, `SELECT position($1::bytea IN access_token) > 0 FROM zoho_tokens`, []byte("1000.access")) {
				t.Error("the access token can be read")
			}
			if one[bool](t, s, `SELECT t::text LIKE '%' || $1 || '%' FROM zoho_tokens t`, fromEnv) {
				t.Error("the refresh token can be read")
			}
			wantToken(t, s.keyed(t, box(t, keys...)), "", access(1))
			s.accounts.wantAsked(t, 1)
		})
	}
}

// While a deployment goes on, some nodes have the key already and some not yet.
func TestNodesWithAndWithoutTheKeyAgreeAfterOneQuestionMore(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	with, without := s.keyed(t, box(t, memrelayKey)), s.keyed(t, box(t))
	wantToken(t, with, "", access(1))
	wantToken(t, without, "", access(2))
	for range 3 {
		for _, p := range []*Tokens{with, without} {
			p.lookedAt = time.Time{}
			if _, err := p.Token(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantToken(t, s.keyed(t, box(t, memrelayKey)), "", access(2))
	s.accounts.wantAsked(t, 2)
}

// Nodes whose keys have nothing in common do not take each other's tokens away
// for as long as their own are good.
func TestNodesOfDifferentKeysDoNotAskInTurn(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	a, b := s.keyed(t, box(t, memrelayKey)), s.keyed(t, box(t, "quite another one of them"))
	for range 5 {
		for i, p := range []*Tokens{a, b} {
			p.lookedAt = time.Time{}
			wantToken(t, p, "", access(i+1))
		}
	}
	s.accounts.wantAsked(t, 2)
}

// A node that died while it held the lease costs the others the rest of it.
func TestADeadHolderDelaysTheOthersByItsLease(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	release := make(chan struct{})
	s.accounts.answers(func(w http.ResponseWriter, n int) {
		if n == 1 {
			<-release
		}
		give(w, n)
	})
	dying := s.process(t)
	ctx, die := context.WithCancel(t.Context())
	died := make(chan error, 1)
	go func() {
		_, err := dying.Token(ctx, "")
		died <- err
	}()
	s.until(t, "the lease is held", `SELECT coalesce((SELECT leased_until > now() FROM zoho_tokens), false)`)
	between(t, "the lease", time.Duration(one[float64](t, s, `SELECT extract(epoch FROM leased_until - now())::float8 FROM zoho_tokens`)*1e9), 15*time.Second, 20*time.Second)
	die()
	if err := <-died; !errors.Is(err, context.Canceled) || zoho.KindOf(err) != zoho.KindUnavailable {
		t.Errorf("who hung up got %v", err)
	}

	// Nobody needs to wait for twenty seconds to see who waits for the last one of them.
	s.exec(t, `UPDATE zoho_tokens SET leased_until = now() + interval '1 second'`)
	ends := one[time.Time](t, s, `SELECT leased_until FROM zoho_tokens`)
	all(t, s.processes(t, 12), "", access(2))
	if asked := one[time.Time](t, s, `SELECT asked_at[2] FROM zoho_tokens`); asked.Before(ends) || asked.After(ends.Add(5*time.Second)) {
		t.Errorf("asked %s after the dead one's lease ended", asked.Sub(ends))
	}
	s.accounts.wantAsked(t, 2)

	// The dead one was only slow. What it brings is good for itself, and changes nothing for the others.
	before := one[string](t, s, `SELECT t::text FROM zoho_tokens t`)
	close(release)
	wantToken(t, dying, "", access(1))
	if now := one[string](t, s, `SELECT t::text FROM zoho_tokens t`); now != before {
		t.Errorf("a lease that was over was used:\n%s\n%s", before, now)
	}
}

// Whoever hangs up does not take the answer from those who wait for it.
func TestTheQuestionOutlivesWhoAsked(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	s.accounts.answers(func(w http.ResponseWriter, n int) {
		close(arrived)
		<-release
		give(w, n)
	})
	p := s.process(t)
	ctx, hangUp := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := p.Token(ctx, "")
		gone <- err
	}()
	<-arrived
	hangUp()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("who hung up got %v", err)
	}
	close(release)
	wantToken(t, p, "", access(1))
	wantToken(t, s.process(t), "", access(1))
	s.accounts.wantAsked(t, 1)
}

// One more than nine, and a person with the same authorisation could block us for
// ten minutes.
func TestNeverMoreThanNineQuestionsInTenMinutes(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	var throttled int
	for n := 1; n <= 12; n++ {
		// Each time a process that was just started, which is refused the last one.
		token, err := s.process(t).Token(t.Context(), access(min(n-1, 9)))
		switch {
		case n <= 9 && (err != nil || token.Access != access(n)):
			t.Fatalf("question %d: %q, %v", n, token.Access, err)
		case n > 9 && zoho.KindOf(err) == zoho.KindThrottled:
			throttled++
			between(t, "the wait", zoho.RetryAfter(err), 9*time.Minute, 10*time.Minute)
		}
	}
	if throttled != 3 {
		t.Errorf("%d of 3 were throttled", throttled)
	}
	s.accounts.wantAsked(t, 9)

	// A question leaves the ten minutes, and one more may be asked; however many
	// processes want to.
	s.exec(t, `UPDATE zoho_tokens SET asked_at = array_prepend(now() - interval '10 minutes', asked_at[2:])`)
	all(t, s.processes(t, 6), access(9), access(10))
	wantRefusal(t, s.process(t), access(10), zoho.KindThrottled)
	s.accounts.wantAsked(t, 10)
	if n := one[int](t, s, `SELECT cardinality(asked_at) FROM zoho_tokens`); n != 9 {
		t.Errorf("%d questions are kept, want 9", n)
	}
}

// LeaseZohoToken is the last to decide: what a node has read may be long past.
func TestTheLeaseIsRefusedWhenTheRowSaysSo(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	wantToken(t, s.process(t), "", access(1))
	for name, tc := range map[string]struct {
		set  string
		want int64
	}{
		"nothing in the way":           {`asked_at = '{}'`, 1},
		"another holds it":             {`leased_until = now() + interval '1 second'`, 0},
		"another held it":              {`leased_until = now()`, 1},
		"Zoho blocks":                  {`blocked_until = now() + interval '1 second'`, 0},
		"Zoho blocked":                 {`blocked_until = now()`, 1},
		"asked nine times":             {`asked_at = array_fill(now(), ARRAY[9])`, 0},
		"asked eight times":            {`asked_at = array_fill(now(), ARRAY[8])`, 1},
		"asked nine times, long ago":   {`asked_at = array_fill(now() - interval '10 minutes', ARRAY[9])`, 1},
		"another has stored a token":   {`access_token = '\x00'`, 0},
		"the token was taken away":     {`access_token = NULL`, 0},
		"another authorisation":        {`grant_digest = sha256('')`, 0},
		"refused and just asked":       {`state = 'revoked', asked_at = ARRAY[now() - interval '4 minutes']`, 0},
		"refused a while ago":          {`state = 'revoked', asked_at = ARRAY[now() - interval '5 minutes']`, 1},
		"refused and never asked":      {`state = 'revoked', asked_at = '{}'`, 1},
		"refused and asked once since": {`state = 'revoked', asked_at = ARRAY[now() - interval '6 minutes', now()]`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			tx, err := s.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback(t.Context())
			row, err := db.New(tx).GetZohoToken(t.Context(), "zoho")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `UPDATE zoho_tokens SET `+tc.set); err != nil {
				t.Fatal(err)
			}
			n, err := db.New(tx).LeaseZohoToken(t.Context(), db.LeaseZohoTokenParams{
				Name: "zoho", Lease: lease, GrantDigest: row.GrantDigest, Seen: row.AccessToken, Span: span, Most: mostAsks, ProbeEvery: probeEvery,
			})
			if err != nil || n != tc.want {
				t.Errorf("%d rows, %v; want %d", n, err, tc.want)
			}
		})
	}
}

func TestWhenZohoBlocksNobodyAsks(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.accounts.answers(tooMany)
	first := refusalOf(t, s.process(t), "", zoho.KindThrottled)
	between(t, "the wait", first.RetryAfter, 9*time.Minute, 10*time.Minute)
	for range 3 {
		again := refusalOf(t, s.process(t), "", zoho.KindThrottled)
		between(t, "the wait", again.RetryAfter, 9*time.Minute, 10*time.Minute)
		if !strings.Contains(again.Message, "too many requests") {
			t.Errorf("does not say what Zoho said: %v", again)
		}
	}
	s.accounts.wantAsked(t, 1)
	s.accounts.answers(nil)
	s.exec(t, `UPDATE zoho_tokens SET blocked_until = now()`)
	wantToken(t, s.process(t), "", access(2))
	if one[bool](t, s, `SELECT blocked_until IS NOT NULL OR last_error <> '' FROM zoho_tokens`) {
		t.Error("the success did not clear the failure")
	}
}

// An outage of the accounts server must not use up the questions of ten minutes
// in the first second.
func TestAnOutageIsAskedAboutLessAndLess(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.accounts.answers(down)
	for n, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second} {
		err := refusalOf(t, s.process(t), "", zoho.KindUnavailable)
		between(t, "the wait", err.RetryAfter, want, want)
		waits := refusalOf(t, s.process(t), "", zoho.KindThrottled)
		between(t, "the others' wait", waits.RetryAfter, want-5*time.Second, want)
		s.accounts.wantAsked(t, n+1)
		s.exec(t, `UPDATE zoho_tokens SET blocked_until = now()`)
	}
	if state := one[string](t, s, `SELECT state FROM zoho_tokens`); state != StateOK {
		t.Errorf("an outage made the state %s", state)
	}
}

// However long the outage, the limit is never met.
func TestPausesKeepBelowTheLimit(t *testing.T) {
	t.Parallel()
	var asked []time.Time
	now := time.Now()
	for range 100 {
		recently := recent(db.GetZohoTokenRow{AskedAt: asked, Now: now})
		if len(recently) >= mostAsks {
			t.Fatalf("%d questions within ten minutes", len(recently)+1)
		}
		asked = append(asked, now)
		now = now.Add(pause(len(recently)))
	}
	between(t, "an hour's last pause", pause(8), longestPause, longestPause)
}

func TestARefusedGrantIsNotAskedForUntilSomebodyMayHaveMendedIt(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.accounts.answers(refuse)
	p := s.process(t)
	first := refusalOf(t, p, "", zoho.KindUnauthorized)
	if first.Code != "invalid_code" {
		t.Errorf("does not say what Zoho said: %v", first)
	}
	for _, again := range append(s.processes(t, 3), p) {
		err := refusalOf(t, again, "", zoho.KindUnauthorized)
		if !strings.Contains(err.Message, "invalid_code") || !strings.Contains(err.Message, "memrelay zoho connect") {
			t.Errorf("does not say why and what to do: %v", err)
		}
		between(t, "the wait", err.RetryAfter, 4*time.Minute, 5*time.Minute)
	}
	s.accounts.wantAsked(t, 1)

	// Five minutes later one probes, while the others are told at once.
	s.exec(t, `UPDATE zoho_tokens SET asked_at = ARRAY[now() - interval '5 minutes']`)
	s.accounts.answers(func(w http.ResponseWriter, n int) {
		wantRefusal(t, s.process(t), "", zoho.KindUnauthorized)
		down(w, n)
	})
	wantRefusal(t, s.process(t), "", zoho.KindUnavailable)
	// That Zoho is down does not make the grant good, nor forgotten why it is not.
	if err := refusalOf(t, s.process(t), "", zoho.KindUnauthorized); !strings.Contains(err.Message, "invalid_code") {
		t.Errorf("does not say why: %v", err)
	}
	s.accounts.wantAsked(t, 2)
	s.exec(t, `UPDATE zoho_tokens SET asked_at = ARRAY[now() - interval '5 minutes'], blocked_until = now()`)
	s.accounts.answers(nil)
	wantToken(t, p, "", access(3))
	if state := one[string](t, s, `SELECT state || last_error FROM zoho_tokens`); state != StateOK {
		t.Errorf("state %q", state)
	}
}

// Who found out that neither the access token nor the grant is good does not find
// it out again at every call.
func TestARefusedGrantEndsARefusedAccessToken(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	a, b := s.process(t), s.process(t)
	wantToken(t, a, "", access(1))
	wantToken(t, b, "", access(1))
	s.accounts.answers(refuse)
	for _, p := range []*Tokens{a, b} {
		wantRefusal(t, p, access(1), zoho.KindUnauthorized)
		wantRefusal(t, p, "", zoho.KindUnauthorized)
		wantRefusal(t, p, access(1), zoho.KindUnauthorized)
	}
	s.accounts.wantAsked(t, 2)
	s.accounts.answers(nil)
	s.exec(t, `UPDATE zoho_tokens SET asked_at = ARRAY[now() - interval '5 minutes']`)
	wantToken(t, a, "", access(3))
	wantToken(t, b, "", access(3))
}

// One node with a wrong client secret does not open what the others share, asks,
// and is refused: that must not take from the others what is good.
func TestARefusalLeavesTheOthersTheirAccessToken(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	good := s.process(t)
	wantToken(t, good, "", access(1))
	s.accounts.answers(func(w http.ResponseWriter, _ int) { fmt.Fprint(w, `{"error":"invalid_client_secret"}`) })
	bad := s.process(t, func(c *Settings) { c.ClientSecret = "not the one" })
	wantRefusal(t, bad, "", zoho.KindUnauthorized)
	if state := one[string](t, s, `SELECT state FROM zoho_tokens`); state != StateRevoked {
		t.Errorf("state %s: nobody learns of it", state)
	}
	good.lookedAt = time.Time{}
	wantToken(t, good, "", access(1))
	wantToken(t, s.process(t), "", access(1))
	s.accounts.wantAsked(t, 2)
	s.exec(t, `UPDATE zoho_tokens SET access_until = now()`)
	wantRefusal(t, s.process(t), "", zoho.KindUnauthorized)
}

// While a deployment goes on, some nodes have the new refresh token already and
// some not yet: each takes the row from the others, and all go on with few questions.
func TestNodesOfDifferentGrantsDoNotAskInTurn(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	other := func(c *Settings) { c.RefreshToken = "1000.refresh.other" }
	nodes := []*Tokens{s.process(t), s.process(t, other), s.process(t), s.process(t, other)}
	start := time.Now()
	for minute := range 11 {
		for i, p := range nodes {
			p.o.Now = func() time.Time { return start.Add(time.Duration(minute) * time.Minute) }
			if _, err := p.Token(t.Context(), ""); err != nil {
				t.Fatalf("minute %d, node %d: %v", minute, i, err)
			}
		}
	}
	s.accounts.mu.Lock()
	asked := s.accounts.asked
	s.accounts.mu.Unlock()
	if asked > mostAsks {
		t.Errorf("Zoho was asked %d times, want %d at most", asked, mostAsks)
	}
	if n := one[int](t, s, `SELECT cardinality(asked_at) FROM zoho_tokens`); n != asked {
		t.Errorf("%d of %d questions are counted", n, asked)
	}

	// A token that Zoho takes no more is replaced, whoever has the row.
	before, err := nodes[0].Token(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	wantToken(t, nodes[0], before.Access, access(asked+1))
}

// Zoho blocks the client, whichever grant it asks with.
func TestAnotherGrantDoesNotEndABlock(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.accounts.answers(tooMany)
	wantRefusal(t, s.process(t), "", zoho.KindThrottled)
	err := refusalOf(t, s.process(t, func(c *Settings) { c.RefreshToken = "1000.refresh.other" }), "", zoho.KindThrottled)
	between(t, "the wait", err.RetryAfter, 9*time.Minute, 10*time.Minute)
	if !strings.Contains(err.Message, "too many requests") {
		t.Errorf("does not say what Zoho said: %v", err)
	}
	s.accounts.wantAsked(t, 1)

	// A person's act starts anew.
	key := box(t, memrelayKey)
	s.connect(t, key)
	s.accounts.answers(nil)
	wantToken(t, s.keyed(t, key, stored), "1000.access.connect", access(2))
}

// An accounts server that never answers is an outage, and not a caller without time.
func TestAQuestionWithoutAnAnswerCountsAsAnOutage(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	p := s.process(t)
	p.at = func(string) Refresher { return silent{} }
	err := refusalOf(t, p, "", zoho.KindUnavailable)
	s.breaker(t).Report(t.Context(), err)
	if n := one[int](t, s, `SELECT count(*) FROM breakers WHERE failures = 1`); n != 1 {
		t.Errorf("not counted: %v", err)
	}
}

// silent is an accounts server whose question ran out of time.
type silent struct{}

func (silent) Refresh(context.Context, string) (zoho.Token, error) {
	return zoho.Token{}, &zoho.Error{Kind: zoho.KindUnavailable, Op: "refresh the access token", Err: context.DeadlineExceeded}
}

func TestAnotherGrantStartsAnew(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.accounts.answers(refuse)
	wantRefusal(t, s.process(t), "", zoho.KindUnauthorized)
	s.accounts.answers(nil)
	other := s.process(t, func(c *Settings) { c.RefreshToken = "1000.refresh.other" })
	wantToken(t, other, "", access(2))
	s.accounts.wantAsked(t, 2)
	if n := s.accounts.clients["1000.refresh.other"]; n != 1 {
		t.Errorf("the other refresh token was used %d times, want once", n)
	}
}

// Of nodes that start together each finds no row: the last one must not take the
// first one's lease away.
func TestTheSameGrantStartsOnce(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	wantToken(t, s.process(t), "", access(1))
	before := one[string](t, s, `SELECT t::text FROM zoho_tokens t`)
	err := db.New(s.pool).StartZohoGrant(t.Context(), db.StartZohoGrantParams{
		Name: "zoho", ClientID: clientID, GrantDigest: Grant{ClientID: clientID, Token: zoho.Token{Refresh: fromEnv}}.digest(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := one[string](t, s, `SELECT t::text FROM zoho_tokens t`); now != before {
		t.Errorf("the grant was started again:\n%s\n%s", before, now)
	}
}

func TestTheStoredGrant(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	key := box(t, memrelayKey)
	if err := refusalOf(t, s.keyed(t, key, stored), "", zoho.KindUnauthorized); !strings.Contains(err.Message, "memrelay zoho connect") {
		t.Errorf("does not say what to do: %v", err)
	}
	s.connect(t, key)
	if one[bool](t, s, `SELECT position($1::bytea IN refresh_token) > 0 FROM zoho_tokens`, []byte(fromCode)) {
		t.Error("the refresh token can be read")
	}
	p := s.keyed(t, key, stored)
	wantToken(t, p, "", "1000.access.connect") // Zoho gave it with the grant
	s.accounts.wantAsked(t, 0)
	wantToken(t, p, "1000.access.connect", access(1))
	if n := s.accounts.clients[fromCode]; n != 1 {
		t.Errorf("the stored refresh token was used %d times, want once", n)
	}

	for name, tc := range map[string]struct {
		box    *seal.Box
		change func(*Settings)
		says   string
	}{
		"no key":          {box: box(t), says: "MEMRELAY_KEY"},
		"another key":     {box: box(t, "quite another one of them"), says: "MEMRELAY_KEY"},
		"another client":  {box: key, says: "ZOHO_CLIENT_ID", change: func(c *Settings) { c.ClientID = "1000.OTHER" }},
		"moved elsewhere": {box: key, says: "MEMRELAY_KEY", change: func(*Settings) { s.exec(t, `UPDATE zoho_tokens SET refresh_token = access_token`) }},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.keyed(t, tc.box, stored, func(c *Settings) {
				if tc.change != nil {
					tc.change(c)
				}
			})
			if err := refusalOf(t, p, "", zoho.KindUnauthorized); !strings.Contains(err.Message, tc.says) || !strings.Contains(err.Message, "connect") {
				t.Errorf("does not say what to do about %s: %v", tc.says, err)
			}
		})
	}
	s.accounts.wantAsked(t, 1)
	if state := one[string](t, s, `SELECT state FROM zoho_tokens`); state != StateOK {
		t.Errorf("a node that cannot read the grant made the state %s for all", state)
	}
}

// Connecting anew helps the nodes that run, within a minute, with keys replaced
// meanwhile; and disconnecting stops them.
func TestNodesThatRunLearnOfAnotherGrant(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.connect(t, box(t, memrelayKey))
	p := s.keyed(t, box(t, "the new one of the keys", memrelayKey), stored)
	wantToken(t, p, "", "1000.access.connect")
	s.accounts.answers(refuse)
	wantRefusal(t, p, "1000.access.connect", zoho.KindUnauthorized)
	s.accounts.answers(nil)
	s.connect(t, box(t, "the new one of the keys"))
	wantToken(t, p, "", "1000.access.connect")

	if err := Forget(t.Context(), s.pool, "a person"); err != nil {
		t.Fatal(err)
	}
	wantToken(t, p, "", "1000.access.connect") // within the minute
	p.lookedAt = time.Now().Add(-lookEvery)
	wantRefusal(t, p, "", zoho.KindUnauthorized)
}

// A refresh token in the environment wins, and the stored one is back in force
// when it is gone.
func TestTheEnvironmentWins(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	key := box(t, memrelayKey)
	s.connect(t, key)
	wantToken(t, s.keyed(t, key), "", access(1))
	wantToken(t, s.keyed(t, key, stored), "", access(2))
	if s.accounts.clients[fromEnv] != 1 || s.accounts.clients[fromCode] != 1 {
		t.Errorf("used %v, want each once", s.accounts.clients)
	}
	if at := one[string](t, s, `SELECT accounts_url FROM zoho_tokens`); at != s.accounts.URL {
		t.Errorf("the stored grant is now of %q", at)
	}
}

func TestAnOutageOfTheDatabaseTakesNoGoodToken(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	p := s.process(t)
	wantToken(t, p, "", access(1))
	s.exec(t, `ALTER TABLE zoho_tokens RENAME TO elsewhere`)
	p.lookedAt = time.Now().Add(-lookEvery)
	wantToken(t, p, "", access(1))
	wantRefusal(t, p, access(1), zoho.KindUnavailable)
	wantRefusal(t, s.process(t), "", zoho.KindUnavailable)
	s.exec(t, `ALTER TABLE elsewhere RENAME TO zoho_tokens`)
	wantToken(t, p, access(1), access(2))
}

// A Zoho that gives the same token again is not believed: whoever is refused it
// would ask for ever.
func TestTheSameTokenAgainIsNone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.accounts.answers(func(w http.ResponseWriter, _ int) { give(w, 1) })
	p := s.process(t)
	wantToken(t, p, "", access(1))
	wantRefusal(t, p, access(1), zoho.KindUnavailable)
	s.accounts.wantAsked(t, 2)
}
