package zohotest

import (
	"encoding/json"
	"slices"
	"time"
	"unicode/utf8"
)

// timeLayout is how Zoho writes a time: an offset and no fractions.
const timeLayout = "2006-01-02T15:04:05-07:00"

// richLimit is how many characters of rich text a list shows.
const richLimit = 500

func (st *store) time(seconds int64) string {
	return time.Unix(seconds, 0).In(st.o.Zone).Format(timeLayout)
}

// appendRecord appends r as JSON: its id and the fields that its module has.
// inList says whether rich text is cut.
func (st *store) appendRecord(buf []byte, r *record, fields []string, inList bool) []byte {
	buf = append(buf, '{')
	for _, field := range fields {
		if field == "id" || !r.module.known[field] {
			continue
		}
		value := st.value(r, field)
		if inList && slices.Contains(r.module.rich, field) {
			value = cut(value)
		}
		buf = append(append(buf, '"'), field...)
		buf = append(append(buf, `":`...), value...)
		buf = append(buf, ',')
	}
	buf = append(append(buf, `"id":"`...), r.id...)
	return append(buf, `"}`...)
}

// value is one field as JSON, null when it has none.
func (st *store) value(r *record, field string) json.RawMessage {
	if _, isLookup := r.module.lookups[field]; isLookup {
		return st.link(r, field)
	}
	switch field {
	case "id":
		return encode(r.id)
	case "Created_Time":
		return encode(st.time(r.created))
	case "Modified_Time":
		return encode(st.time(r.modified))
	case "Owner":
		return encode(r.owner)
	case "Created_By", "Modified_By":
		return encode(st.o.Users[0])
	case "$se_module":
		for _, field := range polymorphic {
			if to := st.records[r.links[field]]; to != nil && to.deleted == 0 {
				return encode(to.module.Name)
			}
		}
		return json.RawMessage("null")
	}
	if value, ok := r.values[field]; ok {
		return value
	}
	return json.RawMessage("null")
}

// link is the record that a lookup names, under its name of now. While that
// record is in the recycle bin the lookup is null: an assumption.
func (st *store) link(r *record, field string) json.RawMessage {
	to := st.records[r.links[field]]
	if to == nil || to.deleted != 0 {
		return json.RawMessage("null")
	}
	shown := lookupValue{Name: to.name, ID: to.id}
	if field == "Parent_Id" {
		shown.Module = &moduleName{to.module.Name, to.module.id}
	}
	return encode(shown)
}

// lookupValue is how a lookup shows the record it names. Only a note's parent
// says its module.
type lookupValue struct {
	Module *moduleName `json:"module,omitempty"`
	Name   string      `json:"name"`
	ID     string      `json:"id"`
}

type moduleName struct {
	APIName string `json:"api_name"`
	ID      string `json:"id"`
}

// cut shortens text to what a list shows; what is no text stays.
func cut(value json.RawMessage) json.RawMessage {
	var text string
	if json.Unmarshal(value, &text) != nil || utf8.RuneCountInString(text) <= richLimit {
		return value
	}
	return encode(string([]rune(text)[:richLimit]))
}

// encode is v as JSON; it panics on what has no JSON.
func encode(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic("zohotest: " + err.Error())
	}
	return text
}
