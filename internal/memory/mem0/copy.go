package mem0

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/exchange"
)

// metadataKind is the key under which a memory's kind stands.
const metadataKind = "kind"

// kept are the keys that the open-source server keeps in the same place as the
// metadata, and reads: what a memory calls expiration_date would hide its copy.
var kept = []string{
	"id", "data", "hash", "user_id", "agent_id", "run_id", "app_id", "actor_id", "role",
	"attributed_to", "created_at", "updated_at", "expiration_date", "text_lemmatized",
}

// Add makes a copy. The platform may put it into a queue: then Add waits for it,
// up to Options.Timeout, and what is still queued then is an error with Sent true,
// for Find to look for later.
func (c *Client) Add(ctx context.Context, item memory.Item) (string, error) {
	body := map[string]any{
		"messages": []map[string]string{{"role": "user", "content": item.Content}},
		"user_id":  item.UserID,
		"metadata": metadataOf(item),
		"infer":    false,
	}
	if day := lastDay(item.ExpiresAt); day != nil {
		body["expiration_date"] = *day
	}
	path := "/memories"
	if c.form == Platform {
		path = "/v3/memories/add/"
	}
	var answer added
	if err := c.send(ctx, http.MethodPost, path, false, body, exchange.Into(&answer)); err != nil {
		return "", err
	}
	if id := answer.id(); id != "" {
		return id, nil
	}
	switch {
	case answer.Status == eventFailed:
		return "", failed("")
	case answer.EventID != "":
		return c.await(ctx, answer.EventID, item)
	}
	return "", &memory.RemoteError{
		Kind: memory.RemoteRefused, Status: http.StatusOK, Sent: true, Message: "mem0 took it and names no memory",
	}
}

// Update makes the copy what item is now. It asks first whose copy it is: mem0
// takes none from one user to another, so that it is made anew when the user has
// changed, under a new id.
func (c *Client) Update(ctx context.Context, remoteID string, item memory.Item) (string, error) {
	user, err := c.userOf(ctx, remoteID)
	if err != nil {
		return "", err
	}
	if user != "" && user != item.UserID {
		// Removed first: when the second half fails, the next try finds nothing under
		// the old id, and nobody has two copies.
		if err := c.Delete(ctx, remoteID); err != nil {
			return "", err
		}
		id, err := c.Add(ctx, item)
		var e *memory.RemoteError
		if errors.As(err, &e) {
			e.Sent = true // the first half had its effect
		}
		return id, err
	}
	// A null takes an expiry away.
	body := map[string]any{"text": item.Content, "metadata": metadataOf(item), "expiration_date": lastDay(item.ExpiresAt)}
	if err := c.send(ctx, http.MethodPut, c.at(remoteID), true, body, nil); err != nil {
		return "", err
	}
	return remoteID, nil
}

// userOf is whose copy it is, "" when mem0 does not say.
func (c *Client) userOf(ctx context.Context, remoteID string) (string, error) {
	var found *row
	err := c.exchange.Do(ctx, exchange.Call{Method: http.MethodGet, Path: c.at(remoteID), Gone: true, Read: exchange.Into(&found)})
	switch {
	case err != nil:
		return "", err
	case found == nil: // the open-source server says 200 and null
		return "", &memory.RemoteError{Kind: memory.RemoteGone, Status: http.StatusOK, Message: "no such memory"}
	}
	return string(found.UserID), nil
}

// Delete removes the copy. One that is not there is no error.
func (c *Client) Delete(ctx context.Context, remoteID string) error {
	err := c.exchange.Do(ctx, exchange.Call{Method: http.MethodDelete, Path: c.at(remoteID), Effect: true, Gone: true})
	if memory.RemoteKindOf(err) == memory.RemoteGone {
		return nil
	}
	return err
}

// Ping asks whether mem0 is there and takes the key. The open-source server has no
// address for that: its memories of a user that nobody is are asked for.
func (c *Client) Ping(ctx context.Context) error {
	q := exchange.Call{Method: http.MethodGet, Path: "/v1/ping/"}
	if c.form == Server {
		q.Path, q.Query = "/memories", url.Values{"user_id": {"memrelay-ping"}, "top_k": {"1"}}
	}
	return c.exchange.Do(ctx, q)
}

// send sends a body that changes something; gone as in exchange.Call.
func (c *Client) send(ctx context.Context, method, path string, gone bool, body any, read func(io.Reader) error) error {
	text, err := exchange.JSON(body)
	if err != nil {
		return err
	}
	return c.exchange.Do(ctx, exchange.Call{Method: method, Path: path, Body: text, Effect: true, Gone: gone, Read: read})
}

func metadataOf(item memory.Item) map[string]any {
	metadata := maps.Clone(item.Metadata)
	if metadata == nil {
		metadata = map[string]any{}
	}
	for _, key := range kept {
		delete(metadata, key)
	}
	metadata[memory.MetadataID] = item.ID.String()
	metadata[memory.MetadataChecksum] = item.Checksum
	metadata[metadataKind] = item.Kind
	return metadata
}

// lastDay is the last day on which something that expires at t is good, as mem0
// writes it; nil: it stays.
func lastDay(t *time.Time) *string {
	if t == nil {
		return nil
	}
	day := t.Add(-1).UTC().Format(time.DateOnly)
	return &day
}

// added is the answer to an Add. Where mem0's documents differ, all of it is read:
// an object with results, or, as before v3, a list of them.
type added struct {
	EventID string
	Status  string
	Results []result
}

// result is one memory that came of an Add.
type result struct {
	ID       loose  `json:"id"`
	MemoryID loose  `json:"memory_id"`
	EventID  string `json:"event_id"`
	Status   string `json:"status"`
}

func (a *added) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &a.Results) == nil {
		for _, r := range a.Results {
			if r.EventID != "" {
				a.EventID, a.Status = r.EventID, r.Status
			}
		}
		return nil
	}
	var object struct {
		EventID string   `json:"event_id"`
		Status  string   `json:"status"`
		Results []result `json:"results"`
	}
	if err := json.Unmarshal(text, &object); err != nil {
		return err
	}
	*a = added(object)
	return nil
}

func (a *added) id() string { return idOf(a.Results) }

// idOf is the memory that results name: one text is one memory.
func idOf(results []result) string {
	for _, r := range results {
		if id := cmp.Or(r.ID, r.MemoryID); id != "" {
			return string(id)
		}
	}
	return ""
}
