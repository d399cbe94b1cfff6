package cognee_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/cognee"
	"github.com/memrelay/memrelay/internal/memory/cognee/cogneetest"
)

var (
	testID  = uuid.MustParse("0199aaaa-0000-7000-8000-000000000001")
	otherID = uuid.MustParse("0199aaaa-0000-7000-8000-000000000002")
)

const testUser = "zoho:5725767000000524157"

func item(change ...func(*memory.Item)) memory.Item {
	i := memory.Item{
		ID: testID, UserID: testUser, Kind: "contact", Content: "Contact Ada of Northwind\nPhone: 555-0100",
		Metadata: map[string]any{"module": "Contacts", "node_set": "reserved"}, Checksum: "c0ffee",
	}
	for _, f := range change {
		f(&i)
	}
	return i
}

func other(i *memory.Item) { i.ID = otherID }

// started starts a Cognee and returns a client of it.
func started(t *testing.T, o cogneetest.Options, change ...func(*cognee.Options)) (*cogneetest.Server, *cognee.Client) {
	t.Helper()
	srv := cogneetest.New(o)
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Stop() })
	return srv, clientOf(t, srv.URL(), change...)
}

func clientOf(t *testing.T, address string, change ...func(*cognee.Options)) *cognee.Client {
	t.Helper()
	o := cognee.Options{URL: address, APIKey: cogneetest.Key, Transport: &http.Transport{}}
	for _, f := range change {
		f(&o)
	}
	c, err := cognee.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// answering starts a server that answers by path, and returns a client of it.
func answering(t *testing.T, answers map[string]string) *cognee.Client {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.Method+" "+r.URL.Path]
		if !ok {
			t.Errorf("asked for %s %s", r.Method, r.URL.Path)
		}
		_, _ = io.WriteString(w, text)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return clientOf(t, srv.URL)
}

// must is v, or the end of the test.
func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func added(t *testing.T, c *cognee.Client, i memory.Item) string {
	t.Helper()
	return must[string](t)(c.Add(t.Context(), i))
}

// errorOf is the *memory.RemoteError in err, which holds no key.
func errorOf(t *testing.T, err error) *memory.RemoteError {
	t.Helper()
	var e *memory.RemoteError
	if !errors.As(err, &e) {
		t.Fatalf("no RemoteError: %v", err)
	}
	if strings.Contains(err.Error(), cogneetest.Key) {
		t.Errorf("the key is in %q", err)
	}
	return e
}

// texts are the documents of a Cognee.
func texts(srv *cogneetest.Server) []string {
	var all []string
	for _, d := range srv.Documents() {
		all = append(all, d.Text)
	}
	return all
}
