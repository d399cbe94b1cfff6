package zohotest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// notifyTimeout is how long a receiver has to answer: an assumption.
const notifyTimeout = 30 * time.Second

// To carries notifications to the program that listens at addr, whatever address
// they are meant for: Zoho takes only https addresses that it reaches from outside.
// What is sent while addr returns "" fails.
func To(addr func() string) http.RoundTripper { return carrier(addr) }

type carrier func() string

func (c carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	addr := c()
	if addr == "" {
		return nil, net.ErrClosed
	}
	req = req.Clone(req.Context())
	req.URL.Scheme, req.URL.Host = "http", addr
	return http.DefaultTransport.RoundTrip(req)
}

// Notification is what is POSTed to a channel's notify_url.
type Notification struct {
	ServerTime     int64                 `json:"server_time"` // milliseconds since 1970
	AffectedValues []AffectedValues      `json:"affected_values,omitempty"`
	QueryParams    map[string]string     `json:"query_params"` // of the notify_url
	Module         string                `json:"module"`
	ResourceURI    string                `json:"resource_uri"`
	IDs            []string              `json:"ids"`
	AffectedFields []map[string][]string `json:"affected_fields"` // record id → fields; empty unless updated
	Operation      string                `json:"operation"`       // insert, update or delete
	ChannelID      string                `json:"channel_id"`
	Token          *string               `json:"token"`
}

// AffectedValues are a record's changed fields, for channels that asked for them.
type AffectedValues struct {
	RecordID string                     `json:"record_id"`
	Values   map[string]json.RawMessage `json:"values"`
}

// Delivery is how notifications are sent. The zero value sends each once, one
// after the other, in order. A notification that fails is not sent again: Zoho's
// pages promise no retry.
type Delivery struct {
	// Drop says which are never sent; Duplicate, which are sent twice. They may
	// ask the Server; nil: none.
	Drop, Duplicate func(Notification) bool
	// Reorder sends any of so many that wait, and not the first; it is the same
	// any in every run. 0: in order.
	Reorder int
	// Batch joins up to so many records of one channel, module and operation into
	// one notification, as long as it waits. 0: each has its own.
	Batch int
	// Senders is how many are sent at one time; 0: 1.
	Senders int
}

// Deliveries is what became of the notifications.
type Deliveries struct {
	Sent       int    // requests made
	Succeeded  int    // of those, answered 2xx
	Failed     int    // of those, answered otherwise or not at all
	Dropped    int    // by Delivery.Drop
	Duplicated int    // by Delivery.Duplicate
	Lost       int    // the queue was full
	Waiting    int    // not yet sent
	LastStatus int    // of the last answer; 0: none
	LastError  string // of the last request without an answer
}

// tell notifies the channels that watch r's module of what happened to r. The
// store is locked: notifications stand in the order of the changes.
func (c Records) tell(r *record, operation string, fields []string) {
	if c.silent || r.module.Unwatchable {
		return
	}
	s := c.s
	s.channels.mu.Lock()
	defer s.channels.mu.Unlock()
	if len(s.channels.byID) == 0 {
		return
	}
	s.channels.forget(s.o.Now())
	for _, ch := range s.channels.watching(r.module.Name, operation) {
		s.sender.enqueue(ch.notifyURL, s.notification(ch, r, operation, fields))
	}
}

// watching are the channels of an operation, in the order of their ids.
func (c *channels) watching(module, operation string) []*channel {
	var found []*channel
	for _, verb := range verbs {
		for _, ch := range c.byID {
			if verb.operation == operation && slices.Contains(ch.events[module], verb.event) {
				found = append(found, ch)
			}
		}
	}
	slices.SortFunc(found, func(a, b *channel) int { return bytes.Compare([]byte(a.id), []byte(b.id)) })
	return found
}

func (s *Server) notification(ch *channel, r *record, operation string, fields []string) *Notification {
	n := &Notification{
		ServerTime: s.o.Now().UnixMilli(), QueryParams: map[string]string{}, Module: r.module.Name,
		ResourceURI: ch.resource(r.module.Name), IDs: []string{r.id}, AffectedFields: []map[string][]string{},
		Operation: operation, ChannelID: ch.id, Token: ch.token,
	}
	if u, err := url.Parse(ch.notifyURL); err == nil {
		for name := range u.Query() {
			n.QueryParams[name] = u.Query().Get(name)
		}
	}
	if operation == "update" && len(fields) > 0 {
		n.AffectedFields = append(n.AffectedFields, map[string][]string{r.id: fields})
	}
	if ch.wantValues {
		n.AffectedValues = []AffectedValues{{RecordID: r.id, Values: s.store.affected(r, operation, fields)}}
	}
	return n
}

// affected are the values that a notification carries: those that changed, all
// that are set of a new record, and of a deleted one who did it.
func (st *store) affected(r *record, operation string, fields []string) map[string]json.RawMessage {
	values := map[string]json.RawMessage{}
	switch operation {
	case "delete":
		values["Modified_By"] = st.value(r, "Modified_By")
		values["Record_Status__s"] = encode("Trash")
	case "insert":
		for _, field := range r.module.fields {
			if value := st.value(r, field); field != "id" && string(value) != "null" {
				values[field] = value
			}
		}
	default:
		for _, field := range fields {
			values[field] = st.value(r, field)
		}
	}
	return values
}

// sender sends notifications in the background. Nothing runs while none wait.
type sender struct {
	client *http.Client
	size   int
	ctx    context.Context // ends with close
	close  context.CancelFunc

	mu       sync.Mutex
	how      Delivery
	waiting  []*outgoing
	open     map[string]*outgoing // of those waiting, the ones that can be joined
	busy     int                  // senders at work
	paused   bool
	flushers []chan struct{} // closed when nothing waits and nobody is at work
	any      *rand.Rand
	stats    Deliveries
}

// outgoing is a notification that waits.
type outgoing struct {
	url string
	key string // what it can be joined by
	n   *Notification
}

func newSender(o Options) *sender {
	ctx, cancel := context.WithCancel(context.Background())
	return &sender{
		client: &http.Client{
			Transport: o.Notify, Timeout: notifyTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		size: o.QueueSize, ctx: ctx, close: cancel, how: o.Delivery,
		open: map[string]*outgoing{}, any: rand.New(rand.NewPCG(1, 2)),
	}
}

// enqueue brings a notification to wait, or joins it to one that does.
func (q *sender) enqueue(to string, n *Notification) {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := &outgoing{url: to, n: n, key: fmt.Sprintf("%s %s %s %s", n.ChannelID, n.Module, n.Operation, to)}
	if first := q.open[out.key]; q.how.Batch > 1 && first != nil && len(first.n.IDs) < q.how.Batch && !slices.Contains(first.n.IDs, n.IDs[0]) {
		first.n.IDs = append(first.n.IDs, n.IDs...)
		first.n.AffectedFields = append(first.n.AffectedFields, n.AffectedFields...)
		first.n.AffectedValues = append(first.n.AffectedValues, n.AffectedValues...)
		first.n.ServerTime = n.ServerTime
		return
	}
	if len(q.waiting) >= q.size {
		q.stats.Lost++
		return
	}
	q.open[out.key] = out
	q.waiting = append(q.waiting, out)
	q.wake()
}

// wake puts senders to work, as many as may and are needed. Whether they may
// send at all they find out themselves.
func (q *sender) wake() {
	for q.busy < min(max(q.how.Senders, 1), len(q.waiting)) {
		q.busy++
		go q.run()
	}
}

// run sends until nothing waits.
func (q *sender) run() {
	for {
		out, how := q.take()
		if out == nil {
			return
		}
		if how.Drop != nil && how.Drop(*out.n) {
			q.record(func(d *Deliveries) { d.Dropped++ })
			continue
		}
		again := how.Duplicate != nil && how.Duplicate(*out.n)
		q.post(out)
		if again {
			q.record(func(d *Deliveries) { d.Duplicated++ })
			q.post(out)
		}
	}
}

// take gives the next to send, or retires the sender that asks.
func (q *sender) take() (*outgoing, Delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.paused || len(q.waiting) == 0 || q.ctx.Err() != nil {
		q.busy--
		q.settle()
		return nil, Delivery{}
	}
	i := 0
	if n := min(q.how.Reorder, len(q.waiting)); n > 1 {
		i = q.any.IntN(n)
	}
	out := q.waiting[i]
	if i == 0 {
		q.waiting = q.waiting[1:]
	} else {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	if q.open[out.key] == out {
		delete(q.open, out.key)
	}
	return out, q.how
}

// settle lets those go who wait for the end, when it is there.
func (q *sender) settle() {
	if q.busy > 0 || (len(q.waiting) > 0 && q.ctx.Err() == nil) {
		return
	}
	for _, done := range q.flushers {
		close(done)
	}
	q.flushers = nil
}

func (q *sender) record(change func(*Deliveries)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change(&q.stats)
}

// post sends one notification once.
func (q *sender) post(out *outgoing) {
	status, err := q.request(out)
	q.record(func(d *Deliveries) {
		d.Sent++
		switch {
		case err != nil:
			d.Failed++
			d.LastError = err.Error()
		case status < 200 || status > 299:
			d.Failed++
			d.LastStatus = status
		default:
			d.Succeeded++
			d.LastStatus = status
		}
	})
}

func (q *sender) request(out *outgoing) (status int, err error) {
	req, err := http.NewRequestWithContext(q.ctx, http.MethodPost, out.url, bytes.NewReader(encode(out.n)))
	if err != nil {
		return 0, fmt.Errorf("build notification: %w", err)
	}
	req.Header.Set("Content-Type", "application/json;charset=UTF-8")
	res, err := q.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("send notification: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)) // so that the connection is used again
	return res.StatusCode, nil
}

// SetDelivery changes how notifications are sent from now on.
func (s *Server) SetDelivery(d Delivery) {
	s.sender.mu.Lock()
	defer s.sender.mu.Unlock()
	s.sender.how = d
	s.sender.wake()
}

// PauseNotifications keeps notifications waiting until ResumeNotifications; those
// being sent arrive. What waits can be joined and reordered in the same way in
// every run.
func (s *Server) PauseNotifications() {
	s.sender.mu.Lock()
	defer s.sender.mu.Unlock()
	s.sender.paused = true
}

// ResumeNotifications sends what waits.
func (s *Server) ResumeNotifications() {
	s.sender.mu.Lock()
	defer s.sender.mu.Unlock()
	s.sender.paused = false
	s.sender.wake()
}

// Flush waits until every notification is sent and answered, or has failed. It
// returns an error only when ctx ends first. After Close it returns at once.
func (s *Server) Flush(ctx context.Context) error {
	q := s.sender
	done := make(chan struct{})
	q.mu.Lock()
	q.flushers = append(q.flushers, done)
	q.settle()
	q.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("zohotest: flush notifications: %w", ctx.Err())
	}
}

// Deliveries is what became of the notifications so far.
func (s *Server) Deliveries() Deliveries {
	s.sender.mu.Lock()
	defer s.sender.mu.Unlock()
	d := s.sender.stats
	d.Waiting = len(s.sender.waiting)
	return d
}
