package mem0

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/exchange"
)

const (
	// pageSize is how many memories a page of the platform's list is asked to hold.
	pageSize = 100
	// findPages is how many pages Find reads.
	findPages = 200
	// listPages is how many pages List reads: a list that goes on is one that does not end.
	listPages = 100_000
	// serverList is how many memories the open-source server lists, at most: it has
	// no second page.
	serverList = 1000
	// listLimit bounds a list's answer in bytes; of it only the metadata is kept.
	listLimit = 64 << 20
)

// row is a memory as mem0 lists it. Others keep memories there, too, so that its
// metadata may be anything.
type row struct {
	ID       loose           `json:"id"`
	UserID   loose           `json:"user_id"`
	Metadata json.RawMessage `json:"metadata"`
}

// loose is a text; what stands there and is none is "".
type loose string

func (l *loose) UnmarshalJSON(raw []byte) error {
	var text string
	_ = json.Unmarshal(raw, &text)
	*l = loose(text)
	return nil
}

// copy is the row as one of ours; false when it is not.
func (r row) copy() (memory.Copy, bool) {
	var metadata map[string]any
	if json.Unmarshal(r.Metadata, &metadata) != nil {
		return memory.Copy{}, false
	}
	text, _ := metadata[memory.MetadataID].(string)
	id, err := uuid.Parse(text)
	if err != nil || r.ID == "" {
		return memory.Copy{}, false
	}
	checksum, _ := metadata[memory.MetadataChecksum].(string)
	return memory.Copy{RemoteID: string(r.ID), ID: id, UserID: string(r.UserID), Checksum: checksum}, true
}

// page is a part of a list.
type page struct {
	copies []memory.Copy
	rows   int
	next   bool
}

// Find looks through the user's memories for the one that carries id. On the
// platform it reads up to 20,000 of them; when there are more and id is not among
// those, that is an error. The open-source server lists 1,000: when a user has
// more, they are searched by metadata, which costs an embedding.
func (c *Client) Find(ctx context.Context, userID string, id uuid.UUID) (string, error) {
	if c.form == Server {
		return c.findOnServer(ctx, userID, id)
	}
	for n := 1; n <= findPages; n++ {
		p, err := c.platformPage(ctx, userID, n)
		if err != nil {
			return "", err
		}
		if found := p.find(id); found != "" || !p.next {
			return found, nil
		}
	}
	return "", &memory.RemoteError{
		Kind: memory.RemoteUnavailable, Status: http.StatusOK,
		Message: fmt.Sprintf("not among the first %d memories of its user, and there are more", findPages*pageSize),
	}
}

func (c *Client) findOnServer(ctx context.Context, userID string, id uuid.UUID) (string, error) {
	p, err := c.serverPage(ctx, userID)
	if err != nil {
		return "", err
	}
	if found := p.find(id); found != "" || p.rows < serverList {
		return found, nil
	}
	// The filter decides, whatever the words: no other memory carries this id.
	body, err := exchange.JSON(map[string]any{
		"query": id.String(), "top_k": 5, "threshold": 0, "show_expired": true,
		"filters": map[string]any{"user_id": userID, memory.MetadataID: id.String()},
	})
	if err != nil {
		return "", err
	}
	p, err = c.page(ctx, exchange.Call{Method: http.MethodPost, Path: "/search", Body: body})
	return p.find(id), err
}

// List returns a page of the copies. Pages count what is there: what is added or
// removed meanwhile may shift a copy from one to another. With no userID the
// platform lists those of all users; the open-source server does that for
// administrators only. It lists 1,000 memories and has no second page, so that
// where there are more List returns an error of kind RemoteRefused and no half list.
func (c *Client) List(ctx context.Context, userID, cursor string) ([]memory.Copy, string, error) {
	if c.form == Server {
		return c.listServer(ctx, userID, cursor)
	}
	n := 1
	if cursor != "" {
		var err error
		if n, err = strconv.Atoi(cursor); err != nil || n < 1 || n > listPages {
			return nil, "", noCursor()
		}
	}
	p, err := c.platformPage(ctx, userID, n)
	if err != nil || !p.next {
		return p.copies, "", err
	}
	return p.copies, strconv.Itoa(n + 1), nil
}

func (c *Client) listServer(ctx context.Context, userID, cursor string) ([]memory.Copy, string, error) {
	if cursor != "" {
		return nil, "", noCursor()
	}
	p, err := c.serverPage(ctx, userID)
	if err == nil && p.rows >= serverList {
		return nil, "", &memory.RemoteError{
			Kind: memory.RemoteRefused, Status: http.StatusOK,
			Message: fmt.Sprintf("mem0 lists %d memories and has no second page: list them user by user", serverList),
		}
	}
	return p.copies, "", err
}

func noCursor() error {
	return &memory.RemoteError{Kind: memory.RemoteRefused, Message: "no cursor of this list"}
}

// platformPage is page n, from 1, of a user's memories, hidden ones too.
func (c *Client) platformPage(ctx context.Context, userID string, n int) (page, error) {
	if userID == "" {
		userID = "*" // everybody
	}
	body, err := exchange.JSON(map[string]any{"filters": map[string]any{"user_id": userID}, "show_expired": true})
	if err != nil {
		return page{}, err
	}
	return c.page(ctx, exchange.Call{
		Method: http.MethodPost, Path: "/v3/memories/", Body: body,
		Query: url.Values{"page": {strconv.Itoa(n)}, "page_size": {strconv.Itoa(pageSize)}},
	})
}

// serverPage is the only page of the open-source server.
func (c *Client) serverPage(ctx context.Context, userID string) (page, error) {
	query := url.Values{"top_k": {strconv.Itoa(serverList)}, "show_expired": {"true"}}
	if userID != "" {
		query.Set("user_id", userID)
	}
	return c.page(ctx, exchange.Call{Method: http.MethodGet, Path: "/memories", Query: query})
}

// page asks for a list and keeps what is ours.
func (c *Client) page(ctx context.Context, q exchange.Call) (page, error) {
	var p page
	q.Limit = listLimit
	q.Read = exchange.Rows("results", func(r row) {
		p.rows++
		if one, ok := r.copy(); ok {
			p.copies = append(p.copies, one)
		}
	}, func(key string, value json.RawMessage) {
		if key == "next" {
			p.next = string(value) != "null" && string(value) != `""`
		}
	})
	if err := c.exchange.Do(ctx, q); err != nil {
		return page{}, err
	}
	p.next = p.next && p.rows > 0
	return p, nil
}

// find is the copy that carries id, "" when there is none.
func (p page) find(id uuid.UUID) string {
	for _, one := range p.copies {
		if one.ID == id {
			return one.RemoteID
		}
	}
	return ""
}
