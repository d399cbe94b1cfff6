package client

import (
	"net/http"
	"testing"
)

// A handler is told that nobody reads any more, though the request goes on.
func TestWhoeverClosesTheBodyIsGone(t *testing.T) {
	t.Parallel()
	left := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		<-r.Context().Done()
		close(left)
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := inProcess{h}.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-left
}
