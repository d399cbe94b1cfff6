package cogneetest

import (
	"encoding/json"
	"net/http"

	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

func (s *Server) listDatasets(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []any{}
	for _, d := range s.datasets {
		all = append(all, shownDataset(d))
	}
	remotetest.Answer(w, http.StatusOK, all)
}

func shownDataset(d Dataset) map[string]any {
	return map[string]any{
		"id": d.ID, "name": d.Name, "createdAt": d.CreatedAt, "updatedAt": nil, "ownerId": "7d3c5e7a-0f0e-4c8b-9a52-6c9f4f0d1a11",
	}
}

// makeDataset makes a dataset, or says which one has the name.
func (s *Server) makeDataset(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name string `json:"name"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.Name == "" {
		invalid(w, "body", "name", "Field required")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	remotetest.Answer(w, http.StatusOK, shownDataset(*s.named(body.Name)))
}

func (s *Server) removeDataset(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.PathValue("dataset")
	if s.dataset(id) == nil {
		noAccess(w, "delete")
		return
	}
	s.drop(id)
	remotetest.Answer(w, http.StatusOK, nil)
}

// cognify begins a run, and ends it at once when it is waited for.
func (s *Server) cognify(w http.ResponseWriter, r *http.Request) {
	var body struct {
		DatasetIDs []string `json:"dataset_ids"`
		CamelIDs   []string `json:"datasetIds"`
		Background bool     `json:"run_in_background"`
		CamelBack  bool     `json:"runInBackground"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil {
		invalid(w, "body", "dataset_ids", "Input should be a valid list")
		return
	}
	ids := append(body.DatasetIDs, body.CamelIDs...)
	if len(ids) == 0 {
		remotetest.Answer(w, http.StatusBadRequest, map[string]any{"error": "No datasets or dataset_ids provided", "detail": nil})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := map[string]any{}
	for _, id := range ids {
		set := s.dataset(id)
		if set == nil {
			failure(w, http.StatusInternalServerError, "Internal server error", "no such dataset")
			return
		}
		status := "PipelineRunCompleted"
		set.Progress = Completed
		if body.Background || body.CamelBack {
			status, set.Progress = "PipelineRunStarted", Initiated
		}
		answer[id] = runOf(*set, status)
	}
	remotetest.Answer(w, http.StatusOK, answer)
}

// status leaves out the datasets that had no run yet.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := map[string]string{}
	for _, id := range r.URL.Query()["dataset"] {
		set := s.dataset(id)
		if set == nil {
			remotetest.Answer(w, http.StatusConflict, map[string]string{"error": "Unable to retrieve dataset statuses."})
			return
		}
		if set.Progress != "" {
			answer[id] = set.Progress
		}
	}
	remotetest.Answer(w, http.StatusOK, answer)
}
