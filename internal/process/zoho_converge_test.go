package process

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
)

// Contacts change and move back and forth between accounts while three nodes read
// them, whole accounts among them. In the end everything is as Zoho has it, and
// every event was worked by a read that began after it was routed.
func TestThreeNodesAndAZohoThatChanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                       string
		accounts, contacts, events int
	}{
		{"changes of one account, twenty and more at a time", 1, 5, 200},
		{"contacts that move between eight accounts", 8, 20, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := dbtest.URL(t)
			s := stationOn(t, openPool(t, url, "test"), Payloads{})
			z := newZoho()
			z.page = 3
			z.latency = func() time.Duration { // some are overtaken by many
				if rand.IntN(4) > 0 {
					return 0
				}
				return time.Duration(rand.IntN(200)) * time.Millisecond
			}
			z.now = func() time.Time { // events are routed by the same clock
				var now time.Time
				if err := s.pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&now); err != nil {
					t.Errorf("read the clock: %v", err)
				}
				return now
			}
			// No record ever goes back to an older read, not even for a moment.
			s.refuse(t, refusal{table: "records", on: "UPDATE", state: "22000", when: `NEW.read_at < OLD.read_at`})
			nodes := make([]node, 3)
			for i := range nodes {
				nodes[i] = startNode(t, url, fmt.Sprint("node ", i), NewReads(z, nil, quietLog(t)))
			}
			accountID := func(n int) string { return fmt.Sprint(700 + n) }
			for i := range tt.accounts {
				z.put(t, "Accounts", account(accountID(i), "Acme", "Active"))
				s.receive(t, sent{module: "Accounts", operation: "create", recordID: accountID(i), record: account(accountID(i), "Acme", "Active")})
			}
			r := rand.New(rand.NewPCG(9, 9))
			for i := range tt.events {
				id := fmt.Sprint(r.IntN(tt.contacts))
				if r.IntN(8) == 0 {
					z.remove("Contacts", id)
				} else {
					z.put(t, "Contacts", contact(id, accountID(r.IntN(tt.accounts)), fmt.Sprintf("%d@example.com", i)))
				}
				record := `{"id":"` + id + `"}`
				if r.IntN(3) == 0 { // it says something, and is late or wrong
					record = contact(id, accountID(r.IntN(tt.accounts)), "said@example.com")
				}
				s.receive(t, sent{module: "Contacts", operation: "update", recordID: id, record: record})
			}
			s.doneWithoutFault(t, nodes)

			s.isAsAt(t, z)
			s.readAfterRouted(t, z)
			want := []int64{int64(tt.events + tt.accounts), 0, 0}
			if diff := cmp.Diff(want, s.counters(t, counter.Processed, counter.Backlog, counter.Retried)); diff != "" {
				t.Errorf("processed, backlog, retried (-want +got):\n%s", diff)
			}
			for i := range tt.accounts {
				if s.whole(t, accountID(i)).At == nil {
					t.Errorf("account %s was not read whole", accountID(i))
				}
			}
		})
	}
}

// isAsAt compares contacts, accounts and the graph with what this Zoho has.
func (s *station) isAsAt(t *testing.T, z *fakeZoho) {
	t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	var memories, graph []string
	contacts := map[string]int{}
	for k, r := range z.records {
		if k.module != "Contacts" {
			continue
		}
		of := lookup(r["Account_Name"]).id
		contacts[of]++
		memories = append(memories, janeDoe("zoho:"+of+" "+of, k.id, scalar(r["Email"])))
		graph = append(graph, fmt.Sprintf("zoho:%s Accounts:%s HAS_CONTACT Contacts:%s by Contacts %s", of, of, k.id, k.id))
	}
	for k := range z.records {
		if k.module != "Accounts" {
			continue
		}
		overview := "zoho:" + k.id + " " + k.id + " Accounts " + k.id + " Account Acme\nAccount Name: Acme\nAccount Status: Active"
		if n := contacts[k.id]; n > 0 {
			overview += fmt.Sprint("\nContacts: ", n)
		}
		memories = append(memories, overview)
	}
	if diff := cmp.Diff(memories, s.remembered(t), sortedLines()); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(graph, s.graph(t), sortedLines(), cmpEmpty()); diff != "" {
		t.Errorf("graph (-want +got):\n%s", diff)
	}
}

// readAfterRouted checks that for each event there was a read of its record that
// began after it was routed, and was over when it was processed.
func (s *station) readAfterRouted(t *testing.T, z *fakeZoho) {
	t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	type event struct {
		ID                int64
		Module, RecordID  string
		Routed, Processed time.Time
	}
	all, err := s.pool.Query(t.Context(), `SELECT id, module, record_id, routed_at, processed_at FROM events`)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	for all.Next() {
		var e event
		if err := all.Scan(&e.ID, &e.Module, &e.RecordID, &e.Routed, &e.Processed); err != nil {
			t.Fatal(err)
		}
		fits := func(c zohoCall) bool {
			// processed_at is when the transaction began that wrote what was read.
			return c.op == "read" && c.module == e.Module && slices.Contains(c.ids, e.RecordID) && !c.began.Before(e.Routed) && !c.ended.After(e.Processed)
		}
		if !slices.ContainsFunc(z.calls, fits) {
			t.Errorf("event %d of %s %s, routed %v, processed %v: no read in between", e.ID, e.Module, e.RecordID, e.Routed, e.Processed)
		}
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	if n := len(z.calls); n == 0 || !strings.HasPrefix(z.calls[0].String(), "read") {
		t.Errorf("%d calls were recorded", n)
	}
}
