package inbound

import (
	"encoding/json"
	"math"
	"strings"
)

// maxUnfolded bounds, in bytes, the fields and values of all events of a body
// together. They are stored per event, while a body may say them once for a
// thousand events, so that 1 MiB could otherwise become 1 GiB.
const maxUnfolded = 4 << 20

// readRecords makes an event of each record of data, or record_data. Where
// there is one record or none, record_id names it.
func (e *envelope) readRecords(common Parsed, limit int) ([]Parsed, error) {
	name, raw := "data", e.data
	if raw == nil && e.recordData != nil {
		name, raw = "record_data", e.recordData
	}
	records, err := list(raw, limit)
	if err != nil {
		return nil, at(err, "%s", name)
	}
	id, err := readID(e.recordID)
	switch {
	case err != nil:
		return nil, at(err, "record_id")
	case len(records) > 0:
	case id != "":
		records = []json.RawMessage{json.RawMessage("{}")}
	case e.shape == ShapeGeneric:
		return nil, refuse(422, "missing_record_id", "record_id is missing or empty")
	default:
		return nil, refuse(422, "empty_data", "%s holds no record", name)
	}
	events := make([]Parsed, len(records))
	for i, record := range records {
		p := &events[i]
		*p = common
		p.Record = record
		if id != "" && len(records) == 1 {
			p.RecordID = id
			continue
		}
		p.RecordID, err = requiredID(find(record, "id"))
		switch {
		case err == nil:
		case e.shape == ShapeRecord || len(records) > 1:
			return nil, at(err, "%s[%d].id", name, i)
		default:
			return nil, at(err, "record_id")
		}
	}
	return events, nil
}

// list returns the objects of an array, at most limit, or the one object that
// stands in its place; none for nil.
func list(raw json.RawMessage, limit int) ([]json.RawMessage, error) {
	if raw == nil {
		return nil, nil
	}
	switch raw[0] {
	case '{':
		return []json.RawMessage{raw}, nil
	case '[':
	default:
		return nil, refuse(400, "unknown_shape", "is neither an object nor an array of objects")
	}
	var objects []json.RawMessage
	for object := range elements(raw) {
		if object[0] != '{' {
			return nil, refuse(400, "unknown_shape", "holds at index %d something that is not an object", len(objects))
		}
		if len(objects) == limit {
			return nil, tooManyRecords(limit)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func tooManyRecords(limit int) error {
	return refuse(413, "too_many_records", "holds more than %d records", limit)
}

// find returns the member of object called name, nil if there is none.
func find(object json.RawMessage, name string) json.RawMessage {
	var found json.RawMessage
	for key, value := range members(object) {
		if string(key) == name {
			found = value
		}
	}
	return found
}

// readIDs makes an event of each id of a notification of Zoho's.
func (e *envelope) readIDs(common Parsed, limit int) ([]Parsed, error) {
	if e.ids == nil {
		return nil, refuse(422, "empty_data", "ids is missing")
	}
	if e.ids[0] != '[' {
		return nil, refuse(400, "unknown_shape", "ids is not an array")
	}
	fields, err := readAffectedFields(e.affectedFields)
	if err != nil {
		return nil, err
	}
	values, err := readAffectedValues(e.values)
	if err != nil {
		return nil, err
	}
	var events []Parsed
	for raw := range elements(e.ids) {
		if len(events) == limit {
			return nil, at(tooManyRecords(limit), "ids")
		}
		p := common
		if p.RecordID, err = requiredID(raw); err != nil {
			return nil, at(err, "ids[%d]", len(events))
		}
		if names := fields[p.RecordID]; names != nil {
			p.ModifiedFields = names
		}
		if p.Record = values[p.RecordID]; p.Record == nil {
			p.Record = json.RawMessage("{}")
		}
		events = append(events, p)
	}
	if len(events) == 0 {
		return nil, refuse(422, "empty_data", "ids holds no record")
	}
	return events, nil
}

// readAffectedFields reads [{"<record id>":["<field>"]}] into names by record id.
func readAffectedFields(raw json.RawMessage) (map[string][]string, error) {
	entries, err := list(raw, math.MaxInt)
	if err != nil {
		return nil, at(err, "affected_fields")
	}
	fields := make(map[string][]string)
	for i, entry := range entries {
		for key, value := range members(entry) {
			names, err := readNames(nonNull(value))
			if err != nil {
				return nil, at(err, "affected_fields[%d]", i)
			}
			id := strings.TrimSpace(string(key))
			fields[id] = append(fields[id], names...)
		}
	}
	return fields, nil
}

// readAffectedValues reads [{"record_id","values":{}}] into values by record id;
// where an id stands twice the last values hold.
func readAffectedValues(raw json.RawMessage) (map[string]json.RawMessage, error) {
	entries, err := list(raw, math.MaxInt)
	if err != nil {
		return nil, at(err, "affected_values")
	}
	values := make(map[string]json.RawMessage)
	for i, entry := range entries {
		id, err := readID(nonNull(find(entry, "record_id")))
		if err != nil {
			return nil, at(err, "affected_values[%d].record_id", i)
		}
		value := nonNull(find(entry, "values"))
		if value != nil && value[0] != '{' {
			return nil, refuse(400, "unknown_shape", "affected_values[%d].values is not an object", i)
		}
		values[id] = value
	}
	return values, nil
}

// checkUnfolded refuses events that together are much larger than their body.
func checkUnfolded(events []Parsed) error {
	size := 0
	for _, p := range events {
		size += len(p.Record)
		for _, name := range p.ModifiedFields {
			size += len(name)
			if size > maxUnfolded {
				break
			}
		}
		if size > maxUnfolded {
			return refuse(413, "too_many_fields", "modified fields and values, given once for %d records, are more than %d bytes in all", len(events), maxUnfolded)
		}
	}
	return nil
}
