package zohotest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Records changes records as people at Zoho's screens do. Every change moves
// Modified_Time and, unless it is made Silently, notifies the channels that
// watch the module.
//
// Fields are values by API name. A lookup is given as an id or as a map with
// "id", a time as time.Time or text; nil clears a field. What makes no sense, as
// an unknown module, an id that never was or a link to the wrong module, panics:
// it is a mistake in the test.
type Records struct {
	s      *Server
	silent bool
}

// Silently changes records without any notification.
func (s *Server) Silently() Records { return Records{s: s, silent: true} }

// Create adds a record and returns its id. "id", "Created_Time" and
// "Modified_Time" may be among the fields; otherwise Zoho sets them.
func (c Records) Create(module string, fields map[string]any) string {
	return c.CreateAll(module, []map[string]any{fields})[0]
}

// CreateAll adds many records at a time, which is faster, and returns their ids
// in the same order.
func (c Records) CreateAll(module string, all []map[string]any) []string {
	st := c.s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	m := st.module(module)
	added := make([]*record, len(all))
	ids := make([]string, len(all))
	for i, fields := range all {
		added[i] = st.build(m, fields)
		ids[i] = added[i].id
		st.records[ids[i]] = added[i]
	}
	st.add(added)
	for _, r := range added {
		c.tell(r, "insert", nil)
	}
	return ids
}

// Update sets fields of a record. Without fields it is only touched.
func (c Records) Update(module, id string, fields map[string]any) {
	st := c.s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.alive(module, id)
	changed := st.set(r, fields)
	st.touch(r, st.now())
	c.tell(r, "update", changed)
}

// Move links a record to another parent: the first of its lookups that may name
// such a record is changed.
func (c Records) Move(module, id, parent string) {
	c.Update(module, id, map[string]any{c.s.store.lookupFor(module, parent): parent})
}

// Delete puts a record into the recycle bin.
func (c Records) Delete(module, id string) {
	st := c.s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.alive(module, id)
	st.bury(r, st.now())
	c.tell(r, "delete", nil)
}

// Restore takes a record out of the recycle bin. It counts as modified, and
// channels are told of an insert; both are assumptions.
func (c Records) Restore(module, id string) {
	st := c.s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.binned(module, id)
	r.modified = st.now()
	st.raise(r)
	c.tell(r, "insert", nil)
}

// Purge takes a record out of the recycle bin for good. Nobody is told.
func (c Records) Purge(module, id string) {
	st := c.s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.binned(module, id)
	r.purged = true
	r.deleted = st.now()
	// The list of what is gone stays in the order of deletion.
	r.module.gone = append(slices.DeleteFunc(r.module.gone, func(g *record) bool { return g == r }), r)
}

// Get returns a record as a read of it alone would, and whether it is there:
// what is in the recycle bin is not.
func (s *Server) Get(module, id string) (map[string]any, bool) {
	st := s.store
	st.mu.RLock()
	defer st.mu.RUnlock()
	m := st.module(module)
	r := st.records[id]
	if r == nil || r.module != m || r.deleted != 0 {
		return nil, false
	}
	var fields map[string]any
	if err := json.Unmarshal(st.appendRecord(nil, r, m.fields, false), &fields); err != nil {
		panic("zohotest: " + err.Error())
	}
	return fields, true
}

// Len is how many records of a module are alive.
func (s *Server) Len(module string) int {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	return len(s.store.module(module).ordered[byID])
}

// IDs are the ids of a module's living records, oldest first.
func (s *Server) IDs(module string) []string {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	records := s.store.module(module).ordered[byID]
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.id
	}
	return ids
}

func (st *store) module(name string) *module {
	m := st.modules[name]
	if m == nil {
		panic("zohotest: no module " + name)
	}
	return m
}

func (st *store) alive(module, id string) *record {
	r := st.records[id]
	if r == nil || r.module != st.module(module) || r.deleted != 0 {
		panic("zohotest: no record " + id + " in " + module)
	}
	return r
}

func (st *store) binned(module, id string) *record {
	r := st.records[id]
	if r == nil || r.module != st.module(module) || r.deleted == 0 || r.purged {
		panic("zohotest: no record " + id + " in the recycle bin of " + module)
	}
	return r
}

// lookupFor is the field by which records of module name parent.
func (st *store) lookupFor(module, parent string) string {
	st.mu.RLock()
	defer st.mu.RUnlock()
	to := st.records[parent]
	if to != nil {
		for _, lookup := range st.module(module).Lookups {
			if lookup.may(to.module.Name) {
				return lookup.Field
			}
		}
	}
	panic("zohotest: records of " + module + " cannot be moved to " + parent)
}

// build makes a record of fields, not yet in any list.
func (st *store) build(m *module, fields map[string]any) *record {
	now := st.now()
	r := &record{module: m, created: now, owner: st.o.Users[0], values: map[string]json.RawMessage{}}
	if given, ok := fields["id"]; ok {
		r.id = fmt.Sprint(given)
		if len(r.id) != 19 || !isDigits(r.id) || st.records[r.id] != nil {
			panic("zohotest: " + r.id + " is no free id of 19 digits")
		}
	} else {
		r.id = st.newID()
	}
	if given, ok := fields["Created_Time"]; ok {
		r.created = seconds(given)
	}
	r.modified = max(now, r.created)
	if given, ok := fields["Modified_Time"]; ok {
		r.modified = seconds(given)
	} else if _, ok := fields["Created_Time"]; ok {
		r.modified = r.created
	}
	st.set(r, fields)
	return r
}

// seconds reads a time that a test gave.
func seconds(given any) int64 {
	switch t := given.(type) {
	case time.Time:
		return t.Unix()
	case string:
		parsed, err := time.Parse(time.RFC3339, t)
		if err != nil {
			panic("zohotest: " + err.Error())
		}
		return parsed.Unix()
	default:
		panic(fmt.Sprintf("zohotest: %v is no time", given))
	}
}

// set gives r the fields and returns the names of those that changed, sorted.
func (st *store) set(r *record, fields map[string]any) []string {
	var changed []string
	links := maps.Clone(r.links)
	if links == nil {
		links = map[string]string{}
	}
	for field, given := range fields {
		if st.setOne(r, links, field, given) {
			changed = append(changed, field)
		}
	}
	if !maps.Equal(links, r.links) {
		if st.records[r.id] == r {
			st.relink(r, links)
		} else {
			r.links = links
		}
	}
	r.name = r.nameOf()
	slices.Sort(changed)
	return changed
}

// setOne sets one field, a link in links, and reports whether it changed.
func (st *store) setOne(r *record, links map[string]string, field string, given any) bool {
	if lookup, ok := r.module.lookups[field]; ok {
		id := st.target(r, lookup, given)
		if links[field] == id {
			return false
		}
		links[field] = id
		if id == "" {
			delete(links, field)
		}
		return true
	}
	switch field {
	case "id", "Created_Time", "Modified_Time", "Created_By", "Modified_By", "$se_module":
		return false // Zoho's to say
	case "Owner":
		owner := st.user(idOf(given))
		changed := owner != r.owner
		r.owner = owner
		return changed
	}
	value := st.encodeField(given)
	before, had := r.values[field]
	if bytes.Equal(before, value) || (!had && given == nil) {
		return false
	}
	r.module.know(field)
	r.values[field] = value
	return true
}

// encodeField is a given value as JSON; times are written as Zoho writes them.
func (st *store) encodeField(given any) json.RawMessage {
	if t, ok := given.(time.Time); ok {
		given = t.In(st.o.Zone).Format(timeLayout)
	}
	return encode(given)
}

// target is the id that a lookup is to name, "" for none.
func (st *store) target(r *record, lookup Lookup, given any) string {
	id := idOf(given)
	if id == "" {
		return ""
	}
	to := st.records[id]
	if to == nil || !lookup.may(to.module.Name) {
		panic(fmt.Sprintf("zohotest: %s.%s cannot name %s", r.module.Name, lookup.Field, id))
	}
	return id
}

// idOf is the id in what a test gives for a lookup.
func idOf(given any) string {
	switch v := given.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any:
		id, _ := v["id"].(string)
		return id
	case map[string]string:
		return v["id"]
	case User:
		return v.ID
	default:
		panic(fmt.Sprintf("zohotest: %v names no record", given))
	}
}

func (st *store) user(id string) User {
	for _, u := range st.o.Users {
		if u.ID == id {
			return u
		}
	}
	panic("zohotest: no user " + id)
}

// nameOf is what lookups show of r. People's full name follows from its parts
// unless it was given.
func (r *record) nameOf() string {
	text := func(field string) string {
		var s string
		_ = json.Unmarshal(r.values[field], &s) // no text: no name
		return s
	}
	if r.module.NameField != "Full_Name" {
		return text(r.module.NameField)
	}
	name := strings.TrimSpace(text("First_Name") + " " + text("Last_Name"))
	if name == "" {
		return text("Full_Name")
	}
	r.values["Full_Name"] = encode(name)
	return name
}
