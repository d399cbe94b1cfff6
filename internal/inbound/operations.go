package inbound

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/respond"
)

// What is sent to the doors. These are the fields that are looked at; what else there
// is, is kept.
type (
	// zohoBody is one of three shapes: data with operation and module, record_id with
	// record_data, or ids with channel_id and token. docs/webhooks-in.md has each of them.
	zohoBody struct {
		Operation  string            `json:"operation,omitempty"`  // create, insert, update, edit, delete or restore
		Module     string            `json:"module,omitempty"`     // as Zoho calls it: Contacts
		Data       any               `json:"data,omitempty"`       // a record or a list of them
		EventType  string            `json:"event_type,omitempty"` // as account.updated
		RecordID   string            `json:"record_id,omitempty"`
		RecordData map[string]any    `json:"record_data,omitempty"`
		IDs        []json.RawMessage `json:"ids,omitempty"`
		ChannelID  json.RawMessage   `json:"channel_id,omitempty"` // of Zoho's own notifications
		Token      string            `json:"token,omitempty"`      // proves Zoho's own notifications
	}
	// memoryBody is ours, Standard Webhooks' with type in place of event, or mem0's.
	memoryBody struct {
		Event        string         `json:"event,omitempty"`
		Type         string         `json:"type,omitempty"`
		UserID       string         `json:"user_id,omitempty"`
		Data         map[string]any `json:"data,omitempty"`
		EventDetails map[string]any `json:"event_details,omitempty"` // mem0's
	}
)

// Schemes are the ways to prove who sends a webhook.
func Schemes() map[string]*contract.SecurityScheme {
	header := func(name, means string) *contract.SecurityScheme {
		return &contract.SecurityScheme{Type: "apiKey", In: "header", Name: name, Description: means}
	}
	return map[string]*contract.SecurityScheme{
		"zoho_signature": header("X-Zoho-Signature", "Hex HMAC-SHA256 of the body as it is sent, keyed by WEBHOOK_SECRET; sha256= before it or not."),
		"webhook_token":  header("X-Webhook-Token", "WEBHOOK_TOKEN, or for /webhooks/memory MEM0_WEBHOOK_TOKEN; as Authorization: Bearer, too."),
		"webhook_signature": header("X-Webhook-Signature",
			"Hex HMAC-SHA256 of the body as it is sent, keyed by the secret as it is written; sha256= before it."),
		"standard_webhooks": header("webhook-signature",
			"v1, and the base64 HMAC-SHA256 of webhook-id, a dot, webhook-timestamp, a dot and the body: https://www.standardwebhooks.com."),
		"zoho_product": header("X-Zoho-Webhook-Signature", "As the product signs: docs/webhooks-in.md has each of them. Sign and Mail have headers of their own."),
	}
}

// Operations describes the doors.
func Operations() contract.Section {
	statuses := contract.OneOf(StatusAccepted, StatusDuplicate, StatusIgnored)
	return contract.Section{
		Name: "inbound", Title: "Webhooks that come in",
		Description: "What Zoho and other memory systems call. It is answered once everything is stored; a repeat takes effect once. docs/webhooks-in.md has the shapes.",
		Types: []contract.Type{
			{Of: zohoBody{}, Name: "ZohoWebhook"},
			{Of: memoryBody{}, Name: "MemoryWebhook"},
			{Of: Answer{}, Name: "WebhookAnswer", Fields: map[string]contract.Bound{"status": statuses}},
			{Of: EventStatus{}, Fields: map[string]contract.Bound{"status": statuses}},
			{Of: MemoryAnswer{}, Name: "MemoryWebhookAnswer", Fields: map[string]contract.Bound{
				"status": contract.OneOf("processed", StatusDuplicate), "action": contract.OneOf(ActionLogged, ActionQueued),
			}},
		},
		Operations: []contract.Operation{zohoOperation(), productOperation(), memoryOperation()},
	}
}

func zohoOperation() contract.Operation {
	return contract.Operation{
		ID: "receive_zoho", Method: "POST", Path: "/webhooks/zoho", Summary: "Take a webhook of Zoho CRM",
		Details: "Without a header that proves the sender, the token of a registered channel in the body does.",
		Proofs:  [][]string{{"zoho_signature"}, {"webhook_token"}, {}},
		Params:  []contract.Param{{Name: "X-Zoho-Event-Id", In: "header", Means: "The event's id, the same for each attempt to deliver it.", Schema: contract.Bounded("string", contract.Text(0, maxName))}},
		Body: &contract.Body{Of: zohoBody{}, Open: true, More: forms(), Examples: []contract.Example{
			{Name: "records", Value: `{"operation":"update","module":"Contacts","data":[{"id":"5725767000000499002","Last_Name":"Doe","Email":"jane@example.com"}]}`},
			{Name: "generic", Value: `{"event_type":"account.updated","module":"Accounts","record_id":"5725767000000524157","record_data":{"Account_Name":"Example Ltd"}}`},
			{Name: "notification", Value: `{"module":"Deals","operation":"update","ids":["5725767000000000001"],"channel_id":"1000000068001","token":"the-token-of-the-channel"}`},
		}},
		Answers: []contract.Answer{storedAnswer()},
		Problems: append(doorProblems(), faces(
			unauthorized(),
			refused(400, "invalid_form", "the form is malformed"), refused(400, "unknown_shape", "the body is not a JSON object"),
			refused(400, "invalid_event_id", "X-Zoho-Event-Id is not UTF-8 or holds a control character"),
			refused(413, "too_many_records", fmt.Sprintf("holds more than %d records", MaxRecords)),
			refused(413, "too_many_fields", "modified fields and values are more than 8388608 bytes in all"),
			refused(422, "missing_record_id", "record_id is missing or empty"), refused(422, "empty_data", "data holds no record"),
			refused(422, "unknown_operation", `operation "merge" is none of create, update, delete and restore`),
			refused(422, "module_too_long", "module is longer than 255 bytes"), refused(422, "id_too_long", "X-Zoho-Event-Id is longer than 255 bytes"),
			refused(422, "time_out_of_range", "server_time is before 2000 or after 2099"),
			refused(422, "not_storable", "the body holds what cannot be stored"),
		)...),
	}
}

func productOperation() contract.Operation {
	return contract.Operation{
		ID: "receive_zoho_product", Method: "POST", Path: "/webhooks/zoho/{product}", Summary: "Take a webhook of another product of Zoho's",
		Details: "It is kept on record, whatever it says. A product whose secret is not set is not there: 404.",
		Proofs:  [][]string{{"zoho_product"}},
		Params: []contract.Param{{
			Name: "product", In: "path", Means: "Which product sends.", Example: "billing",
			Schema: &jsonschema.Schema{Type: "string", Enum: []any{"payments", "billing", "books", "inventory", "sign", "mail"}},
		}},
		Body:     &contract.Body{More: forms(), Examples: []contract.Example{{Value: `{"event_id":"4711","event_type":"invoice.created"}`}}},
		Answers:  []contract.Answer{storedAnswer()},
		Problems: append(doorProblems(), faces(unsigned(nil), notFound())...),
	}
}

func memoryOperation() contract.Operation {
	return contract.Operation{
		ID: "receive_memory", Method: "POST", Path: "/webhooks/memory", Summary: "Take a webhook of another memory system",
		Details: "All that is configured must be proven: the token, a signature, or both.",
		Proofs:  [][]string{{"webhook_token"}, {"webhook_signature"}, {"standard_webhooks"}, {"webhook_token", "webhook_signature"}, {"webhook_token", "standard_webhooks"}},
		Params: []contract.Param{
			{Name: "webhook-id", In: "header", Means: "The webhook's id, the same for each attempt to deliver it.", Schema: contract.Bounded("string", contract.Text(0, maxName))},
			{Name: "webhook-timestamp", In: "header", Means: "When it was signed, in seconds since 1970.", Schema: &jsonschema.Schema{Type: "string"}},
		},
		Body: &contract.Body{Of: memoryBody{}, Open: true, Examples: []contract.Example{
			{Name: "memrelay", Value: `{"event":"memory_added","user_id":"user-42","data":{"result":{"id":"m-1","content":"Drinks tea","metadata":{}}},"timestamp":"2026-11-22T05:03:44Z"}`},
			{Name: "mem0", Value: `{"event_details":{"id":"m-1","data":{"memory":"Drinks tea"},"event":"ADD"}}`},
		}},
		Answers: []contract.Answer{{Status: 200, Means: "Stored.", Of: MemoryAnswer{}, Examples: []contract.Example{{Value: `{"status":"processed","action":"memory_logged"}`}}}},
		Problems: append(doorProblems(), faces(
			&respond.Error{Status: http.StatusUnauthorized, Code: "unauthorized", Message: "Nothing here proves who sent this: the token or the signature is missing or wrong."},
			refused(400, "invalid_event_id", "webhook-id is not UTF-8 or holds a control character"),
			refused(422, "unknown_shape", "the body is not a JSON object"), refused(422, "unknown_event", `event "x" is none that is known`),
			missing("event"), refused(422, "invalid_field", "data is not an object"), refused(422, "id_too_long", "webhook-id is longer than 255 bytes"),
			refused(422, "time_out_of_range", "timestamp is before 2000 or after 2099"), refused(422, "not_storable", "the body holds what cannot be stored"),
		)...),
	}
}

func storedAnswer() contract.Answer {
	return contract.Answer{Status: 200, Means: "Every event of the body is stored.", Of: Answer{}, Examples: []contract.Example{
		{Name: "accepted", Value: `{"status":"accepted","event_id":"evt-1","message":"1 of 1 events stored.","queued":true,"events":[{"event_id":"evt-1","status":"accepted"}]}`},
		{Name: "duplicate", Value: `{"status":"duplicate","event_id":"evt-1","message":"Stored before; a repeat changes nothing.","events":[{"event_id":"evt-1","status":"duplicate"}]}`},
	}}
}

func forms() []string { return []string{"application/x-www-form-urlencoded", "multipart/form-data"} }

// doorProblems are those that any door may answer.
func doorProblems() []*respond.Error {
	return append(contract.BodyProblems(MaxBody), faces(
		unavailable(errors.New("the database is away")), unavailable(group.ErrFull),
		&respond.Error{Status: http.StatusServiceUnavailable, Code: "backlog_full", RetryAfter: 5 * time.Second, Message: "Too many events wait to be worked. Nothing was stored; send this again later."},
	)...)
}

func refused(status int, code, message string) error {
	return refuse(status, code, "%s", message)
}

// faces are what a sender sees of errors.
func faces(all ...error) []*respond.Error {
	var shown []*respond.Error
	for _, err := range all {
		var face *respond.Error
		if errors.As(problemOf(err), &face) {
			shown = append(shown, face)
		}
	}
	return shown
}
