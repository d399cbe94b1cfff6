package remotetest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

// started starts a server that counts what it has done.
func started(t *testing.T) (srv *remotetest.Server, done *int) {
	t.Helper()
	done = new(int)
	srv = remotetest.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*done++
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Said", "yes")
		remotetest.Answer(w, http.StatusCreated, string(body))
	}))
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Stop() })
	return srv, done
}

// ask is the status and the body of an answer; 0 when none came whole.
func ask(t *testing.T, srv *remotetest.Server, path string) (status int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL()+path, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, string(text), nil
	}
	return res.StatusCode, string(text), res.Header
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		fault  remotetest.Fault
		status int
		body   string
		done   int
	}{
		{"words of its own", remotetest.Fault{Status: 502, Body: `{"x":1}`}, 502, `{"x":1}`, 0},
		{"a page", remotetest.Fault{Body: `<h1>`}, 200, `<h1>`, 0},
		{"a header", remotetest.Fault{Header: http.Header{"retry-after": {"1"}}}, 201, `"hello"`, 1},
		{"a broken connection", remotetest.Fault{Drop: true}, 0, "", 0},
		{"a lost answer", remotetest.Fault{Lose: true}, 0, "", 1},
		{"half an answer", remotetest.Fault{Truncate: true}, 0, `"he`, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv, done := started(t)
			srv.Fail(tc.fault)
			status, body, header := ask(t, srv, "/x")
			if status != tc.status || body != tc.body || *done != tc.done {
				t.Errorf("%d %q, done %d times", status, body, *done)
			}
			if tc.fault.Header != nil && header.Get("Retry-After") != "1" {
				t.Errorf("%v", header)
			}
			if status, body, header := ask(t, srv, "/y"); status != 201 || body != `"hello"` || header.Get("X-Said") != "yes" {
				t.Errorf("afterwards: %d %q", status, body)
			}
			if d := cmp.Diff([]string{"POST /x", "POST /y"}, srv.Calls()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFaultsInOrder(t *testing.T) {
	t.Parallel()
	srv, _ := started(t)
	cancel := srv.Fail(remotetest.Fault{Match: remotetest.Route(http.MethodPost, "/a"), Times: -1, Status: 500})
	srv.Fail(remotetest.Fault{Times: 2, Status: 501})
	var got []int
	for _, path := range []string{"/a", "/b", "/a", "/b", "/b", "/a"} {
		status, _, _ := ask(t, srv, path)
		got = append(got, status)
	}
	cancel()
	status, _, _ := ask(t, srv, "/a")
	if d := cmp.Diff([]int{500, 501, 500, 501, 201, 500, 201}, append(got, status)); d != "" {
		t.Error(d)
	}
	if n := srv.CallsTo(http.MethodPost, "/a"); n != 4 {
		t.Errorf("%d calls", n)
	}
}

func TestOutageAndStop(t *testing.T) {
	t.Parallel()
	srv, done := started(t)
	srv.Outage(true)
	if status, _, _ := ask(t, srv, "/"); status != 503 {
		t.Errorf("%d", status)
	}
	srv.Outage(false)
	address := srv.URL()
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := ask(t, srv, "/"); status != 0 {
		t.Errorf("%d", status)
	}
	if err := srv.Start(); err != nil || srv.URL() != address {
		t.Fatal(err)
	}
	if err := srv.Start(); err == nil {
		t.Error("started twice")
	}
	if status, _, _ := ask(t, srv, "/"); status != 201 || *done != 1 {
		t.Errorf("%d", status)
	}
}
