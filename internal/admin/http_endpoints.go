package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/memory"
)

// Overlap is how long an old key goes on signing beside a new one when nobody says.
const Overlap = 24 * time.Hour

// ReadSettings reads an endpoint's settings as they are sent: a JSON object. It returns
// an endpoint.ErrInvalid or a *body.Invalid that names what is wrong, or a
// *respond.Error for what is no object. Whether settings can be is for endpoint.Store
// to say.
func ReadSettings(raw []byte) (in endpoint.Settings, err error) {
	if err := body.Check(raw); err != nil {
		return in, err
	}
	seen := map[string]bool{}
	err = body.Each(raw, func(name string, _ json.RawMessage) error {
		if seen[name] {
			return wrong(body.Shorten(name), "want it once")
		}
		seen[name] = true
		return nil
	})
	if err != nil {
		return in, err
	}
	return in, json.Unmarshal(raw, &in)
}

// listEndpoints: GET /admin/endpoints. Answers 200 with all that are not deleted.
func (h *HTTP) listEndpoints(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	all, err := h.p.Endpoints.List(c.ctx())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string][]endpoint.Endpoint{"endpoints": append([]endpoint.Endpoint{}, all...)})
}

// WithSecrets is an endpoint with the secrets that are new: nothing shows them again.
type WithSecrets struct {
	endpoint.Endpoint
	Secrets []endpoint.Secret `json:"secrets,omitempty"`
}

// createEndpoint: POST /admin/endpoints. Answers 201 with the endpoint and its secrets.
func (h *HTTP) createEndpoint(c *call) error {
	in, err := c.settings()
	if err != nil {
		return err
	}
	e, secrets, err := h.p.Endpoints.Create(c.ctx(), c.who, in)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/admin/endpoints/"+e.ID.String())
	return c.answer(http.StatusCreated, WithSecrets{e, secrets})
}

func (c *call) settings() (endpoint.Settings, error) {
	if err := body.Params(c.params); err != nil {
		return endpoint.Settings{}, err
	}
	return ReadSettings(c.body)
}

// getEndpoint: GET /admin/endpoints/{endpoint}. Answers 200 with the endpoint.
func (h *HTTP) getEndpoint(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	e, err := h.p.Endpoints.Get(c.ctx(), c.which())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, e)
}

// changeEndpoint: PATCH /admin/endpoints/{endpoint}. Answers 200 with the endpoint as
// it is now, and with secrets that the change has brought.
func (h *HTTP) changeEndpoint(c *call) error {
	in, err := c.settings()
	if err != nil {
		return err
	}
	e, secrets, err := h.p.Endpoints.Change(c.ctx(), c.who, c.which(), in)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, WithSecrets{e, secrets})
}

// deleteEndpoint: DELETE /admin/endpoints/{endpoint}. Answers 200; what was on its way
// is cancelled soon after.
func (h *HTTP) deleteEndpoint(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	if err := h.p.Endpoints.Delete(c.ctx(), c.who, c.which()); err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string]any{"endpoint": c.which(), "deleted": true})
}

// pauseEndpoint: POST /admin/endpoints/{endpoint}/pause. Answers 200 with the endpoint;
// what comes for it is kept until it is resumed.
func (h *HTTP) pauseEndpoint(c *call) error {
	reason, err := c.reason()
	if err != nil {
		return err
	}
	e, err := h.p.Endpoints.Pause(c.ctx(), c.who, c.which(), reason)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, e)
}

// resumeEndpoint: POST /admin/endpoints/{endpoint}/resume. Answers 200 with the
// endpoint, one that was paused as well as one that was disabled.
func (h *HTTP) resumeEndpoint(c *call) error {
	reason, err := c.reason()
	if err != nil {
		return err
	}
	e, err := h.p.Endpoints.Resume(c.ctx(), c.who, c.which(), reason)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, e)
}

// rotateEndpoint: POST /admin/endpoints/{endpoint}/rotate. Answers 200 with the
// endpoint and its new secret; the old one signs beside it until the overlap is over.
func (h *HTTP) rotateEndpoint(c *call) error {
	kind, overlap, secret := endpoint.KeyHMAC, endpoint.Duration(Overlap), ""
	err := c.optional(body.Object{"kind": body.Text(&kind), "overlap": body.As(&overlap, `a duration as "24h", or a number of seconds`), "secret": body.Text(&secret)})
	if err != nil {
		return err
	}
	e, secrets, err := h.p.Endpoints.Rotate(c.ctx(), c.who, c.which(), kind, time.Duration(overlap), secret)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, WithSecrets{e, secrets})
}

// testEndpoint: POST /admin/endpoints/{endpoint}/test. Answers 200 with what became of
// a webhook that is sent once and stored nowhere; it waits as long as the endpoint may.
func (h *HTTP) testEndpoint(c *call) error {
	event := memory.Added
	if err := c.optional(body.Object{"event": body.Text(&event)}); err != nil {
		return err
	}
	outcome, err := h.p.Test(c.ctx(), c.which(), event)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, outcome)
}
