package cognee

import (
	"context"
	"net/http"
	"net/url"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/exchange"
)

// RunStatus is how a run that was asked for began.
type RunStatus string

// What Cognee says of a run. There may be others.
const (
	RunStarted          RunStatus = "PipelineRunStarted"
	RunCompleted        RunStatus = "PipelineRunCompleted"
	RunAlreadyCompleted RunStatus = "PipelineRunAlreadyCompleted"
	RunErrored          RunStatus = "PipelineRunErrored"
)

// Run is a run that builds the graph of a dataset.
type Run struct {
	ID        string
	DatasetID string
	Status    RunStatus
}

// Progress is how far the last run of a dataset is.
type Progress string

// What Cognee says of a dataset.
const (
	ProgressNone      Progress = "" // no run yet
	ProgressInitiated Progress = "DATASET_PROCESSING_INITIATED"
	ProgressStarted   Progress = "DATASET_PROCESSING_STARTED"
	ProgressCompleted Progress = "DATASET_PROCESSING_COMPLETED"
	ProgressErrored   Progress = "DATASET_PROCESSING_ERRORED"
)

// Running reports whether a run is under way.
func (p Progress) Running() bool { return p == ProgressInitiated || p == ProgressStarted }

// Cognify has Cognee build its graph of what is in a dataset and not in the graph
// yet. It goes on there after Cognify has returned: Status says how far it is.
// Dataset gives the id. A dataset that was removed is an error of kind RemoteGone;
// Dataset then gives the new one's. A spent token budget is RemoteThrottled.
func (c *Client) Cognify(ctx context.Context, datasetID string) (Run, error) {
	body, err := exchange.JSON(map[string]any{"dataset_ids": []string{datasetID}, "run_in_background": true})
	if err != nil {
		return Run{}, err
	}
	var runs map[string]struct {
		Status string `json:"status"`
		RunID  string `json:"pipeline_run_id"`
	}
	err = c.exchange.Do(ctx, exchange.Call{Method: http.MethodPost, Path: "/api/v1/cognify", Body: body, Effect: true, Read: exchange.Into(&runs)})
	if err != nil {
		return Run{}, c.about(ctx, datasetID, err)
	}
	run, ok := runs[datasetID]
	switch {
	case !ok:
		return Run{}, &memory.RemoteError{Kind: memory.RemoteUnavailable, Status: http.StatusOK, Message: "the answer does not name the dataset", Sent: true}
	case RunStatus(run.Status) == RunErrored:
		return Run{}, &memory.RemoteError{Kind: memory.RemoteUnavailable, Status: http.StatusOK, Message: "the pipeline errored"}
	}
	return Run{ID: run.RunID, DatasetID: datasetID, Status: RunStatus(run.Status)}, nil
}

// Status is how far the last run of a dataset is. A dataset that was removed is an
// error of kind RemoteGone.
func (c *Client) Status(ctx context.Context, datasetID string) (Progress, error) {
	var all map[string]Progress
	err := c.exchange.Do(ctx, exchange.Call{
		Method: http.MethodGet, Path: "/api/v1/datasets/status",
		Query: url.Values{"dataset": {datasetID}, "pipeline": {"cognify_pipeline"}}, Read: exchange.Into(&all),
	})
	if err != nil {
		return ProgressNone, c.about(ctx, datasetID, err)
	}
	return all[datasetID], nil
}

// about is err, or that the dataset which it is about was removed.
func (c *Client) about(ctx context.Context, datasetID string, err error) error {
	if c.removed(ctx, datasetID, err) {
		return gone("no such dataset")
	}
	return err
}
