package mem0test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

// openSource serves the open-source server's paths, which end without a slash.
func (s *Server) openSource(mux *http.ServeMux) {
	mux.HandleFunc("POST /memories", s.serverAdd)
	mux.HandleFunc("GET /memories", s.serverList)
	mux.HandleFunc("POST /search", s.serverSearch)
	mux.HandleFunc("GET /memories/{id}", s.serverGet)
	mux.HandleFunc("PUT /memories/{id}", s.serverUpdate)
	mux.HandleFunc("DELETE /memories/{id}", s.serverDelete)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { detail(w, http.StatusNotFound, "Not Found") })
}

// own are the keys that the server keeps in the same place as the metadata: what a
// client sends under them is lost, or taken for its own.
var own = []string{"data", "hash", "created_at", "updated_at", "user_id", "agent_id", "run_id", "role", "expiration_date"}

// settle puts metadata where the server's own keys are.
func settle(m *Memory) {
	if day, ok := m.Metadata["expiration_date"].(string); ok && m.Expires == "" {
		m.Expires = day
	}
	m.Metadata = maps.Clone(m.Metadata)
	maps.DeleteFunc(m.Metadata, func(key string, _ any) bool { return slices.Contains(own, key) })
}

func (s *Server) serverAdd(w http.ResponseWriter, r *http.Request) {
	var a addition
	if json.NewDecoder(r.Body).Decode(&a) != nil || a.Messages == nil {
		missing(w, "messages")
		return
	}
	m, wrong := a.memory()
	if wrong == "" && strings.ContainsAny(a.UserID, " \t\n") {
		wrong = "Invalid user_id: cannot contain whitespace. Provide a valid identifier without spaces."
	}
	if wrong != "" {
		detail(w, http.StatusBadRequest, wrong)
		return
	}
	settle(&m)
	s.mu.Lock()
	defer s.mu.Unlock()
	remotetest.Answer(w, http.StatusOK, map[string]any{
		"results": []any{map[string]any{"id": s.put(m), "memory": m.Text, "event": "ADD", "actor_id": nil, "role": "user"}},
	})
}

// missing is what a validation finds. It repeats what was sent.
func missing(w http.ResponseWriter, field string) {
	remotetest.Answer(w, http.StatusUnprocessableEntity, map[string]any{
		"detail": []any{map[string]any{"type": "missing", "loc": []any{"body", field}, "msg": "Field required", "input": map[string]any{}}},
	})
}

func (s *Server) serverList(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	userID, most := query.Get("user_id"), numberOf(r, "top_k", 20)
	hidden := query.Get("show_expired") == "true"
	if userID == "" { // everybody's, and none hidden
		userID, hidden, most = "*", true, numberOf(r, "top_k", 1000)
	}
	if most < 0 || most > 1000 {
		remotetest.Answer(w, http.StatusUnprocessableEntity, map[string]any{
			"detail": []any{map[string]any{"type": "less_than_equal", "loc": []any{"query", "top_k"}, "msg": "Input should be less than or equal to 1000", "input": query.Get("top_k")}},
		})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.of(userID, hidden)
	remotetest.Answer(w, http.StatusOK, map[string]any{"results": shownAll(all[:min(most, len(all))])})
}

func (s *Server) serverSearch(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Query   string         `json:"query"`
		Filters map[string]any `json:"filters"`
		TopK    *int           `json:"top_k"`
		Expired bool           `json:"show_expired"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.Query == "" {
		missing(w, "query")
		return
	}
	userID, _ := body.Filters["user_id"].(string)
	if userID == "" {
		detail(w, http.StatusBadRequest, "filters must contain at least one of: user_id, agent_id, run_id. Example: filters={'user_id': 'u1'}")
		return
	}
	delete(body.Filters, "user_id")
	most := 20
	if body.TopK != nil {
		most = *body.TopK
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []Memory{}
	for _, m := range s.of(userID, body.Expired) {
		if len(found) < most && fits(m, body.Filters) {
			found = append(found, m)
		}
	}
	remotetest.Answer(w, http.StatusOK, map[string]any{"results": shownAll(found)})
}

func fits(m Memory, filters map[string]any) bool {
	for key, value := range filters {
		if m.Metadata[key] != value {
			return false
		}
	}
	return true
}

// serverGet says null of what is not there.
func (s *Server) serverGet(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.find(r.PathValue("id")); m != nil {
		remotetest.Answer(w, http.StatusOK, shown(*m))
		return
	}
	remotetest.Answer(w, http.StatusOK, nil)
}

// serverUpdate lays metadata over what is there. The user stays.
func (s *Server) serverUpdate(w http.ResponseWriter, r *http.Request) {
	var c change
	if json.NewDecoder(r.Body).Decode(&c) != nil {
		missing(w, "text")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.find(r.PathValue("id"))
	if m == nil {
		detail(w, http.StatusNotFound, "Memory with id "+r.PathValue("id")+" not found. Please provide a valid 'memory_id'")
		return
	}
	if c.Text != nil {
		m.Text = *c.Text
	}
	laid := maps.Clone(m.Metadata)
	if laid == nil {
		laid = map[string]any{}
	}
	maps.Copy(laid, c.Metadata)
	if day, told := c.expires(); told {
		m.Expires = day
	}
	m.Metadata = laid
	settle(m)
	m.UpdatedAt = s.o.Now().UTC()
	remotetest.Answer(w, http.StatusOK, map[string]string{"message": "Memory updated successfully!"})
}

func (s *Server) serverDelete(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.forget(r.PathValue("id")) {
		detail(w, http.StatusNotFound, "Memory with id "+r.PathValue("id")+" not found")
		return
	}
	remotetest.Answer(w, http.StatusOK, map[string]string{"message": "Memory deleted successfully"})
}
