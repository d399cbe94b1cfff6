// Package memory is what agents remember. In go a record's fields and the
// change they make, out come memories as they are read and the webhooks that
// tell of a change.
package memory

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Memory is one thing remembered, as it is stored and shown.
type Memory struct {
	UserID   string
	Kind     string
	Content  string
	Metadata map[string]any // JSON values
}

// UserOfAccount is the user_id under which what belongs to an account is remembered.
func UserOfAccount(accountID string) string { return "zoho:" + accountID }

// Record is what is known of one of Zoho's records.
type Record struct {
	Module       string
	ID           string
	AccountID    string
	Fields       map[string]json.RawMessage
	ModifiedTime string   // RFC 3339, "" when not known
	Summary      []string // lines about what belongs to an account, as "Contacts: 3"
}

// sourceZoho is what the metadata of a record's memory says of where it is from.
const sourceZoho = "zoho"

// FromRecord makes the memory of a record: who or what it is in the first line,
// then a line per field. ok is false when nothing is known that is worth
// remembering, as after a notification that carries ids alone.
func FromRecord(r Record) (m Memory, ok bool) {
	lines := fieldLines(r.Fields)
	if len(lines) == 0 {
		return Memory{}, false
	}
	m = Memory{
		UserID:  UserOfAccount(r.AccountID),
		Kind:    kindOf(r.Module),
		Content: title(r) + "\n" + strings.Join(append(lines, r.Summary...), "\n"),
		Metadata: map[string]any{
			"source": sourceZoho, "module": r.Module, "record_id": r.ID, "account_id": r.AccountID,
		},
	}
	if r.ModifiedTime != "" {
		m.Metadata["modified_time"] = r.ModifiedTime
	}
	return m, true
}

// Checksum is equal for two memories that a reader cannot tell apart. The time of
// a record's modification is left out: that alone is no news.
func (m Memory) Checksum() [32]byte {
	metadata := maps.Clone(m.Metadata)
	if metadata["source"] == sourceZoho {
		delete(metadata, "modified_time")
	}
	sum := sha256.New()
	for _, part := range []string{m.UserID, m.Kind, m.Content} {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		value, ok := metadata[key].(string)
		if !ok {
			// JSON's maps are sorted, so equal values are equal texts.
			encoded, _ := json.Marshal(metadata[key])
			value = "\x00" + string(encoded)
		}
		fmt.Fprintf(sum, "%d:%s%d:%s", len(key), key, len(value), value)
	}
	return [32]byte(sum.Sum(nil))
}

func kindOf(module string) string {
	switch module {
	case "Accounts":
		return "account"
	case "Contacts":
		return "contact"
	case "Deals":
		return "deal"
	case "Tasks":
		return "task"
	case "Notes":
		return "note"
	case "Activities", "Events", "Calls", "Meetings":
		return "activity"
	default:
		return "record"
	}
}

// title names the record, and the account it belongs to where the record says so.
func title(r Record) string {
	kind := kindOf(r.Module)
	text := strings.ToUpper(kind[:1]) + kind[1:]
	if name := shorten(nameOf(r)); name != "" {
		text += " " + name
	}
	for _, field := range []string{"Account_Name", "What_Id", "Parent_Id"} {
		if of := shorten(lookupName(r.Fields[field])); of != "" {
			return text + " of " + of
		}
	}
	return text
}

func nameOf(r Record) string {
	for _, field := range []string{"Full_Name", "Deal_Name", "Subject", "Note_Title", "Event_Title"} {
		if name := text(r.Fields[field]); name != "" {
			return name
		}
	}
	if r.Module == "Accounts" {
		return text(r.Fields["Account_Name"])
	}
	return strings.TrimSpace(text(r.Fields["First_Name"]) + " " + text(r.Fields["Last_Name"]))
}

// fieldLines are the fields that say something, one a line, in the order of
// their names, so that equal records read equal.
func fieldLines(fields map[string]json.RawMessage) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if hidden(name) {
			continue
		}
		if value := shorten(text(fields[name])); value != "" {
			lines = append(lines, strings.ReplaceAll(name, "_", " ")+": "+value)
		}
	}
	return lines
}

// maxValue bounds a field's text, in bytes: a letter of two megabytes that somebody
// pasted into a description is nothing an agent could read.
const maxValue = 16 << 10

func shorten(value string) string {
	if len(value) <= maxValue {
		return value
	}
	return strings.ToValidUTF8(value[:maxValue], "") + "…"
}

// hidden are fields about the record and not about the customer: ids, times of
// Zoho's own book-keeping, and its system keys, which begin with $.
func hidden(name string) bool {
	switch name {
	case "id", "Modified_Time", "Created_Time", "Modified_By", "Created_By", "Last_Activity_Time", "Record_Status__s":
		return true
	}
	return strings.HasPrefix(name, "$")
}
