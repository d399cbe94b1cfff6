package catalogue

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/memrelay/memrelay/internal/respond"
)

// List answers with all event types. It wants no token: nothing in it is secret.
func (c *Catalogue) List(w http.ResponseWriter, _ *http.Request) error {
	return respond.JSON(w, http.StatusOK, map[string][]EventType{"event_types": c.types})
}

// Show answers with the event type that the route's {name} is, or that there is none.
func (c *Catalogue) Show(w http.ResponseWriter, r *http.Request) error {
	t, ok := c.Type(chi.URLParam(r, "name"))
	if !ok {
		return &respond.Error{
			Status: http.StatusNotFound, Code: "event_type_not_found", Message: "There is no event of this name; /v1/event-types lists all.",
		}
	}
	return respond.JSON(w, http.StatusOK, t)
}
