package inbound

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var updateWant = flag.Bool("update", false, "rewrite the expected results in testdata")

const (
	typeJSON      = "application/json"
	typeForm      = "application/x-www-form-urlencoded"
	typeMultipart = "multipart/form-data; boundary=XbX"
)

// TestParsePayloads reads the payloads of testdata and compares with the .want
// files beside them; -update rewrites those.
func TestParsePayloads(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, file, contentType string
	}{
		{"Zoho tells of a change and its values", "notification_update.json", typeJSON},
		{"Zoho tells of a new record, without fields and token", "notification_insert.json", typeJSON},
		{"Zoho tells of a deletion, with values", "notification_delete.json", typeJSON},
		{"each id of a notification is an event with its own fields and values", "notification_several.json", typeJSON},
		{"each record of data is an event", "record_several.json", typeJSON},
		{"one record without anything else is an update of an account", "record_bare.json", typeJSON},
		{"ids beyond what a float64 holds keep their digits", "record_big_ids.json", typeJSON},
		{"the generic form has its own names", "generic.json", typeJSON},
		{"the event type names the module where nothing else does", "generic_bare.json", typeJSON},
		{"the fields of a form are the fields of a record", "workflow.form", typeForm},
		{"a form may hold JSON in its fields", "workflow_data.form", typeForm},
		{"a multipart form is a form", "workflow.multipart", typeMultipart},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			body, err := os.ReadFile(filepath.Join("testdata", tc.file))
			if err != nil {
				t.Fatal(err)
			}
			n, err := parse(tc.contentType, body, 1000)
			if err != nil {
				t.Fatal(err)
			}
			compareWithFile(t, filepath.Join("testdata", tc.file+".want"), show(n))
		})
	}
}

func compareWithFile(t *testing.T, file, got string) {
	t.Helper()
	if *updateWant {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// show writes a notification out for people, the records byte by byte.
func show(n Notification) string {
	var b strings.Builder
	fmt.Fprintf(&b, "shape %s\nchannel %q\ntoken %q\n", n.Shape, n.ChannelID, string(n.Token))
	for _, p := range n.Events {
		fmt.Fprintf(&b, "\n%s of %s %s\n", p.Operation, p.Module, p.RecordID)
		fmt.Fprintf(&b, "by %q\nfields %q\nat %s\nrecord %s\n", p.UserID, p.ModifiedFields, showTime(p.OccurredAt), p.Record)
	}
	return b.String()
}

func showTime(t time.Time) string {
	if t.IsZero() {
		return "no time"
	}
	return t.Format("2006-01-02T15:04:05.000Z07:00")
}

// event is one record of a body of which only what differs from the default matters.
func event(change func(*Parsed)) Parsed {
	p := Parsed{Module: "Accounts", Operation: opUpdate, RecordID: "7", Record: json.RawMessage(`{}`)}
	change(&p)
	return p
}

func record(s string) func(*Parsed) {
	return func(p *Parsed) { p.Record = json.RawMessage(s) }
}

func TestParse(t *testing.T) {
	t.Parallel()
	one := event(record(`{"id":"7"}`))
	nine := strings.Repeat("9", 255)
	for _, tc := range []struct {
		name  string
		body  string
		shape Shape
		want  []Parsed
	}{
		{"an object in place of the array is one record", `{"data":{"id":"7"}}`, ShapeRecord, []Parsed{one}},
		{"space and line breaks mean nothing", " \r\n\t{ \"data\" : [ { \"id\" : \"7\" } ] } \n", ShapeRecord, []Parsed{event(record(`{ "id" : "7" }`))}},
		{"a byte order mark is skipped", "\ufeff" + `{"data":{"id":"7"}}`, ShapeRecord, []Parsed{one}},
		{"names may be written with escapes", `{"d\u0061ta":{"\u0069d":"7"}}`, ShapeRecord, []Parsed{event(record(`{"\u0069d":"7"}`))}},
		{"of a name that stands twice the last holds", `{"data":{"id":"8"},"data":{"id":"6","id":"7"}}`, ShapeRecord, []Parsed{event(record(`{"id":"6","id":"7"}`))}},
		{"names are matched with their case", `{"Data":{"id":"1"},"data":{"ID":"8","id":"7","Id":"9"}}`, ShapeRecord, []Parsed{event(record(`{"ID":"8","id":"7","Id":"9"}`))}},
		{"an id of a nested object is not the record's", `{"data":{"Owner":{"id":"1"},"id":"7","Tags":[{"id":"2"}]}}`, ShapeRecord, []Parsed{event(record(`{"Owner":{"id":"1"},"id":"7","Tags":[{"id":"2"}]}`))}},
		{"brackets in text are text", `{"data":{"a":"}]\"{[","id":"7"}}`, ShapeRecord, []Parsed{event(record(`{"a":"}]\"{[","id":"7"}`))}},
		{"null is the same as none", `{"operation":null,"module":null,"modified_fields":null,"user":null,"server_time":null,"ids":null,"record_data":null,"data":{"id":"7"}}`, ShapeRecord, []Parsed{one}},
		{"empty text is the same as none", `{"operation":"","module":" ","modified_fields":"","user":"","server_time":"","data":{"id":"7"}}`, ShapeRecord, []Parsed{one}},
		{"other members mean nothing", `{"version":2,"nested":{"data":[]},"data":{"id":"7"}}`, ShapeRecord, []Parsed{one}},
		{"space around ids and names is not part of them", `{"module":" contacts ","operation":" Edit ","data":{"id":" 7 "}}`, ShapeRecord, []Parsed{event(func(p *Parsed) { p.Module, p.Record = "Contacts", json.RawMessage(`{"id":" 7 "}`) })}},
		{"an id of 255 bytes is accepted", `{"data":{"id":` + nine + `}}`, ShapeRecord, []Parsed{event(func(p *Parsed) { p.RecordID, p.Record = nine, json.RawMessage(`{"id":`+nine+`}`) })}},
		{"an id may be written with escapes", `{"record_id":"\u0037"}`, ShapeGeneric, []Parsed{event(func(*Parsed) {})}},
		{"an id may be a number", `{"data":{"id":7}}`, ShapeRecord, []Parsed{event(record(`{"id":7}`))}},
		{"an escaped backslash before u0000 is no NUL", `{"data":{"id":"7","a":"\\u0000"}}`, ShapeRecord, []Parsed{event(record(`{"id":"7","a":"\\u0000"}`))}},
		{"a pair of surrogates is a character", `{"data":{"id":"7","a":"\ud83d\uDE00"}}`, ShapeRecord, []Parsed{event(record(`{"id":"7","a":"\ud83d\uDE00"}`))}},
		{"a number of many digits is kept", `{"data":{"id":"7","a":-12345678901234567890.123e+100}}`, ShapeRecord, []Parsed{event(record(`{"id":"7","a":-12345678901234567890.123e+100}`))}},
		{"the largest and the smallest numbers are kept", `{"data":{"id":"7","a":[1.7e308,` + strings.Repeat("9", 300) + `,5e-324,1e-999]}}`, ShapeRecord, []Parsed{event(record(`{"id":"7","a":[1.7e308,` + strings.Repeat("9", 300) + `,5e-324,1e-999]}`))}},
		{"an unknown module is kept as sent", `{"module":"My_Module","data":{"id":"7"}}`, ShapeRecord, []Parsed{event(func(p *Parsed) { p.Module, p.Record = "My_Module", one.Record })}},
		{"server_time is read in every shape", `{"server_time":1718117126473,"data":{"id":"7"}}`, ShapeRecord, []Parsed{event(func(p *Parsed) { p.OccurredAt, p.Record = time.UnixMilli(1718117126473).UTC(), one.Record })}},
		{"server_time may be text", `{"server_time":" 1718117126473 ","record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.OccurredAt = time.UnixMilli(1718117126473).UTC() })}},
		{"server_time may be written as a double", `{"server_time":1.718117126473E12,"record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.OccurredAt = time.UnixMilli(1718117126473).UTC() })}},
		{"the first moment of 2000 is accepted", `{"server_time":946684800000,"record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.OccurredAt = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) })}},
		{"the last moment of 2099 is accepted", `{"server_time":4102444799999,"record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.OccurredAt = time.Date(2099, 12, 31, 23, 59, 59, 999e6, time.UTC) })}},
		{"modified fields may be text with commas", `{"modified_fields":"Phone, ,Email,","record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.ModifiedFields = []string{"Phone", "Email"} })}},
		{"empty modified fields are left out", `{"modified_fields":["", "Phone", null],"record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.ModifiedFields = []string{"Phone"} })}},
		{"user may be the id itself", `{"user":12,"user_id":"3","record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.UserID = "12" })}},
		{"a user without an id gives way to user_id", `{"user":{"name":"x"},"user_id":3,"record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.UserID = "3" })}},
		{"a user with an id of null gives way as well", `{"user":{"id":null},"user_id":"3","record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.UserID = "3" })}},
		{"the id of a record is enough for the generic form", `{"record_id":7}`, ShapeGeneric, []Parsed{event(func(*Parsed) {})}},
		{"record_id goes before the id of the data", `{"record_id":"7","record_data":{"id":"8"}}`, ShapeGeneric, []Parsed{event(record(`{"id":"8"}`))}},
		{"record_data may hold the id", `{"event_type":"update","record_data":{"id":"7"}}`, ShapeGeneric, []Parsed{one}},
		{"empty record_data beside a record_id is no data", `{"record_id":"7","record_data":[]}`, ShapeGeneric, []Parsed{event(func(*Parsed) {})}},
		{"several records have their own ids", `{"record_id":"1","data":[{"id":"7"},{"id":"8"}]}`, ShapeRecord, []Parsed{one, event(func(p *Parsed) { p.RecordID, p.Record = "8", json.RawMessage(`{"id":"8"}`) })}},
		{"in the generic form the event type is the operation", `{"event_type":"deleted","operation":"update","record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.Operation = opDelete })}},
		{"in the record form it is where there is no other", `{"event_type":"contact.deleted","operation":"","data":{"id":"7"}}`, ShapeRecord, []Parsed{event(func(p *Parsed) { p.Module, p.Operation, p.Record = "Contacts", opDelete, one.Record })}},
		{"module goes before the word in the event type", `{"event_type":"contact.deleted","module":"deal","record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.Module, p.Operation = "Deals", opDelete })}},
		{"only the word before the operation names the module", `{"event_type":"crm.contact. created","record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.Module, p.Operation = "Contacts", opCreate })}},
		{"no word before the operation names none", `{"event_type":" .created","record_id":"7"}`, ShapeGeneric, []Parsed{event(func(p *Parsed) { p.Operation = opCreate })}},
		{"a notification may lack fields and values", `{"ids":["7"]}`, ShapeNotification, []Parsed{event(func(*Parsed) {})}},
		{"ids may be numbers", `{"ids":[7],"affected_values":[{"record_id":7,"values":{"a":1}}],"affected_fields":[{" 7 ":["a"]}]}`, ShapeNotification, []Parsed{event(func(p *Parsed) { p.ModifiedFields, p.Record = []string{"a"}, json.RawMessage(`{"a":1}`) })}},
		{"affected values of null are none", `{"ids":["7"],"affected_values":[{"record_id":"7","values":null},{"values":{}}],"affected_fields":[{"7":null}]}`, ShapeNotification, []Parsed{event(func(*Parsed) {})}},
		{"of affected values that come twice the last hold", `{"ids":["7"],"affected_values":[{"record_id":"7","values":{"a":1}},{"record_id":"7","values":{"b":2}}]}`, ShapeNotification, []Parsed{event(record(`{"b":2}`))}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, err := parse(typeJSON, []byte(tc.body), 1000)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Notification{Shape: tc.shape, Events: tc.want}, n); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseForms(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, contentType, body string
		shape                   Shape
		want                    Parsed
	}{
		{"JSON is JSON whatever the header says", typeForm, ` {"data":{"id":"7"}}`, ShapeRecord, event(record(`{"id":"7"}`))},
		{"a charset beside the type does not matter", typeForm + "; charset=UTF-8", "id=7\n", ShapeForm, event(record(`{"id":"7"}`))},
		{"a malformed charset does not either", typeForm + "; charset", "id=7", ShapeForm, event(record(`{"id":"7"}`))},
		{"record_id is not a field of the record", typeForm, "record_id=7&id=&a=1", ShapeForm, event(record(`{"a":"1","id":""}`))},
		{"record_id goes before id", typeForm, "record_id=7&id=8", ShapeForm, event(record(`{"id":"8"}`))},
		{"the operation alone with an id is enough", typeForm, "record_id=7&operation=RESTORE", ShapeForm, event(func(p *Parsed) { p.Operation = opRestore })},
		{"data is kept as it came", typeForm, `data={"id":"7","n":1.50}`, ShapeForm, event(record(`{"id":"7","n":1.50}`))},
		{"data may be an array", typeForm, `data=[{"id":"7"}]&a=1`, ShapeForm, event(record(`{"id":"7"}`))},
		{"fields beside data come before its own", typeForm, `data={"n":1}&id=7&n=2`, ShapeForm, event(record(`{"id":"7","n":"2","n":1}`))},
		{"fields beside empty data are the record", typeForm, `data={ }&id=7`, ShapeForm, event(record(`{"id":"7"}`))},
		{"empty data is none", typeForm, `data=&record_data=&id=7`, ShapeForm, event(record(`{"id":"7"}`))},
		{"of a field that comes twice the last holds", typeForm, `id=8&id=7&module=Deals&module=Tasks`, ShapeForm, event(func(p *Parsed) { p.Module, p.Record = "Tasks", json.RawMessage(`{"id":["8","7"]}`) })},
		{"modified fields that come twice are joined", typeForm, `id=7&modified_fields=a&modified_fields=b`, ShapeForm, event(func(p *Parsed) { p.ModifiedFields, p.Record = []string{"a", "b"}, json.RawMessage(`{"id":"7"}`) })},
		{"user may be the id itself", typeForm, `record_id=7&user=3`, ShapeForm, event(func(p *Parsed) { p.UserID = "3" })},
		{"a token is no field of a record", typeForm, `record_id=7&token=secret&channel_id=1&ids=1`, ShapeForm, event(func(*Parsed) {})},
		{"quoted-printable parts are decoded", typeMultipart, "--XbX\r\nContent-Disposition: form-data; name=id\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=37\r\n--XbX--", ShapeForm, event(record(`{"id":"7"}`))},
		{"parts without a name are left out", typeMultipart, "--XbX\r\nContent-Type: text/plain\r\n\r\nx\r\n--XbX\r\nContent-Disposition: form-data; name=id\r\n\r\n7\r\n--XbX--", ShapeForm, event(record(`{"id":"7"}`))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, err := parse(tc.contentType, []byte(tc.body), 1000)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Notification{Shape: tc.shape, Events: []Parsed{tc.want}}, n); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 128)
	data := func(fields string) string { return `{"data":{"id":"7",` + fields + `}}` }
	multipart := func(part string) string { return "--XbX\r\n" + part + "\r\n--XbX--" }
	for _, tc := range []struct {
		name, contentType, body string
		status                  int
		code, message           string
	}{
		{"an empty body", typeJSON, "", 400, "invalid_json", "the body is empty"},
		{"a body of a byte order mark", typeJSON, "\ufeff", 400, "invalid_json", "the body is empty"},
		{"a body of space", typeJSON, " \n", 400, "invalid_json", "the body is not JSON"},
		{"a body that ends early", typeJSON, `{"data":[`, 400, "invalid_json", "the body is not JSON"},
		{"something after the JSON", typeJSON, `{"data":{"id":"7"}} {}`, 400, "invalid_json", "the body is not JSON"},
		{"a form that says it is JSON", typeJSON, "id=7", 400, "invalid_json", "the body is not JSON"},
		{"a type that cannot be read", "/", "id=7", 400, "invalid_json", "the body is not JSON"},
		{"a control character in text", typeJSON, data("\"a\":\"\x01\""), 400, "invalid_json", "the body is not JSON"},
		{"text that is not UTF-8", typeJSON, data("\"a\":\"\xff\""), 400, "invalid_json", "the body is not UTF-8"},
		{"UTF-8 of a surrogate", typeJSON, data("\"a\":\"\xed\xa0\x80\""), 400, "invalid_json", "the body is not UTF-8"},
		{"UTF-16", typeJSON, "\xff\xfe{\x00}\x00", 400, "invalid_json", "the body is not UTF-8"},
		{"a NUL in a value", typeJSON, data(`"a":"x\u0000"`), 400, "invalid_json", `the body has an escape that is no character (\u0000 or half a surrogate pair) at byte 24`},
		{"a NUL in a name", typeJSON, data(`"\u0000":1`), 400, "invalid_json", "at byte 19"},
		{"a NUL after an escaped backslash", typeJSON, data(`"a":"\\\u0000"`), 400, "invalid_json", "at byte 25"},
		{"a NUL far from all that is read", typeJSON, `{"data":{"id":"7"},"x":[{"y":"\u0000"}]}`, 400, "invalid_json", "at byte 30"},
		{"half a pair in a value", typeJSON, data(`"a":"\ud800"`), 400, "invalid_json", "half a surrogate pair"},
		{"half a pair in a name", typeJSON, data(`"\uDBFF":1`), 400, "invalid_json", "half a surrogate pair"},
		{"the other half alone", typeJSON, data(`"a":"\udc00"`), 400, "invalid_json", "half a surrogate pair"},
		{"the halves in the wrong order", typeJSON, data(`"a":"\udc00\ud800"`), 400, "invalid_json", "half a surrogate pair"},
		{"two first halves", typeJSON, data(`"a":"\ud800\ud800"`), 400, "invalid_json", "half a surrogate pair"},
		{"half a pair before another escape", typeJSON, data(`"a":"\ud800\n"`), 400, "invalid_json", "half a surrogate pair"},
		{"half a pair before an escape and letters that look like the rest", typeJSON, data(`"a":"\ud800\ndc00"`), 400, "invalid_json", "half a surrogate pair"},
		{"half a pair before a letter", typeJSON, data(`"a":"\ud800u"`), 400, "invalid_json", "half a surrogate pair"},
		{"half a pair in an id", typeJSON, `{"ids":["\ud800"]}`, 400, "invalid_json", "half a surrogate pair"},
		{"nesting deeper than a hundred", typeJSON, data(`"a":` + strings.Repeat("[", 99) + strings.Repeat("]", 99)), 400, "invalid_json", "the body is nested deeper than 100 at byte 120"},
		{"nesting deeper than the JSON reader goes", typeJSON, data(`"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000)), 400, "invalid_json", "exceeded max depth"},
		{"a number jsonb has no room for", typeJSON, data(`"a":1e131072`), 400, "invalid_json", "the body has a number out of range at byte 22"},
		{"a number too small for jsonb", typeJSON, data(`"a":-1E-16384`), 400, "invalid_json", "number out of range"},
		{"a number beyond float64", typeJSON, data(`"a":1.8e308`), 400, "invalid_json", "number out of range"},
		{"a number of more than three hundred digits", typeJSON, data(`"a":[` + strings.Repeat("1", 301) + `]`), 400, "invalid_json", "number out of range"},
		{"an array", typeJSON, `[{"data":{"id":"7"}}]`, 400, "unknown_shape", "the body is not a JSON object"},
		{"a number", typeJSON, ` 7`, 400, "unknown_shape", "the body is not a JSON object"},
		{"text", typeJSON, `"data"`, 400, "unknown_shape", "the body is not a JSON object"},
		{"null", typeJSON, `null`, 400, "unknown_shape", "the body is not a JSON object"},
		{"an object without members", typeJSON, `{}`, 400, "unknown_shape", "the body has none of data,"},
		{"an object of another shape", typeJSON, `{"module":"Accounts","id":"7"}`, 400, "unknown_shape", "the body has none of data,"},
		{"an object with nothing but null", typeJSON, `{"data":null,"ids":null,"record_id":null}`, 400, "unknown_shape", "the body has none of data,"},
		{"data that is text", typeJSON, `{"data":"7"}`, 400, "unknown_shape", "data is neither an object nor an array of objects"},
		{"data that is a number", typeJSON, `{"data":7}`, 400, "unknown_shape", "data is neither"},
		{"a record that is null", typeJSON, `{"data":[{"id":"7"},null]}`, 400, "unknown_shape", "data holds at index 1 something that is not an object"},
		{"record_data that is text", typeJSON, `{"record_id":"7","record_data":"x"}`, 400, "unknown_shape", "record_data is neither"},
		{"an operation that is a number", typeJSON, `{"operation":1,"data":{"id":"7"}}`, 400, "unknown_shape", "operation is not text"},
		{"an event type that is an object", typeJSON, `{"event_type":{},"record_id":"7"}`, 400, "unknown_shape", "event_type is not text"},
		{"a module that is an array", typeJSON, `{"module":[],"data":{"id":"7"}}`, 400, "unknown_shape", "module is not text"},
		{"an id that is no whole number", typeJSON, `{"data":[{"id":"7"},{"id":7.5}]}`, 400, "unknown_shape", "data[1].id is neither text nor an integer"},
		{"an id with an exponent", typeJSON, `{"data":{"id":5e18}}`, 400, "unknown_shape", "data[0].id is neither"},
		{"an id that is true", typeJSON, `{"record_id":true}`, 400, "unknown_shape", "record_id is neither"},
		{"an id that is an object", typeJSON, `{"ids":[{"id":"7"}]}`, 400, "unknown_shape", "ids[0] is neither"},
		{"a user that is an array", typeJSON, `{"user":["1"],"record_id":"7"}`, 400, "unknown_shape", "user is neither"},
		{"a user_id that is false", typeJSON, `{"user_id":false,"record_id":"7"}`, 400, "unknown_shape", "user_id is neither"},
		{"modified fields that are an object", typeJSON, `{"modified_fields":{},"record_id":"7"}`, 400, "unknown_shape", "modified_fields is neither"},
		{"a modified field that is a number", typeJSON, `{"modified_fields":[1],"record_id":"7"}`, 400, "unknown_shape", "modified_fields holds something that is not text"},
		{"a server_time that is true", typeJSON, `{"server_time":true,"record_id":"7"}`, 400, "unknown_shape", "server_time is not a number of milliseconds"},
		{"a server_time for people", typeJSON, `{"server_time":"2026-08-01T10:00:00Z","record_id":"7"}`, 400, "unknown_shape", "server_time is not"},
		{"a server_time in hex", typeJSON, `{"server_time":"0x1p40","record_id":"7"}`, 400, "unknown_shape", "server_time is not"},
		{"ids that are text", typeJSON, `{"ids":"7"}`, 400, "unknown_shape", "ids is not an array"},
		{"a token that is a number", typeJSON, `{"ids":["7"],"token":1}`, 400, "unknown_shape", "token is not text"},
		{"a channel that is an object", typeJSON, `{"ids":["7"],"channel_id":{}}`, 400, "unknown_shape", "channel_id is neither"},
		{"affected fields that are text", typeJSON, `{"ids":["7"],"affected_fields":"x"}`, 400, "unknown_shape", "affected_fields is neither"},
		{"affected fields of names without an id", typeJSON, `{"ids":["7"],"affected_fields":["x"]}`, 400, "unknown_shape", "affected_fields holds at index 0"},
		{"affected fields that are a number", typeJSON, `{"ids":["7"],"affected_fields":[{"7":[]},{"7":1}]}`, 400, "unknown_shape", "affected_fields[1] is neither"},
		{"affected values that are text", typeJSON, `{"ids":["7"],"affected_values":"x"}`, 400, "unknown_shape", "affected_values is neither"},
		{"affected values of a number", typeJSON, `{"ids":["7"],"affected_values":[{"record_id":"7","values":1}]}`, 400, "unknown_shape", "affected_values[0].values is not an object"},
		{"affected values of a record that is true", typeJSON, `{"ids":["7"],"affected_values":[{"record_id":true}]}`, 400, "unknown_shape", "affected_values[0].record_id is neither"},
		{"more records than the limit", typeJSON, `{"data":[{"id":"1"},{"id":"2"},{"id":"3"},{"id":"4"}]}`, 413, "too_many_records", "data holds more than 3 records"},
		{"more ids than the limit", typeJSON, `{"ids":["1","2","3","4"]}`, 413, "too_many_records", "ids holds more than 3 records"},
		{"an operation that is none", typeJSON, `{"operation":"upsert","data":{"id":"7"}}`, 422, "unknown_operation", `operation "upsert" is none of create, update, delete and restore`},
		{"an event type that ends in a dot", typeJSON, `{"event_type":"account.","record_id":"7"}`, 422, "unknown_operation", `event_type "account." is none`},
		{"an operation with something behind it", typeJSON, `{"operation":"delete.account","ids":["7"]}`, 422, "unknown_operation", `operation "delete.account"`},
		{"no record", typeJSON, `{"data":[]}`, 422, "empty_data", "data holds no record"},
		{"an operation without data", typeJSON, `{"operation":"update","data":null}`, 422, "empty_data", "data holds no record"},
		{"no id", typeJSON, `{"ids":[],"channel_id":"1"}`, 422, "empty_data", "ids holds no record"},
		{"a channel without ids", typeJSON, `{"channel_id":"1","operation":"update"}`, 422, "empty_data", "ids is missing"},
		{"a record without an id", typeJSON, `{"data":[{"id":"7"},{"Id":"8"}]}`, 422, "missing_record_id", "data[1].id is missing or empty"},
		{"an id of null", typeJSON, `{"data":{"id":null}}`, 422, "missing_record_id", "data[0].id is missing"},
		{"an id of space", typeJSON, `{"ids":["7"," "]}`, 422, "missing_record_id", "ids[1] is missing"},
		{"an event type without a record", typeJSON, `{"event_type":"update"}`, 422, "missing_record_id", "record_id is missing"},
		{"record_data without an id", typeJSON, `{"record_data":{"a":1}}`, 422, "missing_record_id", "record_id is missing"},
		{"an id longer than 255 bytes", typeJSON, `{"data":{"id":"` + long + `"}}`, 422, "id_too_long", "data[0].id is longer than 255 bytes"},
		{"an id of more than 255 digits", typeJSON, `{"ids":[` + strings.Repeat("1", 256) + `]}`, 422, "id_too_long", "ids[0] is longer"},
		{"a user's id that is too long", typeJSON, `{"user":{"id":"` + long + `"},"record_id":"7"}`, 422, "id_too_long", "user is longer"},
		{"a channel's id that is too long", typeJSON, `{"channel_id":"` + long + `","ids":["7"]}`, 422, "id_too_long", "channel_id is longer"},
		{"a module longer than 255 bytes", typeJSON, `{"module":"` + long + `","record_id":"7"}`, 422, "module_too_long", "module is longer than 255 bytes"},
		{"a module in the event type that is too long", typeJSON, `{"event_type":"` + long + `.update","record_id":"7"}`, 422, "module_too_long", "module is longer"},
		{"a time in seconds", typeJSON, `{"server_time":1718117126,"record_id":"7"}`, 422, "time_out_of_range", "server_time is before 2000"},
		{"the last moment of 1999", typeJSON, `{"server_time":946684799999,"record_id":"7"}`, 422, "time_out_of_range", "server_time is before 2000"},
		{"the first moment of 2100", typeJSON, `{"server_time":"4102444800000","record_id":"7"}`, 422, "time_out_of_range", "server_time is before 2000"},
		{"a time beyond int64", typeJSON, `{"server_time":99999999999999999999,"record_id":"7"}`, 422, "time_out_of_range", "server_time is before 2000"},
		{"a time near the end of float64", typeJSON, `{"server_time":1e308,"record_id":"7"}`, 422, "time_out_of_range", "server_time is before 2000"},
		{"a time that int64 would turn round", typeJSON, `{"server_time":1e30,"record_id":"7"}`, 422, "time_out_of_range", "server_time is before 2000"},
		{"a form with a broken escape", typeForm, "id=%zz", 400, "invalid_form", "the form is malformed"},
		{"a form with semicolons", typeForm, "id=7;a=1", 400, "invalid_form", "the form is malformed"},
		{"a form with a NUL", typeForm, "id=7&a=%00", 400, "invalid_form", `the form field "a" is not UTF-8 or holds a NUL`},
		{"a form with a NUL in a name", typeForm, "id=7&a%00=1", 400, "invalid_form", `the form field "a\x00" is`},
		{"a form that is not UTF-8", typeForm, "id=7&a=%ff", 400, "invalid_form", `the form field "a" is not UTF-8`},
		{"a multipart form without a boundary", "multipart/form-data", multipart(""), 400, "invalid_form", "boundary"},
		{"a multipart form with another boundary", "multipart/form-data; boundary=y", multipart(""), 400, "invalid_form", "boundary"},
		{"a multipart form that ends early", typeMultipart, "--XbX\r\nContent-Disposition: form-data; name=id\r\n\r\n7", 400, "invalid_form", "ends early"},
		{"a multipart form whose header is none", typeMultipart, multipart(strings.Repeat("x", 2000) + "\r\n\r\n7"), 400, "invalid_form", "malformed"},
		{"JSON in a form that is none", typeForm, `data={"id":}`, 400, "invalid_json", "the form field data is not JSON"},
		{"JSON in a form with a NUL", typeForm, `record_data={"id":"\u0000"}`, 400, "invalid_json", "the form field record_data has an escape"},
		{"modified fields in a form that are half an array", typeForm, `id=7&modified_fields=["a"`, 400, "invalid_json", "the form field modified_fields is not JSON"},
		{"data in a form that is text", typeForm, `data=7`, 400, "unknown_shape", "data is neither"},
		{"an empty form", typeForm, "", 400, "unknown_shape", "the form has none of id,"},
		{"a form of another shape", typeForm, "a=1&module=Accounts", 400, "unknown_shape", "the form has none of id,"},
		{"a multipart form without a field", typeMultipart, multipart(""), 400, "invalid_form", "no field"},
		{"a form without an id", typeForm, "operation=update&Phone=1", 422, "missing_record_id", "record_id is missing or empty"},
		{"a form whose data holds no record", typeForm, "data=[]", 422, "empty_data", "data holds no record"},
		{"a form with more records than the limit", typeForm, `data=[{"id":1},{"id":2},{"id":3},{"id":4}]`, 413, "too_many_records", "data holds more than 3 records"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n, err := parse(tc.contentType, []byte(tc.body), 3)
			r := asRefusal(t, err)
			if r.Status != tc.status || r.Code != tc.code || !strings.Contains(r.Message, tc.message) {
				t.Errorf("got %d %s: %s\nwant %d %s: …%s…", r.Status, r.Code, r.Message, tc.status, tc.code, tc.message)
			}
			if len(n.Events) > 0 {
				t.Errorf("a refused body has %d events", len(n.Events))
			}
		})
	}
}

func asRefusal(t *testing.T, err error) refusal {
	t.Helper()
	var r refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if err.Error() != r.Message {
		t.Errorf("the error reads %q, want the message %q", err, r.Message)
	}
	return r
}

func TestParseAcceptsNestingOfAHundred(t *testing.T) {
	t.Parallel()
	body := `{"data":{"id":"7","a":` + strings.Repeat("[", 98) + strings.Repeat("]", 98) + `}}`
	if _, err := parse(typeJSON, []byte(body), 1); err != nil {
		t.Error(err)
	}
}

func TestParseRefusesTenThousandRecords(t *testing.T) {
	t.Parallel()
	ids := strings.Repeat(`"7",`, 9999) + `"7"`
	data := strings.Repeat(`{"id":"7"},`, 9999) + `{"id":"7"}`
	for _, body := range []string{`{"ids":[` + ids + `]}`, `{"data":[` + data + `]}`} {
		_, err := parse(typeJSON, []byte(body), 1000)
		if r := asRefusal(t, err); r.Code != "too_many_records" {
			t.Errorf("got %v", r)
		}
		n, err := parse(typeJSON, []byte(body), 10000)
		if err != nil || len(n.Events) != 10000 {
			t.Errorf("got %d events, %v, want all where the limit allows them", len(n.Events), err)
		}
	}
}

// One list of fields for a thousand records is stored a thousand times.
func TestParseRefusesWhatUnfoldsTooFar(t *testing.T) {
	t.Parallel()
	fields := strings.Repeat(`"a_field_of_a_record",`, 1000) + `"b"`
	data := strings.Repeat(`{"id":"7"},`, 999) + `{"id":"7"}`
	ids := strings.Repeat(`"7",`, 999) + `"7"`
	for name, body := range map[string]string{
		"modified fields": `{"modified_fields":[` + fields + `],"data":[` + data + `]}`,
		"affected fields": `{"affected_fields":[{"7":[` + fields + `]}],"ids":[` + ids + `]}`,
		"affected values": `{"affected_values":[{"record_id":"7","values":{"a":"` + strings.Repeat("x", 5000) + `"}}],"ids":[` + ids + `]}`,
	} {
		n, err := parse(typeJSON, []byte(body), 1000)
		if r := asRefusal(t, err); r.Status != 413 || r.Code != "too_many_fields" || n.Events != nil {
			t.Errorf("%s: got %v and %d events", name, r, len(n.Events))
		}
	}
	if _, err := parse(typeJSON, []byte(`{"modified_fields":[`+fields+`],"data":{"id":"7"}}`), 1000); err != nil {
		t.Errorf("for one record: %v", err)
	}
}

func TestParseRepeatsLittleOfTheInput(t *testing.T) {
	t.Parallel()
	_, err := parse(typeJSON, []byte(`{"operation":"`+strings.Repeat("é", 65)+`","data":{"id":"7"}}`), 1)
	if got := strings.Count(asRefusal(t, err).Message, "é"); got != 64 {
		t.Errorf("the message repeats %d characters, want 64", got)
	}
	_, err = parse(typeForm, []byte(strings.Repeat("e", 65)+"=%00"), 1)
	if got := strings.Count(asRefusal(t, err).Message, "e"); got > 64+len("the form field") {
		t.Errorf("the message is %v", err)
	}
}

func TestParseSaysWhoSentWhatItRefuses(t *testing.T) {
	t.Parallel()
	n, err := parse(typeJSON, []byte(`{"ids":[],"channel_id":"1000000068001","token":" a token "}`), 1)
	_ = asRefusal(t, err)
	if diff := cmp.Diff(Notification{Shape: ShapeNotification, ChannelID: "1000000068001", Token: " a token "}, n); diff != "" {
		t.Error(diff)
	}
}

func TestParseTakesATokenOnlyFromZohosShape(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"data":{"id":"7"},"channel_id":"1","token":"a token"}`,
		`{"record_id":"7","channel_id":"1","token":"a token"}`,
	} {
		n, err := parse(typeJSON, []byte(body), 1)
		if err != nil || n.Token != "" || n.ChannelID != "" {
			t.Errorf("%s: got %#v, %v", body, n, err)
		}
	}
}

func TestTokenIsHidden(t *testing.T) {
	t.Parallel()
	n, err := parse(typeJSON, []byte(`{"ids":["7"],"token":"a token"}`), 1)
	if err != nil || string(n.Token) != "a token" {
		t.Fatalf("got %q, %v", string(n.Token), err)
	}
	var out bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("parsed", "token", n.Token, "notification", n, "pointer", &n)
	}
	fmt.Fprintf(&out, "%s %q %x %v %+v %#v %v\n", n.Token, n.Token, n.Token, n, n, n, &n)
	if err := json.NewEncoder(&out).Encode(n); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"a token", fmt.Sprintf("%x", "a token"), fmt.Sprint([]byte("a token"))} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the token shows as %s in\n%s", secret, out.String())
		}
	}
	if strings.Count(out.String(), hiddenToken) < 12 {
		t.Errorf("what is hidden does not show in\n%s", out.String())
	}
}

func TestParseDoesNotGrowIntoTheBody(t *testing.T) {
	t.Parallel()
	body := []byte(`{"data":[{"id":"7"},{"id":"8"}]}`)
	before := string(body)
	n, err := parse(typeJSON, body, 2)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(n.Events[0].Record, "overwritten"...)
	if string(body) != before {
		t.Errorf("the body became %s", body)
	}
}

func TestCanonicalOperation(t *testing.T) {
	t.Parallel()
	for want, words := range map[string]string{
		opCreate:  "create created insert inserted CREATE Inserted",
		opUpdate:  "update updated edit edited Update EDIT",
		opDelete:  "delete deleted Delete",
		opRestore: "restore restored RESTORED",
		"":        "upsert remove creates undelete",
	} {
		for word := range strings.FieldsSeq(words) {
			if got := canonicalOperation(word); got != want {
				t.Errorf("%s: got %q, want %q", word, got, want)
			}
		}
	}
}

func TestCanonicalModule(t *testing.T) {
	t.Parallel()
	for want, names := range map[string]string{
		"Accounts":   "Accounts accounts ACCOUNT Account",
		"Contacts":   "contacts contact",
		"Deals":      "deals Deal",
		"Tasks":      "TASKS task",
		"Notes":      "notes note",
		"Activities": "activities ACTIVITIES",
		"Events":     "events EVENTS",
		"Calls":      "calls call",
		"Meetings":   "meetings Meeting",
		"Leads":      "Leads",
		"leads":      "leads",
		"event":      "event",
	} {
		for name := range strings.FieldsSeq(names) {
			if got := canonicalModule(" " + name + "\n"); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	}
}
