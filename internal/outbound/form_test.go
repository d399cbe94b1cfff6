package outbound

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// inBatch is a body as it stands in a batch, as the webhook of that number.
func inBatch(n int, body string) string {
	return fmt.Sprintf(`{"webhook_id":"00000000-0000-0000-0000-%012d",%s`, n, body[1:])
}

func TestRender(t *testing.T) {
	t.Parallel()
	const (
		one     = `{"event":"memory_added","user_id":"zoho:1","data":{"b":1, "a":"\u00e9","n":1.50},"timestamp":"2026-11-22T05:03:44.621Z","source":"memrelay","bot_version":"1","request_id":"r"}`
		two     = `{"event":"graph_built","user_id":"a\"b","data":{},"timestamp":"2026-11-22T05:03:45Z"}`
		system  = `{"event":"sync.failed","user_id":"system","data":{"user_id":null,"x":1},"timestamp":"2026-11-22T05:03:46Z"}`
		deeper  = `{"event":"memory_added","user_id":"u","data":{"result":{"user_id":"other"}},"timestamp":"t"}`
		oneStd  = `{"type":"memory_added","timestamp":"2026-11-22T05:03:44.621Z","data":{"user_id":"zoho:1","b":1, "a":"\u00e9","n":1.50}}`
		twoStd  = `{"type":"graph_built","timestamp":"2026-11-22T05:03:45Z","data":{"user_id":"a\"b"}}`
		sysStd  = `{"type":"sync.failed","timestamp":"2026-11-22T05:03:46Z","data":{"user_id":null,"x":1}}`
		deepStd = `{"type":"memory_added","timestamp":"t","data":{"user_id":"u","result":{"user_id":"other"}}}`
		odd     = ` { "event" : "x" }` // bytes that anything that understands them would change
	)
	for _, tt := range []struct {
		name     string
		form     string
		batch    bool
		payloads []string
		want     string
	}{
		{"memrelay: the outbox's bytes", endpoint.FormMemrelay, false, []string{odd}, odd},
		{"memrelay, a batch", endpoint.FormMemrelay, true, []string{one, odd}, "[" + inBatch(1, one) + "," + inBatch(2, odd[1:]) + "]"},
		{"memrelay, a batch of one", endpoint.FormMemrelay, true, []string{one}, "[" + inBatch(1, one) + "]"},
		{"standard: data's own bytes", endpoint.FormStandard, false, []string{one}, oneStd},
		{"standard, data that is empty", endpoint.FormStandard, false, []string{two}, twoStd},
		{"standard, data that names its user", endpoint.FormStandard, false, []string{system}, sysStd},
		{"standard, a user further down is another", endpoint.FormStandard, false, []string{deeper}, deepStd},
		{"standard, a batch", endpoint.FormStandard, true, []string{one, two, system}, "[" + inBatch(1, oneStd) + "," + inBatch(2, twoStd) + "," + inBatch(3, sysStd) + "]"},
		{"a batch of what is empty", endpoint.FormMemrelay, true, []string{"{ }"}, `[{"webhook_id":"00000000-0000-0000-0000-000000000001" }]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var all []told
			for i, p := range tt.payloads {
				all = append(all, told{uuid.UUID{15: byte(i + 1)}, []byte(p)})
			}
			for range 3 { // every attempt sends the same
				got, err := render(tt.form, tt.batch, all)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, string(got)); diff != "" {
					t.Errorf("body (-want +got):\n%s", diff)
				}
				if !json.Valid(got) {
					t.Errorf("no JSON: %s", got)
				}
			}
			for i, p := range tt.payloads {
				if string(all[i].payload) != p {
					t.Errorf("payload %d was changed to %s", i, all[i].payload)
				}
			}
		})
	}
}

func TestRenderRefusesWhatIsNoPayload(t *testing.T) {
	t.Parallel()
	const whole = `{"event":"e","user_id":"u","data":{},"timestamp":"t"}`
	for name, tt := range map[string]struct {
		form     string
		batch    bool
		payloads []string
	}{
		"nothing":                {endpoint.FormMemrelay, false, nil},
		"a batch of nothing":     {endpoint.FormMemrelay, true, nil},
		"two without a batch":    {endpoint.FormMemrelay, false, []string{whole, whole}},
		"a batch with no JSON":   {endpoint.FormMemrelay, true, []string{whole, `{"event":`}},
		"a batch with a stray":   {endpoint.FormMemrelay, true, []string{`1,2`}},
		"no JSON":                {endpoint.FormStandard, false, []string{`{"event":`}},
		"an array":               {endpoint.FormStandard, false, []string{`[]`}},
		"null":                   {endpoint.FormStandard, false, []string{`null`}},
		"no event":               {endpoint.FormStandard, false, []string{`{"user_id":"u","data":{},"timestamp":"t"}`}},
		"an event in capitals":   {endpoint.FormStandard, false, []string{`{"Event":"e","user_id":"u","data":{},"timestamp":"t"}`}},
		"no timestamp":           {endpoint.FormStandard, false, []string{`{"event":"e","user_id":"u","data":{}}`}},
		"no user":                {endpoint.FormStandard, false, []string{`{"event":"e","data":{},"timestamp":"t"}`}},
		"no data":                {endpoint.FormStandard, false, []string{`{"event":"e","user_id":"u","timestamp":"t"}`}},
		"data that is null":      {endpoint.FormStandard, false, []string{`{"event":"e","user_id":"u","data":null,"timestamp":"t"}`}},
		"data that is a text":    {endpoint.FormStandard, false, []string{`{"event":"e","user_id":"u","data":"x","timestamp":"t"}`}},
		"the second of a batch":  {endpoint.FormStandard, true, []string{whole, `{}`}},
		"something that follows": {endpoint.FormStandard, false, []string{whole + whole}},
	} {
		var all []told
		for _, p := range tt.payloads {
			all = append(all, told{payload: []byte(p)})
		}
		if got, err := render(tt.form, tt.batch, all); !errors.Is(err, errPayload) || got != nil {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
}
