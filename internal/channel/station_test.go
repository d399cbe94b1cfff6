package channel

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/zoho"
)

const ours = "https://relay.example.com/webhooks/zoho"

// station is the keeper on a database of its own, with a Zoho of its own.
type station struct {
	*Keeper
	t    *testing.T
	pool *pgxpool.Pool
	zoho *fakeZoho
}

// newStation keeps Contacts and Deals, or what change makes of it.
func newStation(t *testing.T, change ...func(*Options)) *station {
	t.Helper()
	s := &station{t: t, pool: dbtest.New(t), zoho: newFakeZoho(t)}
	s.Keeper = s.keeper(change...)
	return s
}

// keeper makes one more node.
func (s *station) keeper(change ...func(*Options)) *Keeper {
	o := Options{
		Modules: []string{"Contacts", "Deals"}, NotifyURL: ours, Now: time.Now, Random: rand.Reader,
		Log: slog.New(slog.NewTextHandler(s.t.Output(), nil)),
	}
	jobs, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{Logger: o.Log})
	if err != nil {
		s.t.Fatal(err)
	}
	o.Teller = memory.NewTeller(jobs, memory.Sender{Source: "memrelay", BotVersion: "1.2.3"}, time.Now)
	for _, c := range change {
		c(&o)
	}
	return New(s.pool, s.zoho, o)
}

func of(modules ...string) func(*Options) { return func(o *Options) { o.Modules = modules } }
func calling(url string) func(*Options)   { return func(o *Options) { o.NotifyURL = url } }

// keep does upkeep once, and wants that many channels kept by these calls.
func (s *station) keep(done int, calls ...string) {
	s.t.Helper()
	got, err := s.Keep(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.called(calls...)
	if got != done {
		s.t.Errorf("%d channels kept, want %d", got, done)
	}
}

func (s *station) called(calls ...string) {
	s.t.Helper()
	slices.Sort(calls)
	if diff := cmp.Diff(calls, s.zoho.took()); diff != "" {
		s.t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// pass lets time pass, for the database's rows and for Zoho.
func (s *station) pass(d time.Duration) {
	s.t.Helper()
	s.exec(`UPDATE channels SET expires_at = expires_at - $1::interval, due_at = due_at - $1, confirmed_at = confirmed_at - $1,
		updated_at = updated_at - $1, created_at = created_at - $1`, d)
	s.exec(`UPDATE channel_tokens SET until = until - $1::interval, created_at = created_at - $1`, d)
	s.zoho.mu.Lock()
	s.zoho.skipped += d
	s.zoho.mu.Unlock()
}

func (s *station) exec(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.pool.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatal(err)
	}
}

// row is what is known of a module's channel.
func (s *station) row(module string) db.ListChannelsRow {
	s.t.Helper()
	rows, err := s.List(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	i := slices.IndexFunc(rows, func(r db.ListChannelsRow) bool { return r.Module == module })
	if i < 0 {
		s.t.Fatalf("%s has no channel", module)
	}
	return rows[i]
}

func (s *station) want(module, state string, failures int32) db.ListChannelsRow {
	s.t.Helper()
	r := s.row(module)
	if r.State != state || r.Failures != failures {
		s.t.Errorf("%s is %s after %d failures (%q), want %s after %d", module, r.State, r.Failures, r.LastError, state, failures)
	}
	return r
}

// opens reports whether the door takes a notification with that token.
func (s *station) opens(channelID, token string) bool {
	s.t.Helper()
	c, err := db.New(s.pool).GetChannel(s.t.Context(), channelID)
	if err != nil {
		s.t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(token))
	return slices.ContainsFunc(c.TokenHashes, func(h []byte) bool { return string(h) == string(hash[:]) })
}

// whole wants that whatever would notify us now is let in.
func (s *station) whole(modules ...string) {
	s.t.Helper()
	live := s.zoho.live()
	for _, m := range modules {
		ch, ok := live[m]
		switch {
		case !ok:
			s.t.Errorf("Zoho has no channel of %s", m)
		case !s.opens(ch.ID, ch.Token):
			s.t.Errorf("the door does not know the token that Zoho has for %s", m)
		case s.row(m).ChannelID != ch.ID:
			s.t.Errorf("Zoho has channel %s of %s, our row says %s", ch.ID, m, s.row(m).ChannelID)
		}
		delete(live, m)
	}
	for m := range live {
		s.t.Errorf("Zoho has a channel of %s", m)
	}
}

// count returns what a query counts.
func (s *station) count(sql string, args ...any) (n int) {
	s.t.Helper()
	if err := s.pool.QueryRow(s.t.Context(), sql, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

func TestEachModuleGetsOneChannel(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Accounts", "Contacts", "Notes", "Activities", "Events", "Calls", "Meetings", "Tasks"))
	// Zoho may notify before it answers: whatever it is told, the door knows already.
	s.zoho.hooks(func(op string, ch zoho.Channel) error {
		if !s.opens(ch.ID, ch.Token) {
			t.Errorf("%s: Zoho knows a token that is not committed", op)
		}
		return nil
	}, nil)
	s.keep(5, "enable Accounts", "enable Contacts", "enable Tasks", "enable Events", "enable Calls")
	s.whole("Accounts", "Contacts", "Tasks", "Events", "Calls")
	for _, m := range []string{"Accounts", "Contacts", "Tasks", "Events", "Calls"} {
		r := s.want(m, "active", 0)
		left := time.Until(*r.ExpiresAt)
		if left < 6*24*time.Hour || left > zoho.MaxChannelLife || !slices.Equal(r.Events, []string{m + ".all"}) || r.NotifyURL != ours {
			t.Errorf("%s: %s left, events %v to %s", m, left, r.Events, r.NotifyURL)
		}
		if renewal := time.Until(*r.DueAt); renewal < left/2 || renewal > left*2/3 {
			t.Errorf("%s is renewed in %s, and ends in %s", m, renewal, left)
		}
	}
	_, unwatched := s.Modules()
	if len(unwatched) != 1 || unwatched[0].String() != "Notes: Zoho sends no notifications; the hourly sync reads them" {
		t.Errorf("not watched: %v", unwatched)
	}
	s.keep(0)
}

func TestNothingIsRegisteredUnasked(t *testing.T) {
	t.Parallel()
	s := newStation(t, calling(""))
	s.keep(0)
	if n := s.count(`SELECT count(*) FROM channels`); n != 0 {
		t.Errorf("%d channels", n)
	}
	unconnected := New(s.pool, nil, s.o)
	if done, err := unconnected.Keep(t.Context()); done != 0 || err != nil {
		t.Errorf("without Zoho: %d, %v", done, err)
	}
}

// Zoho said yes and we did not hear it: the answer was lost, or we crashed.
func TestAnAnswerThatIsLostMakesNoSecondChannel(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(stop context.CancelFunc) error{
		"a timeout": func(context.CancelFunc) error { return errTimeout },
		"a crash":   func(stop context.CancelFunc) error { stop(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var first zoho.Channel
			s.zoho.hooks(nil, func(_ string, ch zoho.Channel) error { first = ch; return lose(stop) })
			if done, err := s.Keep(ctx); done != 0 || (err != nil && ctx.Err() == nil) {
				t.Fatalf("%d channels kept, %v", done, err)
			}
			if r := s.row("Contacts"); r.State != "pending" {
				t.Errorf("it is %s, and nobody has heard Zoho say so", r.State)
			}
			s.whole("Contacts")
			s.called("enable Contacts")
			s.keep(0)

			s.zoho.hooks(nil, nil)
			s.pass(2*time.Minute + time.Second)
			s.keep(1, "enable Contacts")
			s.whole("Contacts")
			s.want("Contacts", "active", 0)
			if s.zoho.live()["Contacts"].ID != first.ID {
				t.Error("it has another id")
			}
			if !s.opens(first.ID, first.Token) {
				t.Error("what Zoho sent with the first token is refused")
			}
			s.pass(24 * time.Hour)
			if s.opens(first.ID, first.Token) {
				t.Error("the first token is still good a day later")
			}
		})
	}
}

func TestNodesDoNotAskForTheSameChannel(t *testing.T) {
	t.Parallel()
	modules := []string{"Accounts", "Contacts", "Deals", "Tasks", "Events", "Calls", "Leads", "Cases"}
	s := newStation(t, of(modules...))
	var g errgroup.Group
	for range 4 {
		node := s.keeper(of(modules...))
		g.Go(func() error { _, err := node.Keep(t.Context()); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range modules {
		want = append(want, "enable "+m)
	}
	s.called(want...)
	s.whole(modules...)
}

// Of two nodes that take the same channel at the same moment one leaves it: had it
// waited for the other, it would take it, too.
func TestAChannelThatSomebodyIsTakingIsLeft(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.keep(2, "enable Contacts", "enable Deals")
	s.exec(`UPDATE channels SET due_at = now()`)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `SELECT FROM channels WHERE module = 'Contacts' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	s.exec(`ALTER DATABASE ` + pgx.Identifier{s.pool.Config().ConnConfig.Database}.Sanitize() + ` SET lock_timeout = '5s'`)
	s.pool.Reset() // connections made from now on give up waiting
	s.keep(1, "renew Deals")
}

func TestRenewalBeforeTheEnd(t *testing.T) {
	t.Parallel()
	for name, most := range map[string]time.Duration{"a week": zoho.MaxChannelLife, "an hour although a week was asked for": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			s.zoho.most = most
			s.keep(1, "enable Contacts")
			before := s.zoho.live()["Contacts"]
			r := s.row("Contacts")
			left := time.Until(*r.ExpiresAt)
			if left > most {
				t.Fatalf("it says %s are left, Zoho gave %s", left, most)
			}
			s.keep(0)
			for _, step := range []struct {
				after time.Duration
				renew bool
			}{{left/2 - time.Minute, false}, {left/6 + 2*time.Minute, true}} {
				s.pass(step.after)
				if _, err := s.Keep(t.Context()); err != nil {
					t.Fatal(err)
				}
				// It may have asked for the list, too.
				if slices.Contains(s.zoho.took(), "renew Contacts") != step.renew {
					t.Errorf("%s later: renewed is not %v", step.after, step.renew)
				}
			}
			s.whole("Contacts")
			r = s.want("Contacts", "active", 0)
			if now := time.Until(*r.ExpiresAt); now < left-time.Minute || now > left+time.Minute {
				t.Errorf("after the renewal %s are left, want %s", now, left)
			}
			// The token before is good until the end that its channel had.
			good := min(left/3, 24*time.Hour)
			s.pass(good - 5*time.Minute)
			if !s.opens(before.ID, before.Token) {
				t.Error("the token before is refused before the end of its channel")
			}
			s.pass(10 * time.Minute)
			if s.opens(before.ID, before.Token) {
				t.Error("the token before is good after the end of its channel, or after a day")
			}
			s.pass(left)
			if _, err := s.Keep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := s.count(`SELECT count(*) FROM channel_tokens`); n != 2 {
				t.Errorf("%d tokens are kept, want the last one and the one before", n)
			}
		})
	}
}

func TestWhatIsLostIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lose  func(*station)
		calls []string
	}{
		"it expired while nobody was there": {
			func(s *station) { s.pass(8 * 24 * time.Hour) }, []string{"enable Contacts"},
		},
		"Zoho does not know it when it is renewed": {
			func(s *station) { s.zoho.lose("Contacts"); s.exec(`UPDATE channels SET due_at = now()`) },
			[]string{"renew Contacts", "enable Contacts"},
		},
		"Zoho says so in other words": {
			func(s *station) {
				s.exec(`UPDATE channels SET due_at = now()`)
				s.zoho.hooks(func(op string, _ zoho.Channel) error {
					if op == "renew Contacts" {
						return &zoho.Error{Kind: zoho.KindInvalid, Op: "renew channel", Status: 400, Code: "INVALID_DATA"}
					}
					return nil
				}, nil)
			},
			[]string{"renew Contacts", "enable Contacts"},
		},
		"Zoho does not list it": {
			func(s *station) { s.zoho.lose("Contacts"); s.pass(25 * time.Hour) },
			[]string{"list", "enable Contacts"},
		},
		"the database was restored and knows another token": {
			func(s *station) {
				s.exec(`UPDATE channel_tokens SET token_hash = sha256('older')`)
				s.pass(25 * time.Hour)
			},
			[]string{"list", "enable Contacts"},
		},
		"somebody else pointed it elsewhere": {
			func(s *station) {
				ch := s.zoho.live()["Contacts"]
				ch.NotifyURL = "https://elsewhere.example.com/"
				s.zoho.add(ch)
				s.pass(25 * time.Hour)
			},
			[]string{"list", "enable Contacts"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			s.keep(1, "enable Contacts")
			id := s.row("Contacts").ChannelID
			c.lose(s)
			s.keep(1, c.calls...)
			s.whole("Contacts")
			if r := s.want("Contacts", "active", 0); r.ChannelID != id || r.NotifyURL != ours {
				t.Errorf("channel %s to %s, want %s to %s", r.ChannelID, r.NotifyURL, id, ours)
			}
			sums, err := counter.Read(t.Context(), db.New(s.pool))
			if err != nil {
				t.Fatal(err)
			}
			want := int64(1)
			if name == "Zoho says so in other words" {
				want = 0 // it may have been there
			}
			if sums[Recreated] != want {
				t.Errorf("%d counted as made anew, want %d", sums[Recreated], want)
			}
		})
	}
}

func TestARefusalSaysWhyAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    *zoho.Error
		says   string
		tokens int // that Zoho may have
	}{
		"a scope is missing": {&zoho.Error{Kind: zoho.KindForbidden, Status: 401, Code: "OAUTH_SCOPE_MISMATCH"}, "ZohoCRM.notifications.ALL", 0},
		"not connected":      {&zoho.Error{Kind: zoho.KindUnauthorized, Status: 401, Code: "INVALID_TOKEN"}, "memrelay zoho connect", 0},
		"a bad URL":          {&zoho.Error{Kind: zoho.KindInvalid, Status: 400, Code: "INVALID_DATA", Message: "notify_url"}, "WEBHOOK_BASE_URL", 0},
		"no credits":         {&zoho.Error{Kind: zoho.KindCreditsSpent, Status: 429}, "API credits", 0},
		"too much":           {&zoho.Error{Kind: zoho.KindThrottled, Status: 429}, "tried again", 0},
		"no answer":          {&zoho.Error{Kind: zoho.KindUnavailable}, "tried again", 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			s.zoho.hooks(answering(c.err), nil)
			var waits []time.Duration
			for i := range int32(8) {
				s.keep(0, "enable Contacts")
				r := s.want("Contacts", "pending", i+1)
				if !strings.Contains(r.LastError, c.says) || !strings.Contains(r.LastError, c.err.Error()) {
					t.Errorf("it says %q", r.LastError)
				}
				wait := time.Until(*r.DueAt)
				waits = append(waits, wait.Round(time.Minute))
				least := min(time.Minute<<i, time.Hour) - time.Second
				if wait < least || wait > min(least*3/2+time.Second, time.Hour) {
					t.Errorf("after %d failures it waits %s", i+1, wait)
				}
				lost, err := Health(t.Context(), db.New(s.pool))
				if err != nil {
					t.Fatal(err)
				}
				if failing := i >= 4; failing != (len(lost) == 1) {
					t.Errorf("after %d failures and waits of %v: lost %v", i+1, waits, lost)
				}
				s.keep(0)
				s.pass(wait)
			}
			if n := s.count(`SELECT count(*) FROM channel_tokens`); n != c.tokens {
				t.Errorf("%d tokens are kept, want %d", n, c.tokens)
			}
			s.zoho.hooks(nil, nil)
			s.keep(1, "enable Contacts")
			s.want("Contacts", "active", 0)
			if r := s.row("Contacts"); r.LastError != "" {
				t.Errorf("it still says %q", r.LastError)
			}
			if lost, err := Health(t.Context(), db.New(s.pool)); err != nil || len(lost) > 0 {
				t.Errorf("lost %v, %v", lost, err)
			}
		})
	}
}

func TestZohoSaysHowLongToWait(t *testing.T) {
	t.Parallel()
	for asked, want := range map[time.Duration]time.Duration{20 * time.Minute: 20 * time.Minute, 5 * time.Hour: time.Hour} {
		s := newStation(t, of("Contacts"))
		s.zoho.hooks(answering(&zoho.Error{Kind: zoho.KindCreditsSpent, Status: 429, RetryAfter: asked}), nil)
		s.keep(0, "enable Contacts")
		if wait := time.Until(*s.row("Contacts").DueAt).Round(time.Second * 10); wait != want {
			t.Errorf("asked to wait %s, it waits %s", asked, wait)
		}
	}
}

func TestAChannelThatCannotBeRenewedIsLostAtItsEnd(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	s.zoho.most = time.Hour
	s.keep(1, "enable Contacts")
	s.zoho.hooks(answering(errTimeout), nil)
	s.pass(41 * time.Minute)
	s.keep(0, "renew Contacts")
	s.want("Contacts", "active", 1)
	s.whole("Contacts")
	s.pass(20 * time.Minute)
	lost, err := Health(t.Context(), db.New(s.pool))
	if err != nil || !slices.Equal(lost, []string{"Contacts"}) {
		t.Errorf("lost %v, %v: upkeep has not seen it, but it is", lost, err)
	}
	s.keep(0, "enable Contacts")
	s.want("Contacts", "lost", 2)
	s.zoho.hooks(nil, nil)
	s.pass(time.Hour)
	s.keep(1, "enable Contacts")
	s.want("Contacts", "active", 0)
	s.whole("Contacts")
}

func TestAnExpiredChannelIsLostBeforeUpkeepSeesIt(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.keep(2, "enable Contacts", "enable Deals")
	s.exec(`UPDATE channels SET expires_at = now() WHERE module = 'Deals'`)
	lost, err := Health(t.Context(), db.New(s.pool))
	if err != nil || !slices.Equal(lost, []string{"Deals"}) {
		t.Errorf("lost %v, %v", lost, err)
	}
	s.want("Deals", "lost", 0)
}

// Somebody else may have changed the channel: its end is what Zoho says.
func TestTheListSaysTheEnd(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	s.keep(1, "enable Contacts")
	s.pass(25 * time.Hour)
	ch := s.zoho.live()["Contacts"]
	ch.Expires = s.zoho.now().Add(3 * time.Hour).Truncate(time.Second)
	s.zoho.add(ch)
	s.keep(0, "list")
	r := s.want("Contacts", "active", 0)
	left, renewal := time.Until(*r.ExpiresAt), time.Until(*r.DueAt)
	if left > 3*time.Hour || left < 3*time.Hour-time.Minute || renewal > 2*time.Hour || renewal < time.Hour {
		t.Errorf("renewed in %s, %s before the end", renewal, left)
	}
}

func TestChannelsFollowTheURL(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.keep(2, "enable Contacts", "enable Deals")
	const other = "https://other.example.com/webhooks/zoho"
	var log bytes.Buffer
	s.Keeper = s.keeper(calling(other+"?key=hush"), func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	s.keep(0) // not yet: perhaps another node has just moved them
	s.pass(16 * time.Minute)
	s.zoho.hooks(answering(errTimeout), nil)
	s.keep(0, "replace Contacts", "replace Deals")
	if r := s.want("Contacts", "active", 1); r.NotifyURL != ours {
		t.Errorf("it says %s, and Zoho has not said so", r.NotifyURL)
	}
	s.keep(0) // it waits, as after every failure
	s.zoho.hooks(nil, nil)
	s.pass(2 * time.Minute)
	s.keep(2, "replace Contacts", "replace Deals")
	for _, ch := range s.zoho.live() {
		if ch.NotifyURL != other+"?key=hush" {
			t.Errorf("%s still calls %s", ch.Module, ch.NotifyURL)
		}
	}
	s.whole("Contacts", "Deals")
	s.keep(0)
	if text := log.String(); strings.Count(text, "moved to another URL") != 2 || !strings.Contains(text, "from="+ours+" to="+other+"\n") {
		t.Errorf("the log says\n%s", text)
	}
	// A node that has not heard of the new URL does not move them back at once.
	s.Keeper = s.keeper()
	s.keep(0)
	// Without the setting they stay where they are.
	s.Keeper = s.keeper(calling(""))
	s.pass(16 * time.Minute)
	s.keep(0)
}

// What a database that was restored has forgotten calls us for days, and is
// refused as nobody's.
func TestStrangersAreRemoved(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.keep(2, "enable Contacts", "enable Deals")
	end := time.Now().Add(3 * 24 * time.Hour)
	s.zoho.add(zoho.Channel{ID: "1", Module: "Leads", Events: []string{"Leads.all"}, NotifyURL: ours, Expires: end})
	s.zoho.add(zoho.Channel{ID: "2", Module: "Cases", Events: []string{"Cases.all"}, NotifyURL: "https://somebody.example.com/", Expires: end})
	s.zoho.add(zoho.Channel{ID: "3", Module: "Quotes", Events: []string{"Quotes.all"}, NotifyURL: ours, Expires: end})
	s.exec(`INSERT INTO channels (channel_id) VALUES ('3')`) // registered by hand, and ours
	s.keep(0)
	s.pass(25 * time.Hour)
	s.keep(0, "list", "disable Leads")
	if left := slices.Sorted(maps.Keys(s.zoho.live())); !slices.Equal(left, []string{"Cases", "Contacts", "Deals", "Quotes"}) {
		t.Errorf("left are the channels of %v", left)
	}
}

// The list that Zoho refuses is not asked for each minute.
func TestTheListIsLeftAloneAfterARefusal(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	s.keep(1, "enable Contacts")
	s.pass(25 * time.Hour)
	s.zoho.hooks(answering(&zoho.Error{Kind: zoho.KindForbidden, Status: 401}), nil)
	s.keep(0, "list")
	s.keep(0)
	s.want("Contacts", "active", 0)
	s.Keeper.o.Now = func() time.Time { return time.Now().Add(relist) }
	s.zoho.hooks(nil, nil)
	s.keep(0, "list")
	s.keep(0) // for a day
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	jobs, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{Logger: s.o.Log})
	if err != nil {
		t.Fatal(err)
	}
	// schedule wants a job or none, and takes it away again.
	schedule := func(k *Keeper, want int, when string) {
		t.Helper()
		for range 2 { // one that waits is enough
			err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return k.Schedule(t.Context(), tx, jobs) })
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := s.count(`SELECT count(*) FROM river_job WHERE kind = 'keep_channels' AND state = 'available'`); n != want {
			t.Errorf("%s: %d jobs, want %d", when, n, want)
		}
		s.exec(`UPDATE river_job SET state = 'discarded', finalized_at = now() WHERE state = 'available'`)
	}
	worker := NewWorker(s.Keeper)
	work := func() {
		t.Helper()
		if err := worker.Work(t.Context(), &river.Job[job.KeepChannels]{}); err != nil {
			t.Fatal(err)
		}
	}
	schedule(New(s.pool, nil, s.o), 0, "not connected")
	schedule(s.keeper(calling("")), 0, "nothing registered and no URL")
	schedule(s.Keeper, 1, "all missing")
	work()
	s.called("enable Contacts", "enable Deals")
	schedule(s.Keeper, 0, "all fine")
	schedule(s.keeper(of("Contacts", "Leads")), 1, "one missing")
	schedule(s.keeper(calling("https://other.example.com/webhooks/zoho")), 0, "another URL, and confirmed just now")
	s.pass(16 * time.Minute)
	schedule(s.keeper(calling("https://other.example.com/webhooks/zoho")), 1, "another URL")
	schedule(s.keeper(calling("")), 0, "no URL any more")
	s.pass(25 * time.Hour)
	schedule(s.Keeper, 1, "not listed for a day")
	work()
	s.called("list")
	schedule(s.Keeper, 0, "listed")
	s.pass(5 * 24 * time.Hour)
	schedule(s.keeper(calling("")), 1, "due")
	s.zoho.hooks(answering(errTimeout), nil)
	work()
	s.called("list", "renew Contacts", "renew Deals")
	s.exec(`UPDATE channels SET confirmed_at = now()`)
	schedule(s.Keeper, 0, "failed just now")
	s.exec(`UPDATE channels SET expires_at = now()`)
	schedule(s.Keeper, 1, "expired")
	for _, m := range []string{"Contacts", "Deals"} {
		if _, err := s.Remove(t.Context(), []string{m}); err == nil {
			t.Error("removed, and Zoho has not said so")
		}
	}
	schedule(s.Keeper, 0, "all removed")
}

// A job that has no time left for a call leaves the channel to the next one.
func TestAJobEndsInTime(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	ctx, cancel := context.WithTimeout(t.Context(), callTime)
	defer cancel()
	if done, err := s.Keep(ctx); done != 0 || err != nil {
		t.Fatalf("%d, %v", done, err)
	}
	s.called()
	s.keep(2, "enable Contacts", "enable Deals")
	if NewWorker(s.Keeper).Timeout(nil) < 2*callTime {
		t.Error("a job has no time for two calls")
	}
}
