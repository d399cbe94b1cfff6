package zohotest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	v.s.Seed(50, 0, 1)
	const path = "/crm/v8/Accounts?fields=Account_Name"
	whole := v.get(path).body

	v.s.Fail(zohotest.Fault{Times: 2, Status: 500})
	v.get(path).is(500, "INTERNAL_ERROR")
	v.get(path).is(500, "INTERNAL_ERROR")
	v.get(path).is(200, "")

	v.s.Fail(zohotest.Fault{Match: zohotest.Route("GET /crm/v8/org"), Status: 429, Header: http.Header{"Retry-After": {"7"}}})
	v.get(path).is(200, "")
	if r := v.get("/crm/v8/org").is(429, "TOO_MANY_REQUESTS"); r.header.Get("Retry-After") != "7" {
		t.Errorf("header %v", r.header)
	}

	cancel := v.s.Fail(zohotest.Fault{Times: -1, Status: 401})
	for range 3 {
		v.get(path).is(401, "INVALID_TOKEN")
	}
	cancel()
	v.get(path).is(200, "")

	v.s.Fail(zohotest.Fault{Body: `{"code":"OWN"}`, Status: 418})
	v.get(path).is(418, "OWN")

	v.s.Fail(zohotest.Fault{HTML: true})
	if r := v.get(path); r.status != 200 || !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") {
		t.Errorf("status %d, type %q", r.status, r.header.Get("Content-Type"))
	}

	v.s.Fail(zohotest.Fault{Drop: true})
	if r, err := v.try(http.MethodGet, path, ""); err == nil {
		t.Errorf("an answer came all the same: %v", r)
	}

	v.s.Fail(zohotest.Fault{Truncate: true})
	r, err := v.try(http.MethodGet, path, "")
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(r.body) != len(whole)/2 {
		t.Errorf("%d of %d bytes, %v", len(r.body), len(whole), err)
	}

	v.s.Fail(zohotest.Fault{Drip: 40 * time.Millisecond})
	begun := time.Now()
	if r := v.get(path); r.body != whole || time.Since(begun) < 40*time.Millisecond {
		t.Errorf("%d of %d bytes in %v", len(r.body), len(whole), time.Since(begun))
	}
}

func TestHangEndsWithTheClientsPatience(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	v.s.Fail(zohotest.Fault{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.s.URL()+"/crm/v8/coql", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if res, err := http.DefaultClient.Do(req); err == nil {
		res.Body.Close()
		t.Errorf("an answer came: %d", res.StatusCode)
	}
	v.get("/crm/v8/org").is(200, "")
}

func TestCloseEndsAHang(t *testing.T) {
	t.Parallel()
	s := zohotest.New(zohotest.Options{})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	s.Fail(zohotest.Fault{Hang: true, Match: func(*http.Request) bool { close(begun); return true }})
	var work sync.WaitGroup
	work.Go(func() {
		res, err := http.Get(s.URL() + "/crm/v8/org")
		if err == nil {
			res.Body.Close()
			t.Errorf("an answer came: %d", res.StatusCode)
		}
	})
	<-begun
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	work.Wait()
}

func TestOutage(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	v.s.Outage(true)
	for _, path := range []string{"/crm/v8/org", "/oauth/v2/token"} {
		if r := v.get(path); r.status != http.StatusServiceUnavailable || !strings.Contains(r.body, "<html>") {
			t.Errorf("%s: status %d, %s", path, r.status, r.body)
		}
	}
	v.s.Outage(false)
	v.get("/crm/v8/org").is(200, "")
}
