package channel

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/zoho"
)

var errForbidden = &zoho.Error{Kind: zoho.KindForbidden, Op: "channel", Status: 401, Code: "OAUTH_SCOPE_MISMATCH"}

func TestRegister(t *testing.T) {
	t.Parallel()
	s := newStation(t, calling(""))
	const here = "https://gateway.example.com/in?key=1"
	done, err := s.Register(t.Context(), []string{"meetings", "Deals", "Deals"}, here)
	if err != nil || !slices.Equal(done, []string{"Events", "Deals"}) {
		t.Errorf("%v, %v", done, err)
	}
	s.called("enable Events", "enable Deals")
	s.whole("Events", "Deals")

	// Again, and all: the one that is there is renewed.
	if _, err := s.Register(t.Context(), nil, here); err != nil {
		t.Error(err)
	}
	s.called("enable Contacts", "renew Deals")
	s.whole("Events", "Deals", "Contacts")

	if _, err := s.Register(t.Context(), []string{"Deals"}, ours); err != nil {
		t.Error(err)
	}
	s.called("replace Deals")
	if s.row("Deals").NotifyURL != ours || s.row("Contacts").NotifyURL != here {
		t.Error("only one of them should have another URL")
	}
	s.keep(0)
}

func TestOneThatIsRefusedDoesNotHinderTheOthers(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	done, err := s.Register(t.Context(), []string{"Nonsense", "Contacts"}, "")
	if !slices.Equal(done, []string{"Contacts"}) || err == nil || !strings.Contains(err.Error(), "Nonsense: ") || !strings.Contains(err.Error(), "INVALID_DATA") {
		t.Errorf("%v, %v", done, err)
	}
	s.want("Nonsense", "pending", 1)
	s.want("Contacts", "active", 0)
}

func TestWhatCannotBeAskedFor(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	register := func(url string, modules ...string) error {
		_, err := s.Register(t.Context(), modules, url)
		return err
	}
	free := s.keeper(calling(""))
	toFree := func(url string) error {
		_, err := free.Register(t.Context(), nil, url)
		return err
	}
	for name, c := range map[string]struct {
		err  error
		says string
	}{
		"a module without notifications": {register("", "Contacts", "notes"), "the hourly sync reads them"},
		"a URL beside the setting":       {register("https://other.example.com/"), "WEBHOOK_BASE_URL is set"},
		"no URL at all":                  {toFree(""), "Set WEBHOOK_BASE_URL"},
		"a URL that is none":             {toFree("relay.example.com"), "https URL"},
		"a long URL":                     {toFree("https://relay.example.com/" + strings.Repeat("x", 255)), "255"},
		"pausing several":                {s.Pause(t.Context(), "Activities"), "Tasks, Events, Calls"},
		"an event that is none":          {s.SetEvents(t.Context(), "Contacts", []string{"edit", "update"}), "update is no event"},
		"an event of another module":     {s.SetEvents(t.Context(), "Contacts", []string{"Deals.edit"}), "Deals.edit is no event"},
		"no events":                      {s.SetEvents(t.Context(), "Contacts", nil), "1 to 50"},
	} {
		if !errors.Is(c.err, ErrInvalid) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	s.called()
	if n := s.count(`SELECT count(*) FROM channels`); n != 0 {
		t.Errorf("%d channels", n)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	_, renewed := s.Renew(t.Context(), []string{"Contacts"})
	_, removed := s.Remove(t.Context(), []string{"Contacts"})
	for name, err := range map[string]error{
		"renew": renewed, "remove": removed, "pause": s.Pause(t.Context(), "Contacts"), "resume": s.Resume(t.Context(), "Contacts"),
		"events": s.SetEvents(t.Context(), "Contacts", []string{"edit"}),
	} {
		if !errors.Is(err, ErrState) || !strings.HasPrefix(err.Error(), "Contacts: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	k := New(s.pool, nil, s.o)
	_, registered := k.Register(t.Context(), nil, "")
	for name, err := range map[string]error{
		"register": registered, "pause": k.Pause(t.Context(), "Contacts"), "resume": k.Resume(t.Context(), "Contacts"),
	} {
		if !errors.Is(err, ErrNotConnected) {
			t.Errorf("%s without Zoho: %v", name, err)
		}
	}
	if _, err := k.List(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRenewAndRotate(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.keep(2, "enable Contacts", "enable Deals")
	before := s.zoho.live()["Contacts"]
	done, err := s.Rotate(t.Context(), nil)
	if err != nil || !slices.Equal(done, []string{"Contacts", "Deals"}) {
		t.Errorf("%v, %v", done, err)
	}
	s.called("renew Contacts", "renew Deals")
	s.whole("Contacts", "Deals")
	if s.zoho.live()["Contacts"].Token == before.Token || !s.opens(before.ID, before.Token) {
		t.Error("want another token, and the one before still good")
	}
	if err := s.Pause(t.Context(), "Deals"); err != nil {
		t.Fatal(err)
	}
	s.zoho.took()
	if done, err := s.Renew(t.Context(), nil); err != nil || !slices.Equal(done, []string{"Contacts"}) {
		t.Errorf("all: %v, %v", done, err)
	}
	if _, err := s.Renew(t.Context(), []string{"Deals"}); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "resume") {
		t.Errorf("one that is paused: %v", err)
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.keep(2, "enable Contacts", "enable Deals")
	id := s.row("Contacts").ChannelID
	s.zoho.hooks(answering(errForbidden), nil)
	if err := s.Pause(t.Context(), "Contacts"); !errors.As(err, new(*zoho.Error)) {
		t.Errorf("%v", err)
	}
	s.want("Contacts", "active", 0)
	s.zoho.hooks(nil, nil)
	if err := s.Pause(t.Context(), "contacts"); err != nil {
		t.Fatal(err)
	}
	s.want("Contacts", "paused", 0)
	s.whole("Deals")
	s.pass(8 * 24 * time.Hour)
	s.zoho.took()
	s.keep(1, "enable Deals") // the one that expired
	s.want("Contacts", "paused", 0)
	if lost, err := Health(t.Context(), db.New(s.pool)); err != nil || len(lost) > 0 {
		t.Errorf("lost %v, %v", lost, err)
	}

	s.zoho.hooks(answering(errTimeout), nil)
	if err := s.Resume(t.Context(), "Contacts"); !errors.As(err, new(*zoho.Error)) {
		t.Errorf("%v", err)
	}
	s.want("Contacts", "pending", 1)
	s.zoho.hooks(nil, nil)
	s.zoho.took()
	s.pass(2 * time.Minute)
	s.keep(1, "enable Contacts")
	s.whole("Contacts", "Deals")
	if s.row("Contacts").ChannelID != id {
		t.Error("it has another id")
	}
	if err := s.Resume(t.Context(), "Contacts"); !errors.Is(err, ErrState) {
		t.Errorf("one that is not paused: %v", err)
	}
	// Zoho has forgotten it: then it sends nothing, either.
	s.zoho.lose("Contacts")
	if err := s.Pause(t.Context(), "Contacts"); err != nil {
		t.Error(err)
	}
	if err := s.Resume(t.Context(), "Contacts"); err != nil {
		t.Error(err)
	}
	s.whole("Contacts", "Deals")
}

func TestSetEvents(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	s.keep(1, "enable Contacts")
	if err := s.SetEvents(t.Context(), "Contacts", []string{"create", "Contacts.edit", "edit"}); err != nil {
		t.Fatal(err)
	}
	s.called("replace Contacts")
	want := []string{"Contacts.create", "Contacts.edit"}
	check := func() {
		t.Helper()
		if diff := cmp.Diff(want, s.zoho.live()["Contacts"].Events); diff != "" {
			t.Errorf("Zoho tells of (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, s.row("Contacts").Events); diff != "" {
			t.Errorf("the row says (-want +got):\n%s", diff)
		}
	}
	check()
	s.zoho.hooks(answering(errForbidden), nil)
	if err := s.SetEvents(t.Context(), "Contacts", []string{"all"}); !errors.As(err, new(*zoho.Error)) {
		t.Errorf("%v", err)
	}
	check()
	s.zoho.hooks(nil, nil)
	s.pass(8 * 24 * time.Hour)
	s.zoho.took()
	s.keep(1, "enable Contacts")
	check() // also in a channel that was made anew

	// Zoho has done it, and nobody has heard so: the person was told that it failed.
	s.zoho.hooks(nil, answering(errTimeout))
	if err := s.SetEvents(t.Context(), "Contacts", []string{"all"}); !errors.As(err, new(*zoho.Error)) {
		t.Errorf("%v", err)
	}
	s.zoho.hooks(nil, nil)
	s.zoho.took()
	s.pass(2 * time.Minute)
	s.keep(1, "replace Contacts")
	check()
}

func TestRemovedStaysRemoved(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.keep(2, "enable Contacts", "enable Deals")
	was := s.zoho.live()["Contacts"]
	if done, err := s.Remove(t.Context(), []string{"Contacts"}); err != nil || !slices.Equal(done, []string{"Contacts"}) {
		t.Fatalf("%v, %v", done, err)
	}
	s.called("disable Contacts")
	s.keep(0)
	s.whole("Deals")
	s.want("Contacts", "removed", 0)
	if s.opens(was.ID, was.Token) {
		t.Error("its token still opens the door")
	}
	s.pass(8 * 24 * time.Hour)
	s.keep(1, "enable Deals")
	s.want("Contacts", "removed", 0)

	if _, err := s.Register(t.Context(), []string{"Contacts"}, ""); err != nil {
		t.Fatal(err)
	}
	s.whole("Contacts", "Deals")
	if n := s.count(`SELECT count(*) FROM channels`); n != 2 {
		t.Errorf("%d rows for two modules", n)
	}
}

func TestRemovedWhileZohoDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.keep(2, "enable Contacts", "enable Deals")
	s.zoho.hooks(answering(errTimeout), nil)
	if done, err := s.Remove(t.Context(), []string{"Contacts"}); err == nil || len(done) > 0 || !strings.Contains(err.Error(), "removed here") {
		t.Errorf("%v, %v", done, err)
	}
	if r := s.want("Contacts", "removed", 0); !strings.Contains(r.LastError, "Zoho has not confirmed") {
		t.Errorf("it says %q", r.LastError)
	}
	s.called("disable Contacts")
	s.zoho.hooks(nil, nil)
	s.pass(25 * time.Hour)
	s.keep(0, "list", "disable Contacts") // it is on Zoho's list, and removed here
	s.whole("Deals")
}

// A person decides while upkeep is asking Zoho for the opposite.
func TestAPersonOvertakesUpkeep(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		decide func(*station, context.Context) error
		state  string
	}{
		"removes": {func(s *station, ctx context.Context) error {
			_, err := s.Remove(ctx, []string{"Contacts"})
			return err
		}, "removed"},
		"pauses": {func(s *station, ctx context.Context) error { return s.Pause(ctx, "Contacts") }, "paused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			s.zoho.hooks(func(op string, _ zoho.Channel) error {
				if op != "enable Contacts" {
					return nil
				}
				return c.decide(s, t.Context())
			}, nil)
			if done, err := s.Keep(t.Context()); done != 0 || err != nil {
				t.Errorf("%d, %v", done, err)
			}
			s.want("Contacts", c.state, 0)
			s.whole()
			s.zoho.took()
			s.keep(0)
		})
	}
}

// Upkeep's call is on its way for long, a person renews meanwhile, and then it
// comes to Zoho: Zoho has upkeep's token, and ours is the person's.
func TestALateCallIsMended(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]error{"Zoho said yes": nil, "nobody heard what Zoho said": errTimeout} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			s.keep(1, "enable Contacts")
			s.exec(`UPDATE channels SET expires_at = now(), due_at = now()`)
			first := ""
			s.zoho.hooks(func(op string, ch zoho.Channel) error {
				switch {
				case op == "replace Contacts":
					return errTimeout // for now
				case first == "":
					first = ch.Token
					return s.SetEvents(t.Context(), "Contacts", []string{"edit"})
				}
				return nil
			}, func(_ string, ch zoho.Channel) error {
				if ch.Token == first {
					return late
				}
				return nil
			})
			s.keep(0, "enable Contacts", "enable Contacts", "replace Contacts")
			if s.zoho.live()["Contacts"].Token != first {
				t.Fatal("the late call did not come last")
			}
			s.pass(20 * time.Minute)
			s.whole("Contacts")
			s.zoho.hooks(nil, nil)
			s.keep(1, "replace Contacts")
			s.whole("Contacts")
			r := s.want("Contacts", "active", 0)
			if got := s.zoho.live()["Contacts"].Events; !slices.Equal(got, []string{"Contacts.edit"}) || !slices.Equal(r.Events, got) {
				t.Errorf("Zoho tells of %v, the row says %v", got, r.Events)
			}
			s.keep(0)
			if n := s.count(`SELECT count(*) FROM channel_tokens WHERE until IS NULL`); n != 1 {
				t.Errorf("%d tokens have no end", n)
			}
		})
	}
}

// A late call that Zoho surely did not do changed nothing.
func TestALateRefusalIsNotMended(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	first := true
	s.zoho.hooks(func(string, zoho.Channel) error {
		if !first {
			return nil
		}
		first = false
		if _, err := s.Renew(t.Context(), nil); err != nil {
			t.Error(err)
		}
		return errForbidden
	}, nil)
	s.keep(0, "enable Contacts", "enable Contacts")
	s.want("Contacts", "active", 0)
	s.whole("Contacts")
}

// crossing has upkeep enable a lost channel while a person does something about
// it, at Zoho after what the person's call named op did there. Upkeep is done
// before the person's call has its answer.
func (s *station) crossing(op string, do func() error) {
	s.t.Helper()
	s.exec(`UPDATE channels SET expires_at = now(), due_at = now()`)
	s.zoho.lose("Contacts")
	called, crossed, kept := make(chan struct{}), make(chan struct{}), make(chan struct{})
	calls := 0 // only one of the two gets on at a time
	s.zoho.hooks(func(name string, _ zoho.Channel) error {
		if calls++; calls == 1 {
			if name != "enable Contacts" {
				s.t.Errorf("first came %s", name)
			}
			close(called)
			<-crossed
		}
		return nil
	}, func(name string, _ zoho.Channel) error {
		if name == op && calls == 2 {
			calls++
			close(crossed)
			<-kept
		}
		return nil
	})
	go func() {
		defer close(kept)
		if done, err := s.Keep(s.t.Context()); done != 0 || err != nil {
			s.t.Errorf("%d kept, %v", done, err)
		}
	}()
	select {
	case <-called:
	case <-kept:
		s.t.Fatal("upkeep did not call Zoho")
	}
	if err := do(); err != nil {
		s.t.Error(err)
	}
	s.zoho.hooks(nil, nil)
}

// Upkeep has Zoho go on after Zoho stopped, and before the pause is written.
func TestAPauseStopsWhatUpkeepJustEnabled(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	s.keep(1, "enable Contacts")
	s.crossing("stop Contacts", func() error { return s.Pause(t.Context(), "Contacts") })
	s.called("enable Contacts", "stop Contacts", "stop Contacts")
	s.want("Contacts", "paused", 0)
	s.whole()
	s.keep(0)
}

// The late call is over before the person's has its answer: that is heard all the
// same, and mended after it.
func TestALateCallDoesNotOvertakeAPerson(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	s.keep(1, "enable Contacts")
	s.crossing("enable Contacts", func() error { return s.SetEvents(t.Context(), "Contacts", []string{"edit"}) })
	s.called("enable Contacts", "enable Contacts")
	s.pass(20 * time.Minute)
	s.whole("Contacts")
	s.keep(1, "replace Contacts")
	s.whole("Contacts")
	s.want("Contacts", "active", 0)
	if got := s.zoho.live()["Contacts"].Events; !slices.Equal(got, []string{"Contacts.edit"}) {
		t.Errorf("Zoho tells of %v", got)
	}
}

// Nobody knows whether Zoho did what it did not answer, and a person has stopped it.
func TestAPersonOvertakesACallWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, decide := range map[string]func(*station) error{
		"removed": func(s *station) error { _, err := s.Remove(t.Context(), []string{"Contacts"}); return err },
		"paused":  func(s *station) error { return s.Pause(t.Context(), "Contacts") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			s.zoho.hooks(func(op string, _ zoho.Channel) error {
				if op != "enable Contacts" {
					return nil
				}
				return decide(s)
			}, func(op string, _ zoho.Channel) error {
				if op == "enable Contacts" {
					return errTimeout
				}
				return nil
			})
			if done, err := s.Keep(t.Context()); done != 0 || err != nil {
				t.Errorf("%d, %v", done, err)
			}
			s.want("Contacts", name, 0)
			s.whole()
		})
	}
}

// While upkeep stops at Zoho what was paused, a person resumes it.
func TestAResumeIsNotUndone(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	s.zoho.lose("Contacts")
	enabled, stopped := 0, 0
	s.zoho.hooks(func(op string, _ zoho.Channel) error {
		switch op {
		case "enable Contacts":
			if enabled++; enabled == 1 {
				return s.Pause(t.Context(), "Contacts")
			}
		case "stop Contacts":
			if stopped++; stopped == 2 {
				return s.Resume(t.Context(), "Contacts")
			}
		}
		return nil
	}, nil)
	if _, err := s.Keep(t.Context()); err != nil {
		t.Error(err)
	}
	s.whole("Contacts")
	s.want("Contacts", "active", 0)
}

// drawing does something when a token is about to be made: after the channel was
// taken, and before Zoho is told.
type drawing struct{ do func() }

func (d drawing) Read(b []byte) (int, error) {
	if len(b) == 32 {
		d.do()
	}
	return rand.Read(b)
}

func TestWhatIsRemovedGetsNoToken(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	s.keep(1, "enable Contacts")
	s.Keeper = s.keeper(of("Contacts"), func(o *Options) {
		o.Random = drawing{func() {
			if _, err := s.Remove(t.Context(), []string{"Contacts"}); err != nil {
				t.Error(err)
			}
		}}
	})
	if _, err := s.Renew(t.Context(), nil); !errors.Is(err, ErrOvertaken) {
		t.Errorf("%v", err)
	}
	s.called("disable Contacts")
	if n := s.count(`SELECT count(*) FROM channel_tokens`); n != 0 {
		t.Errorf("%d tokens open the door", n)
	}
	s.whole()
}

func TestListSaysWhatCame(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.keep(2, "enable Contacts", "enable Deals")
	s.exec(`INSERT INTO channels (channel_id) VALUES ('7')`)
	s.exec(`INSERT INTO events (source, event_id, digest, module, operation, record_id, received_at)
		SELECT source, source || module || n, sha256(''), module, 'update', '1', timestamptz '2026-01-01' + n * interval '1 s'
		FROM (VALUES ('zoho', 'Contacts', 3), ('other', 'Deals', 2)) AS v (source, module, most), generate_series(1, most) AS n`)
	rows, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Module, State string
		Received      int64
	}
	var got []line
	for _, r := range rows {
		got = append(got, line{r.Module, r.State, r.Received})
	}
	if diff := cmp.Diff([]line{{"Contacts", "active", 3}, {"Deals", "active", 0}, {"", "active", 0}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if at := rows[0].ReceivedAt; at == nil || !at.Equal(time.Date(2026, 1, 1, 0, 0, 3, 0, time.UTC)) {
		t.Errorf("the newest came at %v", at)
	}
	if rows[1].ReceivedAt != nil {
		t.Errorf("nothing came at %v", rows[1].ReceivedAt)
	}
}

func TestModules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		modules, watched, unwatched []string
	}{
		"Zoho's names":       {modules: []string{"Accounts", "Price_Books"}, watched: []string{"Accounts", "Price_Books"}},
		"people's names":     {modules: []string{"deals", " sales orders ", "Meetings"}, watched: []string{"Deals", "Sales_Orders", "Events"}},
		"each once":          {modules: []string{"Tasks", "Activities", "Meetings", "Events"}, watched: []string{"Tasks", "Events", "Calls"}},
		"the organisation's": {modules: []string{"CustomModule1", "my_own"}, watched: []string{"CustomModule1", "my_own"}},
		"none of Notes":      {modules: []string{"Notes", "Leads"}, watched: []string{"Leads"}, unwatched: []string{"Notes"}},
	} {
		watched, unwatched := watchable(c.modules)
		var names []string
		for _, u := range unwatched {
			names = append(names, u.Module)
		}
		if !slices.Equal(watched, c.watched) || !slices.Equal(names, c.unwatched) {
			t.Errorf("%s: watched %v, not watched %v", name, watched, names)
		}
	}
}

func TestWhatPeopleDoIsOnRecord(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"), func(o *Options) { o.Actor = "ada" })
	s.keep(1, "enable Contacts")
	if n := s.count(`SELECT count(*) FROM audit_log`); n != 0 {
		t.Errorf("upkeep wrote %d lines", n)
	}
	_, registered := s.Register(t.Context(), nil, "")
	_, renewed := s.Renew(t.Context(), nil)
	changed := s.SetEvents(t.Context(), "Contacts", []string{"edit"})
	paused := s.Pause(t.Context(), "Contacts")
	resumed := s.Resume(t.Context(), "Contacts")
	_, removed := s.Remove(t.Context(), []string{"Contacts"})
	if err := errors.Join(registered, renewed, changed, paused, resumed, removed); err != nil {
		t.Fatal(err)
	}
	if err := s.Pause(t.Context(), "Contacts"); err == nil {
		t.Error("paused what is gone")
	}
	rows, err := s.pool.Query(t.Context(), `SELECT concat_ws(' ', actor, action, object, details) FROM audit_log ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		`ada channel.register channel/Contacts {"url": "` + ours + `"}`,
		`ada channel.renew channel/Contacts {}`,
		`ada channel.events channel/Contacts {"events": ["Contacts.edit"]}`,
		`ada channel.pause channel/Contacts {}`,
		`ada channel.resume channel/Contacts {}`,
		`ada channel.remove channel/Contacts {}`,
	}, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
