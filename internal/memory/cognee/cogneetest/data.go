package cogneetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

// add stores one file.
func (s *Server) add(w http.ResponseWriter, r *http.Request) {
	d, err := fileOf(r)
	if err != nil {
		invalid(w, "body", "data", err.Error())
		return
	}
	if err := lists(r, &d); err != nil {
		detail(w, http.StatusBadRequest, err.Error())
		return
	}
	name, id := r.FormValue("datasetName"), r.FormValue("datasetId")
	if name == "" && id == "" {
		remotetest.Answer(w, http.StatusBadRequest, map[string]any{"error": "Either datasetId or datasetName must be provided.", "detail": nil})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.dataset(id)
	if id == "" {
		set = s.named(name)
	}
	if set == nil {
		failure(w, http.StatusInternalServerError, "Internal server error", "Request owner does not have necessary permission")
		return
	}
	nodeSet(r, &d)
	d.DatasetID = set.ID
	dataID := s.store(d)
	answer := runOf(*set, "PipelineRunCompleted")
	if !s.o.Unnamed {
		answer["data_ingestion_info"] = []any{map[string]any{"run_info": runOf(*set, "PipelineRunCompleted"), "data_id": dataID}}
	}
	remotetest.Answer(w, http.StatusOK, answer)
}

func runOf(set Dataset, status string) map[string]any {
	return map[string]any{
		"status": status, "pipeline_run_id": remotetest.NewID(), "dataset_id": set.ID, "dataset_name": set.Name,
		"payload": nil, "data_ingestion_info": nil,
	}
}

// fileOf reads the one file of a form.
func fileOf(r *http.Request) (Document, error) {
	if err := r.ParseMultipartForm(maxForm); err != nil {
		return Document{}, err
	}
	files := r.MultipartForm.File["data"]
	if len(files) != 1 {
		return Document{}, fmt.Errorf("%d files: cogneetest takes one at a time", len(files))
	}
	file, err := files[0].Open()
	if err != nil {
		return Document{}, err
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return Document{}, err
	}
	return Document{Name: strings.TrimSuffix(files[0].Filename, ".txt"), Text: string(text), Metadata: map[string]any{}}, nil
}

// maxForm bounds what is kept of a form in memory.
const maxForm = 16 << 20

// lists reads label and metadata: lists with one entry for the one file.
func lists(r *http.Request, d *Document) error {
	var labels []string
	if text := r.FormValue("labels"); text != "" && json.Unmarshal([]byte(text), &labels) != nil {
		return errors.New("labels must be a JSON array of strings. [InvalidLabelsError]")
	}
	var metadata []map[string]any
	if text := r.FormValue("external_metadata"); text != "" && json.Unmarshal([]byte(text), &metadata) != nil {
		return errors.New("external_metadata must be a JSON array of objects. [InvalidExternalMetadataError]")
	}
	if len(labels) > 1 || len(metadata) > 1 {
		return errors.New("Provide one label per uploaded file. [LabelCountMismatchError]") //nolint:staticcheck // these are Cognee's words
	}
	if len(labels) == 1 {
		d.Label = labels[0]
	}
	if len(metadata) == 1 && metadata[0] != nil {
		if _, reserved := metadata[0]["node_set"]; reserved {
			return errors.New("external_metadata entries cannot contain the reserved key 'node_set'. [InvalidExternalMetadataError]")
		}
		d.Metadata = metadata[0]
	}
	return nil
}

// nodeSet puts the node set where Cognee keeps it, among the metadata.
func nodeSet(r *http.Request, d *Document) {
	if set := r.MultipartForm.Value["node_set"]; len(set) > 0 {
		all := []any{}
		for _, one := range set {
			all = append(all, one)
		}
		d.Metadata["node_set"] = all
	}
}

// update removes a document and adds another in its place: label and metadata go.
func (s *Server) update(w http.ResponseWriter, r *http.Request) {
	d, err := fileOf(r)
	if err != nil {
		invalid(w, "body", "data", err.Error())
		return
	}
	nodeSet(r, &d)
	dataID, datasetID := r.URL.Query().Get("data_id"), r.URL.Query().Get("dataset_id")
	if dataID == "" || datasetID == "" {
		invalid(w, "query", "data_id", "Field required")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.dataset(datasetID)
	switch {
	case set == nil && s.o.Old:
		detail(w, http.StatusUnauthorized, "Dataset "+datasetID+" not accessible. [UnauthorizedDataAccessError]")
		return
	case !s.o.Old && (set == nil || s.document(datasetID, dataID) == nil):
		detail(w, http.StatusNotFound, "No document found to update: data_id '"+dataID+"' does not exist in dataset '"+datasetID+"'. [UpdateTargetNotFoundError]")
		return
	}
	s.remove(datasetID, dataID)
	d.DatasetID = datasetID
	if !s.o.Old {
		d.ID = dataID
	}
	s.store(d)
	if err := s.o.Graph(); err != nil {
		failure(w, http.StatusInternalServerError, "Pipeline run errored", err.Error())
		return
	}
	set.Progress = Completed
	remotetest.Answer(w, http.StatusOK, map[string]any{set.ID: runOf(*set, "PipelineRunCompleted")})
}

func (s *Server) listData(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.dataset(r.PathValue("dataset"))
	if set == nil {
		noAccess(w, "read")
		return
	}
	all := []any{}
	for _, d := range s.documents {
		if d.DatasetID == set.ID {
			all = append(all, shown(d))
		}
	}
	remotetest.Answer(w, http.StatusOK, all)
}

func shown(d Document) map[string]any {
	all := map[string]any{
		"id": d.ID, "name": d.Name, "createdAt": d.CreatedAt, "updatedAt": nil, "extension": "txt", "mimeType": "text/plain",
		"rawDataLocation": "file:///data/" + d.hash + "/" + url.PathEscape(d.Name) + ".txt", "datasetId": d.DatasetID,
		"label": nil, "externalMetadata": d.Metadata,
	}
	if d.Label != "" {
		all["label"] = d.Label
	}
	return all
}

// removeData says null, also of a document that is not there.
func (s *Server) removeData(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.dataset(r.PathValue("dataset"))
	if set == nil {
		detail(w, http.StatusUnauthorized, "Dataset "+r.PathValue("dataset")+" not accessible. [UnauthorizedDataAccessError]")
		return
	}
	s.remove(set.ID, r.PathValue("data"))
	remotetest.Answer(w, http.StatusOK, nil)
}

func (s *Server) raw(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.document(r.PathValue("dataset"), r.PathValue("data"))
	if d == nil {
		detail(w, http.StatusNotFound, "Data ("+r.PathValue("data")+") not found. [DataNotFoundError]")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, d.Text)
}
