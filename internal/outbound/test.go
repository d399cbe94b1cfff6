package outbound

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/catalogue"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

// ErrNoSuchEvent is returned for an event that the catalogue does not have.
var ErrNoSuchEvent = errors.New("there is no such event")

// Tester says how the endpoint named env is set, and sends it or another a webhook to
// see whether one arrives. Of env it believes the settings of its own process and looks
// at no row: so it answers also when the database is busy, or holds other settings.
type Tester struct {
	poster   *poster
	targets  *Targets
	endpoint Endpoint
	events   *catalogue.Catalogue
	sender   memory.Sender
	now      func() time.Time
}

// NewTester makes a Tester that sends to targets, which are to be those of deliveries:
// what the guard refuses them it shall refuse here. e is the endpoint of the settings.
func NewTester(targets *Targets, version string, e Endpoint, events *catalogue.Catalogue, s memory.Sender, now func() time.Time) *Tester {
	return &Tester{poster: newPoster(version, now), targets: targets, endpoint: e, events: events, sender: s, now: now}
}

// Config is the endpoint as it is set. Times are in seconds. Neither token nor secret
// is in it, nor what the URL has in front of its host or behind its path: senders
// put keys there.
type Config struct {
	Enabled       bool     `json:"enabled"` // there is a URL, and an event it is to be told of
	WebhookURL    string   `json:"webhook_url"`
	Timeout       float64  `json:"timeout"`
	RetryCount    int      `json:"retry_count"` // attempts in all, the first included
	RetryDelay    float64  `json:"retry_delay"`
	EnabledEvents []string `json:"enabled_events"`
	HasToken      bool     `json:"has_token"`
	HasSecret     bool     `json:"has_secret"`
}

// Status is the answer of GET /webhooks/memory/status.
type Status struct {
	Status        string `json:"status"` // ok
	WebhookConfig Config `json:"webhook_config"`
}

// Test is the answer of POST /webhooks/memory/test.
type Test struct {
	Status         string       `json:"status"`    // ok: the test was made, whatever came of it
	TestSent       bool         `json:"test_sent"` // an attempt was made
	WebhookEnabled bool         `json:"webhook_enabled"`
	WebhookURL     string       `json:"webhook_url"`
	Outcome        *TestOutcome `json:"outcome"` // null when nothing was sent
}

// TestOutcome is what became of a test webhook.
type TestOutcome struct {
	Delivered  bool   `json:"delivered"`   // answered 2xx
	StatusCode int    `json:"status_code"` // 0: there was no answer
	Error      string `json:"error"`       // "" when delivered
	WebhookID  string `json:"webhook_id"`
	DurationMs int64  `json:"duration_ms"`
}

// Status returns how the endpoint is set.
func (t *Tester) Status() Status {
	e, c := t.endpoint, t.targets.env
	return Status{Status: "ok", WebhookConfig: Config{
		Enabled: e.URL != "" && len(e.Events) > 0, WebhookURL: shownURL(e.URL), Timeout: e.Timeout.Seconds(), RetryCount: e.MaxAttempts,
		RetryDelay: e.RetryDelay.Seconds(), EnabledEvents: append([]string{}, e.Events...),
		HasToken: c.Auth.Token != "", HasSecret: len(c.Keys) > 0,
	}}
}

// Send sends one memory_added that says it is a test, past the guard and signed as
// every other, and waits for the answer. It is sent once and stored nowhere: neither
// in the outbox, whose rows tell of changes of the memory, nor as an attempt. It
// is sent also to an endpoint that is paused, or that wants no memory_added.
func (t *Tester) Send(ctx context.Context) Test {
	test := Test{Status: "ok", WebhookEnabled: t.endpoint.URL != "", WebhookURL: shownURL(t.endpoint.URL)}
	if !test.WebhookEnabled {
		return test
	}
	id := uuid.Must(uuid.NewV7())
	payload, err := t.payload(id)
	var outcome TestOutcome
	if err == nil {
		outcome, err = t.send(ctx, db.Endpoint{Name: endpoint.EnvName, URL: t.endpoint.URL, Timeout: t.endpoint.Timeout}, id, payload)
	}
	if err != nil {
		test.Outcome = &TestOutcome{Error: err.Error()}
		return test
	}
	test.TestSent = true
	test.Outcome = &outcome
	return test
}

// SendTo sends an endpoint the catalogue's example of an event, in its form, signed and
// proven as its deliveries are, and waits for the answer. Its data says that it is a
// test: another memrelay that gets it keeps it on record and changes nothing. It is
// sent once and stored nowhere, and it is sent whatever the endpoint's state and
// whatever it wants.
//
// What the endpoint answers is in the outcome. The error is ErrNoSuchEvent, or that of
// secrets which cannot be opened.
func (t *Tester) SendTo(ctx context.Context, e db.Endpoint, event string) (TestOutcome, error) {
	id := uuid.Must(uuid.NewV7())
	payload, err := t.example(event, id)
	if err != nil {
		return TestOutcome{}, err
	}
	body, err := render(e.Form, e.BatchSize > 1, []told{{id, payload}})
	if err != nil {
		return TestOutcome{}, fmt.Errorf("render an example of %s: %w", event, err)
	}
	return t.send(ctx, e, id, body)
}

func (t *Tester) send(ctx context.Context, e db.Endpoint, id uuid.UUID, body []byte) (TestOutcome, error) {
	to, err := t.targets.get(e)
	if err != nil {
		return TestOutcome{}, err
	}
	o := t.poster.post(ctx, to.request(id.String(), body))
	return TestOutcome{
		Delivered: o.Verdict == verdictDelivered, StatusCode: o.StatusCode, Error: o.Error, WebhookID: id.String(), DurationMs: o.Total.Milliseconds(),
	}, nil
}

// example is the catalogue's example of an event, as if it had happened now, and with
// the mark of a test in its data.
func (t *Tester) example(event string, id uuid.UUID) ([]byte, error) {
	kind, ok := t.events.Type(event)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrNoSuchEvent, event)
	}
	var like struct {
		UserID string          `json:"user_id"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(kind.Example, &like); err != nil {
		return nil, fmt.Errorf("read the example of %s: %w", event, err)
	}
	return memory.Envelope{
		Event: event, UserID: like.UserID, Timestamp: t.now(), Source: t.sender.Source, BotVersion: t.sender.BotVersion, RequestID: id.String(),
		Data: append(json.RawMessage(`{"test":true,`), like.Data[1:]...),
	}.Render()
}

// testData is the data of a test webhook. Another memrelay that gets it keeps it on
// record and changes nothing.
type testData struct {
	Test    bool            `json:"test"`
	Message string          `json:"message"`
	Result  memory.Snapshot `json:"result"`
}

func (t *Tester) payload(id uuid.UUID) ([]byte, error) {
	const message = "A test of the webhook. Nothing was remembered."
	return memory.Envelope{
		Event: memory.Added, UserID: "test", Timestamp: t.now(), Source: t.sender.Source, BotVersion: t.sender.BotVersion, RequestID: id.String(),
		Data: testData{Test: true, Message: message, Result: memory.Snapshot{ID: id, Content: message, Metadata: map[string]any{"test": true}}},
	}.Render()
}

// ServeStatus answers GET /webhooks/memory/status. Who may ask is for the route.
func (t *Tester) ServeStatus(w http.ResponseWriter, _ *http.Request) error {
	return respond.JSON(w, http.StatusOK, t.Status())
}

// ServeTest answers POST /webhooks/memory/test with what became of a test webhook. It
// waits as long as the endpoint has to answer; a body is not looked at.
func (t *Tester) ServeTest(w http.ResponseWriter, r *http.Request) error {
	return respond.JSON(w, http.StatusOK, t.Send(r.Context()))
}

// shownURL is a URL without what may be secret in it.
func shownURL(raw string) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil {
		return redacted
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.RawQuery != "" {
		shown.RawQuery = redacted
	}
	return shown.String()
}
