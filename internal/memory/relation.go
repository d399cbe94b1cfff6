package memory

import (
	"encoding/json"
	"strings"

	"github.com/google/uuid"
)

// Relation is a line of the graph that a record's fields draw. Source and target
// are written "<module>:<record id>".
type Relation struct {
	UserID       string
	Source       string
	Relationship string
	Target       string
	// Names are what people call the two ends, "" where the fields do not say.
	SourceName, TargetName string
}

// RelationshipData is the data of relationship_added and relationship_deleted.
type RelationshipData struct {
	Source       string             `json:"source"`
	Relationship string             `json:"relationship"`
	Target       string             `json:"target"`
	Result       RelationshipResult `json:"result"`
	// Metadata is that of a line which another memory system drew: it says so, that
	// this system may know it again.
	Metadata map[string]any `json:"metadata,omitempty"`
}

// RelationshipResult is the relationship as it is kept.
type RelationshipResult struct {
	ID         uuid.UUID `json:"id"`
	Confidence float64   `json:"confidence"` // 0 to 1; what Zoho says is 1
}

// RelationsOf returns what a record's lookups say of whom it has to do with: what
// an account, a deal or a contact has, who owns it, of whom it is.
func RelationsOf(r Record) []Relation {
	self := r.Module + ":" + r.ID
	var all []Relation
	add := func(source, sourceName, relationship, target, targetName string) {
		all = append(all, Relation{
			UserID: UserOfAccount(r.AccountID), Source: source, SourceName: shorten(sourceName),
			Relationship: relationship, Target: target, TargetName: shorten(targetName),
		})
	}
	has := map[string]string{
		"Contacts": "HAS_CONTACT", "Deals": "HAS_DEAL", "Tasks": "HAS_TASK", "Notes": "HAS_NOTE",
		"Activities": "HAS_ACTIVITY", "Events": "HAS_ACTIVITY", "Calls": "HAS_ACTIVITY", "Meetings": "HAS_ACTIVITY",
	}[r.Module]
	if parent, name := parentOf(r); parent != "" && has != "" {
		add(parent, name, has, self, nameOf(r))
	}
	for _, l := range []struct{ field, relationship, module string }{
		{"Contact_Name", "HAS_CONTACT", "Contacts"},
		{"Who_Id", "CONCERNS", "Contacts"},
		{"Parent_Account", "CHILD_OF", "Accounts"},
		{"Owner", "OWNED_BY", "Users"},
	} {
		if id, name := link(r.Fields[l.field]); id != "" {
			add(self, nameOf(r), l.relationship, l.module+":"+id, name)
		}
	}
	return all
}

// parentOf is what a record belongs to: its account, or the deal or contact that
// a task, an activity or a note hangs on.
func parentOf(r Record) (parent, name string) {
	for _, field := range []string{"Account_Name", "What_Id", "Parent_Id"} {
		id, name := link(r.Fields[field])
		if id == "" {
			continue
		}
		module := "Accounts"
		if field != "Account_Name" && id != r.AccountID {
			if module = parentModule(r, field); module == "" {
				return "", ""
			}
		}
		return module + ":" + id, name
	}
	return "", ""
}

// parentModule is the module of a parent of any kind, as the lookup or $se_module
// says it; "" when neither does.
func parentModule(r Record, field string) string {
	lookup, _ := decode(r.Fields[field]).(map[string]any)
	switch module := lookup["module"].(type) {
	case string:
		return module
	case map[string]any:
		if name, ok := module["api_name"].(string); ok {
			return name
		}
	}
	return text(r.Fields["$se_module"])
}

// link reads a lookup's id and name; of what is none the id is "". A bare id is
// digits: anything else may be a name.
func link(raw json.RawMessage) (id, name string) {
	value := decode(raw)
	lookup, ok := value.(map[string]any)
	if ok {
		return idIn(lookup["id"]), nameIn(lookup)
	}
	if id = idIn(value); strings.Trim(id, "0123456789") != "" {
		return "", ""
	}
	return id, ""
}

func idIn(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return ""
	}
}
