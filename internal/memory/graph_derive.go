package memory

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// maxMentions bounds how many lines one memory draws.
const maxMentions = 50

// entityKinds are the keys of a memory's metadata that name something, as text or
// as a list of texts, and the kind of entity that they name. An account, a contact
// or a deal that is named by its id is the CRM's.
func entityKinds() map[string]string {
	return map[string]string{
		"company": "company", "companies": "company", "organization": "company", "organisation": "company",
		"person": "person", "people": "person", "persons": "person",
		"account": "account", "account_id": "account", "contact": "contact", "contact_id": "contact", "deal": "deal", "deal_id": "deal",
		"project": "project", "projects": "project", "product": "product", "products": "product",
		"location": "location", "locations": "location",
		"topic": "topic", "topics": "topic", "tag": "topic", "tags": "topic", "category": "topic", "categories": "topic",
	}
}

// linesOf are the lines that a memory's metadata draws, without ids: one from the
// memory to each entity that it names, and those that it spells out under
// "relationships". What cannot be a line is left out.
func linesOf(id uuid.UUID, userID string, metadata map[string]any) []Link {
	d := drawing{id: id, userID: userID, seen: map[string]bool{}, confidence: 1}
	if c, ok := confidenceIn(metadata["confidence"]); ok {
		d.confidence = c
	}
	spelled, _ := metadata["relationships"].([]any)
	for _, item := range spelled {
		d.spelled(item)
	}
	kinds := entityKinds()
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if kind, ok := kinds[key]; ok {
			for _, name := range namesIn(metadata[key]) {
				d.mention(kind, name)
			}
		}
	}
	return d.lines
}

// drawing is the lines of one memory as they are found.
type drawing struct {
	id         uuid.UUID
	userID     string
	confidence float64 // of what says nothing of its own
	seen       map[string]bool
	lines      []Link
}

func (d *drawing) add(l Link) {
	for _, text := range []string{l.Source, l.Relationship, l.Target} {
		if checkText("", text, MaxName) != nil {
			return
		}
	}
	l.UserID, l.MemoryID = d.userID, &d.id
	if d.seen[lineOf(l)] || len(d.lines) == maxMentions {
		return
	}
	d.seen[lineOf(l)] = true
	d.lines = append(d.lines, l)
}

// spelled adds a line that the metadata spells out: {"source", "relationship",
// "target"}, and "confidence" where it is not that of the memory.
func (d *drawing) spelled(item any) {
	fields, _ := item.(map[string]any)
	text := func(key string) string {
		s, _ := fields[key].(string)
		return strings.TrimSpace(s)
	}
	confidence := d.confidence
	if c, ok := confidenceIn(fields["confidence"]); ok {
		confidence = c
	}
	d.add(Link{
		Source: text("source"), Relationship: text("relationship"), Target: text("target"),
		Confidence: confidence, Metadata: map[string]any{},
	})
}

// mention adds the line from the memory to what it names.
func (d *drawing) mention(kind, name string) {
	target, names := entityOf(kind, name), map[string]any{"target_name": name}
	if target != kind+":"+strings.ToLower(name) {
		names = map[string]any{} // an id names nobody
	}
	d.add(Link{
		Source: MemoryEntity(d.id), Relationship: "MENTIONS_" + strings.ToUpper(kind), Target: target,
		Confidence: d.confidence, Metadata: names,
	})
}

// MemoryEntity is a memory as an end of a line.
func MemoryEntity(id uuid.UUID) string { return "memory:" + id.String() }

// entityOf is a named thing as an end of a line: "company:acme", however it is
// written. Ids of the CRM's records stand as its own lines have them.
func entityOf(kind, name string) string {
	module := map[string]string{"account": "Accounts", "contact": "Contacts", "deal": "Deals"}[kind]
	if module != "" {
		id := strings.TrimPrefix(name, module+":")
		if id != "" && strings.Trim(id, "0123456789") == "" {
			return module + ":" + id
		}
	}
	return kind + ":" + strings.ToLower(name)
}

// namesIn are the names in a value: a text, a number, or a list of them.
func namesIn(value any) []string {
	switch v := value.(type) {
	case string:
		if name := strings.Join(strings.Fields(v), " "); name != "" {
			return []string{name}
		}
	case json.Number:
		return []string{v.String()}
	case []any:
		var names []string
		for _, item := range v {
			if _, list := item.([]any); !list && len(names) < maxMentions {
				names = append(names, namesIn(item)...)
			}
		}
		return names
	}
	return nil
}

// confidenceIn reads a number from 0 to 1.
func confidenceIn(value any) (float64, bool) {
	n, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	c, err := n.Float64()
	return c, err == nil && c >= 0 && c <= 1
}

// difference is what makes the lines there are those that are wanted.
type difference struct {
	changes []LinkChange // lines that go, then lines that come; nobody is told of each
	said    []Link       // lines that stay and say something else of themselves
}

func (d difference) empty() bool { return len(d.changes)+len(d.said) == 0 }

// differ holds the lines that something draws against those it has drawn. Ids of
// new ones are newID's.
func differ(there, wanted []Link, newID func() uuid.UUID) difference {
	var d difference
	open := map[string]Link{}
	for _, l := range wanted {
		if _, twice := open[lineOf(l)]; !twice {
			open[lineOf(l)] = l
		}
	}
	for _, old := range there {
		l, still := open[lineOf(old)]
		if !still {
			d.changes = append(d.changes, LinkChange{Link: old, Gone: true})
			continue
		}
		delete(open, lineOf(old))
		if l.ID = old.ID; !old.same(l) {
			d.said = append(d.said, l)
		}
	}
	for _, l := range wanted {
		if _, missing := open[lineOf(l)]; missing {
			delete(open, lineOf(l))
			l.ID = newID()
			d.changes = append(d.changes, LinkChange{Link: l})
		}
	}
	return d
}

// join adds another difference.
func (d *difference) join(o difference) {
	d.changes, d.said = append(d.changes, o.changes...), append(d.said, o.said...)
}
