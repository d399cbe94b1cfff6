package mem0_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/mem0"
	"github.com/memrelay/memrelay/internal/memory/mem0/mem0test"
)

var (
	testID  = uuid.MustParse("0199aaaa-0000-7000-8000-000000000001")
	otherID = uuid.MustParse("0199aaaa-0000-7000-8000-000000000002")
)

const testUser = "zoho:5725767000000524157"

func item(change ...func(*memory.Item)) memory.Item {
	i := memory.Item{
		ID: testID, UserID: testUser, Kind: "contact", Content: "Contact Ada of Northwind\nPhone: 555-0100",
		Metadata: map[string]any{"module": "Contacts", "record_id": "572"}, Checksum: "c0ffee",
	}
	for _, f := range change {
		f(&i)
	}
	return i
}

// wantMetadata is what a copy of item has to carry.
func wantMetadata() map[string]any {
	return map[string]any{"memrelay_id": testID.String(), "memrelay_checksum": "c0ffee", "kind": "contact", "module": "Contacts", "record_id": "572"}
}

// started starts a mem0 and returns a client of it.
func started(t *testing.T, o mem0test.Options, change ...func(*mem0.Options)) (*mem0test.Server, *mem0.Client) {
	t.Helper()
	srv := mem0test.New(o)
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Stop() })
	form := mem0.Platform
	if o.Server {
		form = mem0.Server
	}
	return srv, clientOf(t, srv.URL(), append([]func(*mem0.Options){func(m *mem0.Options) { m.Form = form }}, change...)...)
}

func clientOf(t *testing.T, address string, change ...func(*mem0.Options)) *mem0.Client {
	t.Helper()
	o := mem0.Options{URL: address, APIKey: mem0test.Key, Transport: &http.Transport{}, Poll: time.Millisecond}
	for _, f := range change {
		f(&o)
	}
	c, err := mem0.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// answering starts a server that answers with handler, and returns a client of it.
func answering(t *testing.T, form mem0.Form, handler http.HandlerFunc) *mem0.Client {
	t.Helper()
	srv := httptest.NewUnstartedServer(handler)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return clientOf(t, srv.URL, func(o *mem0.Options) { o.Form = form })
}

func saying(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// bothForms runs a test against either mem0.
func bothForms(t *testing.T, test func(t *testing.T, srv *mem0test.Server, c *mem0.Client), change ...func(*mem0.Options)) {
	t.Helper()
	for name, server := range map[string]bool{"platform": false, "server": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, c := started(t, mem0test.Options{Server: server}, change...)
			test(t, srv, c)
		})
	}
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

func added(t *testing.T, c *mem0.Client, i memory.Item) string {
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
	if strings.Contains(err.Error(), mem0test.Key) {
		t.Errorf("the key is in %q", err)
	}
	return e
}
