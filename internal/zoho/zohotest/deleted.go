package zohotest

import (
	"net/http"
	"slices"
)

// deletedRow is what Zoho says of a record that is gone. Of one gone for good it
// knows no more than when.
type deletedRow struct {
	DeletedBy   *userName `json:"deleted_by"`
	ID          string    `json:"id"`
	DisplayName *string   `json:"display_name"`
	Type        string    `json:"type"`
	CreatedBy   *userName `json:"created_by"`
	DeletedTime string    `json:"deleted_time"`
}

type userName struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// plainInfo is what the simpler lists say about themselves.
type plainInfo struct {
	PerPage     int  `json:"per_page"`
	Count       int  `json:"count"`
	Page        int  `json:"page"`
	MoreRecords bool `json:"more_records"`
}

// deleted answers GET /{module}/deleted, newest first.
func (s *Server) deleted(r *http.Request, m *module) answer {
	query := r.URL.Query()
	kind := query.Get("type")
	if !slices.Contains([]string{"", "all", "recycle", "permanent"}, kind) {
		return inData(badParam("type"))
	}
	q := &question{page: 1, perPage: maxPerPage}
	if refused := q.size(query); refused.status != 0 {
		return inData(refused)
	}
	since, all, refused := s.since(r)
	if refused.status != 0 {
		return inData(refused)
	}
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	var rows []deletedRow
	for _, g := range slices.Backward(m.gone) {
		row := s.store.obituary(g)
		if (all || g.deleted >= since) && (kind == "" || kind == "all" || kind == row.Type) {
			rows = append(rows, row)
		}
	}
	total, from := len(rows), (q.page-1)*q.perPage
	rows = rows[min(from, total):min(from+q.perPage, total)]
	if len(rows) == 0 {
		if !all && s.o.NotModified {
			return answer{status: http.StatusNotModified}
		}
		return nothing()
	}
	return found(map[string]any{"data": rows, "info": plainInfo{
		PerPage: q.perPage, Count: len(rows), Page: q.page, MoreRecords: from+len(rows) < total,
	}})
}

// obituary is what is said of r, which is gone.
func (st *store) obituary(r *record) deletedRow {
	row := deletedRow{ID: r.id, Type: "permanent", DeletedTime: st.time(r.deleted)}
	if !r.purged {
		by := &userName{st.o.Users[0].Name, st.o.Users[0].ID}
		row.Type, row.DisplayName, row.DeletedBy, row.CreatedBy = "recycle", &r.name, by, by
	}
	return row
}

// inData wraps a refusal in data[], as this call's errors are.
func inData(a answer) answer {
	a.body = map[string]any{"data": []any{a.body}}
	return a
}
