package zohotest_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

func TestCreditsAreOfTheLastDay(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now, Credits: 6})
	remaining := func(r reply) string { return r.header.Get("X-API-CREDITS-REMAINING") }
	for i, want := range []string{"", "", "3", "2"} {
		if got := remaining(v.get("/crm/v8/org").is(200, "")); got != want {
			t.Errorf("call %d: %q credits are said to remain, want %q", i+1, got, want)
		}
	}
	c.advance(12 * time.Hour)
	v.login()
	if r := v.get("/crm/v8/Accounts?fields=id&cvid=1").is(429, "TOO_MANY_REQUESTS"); remaining(r) != "2" {
		t.Errorf("3 of 2 credits: %q remain", remaining(r))
	}
	v.s.SpendCredits()
	if r := v.get("/crm/v8/org").is(429, "TOO_MANY_REQUESTS"); remaining(r) != "0" || v.s.Credits() != 6 {
		t.Errorf("all is spent, but %q remain, %d are", remaining(r), v.s.Credits())
	}
	c.advance(12 * time.Hour) // the first four are back
	v.login()
	v.get("/crm/v8/org").is(200, "")
	if got := v.s.Credits(); got != 3 {
		t.Errorf("%d credits are spent, want 3", got)
	}
}

func TestCallsAreCounted(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	account := v.s.Create("Accounts", nil)
	v.get("/crm/v8/Accounts/"+account).is(200, "")
	v.get("/crm/v8/Accounts/"+account+"/Deals?fields=id").is(204, "")
	v.get("/crm/v8/Nothings").is(400, "INVALID_MODULE")
	v.get("/elsewhere")
	for route, want := range map[string]int64{
		"GET /crm/v8/Accounts/{id}": 1, "GET /crm/v8/Accounts/{id}/Deals": 1, "GET /crm/v8/Accounts": 0, "POST /oauth/v2/token": 1,
	} {
		if got := v.s.CallsTo(route); got != want {
			t.Errorf("%s: %d calls, want %d", route, got, want)
		}
	}
	if got := v.s.Calls(); got != 3 {
		t.Errorf("%d calls in all, want 3", got)
	}
}

func TestCallsAtOneTime(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		path        string
		concurrency int
		limit       int
	}{
		"any":     {"/crm/v8/org", 3, 3},
		"sort_by": {"/crm/v8/Accounts?fields=id&sort_by=id", 50, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived, leave := make(chan struct{}), make(chan struct{})
			v := visit(t, zohotest.Options{Concurrency: tc.concurrency, Latency: func(*http.Request) time.Duration {
				arrived <- struct{}{}
				<-leave
				return 0
			}})
			v.s.Create("Accounts", nil)
			var calls sync.WaitGroup
			for range tc.limit {
				calls.Go(func() { v.get(tc.path).is(200, "") })
				<-arrived
			}
			v.get(tc.path).is(429, "TOO_MANY_REQUESTS")
			close(leave)
			calls.Wait()
			if got := v.s.MaxConcurrent(); got != tc.limit+1 {
				t.Errorf("%d calls were under way at most, want %d", got, tc.limit+1)
			}
			go func() { <-arrived }()
			v.get(tc.path).is(200, "")
		})
	}
}

func TestLatencyEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{Latency: zohotest.Fixed(time.Hour)})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.s.URL()+"/crm/v8/org", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		res.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
