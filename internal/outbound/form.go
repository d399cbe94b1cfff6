package outbound

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// errPayload is returned for what is no payload of ours.
var errPayload = errors.New("no payload of a webhook")

// told is a webhook on its way into a request.
type told struct {
	id      uuid.UUID // its webhook-id
	payload []byte    // the outbox's bytes
}

// render returns the body of a request that carries webhooks in an endpoint's form. It is a JSON array if batch is set,
// and else the one there must be. The same webhooks give the same bytes, so that every attempt sends the same.
//
// FormMemrelay is the outbox's bytes. FormStandard is {"type","timestamp","data"} of Standard Webhooks: data's own bytes,
// with user_id put in front unless data has one, for nothing else says whose it is. What stands in a batch gets its
// webhook_id in front: the header has that of the batch.
func render(form string, batch bool, all []told) ([]byte, error) {
	if len(all) == 0 || (!batch && len(all) != 1) {
		return nil, fmt.Errorf("%w: %d of them in one request", errPayload, len(all))
	}
	bodies := make([][]byte, len(all))
	for i, w := range all {
		bodies[i] = w.payload
		var err error
		if form == endpoint.FormStandard {
			bodies[i], err = standard(w.payload)
		}
		if err == nil && batch {
			bodies[i], err = member(w.id, bodies[i])
		}
		if err != nil {
			return nil, err
		}
	}
	if !batch {
		return bodies[0], nil
	}
	return append(append([]byte{'['}, bytes.Join(bodies, []byte{','})...), ']'), nil
}

// member returns a body with the id of its webhook in front.
func member(id uuid.UUID, body []byte) ([]byte, error) {
	fields := bytes.TrimLeft(body, " \t\r\n")
	if !json.Valid(body) || fields[0] != '{' { // it would spoil the others
		return nil, fmt.Errorf("%w: it is no object", errPayload)
	}
	comma := ","
	if bytes.HasPrefix(bytes.TrimLeft(fields[1:], " \t\r\n"), []byte{'}'}) {
		comma = ""
	}
	return append(fmt.Appendf(nil, `{"webhook_id":%q%s`, id, comma), fields[1:]...), nil
}

// standard returns a payload in Standard Webhooks' form. Values are taken as they stand, none is written anew.
func standard(payload []byte) ([]byte, error) {
	var envelope, data map[string]json.RawMessage
	if err := json.Unmarshal(payload, &envelope); err != nil {
		return nil, fmt.Errorf("%w: %w", errPayload, err)
	}
	for _, key := range []string{"event", "timestamp", "data", "user_id"} {
		if envelope[key] == nil {
			return nil, fmt.Errorf("%w: there is no %s", errPayload, key)
		}
	}
	if err := json.Unmarshal(envelope["data"], &data); err != nil || data == nil {
		return nil, fmt.Errorf("%w: data is no object", errPayload)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"type":%s,"timestamp":%s,"data":`, envelope["event"], envelope["timestamp"])
	fields := envelope["data"]
	if _, known := data["user_id"]; !known {
		fmt.Fprintf(&b, `{"user_id":%s`, envelope["user_id"])
		fields = fields[1:]
		if len(data) > 0 {
			b.WriteByte(',')
		}
	}
	b.Write(fields)
	b.WriteByte('}')
	return b.Bytes(), nil
}
