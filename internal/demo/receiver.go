package demo

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// receiver is a subscriber on localhost, as one would write it from the
// documentation: it checks both signatures, tells repeats by webhook-id, and
// keeps a copy of the memory from what it is told.
type receiver struct {
	url    string
	secret string
	server *http.Server

	mu       sync.Mutex
	fail     int // requests yet to be answered with 503
	requests int
	forged   int // requests whose signatures do not fit
	ids      map[string]int
	memories map[string]copied
}

// copied is what the receiver believes of one memory.
type copied struct {
	content string
	gone    bool
	at      time.Time
}

func startReceiver(secret string, fail int) (*receiver, error) {
	var listen net.ListenConfig
	ln, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for webhooks: %w", err)
	}
	r := &receiver{
		url: "http://" + ln.Addr().String() + "/memory", secret: secret, fail: fail,
		ids: map[string]int{}, memories: map[string]copied{},
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = r.server.Serve(ln) }() // returns when the server is closed
	return r, nil
}

func (r *receiver) close() error { return r.server.Close() }

// ServeHTTP takes one webhook.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if err := verify(r.secret, req.Header, body); err != nil {
		r.forged++
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	if r.fail > 0 {
		r.fail--
		http.Error(w, "not well yet", http.StatusServiceUnavailable)
		return
	}
	r.ids[req.Header.Get("webhook-id")]++
	if err := r.remember(body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// remember applies a webhook; one that is older than what is known changes
// nothing, for webhooks that failed come late.
func (r *receiver) remember(body []byte) error {
	type snapshot struct {
		ID      string `json:"id"`
		Content string `json:"content"`
	}
	var w struct {
		Event     string    `json:"event"`
		Timestamp time.Time `json:"timestamp"`
		Data      struct {
			Result snapshot `json:"result"`
			After  snapshot `json:"after"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &w); err != nil {
		return fmt.Errorf("read the webhook: %w", err)
	}
	subject := w.Data.Result
	if w.Event == "memory_updated" {
		subject = w.Data.After
	}
	if known, ok := r.memories[subject.ID]; !ok || w.Timestamp.After(known.at) {
		r.memories[subject.ID] = copied{content: subject.Content, gone: w.Event == "memory_deleted", at: w.Timestamp}
	}
	return nil
}

// verify checks the signature of Standard Webhooks and the one over the body alone.
func verify(secret string, h http.Header, body []byte) error {
	plain := hmac.New(sha256.New, []byte(secret))
	plain.Write(body)
	if !hmac.Equal([]byte(h.Get("X-Webhook-Signature")), []byte("sha256="+hex.EncodeToString(plain.Sum(nil)))) {
		return errors.New("X-Webhook-Signature does not fit")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return fmt.Errorf("read the secret: %w", err)
	}
	standard := hmac.New(sha256.New, key)
	fmt.Fprintf(standard, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(standard.Sum(nil))
	for _, got := range strings.Fields(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return nil
		}
	}
	return errors.New("webhook-signature does not fit")
}
