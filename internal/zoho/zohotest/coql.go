package zohotest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// coql answers POST /coql.
func (s *Server) coql(q *query) answer {
	if q.refused.status != 0 {
		return q.refused
	}
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	m := s.store.modules[q.from]
	if m == nil {
		return refuse(http.StatusBadRequest, "INVALID_MODULE", "the module name given seems to be invalid", details{"module": q.from})
	}
	columns := slices.Concat(q.columns, q.compared)
	for _, by := range q.orderBy {
		columns = append(columns, by.column)
	}
	for _, column := range columns {
		if !m.hasColumn(column) {
			return refuse(http.StatusBadRequest, "INVALID_QUERY", "column given seems to be invalid", details{"column_name": column})
		}
	}
	var rows []*record
	for _, r := range m.ordered[byID] {
		if q.where(s.store, r) {
			rows = append(rows, r)
		}
	}
	q.sort(s.store, rows)
	return s.queryAnswer(q, rows)
}

func (s *Server) queryAnswer(q *query, rows []*record) answer {
	from, to := min(q.offset, len(rows)), min(q.offset+q.limit, len(rows))
	more := to < len(rows)
	rows = rows[from:to]
	if len(rows) == 0 {
		return nothing()
	}
	out := make([]map[string]json.RawMessage, len(rows))
	for i, r := range rows {
		out[i] = map[string]json.RawMessage{}
		for _, column := range q.columns {
			out[i][column] = s.store.column(r, column)
		}
	}
	return found(map[string]any{"data": out, "info": map[string]any{"count": len(rows), "more_records": more}})
}

func (q *query) sort(st *store, rows []*record) {
	if len(q.orderBy) == 0 {
		return
	}
	slices.SortStableFunc(rows, func(a, b *record) int {
		for _, by := range q.orderBy {
			c := compareValues(st.operand(a, by.column), st.operand(b, by.column))
			if by.desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
}

// hasColumn reports whether column is a field, or the id behind a lookup.
func (m *module) hasColumn(column string) bool {
	if field, ok := strings.CutSuffix(column, ".id"); ok {
		_, isLookup := m.lookups[field]
		return isLookup
	}
	return m.known[column]
}

// column is what a row shows.
func (st *store) column(r *record, column string) json.RawMessage {
	if field, ok := strings.CutSuffix(column, ".id"); ok {
		if id := r.links[field]; id != "" {
			return encode(id)
		}
		return json.RawMessage("null")
	}
	return st.value(r, column)
}

// operand is what a column is compared by: nil, text, a number or a truth. Times
// are numbers, lookups their ids.
func (st *store) operand(r *record, column string) any {
	switch column {
	case "id":
		return r.id
	case "Created_Time":
		return float64(r.created)
	case "Modified_Time":
		return float64(r.modified)
	case "Owner":
		return r.owner.ID
	}
	field := strings.TrimSuffix(column, ".id")
	if _, isLookup := r.module.lookups[field]; isLookup {
		if id := r.links[field]; id != "" {
			return id
		}
		return nil
	}
	var v any
	if raw, ok := r.values[column]; ok {
		_ = json.Unmarshal(raw, &v) // it was encoded by us
	}
	return v
}

// compareValues orders two operands; nothing comes first, what has no order is equal.
func compareValues(a, b any) int {
	switch a := a.(type) {
	case nil:
		if b == nil {
			return 0
		}
		return -1
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b)
		}
	case float64:
		if b, ok := b.(float64); ok {
			switch {
			case a < b:
				return -1
			case a > b:
				return 1
			}
			return 0
		}
	}
	if b == nil {
		return 1
	}
	return bytes.Compare(encode(a), encode(b))
}
