// Package mem0test is a mem0 on localhost, for tests, the demo and `memrelay dev`.
// In go the requests that mem0 takes, out come its answers, and what it then
// remembers. It is either form: the platform (v3), or the open-source server.
//
// It answers as docs/openapi.json and server/main.py of github.com/mem0ai/mem0 say
// (2.0.18). Nothing is kept on disk, no embedding is made, and a search finds what
// its filters let through, whatever the words.
package mem0test

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

// Key is the API key unless Options say otherwise.
const Key = "m0-mem0test-key"

// Options say which mem0 it is. The zero value is the platform.
type Options struct {
	// Server is the open-source server in place of the platform.
	Server bool
	// Key is what a client has to show; "": Key.
	Key string
	// Open lets everybody in, as AUTH_DISABLED does on the open-source server.
	Open bool
	// Queue is how often the platform is asked what became of an add before it has
	// done it; 0: it adds at once.
	Queue int
	// FailQueued lets what was queued fail.
	FailQueued bool
	// Unnamed leaves the results out of what the platform says of a queued add.
	Unnamed bool
	Now     func() time.Time // nil: time.Now
}

// Memory is what is remembered.
type Memory struct {
	ID        string
	UserID    string
	Text      string
	Metadata  map[string]any
	Expires   string // YYYY-MM-DD, "" for never
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Server is the mem0: start it, ask it, let it fail, look into it.
type Server struct {
	*remotetest.Server
	o Options

	mu       sync.Mutex
	memories []Memory // oldest first
	queue    map[string]*queued
}

// queued is an add that is not done yet.
type queued struct {
	memory Memory
	asked  int
}

// New returns a mem0 that remembers nothing, and does not listen yet.
func New(o Options) *Server {
	o.Key = cmp.Or(o.Key, Key)
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{o: o, queue: map[string]*queued{}}
	mux := http.NewServeMux()
	if o.Server {
		s.openSource(mux)
	} else {
		s.platform(mux)
	}
	s.Server = remotetest.New(s.guard(mux))
	return s
}

// Memories are all memories, oldest first.
func (s *Server) Memories() []Memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.memories)
	for i := range all {
		all[i].Metadata = maps.Clone(all[i].Metadata)
	}
	return all
}

// Put remembers m, as somebody else would have had it done. An empty ID is filled in.
func (s *Server) Put(m Memory) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(m)
}

// Forget removes a memory, as somebody else would.
func (s *Server) Forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(id)
}

// guard lets in who shows the key.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown, want := r.Header.Get("Authorization"), "Token "+s.o.Key
		words := "Invalid API key. You can find your API key on https://app.mem0.ai/dashboard/api-keys."
		if s.o.Server {
			shown, want = r.Header.Get("X-API-Key"), s.o.Key
			words = "Authentication required. Provide a Bearer token or X-API-Key header."
		}
		if !s.o.Open && subtle.ConstantTimeCompare([]byte(shown), []byte(want)) != 1 {
			detail(w, http.StatusUnauthorized, words)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) put(m Memory) string {
	m.ID = cmp.Or(m.ID, remotetest.NewID())
	m.CreatedAt = s.o.Now().UTC()
	m.UpdatedAt = m.CreatedAt
	s.memories = append(s.memories, m)
	return m.ID
}

func (s *Server) find(id string) *Memory {
	for i := range s.memories {
		if s.memories[i].ID == id {
			return &s.memories[i]
		}
	}
	return nil
}

func (s *Server) forget(id string) bool {
	before := len(s.memories)
	s.memories = slices.DeleteFunc(s.memories, func(m Memory) bool { return m.ID == id })
	return len(s.memories) < before
}

// of are a user's memories, "*" everybody's; hidden ones only when wanted.
func (s *Server) of(userID string, hidden bool) []Memory {
	var all []Memory
	for _, m := range s.memories {
		if (userID == "*" || m.UserID == userID) && (hidden || !s.hides(m)) {
			all = append(all, m)
		}
	}
	return all
}

// hides reports whether a memory's last day is over.
func (s *Server) hides(m Memory) bool {
	return m.Expires != "" && m.Expires < s.o.Now().UTC().Format(time.DateOnly)
}

// shown is a memory as both forms show it.
func shown(m Memory) map[string]any {
	all := map[string]any{
		"id": m.ID, "memory": m.Text, "user_id": m.UserID, "metadata": m.Metadata,
		"created_at": m.CreatedAt, "updated_at": m.UpdatedAt, "expiration_date": nil,
	}
	if m.Expires != "" {
		all["expiration_date"] = m.Expires
	}
	return all
}

func shownAll(memories []Memory) []map[string]any {
	all := []map[string]any{}
	for _, m := range memories {
		all = append(all, shown(m))
	}
	return all
}

// addition is the body of an add.
type addition struct {
	Messages []struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	} `json:"messages"`
	UserID   string         `json:"user_id"`
	Metadata map[string]any `json:"metadata"`
	Expires  string         `json:"expiration_date"`
	Infer    *bool          `json:"infer"`
}

// memory is what is remembered of an add; the reason when it is not.
func (a addition) memory() (m Memory, wrong string) {
	switch {
	case a.UserID == "":
		return Memory{}, "At least one identifier (user_id, agent_id, run_id) is required."
	case !isDay(a.Expires):
		return Memory{}, "expiration_date must be a valid date in YYYY-MM-DD format."
	case a.Infer == nil || *a.Infer:
		return Memory{}, "mem0test has no language model: infer must be false"
	case len(a.Messages) != 1:
		return Memory{}, "mem0test takes one message at a time"
	}
	return Memory{UserID: a.UserID, Text: a.Messages[0].Content, Metadata: a.Metadata, Expires: a.Expires}, ""
}

func isDay(day string) bool {
	_, err := time.Parse(time.DateOnly, day)
	return day == "" || err == nil
}

// change is the body of an update; what is left out stays.
type change struct {
	Text     *string         `json:"text"`
	Metadata map[string]any  `json:"metadata"`
	Expires  json.RawMessage `json:"expiration_date"`
}

// expires is the new last day, and whether it was told.
func (c change) expires() (day string, told bool) {
	told = c.Expires != nil
	_ = json.Unmarshal(c.Expires, &day) // null is ""
	return day, told
}

// detail is how both forms refuse, most of the time.
func detail(w http.ResponseWriter, status int, words string) {
	remotetest.Answer(w, status, map[string]string{"detail": words})
}
