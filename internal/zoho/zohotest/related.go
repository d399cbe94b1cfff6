package zohotest

import (
	"net/http"
	"slices"
	"strconv"
)

// related answers GET /{module}/{id}/{list}. A record hangs only on what it
// names itself: the task of an account's deal is not among the account's.
func (s *Server) related(r *http.Request, m *module, id, name string) answer {
	i := slices.IndexFunc(m.lists, func(l relatedList) bool { return l.name == name })
	if i < 0 {
		return refuse(http.StatusBadRequest, "INVALID_DATA", "the related list is unknown", details{"resource_path_index": 2})
	}
	list := m.lists[i]
	q, refused := s.ask(r)
	if q == nil {
		return refused
	}
	st := s.store
	st.mu.RLock()
	defer st.mu.RUnlock()
	parent := st.records[id]
	if parent == nil || parent.module != m || parent.deleted != 0 {
		return refuse(http.StatusBadRequest, "INVALID_DATA", "The record does not exist", details{"resource_path_index": 1})
	}
	if list.base == "" {
		return nothing()
	}
	records := st.related[relation{id, list.base}]
	if o := sortNames[q.sortBy]; o != byID {
		records = slices.Clone(records)
		slices.SortFunc(records, func(a, b *record) int { return a.position(o).compare(b.position(o)) })
	}
	now := s.o.Now()
	return s.page(q, records, func(r *record) bool {
		return (q.ids == nil || slices.Contains(q.ids, r.id)) && r.closed(now) == list.closed
	})
}

// relatedLists answers GET /settings/related_lists.
func (s *Server) relatedLists(r *http.Request) answer {
	name := r.URL.Query().Get("module")
	if name == "" {
		return refuse(http.StatusBadRequest, "REQUIRED_PARAM_MISSING", "required param is missing", details{"param_name": "module"})
	}
	m := s.store.modules[name]
	if m == nil {
		return refuse(http.StatusBadRequest, "INVALID_MODULE", "the module name given seems to be invalid", details{"param_name": "module"})
	}
	rows := make([]any, len(m.lists))
	for i, list := range m.lists {
		row := map[string]any{
			"id": list.id, "sequence_number": strconv.Itoa(i + 1), "api_name": list.name, "name": list.name,
			"display_label": list.name, "module": nil, "action": nil, "href": nil, "type": "default",
			"customize_sort": true, "customize_fields": true, "customize_display_label": true,
			"status": "visible", "connectedmodule": nil, "linkingmodule": nil,
		}
		if list.module != "" {
			of := map[string]any{"api_name": list.module, "id": list.id}
			if to := s.store.modules[list.module]; to != nil {
				of["id"] = to.id
			}
			row["module"] = of
		}
		rows[i] = row
	}
	return found(map[string]any{"related_lists": rows})
}
