package mem0test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"

	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

// platform serves the platform's paths; slashes at their ends are part of them.
func (s *Server) platform(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/ping/{$}", func(w http.ResponseWriter, _ *http.Request) {
		remotetest.Answer(w, http.StatusOK, map[string]string{"status": "ok", "org_id": "org-1", "project_id": "proj-1", "user_email": "relay@example.com"})
	})
	mux.HandleFunc("POST /v3/memories/add/{$}", s.platformAdd)
	mux.HandleFunc("POST /v3/memories/{$}", s.platformList)
	mux.HandleFunc("GET /v1/event/{id}/{$}", s.platformEvent)
	mux.HandleFunc("GET /v1/memories/{id}/{$}", s.platformMemory)
	mux.HandleFunc("PUT /v1/memories/{id}/{$}", s.platformMemory)
	mux.HandleFunc("DELETE /v1/memories/{id}/{$}", s.platformMemory)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, "<h1>Not Found</h1>")
	})
}

// fault is how the platform refuses.
func fault(w http.ResponseWriter, status int, words string) {
	remotetest.Answer(w, status, map[string]string{"error": words})
}

func (s *Server) platformAdd(w http.ResponseWriter, r *http.Request) {
	var a addition
	if json.NewDecoder(r.Body).Decode(&a) != nil || len(a.Messages) == 0 {
		fault(w, http.StatusBadRequest, "messages: This field is required.")
		return
	}
	m, wrong := a.memory()
	if wrong != "" {
		fault(w, http.StatusBadRequest, wrong)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	eventID := remotetest.NewID()
	if s.o.Queue > 0 {
		s.queue[eventID] = &queued{memory: m}
		remotetest.Answer(w, http.StatusOK, map[string]string{"event_id": eventID, "status": "PENDING"})
		return
	}
	remotetest.Answer(w, http.StatusOK, map[string]any{
		"message": "Memories added", "status": "SUCCEEDED", "event_id": eventID, "results": results(s.put(m), m),
	})
}

func results(id string, m Memory) []any {
	return []any{map[string]any{"id": id, "event": "ADD", "data": map[string]string{"memory": m.Text}}}
}

// platformEvent counts how often it was asked, and does what was queued in time.
func (s *Server) platformEvent(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.PathValue("id")
	q := s.queue[id]
	if q == nil {
		fault(w, http.StatusNotFound, "Event not found or you don't have permission to access it.")
		return
	}
	q.asked++
	answer := map[string]any{"id": id, "event_type": "ADD", "status": "RUNNING", "results": []any{}}
	switch {
	case q.asked < s.o.Queue:
	case s.o.FailQueued:
		answer["status"], answer["error"] = "FAILED", "embedding failed"
	default:
		if q.memory.ID == "" {
			q.memory.ID = s.put(q.memory)
		}
		answer["status"] = "SUCCEEDED"
		if !s.o.Unnamed {
			answer["results"] = results(q.memory.ID, q.memory)
		}
	}
	remotetest.Answer(w, http.StatusOK, answer)
}

// RunQueue does all that is queued, as the platform does by itself after a while.
func (s *Server) RunQueue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queue {
		if q.memory.ID == "" {
			q.memory.ID = s.put(q.memory)
		}
	}
}

func (s *Server) platformList(w http.ResponseWriter, r *http.Request) {
	var body struct {
		UserID  string `json:"user_id"`
		Expired bool   `json:"show_expired"`
		Filters struct {
			UserID string `json:"user_id"`
		} `json:"filters"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.UserID != "" || body.Filters.UserID == "" {
		fault(w, http.StatusBadRequest, "filters must name an entity; top-level ids are not taken")
		return
	}
	number, size := numberOf(r, "page", 1), numberOf(r, "page_size", 100)
	if number < 1 || size < 1 || size > 200 {
		fault(w, http.StatusBadRequest, "no such page")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.of(body.Filters.UserID, body.Expired)
	from, to := min((number-1)*size, len(all)), min(number*size, len(all))
	var next any
	if to < len(all) {
		next = fmt.Sprintf("%s/v3/memories/?page=%d&page_size=%d", "http://"+r.Host, number+1, size)
	}
	remotetest.Answer(w, http.StatusOK, map[string]any{"count": len(all), "next": next, "previous": nil, "results": shownAll(all[from:to])})
}

func numberOf(r *http.Request, key string, otherwise int) int {
	text := r.URL.Query().Get(key)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}

var uuidShape = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// platformMemory serves one memory.
func (s *Server) platformMemory(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.PathValue("id")
	m := s.find(id)
	switch {
	case !uuidShape.MatchString(id):
		fault(w, http.StatusBadRequest, "memory_id should be a valid UUID")
		return
	case m == nil:
		fault(w, http.StatusNotFound, "Memory not found!")
		return
	}
	switch r.Method {
	case http.MethodDelete:
		s.forget(id)
		remotetest.Answer(w, http.StatusOK, map[string]string{"message": "Memory deleted successfully!"})
	case http.MethodPut:
		s.platformUpdate(w, r, m)
	default:
		remotetest.Answer(w, http.StatusOK, shown(*m))
	}
}

// platformUpdate takes metadata as a whole: what the platform does with the keys
// that are left out, nobody says.
func (s *Server) platformUpdate(w http.ResponseWriter, r *http.Request, m *Memory) {
	var c change
	day, told := "", false
	if json.NewDecoder(r.Body).Decode(&c) == nil {
		day, told = c.expires()
	}
	if (c.Text == nil && c.Metadata == nil && !told) || !isDay(day) {
		fault(w, http.StatusBadRequest, "text, metadata or expiration_date is required")
		return
	}
	if c.Text != nil {
		m.Text = *c.Text
	}
	if c.Metadata != nil {
		m.Metadata = c.Metadata
	}
	if told {
		m.Expires = day
	}
	m.UpdatedAt = s.o.Now().UTC()
	remotetest.Answer(w, http.StatusOK, shown(*m))
}
