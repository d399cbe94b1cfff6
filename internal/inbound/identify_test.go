package inbound

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func records(ids ...string) []Parsed {
	events := make([]Parsed, len(ids))
	for i, id := range ids {
		events[i] = Parsed{Module: "Accounts", Operation: opUpdate, RecordID: id}
	}
	return events
}

func TestHeaderIDs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		header string
		events []Parsed
		want   []string
	}{
		{"one record has the id of the header", "evt", records("7"), []string{"evt"}},
		{"several records have theirs appended", "evt", records("7", "8"), []string{"evt:7", "evt:8"}},
		{"a record that comes again is counted", "evt", records("7", "8", "7", "7"), []string{"evt:7", "evt:8", "evt:7:2", "evt:7:3"}},
		{"a count does not meet another record's id", "evt", records("7:2", "7", "7", "7"), []string{"evt:7:2", "evt:7", "evt:7:3", "evt:7:4"}},
		{"a header of 255 bytes is accepted", strings.Repeat("é", 127) + "x", records("7"), []string{strings.Repeat("é", 127) + "x"}},
		{"without a header there are none", "", records("7"), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := headerIDs(tc.header, tc.events)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHeaderIDsRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, header string
		status       int
		code         string
	}{
		{"a header of 256 bytes is too long", strings.Repeat("x", 256), 422, "id_too_long"},
		{"bytes count and not characters", strings.Repeat("é", 128), 422, "id_too_long"},
		{"a line break is no part of an id", "a\nb", 400, "invalid_event_id"},
		{"a tab is none", "a\tb", 400, "invalid_event_id"},
		{"a control character beyond ASCII is none", "a\u0085b", 400, "invalid_event_id"},
		{"a NUL is none", "a\x00b", 400, "invalid_event_id"},
		{"what is not UTF-8 is none", "a\xffb", 400, "invalid_event_id"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ids, err := headerIDs(tc.header, records("7"))
			var r refusal
			if !errors.As(err, &r) || r.Status != tc.status || r.Code != tc.code {
				t.Errorf("got %v, %#v, want %d %s", ids, err, tc.status, tc.code)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	// The first test vector of SHA-256, FIPS 180-2.
	if got := fmt.Sprintf("%x", digest([]byte("abc"))); got != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" {
		t.Errorf("got %s", got)
	}
}

// The recipe must not change while its prefix stays: ids of stored events would
// no longer be found, and each redelivery would be a new event.
func TestDerivedIDRecipeIsFixed(t *testing.T) {
	t.Parallel()
	n := Notification{ChannelID: "1000000068001"}
	p := Parsed{Module: "Accounts", Operation: opUpdate, RecordID: "5725767000000524157"}
	timed := p
	timed.OccurredAt = time.UnixMilli(1718117126473)
	sum := digest([]byte("body"))
	for _, tc := range []struct {
		name, got, want string
	}{
		{"with a time", derivedID(n, timed, sum, "", 1), "d1-220aea0f735f2a57cd95d8f6cb7ca9b4"},
		{"without a time", derivedID(n, p, sum, "", 1), "d1-24bbd0da5a76eb799693bc68994cf6bd"},
		{"after another event", derivedID(n, p, sum, "evt", 1), "d1-fa0c66ccfdd09b87d1b99db07e07a581"},
		{"for the second time in a body", derivedID(n, timed, sum, "", 2), "d1-220aea0f735f2a57cd95d8f6cb7ca9b4:2"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, tc.got, tc.want)
		}
	}
}

func TestDerivedIDTellsApart(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1718117126473)
	base := Parsed{Module: "Accounts", Operation: opUpdate, RecordID: "12", OccurredAt: at}
	with := func(change func(*Parsed)) Parsed {
		p := base
		change(&p)
		return p
	}
	untimed := with(func(p *Parsed) { p.OccurredAt = time.Time{} })
	a, b := digest([]byte("a")), digest([]byte("b"))
	ids := map[string]string{}
	for _, tc := range []struct{ name, id string }{
		{"the event itself", derivedID(Notification{ChannelID: "1"}, base, a, "", 1)},
		{"no channel", derivedID(Notification{}, base, a, "", 1)},
		{"a digit that moved from the record to the channel", derivedID(Notification{ChannelID: "11"}, with(func(p *Parsed) { p.RecordID = "2" }), a, "", 1)},
		{"a letter that moved from the operation to the module", derivedID(Notification{ChannelID: "1"}, with(func(p *Parsed) { p.Module, p.Operation = "Accountsu", "pdate" }), a, "", 1)},
		{"another module", derivedID(Notification{ChannelID: "1"}, with(func(p *Parsed) { p.Module = "Deals" }), a, "", 1)},
		{"another operation", derivedID(Notification{ChannelID: "1"}, with(func(p *Parsed) { p.Operation = opDelete }), a, "", 1)},
		{"another record", derivedID(Notification{ChannelID: "1"}, with(func(p *Parsed) { p.RecordID = "13" }), a, "", 1)},
		{"a millisecond later", derivedID(Notification{ChannelID: "1"}, with(func(p *Parsed) { p.OccurredAt = at.Add(time.Millisecond) }), a, "", 1)},
		{"the second time in its body", derivedID(Notification{ChannelID: "1"}, base, a, "", 2)},
		{"the third time in its body", derivedID(Notification{ChannelID: "1"}, base, a, "", 3)},
		{"no time", derivedID(Notification{ChannelID: "1"}, untimed, a, "", 1)},
		{"no time and another body", derivedID(Notification{ChannelID: "1"}, untimed, b, "", 1)},
		{"no time and something before it", derivedID(Notification{ChannelID: "1"}, untimed, a, "x", 1)},
		{"no time and another record of the same body", derivedID(Notification{ChannelID: "1"}, with(func(p *Parsed) { p.OccurredAt, p.RecordID = time.Time{}, "13" }), a, "", 1)},
	} {
		if other, taken := ids[tc.id]; taken {
			t.Errorf("%q has the same id as %q", tc.name, other)
		}
		ids[tc.id] = tc.name
	}
}

func TestDerivedIDOfATimedEventDependsOnNothingElse(t *testing.T) {
	t.Parallel()
	p := records("7")[0]
	p.OccurredAt = time.UnixMilli(1718117126473)
	first := derivedID(Notification{}, p, digest([]byte("a")), "", 1)
	p.OccurredAt = p.OccurredAt.In(time.FixedZone("", 3600))
	p.UserID, p.ModifiedFields = "1", []string{"Phone"}
	if again := derivedID(Notification{}, p, digest([]byte("b")), "evt", 1); again != first {
		t.Errorf("got %s, want %s", again, first)
	}
}

// store stands for the events of one record, as the database keeps them.
type store []struct {
	id     string
	digest [32]byte
}

// deliver derives the id of body as the door does, and reports whether it is new.
func (s *store) deliver(body string) bool {
	sum, previous := digest([]byte(body)), ""
	for _, e := range *s {
		if e.digest != sum {
			previous = e.id
		}
	}
	id := derivedID(Notification{}, records("7")[0], sum, previous, 1)
	for _, e := range *s {
		if e.id == id {
			return false
		}
	}
	*s = append(*s, struct {
		id     string
		digest [32]byte
	}{id, sum})
	return true
}

func TestDerivedIDWithoutTimeOverSeveralDeliveries(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		deliveries string // one letter for each body
		repeats    string // the letter where it is a repeat, - where it is new
	}{
		{"a redelivery is recognised", "AAA", "-AA"},
		{"a change and the change back are three events", "ABA", "---"},
		{"so they are when it goes on", "ABABAB", "------"},
		{"each of them may be redelivered", "AABBAABB", "-A-B-A-B"},
		{"three bodies in turn are all new", "ABCABC", "------"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var s store
			got := ""
			for _, body := range tc.deliveries {
				if s.deliver(string(body)) {
					got += "-"
				} else {
					got += string(body)
				}
			}
			if got != tc.repeats {
				t.Errorf("got %s, want %s", got, tc.repeats)
			}
		})
	}
}

func TestOccurrences(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]int{1, 1, 2, 3, 2}, occurrences(records("7", "8", "7", "7", "8"))); diff != "" {
		t.Error(diff)
	}
}

func TestReusedID(t *testing.T) {
	t.Parallel()
	if got := reusedID("evt:7", digest([]byte("abc"))); got != "evt:7#ba7816bf8f01cfea" {
		t.Errorf("got %s", got)
	}
}

func TestEventIDsStayShort(t *testing.T) {
	t.Parallel()
	const most = 540
	long := strings.Repeat("7", 255)
	ids, err := headerIDs(strings.Repeat("x", 255), records(slices.Repeat([]string{long}, 1000)...))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if n := len(reusedID(id, [32]byte{})); n > most {
			t.Fatalf("an id has %d bytes, want %d at most", n, most)
		}
	}
}
