package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

const (
	// MaxBody is the greatest body that is read, in bytes: a batch of 500 memories of
	// eight thousand characters.
	MaxBody = 4 << 20
	// maxKey bounds an Idempotency-Key, in bytes.
	maxKey = 255
)

// call is one request on its way through a route.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	caller memory.Caller
	body   []byte     // nil for methods without one
	params url.Values // of the query
	// owner says whose what the path names is, for whoever is told of a failure; nil:
	// the body or the query says.
	owner func(ctx context.Context) (string, error)
}

func newCall(w http.ResponseWriter, r *http.Request) *call {
	who, _ := access.From(r.Context())
	return &call{w: w, r: r, caller: memory.Caller{
		Actor: who.Actor, UserIDs: who.UserIDs, All: who.All, RequestID: respond.RequestID(r.Context()),
	}}
}

func (c *call) ctx() context.Context { return c.r.Context() }

// answer answers with v. It returns nil, so that a route can return its call.
func (c *call) answer(status int, v any) error { return respond.JSON(c.w, status, v) }

// take reads what every route needs: the query, the body and the Idempotency-Key.
func (c *call) take() error {
	var err error
	if c.params, err = body.Query(c.r); err != nil {
		return err
	}
	if c.r.Method == http.MethodGet {
		return nil
	}
	if c.r.Method != http.MethodDelete {
		if c.body, err = body.Receive(c.w, c.r, MaxBody); err != nil {
			return err
		}
	}
	if c.caller.Key, err = idempotencyKey(c.r.Header); err != nil {
		return err
	}
	c.caller.Digest = c.digest()
	return nil
}

// digest is of what is asked: the same key with another question is a mistake.
func (c *call) digest() [sha256.Size]byte {
	sum := sha256.New()
	for _, part := range []string{c.r.Method, c.r.URL.EscapedPath(), c.r.URL.RawQuery} {
		_ = binary.Write(sum, binary.BigEndian, int64(len(part))) // a hash takes everything
		sum.Write([]byte(part))
	}
	sum.Write(c.body)
	return [sha256.Size]byte(sum.Sum(nil))
}

func idempotencyKey(h http.Header) (string, error) {
	values := h.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	hidden := strings.IndexFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0
	if len(values) > 1 || key == "" || len(key) > maxKey || hidden {
		return "", wrong("Idempotency-Key", "want one, of 1 to %d visible ASCII characters", maxKey)
	}
	return key, nil
}

// wrong is the error of a request whose field is wrong.
func wrong(field, format string, args ...any) error {
	return &memory.Invalid{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// query wants no parameters but the named ones, each once at most.
func (c *call) query(names ...string) error {
	return asInvalid(body.Params(c.params, names...))
}

// number is a parameter of the query that is one; what it is otherwise when the
// query does not say.
func (c *call) number(name string, otherwise int) (int, error) {
	if !c.params.Has(name) {
		return otherwise, nil
	}
	n, err := strconv.Atoi(c.params.Get(name))
	if err != nil {
		return 0, wrong(name, "want a whole number")
	}
	return n, nil
}

// id is the path's, as it is written in answers; memory.ErrNotFound for what can be
// nobody's.
func (c *call) id() (uuid.UUID, error) {
	const form = 36 // other forms of the same id would be other addresses of the same thing
	text := chi.URLParam(c.r, "id")
	id, err := uuid.Parse(text)
	if err != nil || len(text) != form {
		return uuid.UUID{}, memory.ErrNotFound
	}
	return id, nil
}
