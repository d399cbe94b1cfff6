package channel

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/zoho"
)

// watch lets an endpoint ask for these events.
func (s *station) watch(events ...string) {
	s.t.Helper()
	s.exec(`INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		VALUES ($1, 'ops', 'https://example.com', $2, '30s', '{1s,2s}')`, uuid.New(), events)
}

// toldLost are the losses that were told, as "<module> <channel>: <error>", and how
// many jobs there are to relay them.
func (s *station) toldLost() (all []string, jobs int) {
	s.t.Helper()
	cataloguetest.Outbox(s.t, s.pool)
	payloads, err := s.pool.Query(s.t.Context(), `SELECT payload FROM outbox WHERE event = 'channel.lost' AND user_id = 'system' ORDER BY seq`)
	if err != nil {
		s.t.Fatal(err)
	}
	told, err := pgx.CollectRows(payloads, pgx.RowTo[[]byte])
	if err != nil {
		s.t.Fatal(err)
	}
	for _, payload := range told {
		var said struct{ Data memory.ChannelLostData }
		if err := json.Unmarshal(payload, &said); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, strings.Join(said.Data.Modules, ",")+" "+said.Data.ChannelID+": "+said.Data.Error)
	}
	if err := s.pool.QueryRow(s.t.Context(), `SELECT count(*) FROM river_job WHERE kind = 'relay'`).Scan(&jobs); err != nil {
		s.t.Fatal(err)
	}
	return all, jobs
}

// wantLost wants the channel of Contacts told to be lost, for these reasons in turn.
func (s *station) wantLost(reasons ...string) {
	s.t.Helper()
	told, jobs := s.toldLost()
	if len(told) != len(reasons) || jobs != len(reasons) {
		s.t.Fatalf("told %q with %d jobs, want %q", told, jobs, reasons)
	}
	for i, reason := range reasons {
		if want := "Contacts " + s.row("Contacts").ChannelID + ": " + reason; !strings.HasPrefix(told[i], want) {
			s.t.Errorf("told %q, want %q", told[i], want)
		}
	}
}

// losing is a way to lose the channel of Contacts.
type losing struct {
	name   string
	lose   func(*station)
	reason string
	anew   bool // Zoho knows it again before anything is written
}

// forbidding has Zoho refuse the calls of these names.
func forbidding(names ...string) func(string, zoho.Channel) error {
	return func(name string, _ zoho.Channel) error {
		if slices.Contains(names, name) {
			return &zoho.Error{Kind: zoho.KindForbidden, Op: "enable channel", Status: 401}
		}
		return nil
	}
}

func losings() []losing {
	return []losing{
		{"it expired while nobody looked", func(s *station) { s.pass(8 * 24 * time.Hour) }, "it expired", false},
		{
			"it expired while Zoho did not answer",
			func(s *station) {
				s.exec(`UPDATE channels SET failures = 3, last_error = 'timeout (tried again)'`)
				s.pass(8 * 24 * time.Hour)
			},
			"it expired, and could not be renewed: timeout (tried again)", false,
		},
		{
			"Zoho does not know it when it is renewed",
			func(s *station) { s.zoho.lose("Contacts"); s.exec(`UPDATE channels SET due_at = now()`) },
			"Zoho did not know it any more; it was registered anew at once", true,
		},
		{
			"Zoho does not know it, and refuses it",
			func(s *station) {
				s.zoho.lose("Contacts")
				s.exec(`UPDATE channels SET due_at = now()`)
				s.zoho.hooks(forbidding("enable Contacts"), nil)
			},
			"Zoho did not know it any more, and it could not be registered anew: ", false,
		},
		{"Zoho does not list it", func(s *station) { s.zoho.lose("Contacts"); s.pass(25 * time.Hour) }, "Zoho does not list it", false},
	}
}

// upkeep does upkeep on that many nodes at once.
func (s *station) upkeep(nodes int) {
	s.t.Helper()
	var g errgroup.Group
	for range nodes {
		k := s.keeper(of("Contacts"))
		g.Go(func() error { _, err := k.Keep(s.t.Context()); return err })
	}
	if err := g.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

// Operators are told of each loss once, however many nodes look and for however long
// it lasts, and of the next one again.
func TestALostChannelIsToldOnce(t *testing.T) {
	t.Parallel()
	for _, way := range losings() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			s.watch(memory.ChannelLost)
			s.keep(1, "enable Contacts")
			s.wantLost()
			way.lose(s)
			s.upkeep(3)
			s.wantLost(way.reason)
			for range 3 { // it stays lost where Zoho refuses it
				s.pass(2 * time.Hour)
				s.upkeep(1)
			}
			s.wantLost(way.reason)
			s.zoho.hooks(nil, nil)
			s.pass(2 * time.Hour)
			s.upkeep(1)
			s.want("Contacts", "active", 0)
			s.wantLost(way.reason)
			way.lose(s)
			s.upkeep(1)
			s.wantLost(way.reason, way.reason)
		})
	}
}

// A channel that is being renewed and expires meanwhile is told by whoever sees it first.
func TestAChannelThatExpiresWhileItIsRenewedIsToldOnce(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"and is made anew": false, "and is refused": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			s.watch(memory.ChannelLost)
			s.keep(1, "enable Contacts")
			s.zoho.lose("Contacts")
			s.exec(`UPDATE channels SET due_at = now()`)
			s.zoho.hooks(func(op string, ch zoho.Channel) error {
				if op == "renew Contacts" {
					s.exec(`UPDATE channels SET expires_at = now()`)
					s.upkeep(1)
				}
				if refused {
					return forbidding("enable Contacts")(op, ch)
				}
				return nil
			}, nil)
			s.upkeep(1)
			s.wantLost("it expired")
		})
	}
}

// What a person asks for finds losses, too.
func TestALossThatAPersonsRenewalFindsIsTold(t *testing.T) {
	t.Parallel()
	s := newStation(t, of("Contacts"))
	s.watch(memory.ChannelLost)
	s.keep(1, "enable Contacts")
	s.zoho.lose("Contacts")
	if _, err := s.Renew(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.wantLost("Zoho did not know it any more; it was registered anew at once")
}

func TestALossThatNobodyAsksForIsNotTold(t *testing.T) {
	t.Parallel()
	for _, way := range losings() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, of("Contacts"))
			s.watch("*", memory.EventDead)
			s.keep(1, "enable Contacts")
			way.lose(s)
			s.upkeep(1)
			if n := len(cataloguetest.Outbox(t, s.pool)); n != 0 {
				t.Errorf("%d webhooks, want none", n)
			}
			s.wantLost()
		})
	}
}

// The loss and what tells of it are true together: where the one cannot be written,
// the other is not, and the next look tells it.
func TestALossAndItsWebhookOrNeither(t *testing.T) {
	t.Parallel()
	for table, condition := range map[string]string{"outbox": "true", "river_job": "NEW.kind = 'relay'"} {
		for _, way := range losings() {
			t.Run(way.name+", "+table, func(t *testing.T) {
				t.Parallel()
				s := newStation(t, of("Contacts"))
				s.watch(memory.ChannelLost)
				s.keep(1, "enable Contacts")
				way.lose(s)
				s.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused on purpose'; END $$`)
				s.exec(`CREATE TRIGGER refuse BEFORE INSERT ON ` + table + ` FOR EACH ROW WHEN (` + condition + `) EXECUTE FUNCTION refuse()`)
				before := s.state()
				if _, err := s.Keep(t.Context()); err == nil || !strings.Contains(err.Error(), "refused on purpose") {
					t.Errorf("upkeep returned %v", err)
				}
				s.wantLost()
				if diff := cmp.Diff(before, s.state()); diff != "" {
					t.Errorf("the channel (-before +after):\n%s", diff)
				}
				s.exec(`DROP TRIGGER refuse ON ` + table)
				s.exec(`UPDATE channels SET due_at = now()`)
				s.upkeep(1)
				if way.anew {
					s.wantLost() // Zoho knows it again, and nothing is lost any more
					return
				}
				s.wantLost(way.reason)
			})
		}
	}
}

// state is the channel's, but for who has taken it.
func (s *station) state() (state string) {
	s.t.Helper()
	err := s.pool.QueryRow(s.t.Context(), `SELECT concat_ws(' ', state, failures, last_error, expires_at, confirmed_at) FROM channels`).Scan(&state)
	if err != nil {
		s.t.Fatal(err)
	}
	return state
}
