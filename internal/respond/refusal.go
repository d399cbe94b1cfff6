package respond

import (
	"net/http"
	"net/netip"
	"time"
)

// Refusal is a request that was answered 4xx, or 503: turned away, for good or for now.
// It has nothing of the body, the query, the path or the headers that prove who sent it.
type Refusal struct {
	At            time.Time
	Method        string
	Path          string // of the request; it may hold anything, so it is not for keeping
	Route         string // the pattern that matched, "none" where none did
	Status        int
	Code          string // as it is answered; "" where the answer was no problem
	Reason        string // as people are told
	Address       netip.Addr
	UserAgent     string
	ContentLength int64 // as the sender says; -1: it does not
	RequestID     string
}

// Option changes what Use does.
type Option func(*options)

type options struct {
	refused func(Refusal)
	trusted []netip.Prefix
}

// OnRefusal has f called for each request that is turned away, once it is answered. The
// sender waits for f.
func OnRefusal(f func(Refusal)) Option { return func(o *options) { o.refused = f } }

// TrustProxies has what proxies at these addresses say taken for whom a request comes
// from, in the log and in refusals.
func TrustProxies(ranges []netip.Prefix) Option { return func(o *options) { o.trusted = ranges } }

// remote is whom a request comes from, as the log has it: with the port where it is the peer.
func (o options) remote(r *http.Request) string {
	if len(o.trusted) > 0 {
		if at := ClientAddress(r, o.trusted); at.IsValid() && at != parseAddress(r.RemoteAddr) {
			return at.String()
		}
	}
	return r.RemoteAddr
}

func (o options) refuse(r *http.Request, l *line, status int) {
	if o.refused == nil || (status/100 != 4 && status != http.StatusServiceUnavailable) {
		return
	}
	refusal := Refusal{
		At: time.Now(), Method: r.Method, Path: r.URL.Path, Route: route(r), Status: status, Address: ClientAddress(r, o.trusted),
		UserAgent: r.UserAgent(), ContentLength: r.ContentLength, RequestID: RequestID(r.Context()),
	}
	if l.failure != nil {
		refusal.Code, refusal.Reason = l.failure.Code, l.failure.Message
	}
	o.refused(refusal)
}
