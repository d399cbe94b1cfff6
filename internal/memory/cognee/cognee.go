// Package cognee keeps copies of memories in Cognee. In go memories, out come the
// ids of their copies, or errors that say whose fault it is; and on request Cognee
// builds its graph of them. https://docs.cognee.ai/api-reference
//
// A copy is a document of one dataset. Its first line is our id, since Cognee takes
// equal texts for one document: two memories that read the same would share a copy,
// and go together. Its file name is our id and the checksum, for an update takes a
// document's label and metadata away and leaves the name. Its node set is the user,
// which an update is told anew, so that a search can keep to one user.
//
// Adding stores a document and makes nothing of it: Cognify does. Cognee lets one
// write or one run at a dataset at a time, so that calls wait while it thinks.
// It forgets nothing by itself: when a memory expires, somebody has to Delete its copy.
package cognee

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/exchange"
)

// DefaultDataset is the name of the dataset unless Options say otherwise.
const DefaultDataset = "memrelay"

// longTimeout bounds an update and the list of a dataset.
const longTimeout = 5 * time.Minute

// Options say which Cognee, and who we are to it.
type Options struct {
	URL    string // as http://localhost:8000, with or without /api/v1
	APIKey string // "": none is sent, as to a server with REQUIRE_AUTHENTICATION=false
	// Dataset is the name of the dataset that the copies are in; "": DefaultDataset.
	// With access control on it is the key's owner's, and nobody else's of that name.
	Dataset   string
	Transport http.RoundTripper // nil: http.DefaultTransport
	// Timeout bounds a call with its answer; 0: 30 s.
	Timeout time.Duration
	// LongTimeout bounds an update, which answers once language models have read the
	// document and all others that wait, and the list of the dataset; 0: 5 minutes.
	LongTimeout time.Duration
	UserAgent   string           // "": memrelay
	Now         func() time.Time // for dates in Retry-After; nil: time.Now
}

// Client is a Cognee as a memory.Remote. Its methods may be called side by side.
// The id of a copy is that of its dataset, a slash, and that of the document.
type Client struct {
	exchange *exchange.Client
	name     string
	long     time.Duration

	mu      sync.Mutex
	dataset string // its id, "" while not known
	version string // of the server, "" while not known
}

var _ memory.Remote = (*Client)(nil)

// New returns a Client; it calls nobody yet. An error says what is wrong with the
// options, without the key and without the address.
func New(o Options) (*Client, error) {
	if o.URL == "" {
		return nil, errors.New("cognee: no address")
	}
	header := http.Header{}
	if o.APIKey != "" {
		header.Set("X-Api-Key", o.APIKey)
	}
	e, err := exchange.New(exchange.Options{
		URL:    strings.TrimSuffix(strings.TrimRight(strings.TrimSpace(o.URL), "/"), "/api/v1"),
		Header: header, Secret: o.APIKey, UserAgent: o.UserAgent, Transport: o.Transport,
		Timeout: o.Timeout, Now: o.Now, Kind: kindOf,
	})
	if err != nil {
		return nil, fmt.Errorf("cognee: %w", err)
	}
	return &Client{
		exchange: e, name: cmp.Or(o.Dataset, DefaultDataset),
		long: max(cmp.Or(o.LongTimeout, longTimeout), o.Timeout),
	}, nil
}

// CloseIdleConnections closes what is kept open to Cognee and not in use.
func (c *Client) CloseIdleConnections() { c.exchange.CloseIdleConnections() }

// kindOf is what a refusal means. Cognee answers 409 when something went wrong that
// it has no other status for: that is not the item's.
func kindOf(r exchange.Refusal) memory.RemoteKind {
	if r.Status == http.StatusConflict {
		return memory.RemoteUnavailable
	}
	return r.Usual
}

// Ping asks whether Cognee is well and takes the key.
func (c *Client) Ping(ctx context.Context) error {
	if _, err := c.health(ctx); err != nil {
		return err
	}
	return c.exchange.Do(ctx, exchange.Call{Method: http.MethodGet, Path: "/api/v1/datasets"})
}

// health asks Cognee how it is, and remembers its version.
func (c *Client) health(ctx context.Context) (version string, err error) {
	var answer struct {
		Version string `json:"version"`
	}
	if err := c.exchange.Do(ctx, exchange.Call{Method: http.MethodGet, Path: "/health", Read: exchange.Into(&answer)}); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version = cmp.Or(answer.Version, "unknown")
	return c.version, nil
}

// keepsIDs reports whether a document keeps its id when it is updated, as it does
// since version 1.5.
func (c *Client) keepsIDs(ctx context.Context) (bool, error) {
	c.mu.Lock()
	version := c.version
	c.mu.Unlock()
	if version == "" {
		var err error
		if version, err = c.health(ctx); err != nil {
			return false, err
		}
	}
	var major, minor int
	if _, err := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor); err != nil {
		return false, nil
	}
	return major > 1 || (major == 1 && minor >= 5), nil
}

// Dataset is the id of the dataset. It is made when there is none of its name, and
// asked for once.
func (c *Client) Dataset(ctx context.Context) (string, error) {
	c.mu.Lock()
	known := c.dataset
	c.mu.Unlock()
	if known != "" {
		return known, nil
	}
	return c.resolve(ctx)
}

// resolve asks for the dataset of our name anew.
func (c *Client) resolve(ctx context.Context) (string, error) {
	body, err := exchange.JSON(map[string]string{"name": c.name})
	if err != nil {
		return "", err
	}
	var answer idOnly
	err = c.exchange.Do(ctx, exchange.Call{
		Method: http.MethodPost, Path: "/api/v1/datasets", Body: body, Effect: true, Read: exchange.Into(&answer),
	})
	if err != nil {
		return "", err
	}
	if answer.ID == "" {
		return "", &memory.RemoteError{Kind: memory.RemoteUnavailable, Status: http.StatusOK, Message: "a dataset without an id"}
	}
	c.know(answer.ID)
	return answer.ID, nil
}

func (c *Client) know(dataset string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dataset = dataset
}

// removed reports whether err says that a dataset is not there any more. Cognee
// answers 401, 403, 404, 409 or 500 for that, the same as for much else, so that
// its datasets are looked at. When it was ours, the next one to ask resolves it anew.
func (c *Client) removed(ctx context.Context, dataset string, err error) bool {
	var e *memory.RemoteError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusInternalServerError:
	default:
		return false
	}
	there := false
	err = c.exchange.Do(ctx, exchange.Call{
		Method: http.MethodGet, Path: "/api/v1/datasets", Limit: listLimit,
		Read: exchange.Rows("datasets", func(d idOnly) { there = there || d.ID == dataset }, nil),
	})
	if err != nil || there {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dataset == dataset {
		c.dataset = ""
	}
	return true
}

type idOnly struct {
	ID string `json:"id"`
}

// gone is the error about a copy, or a dataset, that is not there.
func gone(words string) error {
	return &memory.RemoteError{Kind: memory.RemoteGone, Message: words}
}

// remoteID is the id of a copy, as we hand it out.
func remoteID(dataset, data string) string { return dataset + "/" + data }

// place is where a copy is; false when the id is none of ours.
func place(remoteID string) (dataset, data string, ok bool) {
	dataset, data, ok = strings.Cut(remoteID, "/")
	return dataset, data, ok && dataset != "" && data != "" && !strings.Contains(data, "/")
}

func dataPath(dataset string) string { return "/api/v1/datasets/" + url.PathEscape(dataset) + "/data" }
