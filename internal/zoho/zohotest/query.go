package zohotest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	maxQueryRows  = 2000
	maxOffset     = 100_000
	maxCriteria   = 25
	maxOrderBy    = 10
	maxInValues   = 50
	usualRowLimit = 200
)

// query is a COQL query, as far as it was read: of the language only
//
//	select a, b from M where c [and|or c …] [order by a [asc|desc], …] [limit [offset,] n]
//
// with =, !=, >, >=, <, <=, in, not in, is null and is not null, and parentheses.
type query struct {
	refused answer // status 0: it was read
	words   []word
	at      int

	columns  []string
	compared []string // columns that where names
	from     string
	where    func(*store, *record) bool
	criteria int
	orderBy  []sorting
	offset   int
	limit    int
}

type sorting struct {
	column string
	desc   bool
}

// word is a token of a query.
type word struct {
	text   string
	quoted bool
	at     int // column, from 1
}

// errQuery stops the reading of a query; why stands in its refused.
var errQuery = errors.New("the query is refused")

// readQuery reads the query in r's body, unless something is wrong with it.
func readQuery(r *http.Request) *query {
	q := &query{limit: usualRowLimit}
	var body struct {
		Query *string `json:"select_query"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		q.refused = refuse(http.StatusBadRequest, "INVALID_DATA", "the body is no JSON object", details{"expected_data_type": "jsonobject"})
		return q
	}
	if body.Query == nil {
		q.refused = refuse(http.StatusBadRequest, "MANDATORY_NOT_FOUND", "required field not found",
			details{"api_name": "select_query", "json_path": "$.select_query"})
		return q
	}
	q.split(*body.Query)
	if err := q.read(); err != nil && q.refused.status == 0 {
		panic("zohotest: a query refused without a reason")
	}
	return q
}

// cost is in credits.
func (q *query) cost() int64 {
	switch {
	case q.limit <= 200:
		return 1
	case q.limit <= 1000:
		return 2
	default:
		return 3
	}
}

// split cuts a query into words.
func (q *query) split(text string) {
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '\'':
			end := i + 1
			var value strings.Builder
			for end < len(text) && text[end] != '\'' {
				if text[end] == '\\' && end+1 < len(text) {
					end++
				}
				value.WriteByte(text[end])
				end++
			}
			q.words = append(q.words, word{value.String(), true, i + 1})
			i = end + 1
		case strings.ContainsRune("(),", rune(c)):
			q.words = append(q.words, word{string(c), false, i + 1})
			i++
		case strings.ContainsRune("=!<>", rune(c)):
			end := i + 1
			if end < len(text) && text[end] == '=' {
				end++
			}
			q.words = append(q.words, word{text[i:end], false, i + 1})
			i = end
		default:
			end := i
			for end < len(text) && !strings.ContainsRune(" \t\n\r'(),=!<>", rune(text[end])) {
				end++
			}
			q.words = append(q.words, word{text[i:end], false, i + 1})
			i = end
		}
	}
}

func (q *query) peek() word {
	if q.at < len(q.words) {
		return q.words[q.at]
	}
	return word{at: -1}
}

// is reports whether the next word is text, in any case, and takes it then.
func (q *query) is(text string) bool {
	w := q.peek()
	if w.quoted || !strings.EqualFold(w.text, text) {
		return false
	}
	q.at++
	return true
}

// refuse ends the reading.
func (q *query) refuse(code, message string, d details) error {
	q.refused = refuse(http.StatusBadRequest, code, message, d)
	return errQuery
}

// wrong ends the reading at the next word.
func (q *query) wrong() error {
	w := q.peek()
	return q.refuse("SYNTAX_ERROR", "error occurred while parsing the query", details{"line": 1, "column": w.at, "near": w.text})
}

// missing ends the reading because a clause is not there.
func (q *query) missing(clause string) error {
	return q.refuse("SYNTAX_ERROR", "missing clause", details{"clause": clause})
}

// name takes a name.
func (q *query) name() (string, error) {
	w := q.peek()
	if w.at < 0 || w.quoted || strings.ContainsAny(w.text, "(),=!<>") {
		return "", q.wrong()
	}
	q.at++
	return w.text, nil
}

// read reads the whole query.
func (q *query) read() error {
	if !q.is("select") {
		return q.missing("select")
	}
	var err error
	if q.columns, err = q.names(); err != nil {
		return err
	}
	if len(q.columns) > maxFields {
		return q.refuse("LIMIT_EXCEEDED", "too many columns", details{"limit": maxFields, "clause": "select"})
	}
	if !q.is("from") {
		return q.missing("from")
	}
	if q.from, err = q.name(); err != nil {
		return err
	}
	if !q.is("where") {
		return q.missing("where")
	}
	if q.where, err = q.either(); err != nil {
		return err
	}
	if err := q.readOrder(); err != nil {
		return err
	}
	if err := q.readLimit(); err != nil {
		return err
	}
	if q.at < len(q.words) {
		return q.wrong()
	}
	return nil
}

func (q *query) names() ([]string, error) {
	var names []string
	for {
		name, err := q.name()
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		if !q.is(",") {
			return names, nil
		}
	}
}

func (q *query) readOrder() error {
	if !q.is("order") {
		return nil
	}
	if !q.is("by") {
		return q.wrong()
	}
	for {
		column, err := q.name()
		if err != nil {
			return err
		}
		desc := q.is("desc")
		if !desc {
			q.is("asc")
		}
		q.orderBy = append(q.orderBy, sorting{column, desc})
		if !q.is(",") {
			break
		}
	}
	if len(q.orderBy) > maxOrderBy {
		return q.refuse("LIMIT_EXCEEDED", "too many columns", details{"limit": maxOrderBy, "clause": "order by"})
	}
	return nil
}

// readLimit reads "limit n", "limit offset, n" and "limit n offset offset".
func (q *query) readLimit() error {
	if !q.is("limit") {
		return nil
	}
	var err error
	if q.limit, err = q.number(); err != nil {
		return err
	}
	switch {
	case q.is(","):
		q.offset = q.limit
		q.limit, err = q.number()
	case q.is("offset"):
		q.offset, err = q.number()
	}
	if err != nil {
		return err
	}
	if q.limit > maxQueryRows || q.limit < 1 {
		return q.refuse("LIMIT_EXCEEDED", "so many rows cannot be asked for", details{"limit": maxQueryRows, "clause": "limit"})
	}
	if q.offset > maxOffset {
		return q.refuse("LIMIT_EXCEEDED", "the offset is too great", details{"limit": maxOffset, "clause": "offset"})
	}
	return nil
}

func (q *query) number() (int, error) {
	n, err := strconv.Atoi(q.peek().text)
	if err != nil || n < 0 {
		return 0, q.wrong()
	}
	q.at++
	return n, nil
}

type condition = func(*store, *record) bool

func (q *query) either() (condition, error) {
	left, err := q.both()
	for err == nil && q.is("or") {
		a, right := left, condition(nil)
		right, err = q.both()
		left = func(st *store, r *record) bool { return a(st, r) || right(st, r) }
	}
	return left, err
}

func (q *query) both() (condition, error) {
	left, err := q.single()
	for err == nil && q.is("and") {
		a, right := left, condition(nil)
		right, err = q.single()
		left = func(st *store, r *record) bool { return a(st, r) && right(st, r) }
	}
	return left, err
}

func (q *query) single() (condition, error) {
	if q.is("(") {
		c, err := q.either()
		if err == nil && !q.is(")") {
			err = q.wrong()
		}
		return c, err
	}
	q.criteria++
	if q.criteria > maxCriteria {
		return nil, q.refuse("LIMIT_EXCEEDED", "too many criteria", details{"limit": maxCriteria, "clause": "where"})
	}
	column, err := q.name()
	if err != nil {
		return nil, err
	}
	test, err := q.test(column)
	if err != nil {
		return nil, err
	}
	q.compared = append(q.compared, column)
	return func(st *store, r *record) bool { return test(st.operand(r, column)) }, nil
}

// test reads what a column is compared with.
func (q *query) test(column string) (func(any) bool, error) {
	switch {
	case q.is("is"):
		not := q.is("not")
		if !q.is("null") {
			return nil, q.wrong()
		}
		return func(v any) bool { return (v == nil) != not }, nil
	case q.is("not"):
		if !q.is("in") {
			return nil, q.wrong()
		}
		values, err := q.list(column)
		return func(v any) bool { return v != nil && !slices.ContainsFunc(values, equals(v)) }, err
	case q.is("in"):
		values, err := q.list(column)
		return func(v any) bool { return v != nil && slices.ContainsFunc(values, equals(v)) }, err
	}
	for op, holds := range map[string]func(int) bool{
		"=": func(c int) bool { return c == 0 }, "!=": func(c int) bool { return c != 0 },
		">": func(c int) bool { return c > 0 }, ">=": func(c int) bool { return c >= 0 },
		"<": func(c int) bool { return c < 0 }, "<=": func(c int) bool { return c <= 0 },
	} {
		if q.is(op) {
			value, err := q.literal(column)
			return func(v any) bool { return v != nil && holds(compareValues(v, value)) }, err
		}
	}
	return nil, q.wrong()
}

func equals(v any) func(any) bool {
	return func(w any) bool { return compareValues(v, w) == 0 }
}

func (q *query) list(column string) ([]any, error) {
	if !q.is("(") {
		return nil, q.wrong()
	}
	var values []any
	for {
		value, err := q.literal(column)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
		if q.is(")") {
			break
		}
		if !q.is(",") {
			return nil, q.wrong()
		}
	}
	if len(values) > maxInValues {
		return nil, q.refuse("LIMIT_EXCEEDED", "too many values", details{"limit": maxInValues, "operator": "in"})
	}
	return values, nil
}

// literal reads a value to compare column with. Ids may stand bare.
func (q *query) literal(column string) (any, error) {
	w := q.peek()
	if w.at < 0 || (!w.quoted && strings.ContainsAny(w.text, "(),=!<>")) {
		return nil, q.wrong()
	}
	q.at++
	if column == "Created_Time" || column == "Modified_Time" {
		at, err := parseTime(w.text)
		if err != nil {
			return nil, q.refuse("INVALID_QUERY", "value given seems to be invalid for the column",
				details{"column_name": column, "expected_data_type": "datetime"})
		}
		return float64(at), nil
	}
	if w.quoted || len(w.text) > 15 {
		return w.text, nil
	}
	switch strings.ToLower(w.text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	n, err := strconv.ParseFloat(w.text, 64)
	if err != nil {
		return nil, q.refuse("INVALID_QUERY", "value given seems to be invalid for the column", details{"column_name": column})
	}
	return n, nil
}

// parseTime reads a time as Zoho takes it: with an offset, without fractions. In seconds.
func parseTime(text string) (int64, error) {
	at, err := parseZohoTime(text)
	if err != nil {
		return 0, fmt.Errorf("read time: %w", err)
	}
	return at.Unix(), nil
}
