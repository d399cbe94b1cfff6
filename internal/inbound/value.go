package inbound

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// readString returns what a JSON string says, "" for none.
func readString(raw json.RawMessage) (string, error) {
	if raw == nil {
		return "", nil
	}
	if raw[0] != '"' {
		return "", refuse(400, "unknown_shape", "is not text")
	}
	return string(unquote(raw)), nil
}

// readText is readString without the space around it.
func readText(raw json.RawMessage) (string, error) {
	s, err := readString(raw)
	return strings.TrimSpace(s), err
}

// readID returns an id, text or an integer, as text; "" for none. An integer
// keeps its digits: Zoho's ids are beyond what a float64 holds exactly.
func readID(raw json.RawMessage) (string, error) {
	id := string(raw)
	if raw != nil && (raw[0] == '"' || !isInteger(raw)) {
		var err error
		if id, err = readText(raw); err != nil {
			return "", refuse(400, "unknown_shape", "is neither text nor an integer")
		}
	}
	if len(id) > maxName {
		return "", refuse(422, "id_too_long", "is longer than %d bytes", maxName)
	}
	return id, nil
}

// requiredID is readID for an id that has to be there.
func requiredID(raw json.RawMessage) (string, error) {
	id, err := readID(nonNull(raw))
	if err == nil && id == "" {
		err = refuse(422, "missing_record_id", "is missing or empty")
	}
	return id, err
}

func isNumber(raw []byte) bool { return raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9' }

func isInteger(number []byte) bool {
	for _, c := range bytes.TrimPrefix(number, []byte("-")) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// readNames returns an array of names, or the names in text with commas between
// them, which is all that a workflow's template can write. Empty ones are left out.
func readNames(raw json.RawMessage) ([]string, error) {
	var names []string
	add := func(name string) {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	switch {
	case raw == nil:
	case raw[0] == '"':
		for name := range strings.SplitSeq(string(unquote(raw)), ",") {
			add(name)
		}
	case raw[0] == '[':
		for element := range elements(raw) {
			name, err := readText(nonNull(element))
			if err != nil {
				return nil, refuse(400, "unknown_shape", "holds something that is not text")
			}
			add(name)
		}
	default:
		return nil, refuse(400, "unknown_shape", "is neither an array of names nor text")
	}
	return names, nil
}

// readTime returns the time that a number of milliseconds since 1970 stands
// for, also when it is written as text; zero for none.
func readTime(raw json.RawMessage) (time.Time, error) {
	text := string(raw)
	if raw != nil && raw[0] == '"' {
		text = string(bytes.TrimSpace(unquote(raw)))
	}
	if text == "" {
		return time.Time{}, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if errors.Is(err, strconv.ErrSyntax) {
		if !isNumber(raw) {
			return time.Time{}, refuse(400, "unknown_shape", "is not a number of milliseconds")
		}
		// Programs that read every number as a double pass it on as
		// 1.718117126473E12, which is still exact.
		var f float64
		if f, err = strconv.ParseFloat(text, 64); math.Abs(f) < 1<<53 {
			ms = int64(f)
		}
	}
	t := time.UnixMilli(ms).UTC()
	if err != nil || t.Year() < 2000 || t.Year() >= 2100 {
		return time.Time{}, refuse(422, "time_out_of_range", "is before 2000 or after 2099; it counts milliseconds since 1970")
	}
	return t, nil
}

// splitOperation returns the operation that "update", "account.updated" or
// "crm.account.updated" stands for, "" if none, and the word before it.
func splitOperation(text string) (operation, prefix string) {
	i := strings.LastIndexByte(text, '.')
	operation = canonicalOperation(text[i+1:])
	if i >= 0 {
		prefix = strings.TrimSpace(text[:i])
		prefix = prefix[strings.LastIndexByte(prefix, '.')+1:]
	}
	return operation, strings.TrimSpace(prefix)
}

// canonicalOperation returns the operation that word stands for, "" if none. It
// knows the words of Zoho's notifications ("insert"), of the events a channel
// listens to ("edit"), and the past tense of all.
func canonicalOperation(word string) string {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "create", "created", "insert", "inserted":
		return opCreate
	case "update", "updated", "edit", "edited":
		return opUpdate
	case "delete", "deleted":
		return opDelete
	case "restore", "restored":
		return opRestore
	}
	return ""
}

// canonicalModule returns the name of a module as Zoho's API spells it, for the
// ones known here, whatever the case and also in the singular; another is
// returned as it is. Meetings stays Meetings although Zoho's API says Events for
// the same records: which of the two is asked for is for whoever asks.
func canonicalModule(s string) string {
	s = strings.TrimSpace(s)
	switch strings.ToLower(s) {
	case "accounts", "account":
		return "Accounts"
	case "contacts", "contact":
		return "Contacts"
	case "deals", "deal":
		return "Deals"
	case "tasks", "task":
		return "Tasks"
	case "notes", "note":
		return "Notes"
	case "activities":
		return "Activities"
	case "events":
		return "Events"
	case "calls", "call":
		return "Calls"
	case "meetings", "meeting":
		return "Meetings"
	}
	return s
}
