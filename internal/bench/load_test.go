package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answers is a server that answers each request with what answer returns.
func answers(t *testing.T, answer http.HandlerFunc) (addr string) {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestAStallIsChargedToEverythingThatWasDueMeanwhile(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	var n atomic.Int64
	addr := answers(t, func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 1 {
			time.Sleep(stall) // what a slow server is
		}
	})
	b := &bench{}
	// One connection: while the first request stalls, the thirty after it are due.
	l, err := open(t.Context(), addr, b.webhooks(60), 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if l.sent != 60 {
		t.Fatalf("%d were sent, want 60", l.sent)
	}
	slow := 0
	for _, ms := range l.ms {
		if ms > 100 {
			slow++
		}
	}
	// Those due in the first 200 ms of the stall waited for more than 100.
	if slow < 18 {
		t.Errorf("%d were charged with the stall, want about 20: it was omitted", slow)
	}
}

func TestRequestsAreDueByTheClock(t *testing.T) {
	t.Parallel()
	addr := answers(t, func(http.ResponseWriter, *http.Request) {})
	b := &bench{}
	l, err := open(t.Context(), addr, b.webhooks(50), 250, 8)
	if err != nil {
		t.Fatal(err)
	}
	if l.took < 49*4*time.Millisecond {
		t.Errorf("50 requests at 250/s took %s: some were early", l.took)
	}
	if got := l.due(25).Sub(l.began); got != 100*time.Millisecond {
		t.Errorf("the 25th was due after %s, want 100ms", got)
	}
}

func TestAClosedLoopSendsEachOnce(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	seen := make(chan string, 100)
	addr := answers(t, func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		number, _ := numberOf(body)
		seen <- r.Header.Get("X-Zoho-Event-Id") + " " + r.Method + " " + r.URL.Path
		if number < 8 || number > 57 {
			t.Errorf("number %d came", number)
		}
		_, _ = io.WriteString(w, `{"status":"accepted"}`)
	})
	b := &bench{next: 7}
	l, err := closed(t.Context(), addr, b.webhooks(50), 8, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if l.sent != 50 || n.Load() != 50 {
		t.Errorf("%d were sent and %d came, want 50", l.sent, n.Load())
	}
	close(seen)
	different := map[string]bool{}
	for s := range seen {
		different[s] = true
	}
	if len(different) != 50 || !different["bench-8 POST /webhooks/zoho"] || !different["bench-57 POST /webhooks/zoho"] {
		t.Errorf("%d different ones came: %v", len(different), different)
	}
}

func TestAnotherAnswerThanSuccessEndsTheRun(t *testing.T) {
	t.Parallel()
	addr := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "full", http.StatusServiceUnavailable)
	})
	b := &bench{}
	_, err := closed(t.Context(), addr, b.webhooks(5), 2, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "answered 503: full") {
		t.Errorf("the error is %v, want one that says 503", err)
	}
}

func TestALoadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	addr := answers(t, func(http.ResponseWriter, *http.Request) { cancel() })
	b := &bench{}
	if _, err := open(ctx, addr, b.webhooks(1000), 1, 4); err == nil {
		t.Error("there is no error")
	}
}

func TestReadHead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		length     int
		fields     []string
		err        bool
	}{
		{"an answer", "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-A: b c\r\n\r\n", 12, []string{"X-A=b c"}, false},
		{"any case, no space", "POST / HTTP/1.1\r\ncontent-length:3\r\n\r\n", 3, nil, false},
		{"without a body", "HTTP/1.1 204 No Content\r\n\r\n", 0, nil, false},
		{"framed otherwise", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, nil, true},
		{"a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 0, nil, true},
		{"broken off", "HTTP/1.1 200 OK\r\nContent-", 0, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var fields []string
			length, err := readHead(bufio.NewReader(strings.NewReader(tt.text)), func([]byte) error { return nil },
				func(name, value []byte) { fields = append(fields, string(name)+"="+string(value)) })
			if (err != nil) != tt.err || length != tt.length || !cmp.Equal(fields, tt.fields) {
				t.Errorf("readHead = %d, %v, %v; want %d, %v, error %t", length, fields, err, tt.length, tt.fields, tt.err)
			}
		})
	}
}

func TestStatusOf(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{"HTTP/1.1 200 OK": 200, "HTTP/1.0 503 Away": 503, "HTTP/1.1 204": 204, "SSH-2.0-x 200": 0, "": 0} {
		if got, err := statusOf([]byte(line)); got != want || (err != nil) != (want == 0) {
			t.Errorf("statusOf(%q) = %d, %v; want %d", line, got, err, want)
		}
	}
}

func TestTheReceiverTakesEachWebhookOnce(t *testing.T) {
	t.Parallel()
	r, err := newReceiver(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	post := func(id, body string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("webhook-id", id)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	before := time.Now()
	for _, id := range []string{"a", "b", "a"} {
		if got := post(id, `{"event":"memory_added","user_id":"ada","data":{"content":"`+mark+`42 likes tea"}}`); got != http.StatusNoContent {
			t.Errorf("answered %d", got)
		}
	}
	r.away.Store(true)
	if got := post("c", `{}`); got != http.StatusServiceUnavailable {
		t.Errorf("answered %d while away", got)
	}
	if err := r.wait(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]string{"ada": {"a", "b"}}, r.perUser); diff != "" {
		t.Errorf("by user (-want +got):\n%s", diff)
	}
	if at := r.marked[42]; at.Before(before) {
		t.Errorf("number 42 arrived at %s", at)
	}
}

func TestNumbersAreSeenFromWhenTheyWereDue(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)
	l := loaded{sent: 3, began: began, every: 10 * time.Millisecond}
	after := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	got, err := since(l, 5, map[int64]time.Time{5: after(30), 6: after(15), 7: after(120)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float64{5, 30, 100}, got); diff != "" {
		t.Errorf("milliseconds (-want +got):\n%s", diff)
	}
	if _, err := since(l, 5, map[int64]time.Time{5: after(30), 7: after(120)}); err == nil {
		t.Error("one is missing, and there is no error")
	}
}

func TestAHangingReceiverLetsGoWhenItCloses(t *testing.T) {
	t.Parallel()
	r, err := newReceiver(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", r.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r.close()
	if text, err := io.ReadAll(conn); len(text) > 0 {
		t.Errorf("it answered %q, %v", text, err)
	}
}
