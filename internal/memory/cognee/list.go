package cognee

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/exchange"
)

const (
	// namePrefix begins the names of our documents.
	namePrefix = "memrelay-"
	// labelPrefix begins their labels.
	labelPrefix = "memrelay:"
	// metadataUser is the key under which the user stands in a copy's metadata.
	metadataUser = "user_id"
	// listLimit bounds the list of a dataset, in bytes: about 250,000 documents. Of
	// each a few words are kept.
	listLimit = 256 << 20
)

// datum is a document as Cognee lists it. Others may keep documents there, too, so
// that its metadata may be anything.
type datum struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Label    string          `json:"label"`
	Metadata json.RawMessage `json:"externalMetadata"`
}

// held is what is kept of a document.
type held struct {
	data     string // its id there
	ours     bool
	id       uuid.UUID // ours, and what follows is known only then
	checksum string
	user     string
}

// held reads the name first: that is what an update renews. Metadata and label are
// as they were when the document was added.
func (d datum) held() held {
	h := held{data: d.ID}
	var metadata map[string]any
	_ = json.Unmarshal(d.Metadata, &metadata)
	h.user = userOf(metadata)
	if rest, ok := strings.CutPrefix(d.Name, namePrefix); ok && len(rest) >= uuidLength {
		if h.is(rest[:uuidLength]) {
			h.checksum = strings.TrimPrefix(rest[uuidLength:], "-")
			return h
		}
	}
	if text, _ := metadata[memory.MetadataID].(string); h.is(text) {
		h.checksum, _ = metadata[memory.MetadataChecksum].(string)
		return h
	}
	if text, ok := strings.CutPrefix(d.Label, labelPrefix); ok {
		h.is(text)
	}
	return h
}

// uuidLength is the length of an id as text.
const uuidLength = 36

// is reports whether text is an id, and takes it for the document's when it is.
func (h *held) is(text string) bool {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != uuidLength {
		return false
	}
	h.id, h.ours = id, true
	return true
}

// userOf is the user whom metadata names, in a key of ours or, after an update, as
// the node set.
func userOf(metadata map[string]any) string {
	if user, _ := metadata[metadataUser].(string); user != "" {
		return user
	}
	if set, _ := metadata["node_set"].([]any); len(set) == 1 {
		user, _ := set[0].(string)
		return user
	}
	return ""
}

// rows are all documents of a dataset.
func (c *Client) rows(ctx context.Context, dataset string) ([]held, error) {
	var rows []held
	err := c.exchange.Do(ctx, exchange.Call{
		Method: http.MethodGet, Path: dataPath(dataset), Limit: listLimit, Timeout: c.long,
		Read: exchange.Rows("data", func(d datum) { rows = append(rows, d.held()) }, nil),
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// ours are the documents of our dataset that are copies of ours. When the dataset
// was removed meanwhile, it is the new one that is listed.
func (c *Client) ours(ctx context.Context) (dataset string, rows []held, err error) {
	if dataset, err = c.Dataset(ctx); err != nil {
		return "", nil, err
	}
	all, err := c.rows(ctx, dataset)
	if c.removed(ctx, dataset, err) {
		if dataset, err = c.Dataset(ctx); err != nil {
			return "", nil, err
		}
		all, err = c.rows(ctx, dataset)
	}
	if err != nil {
		return "", nil, err
	}
	for _, one := range all {
		if one.ours {
			rows = append(rows, one)
		}
	}
	return dataset, rows, nil
}

func has(rows []held, data string) bool {
	for _, one := range rows {
		if one.data == data {
			return true
		}
	}
	return false
}
