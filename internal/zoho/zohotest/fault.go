package zohotest

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fault is how a request goes wrong. What is said (Status, Body, HTML) and how
// it arrives (Hang, Drop, Truncate, Drip) go together. When nothing is said, the
// call is done and its real answer is what arrives badly.
type Fault struct {
	// Match says which requests it befalls; nil: every one to the API. Requests
	// for tokens are met only by a Match, as Route("POST /oauth/v2/token").
	Match func(*http.Request) bool
	// Times is how many requests it befalls; 0: one, below 0: until cancelled.
	Times int

	Status int         // 0: as usual
	Body   string      // "": what Zoho says along with Status
	Header http.Header // added to the answer
	HTML   bool        // a page of HTML, with status 200 unless Status says otherwise

	Hang     bool          // no answer until the client gives up; the call is not done
	Drop     bool          // the connection breaks before there is an answer; the call is not done
	Truncate bool          // half of the body, then the connection breaks
	Drip     time.Duration // the body comes in pieces, over so much real time
}

// dripPieces is how many pieces a dripping body comes in.
const dripPieces = 20

// faults are the faults in force, oldest first.
type faults struct {
	mu     sync.Mutex
	outage bool
	active []*faultLeft
}

type faultLeft struct {
	Fault
	left int
}

// Fail lets requests go wrong from now on, until it has befallen Times of them
// or is cancelled. Of several faults that match, the oldest strikes.
func (s *Server) Fail(f Fault) (cancel func()) {
	if f.Match == nil {
		f.Match = func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/crm/") }
	}
	armed := &faultLeft{f, cmp.Or(f.Times, 1)}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.active = append(s.faults.active, armed)
	return func() {
		s.faults.mu.Lock()
		defer s.faults.mu.Unlock()
		s.faults.active = slices.DeleteFunc(s.faults.active, func(a *faultLeft) bool { return a == armed })
	}
}

// Outage takes all of Zoho down, tokens included, or brings it back: every
// request gets a 503 with a page of HTML. Notifications are sent all the same.
func (s *Server) Outage(on bool) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.outage = on
}

// Route matches requests to a route as CallsTo names it.
func Route(route string) func(*http.Request) bool {
	return func(r *http.Request) bool { return routeOf(r) == route }
}

// take is the fault that befalls r. A Match runs unlocked: it may ask the Server.
func (f *faults) take(r *http.Request) (Fault, bool) {
	f.mu.Lock()
	outage, active := f.outage, slices.Clone(f.active)
	f.mu.Unlock()
	if outage {
		return Fault{Status: http.StatusServiceUnavailable, HTML: true}, true
	}
	for _, a := range active {
		if a.Match(r) && f.use(a) {
			return a.Fault, true
		}
	}
	return Fault{}, false
}

// use takes one of the times that a is for, and reports whether there was one.
func (f *faults) use(a *faultLeft) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.active, a) {
		return false
	}
	if a.left--; a.left == 0 {
		f.active = slices.DeleteFunc(f.active, func(b *faultLeft) bool { return a == b })
	}
	return true
}

// serve answers r as the fault says; usual answers as if there were none.
func (f Fault) serve(w http.ResponseWriter, r *http.Request, usual func(*http.Request) answer) {
	if f.Hang {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // the server breaks the connection, quietly
	}
	if f.Drop {
		drop(w)
	}
	a := f.answer(r, usual)
	body := a.bytes()
	if f.Truncate || f.Drip > 0 {
		a.header = a.header.Clone()
		if a.header == nil {
			a.header = http.Header{}
		}
		a.header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	a.writeHead(w)
	if f.Truncate {
		body = body[:len(body)/2]
	}
	if !f.pour(w, r, body) || f.Truncate {
		panic(http.ErrAbortHandler)
	}
}

// drop breaks the connection after a few bytes that are no answer: without any,
// Go's client would quietly ask again on another connection.
func drop(w http.ResponseWriter) {
	if conn, buf, err := http.NewResponseController(w).Hijack(); err == nil {
		_, _ = buf.WriteString("HTTP/1.1 ")
		_ = buf.Flush()
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// answer is what is said.
func (f Fault) answer(r *http.Request, usual func(*http.Request) answer) answer {
	var a answer
	switch {
	case f.HTML:
		a = htmlPage(cmp.Or(f.Status, http.StatusOK))
	case f.Body != "":
		a = answer{status: cmp.Or(f.Status, http.StatusOK), body: []byte(f.Body)}
	case f.Status != 0:
		a = refuseStatus(f.Status)
	default:
		a = usual(r)
	}
	if len(f.Header) > 0 {
		header := f.Header.Clone()
		for name, values := range a.header {
			header[name] = append(header[name], values...)
		}
		a.header = header
	}
	return a
}

// pour writes the body and reports whether the client was there to the end.
func (f Fault) pour(w http.ResponseWriter, r *http.Request, body []byte) bool {
	control := http.NewResponseController(w)
	if f.Drip <= 0 {
		_, err := w.Write(body)
		return err == nil && (!f.Truncate || control.Flush() == nil)
	}
	for piece := range slices.Chunk(body, len(body)/dripPieces+1) {
		if !wait(r, f.Drip/dripPieces) {
			return false
		}
		if _, err := w.Write(piece); err != nil {
			return false
		}
		if err := control.Flush(); err != nil {
			return false
		}
	}
	return true
}
