package zohotest

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// store holds the records. Its lists are kept in order by every change, so that
// a page of many thousands costs no sort.
type store struct {
	o       Options
	modules map[string]*module // never changes

	mu      sync.RWMutex // guards what follows, and the changing part of modules
	records map[string]*record
	related map[relation][]*record // by id, lowest first
	nextID  int64
}

// relation is a record and a list on it.
type relation struct{ parent, list string }

// record is one record. Times are whole seconds, as Zoho's are.
type record struct {
	id       string
	module   *module
	created  int64 // seconds since 1970
	modified int64
	values   map[string]json.RawMessage
	links    map[string]string // lookup field → id
	owner    User
	name     string // the value of the module's NameField
	deleted  int64  // 0: alive
	purged   bool   // gone from the recycle bin, too
}

// order is what a list is sorted by. Every order ends with the id: ids are all
// of one length, so as text they are in the order of numbers.
type order int

const (
	byID order = iota
	byCreated
	byModified
	orders // how many there are
)

// position is a place in an order.
type position struct {
	At int64  `json:"a"` // seconds; 0 in the order of ids
	ID string `json:"i"`
}

func (p position) compare(q position) int {
	return cmp.Or(cmp.Compare(p.At, q.At), strings.Compare(p.ID, q.ID))
}

func (r *record) position(o order) position {
	switch o {
	case byCreated:
		return position{r.created, r.id}
	case byModified:
		return position{r.modified, r.id}
	default:
		return position{0, r.id}
	}
}

func newStore(o Options) *store {
	return &store{
		o: o, modules: newModules(o), records: map[string]*record{},
		related: map[relation][]*record{}, nextID: firstRecordID,
	}
}

// now is the clock in whole seconds.
func (st *store) now() int64 { return st.o.Now().Unix() }

// newID gives the next id.
func (st *store) newID() string {
	id := strconv.FormatInt(st.nextID, 10)
	st.nextID++
	return id
}

// add brings new records into the lists. Many at a time are appended and sorted once.
func (st *store) add(records []*record) {
	for _, r := range records {
		for _, rel := range r.relations() {
			st.related[rel] = insert(st.related[rel], byID, r)
		}
	}
	if len(records) == 1 {
		st.enlist(records[0])
		return
	}
	touched := map[*module]bool{}
	for _, r := range records {
		touched[r.module] = true
		for o := range orders {
			r.module.ordered[o] = append(r.module.ordered[o], r)
		}
	}
	for m := range touched {
		for o := range orders {
			slices.SortFunc(m.ordered[o], func(a, b *record) int { return a.position(o).compare(b.position(o)) })
		}
	}
}

// enlist puts r into the lists of its module.
func (st *store) enlist(r *record) {
	for o := range orders {
		r.module.ordered[o] = insert(r.module.ordered[o], o, r)
	}
}

// delist takes r out of the lists of its module. It goes before every change of
// what the lists are sorted by.
func (st *store) delist(r *record) {
	for o := range orders {
		r.module.ordered[o] = remove(r.module.ordered[o], o, r)
	}
}

// relations are the lists that r stands in by its links, each once.
func (r *record) relations() []relation {
	var all []relation
	for field, parent := range r.links {
		rel := relation{parent, r.module.lookups[field].list(r.module.Name)}
		if !slices.Contains(all, rel) {
			all = append(all, rel)
		}
	}
	return all
}

// relink sets the links of r, which is alive.
func (st *store) relink(r *record, links map[string]string) {
	for _, rel := range r.relations() {
		st.related[rel] = remove(st.related[rel], byID, r)
	}
	r.links = links
	for _, rel := range r.relations() {
		st.related[rel] = insert(st.related[rel], byID, r)
	}
}

// bury takes r out of every list.
func (st *store) bury(r *record, now int64) {
	st.delist(r)
	for _, rel := range r.relations() {
		st.related[rel] = remove(st.related[rel], byID, r)
	}
	r.deleted = now
	r.module.gone = append(r.module.gone, r)
}

// raise brings r back from the recycle bin.
func (st *store) raise(r *record) {
	r.module.gone = slices.DeleteFunc(r.module.gone, func(g *record) bool { return g == r })
	r.deleted = 0
	st.enlist(r)
	for _, rel := range r.relations() {
		st.related[rel] = insert(st.related[rel], byID, r)
	}
}

// touch sets when r was modified.
func (st *store) touch(r *record, now int64) {
	r.module.ordered[byModified] = remove(r.module.ordered[byModified], byModified, r)
	r.modified = now
	r.module.ordered[byModified] = insert(r.module.ordered[byModified], byModified, r)
}

// lowerBound is where in list the first record at or after p stands.
func lowerBound(list []*record, o order, p position) int {
	i, _ := slices.BinarySearchFunc(list, p, func(r *record, p position) int { return r.position(o).compare(p) })
	return i
}

func insert(list []*record, o order, r *record) []*record {
	return slices.Insert(list, lowerBound(list, o, r.position(o)), r)
}

func remove(list []*record, o order, r *record) []*record {
	if i := lowerBound(list, o, r.position(o)); i < len(list) && list[i] == r {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// closed reports whether an activity is over: Zoho shows those in the _History
// lists and no longer in the plain ones.
func (r *record) closed(now time.Time) bool {
	text := func(field string) string {
		var s string
		_ = json.Unmarshal(r.values[field], &s) // no text: not closed
		return s
	}
	switch r.module.Name {
	case "Tasks":
		return text("Status") == "Completed"
	case "Events":
		end, err := time.Parse(time.RFC3339, text("End_DateTime"))
		return err == nil && end.Before(now)
	case "Calls":
		return text("Outgoing_Call_Status") == "Completed"
	default:
		return false
	}
}
