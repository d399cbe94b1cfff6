package zohotest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

func TestChangesAreNotified(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now})
	r := receive(t)
	v.enable(r.URL+"/zoho?src=a&n=1", `"Deals.all","Accounts.edit"`, `,"token":"secret-token","return_affected_field_values":true`).is(201, "")
	account := v.s.Create("Accounts", nil) // nobody watches the creation of accounts
	deal := v.s.Create("Deals", map[string]any{"Deal_Name": "A", "Stage": "Qualification"})
	v.s.Silently().Update("Deals", deal, map[string]any{"Stage": "Needs Analysis"})
	v.s.Update("Deals", deal, map[string]any{"Stage": "Needs Analysis", "Amount": 3})
	v.s.Move("Deals", deal, account)
	v.s.Delete("Deals", deal)
	v.s.Create("Notes", map[string]any{"Note_Title": "A"})

	all := r.got(t, v.s)
	var operations []string
	for _, n := range all {
		operations = append(operations, n.Operation)
		if n.Token == nil || *n.Token != "secret-token" || n.ChannelID != "1000000068001" || n.Module != "Deals" ||
			!slices.Equal(n.IDs, []string{deal}) || n.ServerTime != c.now().UnixMilli() ||
			n.QueryParams["src"] != "a" || n.QueryParams["n"] != "1" || n.ResourceURI != v.s.URL()+"/crm/v2/Deals" {
			t.Errorf("notification: %+v", n)
		}
	}
	if want := []string{"insert", "update", "update", "delete"}; !slices.Equal(operations, want) {
		t.Fatalf("operations %v, want %v", operations, want)
	}
	if got := all[1].AffectedFields[0][deal]; !slices.Equal(got, []string{"Amount"}) {
		t.Errorf("affected fields %v: only the amount was another", got)
	}
	if got := string(all[1].AffectedValues[0].Values["Amount"]); got != "3" {
		t.Errorf("affected value %s, want 3", got)
	}
	if got := all[2].AffectedFields[0][deal]; !slices.Equal(got, []string{"Account_Name"}) {
		t.Errorf("affected fields of a move: %v", got)
	}
	if d := v.s.Deliveries(); d.Sent != 4 || d.Succeeded != 4 || d.LastStatus != 200 {
		t.Errorf("deliveries %+v", d)
	}

	c.advance(time.Hour) // the channel is over
	v.s.Create("Deals", nil)
	if got := r.got(t, v.s); len(got) != 4 {
		t.Errorf("%d notifications, want no more than 4: the channel has expired", len(got))
	}
}

func TestNotificationWithoutTokenSaysNull(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	r := receive(t)
	v.enable(r.URL, `"Deals.all"`, "")
	v.s.Create("Deals", nil)
	r.got(t, v.s)
	var body map[string]json.RawMessage
	if err := json.Unmarshal([]byte(r.bodies[0]), &body); err != nil {
		t.Fatal(err)
	}
	if string(body["token"]) != "null" || body["affected_values"] != nil || string(body["affected_fields"]) != "[]" {
		t.Errorf("body %s", r.bodies[0])
	}
}

func TestDeliveryCanBeSpoilt(t *testing.T) {
	t.Parallel()
	setUp := func(t *testing.T, d zohotest.Delivery) (*visitor, *receiver, []string) {
		v := visit(t, zohotest.Options{Delivery: d})
		r := receive(t)
		v.enable(r.URL, `"Accounts.all"`, "")
		v.s.PauseNotifications()
		return v, r, v.s.Records.CreateAll("Accounts", make([]map[string]any, 20))
	}
	idsOf := func(all []zohotest.Notification) []string {
		var ids []string
		for _, n := range all {
			ids = append(ids, n.IDs...)
		}
		return ids
	}
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		v, r, ids := setUp(t, zohotest.Delivery{})
		v.s.ResumeNotifications()
		if got := idsOf(r.got(t, v.s)); !slices.Equal(got, ids) {
			t.Errorf("got %v, want %v", got, ids)
		}
	})
	t.Run("drop", func(t *testing.T) {
		t.Parallel()
		var v *visitor
		v, r, ids := setUp(t, zohotest.Delivery{})
		v.s.SetDelivery(zohotest.Delivery{Drop: func(n zohotest.Notification) bool {
			return v.s.Len("Accounts") == 20 && n.IDs[0] == ids[3] // it may ask the server
		}})
		v.s.ResumeNotifications()
		if got := idsOf(r.got(t, v.s)); len(got) != 19 || slices.Contains(got, ids[3]) {
			t.Errorf("got %v", got)
		}
		if d := v.s.Deliveries(); d.Dropped != 1 || d.Sent != 19 {
			t.Errorf("deliveries %+v", d)
		}
	})
	t.Run("duplicate", func(t *testing.T) {
		t.Parallel()
		v, r, _ := setUp(t, zohotest.Delivery{Duplicate: func(zohotest.Notification) bool { return true }})
		v.s.ResumeNotifications()
		if got := r.got(t, v.s); len(got) != 40 {
			t.Errorf("%d notifications, want 40", len(got))
		}
	})
	t.Run("reorder", func(t *testing.T) {
		t.Parallel()
		v, r, ids := setUp(t, zohotest.Delivery{Reorder: 5})
		v.s.ResumeNotifications()
		got := idsOf(r.got(t, v.s))
		if slices.Equal(got, ids) {
			t.Error("they came in order")
		}
		slices.Sort(got)
		if !slices.Equal(got, ids) {
			t.Errorf("got %v, want each of %v once", got, ids)
		}
	})
	t.Run("batch", func(t *testing.T) {
		t.Parallel()
		v, r, ids := setUp(t, zohotest.Delivery{Batch: 8})
		v.s.ResumeNotifications()
		all := r.got(t, v.s)
		if len(all) != 3 || len(all[0].IDs) != 8 || !slices.Equal(idsOf(all), ids) {
			t.Errorf("notifications %+v", all)
		}
	})
	t.Run("many senders", func(t *testing.T) {
		t.Parallel()
		v, r, ids := setUp(t, zohotest.Delivery{Senders: 4})
		v.s.ResumeNotifications()
		got := idsOf(r.got(t, v.s))
		slices.Sort(got)
		if !slices.Equal(got, ids) {
			t.Errorf("got %v, want each of %v once", got, ids)
		}
	})
}

func TestDeliveryResultsAreRecorded(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{QueueSize: 2})
	r := receive(t)
	r.status = http.StatusServiceUnavailable
	v.enable(r.URL, `"Accounts.all"`, "")
	v.s.PauseNotifications()
	for range 3 {
		v.s.Create("Accounts", nil)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := v.s.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("flush while paused: %v", err)
	}
	if d := v.s.Deliveries(); d.Waiting != 2 || d.Lost != 1 {
		t.Errorf("deliveries %+v", d)
	}
	v.s.ResumeNotifications()
	r.got(t, v.s)
	if d := v.s.Deliveries(); d.Sent != 2 || d.Failed != 2 || d.LastStatus != 503 || d.Waiting != 0 {
		t.Errorf("deliveries %+v", d)
	}
	r.Close()
	v.s.Create("Accounts", nil)
	if err := v.s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := v.s.Deliveries(); d.Failed != 3 || d.LastError == "" {
		t.Errorf("deliveries %+v", d)
	}
}

func TestCloseEndsTheSending(t *testing.T) {
	t.Parallel()
	arrived, leave := make(chan struct{}), make(chan struct{})
	deaf := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-leave
	}))
	t.Cleanup(deaf.Close)
	t.Cleanup(func() { close(leave) })
	v := visit(t, zohotest.Options{})
	v.enable(deaf.URL, `"Accounts.all"`, "")
	v.s.Create("Accounts", nil)
	v.s.Create("Accounts", nil)
	<-arrived
	if err := v.s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := v.s.Flush(ctx); err != nil {
		t.Error(err)
	}
	if d := v.s.Deliveries(); d.Sent != 1 || d.Failed != 1 || d.Waiting != 1 {
		t.Errorf("deliveries %+v", d)
	}
}
