package zohotest_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

func (v *visitor) coql(query string) reply {
	v.t.Helper()
	body, err := json.Marshal(map[string]string{"select_query": query})
	if err != nil {
		v.t.Fatal(err)
	}
	return v.send(http.MethodPost, "/crm/v8/coql", string(body))
}

func TestQueries(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now})
	s := v.s
	account := s.Create("Accounts", map[string]any{"Account_Name": "Alder's"})
	c.advance(time.Hour)
	a := s.Create("Deals", map[string]any{"Deal_Name": "A", "Amount": 10, "Account_Name": account})
	c.advance(time.Hour)
	b := s.Create("Deals", map[string]any{"Deal_Name": "B", "Amount": 5.5})
	c.advance(time.Hour)
	d := s.Create("Deals", map[string]any{"Deal_Name": "it's D", "Amount": 100})
	v.login() // it took hours
	for query, want := range map[string][]string{
		"select id from Deals where Modified_Time >= '2026-11-03T11:30:00+00:00' order by Modified_Time asc limit 0, 200":         {b, d},
		"select id from Deals where Modified_Time >= '2026-11-03T17:00:00+05:30' and Modified_Time < '2026-11-03T12:30:00+00:00'": {b},
		"SELECT id FROM Deals WHERE (Amount > 5 AND Amount <= 10) OR Deal_Name = 'it\\'s D' ORDER BY Amount DESC":                 {d, a, b},
		"select id from Deals where Account_Name = " + account:                                                                    {a},
		"select id from Deals where Account_Name.id is null order by id desc":                                                     {d, b},
		"select id from Deals where Deal_Name in ('A', 'B') and Deal_Name != 'A'":                                                 {b},
		"select id from Deals where Deal_Name not in ('A', 'B')":                                                                  {d},
		"select id from Deals where id is not null order by Amount asc limit 1 offset 1":                                          {a},
		"select id from Deals where id is not null order by Modified_Time desc limit 1, 2":                                        {b, a},
	} {
		v.t = t
		if got := v.coql(query).is(200, "").ids(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	r := v.coql("select Deal_Name, Account_Name from Deals where id is not null order by id asc limit 2").is(200, "")
	if row := r.rows("data")[0]; len(row) != 2 || row["Account_Name"].(map[string]any)["id"] != account {
		t.Errorf("row %v", row)
	}
	if r.info()["more_records"] != true {
		t.Errorf("info %v", r.info())
	}
	v.coql("select id from Deals where Amount > 1000").is(204, "")

	before := s.Credits()
	v.coql("select id from Deals where id is not null limit 2000")
	if spent := s.Credits() - before; spent != 3 {
		t.Errorf("2,000 rows cost %d credits, want 3", spent)
	}
	for query, code := range map[string]string{
		"select id from Deals where id is not null limit 2001":       "LIMIT_EXCEEDED",
		"select id from Deals where id is not null limit 100001, 10": "LIMIT_EXCEEDED",
		"select id from Deals":                                  "SYNTAX_ERROR",
		"select id from Deals where id is not null group by id": "SYNTAX_ERROR",
		"select id from Deals where (id is not null":            "SYNTAX_ERROR",
		"select id, from Deals where id is not null":            "SYNTAX_ERROR",
		"update Deals": "SYNTAX_ERROR",
		"select id from Nothings where id is not null":                  "INVALID_MODULE",
		"select Nothing from Deals where id is not null":                "INVALID_QUERY",
		"select id from Deals where Nothing = 3":                        "INVALID_QUERY",
		"select id from Deals where Modified_Time >= '2026-11-03'":      "INVALID_QUERY",
		"select id from Deals where id is not null order by Nothing":    "INVALID_QUERY",
		"select " + manyFields(51) + " from Deals where id is not null": "LIMIT_EXCEEDED",
	} {
		v.coql(query).is(400, code)
	}
	v.send(http.MethodPost, "/crm/v8/coql", "{}").is(400, "MANDATORY_NOT_FOUND")
}
