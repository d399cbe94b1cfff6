package inbound

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Notification is one body of /webhooks/zoho, whichever of the four shapes it
// came in. Its records share the memory of the body, which must not change as
// long as they are in use.
type Notification struct {
	Shape     Shape
	ChannelID string   // only in Zoho's own notifications
	Token     Token    // only in Zoho's own notifications
	Events    []Parsed // one per record, in the order of the body; never empty
}

// Parsed is what a body says about one record. All its text can be stored: it
// is UTF-8 and holds no NUL.
type Parsed struct {
	Module         string          // Zoho's API name, see canonicalModule
	Operation      string          // create, update, delete or restore
	RecordID       string          // 1 to 255 bytes
	UserID         string          // who changed it, "" when the body does not say
	ModifiedFields []string        // the names the body gives, nil when none; may be shared by all events
	OccurredAt     time.Time       // server_time, UTC; zero when the body carries none
	Record         json.RawMessage // the record's fields as an object, see parse; {} when the body carries none
}

// Shape is how a body is laid out.
type Shape string

// The shapes of a body. Only ShapeNotification is Zoho's own, described at
// https://www.zoho.com/crm/developer/docs/api/v7/notifications/enable.html;
// the others are what a person writes into a workflow webhook
// (https://www.zoho.com/crm/help/automation/webhooks.html) or a program sends.
const (
	ShapeRecord       Shape = "record"       // {"operation","module","data":[{…}]}
	ShapeGeneric      Shape = "generic"      // {"event_type","module","record_id","record_data"}
	ShapeNotification Shape = "notification" // {"operation","module","ids":[…],"channel_id","token"}
	ShapeForm         Shape = "form"         // the names of record or generic, form-encoded
)

// The operations of an event, as they are stored.
const (
	opCreate  = "create"
	opUpdate  = "update"
	opDelete  = "delete"
	opRestore = "restore"
)

// maxName bounds ids and names of modules, in bytes. They are indexed, and an
// index entry has little more than two kilobytes for all its columns.
const maxName = 255

// Token is the secret that a channel's notifications carry. It prints, logs and
// marshals as "[hidden]"; string(t) is the secret.
type Token string

const hiddenToken = "[hidden]"

// LogValue hides the token from logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(hiddenToken) }

// Format hides the token from package fmt, whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hiddenToken)) }

// MarshalText hides the token from JSON and its like.
func (t Token) MarshalText() ([]byte, error) { return []byte(hiddenToken), nil }

// parse reads the body of a webhook. The shape is told by the body: what begins
// as JSON is read as JSON whatever contentType says, since senders often get
// that header wrong; contentType decides only between the two encodings of
// forms. A UTF-8 byte order mark before the JSON is skipped. Names are matched
// exactly; of a name that stands twice the last value holds. A value of null
// is the same as none.
//
// The Record of an event holds the bytes of data or record_data as they came;
// in Zoho's own notifications those of the record's affected values; in a form
// an object made of the fields that have no meaning of their own.
//
// A body holds at most limit records. OccurredAt may be wrong by as much as the
// sender's clock is, also in the future: only what no clock shows is refused,
// and whoever orders events by it takes received_at where that is earlier.
//
// The error is always a refusal:
//
//	400 invalid_json       not JSON, or JSON that Postgres cannot keep
//	400 invalid_form       a form that cannot be decoded
//	400 unknown_shape      none of the four shapes, or a value of the wrong type
//	413 too_many_records   more than limit records
//	413 too_many_fields    more modified fields and values than maxUnfolded
//	422 unknown_operation  422 empty_data  422 missing_record_id
//	422 id_too_long        422 module_too_long
//	422 time_out_of_range  server_time before 2000 or after 2099
//
// With a refusal the Notification still holds the Shape, ChannelID and Token
// as far as they could be read, so that the caller can find out who is asking
// before it tells what was wrong.
func parse(contentType string, body []byte, limit int) (Notification, error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	var (
		e   envelope
		err error
	)
	if form := formType(contentType, body); form != nil {
		e, err = form.open(body)
	} else {
		e, err = openJSON(body)
	}
	if err != nil {
		return Notification{Shape: e.shape}, err
	}
	return e.read(limit)
}

// envelope holds the members of a body that have a meaning, as JSON; nil where
// the body has none or null.
type envelope struct {
	shape Shape

	operation, eventType   json.RawMessage
	module                 json.RawMessage
	data, recordData       json.RawMessage
	recordID               json.RawMessage
	user, userID           json.RawMessage
	modifiedFields         json.RawMessage
	serverTime             json.RawMessage
	ids                    json.RawMessage
	affectedFields, values json.RawMessage
	channelID, token       json.RawMessage
}

// member returns where the member called name is kept, nil if it has no meaning.
func (e *envelope) member(name string) *json.RawMessage {
	switch name {
	case "operation":
		return &e.operation
	case "event_type":
		return &e.eventType
	case "module":
		return &e.module
	case "data":
		return &e.data
	case "record_data":
		return &e.recordData
	case "record_id":
		return &e.recordID
	case "user":
		return &e.user
	case "user_id":
		return &e.userID
	case "modified_fields":
		return &e.modifiedFields
	case "server_time":
		return &e.serverTime
	case "ids":
		return &e.ids
	case "affected_fields":
		return &e.affectedFields
	case "affected_values":
		return &e.values
	case "channel_id":
		return &e.channelID
	case "token":
		return &e.token
	}
	return nil
}

func openJSON(body []byte) (envelope, error) {
	if len(body) == 0 {
		return envelope{}, refuse(400, "invalid_json", "the body is empty")
	}
	if err := checkJSON("the body", body); err != nil {
		return envelope{}, err
	}
	body = body[skipSpace(body, 0):]
	if body[0] != '{' {
		return envelope{}, refuse(400, "unknown_shape", "the body is not a JSON object")
	}
	var e envelope
	for name, value := range members(body) {
		if m := e.member(string(name)); m != nil {
			*m = nonNull(value)
		}
	}
	switch {
	case e.ids != nil:
		e.shape = ShapeNotification
	case e.data != nil:
		e.shape = ShapeRecord
	case e.eventType != nil || e.recordID != nil || e.recordData != nil:
		e.shape = ShapeGeneric
	case e.channelID != nil:
		e.shape = ShapeNotification
	case e.operation != nil:
		e.shape = ShapeRecord
	default:
		return e, refuse(400, "unknown_shape", "the body has none of data, record_id, record_data, event_type, ids and operation")
	}
	return e, nil
}

func nonNull(value json.RawMessage) json.RawMessage {
	if string(value) == "null" {
		return nil
	}
	return value
}

func (e *envelope) read(limit int) (Notification, error) {
	n := Notification{Shape: e.shape}
	if e.shape == ShapeNotification {
		if err := e.readSender(&n); err != nil {
			return n, err
		}
	}
	common, err := e.readCommon()
	if err != nil {
		return n, err
	}
	if e.shape == ShapeNotification {
		n.Events, err = e.readIDs(common, limit)
	} else {
		n.Events, err = e.readRecords(common, limit)
	}
	if err == nil {
		err = checkUnfolded(n.Events)
	}
	if err != nil {
		n.Events = nil
	}
	return n, err
}

// readSender sets what says which channel a notification came through.
func (e *envelope) readSender(n *Notification) error {
	token, err := readString(e.token)
	if err != nil {
		return at(err, "token")
	}
	n.Token = Token(token)
	n.ChannelID, err = readID(e.channelID)
	return at(err, "channel_id")
}

// readCommon reads what holds for all events of the body.
func (e *envelope) readCommon() (Parsed, error) {
	operation, prefix, err := e.readOperation()
	if err != nil {
		return Parsed{}, err
	}
	p := Parsed{Operation: operation}
	if p.Module, err = e.readModule(prefix); err != nil {
		return p, err
	}
	if p.UserID, err = e.readUser(); err != nil {
		return p, err
	}
	if p.ModifiedFields, err = readNames(e.modifiedFields); err != nil {
		return p, at(err, "modified_fields")
	}
	if p.OccurredAt, err = readTime(e.serverTime); err != nil {
		return p, at(err, "server_time")
	}
	return p, nil
}

// readOperation returns the operation, update where the body names none, and the
// "account" of "account.updated". Both names are looked at in every shape: to
// take a deletion for an update would be worse than to read a name of another
// shape.
func (e *envelope) readOperation() (operation, prefix string, err error) {
	names := []string{"operation", "event_type"}
	if e.shape == ShapeGeneric {
		slices.Reverse(names)
	}
	for _, name := range names {
		text, err := readText(*e.member(name))
		if err != nil {
			return "", "", at(err, "%s", name)
		}
		if text == "" {
			continue
		}
		if operation, prefix = splitOperation(text); operation == "" {
			err = refuse(422, "unknown_operation", "%s %s is none of create, update, delete and restore", name, quote(text))
		}
		return operation, prefix, err
	}
	return opUpdate, "", nil
}

// readModule returns the module; where the body names none, the one that stands
// before the operation in "Contacts.edit", and Accounts at last.
func (e *envelope) readModule(prefix string) (string, error) {
	module, err := readText(e.module)
	switch {
	case err != nil:
		return "", at(err, "module")
	case module == "" && prefix == "":
		return "Accounts", nil
	case module == "":
		module = prefix
	}
	if len(module) > maxName {
		return "", refuse(422, "module_too_long", "module is longer than %d bytes", maxName)
	}
	return canonicalModule(module), nil
}

// readUser returns the id in user, an object or the id itself, else user_id.
func (e *envelope) readUser() (string, error) {
	raw := e.user
	if len(raw) > 0 && raw[0] == '{' {
		raw = nonNull(find(raw, "id"))
	}
	id, err := readID(raw)
	if err != nil {
		return "", at(err, "user")
	}
	if id != "" {
		return id, nil
	}
	id, err = readID(e.userID)
	return id, at(err, "user_id")
}
