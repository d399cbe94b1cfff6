package memory_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

// desk may see the account 77 alone.
func desk() memory.Caller {
	return memory.Caller{Actor: "token/desk", UserIDs: []string{"zoho:77"}}
}

// follows stores a memory of a record of the account 77, so many minutes ago.
func (s *shop) follows(t *testing.T, module, recordID string, minutes int) uuid.UUID {
	t.Helper()
	id := uuid.New()
	exec(t, s.pool, `INSERT INTO memories (id, user_id, account_id, module, record_id, kind, content, checksum, updated_at)
		VALUES ($1, 'zoho:77', '77', $2, $3, 'record', $2 || ' ' || $3, sha256('x'), now() - make_interval(mins => $4))`, id, module, recordID, minutes)
	return id
}

func (s *shop) account(t *testing.T, id string) memory.Account {
	t.Helper()
	a, err := s.Account(t.Context(), desk(), id)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnAccountAsRemembered(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	own := s.follows(t, "Accounts", "77", 5)
	contact := s.follows(t, "Contacts", "5", 3)
	deal := s.follows(t, "Deals", "6", 1)
	said, err := s.Add(t.Context(), desk(), memory.New{UserID: "zoho:77", Content: "pays late"})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, s.pool, `INSERT INTO memories (id, user_id, account_id, kind, content, checksum, expires_at)
		VALUES ($1, 'zoho:77', '77', 'fact', 'was true', sha256('x'), now())`, uuid.New())
	s.follows(t, "Accounts", "78", 0)
	exec(t, s.pool, `UPDATE memories SET account_id = '78', user_id = 'zoho:78' WHERE record_id = '78'`)
	if _, err := s.Relate(t.Context(), desk(), memory.NewLink{UserID: "zoho:77", Source: "a", Relationship: "b", Target: "c"}); err != nil {
		t.Fatal(err)
	}
	// Events of it, one of another account, and one of which nobody knows whose it is.
	exec(t, s.pool, `INSERT INTO events (id, source, event_id, digest, module, operation, record_id, account_id, revision, status)
		SELECT n, 'zoho', 'evt-' || n, sha256('x'), 'Contacts', 'update', '5', CASE WHEN n <> 30 THEN '7' || (7 + (n = 29)::int) END,
		       CASE WHEN n <> 30 THEN n END, CASE WHEN n <> 30 THEN 'processed' ELSE 'received' END
		FROM generate_series(1, 30) AS n`)

	got := s.account(t, "77")
	if got.Overview == nil || got.Overview.ID != own {
		t.Errorf("the overview is %+v", got.Overview)
	}
	var ids []uuid.UUID
	for _, m := range got.Memories {
		ids = append(ids, m.ID)
	}
	if diff := cmp.Diff([]uuid.UUID{said.ID, deal, contact}, ids); diff != "" {
		t.Errorf("memories (-want +got):\n%s", diff)
	}
	var want []memory.AccountEvent
	for n := int64(28); n > 8; n-- {
		want = append(want, memory.AccountEvent{ID: n, EventID: fmt.Sprint("evt-", n), Module: "Contacts", Operation: "update", RecordID: "5", Status: "processed"})
	}
	if diff := cmp.Diff(want, got.Events, cmpopts.IgnoreFields(memory.AccountEvent{}, "ReceivedAt")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if got.ID != "77" || got.UserID != "zoho:77" || got.More || got.Relationships != 1 || time.Since(got.Events[0].ReceivedAt) > time.Hour {
		t.Errorf("got %+v", got)
	}
}

func TestAnAccountShowsAPageAndSaysThatThereIsMore(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	for i := range memory.MaxPage {
		s.follows(t, "Contacts", fmt.Sprint(i), i)
	}
	if got := s.account(t, "77"); len(got.Memories) != memory.MaxPage || got.More || got.Overview != nil {
		t.Errorf("%d memories, more %t, overview %v", len(got.Memories), got.More, got.Overview)
	}
	// Wherever its own stands: it is not among the others.
	for _, age := range []int{0, memory.MaxPage / 2, memory.MaxPage * 2} {
		exec(t, s.pool, `DELETE FROM memories WHERE module = 'Accounts'`)
		s.follows(t, "Accounts", "77", age)
		if got := s.account(t, "77"); len(got.Memories) != memory.MaxPage || got.More || got.Overview == nil {
			t.Errorf("%d memories, more %t, overview %v", len(got.Memories), got.More, got.Overview)
		}
	}
	s.follows(t, "Contacts", "one more", memory.MaxPage*3)
	if got := s.account(t, "77"); len(got.Memories) != memory.MaxPage || !got.More {
		t.Errorf("%d memories, more %t", len(got.Memories), got.More)
	}
}

func TestAnAccountThatIsNoneOrNotYours(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.follows(t, "Accounts", "77", 0)
	all := memory.Caller{Actor: "admin", All: true}
	for _, tc := range []struct {
		name   string
		caller memory.Caller
		id     string
	}{
		{"nobody knows it", all, "78"},
		{"no id", all, ""},
		{"a NUL", all, "77\x00"},
		{"what is not UTF-8", all, "77\xff"},
		{"a long one", all, strings.Repeat("7", 256)},
		{"another's", memory.Caller{UserIDs: []string{"zoho:78", "77"}}, "77"},
	} {
		if _, err := s.Account(t.Context(), tc.caller, tc.id); !errors.Is(err, memory.ErrNotFound) {
			t.Errorf("%s: %v, want %v", tc.name, err, memory.ErrNotFound)
		}
	}
	if _, err := s.Account(t.Context(), all, "77"); err != nil {
		t.Error(err)
	}
}

// Events alone are something that is known; so is a line of the graph.
func TestAnAccountOfWhichLittleIsKnown(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	exec(t, s.pool, `INSERT INTO events (source, event_id, digest, module, operation, record_id, account_id, revision, status)
		VALUES ('zoho', 'evt', sha256('x'), 'Contacts', 'update', '5', '77', 1, 'dead')`)
	want := memory.Account{ID: "77", UserID: "zoho:77", Memories: []memory.Row{}, Events: []memory.AccountEvent{
		{ID: 1, EventID: "evt", Module: "Contacts", Operation: "update", RecordID: "5", Status: "dead"},
	}}
	if diff := cmp.Diff(want, s.account(t, "77"), cmpopts.IgnoreFields(memory.AccountEvent{}, "ReceivedAt")); diff != "" {
		t.Errorf("account (-want +got):\n%s", diff)
	}
	l, err := s.Relate(t.Context(), memory.Caller{All: true}, memory.NewLink{UserID: "zoho:79", Source: "a", Relationship: "b", Target: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := s.Account(t.Context(), memory.Caller{All: true}, "79"); err != nil || a.Relationships != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	for _, c := range []memory.Caller{ada(), desk()} {
		if _, err := s.UserOfLink(t.Context(), c, l.ID); !errors.Is(err, memory.ErrNotFound) {
			t.Errorf("%s learns whose a line is: %v", c.Actor, err)
		}
	}
	if user, err := s.UserOfLink(t.Context(), memory.Caller{All: true}, l.ID); err != nil || user != "zoho:79" {
		t.Errorf("is %s's, %v", user, err)
	}
	if _, err := s.UserOfLink(t.Context(), memory.Caller{All: true}, uuid.New()); !errors.Is(err, memory.ErrNotFound) {
		t.Errorf("a line that is none: %v", err)
	}
}
