package zohotest_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

func TestSeedIsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	modules := []string{"Accounts", "Contacts", "Deals", "Tasks", "Notes", "Events", "Calls"}
	dump := func(seed uint64) map[string]map[string]any {
		s := zohotest.New(zohotest.Options{Now: newClock().now})
		s.Seed(40, 4, seed)
		all := map[string]map[string]any{}
		for _, module := range modules {
			for _, id := range s.IDs(module) {
				all[id], _ = s.Get(module, id)
			}
		}
		return all
	}
	one := dump(1)
	if diff := cmp.Diff(one, dump(1)); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(one, dump(2)) {
		t.Error("another seed makes the same")
	}
	if len(one) != 40*5 {
		t.Errorf("%d records, want %d", len(one), 40*5)
	}
	names := map[any]bool{}
	for _, fields := range one {
		if name, ok := fields["Account_Number"]; ok {
			names[name] = true
		}
		made, _ := time.Parse(time.RFC3339, fields["Created_Time"].(string))
		changed, _ := time.Parse(time.RFC3339, fields["Modified_Time"].(string))
		if now := newClock().now(); made.After(changed) || changed.After(now) || made.Before(now.Add(-366*24*time.Hour)) {
			t.Errorf("made %v, changed %v", made, changed)
		}
	}
	if len(names) != 40 {
		t.Errorf("%d account numbers of 40", len(names))
	}
}

func TestMistakesOfATestPanic(t *testing.T) {
	t.Parallel()
	s := zohotest.New(zohotest.Options{})
	account := s.Create("Accounts", nil)
	contact := s.Create("Contacts", nil)
	for name, mistake := range map[string]func(){
		"unknown module":     func() { s.Create("Nothings", nil) },
		"unknown record":     func() { s.Update("Accounts", "5725767000009999999", nil) },
		"other module":       func() { s.Update("Contacts", account, nil) },
		"link to no record":  func() { s.Create("Contacts", map[string]any{"Account_Name": "5725767000009999999"}) },
		"link to the wrong":  func() { s.Create("Contacts", map[string]any{"Account_Name": contact}) },
		"nowhere to move":    func() { s.Move("Accounts", account, contact) },
		"restore the living": func() { s.Restore("Accounts", account) },
		"id that is taken":   func() { s.Create("Accounts", map[string]any{"id": account}) },
		"short id":           func() { s.Create("Accounts", map[string]any{"id": "12"}) },
	} {
		func() {
			defer func() {
				if r, _ := recover().(string); !strings.HasPrefix(r, "zohotest: ") {
					t.Errorf("%s: recovered %q", name, r)
				}
			}()
			mistake()
		}()
	}
	if s.Len("Accounts") != 1 || s.Len("Contacts") != 1 {
		t.Error("a refused record was added")
	}
}

func TestChangesAndReadsAtOneTime(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{Concurrency: 100})
	r := receive(t)
	v.enable(r.URL, `"Accounts.all"`, "")
	v.s.Seed(300, 2, 1)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 20 {
				id := v.s.Create("Accounts", map[string]any{"Account_Name": "A"})
				v.s.Update("Accounts", id, map[string]any{"Phone": "1"})
				contact := v.s.Create("Contacts", map[string]any{"Account_Name": id})
				v.s.Delete("Contacts", contact)
				v.s.Delete("Accounts", id)
			}
		})
		work.Go(func() {
			for range 10 {
				v.get("/crm/v8/Accounts?fields=Account_Name&sort_by=Modified_Time").is(200, "")
				v.coql("select id from Contacts where id is not null").is(200, "")
				v.get("/crm/v8/actions/watch").is(200, "")
				v.s.Deliveries()
			}
		})
	}
	work.Wait()
	byOperation := map[string]int{}
	for _, n := range r.got(t, v.s) {
		byOperation[n.Operation]++
	}
	if want := map[string]int{"insert": 80, "update": 80, "delete": 80}; !maps.Equal(byOperation, want) {
		t.Errorf("notifications %v, want %v", byOperation, want)
	}
	if ids := v.s.IDs("Accounts"); len(ids) != 300 || !slices.IsSorted(ids) {
		t.Errorf("%d accounts are left, want 300 in order", len(ids))
	}
}
