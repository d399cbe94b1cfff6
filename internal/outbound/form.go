package outbound

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// errPayload is returned for what is no payload of ours.
var errPayload = errors.New("no payload of a webhook")

// render returns the body of a request that carries payloads of the outbox in an endpoint's form. It is a JSON array if
// batch is set, and else the one payload there must be. The same payloads give the same bytes, so that every attempt
// sends the same.
//
// FormMemrelay is the outbox's bytes. FormStandard is {"type","timestamp","data"} of Standard Webhooks: data's own bytes,
// with user_id put in front unless data has one, for nothing else says whose it is.
func render(form string, batch bool, payloads [][]byte) ([]byte, error) {
	if len(payloads) == 0 || (!batch && len(payloads) != 1) {
		return nil, fmt.Errorf("%w: %d of them in one request", errPayload, len(payloads))
	}
	if form == endpoint.FormStandard {
		inForm := make([][]byte, len(payloads))
		for i, p := range payloads {
			var err error
			if inForm[i], err = standard(p); err != nil {
				return nil, err
			}
		}
		payloads = inForm
	}
	if !batch {
		return payloads[0], nil
	}
	for _, p := range payloads {
		if !json.Valid(p) { // it would spoil the others
			return nil, fmt.Errorf("%w: it is not JSON", errPayload)
		}
	}
	return append(append([]byte{'['}, bytes.Join(payloads, []byte{','})...), ']'), nil
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
