package zohotest

import (
	"fmt"
	"slices"
)

// Ids of what is no record. Like all ids they are beyond what a float64 holds exactly.
const (
	orgID         = "5725767000000000001"
	firstModuleID = 5725767000000002101
	firstListID   = 5725767000000091001
	firstRecordID = 5725767000000300001
)

// User is somebody who owns and edits records.
type User struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Module is a kind of record.
type Module struct {
	Name      string   // API name, as in a path
	NameField string   // the field that names a record; "": Name
	Fields    []string // further fields that every record has, null until set
	Lookups   []Lookup
	// Unwatchable modules take no channels, as Notes.
	Unwatchable bool
}

// Lookup is a field that names another record.
type Lookup struct {
	Field string
	To    []string // modules it may name; nil: all but activities, notes and people
	List  string   // the related list it makes on those; "": the module's name
}

// activities are the modules whose closed records stand in a list of their own,
// named with _History.
var activities = []string{"Tasks", "Events", "Calls"}

// notTargets are the modules that a Lookup without To may not name.
var notTargets = []string{"Tasks", "Events", "Calls", "Notes", "Contacts", "Leads"}

// polymorphic are the fields whose records come from several modules; which one
// stands in $se_module.
var polymorphic = []string{"What_Id", "Parent_Id"}

// systemFields are what every record has.
var systemFields = []string{"Owner", "Created_By", "Modified_By", "Created_Time", "Modified_Time"}

// standardModules are what a new Zoho CRM comes with, as far as we serve it.
func standardModules() []Module {
	address := func(kinds ...string) []string {
		var fields []string
		for _, kind := range kinds {
			for _, part := range []string{"Street", "City", "State", "Code", "Country"} {
				fields = append(fields, kind+"_"+part)
			}
		}
		return fields
	}
	activity := []Lookup{{Field: "What_Id"}, {Field: "Who_Id", To: []string{"Contacts", "Leads"}}}
	return []Module{
		{
			Name: "Accounts", NameField: "Account_Name",
			Fields: append(address("Billing", "Shipping"), "Account_Number", "Account_Site", "Account_Type", "Annual_Revenue",
				"Description", "Employees", "Industry", "Ownership", "Phone", "Rating", "Ticker_Symbol", "Website", "Tag"),
			Lookups: []Lookup{{Field: "Parent_Account", To: []string{"Accounts"}, List: "Child_Accounts"}},
		},
		{
			Name: "Contacts", NameField: "Full_Name",
			Fields: append(address("Mailing"), "First_Name", "Last_Name", "Email", "Phone", "Mobile", "Title", "Department",
				"Lead_Source", "Date_of_Birth", "Description", "Tag"),
			Lookups: []Lookup{{Field: "Account_Name", To: []string{"Accounts"}}},
		},
		{
			Name: "Deals", NameField: "Deal_Name",
			Fields: []string{"Amount", "Closing_Date", "Stage", "Probability", "Type", "Next_Step", "Lead_Source",
				"Expected_Revenue", "Description", "Tag"},
			Lookups: []Lookup{{Field: "Account_Name", To: []string{"Accounts"}}, {Field: "Contact_Name", To: []string{"Contacts"}}},
		},
		{
			Name: "Tasks", NameField: "Subject",
			Fields:  []string{"Status", "Priority", "Due_Date", "Closed_Time", "Description", "Tag"},
			Lookups: activity,
		},
		{
			Name: "Events", NameField: "Event_Title",
			Fields:  []string{"Start_DateTime", "End_DateTime", "All_day", "Venue", "Participants", "Description", "Tag"},
			Lookups: activity,
		},
		{
			Name: "Calls", NameField: "Subject",
			Fields: []string{"Call_Type", "Call_Start_Time", "Call_Duration", "Call_Purpose", "Call_Result",
				"Outgoing_Call_Status", "Description", "Tag"},
			Lookups: activity,
		},
		{
			Name: "Notes", NameField: "Note_Title", Fields: []string{"Note_Content"},
			Lookups:     []Lookup{{Field: "Parent_Id", To: []string{"Accounts", "Contacts", "Deals", "Leads", "Tasks", "Events", "Calls"}}},
			Unwatchable: true,
		},
		{
			Name: "Leads", NameField: "Full_Name",
			Fields: []string{"First_Name", "Last_Name", "Company", "Email", "Phone", "Lead_Status", "Lead_Source", "Description", "Tag"},
		},
	}
}

// module is a Module and its records.
type module struct {
	Module
	id      string
	rich    []string
	lists   []relatedList
	lookups map[string]Lookup

	// What follows changes, under the store's lock.

	fields  []string // all that a record may have, in order of appearance
	known   map[string]bool
	ordered [orders][]*record // those alive, by each order, lowest first
	gone    []*record         // deleted, in order of deletion
}

// relatedList is a list that hangs on a module's records.
type relatedList struct {
	name   string // as in a path
	module string // whose records it holds; "": none of ours, it is always empty
	base   string // the relation that holds them
	closed bool   // of the relation, only closed activities
	id     string
}

// newModules builds the modules by name. It panics on one that makes no sense.
func newModules(o Options) map[string]*module {
	all := standardModules()
	for _, custom := range o.Modules {
		all = slices.DeleteFunc(all, func(m Module) bool { return m.Name == custom.Name })
		all = append(all, custom)
	}
	modules := map[string]*module{}
	for i, m := range all {
		if m.Name == "" || m.Name == "coql" || m.Name == "org" || m.Name == "users" || m.Name == "settings" {
			panic(fmt.Sprintf("zohotest: a module cannot be called %q", m.Name))
		}
		if m.NameField == "" {
			m.NameField = "Name"
		}
		built := &module{
			Module: m, id: fmt.Sprint(firstModuleID + 2*i), rich: o.Rich[m.Name],
			lookups: map[string]Lookup{}, known: map[string]bool{},
		}
		built.know("id", m.NameField)
		for _, l := range m.Lookups {
			built.lookups[l.Field] = l
			built.know(l.Field)
			if slices.Contains(polymorphic, l.Field) {
				built.know("$se_module")
			}
		}
		built.know(m.Fields...)
		built.know(systemFields...)
		modules[m.Name] = built
	}
	var listID int64 = firstListID
	for _, of := range all {
		for _, child := range all {
			for _, list := range listsOf(of.Name, child) {
				list.id = fmt.Sprint(listID)
				listID++
				modules[of.Name].lists = append(modules[of.Name].lists, list)
			}
		}
		// What is there, too, and holds nothing that we serve.
		modules[of.Name].lists = append(modules[of.Name].lists,
			relatedList{name: "Attachments", module: "Attachments", id: fmt.Sprint(listID)},
			relatedList{name: "Emails", id: fmt.Sprint(listID + 1)})
		listID += 2
	}
	return modules
}

// listsOf are the lists of child's records on a record of the module named of.
func listsOf(of string, child Module) []relatedList {
	var lists []relatedList
	for _, lookup := range child.Lookups {
		name := lookup.list(child.Name)
		if !lookup.may(of) || slices.ContainsFunc(lists, func(l relatedList) bool { return l.name == name }) {
			continue
		}
		lists = append(lists, relatedList{name: name, module: child.Name, base: name})
		if slices.Contains(activities, name) {
			lists = append(lists, relatedList{name: name + "_History", module: child.Name, base: name, closed: true})
		}
	}
	return lists
}

// may reports whether the lookup may name a record of module.
func (l Lookup) may(module string) bool {
	if l.To == nil {
		return !slices.Contains(notTargets, module)
	}
	return slices.Contains(l.To, module)
}

// list is the related list that the lookup makes.
func (l Lookup) list(module string) string {
	if l.List != "" {
		return l.List
	}
	return module
}

// know adds to the fields that records have.
func (m *module) know(fields ...string) {
	for _, field := range fields {
		if !m.known[field] {
			m.known[field] = true
			m.fields = append(m.fields, field)
		}
	}
}
