package zohotest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxWatch       = 50 // channels in one request
	maxChannelLife = 7 * 24 * time.Hour
	usualLife      = time.Hour
)

// ErrorShape is how the channel calls wrap their errors: Zoho's pages and its
// OpenAPI file know several ways.
type ErrorShape int

const (
	Wrapped    ErrorShape = iota // in watch[], status 400; 207 when some went well
	Bare                         // the first error alone at the top level, status 400
	Wrapped202                   // in watch[], status 202
)

// verbs are the events of a module: what a channel asks for, and what the
// notification calls it. In the order in which Zoho lists them.
var verbs = []struct{ event, operation string }{
	{"edit", "update"}, {"create", "insert"}, {"delete", "delete"},
}

// channels are the live notification channels.
type channels struct {
	mu   sync.Mutex
	byID map[string]*channel
}

// channel is one channel, over one or several modules.
type channel struct {
	id          string
	events      map[string][]string // by module: edit, create, delete
	notifyURL   string
	token       *string
	expires     time.Time
	wantValues  bool
	wantRelated bool
	conditions  json.RawMessage
	base        string // base URL it was made by, for resource_uri
}

func newChannels() *channels { return &channels{byID: map[string]*channel{}} }

// success is how Zoho says that a channel call went well.
type success struct {
	Code    string `json:"code"`
	Details any    `json:"details"`
	Message string `json:"message"`
	Status  string `json:"status"`
}

func succeeded(message string, d any) success {
	return success{Code: "SUCCESS", Details: d, Message: message, Status: "success"}
}

const (
	saysSubscribed   = "Successfully subscribed for actions-watch of the given module"
	saysUpdated      = "Successfully updated the subscribe details"
	saysRemoved      = "Successfully removed the subscribe details"
	saysUnsubscribed = "Successfully un-subscribed from actions-watch"
)

// enable answers POST /actions/watch. Modules that an existing channel of the
// same id has beside are kept: an assumption.
func (s *Server) enable(r *http.Request) answer {
	return s.watch(r, http.StatusCreated, func(w *wish, path string) (any, *envelope) {
		if missing := w.missing(path); missing != nil {
			return nil, missing
		}
		ch := s.channels.byID[w.id]
		if ch == nil {
			ch = &channel{id: w.id, events: map[string][]string{}}
			s.channels.byID[w.id] = ch
		}
		s.give(ch, w, s.base(r))
		for module, events := range w.events {
			ch.events[module] = events
		}
		return succeeded(saysSubscribed, s.eventDetails(ch)), nil
	})
}

// replace answers PUT /actions/watch: what is left out is gone.
func (s *Server) replace(r *http.Request) answer {
	return s.watch(r, http.StatusOK, func(w *wish, path string) (any, *envelope) {
		if s.channels.byID[w.id] == nil {
			return nil, notSubscribed(w.id)
		}
		if missing := w.missing(path); missing != nil {
			return nil, missing
		}
		ch := &channel{id: w.id, events: w.events}
		s.channels.byID[w.id] = ch
		s.give(ch, w, s.base(r))
		return succeeded(saysSubscribed, s.eventDetails(ch)), nil
	})
}

// patch answers PATCH /actions/watch: it changes what is given, adds events, and
// with _delete_events takes them away.
func (s *Server) patch(r *http.Request) answer {
	return s.watch(r, http.StatusOK, func(w *wish, path string) (any, *envelope) {
		ch := s.channels.byID[w.id]
		if ch == nil {
			return nil, notSubscribed(w.id)
		}
		if w.Delete {
			if w.Events == nil {
				return nil, mandatory("events", path)
			}
			return s.takeEvents(ch, w), nil
		}
		if w.Expiry != nil {
			ch.expires = s.expiryOf(w)
		}
		s.change(ch, w, s.base(r))
		for module, events := range w.events {
			for _, event := range events {
				if !slices.Contains(ch.events[module], event) {
					ch.events[module] = append(ch.events[module], event)
				}
			}
		}
		return succeeded(saysUpdated, s.eventDetails(ch)), nil
	})
}

// takeEvents takes events from ch, and the channel away with the last.
func (s *Server) takeEvents(ch *channel, w *wish) any {
	before := s.subscriptions(ch)
	for module, events := range w.events {
		left := slices.DeleteFunc(slices.Clone(ch.events[module]), func(e string) bool { return slices.Contains(events, e) })
		ch.events[module] = left
		if len(left) == 0 {
			delete(ch.events, module)
		}
	}
	if len(ch.events) == 0 {
		delete(s.channels.byID, ch.id)
	}
	d := before[0]
	for _, sub := range before {
		if _, ok := w.events[sub.ResourceName]; ok {
			d = sub
		}
	}
	return succeeded(saysRemoved, details{"resource_uri": d.ResourceURI, "resource_id": d.ResourceID, "channel_id": ch.id})
}

// disable answers DELETE /actions/watch: one result for each module of each channel.
func (s *Server) disable(r *http.Request) answer {
	list := r.URL.Query().Get("channel_ids")
	if list == "" {
		return refuse(http.StatusBadRequest, "REQUIRED_PARAM_MISSING", "required param is missing",
			details{"param_name": "channel_ids", "param": "channel_ids"})
	}
	c := s.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(s.o.Now())
	var results []any
	for id := range strings.SplitSeq(list, ",") {
		ch := c.byID[id]
		if ch == nil {
			results = append(results, *notSubscribed(id))
			continue
		}
		for _, sub := range s.subscriptions(ch) {
			results = append(results, succeeded(saysUnsubscribed, details{
				"resource_uri": sub.ResourceURI, "resource_id": sub.ResourceID, "channel_id": id,
			}))
		}
		delete(c.byID, id)
	}
	return s.o.ErrorShape.answer(http.StatusOK, results)
}

// subscription is what the answers say of a channel's module.
type subscription struct {
	ChannelExpiry string `json:"channel_expiry"`
	ResourceURI   string `json:"resource_uri"`
	ResourceID    string `json:"resource_id"`
	ResourceName  string `json:"resource_name"`
	ChannelID     string `json:"channel_id"`
}

func (s *Server) eventDetails(ch *channel) any {
	return map[string]any{"events": s.subscriptions(ch)}
}

// subscriptions are one for each module of ch.
func (s *Server) subscriptions(ch *channel) []subscription {
	var names []string
	for name := range ch.events {
		names = append(names, name)
	}
	slices.Sort(names)
	subs := make([]subscription, len(names))
	for i, name := range names {
		subs[i] = subscription{
			ChannelExpiry: s.store.time(ch.expires.Unix()), ResourceURI: ch.resource(name),
			ResourceID: s.store.modules[name].id, ResourceName: name, ChannelID: ch.id,
		}
	}
	return subs
}

// resource is the URI of a module. It says v2 whatever the version: so does Zoho.
func (ch *channel) resource(module string) string { return ch.base + "/crm/v2/" + module }

// listed is a channel's module as GET shows it.
type listed struct {
	WantRelated   bool            `json:"notify_on_related_action"`
	ChannelExpiry string          `json:"channel_expiry"`
	WantValues    bool            `json:"return_affected_field_values"`
	ResourceURI   string          `json:"resource_uri"`
	ResourceID    string          `json:"resource_id"`
	NotifyURL     string          `json:"notify_url"`
	ResourceName  string          `json:"resource_name"`
	Fields        any             `json:"fields"` // always null here
	Conditions    json.RawMessage `json:"notification_condition"`
	ChannelID     string          `json:"channel_id"`
	Events        []string        `json:"events"`
	Token         *string         `json:"token"`
}

// listChannels answers GET /actions/watch: a row for each module of each channel.
func (s *Server) listChannels(r *http.Request) answer {
	query := r.URL.Query()
	q := &question{page: 1, perPage: maxPerPage}
	if refused := q.size(query); refused.status != 0 {
		return refused
	}
	c := s.channels
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(s.o.Now())
	var rows []listed
	for _, ch := range c.byID {
		for _, sub := range s.subscriptions(ch) {
			if (query.Get("channel_id") == "" || query.Get("channel_id") == ch.id) &&
				(query.Get("module") == "" || query.Get("module") == sub.ResourceName) {
				rows = append(rows, ch.row(sub))
			}
		}
	}
	slices.SortFunc(rows, func(a, b listed) int {
		return strings.Compare(a.ChannelID+" "+a.ResourceName, b.ChannelID+" "+b.ResourceName)
	})
	total, from := len(rows), (q.page-1)*q.perPage
	rows = rows[min(from, total):min(from+q.perPage, total)]
	if len(rows) == 0 {
		return nothing()
	}
	return found(map[string]any{"watch": rows, "info": plainInfo{
		PerPage: q.perPage, Count: len(rows), Page: q.page, MoreRecords: from+len(rows) < total,
	}})
}

func (ch *channel) row(sub subscription) listed {
	l := listed{
		WantRelated: ch.wantRelated, ChannelExpiry: sub.ChannelExpiry, WantValues: ch.wantValues,
		ResourceURI: sub.ResourceURI, ResourceID: sub.ResourceID, NotifyURL: ch.notifyURL,
		ResourceName: sub.ResourceName, Conditions: ch.conditions, ChannelID: ch.id, Token: ch.token,
	}
	for _, verb := range verbs {
		if slices.Contains(ch.events[sub.ResourceName], verb.event) {
			l.Events = append(l.Events, sub.ResourceName+"."+verb.event)
		}
	}
	return l
}

// watch does one thing with every channel of a request, under the channels' lock.
func (s *Server) watch(r *http.Request, status int, do func(w *wish, path string) (any, *envelope)) answer {
	var body struct {
		Watch *[]json.RawMessage `json:"watch"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return refuse(http.StatusBadRequest, "INVALID_DATA", "the body is not as expected",
			details{"expected_data_type": "jsonarray", "api_name": "watch", "json_path": "$.watch"})
	}
	if body.Watch == nil || len(*body.Watch) == 0 {
		return answer{status: http.StatusBadRequest, body: mandatory("watch", "$")}
	}
	if len(*body.Watch) > maxWatch {
		return refuse(http.StatusBadRequest, "LIMIT_EXCEEDED", "too many channels at a time", details{"limit": maxWatch})
	}
	s.channels.mu.Lock()
	defer s.channels.mu.Unlock()
	s.channels.forget(s.o.Now())
	results := make([]any, len(*body.Watch))
	for i, raw := range *body.Watch {
		path := fmt.Sprintf("$.watch[%d]", i)
		w, refused := s.readWish(raw, path)
		if refused == nil {
			results[i], refused = do(w, path)
		}
		if refused != nil {
			results[i] = *refused
		}
	}
	return s.o.ErrorShape.answer(status, results)
}

// answer wraps results. All well is status, all wrong is 400, both is 207.
func (e ErrorShape) answer(status int, results []any) answer {
	bad := 0
	for _, result := range results {
		if refused, ok := result.(envelope); ok {
			if e == Bare {
				return answer{status: http.StatusBadRequest, body: refused}
			}
			bad++
		}
	}
	switch {
	case bad > 0 && e == Wrapped202:
		status = http.StatusAccepted
	case bad > 0 && bad < len(results):
		status = http.StatusMultiStatus
	case bad > 0:
		status = http.StatusBadRequest
	}
	return answer{status: status, body: map[string]any{"watch": results}}
}

// forget drops the channels that have expired: they are as if they had never been.
func (c *channels) forget(now time.Time) {
	for id, ch := range c.byID {
		if !now.Before(ch.expires) {
			delete(c.byID, id)
		}
	}
}

// give sets everything of ch but its events; what w leaves out becomes the default.
func (s *Server) give(ch *channel, w *wish, base string) {
	ch.token, ch.conditions, ch.wantValues, ch.wantRelated = nil, nil, false, true
	ch.expires = s.expiryOf(w)
	s.change(ch, w, base)
}

// change sets what w gives, but for events and expiry.
func (s *Server) change(ch *channel, w *wish, base string) {
	ch.base = base
	if w.NotifyURL != nil {
		ch.notifyURL = *w.NotifyURL
	}
	if w.Token != nil {
		ch.token = w.Token
	}
	if w.WantValues != nil {
		ch.wantValues = *w.WantValues
	}
	if w.WantRelated != nil {
		ch.wantRelated = *w.WantRelated
	}
	if w.Conditions != nil {
		ch.conditions = w.Conditions
	}
}

// expiryOf is when a channel ends: an hour from now when nothing is said, and
// when more is asked for than there is, silently.
func (s *Server) expiryOf(w *wish) time.Time {
	now := s.o.Now()
	if w.Expiry != nil {
		at, err := parseZohoTime(*w.Expiry)
		if err == nil && !at.After(now.Add(maxChannelLife)) {
			return at
		}
	}
	return now.Add(usualLife).Truncate(time.Second)
}
