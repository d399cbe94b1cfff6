package match

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, filter, want string }{
		{"nothing", ``, "it is no JSON"},
		{"half of it", `{"a":1`, "it is no JSON"},
		{"more than it", `{"a":1} {}`, "it is no JSON"},
		{"other text than UTF-8", "{\"a\":\"\xff\"}", "it is no JSON"},
		{"null", `null`, "want an object: fields, and what they must be"},
		{"a list", `[{"a":1}]`, "want an object: fields, and what they must be"},
		{"a scalar", `"a"`, "want an object: fields, and what they must be"},
		{"no condition", `{}`, "want at least one condition"},
		{"no condition of a field", `{"a":{"b":{}}}`, "a.b: want at least one condition"},
		{"no condition below", `{"$not":{}}`, "$not: want at least one condition"},
		{"a key that comes twice", `{"a":{"b":1,"b":2}}`, `"b" stands twice in one object`},
		{"the character 0 in a text", `{"a":"b\u0000"}`, `it has a text with the character \u0000, which no data has`},
		{"the character 0 in a key", `{"\u0000":1}`, `it has a text with the character \u0000, which no data has`},
		{"a list to equal", `{"a":{"b":["x"]}}`, `a.b: want a text, a number, true, false or null, or an object, as {"$in": [1, 2]}`},
		{"a list for $eq", `{"a":{"$eq":["x"]}}`, `a.$eq: want a text, a number, true, false or null`},
		{"an object for $ne", `{"a":{"$ne":{"b":1}}}`, `a.$ne: want a text, a number, true, false or null`},
		{"a list for $contains", `{"a":{"$contains":[1]}}`, `a.$contains: want a text, a number, true, false or null`},
		{"an exponent", `{"a":{"$gt":1e6}}`, `a.$gt: want a number without an exponent`},
		{"an exponent in a list", `{"a":{"$in":[1,1E6]}}`, `a.$in[1]: want a number without an exponent`},
		{"an operator that is none", `{"a":{"$regex":"x"}}`, "a: want one of $eq $ne $gt $gte $lt $lte $in $nin $startsWith $endsWith $contains $exists $or $and $not, not $regex"},
		{"an operator of the whole data", `{"$eq":1}`, "want the name of a field, $or, $and or $not, not $eq"},
		{"and below $or", `{"$or":[{"a":1},{"$exists":true}]}`, "$or[1]: want the name of a field, $or, $and or $not, not $exists"},
		{"a scalar for the whole data", `{"$or":[{"a":1},"x"]}`, "$or[1]: want an object: fields, and what they must be"},
		{"a boolean for $gt", `{"a":{"$gt":true}}`, "a.$gt: want a number or a text"},
		{"a list for $lte", `{"a":{"$lte":[1]}}`, "a.$lte: want a number or a text"},
		{"null for $gte", `{"a":{"$gte":null}}`, "a.$gte: want a number or a text"},
		{"a scalar for $in", `{"a":{"$in":"x"}}`, "a.$in: want a list of texts, numbers, true, false or null"},
		{"an empty $nin", `{"a":{"$nin":[]}}`, "a.$nin: want a list of texts, numbers, true, false or null"},
		{"an object in $in", `{"a":{"$in":[1,{"b":1}]}}`, "a.$in[1]: want a text, a number, true, false or null"},
		{"a number for $startsWith", `{"a":{"$startsWith":1}}`, "a.$startsWith: want a text"},
		{"a list for $endsWith", `{"a":{"$endsWith":["x"]}}`, "a.$endsWith: want a text"},
		{"a text for $exists", `{"a":{"$exists":"true"}}`, "a.$exists: want true or false"},
		{"an object for $or", `{"$or":{"a":1}}`, "$or: want a list of filters"},
		{"an empty $and", `{"a":{"$and":[]}}`, "a.$and: want a list of filters"},
		{"nested too deep", strings.Repeat(`{"a":`, 11) + "1" + strings.Repeat(`}`, 11), "it is nested more than 10 deep"},
		{"nested far too deep", strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000), "it is nested more than 10 deep"},
		{"too many names", `{"b":{"a.a.a.a.a.a.a.a.a.a.a":1}}`, "b: want a key of at most 10 names, not of 11"},
		{"too many conditions", fields(101), "it has 101 conditions, want at most 100"},
		{"too long", `{"a":{"$in":["` + strings.Repeat("x", MaxBytes) + `"]}}`, "it is 16402 bytes long, want at most 16384"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, err := Parse([]byte(tt.filter))
			if err == nil || err.Error() != tt.want {
				t.Errorf("error %v\nwant  %s", err, tt.want)
			}
			if m != nil {
				t.Error("it was made all the same")
			}
		})
	}
}

// fields returns a filter of n conditions.
func fields(n int) string {
	conditions := make([]string, n)
	for i := range conditions {
		conditions[i] = fmt.Sprintf(`"f%d":1`, i)
	}
	return "{" + strings.Join(conditions, ",") + "}"
}

func TestParseTakesAsMuchAsItSays(t *testing.T) {
	t.Parallel()
	for name, filter := range map[string]string{
		"conditions": fields(MaxConditions),
		"a list":     `{"a":{"$in":[` + strings.TrimSuffix(strings.Repeat("1,", 5000), ",") + `]}}`,
		"depth":      strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat(`}`, MaxDepth),
		"names":      `{"a.a.a.a.a.a.a.a.a.a":1}`,
		"spaces":     `{"a":` + strings.Repeat(" ", 2*MaxBytes) + `1}`,
		"length":     `{"a":"` + strings.Repeat("x", MaxBytes-len(`{"a":""}`)) + `"}`,
	} {
		if _, err := Parse([]byte(filter)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJSONIsOneTextOfAFilter(t *testing.T) {
	t.Parallel()
	const want = `{"a":{"$gt":1.50},"b":"<&>é\"","c":"\\u0000"}`
	for _, filter := range []string{
		` { "c" : "\\u0000", "b":"\u003c\u0026>\u00e9\"" , "a": {"$gt": 1.50} }`,
		want,
	} {
		if got := string(parse(t, filter).JSON()); got != want {
			t.Errorf("JSON %s\nwant %s", got, want)
		}
	}
}
