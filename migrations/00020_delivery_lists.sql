-- Lists of deliveries, newest first: an endpoint's, and a user's.

-- +goose Up
CREATE INDEX deliveries_endpoint_idx ON deliveries (endpoint_id, id);
CREATE INDEX outbox_user_idx ON outbox (user_id, seq);

-- +goose Down
DROP INDEX outbox_user_idx;
DROP INDEX deliveries_endpoint_idx;
