package outbound

import (
	"crypto/tls"
	"net/http/httptrace"
	"sync"
	"time"
)

// stopwatch takes the times of one attempt. Its hooks are called from the goroutines that dial, several at once and also
// after the attempt is over, when a connection comes too late.
type stopwatch struct {
	now       func() time.Time
	startedAt time.Time

	mu                                      sync.Mutex
	dnsAt, connectAt, tlsAt                 time.Time
	dns, connect, shake, firstByte          time.Duration
	connected, shakeFailed, ready, answered bool
}

func (w *stopwatch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { w.note(func(now time.Time) { w.dnsAt = now }) },
		DNSDone:  func(httptrace.DNSDoneInfo) { w.note(func(now time.Time) { w.dns = now.Sub(w.dnsAt) }) },
		ConnectStart: func(string, string) {
			w.note(func(now time.Time) {
				if w.connectAt.IsZero() {
					w.connectAt = now
				}
			})
		},
		ConnectDone: func(_, _ string, err error) {
			w.note(func(now time.Time) {
				if !w.connected { // from the first address tried to the one that answered
					w.connect = now.Sub(w.connectAt)
					w.connected = err == nil
				}
			})
		},
		TLSHandshakeStart: func() { w.note(func(now time.Time) { w.tlsAt = now }) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			w.note(func(now time.Time) { w.shake, w.shakeFailed = now.Sub(w.tlsAt), err != nil })
		},
		GotConn:              func(httptrace.GotConnInfo) { w.note(func(time.Time) { w.ready = true }) },
		GotFirstResponseByte: func() { w.note(func(now time.Time) { w.firstByte, w.answered = now.Sub(w.startedAt), true }) },
	}
}

func (w *stopwatch) note(f func(now time.Time)) {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	f(now)
}

// failedAt says how far an attempt came that brought no answer: to a handshake that failed, or to a connection that was
// ready for the request and did not bring the first byte of an answer. Some errors of a lost connection can be told by
// that only: those of HTTP/2 have no exported type.
func (w *stopwatch) failedAt() (handshake, unanswered bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shakeFailed, w.ready && !w.answered
}

func (w *stopwatch) read(o *outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.DNS, o.Connect, o.TLS, o.FirstByte = w.dns, w.connect, w.shake, w.firstByte
}
