package process

import (
	"encoding/json"
	"slices"
	"strings"
)

// Fields are a record's fields by Zoho's names, values as JSON.
type Fields map[string]json.RawMessage

// criticalFields are those of an account that an agent must not be wrong about
// even for the time of a debounce.
func criticalFields() []string {
	return []string{"Account_Status", "Health_Score", "Owner", "Annual_Revenue", "Account_Type", "Industry"}
}

// ownLane is the account id of a record that belongs to no account we know of.
func ownLane(module, recordID string) string { return "record:" + module + ":" + recordID }

// accountOf says which account a record belongs to by its own fields. known is
// false when they do not say, which is not the same as saying that there is none:
// then id is the record's own lane.
func accountOf(module, recordID string, f Fields) (id string, known bool) {
	switch module {
	case "Accounts":
		return recordID, true
	case "Contacts", "Deals":
		return linked(module, recordID, f, "Account_Name", false)
	case "Tasks", "Activities", "Events", "Calls", "Meetings":
		return linked(module, recordID, f, "What_Id", true)
	case "Notes":
		return linked(module, recordID, f, "Parent_Id", true)
	default:
		return "", false
	}
}

// linked reads a lookup field. When it may name records of any module, it counts
// only when the lookup or $se_module says that it is an account.
func linked(module, recordID string, f Fields, field string, anyModule bool) (id string, known bool) {
	raw, ok := f[field]
	if !ok {
		return "", false
	}
	if isNull(raw) {
		return ownLane(module, recordID), true
	}
	l := lookup(raw)
	if l.id == "" {
		return "", false
	}
	if !anyModule {
		return l.id, true
	}
	parent := l.module
	if parent == "" {
		_ = json.Unmarshal(f["$se_module"], &parent)
	}
	switch {
	case strings.EqualFold(parent, "Accounts"), strings.EqualFold(parent, "Account"):
		return l.id, true
	case parent == "":
		return "", false
	default:
		// It hangs on a deal or a contact, which we may not know or which may move:
		// only the record's own word decides, so that the order of events does not.
		return ownLane(module, recordID), true
	}
}

// parentOf is the id of what a task, an activity or a note hangs on, of whatever
// kind that is; "" when the fields do not say.
func parentOf(f Fields) string {
	for _, field := range []string{"What_Id", "Parent_Id"} {
		if l := lookup(f[field]); l.id != "" {
			return l.id
		}
	}
	return ""
}

type lookupValue struct{ id, name, module string }

// lookup reads Zoho's {"id","name"}, with the module as a name or as an object,
// or a bare id. A value of another shape has no id.
func lookup(raw json.RawMessage) lookupValue {
	var object struct {
		ID     json.RawMessage `json:"id"`
		Name   json.RawMessage `json:"name"`
		Module json.RawMessage `json:"module"`
	}
	if json.Unmarshal(raw, &object) != nil {
		// A merge field of a workflow webhook may be the name as well as the id;
		// Zoho's ids are digits.
		if id := scalar(raw); digits(id) {
			return lookupValue{id: id}
		}
		return lookupValue{}
	}
	l := lookupValue{id: scalar(object.ID), name: scalar(object.Name), module: scalar(object.Module)}
	if l.module == "" {
		var named struct {
			APIName string `json:"api_name"`
		}
		if json.Unmarshal(object.Module, &named) == nil {
			l.module = named.APIName
		}
	}
	return l
}

// scalar returns a string or a number as text, digits as they stand: ids are
// greater than a float can hold. Anything else is "".
func scalar(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String()
	}
	return ""
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// atOnce reports whether an event is not to wait for the debounce: everything
// but an account's update that touches no critical field.
func atOnce(module, operation string, modified []string) bool {
	if module != "Accounts" || operation != "update" {
		return true
	}
	critical := criticalFields()
	return slices.ContainsFunc(modified, func(field string) bool { return slices.Contains(critical, field) })
}
