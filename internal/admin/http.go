package admin

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/respond"
)

// maxBody is the greatest body that is read, in bytes: certificates and a filter.
const maxBody = 256 << 10

// TestOutcome is what became of a test webhook.
type TestOutcome struct {
	Delivered  bool   `json:"delivered"`   // answered 2xx
	StatusCode int    `json:"status_code"` // 0: there was no answer
	Error      string `json:"error"`       // "" when delivered
	WebhookID  string `json:"webhook_id"`
	DurationMs int64  `json:"duration_ms"`
}

// TestEndpoint sends an endpoint the catalogue's example of an event, and waits for
// the answer: outbound knows how. It returns endpoint.ErrNotFound, or an
// endpoint.ErrInvalid for an event that is none.
type TestEndpoint func(ctx context.Context, which, event string) (TestOutcome, error)

// Parts are what operators' routes are made of.
type Parts struct {
	Access       *access.Access
	Endpoints    *endpoint.Store
	Redeliveries *endpoint.Redeliveries
	Deliveries   *Deliveries
	Admin        *Admin
	Events       *Events
	Replays      *Replays
	Stream       *Stream
	Test         TestEndpoint
	Running      Running
	Now          func() time.Time
}

// HTTP answers operators' requests.
type HTTP struct {
	p Parts
}

// NewHTTP makes an HTTP.
func NewHTTP(p Parts) *HTTP { return &HTTP{p: p} }

// Routes puts what operators do onto r, which is mounted at /admin. Looking takes a
// token with the scope admin:read, everything else one with admin:write.
func (h *HTTP) Routes(r chi.Router) {
	look := r.With(h.p.Access.Require(access.AdminRead))
	do := r.With(h.p.Access.Require(access.AdminWrite))

	// Who is told.
	look.Get("/endpoints", handle(h.listEndpoints))
	do.Post("/endpoints", handle(h.createEndpoint))
	look.Get("/endpoints/{endpoint}", handle(h.getEndpoint))
	do.Patch("/endpoints/{endpoint}", handle(h.changeEndpoint))
	do.Delete("/endpoints/{endpoint}", handle(h.deleteEndpoint))
	do.Post("/endpoints/{endpoint}/pause", handle(h.pauseEndpoint))
	do.Post("/endpoints/{endpoint}/resume", handle(h.resumeEndpoint))
	do.Post("/endpoints/{endpoint}/rotate", handle(h.rotateEndpoint))
	do.Post("/endpoints/{endpoint}/test", handle(h.testEndpoint))

	h.eventRoutes(look, do)

	// What they missed.
	do.Post("/endpoints/{endpoint}/recover", handle(h.recoverEndpoint))
	do.Post("/endpoints/{endpoint}/replay", handle(h.replayEndpoint))
	look.Get("/redeliveries", handle(h.listRedeliveries))
	look.Get("/redeliveries/{id}", handle(h.getRedelivery))
	do.Post("/redeliveries/{id}/cancel", handle(h.cancelRedelivery))

	// What was told, and how that went.
	look.Get("/deliveries", handle(h.listDeliveries))
	look.Get("/deliveries/{id}", handle(h.getDelivery))
	do.Post("/deliveries/{id}/resend", handle(h.resendDelivery))

	h.runningRoutes(look, do)
}

// call is one request on its way through a route.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	who    endpoint.Actor
	params url.Values // of the query
	body   []byte     // nil for methods without one
}

// handle makes a handler of what a route does.
func handle(do func(*call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, _ := access.From(r.Context())
		c := &call{w: w, r: r, who: endpoint.Actor{Name: who.Actor, RequestID: respond.RequestID(r.Context())}}
		err := c.take()
		if err == nil {
			err = do(c)
		}
		if err != nil {
			respond.Problem(w, r, problem(err))
		}
	}
}

func (c *call) take() (err error) {
	// What Postgres cannot keep is nowhere: a name with it is nobody's, a filter none.
	for _, part := range chi.RouteContext(c.ctx()).URLParams.Values {
		if !keepable(part) {
			return ErrNotFound
		}
	}
	if c.params, err = body.Query(c.r); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.params)) {
		if slices.ContainsFunc(c.params[name], func(text string) bool { return !keepable(text) }) {
			return wrong(body.Shorten(name), "want UTF-8 without NUL")
		}
	}
	if c.r.Method == http.MethodPost || c.r.Method == http.MethodPatch {
		c.body, err = body.Receive(c.w, c.r, maxBody)
	}
	return err
}

func (c *call) ctx() context.Context { return c.r.Context() }

// answer answers with v. It returns nil, so that a route can return its call.
func (c *call) answer(status int, v any) error { return respond.JSON(c.w, status, v) }

// nothing is for routes that ask for nothing beside their path.
func (c *call) nothing() error { return c.optional(body.Object{}) }

// optional reads the body of a route whose query has nothing to say, and which has
// nothing that must be said.
func (c *call) optional(o body.Object) error {
	if len(c.body) == 0 {
		return body.Params(c.params)
	}
	return c.only(o)
}

// only reads the body of a route whose query has nothing to say.
func (c *call) only(o body.Object) error {
	if err := body.Params(c.params); err != nil {
		return err
	}
	return o.Read(c.body)
}

// which is the endpoint that the path names.
func (c *call) which() string { return chi.URLParam(c.r, "endpoint") }

// number is the path's id of a row; ErrNotFound for what can be none's.
func (c *call) number() (int64, error) {
	id, err := strconv.ParseInt(chi.URLParam(c.r, "id"), 10, 64)
	if err != nil {
		return 0, ErrNotFound
	}
	return id, nil
}

// id is the path's id; ErrNotFound for what can be nobody's.
func (c *call) id() (uuid.UUID, error) {
	id, err := uuid.Parse(chi.URLParam(c.r, "id"))
	if err != nil {
		return uuid.UUID{}, ErrNotFound
	}
	return id, nil
}

// moment is a parameter of the query that is a time; the zero one when it is not there.
func (c *call) moment(name string) (time.Time, error) {
	if !c.params.Has(name) {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, c.params.Get(name))
	if err != nil {
		return time.Time{}, wrong(name, "want a time as 2030-01-31T12:00:00Z")
	}
	return at, nil
}
