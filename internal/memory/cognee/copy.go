package cognee

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/exchange"
)

// addRun is the answer to an add.
type addRun struct {
	Status    string `json:"status"`
	DatasetID string `json:"dataset_id"`
	Ingested  []struct {
		DataID string `json:"data_id"`
	} `json:"data_ingestion_info"`
}

// Add makes a copy. Adding the same again, as after a lost answer, makes no second
// one as long as the memory has not changed meanwhile.
func (c *Client) Add(ctx context.Context, item memory.Item) (string, error) {
	form, err := addForm(item, c.name)
	if err != nil {
		return "", err
	}
	var run addRun
	err = c.exchange.Do(ctx, exchange.Call{
		Method: http.MethodPost, Path: "/api/v1/add", Body: form.body, Type: form.kind, Effect: true, Read: exchange.Into(&run),
	})
	switch {
	case err != nil:
		return "", err
	case RunStatus(run.Status) == RunErrored:
		return "", &memory.RemoteError{Kind: memory.RemoteUnavailable, Status: http.StatusOK, Message: "the pipeline errored", Sent: true}
	case run.DatasetID != "" && len(run.Ingested) == 1 && run.Ingested[0].DataID != "":
		c.know(run.DatasetID)
		return remoteID(run.DatasetID, run.Ingested[0].DataID), nil
	}
	return c.added(ctx, item)
}

// added looks for the copy that an add made and did not name, as old servers do.
func (c *Client) added(ctx context.Context, item memory.Item) (string, error) {
	id, err := c.Find(ctx, item.UserID, item.ID)
	if err == nil && id == "" {
		err = &memory.RemoteError{Kind: memory.RemoteUnavailable, Message: "added, but not to be found"}
	}
	var e *memory.RemoteError
	if errors.As(err, &e) {
		e.Sent = true
	}
	return id, err
}

// Update makes the copy what item is now. Cognee answers once it has also built its
// graph of it, which takes language models and minutes: when that fails, or takes
// longer than Options.LongTimeout, and the document is replaced all the same, that
// is no error; the next Cognify builds what is missing.
//
// The copy keeps its id. Before version 1.5 it gets another, and Cognee takes any id
// at all: there the dataset is listed before and after.
func (c *Client) Update(ctx context.Context, id string, item memory.Item) (string, error) {
	dataset, data, ok := place(id)
	if !ok {
		return "", gone("no id of Cognee's")
	}
	keeps, err := c.keepsIDs(ctx)
	if err != nil {
		return "", err
	}
	if !keeps {
		rows, err := c.rows(ctx, dataset)
		if c.removed(ctx, dataset, err) || (err == nil && !has(rows, data)) {
			return "", gone("no such document")
		}
		if err != nil {
			return "", err
		}
	}
	if err := c.patch(ctx, dataset, data, item); err != nil {
		return c.patched(ctx, dataset, item, err)
	}
	if keeps {
		return id, nil
	}
	return c.replaced(ctx, dataset, item)
}

func (c *Client) patch(ctx context.Context, dataset, data string, item memory.Item) error {
	form, err := updateForm(item)
	if err != nil {
		return err
	}
	return c.exchange.Do(ctx, exchange.Call{
		Method: http.MethodPatch, Path: "/api/v1/update", Query: url.Values{"data_id": {data}, "dataset_id": {dataset}},
		Body: form.body, Type: form.kind, Effect: true, Gone: true, Timeout: c.long,
	})
}

// patched is what became of an update that ended with err.
func (c *Client) patched(ctx context.Context, dataset string, item memory.Item, err error) (string, error) {
	var e *memory.RemoteError
	if !errors.As(err, &e) || e.Kind == memory.RemoteGone || ctx.Err() != nil {
		return "", err
	}
	if c.removed(ctx, dataset, err) {
		return "", gone("no such dataset")
	}
	if !e.Sent || item.Checksum == "" {
		return "", err
	}
	if id, lookErr := c.replaced(ctx, dataset, item); lookErr == nil {
		return id, nil
	}
	return "", err
}

// replaced is the copy that carries item's id and checksum.
func (c *Client) replaced(ctx context.Context, dataset string, item memory.Item) (string, error) {
	rows, err := c.rows(ctx, dataset)
	if err != nil {
		return "", err
	}
	for _, one := range rows {
		if one.ours && one.id == item.ID && one.checksum == item.Checksum {
			return remoteID(dataset, one.data), nil
		}
	}
	return "", &memory.RemoteError{Kind: memory.RemoteUnavailable, Message: "updated, but not to be found", Sent: true}
}

// Delete removes the copy. One that is not there is no error, and neither is one in
// a dataset that was removed.
func (c *Client) Delete(ctx context.Context, id string) error {
	dataset, data, ok := place(id)
	if !ok {
		return nil
	}
	err := c.exchange.Do(ctx, exchange.Call{
		Method: http.MethodDelete, Path: dataPath(dataset) + "/" + url.PathEscape(data), Effect: true, Gone: true,
	})
	if memory.RemoteKindOf(err) == memory.RemoteGone || c.removed(ctx, dataset, err) {
		return nil
	}
	return err
}

// Find looks through the dataset for the copy that carries id. Cognee lists a
// dataset as a whole, so that this costs as much as List.
func (c *Client) Find(ctx context.Context, _ string, id uuid.UUID) (string, error) {
	dataset, rows, err := c.ours(ctx)
	if err != nil {
		return "", err
	}
	for _, one := range rows {
		if one.id == id {
			return remoteID(dataset, one.data), nil
		}
	}
	return "", nil
}

// List returns the copies, all of them at once: Cognee has no pages. With a userID
// those are left out of which Cognee does not know the user.
func (c *Client) List(ctx context.Context, userID, cursor string) ([]memory.Copy, string, error) {
	if cursor != "" {
		return nil, "", &memory.RemoteError{Kind: memory.RemoteRefused, Message: "no cursor of this list"}
	}
	dataset, rows, err := c.ours(ctx)
	if err != nil {
		return nil, "", err
	}
	var copies []memory.Copy
	for _, one := range rows {
		if userID == "" || one.user == userID {
			copies = append(copies, memory.Copy{RemoteID: remoteID(dataset, one.data), ID: one.id, UserID: one.user, Checksum: one.checksum})
		}
	}
	return copies, "", nil
}

// metadataOf is what is kept beside a document until its first update.
func metadataOf(item memory.Item) map[string]any {
	metadata := maps.Clone(item.Metadata)
	if metadata == nil {
		metadata = map[string]any{}
	}
	delete(metadata, "node_set") // Cognee refuses it here
	metadata[memory.MetadataID] = item.ID.String()
	metadata[memory.MetadataChecksum] = item.Checksum
	metadata[metadataUser] = item.UserID
	metadata["kind"] = item.Kind
	if item.ExpiresAt != nil {
		metadata["expires_at"] = item.ExpiresAt.UTC().Format(time.RFC3339)
	}
	return metadata
}
