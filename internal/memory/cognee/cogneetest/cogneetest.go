// Package cogneetest is a Cognee on localhost, for tests, the demo and `memrelay
// dev`. In go the requests that Cognee takes, out come its answers, and the
// datasets and documents that it then holds. It builds no graph: how far a run is,
// a test says.
//
// It answers as the routers of github.com/topoteretes/cognee do at version 1.5.2,
// or, with Options.Old, as they did before documents kept their ids. Nothing is
// kept on disk.
package cogneetest

import (
	"cmp"
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

// Key is the API key unless Options say otherwise.
const Key = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"

// How far a run is, as Cognee says it.
const (
	Initiated = "DATASET_PROCESSING_INITIATED"
	Started   = "DATASET_PROCESSING_STARTED"
	Completed = "DATASET_PROCESSING_COMPLETED"
	Errored   = "DATASET_PROCESSING_ERRORED"
)

// Options say which Cognee it is. The zero value is version 1.5.2 with access
// control on.
type Options struct {
	// Key is what a client has to show; "": Key.
	Key string
	// Open lets everybody in, as REQUIRE_AUTHENTICATION=false does.
	Open bool
	// Old is version 1.4: an update gives a document a new id, and takes any id.
	Old bool
	// Unnamed leaves the document's id out of the answer to an add.
	Unnamed bool
	// Graph says what becomes of the graph when an update builds it; nil: it is
	// built. An error is what the update is answered with, though it is done.
	Graph func() error
	Now   func() time.Time // nil: time.Now
}

// Dataset is a dataset, and how far its last run is ("" before the first).
type Dataset struct {
	ID        string
	Name      string
	Progress  string
	CreatedAt time.Time
}

// Document is a document of a dataset.
type Document struct {
	ID        string
	DatasetID string
	Name      string // of its file, without .txt
	Label     string
	Metadata  map[string]any // what Cognee shows as externalMetadata
	Text      string
	CreatedAt time.Time
	hash      string
}

// Server is the Cognee: start it, ask it, let it fail, look into it.
type Server struct {
	*remotetest.Server
	o Options

	mu        sync.Mutex
	datasets  []Dataset // oldest first
	documents []Document
}

// New returns a Cognee without datasets that does not listen yet.
func New(o Options) *Server {
	o.Key = cmp.Or(o.Key, Key)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Graph == nil {
		o.Graph = func() error { return nil }
	}
	s := &Server{o: o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	for route, serve := range map[string]http.HandlerFunc{
		"POST /api/v1/add":                               s.add,
		"PATCH /api/v1/update":                           s.update,
		"GET /api/v1/datasets":                           s.listDatasets,
		"POST /api/v1/datasets":                          s.makeDataset,
		"DELETE /api/v1/datasets/{dataset}":              s.removeDataset,
		"GET /api/v1/datasets/{dataset}/data":            s.listData,
		"DELETE /api/v1/datasets/{dataset}/data/{data}":  s.removeData,
		"GET /api/v1/datasets/{dataset}/data/{data}/raw": s.raw,
		"GET /api/v1/datasets/status":                    s.status,
		"POST /api/v1/cognify":                           s.cognify,
	} {
		mux.Handle(route, s.guard(serve))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { detail(w, http.StatusNotFound, "Not Found") })
	s.Server = remotetest.New(mux)
	return s
}

// Datasets are all datasets, oldest first.
func (s *Server) Datasets() []Dataset {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.datasets)
}

// Documents are all documents, oldest first.
func (s *Server) Documents() []Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.documents)
	for i := range all {
		all[i].Metadata = maps.Clone(all[i].Metadata)
	}
	return all
}

// Put stores a document in a dataset, which is made if need be, as somebody else
// would have had it done. An empty ID is filled in.
func (s *Server) Put(dataset string, d Document) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.DatasetID = s.named(dataset).ID
	return s.store(d)
}

// Forget removes a document, as somebody else would.
func (s *Server) Forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.documents = slices.DeleteFunc(s.documents, func(d Document) bool { return d.ID == id })
}

// RemoveDataset removes a dataset and what is in it, as somebody else would.
func (s *Server) RemoveDataset(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(id)
}

// Advance sets how far the last run of a dataset is, as Initiated, Started,
// Completed or Errored.
func (s *Server) Advance(datasetID, progress string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.dataset(datasetID); d != nil {
		d.Progress = progress
	}
}

// guard lets in who shows the key.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.o.Open && subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Api-Key")), []byte(s.o.Key)) != 1 {
			detail(w, http.StatusUnauthorized, "Unauthorized")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	version := "1.5.2-local"
	if s.o.Old {
		version = "1.4.0"
	}
	remotetest.Answer(w, http.StatusOK, map[string]string{"status": "ready", "health": "healthy", "version": version})
}

func (s *Server) dataset(id string) *Dataset {
	for i := range s.datasets {
		if s.datasets[i].ID == id {
			return &s.datasets[i]
		}
	}
	return nil
}

// named is the dataset of a name, made if need be.
func (s *Server) named(name string) *Dataset {
	for i := range s.datasets {
		if s.datasets[i].Name == name {
			return &s.datasets[i]
		}
	}
	s.datasets = append(s.datasets, Dataset{ID: remotetest.NewID(), Name: name, CreatedAt: s.o.Now().UTC()})
	return &s.datasets[len(s.datasets)-1]
}

func (s *Server) drop(datasetID string) {
	s.datasets = slices.DeleteFunc(s.datasets, func(d Dataset) bool { return d.ID == datasetID })
	s.documents = slices.DeleteFunc(s.documents, func(d Document) bool { return d.DatasetID == datasetID })
}

func (s *Server) document(datasetID, id string) *Document {
	for i := range s.documents {
		if s.documents[i].DatasetID == datasetID && s.documents[i].ID == id {
			return &s.documents[i]
		}
	}
	return nil
}

func (s *Server) remove(datasetID, id string) {
	s.documents = slices.DeleteFunc(s.documents, func(d Document) bool { return d.DatasetID == datasetID && d.ID == id })
}

// store keeps a document. One of the same text in the same dataset is that one:
// its metadata is renewed, and its label when there is a new one.
func (s *Server) store(d Document) string {
	sum := md5.Sum([]byte(d.Text))
	d.hash, d.CreatedAt = hex.EncodeToString(sum[:]), s.o.Now().UTC()
	for i := range s.documents {
		if old := &s.documents[i]; old.DatasetID == d.DatasetID && old.hash == d.hash && d.ID == "" {
			old.Name, old.Metadata, old.Label = d.Name, d.Metadata, cmp.Or(d.Label, old.Label)
			return old.ID
		}
	}
	d.ID = cmp.Or(d.ID, remotetest.NewID())
	s.documents = append(s.documents, d)
	return d.ID
}

// detail and failure are how Cognee refuses.
func detail(w http.ResponseWriter, status int, words string) {
	remotetest.Answer(w, status, map[string]string{"detail": words})
}

func failure(w http.ResponseWriter, status int, words, more string) {
	remotetest.Answer(w, status, map[string]string{"error": words, "detail": more})
}

// invalid is what a validation finds: 400, with what was sent.
func invalid(w http.ResponseWriter, in, field, words string) {
	remotetest.Answer(w, http.StatusBadRequest, map[string]any{
		"detail": []any{map[string]any{"type": "value_error", "loc": []any{in, field}, "msg": words, "input": "…"}}, "body": nil,
	})
}

// noAccess is what Cognee says of a dataset that is not there: the same as of one
// that is somebody else's.
func noAccess(w http.ResponseWriter, permission string) {
	detail(w, http.StatusForbidden, fmt.Sprintf("Request owner does not have necessary permission: [%s] for all datasets requested. [PermissionDeniedError]", permission))
}
